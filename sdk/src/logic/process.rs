//! Owns how a user's processor is called: its records, its context, and the order in which what it
//! forwards goes on. Must not know what it does.

use std::any::Any;
use std::marker::PhantomData;
use std::rc::Rc;

use super::retain::Sequence;
use super::stateless::Marker;
use super::{Logic, ProcessorInstance, typed};
use crate::contract::{Clock, Failure, Fault, Task};
use crate::host::Host;
use crate::processor::{
    Calls, Cause, ProcessError, ProcessResult, Processor, ProcessorContext, Record, RecordMetadata, Schedule, Services,
};
use crate::rows::{Col, Cut, Data, Headers, Meta, Rows, UNKNOWN, headers_of};
use crate::run::Run;
use crate::topology::StoreDefinition;

/// A node written by hand.
pub(crate) struct Process<K, V, K2, V2, S> {
    supplier: S,
    types: Marker<(K, V, K2, V2)>,
}

impl<K: Data, V: Data, K2: Data, V2: Data, P: Processor<K, V, K2, V2>, S> Process<K, V, K2, V2, S>
where
    S: Fn() -> P + Send + Sync,
{
    pub(crate) fn new(supplier: S) -> Self {
        Self { supplier, types: PhantomData }
    }
}

impl<K: Data, V: Data, K2: Data, V2: Data, P: Processor<K, V, K2, V2>, S> Logic for Process<K, V, K2, V2, S>
where
    S: Fn() -> P + Send + Sync,
{
    fn process(&self, rows: &dyn Any, run: &mut Run<'_>) -> Result<(), Failure> {
        match run.processor(run.node) {
            Some(processor) => processor.borrow_mut().process(rows, run),
            None => Err(run.failure_at(Fault::Processing, None, "the processor belongs to another subtopology")),
        }
    }

    fn has_effects(&self) -> bool {
        true
    }

    fn instantiate(&self) -> Option<Box<dyn ProcessorInstance>> {
        Some(Box::new(Made { processor: (self.supplier)(), types: PhantomData }))
    }
}

/// A processor at work.
struct Made<K, V, K2, V2, P> {
    processor: P,
    types: Marker<(K, V, K2, V2)>,
}

impl<K: Data, V: Data, K2: Data, V2: Data, P: Processor<K, V, K2, V2>> ProcessorInstance for Made<K, V, K2, V2, P> {
    fn init(&mut self, run: &mut Run<'_>) -> Result<(), Failure> {
        let mut session = Session::new(run, 0, UNKNOWN);
        let result = self.processor.init(&mut ProcessorContext { calls: &mut session });
        session.end(result)?;
        session.send()
    }

    fn process(&mut self, rows: &dyn Any, run: &mut Run<'_>) -> Result<(), Failure> {
        let rows: &Rows<K, V> = typed(rows);
        let mut session = Session::new(run, 0, UNKNOWN);
        for row in 0..rows.len() {
            session.timestamp = rows.meta.timestamps[row];
            session.origin = rows.meta.origins[row];
            let record = Record {
                key: rows.keys.get(row).cloned(),
                value: rows.values.get(row).cloned(),
                timestamp: session.timestamp,
                headers: rows.meta.headers(row).map(|headers| (**headers).clone()).unwrap_or_default(),
            };
            let result = self.processor.process(&mut ProcessorContext { calls: &mut session }, record);
            session.end(result)?;
        }
        session.send()
    }

    fn punctuate(&mut self, schedule: u32, timestamp: i64, run: &mut Run<'_>) -> Result<(), Failure> {
        let mut session = Session::new(run, timestamp, UNKNOWN);
        let mut context = ProcessorContext { calls: &mut session };
        let result = self.processor.punctuate(&mut context, Schedule(schedule), timestamp);
        session.end(result)?;
        session.send()
    }
}

/// A record on its way to one child, or to all.
struct Forwarded<K, V> {
    record: Record<K, V>,
    origin: u32,
    child: Option<usize>,
}

/// What a processor reaches through its context during one call of the node.
pub(super) struct Session<'r, 'a, K, V> {
    run: &'r mut Run<'a>,
    timestamp: i64,
    origin: u32,
    /// What goes on when the batch is through.
    waiting: Vec<Forwarded<K, V>>,
    failure: Option<Failure>,
    /// It may not forward, nor have itself called later.
    silent: bool,
}

impl<'r, 'a, K: Data, V: Data> Session<'r, 'a, K, V> {
    fn new(run: &'r mut Run<'a>, timestamp: i64, origin: u32) -> Self {
        Self { run, timestamp, origin, waiting: Vec::new(), failure: None, silent: false }
    }

    /// Of what answers a value, and nothing else.
    pub(super) fn silent(run: &'r mut Run<'a>, timestamp: i64, origin: u32) -> Self {
        Self { silent: true, ..Self::new(run, timestamp, origin) }
    }

    /// What a call of the processor came to.
    pub(super) fn end(&mut self, result: ProcessResult) -> Result<(), Failure> {
        if let Some(failure) = self.failure.take() {
            return Err(failure);
        }
        result.map_err(|error| match error.cause {
            Cause::Message(message) => self.failed(message),
            Cause::Failure(failure) => {
                let here = self.failed("");
                Failure { index: failure.index.or(here.index), node: failure.node.or(here.node), ..failure }
            }
        })
    }

