//! `millrace reset`: has an application begin anew, as `kafka-streams-application-reset.sh` does. Must not touch what is
//! not the application's.

use std::io::{BufRead, IsTerminal, Write as _};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use jiff::Timestamp;
use millrace_engine::record::{Offset, TopicPartition};
use serde_json::json;

use super::group::Group;
use super::{ConfigArgs, LogArgs, print};
use crate::config::GroupProtocol;
use crate::kafka::{GroupMember, Progress, remove_members};
use crate::store::StateDirectory;

/// How long members may stay in the group that are to be taken out: longer than any session that makes sense.
const REMOVAL_PATIENCE: Duration = Duration::from_secs(360);
/// How long brokers may go on showing topics that they have deleted.
const DELETION_PATIENCE: Duration = Duration::from_secs(60);
const ASK_AGAIN: Duration = Duration::from_millis(100);

#[derive(Debug, clap::Args)]
#[command(group = clap::ArgGroup::new("decided").args(["dry_run", "yes"]).multiple(true))]
pub(super) struct ResetArgs {
    #[command(flatten)]
    config: ConfigArgs,
    #[command(flatten)]
    to: To,
    /// Take members out of the group that did not leave it; their processes must have ended
    #[arg(long)]
    force: bool,
    /// Say what would be done, and do nothing
    #[arg(long)]
    dry_run: bool,
    /// Don't ask
    #[arg(long)]
    yes: bool,
    /// Print JSON, for machines, who can't be asked
    #[arg(long, requires = "decided")]
    json: bool,
}

/// Where the source topics are read from afterwards.
#[derive(Debug, clap::Args)]
#[group(multiple = false)]
struct To {
    /// Read the source topics from their beginning, which is the default
    #[arg(long)]
    to_earliest: bool,
    /// From their end
    #[arg(long)]
    to_latest: bool,
    /// From the first records that are no older, as 2026-11-23T15:00:00 (UTC) or with an offset, as +01:00
    #[arg(long, value_name = "DATETIME", value_parser = datetime)]
    to_datetime: Option<Timestamp>,
    /// From so many records after where the group is, or before, if negative
    #[arg(long, value_name = "N", allow_negative_numbers = true)]
    shift_by: Option<i64>,
}

/// What a reset does.
struct Reset {
    /// Those that the group still has.
    members: Vec<GroupMember>,
    offsets: Vec<(Progress, Offset)>,
    topics: Vec<String>,
    state: Option<PathBuf>,
    similar: Vec<String>,
}

pub(super) fn run(log: &LogArgs, args: &ResetArgs) -> anyhow::Result<()> {
    let group = Group::connect(log, &args.config)?;
    let members = group.offsets.members()?;
    if !members.is_empty() && !args.force {
        bail!(
            "group {} has members ({}): stop all instances first; one that did not leave is a member until \
             session.timeout.ms has passed, or until --force takes it out",
            group.config.application_id,
            names(&members)
        );
    }
    let reset = Reset::plan(&group, members, &args.to)?;
    if !args.json {
        print(&reset.text(&group))?;
    }
    let goes_on = !args.dry_run && (args.yes || confirmed()?);
    if goes_on {
        reset.run(&group)?;
    }
    match (args.json, goes_on) {
        (true, _) => print(&reset.json(goes_on)),
        (false, true) => print("done\n"),
        (false, false) => print("nothing was done\n"),
    }
}

impl Reset {
    fn plan(group: &Group, members: Vec<GroupMember>, to: &To) -> anyhow::Result<Self> {
        let sources = group.sources();
        let progress = group.offsets.progress(&sources)?;
        let at_time = match to.to_datetime {
            Some(time) => group.offsets.at_time(&sources, time.as_millisecond())?,
            None => vec![None; sources.len()],
        };
        let offsets = progress.into_iter().zip(at_time).map(|(progress, at_time)| {
            let start = to.start(&progress, at_time);
            (progress, start)
        });
        let state = group.config.state_dir.join(&group.config.application_id);
        Ok(Self {
            members,
            offsets: offsets.collect(),
            topics: group.internal_topics(),
            state: state.is_dir().then_some(state),
            similar: group.similar_topics(),
        })
    }

    fn text(&self, group: &Group) -> String {
        let mut text = format!("reset of {}:\n", group.config.application_id);
        for member in &self.members {
            text += &format!("  take {} out of the group\n", member.name);
        }
        for (progress, offset) in &self.offsets {
            let Progress { partition, committed, begin, end } = progress;
            let before = committed.map_or_else(|| "nothing committed".to_owned(), |at| format!("committed {at}"));
            text += &format!("  read {partition} from offset {offset} ({before}, it has {begin} to {end})\n");
        }
        for topic in &self.topics {
            text += &format!("  delete topic {topic}\n");
        }
        if let Some(state) = &self.state {
            text += &format!("  delete {}; state on other machines has to be deleted there\n", state.display());
        }
        for topic in &self.similar {
            text += &format!("  leave topic {topic}: it is named alike, but this topology does not have it\n");
        }
        text
    }

    fn json(&self, done: bool) -> String {
        let offset = |(progress, offset): &(Progress, Offset)| {
            json!({
                "topic": &*progress.partition.topic,
                "partition": progress.partition.partition,
                "committed": progress.committed.map(|committed| committed.0),
                "offset": offset.0,
            })
        };
        let offsets: Vec<_> = self.offsets.iter().map(offset).collect();
        let state = self.state.as_ref().map(|state| state.display().to_string());
        let object = json!({
            "done": done,
            "removed_members": self.members.iter().map(|member| &member.name).collect::<Vec<_>>(),
            "offsets": offsets,
            "deleted_topics": self.topics,
            "deleted_state": state,
            "left_topics": self.similar,
        });
        format!("{object}\n")
    }

