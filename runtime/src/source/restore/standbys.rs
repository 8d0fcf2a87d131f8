//! The standbys of this member: opens the state of tasks that others run and follows their changelogs, so that little
//! is left to restore when one of them is to run here. Must not know who chooses them.
//!
//! Whatever goes wrong with a standby costs its task a longer restore and nothing else, so it is closed, said, and
//! opened again later.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use millrace_engine::ports::Error;
use millrace_engine::record::TaskId;
use millrace_engine::task::Task;

use super::reader::{Read, Readers};
use super::{PUBLISH_INTERVAL, RETRY_WAIT, TaskFactory};
use crate::status::Status;

/// Pause before a standby is opened again that can't be kept for a reason that does not pass by itself.
const FAILED_WAIT: Duration = Duration::from_secs(60);

/// Tasks and the inputs they read when they run.
pub(in crate::source) type Chosen = BTreeMap<TaskId, Vec<usize>>;

pub(super) struct Standbys {
    factory: Arc<dyn TaskFactory>,
    readers: Readers,
    chosen: Chosen,
    open: BTreeMap<TaskId, Standby>,
    /// Those that failed are not opened before.
    failed: BTreeMap<TaskId, Instant>,
    status: Arc<Status>,
    /// When the status was last told how much is left.
    published_at: Instant,
}

struct Standby {
    task: Task,
    records: usize,
    opened: Instant,
    /// It has been at the end of its changelogs.
    caught_up: bool,
}

impl Standbys {
    pub(super) fn new(factory: Arc<dyn TaskFactory>, readers: Readers, status: Arc<Status>) -> Self {
        let (open, failed, published_at) = (BTreeMap::new(), BTreeMap::new(), Instant::now());
        Self { factory, readers, chosen: Chosen::new(), open, failed, status, published_at }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.chosen.is_empty()
    }

    /// Keeps these from now on. Others are closed at once, these opened one after the other by [`Self::turn`].
    pub(super) fn keep(&mut self, chosen: Chosen) {
        let gone: Vec<TaskId> = self.open.keys().filter(|id| !chosen.contains_key(id)).copied().collect();
        for id in gone {
            self.close(id);
            tracing::info!(task = %id, "standby closed");
        }
        self.failed.retain(|id, _| chosen.contains_key(id));
        self.chosen = chosen;
    }

    /// The standby of a task that is to run here, if it is open.
    pub(super) fn take(&mut self, id: TaskId) -> Option<Task> {
        self.chosen.remove(&id);
        self.failed.remove(&id);
        let standby = self.close(id)?;
        tracing::info!(task = %id, caught_up = standby.caught_up, "restoring from the standby");
        Some(standby.task)
    }

    fn close(&mut self, id: TaskId) -> Option<Standby> {
        self.readers.remove(id);
        self.open.remove(&id)
    }

    /// Takes what the changelogs have at the moment, and says whether there was anything to do.
    pub(super) fn turn(&mut self) -> bool {
        let opened = self.open_next();
        let mut moved = false;
        for read in self.readers.poll(Duration::ZERO) {
            match read {
                Ok(read) => {
                    moved = true;
                    self.apply(&read);
                }
                // Opening it again finds out which of the changelogs no longer has what the state lacks.
                Err((tasks, error)) => {
                    tasks.into_iter().for_each(|id| self.fail(id, Error::Retry(error.to_string())));
                }
            }
        }
        for (id, standby) in self.open.iter_mut().filter(|(_, standby)| !standby.caught_up) {
            if self.readers.at_end(*id) {
                standby.caught_up = true;
                let ms = standby.opened.elapsed().as_millis();
                tracing::info!(task = %id, records = standby.records, ms, lag = 0, "standby caught up");
            }
        }
        if self.published_at.elapsed() >= PUBLISH_INTERVAL {
            self.published_at = Instant::now();
            for id in self.open.keys() {
                self.status.task(*id).remain(self.readers.left(*id));
            }
        }
        opened || moved
    }

    fn open_next(&mut self) -> bool {
        let now = Instant::now();
        let due = |id: &TaskId| !self.open.contains_key(id) && self.failed.get(id).is_none_or(|at| *at <= now);
        let Some(id) = self.chosen.keys().copied().find(due) else { return false };
        match self.open(id) {
            Ok(standby) => {
                self.failed.remove(&id);
                self.open.insert(id, standby);
            }
            Err(error) => self.fail(id, error),
        }
        true
    }

    fn open(&mut self, id: TaskId) -> Result<Standby, Error> {
        let mut task = self.factory.make(id, self.inputs(id))?;
        let changelogs = self.readers.bounds(&task)?;
        task.follow(&changelogs)?;
        self.readers.add(&task)?;
        let ends = |store: usize| changelogs.get(store).copied().flatten().map_or(0, |(_, end)| end.0);
        let left: i64 = task.replays().iter().map(|(store, _, next, _)| (ends(*store) - next.0).max(0)).sum();
        tracing::info!(task = %id, left, "standby opened");
        Ok(Standby { task, records: 0, opened: Instant::now(), caught_up: false })
    }

    /// Goes on for the current version of the module, which may have other stores.
    pub(super) fn renew(&mut self) {
        let open: Vec<TaskId> = self.open.keys().copied().collect();
        for id in open {
            match self.take_over(id) {
                Ok(true) => {}
                // It is opened again by the next turn.
                Ok(false) => drop(self.close(id)),
                Err(error) => self.fail(id, error),
            }
        }
    }

    fn take_over(&mut self, id: TaskId) -> Result<bool, Error> {
        let successor = self.factory.successor(id, self.inputs(id))?;
        let Some(standby) = self.open.get_mut(&id) else { return Ok(true) };
        let other_stores = standby.task.spec().stores != successor.spec.stores;
        if !standby.task.take_over_following(successor)? {
            return Ok(false);
        }
        if other_stores {
            let changelogs = self.readers.bounds(&standby.task)?;
            standby.task.follow(&changelogs)?;
            self.readers.remove(id);
            self.readers.add(&standby.task)?;
            tracing::info!(task = %id, "the standby follows the changelogs of other stores");
        }
        Ok(true)
    }

    fn inputs(&self, id: TaskId) -> &[usize] {
        self.chosen.get(&id).map_or(&[], Vec::as_slice)
    }

    fn apply(&mut self, read: &Read) {
        let Some(standby) = self.open.get_mut(&read.task) else { return };
        standby.records += read.chunk.offsets.len();
        self.status.task(read.task).read_back(read.chunk.offsets.len());
        if let Err(error) = standby.task.replay(read.store, &read.chunk, read.next) {
            self.fail(read.task, error);
        }
    }

    fn fail(&mut self, id: TaskId, error: Error) {
        // Closed before its state is set aside.
        drop(self.close(id));
        let wait = match &error {
            Error::Retry(_) => RETRY_WAIT,
            Error::Corrupt(why) => match self.factory.set_aside(id, self.inputs(id), why) {
                Ok(()) => Duration::ZERO,
                Err(error) => {
                    tracing::error!(task = %id, %error, "set the state of a standby aside");
                    FAILED_WAIT
                }
            },
            _ => FAILED_WAIT,
        };
        tracing::warn!(task = %id, %error, again_in_ms = wait.as_millis(), "standby closed");
        self.failed.insert(id, Instant::now() + wait);
    }
}
