//! `millrace state verify`: whether the stores on disk are what their changelogs say. Must not change either.
//!
//! A store is compared with its changelog as that was at the store's own position: each change before it is applied, in a
//! database of its own, and both are gone through in the order of their keys. What a changelog has after the position the
//! store is yet to learn, or the application was killed before it did; of such a key the record before may have been
//! compacted away, so it is not judged.

use millrace_engine::overlay::{parse, stored};
use millrace_engine::ports::Error;
use millrace_engine::record::{Offset, TaskId, TopicPartition};
use millrace_engine::topology::{Layout, Store};
use serde_json::{Value, json};

use super::progress::bar;
use super::state::{Shown, State, changelog_position, plain};
use super::table::{known, table};
use super::{ConfigArgs, LogArgs, print};
use crate::app::Application;
use crate::kafka::{Clients, PartitionReader};
use crate::store::{DatabaseId, Scratch, Snapshot};

#[derive(Debug, clap::Args)]
pub(super) struct VerifyArgs {
    #[command(flatten)]
    config: ConfigArgs,
    /// Print JSON, for machines
    #[arg(long)]
    json: bool,
    /// Only this store
    store: Option<String>,
    /// Most differences that are shown of each store; all are counted
    #[arg(long, default_value_t = 100)]
    limit: usize,
}

/// In the scratch database: what a changelog says up to the position, and keys that it has after that.
const BEFORE: usize = 0;
const AFTER: usize = 1;
/// Entries that are read at a time.
const PAGE: usize = 1_000;

type Entry = (Vec<u8>, Vec<u8>);

/// What became of one store of a task.
struct Verdict {
    task: TaskId,
    store: String,
    position: Option<Offset>,
    /// Why it can't be compared.
    obstacle: Option<String>,
    entries: u64,
    /// Keys that the changelog has after the position.
    unjudged: u64,
    differing: u64,
    /// Some of them: key, value in the store, value by the changelog.
    differences: Vec<(Value, Value, Value)>,
}

pub(super) fn run(log: &LogArgs, args: &VerifyArgs) -> anyhow::Result<()> {
    let config = log.load(&args.config)?;
    let application = Application::load(&config)?;
    let state = State::of(&config)?;
    if let Some(store) = &args.store {
        state.of_store(store)?;
        if state.shown(store).is_versioned() {
            anyhow::bail!(
                "store {store} keeps versions, which are not compared with a changelog: look at them with `state scan`"
            );
        }
    }
    let clients = Clients::new(&config, String::new());
    let mut verdicts = Vec::new();
    for opened in state.snapshots() {
        let (database, snapshot) = opened?;
        // The changelogs of global stores are others' topics, and their processors make of those what they like.
        let DatabaseId::Task(task) = database else { continue };
        let Some(subtopology) = application.plan().subtopology(task.subtopology) else { continue };
        // What a versioned store holds is not what one record says, but what comes of all that were put.
        let compared = |store: &&Store| !matches!(store.layout, Layout::Versioned(_));
        let wanted = |store: &&Store| args.store.as_ref().is_none_or(|only| *only == store.name) && compared(store);
        for store in subtopology.stores.iter().filter(wanted) {
            let Some(changelog) = application.plan().changelog(store) else { continue };
            let Some(index) = snapshot.store(&store.name) else { continue };
            let changelog = TopicPartition::new(changelog, task.partition);
            let shown = state.shown(&store.name);
            verdicts.push(verdict((task, store), (&snapshot, index), (&clients, &changelog), &shown, args.limit)?);
        }
    }
    print(&if args.json { json(&verdicts) } else { text(&verdicts) })?;
    let failed = verdicts.iter().filter(|verdict| verdict.differing > 0 || verdict.obstacle.is_some()).count();
    if failed > 0 {
        anyhow::bail!("{failed} of {} stores are not what their changelogs say", verdicts.len());
    }
    Ok(())
}