    /// What was begun and not ended must not be started from: then the error says so.
    fn run(&self, group: &Group) -> anyhow::Result<()> {
        // Its lock keeps an instance from starting meanwhile, and tells of one that the group does not know.
        let directory = self
            .state
            .is_some()
            .then(|| StateDirectory::open(&group.config.state_dir, &group.config.application_id))
            .transpose()?;
        self.remove_members(group)?;
        let again = "the reset is not complete: run it again before the application is started";
        let offsets: Vec<(TopicPartition, Offset)> =
            self.offsets.iter().map(|(progress, offset)| (progress.partition.clone(), *offset)).collect();
        group.offsets.commit(&offsets).context("set the offsets of the group back")?;
        group.topics.delete(&self.topics).context(again)?;
        if let Some(directory) = directory {
            directory.delete().context(again)?;
        }
        // Who starts sooner would take them for its own.
        let deadline = Instant::now() + DELETION_PATIENCE;
        loop {
            let left = group.left_of(&self.topics).context("look for the deleted topics")?;
            if left.is_empty() {
                return Ok(());
            }
            if Instant::now() > deadline {
                bail!(
                    "the brokers still show what was deleted: {}; wait for it before the application is started",
                    left.join(", ")
                );
            }
            std::thread::sleep(ASK_AGAIN);
        }
    }

    fn remove_members(&self, group: &Group) -> anyhow::Result<()> {
        if self.members.is_empty() {
            return Ok(());
        }
        // Under the newer protocol a name is taken until its session ends.
        let classic = group.config.group_protocol == GroupProtocol::Classic;
        let (replaced, awaited): (Vec<_>, Vec<_>) = self.members.iter().partition(|member| classic && member.is_static);
        if !awaited.is_empty() {
            let names = names(awaited);
            tracing::info!("waiting until the sessions of {names} end, at most {} s", REMOVAL_PATIENCE.as_secs());
        }
        let replaced: Vec<String> = replaced.into_iter().map(|member| member.name.clone()).collect();
        let topics: Vec<&str> = group.partitioning.subscription().map(|input| &*input.full_name).collect();
        let left = remove_members(&group.clients.consumer(), &replaced, &topics, &group.offsets, REMOVAL_PATIENCE)
            .context("take members out of the group")?;
        if !left.is_empty() {
            bail!("the group still has members ({}): their processes must be running; stop them first", names(&left));
        }
        Ok(())
    }
}

fn names<'a>(members: impl IntoIterator<Item = &'a GroupMember>) -> String {
    members.into_iter().map(|member| member.name.as_str()).collect::<Vec<_>>().join(", ")
}

impl To {
    /// Within what the partition has.
    fn start(&self, progress: &Progress, at_time: Option<Offset>) -> Offset {
        let Progress { begin, end, committed, .. } = *progress;
        let wanted = if self.to_latest {
            end
        } else if self.to_datetime.is_some() {
            at_time.unwrap_or(end)
        } else if let Some(shift) = self.shift_by {
            Offset(committed.unwrap_or(begin).0.saturating_add(shift))
        } else {
            begin
        };
        wanted.clamp(begin, end.max(begin))
    }
}

/// Kafka's tools take the time without an offset, and mean UTC.
pub(super) fn datetime(text: &str) -> Result<Timestamp, jiff::Error> {
    text.parse().or_else(|_| jiff::tz::TimeZone::UTC.to_timestamp(text.parse()?))
}

fn confirmed() -> anyhow::Result<bool> {
    let stdin = std::io::stdin();
    if !stdin.is_terminal() {
        bail!("nobody can be asked here: say --yes, or --dry-run to see what would be done");
    }
    eprint!("go on? [y/N] ");
    std::io::stderr().flush().context("ask")?;
    let mut answer = String::new();
    stdin.lock().read_line(&mut answer).context("read the answer")?;
    Ok(matches!(answer.trim(), "y" | "Y" | "yes"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_without_an_offset_is_utc() {
        for text in ["2026-11-23T15:00:00", "2026-11-23T15:00:00Z", "2026-11-23T16:00:00.000+01:00"] {
            assert_eq!(datetime(text).map(Timestamp::as_millisecond).ok(), Some(1_795_446_000_000), "{text}");
        }
        assert!(datetime("yesterday").is_err());
    }

    #[test]
    fn a_start_is_within_what_the_partition_has() {
        const NONE: To = To { to_earliest: false, to_latest: false, to_datetime: None, shift_by: None };
        let progress = |committed: Option<i64>| Progress {
            partition: TopicPartition::new("t", 0),
            committed: committed.map(Offset),
            begin: Offset(10),
            end: Offset(30),
        };
        let start = |to: &To, committed, at_time: Option<i64>| to.start(&progress(committed), at_time.map(Offset)).0;
        assert_eq!(start(&NONE, Some(20), None), 10);
        assert_eq!(start(&To { to_latest: true, ..NONE }, Some(20), None), 30);
        let time = To { to_datetime: Some(Timestamp::UNIX_EPOCH), ..NONE };
        assert_eq!(start(&time, Some(20), Some(12)), 12);
        assert_eq!(start(&time, Some(20), None), 30);
        for (by, committed, expected) in
            [(-5, Some(20), 15), (-50, Some(20), 10), (50, Some(20), 30), (3, None, 13), (0, Some(4), 10)]
        {
            assert_eq!(start(&To { shift_by: Some(by), ..NONE }, committed, None), expected, "{by} {committed:?}");
        }
    }
}
