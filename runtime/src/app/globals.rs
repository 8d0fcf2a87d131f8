//! Makes what fills the global stores of the current version of the module and a state directory.

use std::collections::BTreeMap;
use std::sync::Arc;

use millrace_engine::global::{Filler, GlobalStores};
use millrace_engine::ports::Error;
use millrace_engine::task::{Settings, Successor, TaskSpec};

use super::now_ms;
use super::versions::{Version, Versions};
use crate::global::FillerFactory;
use crate::guest::TaskInfo;
use crate::status::{GuestLog, Status};
use crate::store::{Resources, StateDirectory};

/// Memory for recent values of what is filled: most processors write without reading.
const CACHE_BYTES: usize = 1 << 20;

pub(super) struct Fillers {
    versions: Arc<Versions>,
    /// The one that fills.
    current: Arc<Version>,
    state: Arc<StateDirectory>,
    resources: Arc<Resources>,
    settings: Settings,
    log: Arc<GuestLog>,
}

impl Fillers {
    pub(super) fn new(
        versions: &Arc<Versions>,
        state: &Arc<StateDirectory>,
        resources: &Arc<Resources>,
        settings: &Settings,
        status: &Status,
    ) -> Self {
        Self {
            versions: Arc::clone(versions),
            current: versions.current(),
            state: Arc::clone(state),
            resources: Arc::clone(resources),
            settings: Settings { cache_bytes: CACHE_BYTES, ..settings.clone() },
            log: Arc::clone(&status.guest_log),
        }
    }

    /// Whether there is nothing to fill.
    pub(super) fn are_idle(&self) -> bool {
        self.current.plan.global_stores().is_empty()
    }

    fn made(&self) -> Result<Successor, Error> {
        let Version { module, plan, partitioning } = &*self.current;
        let none = || Error::Fatal("the topology has no global store".to_owned());
        let spec: TaskSpec = partitioning.global_spec(plan).ok_or_else(none)?;
        let topics = spec.inputs.iter().map(|input| input.name.clone()).collect();
        let (usage, log) = (Arc::default(), Arc::clone(&self.log));
        let guest = module.instantiate(TaskInfo { id: spec.id, topics, caching: false, usage, log });
        Ok(Successor { spec: Arc::new(spec), guest, changelogs: BTreeMap::new() })
    }
}

impl FillerFactory for Fillers {
    fn make(&mut self, emptied: bool) -> Result<(Filler, GlobalStores), Error> {
        let Successor { spec, guest, .. } = self.made()?;
        let globals = self.current.plan.global_stores();
        let database = self.state.open_global(globals, &spec.stores, emptied, &self.resources)?;
        let stores = GlobalStores::new(&spec, Arc::new(database.view()));
        Ok((Filler::new(spec, self.settings.clone(), guest, Box::new(database)), stores))
    }

    fn successor(&mut self) -> Option<Successor> {
        let current = self.versions.current();
        if Arc::ptr_eq(&current, &self.current) {
            return None;
        }
        self.current = current;
        self.made().ok()
    }

    fn now_ms(&self) -> i64 {
        now_ms()
    }
}
