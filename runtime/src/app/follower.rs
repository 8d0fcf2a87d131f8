//! Follows the topic of versions on a thread of its own: has the next one ready before anything that runs is touched,
//! says what this instance runs, and takes a version back that fails while it is on trial.

use std::collections::{BTreeSet, VecDeque};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::Receiver;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use millrace_engine::ports::Error;
use millrace_engine::topology::{Effect, Partitioning, differences};

use super::load::{cache, refuse};
use super::registry::Registry;
use super::versions::{News, Offer, Version, Versions};
use super::{ASK_TIMEOUT, Application, Ends, create_internal};
use crate::config::Config;
use crate::guest::CodeCache;
use crate::kafka::{Clients, Topics};
use crate::module::{Activation, Catalogue, Instance, Reader, Reason, Recorded, Writer, announce};
use crate::worker::{Swapped, now_ms};

/// How late news of this process are noticed; those of the topic end the wait.
const WAIT: Duration = Duration::from_millis(100);
/// Pause before something is tried again that failed and may pass.
const RETRY_WAIT: Duration = Duration::from_secs(1);
/// New internal topics are soon known to all brokers.
const TOPICS_PATIENCE: Duration = Duration::from_secs(30);
/// Faults are counted over so long.
const RATE_WINDOW: Duration = Duration::from_secs(60);

pub(super) struct Follower {
    pub(super) config: Config,
    pub(super) clients: Clients,
    /// What this instance is called.
    pub(super) name: String,
    pub(super) state: PathBuf,
    pub(super) versions: Arc<Versions>,
    /// Is told what there is.
    pub(super) registry: Arc<Registry>,
    pub(super) news: Receiver<News>,
    /// The one that runs, or is about to.
    pub(super) activation: Activation,
    pub(super) ends: Ends,
}

/// What is under way.
struct Progress {
    reader: Option<Reader>,
    cache: Option<CodeCache>,
    /// The last change that was looked at, and the last one that was taken up.
    seen: u64,
    taken_up: u64,
    retry_at: Instant,
    /// Counted for the version on trial.
    faults: VecDeque<(Instant, u32)>,
    /// Why the version is to be taken back.
    verdict: Option<String>,
    /// A task can't go on without another version.
    condemned: bool,
}

impl Follower {
    /// Works until the process stops.
    pub(super) fn run(mut self) {
        let mut progress = Progress {
            reader: None,
            cache: cache(&self.config),
            seen: self.activation.change,
            taken_up: self.activation.change,
            retry_at: Instant::now(),
            faults: VecDeque::new(),
            verdict: None,
            condemned: false,
        };
        self.begin_trial(self.activation.at_ms);
        self.say(None, None);
        while !self.ends.stop.load(Ordering::Relaxed) {
            while let Ok(news) = self.news.try_recv() {
                self.hear(news, &mut progress);
            }
            let turn = self.turn(&mut progress);
            if let Err(error) = turn {
                tracing::warn!(%error, "follow the versions of the module; will try again");
                progress.retry_at = Instant::now() + RETRY_WAIT;
                progress.reader = None;
            }
        }
    }

    fn turn(&mut self, progress: &mut Progress) -> Result<(), Error> {
        if Instant::now() < progress.retry_at {
            std::thread::sleep(WAIT);
            return Ok(());
        }
        if let Some(reason) = &progress.verdict {
            self.take_back(reason)?;
            progress.verdict = None;
        } else if self.activation.canary.is_some() && progress.taken_up == self.activation.change {
            self.promote()?;
        }
        let reader = match &mut progress.reader {
            Some(reader) => reader,
            none => match Reader::following(&self.clients)? {
                Some(reader) => {
                    self.registry.note(reader.catalogue());
                    none.insert(reader)
                }
                None => return Err(Error::Retry("the topic of versions is gone".to_owned())),
            },
        };
        if reader.follow(WAIT)? {
            self.registry.note(reader.catalogue());
        }
        let Some(next) = reader.catalogue().active.clone().filter(|active| active.change > progress.seen) else {
            return Ok(());
        };
        match self.prepare(&next, reader, progress.cache.as_ref()) {
            Ok(()) => {}
            Err(error) => match error.downcast_ref::<Error>() {
                Some(Error::Retry(reason)) => return Err(Error::Retry(reason.clone())),
                _ => self.refuse(&next, &format!("{error:#}"), progress.condemned),
            },
        }
        progress.seen = next.change;
        Ok(())
    }