fn verdict(
    (task, store): (TaskId, &Store),
    (snapshot, index): (&Snapshot, usize),
    (clients, changelog): (&Clients, &TopicPartition),
    shown: &Shown,
    limit: usize,
) -> Result<Verdict, Error> {
    let positions = snapshot.positions()?;
    let position = changelog_position(&positions, &store.name);
    let mut verdict = Verdict {
        task,
        store: store.name.clone(),
        position,
        obstacle: None,
        entries: 0,
        unjudged: 0,
        differing: 0,
        differences: Vec::new(),
    };
    let reader = PartitionReader::connect(clients)?;
    let (begin, end) = reader.bounds(changelog)?;
    let Some(position) = position.filter(|position| (begin..=end).contains(position)) else {
        let at = position.map_or_else(|| "at no position".to_owned(), |position| format!("at offset {position}"));
        verdict.obstacle = Some(format!(
            "the store is {at} and {changelog} has {begin} to {end}: it is restored as a whole when its task starts"
        ));
        return Ok(verdict);
    };
    let scratch = replayed(&reader, changelog, (begin, position, end), &format!("{task} {}", store.name))?;
    let observed = positions.observed(&store.name);
    let mut held = Entries::new(|from, visit| snapshot.scan(index, (from, None), false, visit));
    let mut said = Entries::new(|from, visit| scratch.database().scan(BEFORE, (from, None), false, visit));
    merge(&mut held, &mut said, &mut |key, held, said| {
        if shown.is_over(key, held.or(said).unwrap_or_default(), observed) {
            return Ok(());
        }
        verdict.entries += u64::from(held.is_some());
        if held == said {
            return Ok(());
        }
        let mut later = false;
        scratch.database().get(AFTER, &[key], &mut |_, _| later = true)?;
        if later {
            verdict.unjudged += 1;
            return Ok(());
        }
        verdict.differing += 1;
        if verdict.differences.len() < limit {
            verdict.differences.push((shown.key(key), show(shown, held), show(shown, said)));
        }
        Ok(())
    })?;
    Ok(verdict)
}

/// The changelog in the order of its keys.
fn replayed(
    reader: &PartitionReader,
    changelog: &TopicPartition,
    (begin, position, end): (Offset, Offset, Offset),
    doing: &str,
) -> Result<Scratch, Error> {
    let mut scratch = Scratch::new(2)?;
    let steps = |offset: Offset| u64::try_from(offset.0.saturating_sub(begin.0)).unwrap_or(0);
    let bar = bar(doing, steps(end));
    reader.read(changelog, (begin, end), &mut |seen| {
        bar.set_position(steps(seen.offset));
        let Some(key) = seen.key else { return Ok(()) };
        if seen.offset < position {
            scratch.put(BEFORE, key, seen.value.map(|value| stored(seen.timestamp, value)))
        } else {
            scratch.put(AFTER, key, Some(Vec::new()))
        }
    })?;
    bar.finish_and_clear();
    scratch.flush()?;
    Ok(scratch)
}

fn show(shown: &Shown, stored: Option<&[u8]>) -> Value {
    let Some((timestamp, value)) = stored.and_then(parse) else { return Value::Null };
    json!({ "value": shown.value(value), "timestamp_ms": timestamp })
}

/// A visitor of entries, which says whether it wants more.
type Visit<'a> = &'a mut dyn FnMut(&[u8], &[u8]) -> bool;

type Scan<'a> = dyn Fn(Option<&[u8]>, Visit<'_>) -> Result<(), Error> + 'a;

/// Entries in the order of their keys, a page at a time.
struct Entries<'a> {
    scan: Box<Scan<'a>>,
    page: std::vec::IntoIter<Entry>,
    /// Where the next page begins; `None`: there is none.
    from: Option<Vec<u8>>,
}