    fn failed(&self, message: impl ToString) -> Failure {
        let index = (self.origin != UNKNOWN).then_some(self.origin);
        self.run.failure_at(Fault::Processing, index, message)
    }

    fn take(&mut self, record: Record<K, V>, child: Option<usize>) {
        if self.failure.is_some() {
            return;
        }
        if self.silent {
            self.failure = Some(self.failed("forwards a record, but a transformer of values answers one"));
            return;
        }
        if record.timestamp < 0 {
            self.failure = Some(self.failed(format!("forwards a record with the timestamp {}", record.timestamp)));
            return;
        }
        let forwarded = Forwarded { record, origin: self.origin, child };
        if self.run.batched {
            self.waiting.push(forwarded);
        } else if let Err(failure) = self.pass(child, vec![forwarded]) {
            self.failure = Some(failure);
        }
    }

    /// Sends what has waited, each child its records in order.
    fn send(&mut self) -> Result<(), Failure> {
        let waiting = std::mem::take(&mut self.waiting);
        if waiting.iter().all(|forwarded| forwarded.child.is_none()) {
            return self.pass(None, waiting);
        }
        for child in 0..self.run.current().children.len() {
            let its = waiting.iter().filter(|forwarded| forwarded.child.is_none_or(|chosen| chosen == child));
            let its = its.map(|forwarded| Forwarded {
                record: forwarded.record.clone(),
                origin: forwarded.origin,
                child: Some(child),
            });
            self.pass(Some(child), its.collect())?;
        }
        Ok(())
    }

    fn pass(&mut self, child: Option<usize>, records: Vec<Forwarded<K, V>>) -> Result<(), Failure> {
        let count = records.len();
        let (mut keys, mut values) = (Vec::with_capacity(count), Vec::with_capacity(count));
        let (mut timestamps, mut origins) = (Vec::with_capacity(count), Vec::with_capacity(count));
        let mut headers: Vec<Option<Rc<Headers>>> = Vec::with_capacity(count);
        for Forwarded { record, origin, .. } in records {
            keys.push(record.key);
            values.push(record.value);
            timestamps.push(record.timestamp);
            origins.push(origin);
            headers.push((!record.headers.is_empty()).then(|| Rc::new(record.headers)));
        }
        let headers = headers_of(headers);
        let meta = Meta { timestamps: Rc::new(timestamps), origins: Rc::new(origins), headers };
        let rows = Rows { keys: Col::new(keys), values: Col::new(values), meta };
        match child {
            None => self.run.forward(&rows),
            Some(child) => self.run.forward_to(child, &rows),
        }
    }
}

impl<K: Data, V: Data> Services for Session<'_, '_, K, V> {
    fn metadata(&self) -> Option<RecordMetadata<'_>> {
        self.run.source(self.origin)
    }

    fn timestamp(&self) -> i64 {
        self.timestamp
    }

    fn stream_time(&self) -> Option<i64> {
        self.run.stream_time(self.origin)
    }

    fn task(&self) -> &Task {
        self.run.task()
    }

    fn schedule(&mut self, interval_ms: i64, clock: Clock, anchor: Option<i64>) -> Result<Schedule, Failure> {
        if self.silent {
            return Err(self.failed("asks for punctuations, but a transformer of values has none"));
        }
        let schedule = self.run.host.schedule(interval_ms, clock, anchor)?;
        self.run.remember_schedule(schedule);
        Ok(Schedule(schedule))
    }

    fn cancel(&mut self, schedule: Schedule) {
        self.run.host.cancel(schedule.0);
        self.run.forget_schedule(schedule.0);
    }

    fn open(&mut self, store: &str) -> ProcessResult<(usize, &StoreDefinition)> {
        let (node, topology) = (self.run.current(), self.run.topology());
        let used = node.stores.iter().any(|name| name == store) || topology.is_global(store);
        match topology.store(store) {
            Some(position) if used => Ok((self.run.host.open(store)?, &self.run.topology().stores[position])),
            _ => Err(ProcessError::new(format!(
                "processor {} was not given the store {store}: name it where the processor is added",
                node.name
            ))),
        }
    }

    fn next_sequence(&mut self, store: &str) -> u32 {
        let mut sequence = self.run.take_kept::<Sequence>(store);
        let next = sequence.next(self.run);
        self.run.keep(store, sequence);
        next
    }

    fn host(&mut self) -> &mut dyn Host {
        self.run.host
    }

    fn dropped(&mut self, reason: &str, count: u32) {
        self.run.dropped(reason, count as usize);
    }
}

impl<K: Data, V: Data> Calls<K, V> for Session<'_, '_, K, V> {
    fn forward(&mut self, record: Record<K, V>) {
        self.take(record, None);
    }

    fn forward_to(&mut self, child: &str, record: Record<K, V>) {
        let topology = self.run.topology();
        let position = self.run.current().children.iter().position(|node| topology.nodes[*node].name == child);
        match position {
            Some(position) => self.take(record, Some(position)),
            None => {
                let failure = self.failed(format!("forwards to {child}, which is none of its children"));
                self.failure.get_or_insert(failure);
            }
        }
    }
}