    /// Makes everything ready for a version, and offers it to the source.
    fn prepare(&mut self, next: &Activation, reader: &Reader, cache: Option<&CodeCache>) -> anyhow::Result<()> {
        let began = Instant::now();
        let catalogue: &Catalogue = reader.catalogue();
        let found = catalogue.versions.get(&next.version).with_context(|| {
            format!("version {} is active, but there is no such version any more: activate another one", next.version)
        })?;
        let running = self.versions.current();
        let canary = self.versions.canary();
        if found.digest == running.module.digest() && canary.is_none() {
            tracing::info!(version = next.version, "the active version is the one that runs");
            self.activation = next.clone();
            self.say(None, None);
            return Ok(());
        }
        let at_hand = [Some(&running), canary.as_ref()].into_iter().flatten();
        let mut at_hand = at_hand.filter(|version| version.module.digest() == found.digest);
        if let (Some(version), None) = (at_hand.next(), next.canary) {
            self.activation = next.clone();
            self.versions.offer(Offer { version: Arc::clone(version), tasks: None });
            return Ok(());
        }
        let component = reader.fetch(found)?;
        let application = Application::of(&component, &format!("version {}", next.version), &self.config, cache)?;
        application.check_offered()?;
        let differences = differences(&running.plan.shape(), &application.plan.shape());
        if !matches!(next.reason, Reason::RolledBack(_)) {
            refuse(&differences, &next.allow)?;
        }
        let topics = Topics::connect(&self.clients)?;
        let counts = topics.partition_counts(ASK_TIMEOUT)?;
        let partitioning = Partitioning::new(&application.plan, &counts)?;
        create_internal(
            &self.clients,
            &topics,
            &partitioning,
            &counts,
            &self.config,
            Instant::now() + TOPICS_PATIENCE,
        )?;
        let ms = began.elapsed().as_millis();
        let restarts = differences.iter().any(|difference| difference.effect == Effect::Restart);
        let alike = read_alike(&partitioning, &running.partitioning) && !restarts;
        if !alike && next.canary.is_some() {
            bail!("it reads other topics than the version before, so it can't run beside it on some tasks");
        }
        self.activation = next.clone();
        if !alike {
            tracing::warn!(version = next.version, ms, "it reads other topics: the application starts anew with it");
            self.ends.start_anew();
            return Ok(());
        }
        let digest = application.module.digest();
        tracing::info!(version = next.version, digest, ms, "a version of the module is ready");
        let Application { module, plan, .. } = application;
        let count = next.canary.map(|count| count as usize);
        let tasks = count.map(|count| partitioning.tasks().collect::<BTreeSet<_>>().into_iter().take(count).collect());
        let version = Arc::new(Version { module, plan, partitioning: Arc::new(partitioning) });
        self.versions.offer(Offer { version, tasks });
        Ok(())
    }

    /// The version can't be taken up here: what runs goes on.
    fn refuse(&mut self, next: &Activation, why: &str, condemned: bool) {
        tracing::error!(
            version = next.version,
            running = self.activation.version,
            "the active version of the module can't be taken up, the one that runs goes on: {why}"
        );
        self.say(None, Some(format!("version {} can't be taken up: {why}", next.version)));
        if condemned {
            self.versions.doom(Error::Fatal(format!("the version before can't be taken up again: {why}")));
        }
    }

    fn hear(&mut self, news: News, progress: &mut Progress) {
        match news {
            News::Swapped(Swapped { refused: Some(error), .. }) => {
                tracing::error!(version = self.activation.version, %error, "the new version of the module fails");
                if self.activation.previous.is_some() {
                    progress.verdict.get_or_insert(format!("{error} (instance {})", self.name));
                } else {
                    self.say(None, Some(error.to_string()));
                }
            }
            // A task that came later says so once more.
            News::Swapped(_) if progress.taken_up == self.activation.change => {}
            News::Swapped(swapped) => self.swapped(&swapped, progress),
            News::Faulted(count, example) => self.count(count, &example, progress),
            News::Condemned(fault) => {
                progress.condemned = true;
                progress.verdict.get_or_insert(format!("{fault} (instance {})", self.name));
            }
        }
    }