impl<'a> Entries<'a> {
    fn new(scan: impl Fn(Option<&[u8]>, Visit<'_>) -> Result<(), Error> + 'a) -> Self {
        Self { scan: Box::new(scan), page: Vec::new().into_iter(), from: Some(Vec::new()) }
    }

    fn next(&mut self) -> Result<Option<Entry>, Error> {
        if let Some(entry) = self.page.next() {
            return Ok(Some(entry));
        }
        let Some(from) = self.from.take() else { return Ok(None) };
        let mut page: Vec<Entry> = Vec::new();
        (self.scan)(Some(&from), &mut |key, value| {
            page.push((key.to_vec(), value.to_vec()));
            page.len() < PAGE
        })?;
        if page.len() == PAGE {
            // The first key after the last one.
            self.from = page.last().map(|(key, _)| [key.as_slice(), &[0]].concat());
        }
        self.page = page.into_iter();
        Ok(self.page.next())
    }
}

/// A visitor of keys, with what each has in either place.
type Judge<'a> = dyn FnMut(&[u8], Option<&[u8]>, Option<&[u8]>) -> Result<(), Error> + 'a;

fn value((_, value): &Entry) -> &[u8] {
    value
}

/// Visits all keys of both, each once.
fn merge(a: &mut Entries<'_>, b: &mut Entries<'_>, visit: &mut Judge<'_>) -> Result<(), Error> {
    let (mut left, mut right) = (a.next()?, b.next()?);
    loop {
        let (in_left, in_right) = match (&left, &right) {
            (None, None) => return Ok(()),
            (Some((left, _)), Some((right, _))) => (left <= right, right <= left),
            (left, right) => (left.is_some(), right.is_some()),
        };
        let (held, said) = (left.take_if(|_| in_left), right.take_if(|_| in_right));
        let key = held.as_ref().or(said.as_ref()).map(|(key, _)| key.as_slice()).unwrap_or_default();
        visit(key, held.as_ref().map(value), said.as_ref().map(value))?;
        if in_left {
            left = a.next()?;
        }
        if in_right {
            right = b.next()?;
        }
    }
}

fn text(verdicts: &[Verdict]) -> String {
    let row = |verdict: &Verdict| {
        vec![
            verdict.task.to_string(),
            verdict.store.clone(),
            known(verdict.position),
            verdict.entries.to_string(),
            verdict.unjudged.to_string(),
            verdict.differing.to_string(),
        ]
    };
    let heading = ["TASK", "STORE", "CHANGELOG OFFSET", "ENTRIES", "CHANGED SINCE", "DIFFERENCES"];
    let mut text = table(&heading, &verdicts.iter().map(row).collect::<Vec<_>>());
    for verdict in verdicts {
        if let Some(obstacle) = &verdict.obstacle {
            text += &format!("\n{} {}: {obstacle}\n", verdict.task, verdict.store);
        }
    }
    let differences = verdicts.iter().flat_map(|verdict| {
        verdict.differences.iter().map(|(key, held, said)| {
            let (task, store) = (verdict.task.to_string(), verdict.store.clone());
            let [held, said] = [(held, said), (said, held)].map(|(value, other)| brief(value, other));
            vec![task, store, plain(key), held, said]
        })
    });
    let rows: Vec<Vec<String>> = differences.collect();
    if !rows.is_empty() {
        text.push('\n');
        text += &table(&["TASK", "STORE", "KEY", "IN THE STORE", "BY THE CHANGELOG"], &rows);
    }
    text
}

/// A value, with its time if that is what differs.
fn brief(value: &Value, other: &Value) -> String {
    match value {
        Value::Null => "(nothing)".to_owned(),
        value if value["value"] == other["value"] => format!("{} at {}", plain(&value["value"]), value["timestamp_ms"]),
        value => plain(&value["value"]),
    }
}

fn json(verdicts: &[Verdict]) -> String {
    let difference =
        |(key, held, said): &(Value, Value, Value)| json!({ "key": key, "store": held, "changelog": said });
    let object = |verdict: &Verdict| {
        json!({
            "task": verdict.task.to_string(),
            "store": verdict.store,
            "changelog_offset": verdict.position.map(|position| position.0),
            "obstacle": verdict.obstacle,
            "entries": verdict.entries,
            "changed_since": verdict.unjudged,
            "differing": verdict.differing,
            "differences": verdict.differences.iter().map(difference).collect::<Vec<_>>(),
        })
    };
    format!("{}\n", Value::from_iter(verdicts.iter().map(object)))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    type Map = BTreeMap<Vec<u8>, Vec<u8>>;

    fn entries(map: &Map) -> Entries<'_> {
        Entries::new(|from: Option<&[u8]>, visit: Visit<'_>| {
            let mut rows = map.range(from.unwrap_or_default().to_vec()..);
            while rows.next().is_some_and(|(key, value)| visit(key, value)) {}
            Ok(())
        })
    }

    #[test]
    fn every_key_of_both_is_visited_once() {
        let number = |n: usize| n.to_be_bytes().to_vec();
        let multiples = |of: usize| (0..3 * PAGE).filter(|n| n % of == 0).map(|n| (number(n), number(of))).collect();
        let (twos, threes): (Map, Map) = (multiples(2), multiples(3));
        let mut seen = Map::new();
        let mut both = 0;
        merge(&mut entries(&twos), &mut entries(&threes), &mut |key, held, said| {
            assert_eq!((held, said), (twos.get(key).map(Vec::as_slice), threes.get(key).map(Vec::as_slice)));
            both += usize::from(held.is_some() && said.is_some());
            assert!(seen.insert(key.to_vec(), Vec::new()).is_none());
            Ok(())
        })
        .expect("maps don't fail");
        assert_eq!((seen.len(), both), (2 * PAGE, PAGE / 2));
    }
}
