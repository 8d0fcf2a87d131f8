//! Owns the instance of one task: its calls, and that it is gone after a failed one. Must not know
//! what the calls are for.

use std::sync::Arc;

use cpu_time::ThreadTime;
use millrace_engine::context::Context;
use millrace_engine::ports::{Fault, FaultKind, Guest};
use millrace_engine::record::{Changes, Input, Output, TaskId};
use wasmtime::{Store, Trap};

use super::bindings::Topology;
use super::bindings::exports::millrace::streams::module as exported;
use super::convert;
use super::fault;
use super::host::Host;
use super::lines::Lines;
use super::module::{Module, begin_call};
use crate::status::{GuestLog, GuestUsage};

/// What an instance is told of its task.
#[derive(Debug, Clone)]
pub struct TaskInfo {
    pub id: TaskId,
    /// The topics the task reads; `input.topics` points into it.
    pub topics: Vec<String>,
    /// Cached stores are flushed at commits.
    pub caching: bool,
    /// Where it is counted what calls take.
    pub usage: Arc<GuestUsage>,
    /// Where the last lines are kept that it writes.
    pub log: Arc<GuestLog>,
}

pub(super) struct Instance {
    module: Module,
    task: TaskInfo,
    lines: Lines,
    /// `None` before the first reset and after a failed call.
    live: Option<Live>,
}

struct Live {
    store: Store<Host>,
    exports: Topology,
}

/// What a call handed back, still unchecked.
type Handed<T> = wasmtime::Result<Result<T, exported::Failure>>;

impl Instance {
    pub(super) fn new(module: Module, task: TaskInfo, lines: Lines) -> Self {
        Self { module, task, lines, live: None }
    }

    /// Makes one call with `context` lent to the host functions, on an input of `rows` rows. The
    /// instance is kept only if the call went well.
    fn call<T>(
        &mut self,
        name: &str,
        rows: usize,
        context: &mut Context,
        call: impl FnOnce(&exported::Guest, &mut Store<Host>) -> Handed<T>,
    ) -> Result<T, Fault> {
        let Some(mut live) = self.live.take() else {
            let message = format!("`{name}` was called on an instance that failed before and was not reset");
            return Err(Fault::new(FaultKind::Trap, message));
        };
        begin_call(&mut live.store, self.module.limits());
        let started = ThreadTime::now();
        std::mem::swap(context, &mut live.store.data_mut().context);
        let mut handed = call(live.exports.millrace_streams_module(), &mut live.store);
        std::mem::swap(context, &mut live.store.data_mut().context);
        self.task.usage.called(started.elapsed(), live.store.data().meter.used());
        if handed.is_ok() && live.store.data().has_overslept() {
            handed = Err(Trap::Interrupt.into());
        }
        match handed {
            Ok(Ok(value)) => {
                self.live = Some(live);
                Ok(value)
            }
            Ok(Err(failure)) => Err(self.with_lines(fault::of_failure(failure, rows))),
            Err(error) => Err(self.trapped(&error, name)),
        }
    }

    fn trapped(&self, error: &wasmtime::Error, call: &str) -> Fault {
        self.with_lines(fault::of_trap(error, call, self.module.limits()))
    }

    fn with_lines(&self, fault: Fault) -> Fault {
        Fault { lines: self.lines.take_last(), ..fault }
    }

    fn accept(
        &mut self,
        name: &str,
        rows: Option<usize>,
        outputs: Vec<exported::Output>,
    ) -> Result<Vec<Output>, Fault> {
        convert::outputs(outputs, rows, self.module.limits().output_bytes).map_err(|refused| {
            self.live = None;
            self.with_lines(fault::of_output(refused, name))
        })
    }
}

impl Guest for Instance {
    fn reset(&mut self, context: &mut Context) -> Result<(), Fault> {
        self.live = None;
        let mut store = self.module.store(&self.lines);
        let exports = self.module.instance(&mut store).map_err(|error| self.trapped(&error, "start"))?;
        self.live = Some(Live { store, exports });
        let task = exported::Task {
            application_id: self.module.application_id().to_owned(),
            subtopology: self.task.id.subtopology,
            partition: self.task.id.partition,
            topics: self.task.topics.clone(),
            stream_time: context.stream_time(),
            caching: self.task.caching,
        };
        self.call("init", 0, context, |module, store| {
            let done = module.call_init(store, &task)?;
            Ok(done.map_err(|message| exported::Failure {
                fault: exported::Fault::Processing,
                index: None,
                node: None,
                message,
            }))
        })
    }

    fn extract(&mut self, input: &mut Input, partition_time: Option<i64>) -> Result<Vec<i64>, Fault> {
        let rows = input.records.len();
        let exported::Input { topics, offsets, records } = std::mem::take(input).into();
        let topic = topics.first().copied().unwrap_or_default();
        let mut nothing = Context::default();
        let extracted = self.call("extract", rows, &mut nothing, |module, store| {
            module.call_extract(store, topic, &offsets, &records, partition_time)
        });
        *input = exported::Input { topics, offsets, records }.into();
        let timestamps = extracted?;
        if timestamps.len() != rows {
            self.live = None;
            let message = format!("the module failed in `extract`: {} timestamps for {rows} records", timestamps.len());
            return Err(self.with_lines(Fault::new(FaultKind::Trap, message)));
        }
        Ok(timestamps)
    }

    fn process(&mut self, input: &mut Input, context: &mut Context) -> Result<Vec<Output>, Fault> {
        let rows = input.records.len();
        let lent: exported::Input = std::mem::take(input).into();
        let outputs = self.call("process", rows, context, |module, store| module.call_process(store, &lent));
        *input = lent.into();
        self.accept("process", Some(rows), outputs?)
    }

    fn punctuate(&mut self, schedule: u32, timestamp: i64, context: &mut Context) -> Result<Vec<Output>, Fault> {
        let call =
            |module: &exported::Guest, store: &mut Store<Host>| module.call_punctuate(store, schedule, timestamp);
        let outputs = self.call("punctuate", 0, context, call)?;
        self.accept("punctuate", None, outputs)
    }

    fn flush(&mut self, store: &str, changes: &mut Changes, context: &mut Context) -> Result<Vec<Output>, Fault> {
        let rows = changes.keys.len();
        let lent: exported::Changes = std::mem::take(changes).into();
        let outputs = self.call("flush", rows, context, |module, instance| module.call_flush(instance, store, &lent));
        *changes = lent.into();
        self.accept("flush", Some(rows), outputs?)
    }
}
