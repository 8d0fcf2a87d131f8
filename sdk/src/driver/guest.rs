//! Owns the topology as the core's guest: what bindings do for a component, done natively.

use std::sync::Arc;

use millrace_engine::context::{Context, Misuse};
use millrace_engine::ports::{Fault as CoreFault, FaultKind, Guest};
use millrace_engine::record::{Changes, Input, Output};
use millrace_engine::task::TaskSpec;

use super::module_task;
use crate::Topology;
use crate::contract::{Clock, Column, Entries, Failure, Fault, Found, Header, Task, Versions};
use crate::host::Host;
use crate::run::Instance;

pub(super) struct NativeGuest {
    topology: Arc<Topology>,
    task: Task,
    /// None until the first reset.
    instance: Option<Instance>,
}

/// A topology as the core's guest, for whoever compares it with its component.
#[must_use]
pub fn native(topology: Topology, spec: &TaskSpec) -> Box<dyn Guest> {
    Box::new(NativeGuest::new(Arc::new(topology), spec))
}

impl NativeGuest {
    pub(super) fn new(topology: Arc<Topology>, spec: &TaskSpec) -> Self {
        Self { topology, task: module_task(spec, None), instance: None }
    }

    fn instance(&self) -> Result<&Instance, CoreFault> {
        self.instance.as_ref().ok_or_else(|| trap("the module was called before init".to_owned()))
    }
}

impl Guest for NativeGuest {
    fn reset(&mut self, context: &mut Context) -> Result<(), CoreFault> {
        let task = Task { stream_time: context.stream_time(), ..self.task.clone() };
        let instance = Instance::new(Arc::clone(&self.topology), task).map_err(trap)?;
        instance.init(&mut Lent(context)).map_err(fault)?;
        self.instance = Some(instance);
        Ok(())
    }

    fn extract(&mut self, input: &mut Input, partition_time: Option<i64>) -> Result<Vec<i64>, CoreFault> {
        let topic = input.topics.first().copied().unwrap_or(0);
        self.instance()?.extract(topic, &input.offsets, &input.records, partition_time).map_err(fault)
    }

    fn process(&mut self, input: &mut Input, context: &mut Context) -> Result<Vec<Output>, CoreFault> {
        self.instance()?.process(input, &mut Lent(context)).map_err(fault)
    }

    fn punctuate(&mut self, schedule: u32, timestamp: i64, context: &mut Context) -> Result<Vec<Output>, CoreFault> {
        self.instance()?.punctuate(schedule, timestamp, &mut Lent(context)).map_err(fault)
    }

    fn flush(&mut self, store: &str, changes: &mut Changes, context: &mut Context) -> Result<Vec<Output>, CoreFault> {
        self.instance()?.flush(store, changes, &mut Lent(context)).map_err(fault)
    }
}

fn trap(message: String) -> CoreFault {
    CoreFault::new(FaultKind::Trap, message)
}

fn fault(failure: Failure) -> CoreFault {
    let kind = match failure.fault {
        Fault::Deserialization => FaultKind::Deserialization,
        Fault::Processing => FaultKind::Processing,
        Fault::Serialization => FaultKind::Serialization,
    };
    let index = failure.index.map(|index| index as usize);
    CoreFault { index, node: failure.node, ..CoreFault::new(kind, failure.message) }
}

/// The core's context, lent for a call.
struct Lent<'a>(&'a mut Context);

fn misuse(misuse: Misuse) -> Failure {
    Failure { fault: Fault::Processing, index: None, node: None, message: misuse.0 }
}

impl Host for Lent<'_> {
    fn open(&mut self, store: &str) -> Result<usize, Failure> {
        self.0.store(store).ok_or_else(|| misuse(Misuse(format!("there is no store {store} in this task"))))
    }

    fn get(&mut self, store: usize, keys: &Column) -> Result<Entries, Failure> {
        self.0.get(store, keys).map_err(misuse)
    }

    fn put(&mut self, store: usize, entries: &Entries, headers: &[Header]) -> Result<(), Failure> {
        self.0.put_with_headers(store, entries, headers).map_err(misuse)
    }

    fn scan(
        &mut self,
        store: usize,
        range: (Option<&[u8]>, Option<&[u8]>),
        reverse: bool,
        limit: u32,
    ) -> Result<Entries, Failure> {
        self.0.scan(store, range, reverse, limit).map_err(misuse)
    }

    fn get_as_of(&mut self, store: usize, keys: &Column, times: &[i64]) -> Result<Versions, Failure> {
        self.0.get_as_of(store, keys, times).map_err(misuse)
    }

    fn put_versions(&mut self, store: usize, entries: &Entries) -> Result<Vec<i64>, Failure> {
        self.0.put_versions(store, entries).map_err(misuse)
    }

    fn scan_each(&mut self, store: usize, from: &Column, to: &Column, limit: u32) -> Result<Found, Failure> {
        self.0.scan_each(store, from, to, limit).map_err(misuse)
    }

    fn set_changelog_headers(&mut self, store: usize, headers: &[Header]) -> Result<(), Failure> {
        self.0.set_changelog_headers(store, headers).map_err(misuse)
    }

    fn schedule(&mut self, interval_ms: i64, clock: Clock, anchor: Option<i64>) -> Result<u32, Failure> {
        self.0.schedule(interval_ms, clock, anchor).map_err(misuse)
    }

    fn cancel(&mut self, schedule: u32) {
        self.0.cancel(schedule);
    }

    fn request_commit(&mut self) {
        self.0.request_commit();
    }

    fn wall_clock_ms(&self) -> i64 {
        self.0.wall_clock_ms()
    }

    fn metadata(&self, key: &str) -> Option<i64> {
        self.0.metadata(key)
    }

    fn set_metadata(&mut self, key: &str, value: i64) -> Result<(), Failure> {
        self.0.set_metadata(key, value).map_err(misuse)
    }

    fn partition_count(&self, topic: &str) -> Option<u32> {
        self.0.partition_count(topic)
    }

    fn dropped(&mut self, node: &str, reason: &str, count: u32) {
        self.0.dropped(node, reason, count);
    }
}
