//! The versions of the module within this process: the one that tasks are made of and the one that is to be next. What
//! the source and the follower of the topic share.

use std::collections::BTreeSet;
use std::sync::mpsc::Sender;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use millrace_engine::ports::{Error, Fault};
use millrace_engine::record::TaskId;
use millrace_engine::topology::{Partitioning, Plan};

use crate::guest::Module;
use crate::source::Advance;
use crate::worker::Swapped;

/// A module, and what follows from it on this cluster.
pub(super) struct Version {
    pub(super) module: Module,
    pub(super) plan: Plan,
    pub(super) partitioning: Arc<Partitioning>,
}

/// A version that is to be next, on some tasks or on all.
#[derive(Clone)]
pub(super) struct Offer {
    pub(super) version: Arc<Version>,
    pub(super) tasks: Option<BTreeSet<TaskId>>,
}

impl Offer {
    fn has(&self, id: TaskId) -> bool {
        self.tasks.as_ref().is_none_or(|tasks| tasks.contains(&id))
    }
}

/// What the follower is told.
pub(super) enum News {
    Swapped(Swapped),
    Faulted(u32, String),
    Condemned(String),
}

pub(super) struct Versions {
    state: Mutex<State>,
    /// `None`: nobody follows, the module is a file.
    follower: Option<Sender<News>>,
}

struct State {
    current: Arc<Version>,
    /// What runs in its place on some tasks.
    canary: Option<Offer>,
    next: Option<Offer>,
    /// Why no other version will come although the current one can't go on.
    doom: Option<Error>,
    /// Until then the current one is taken back if it fails.
    trial_ends: Option<Instant>,
}

impl Versions {
    pub(super) fn new(current: Version, follower: Option<Sender<News>>) -> Self {
        let state = State { current: Arc::new(current), canary: None, next: None, doom: None, trial_ends: None };
        Self { state: Mutex::new(state), follower }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn current(&self) -> Arc<Version> {
        Arc::clone(&self.state().current)
    }

    pub(super) fn canary(&self) -> Option<Arc<Version>> {
        self.state().canary.as_ref().map(|canary| Arc::clone(&canary.version))
    }

    /// What a task runs.
    pub(super) fn of_task(&self, id: TaskId) -> Arc<Version> {
        let state = self.state();
        let canary = state.canary.as_ref().filter(|canary| canary.has(id));
        Arc::clone(canary.map_or(&state.current, |canary| &canary.version))
    }

    pub(super) fn offer(&self, next: Offer) {
        self.state().next = Some(next);
    }

    /// The current version can't go on, and nothing will come in its place.
    pub(super) fn doom(&self, error: Error) {
        self.state().doom = Some(error);
    }

    pub(super) fn try_until(&self, trial_ends: Option<Instant>) {
        self.state().trial_ends = trial_ends;
    }

    pub(super) fn is_on_trial(&self) -> bool {
        self.state().trial_ends.is_some_and(|ends| Instant::now() < ends)
    }

    pub(super) fn advance(&self) -> Result<Option<Advance>, Error> {
        let mut state = self.state();
        if let Some(error) = state.doom.take() {
            return Err(error);
        }
        let Some(next) = state.next.take() else { return Ok(None) };
        let Offer { version, tasks } = next.clone();
        let partitioning = Arc::clone(&version.partitioning);
        if tasks.is_some() {
            state.canary = Some(next);
        } else {
            (state.current, state.canary) = (version, None);
        }
        Ok(Some(Advance { partitioning, tasks }))
    }

    pub(super) fn tell(&self, news: News) {
        if let Some(follower) = &self.follower {
            // It ends only with the process.
            let _ = follower.send(news);
        }
    }

    /// Whether the task runs a version that is on trial.
    pub(super) fn tries(&self, id: TaskId) -> bool {
        let tried = self.state().canary.as_ref().is_none_or(|canary| canary.has(id));
        tried && self.is_on_trial()
    }

    pub(super) fn condemn(&self, id: TaskId, fault: &Fault) -> bool {
        let on_trial = self.tries(id);
        if on_trial {
            self.tell(News::Condemned(fault.to_string()));
        }
        on_trial
    }
}