    fn swapped(&mut self, swapped: &Swapped, progress: &mut Progress) {
        let Swapped { pause, tasks, reopen, .. } = swapped;
        let pause_ms = pause.as_secs_f64() * 1000.0;
        let version = self.activation.version;
        let canary = self.activation.canary;
        tracing::info!(version, canary, tasks, reopened = reopen.len(), pause_ms, "the module was swapped");
        (progress.condemned, progress.verdict) = (false, None);
        progress.taken_up = self.activation.change;
        progress.faults.clear();
        let running = self.versions.current();
        if let Err(error) = Recorded::of(&running.plan.shape(), running.module.digest()).write(&self.state) {
            tracing::warn!(%error, path = %self.state.display(), "record the topology");
        }
        self.begin_trial(now_ms());
        self.say(Some(*pause), None);
    }

    /// A version is on trial for a while after it became active, if there is one to go back to.
    fn begin_trial(&self, since_ms: i64) {
        let trial = Duration::from_millis(self.config.module.trial_ms);
        let gone = Duration::from_millis(u64::try_from(now_ms() - since_ms).unwrap_or_default());
        let left = trial.checked_sub(gone).filter(|left| !left.is_zero() && self.activation.previous.is_some());
        self.versions.try_until(left.map(|left| Instant::now() + left));
    }

    fn count(&self, count: u32, example: &str, progress: &mut Progress) {
        if !self.versions.is_on_trial() {
            return;
        }
        let now = Instant::now();
        progress.faults.retain(|(at, _)| now.duration_since(*at) < RATE_WINDOW);
        progress.faults.push_back((now, count));
        let sum: u32 = progress.faults.iter().map(|(_, count)| count).sum();
        if sum >= self.config.module.trial_faults {
            let within = RATE_WINDOW.as_secs();
            let reason = format!("{sum} faults within {within} s at instance {}, for example {example}", self.name);
            progress.verdict.get_or_insert(reason);
        }
    }

    /// Makes the version before active again, for all instances, unless somebody was faster.
    fn take_back(&self, reason: &str) -> Result<(), Error> {
        let version = self.activation.version;
        let writer = Writer::open(&self.clients, self.config.replication_factor)?;
        let catalogue = writer.catalogue();
        let still = catalogue.active.as_ref().filter(|active| active.change == self.activation.change);
        let Some(previous) = still.and_then(|active| active.previous) else {
            tracing::info!(version, "the version was taken back already");
            return Ok(());
        };
        tracing::error!(version, previous, reason, "rolling back the version of the module");
        writer.change(&catalogue.roll_back(previous, reason.to_owned(), now_ms())).map_err(|error| match error {
            // Whoever was faster may have done just that.
            Error::Fenced(reason) => Error::Retry(reason),
            error => error,
        })
    }

    /// Has a version that has come through its trial on some tasks run on all, unless somebody was faster.
    fn promote(&self) -> Result<(), Error> {
        if self.versions.is_on_trial() {
            return Ok(());
        }
        let writer = Writer::open(&self.clients, self.config.replication_factor)?;
        let catalogue = writer.catalogue();
        let still = catalogue.active.as_ref().is_some_and(|active| active.change == self.activation.change);
        if let (true, Some(promotion)) = (still, catalogue.promotion(Reason::Promoted, now_ms())) {
            tracing::info!(
                version = promotion.version,
                "the version has come through its trial: it is to run on all tasks"
            );
            let (key, value) = promotion.record();
            writer.change(&[(key, Some(value))]).map_err(|error| match error {
                Error::Fenced(reason) => Error::Retry(reason),
                error => error,
            })?;
        }
        Ok(())
    }

    /// Says what this instance runs, for `module list`.
    fn say(&self, pause: Option<Duration>, problem: Option<String>) {
        let instance = Instance {
            version: self.activation.settled().unwrap_or(self.activation.version),
            canary: self.activation.canary.map(|_| self.activation.version),
            change: self.activation.change,
            since_ms: now_ms(),
            pause_us: pause.map(|pause| u64::try_from(pause.as_micros()).unwrap_or(u64::MAX)),
            problem,
        };
        let (key, value) = instance.record(&self.name);
        if let Err(error) = announce(&self.clients, (key, Some(value))) {
            tracing::warn!(%error, "say which version of the module this instance runs");
        }
    }
}

/// Whether members of a group that run the one and the other agree on all that the group distributes.
fn read_alike(one: &Partitioning, other: &Partitioning) -> bool {
    let tasks = |of: &Partitioning| of.tasks().collect::<Vec<_>>();
    let inputs = one.subscription().map(|input| (&input.full_name, input.partitions));
    tasks(one) == tasks(other) && inputs.eq(other.subscription().map(|input| (&input.full_name, input.partitions)))
}
