//! Owns the exports of a component and its imports as a host. The only file that calls the
//! bindings.

use std::cell::RefCell;
use std::marker::PhantomData;
use std::sync::Arc;

use crate::contract::bindings::exports::millrace::streams::module as exported;
use crate::contract::bindings::millrace::streams::{context, state};
use crate::contract::{
    self, Batch, Changes, Clock, Column, Entries, Failure, Fault, Found, Graph, Header, Input, Output, Versions,
};
use crate::host::Host;
use crate::run::Instance;
use crate::{Topology, TopologyError};

/// The topology of the module.
pub trait Declare {
    /// Declares it.
    fn topology() -> Result<Topology, TopologyError>;
}

/// The exports of a module with that topology.
pub struct Exports<D>(PhantomData<D>);

/// The one instance of this component.
struct Module {
    instance: Instance,
    stores: Imports,
}

thread_local! {
    static MODULE: RefCell<Option<Module>> = const { RefCell::new(None) };
}

impl<D: Declare> exported::Guest for Exports<D> {
    fn describe() -> Result<Graph, String> {
        D::topology().map(|topology| topology.graph()).map_err(|error| error.to_string())
    }

    fn init(task: exported::Task) -> Result<(), String> {
        let topology = D::topology().map_err(|error| error.to_string())?;
        let task = contract::Task {
            application_id: task.application_id,
            subtopology: task.subtopology,
            partition: task.partition,
            topics: task.topics,
            stream_time: task.stream_time,
            caching: task.caching,
        };
        let instance = Instance::new(Arc::new(topology), task)?;
        let mut stores = Imports::default();
        instance.init(&mut stores).map_err(|failure| failure.message)?;
        MODULE.set(Some(Module { instance, stores }));
        Ok(())
    }

    fn extract(
        topic: u32,
        offsets: Vec<i64>,
        records: Batch,
        partition_time: Option<i64>,
    ) -> Result<Vec<i64>, exported::Failure> {
        with_module(|module| module.instance.extract(topic, &offsets, &records, partition_time))
    }

    fn process(mut input: Input) -> Result<Vec<Output>, exported::Failure> {
        with_module(|module| module.instance.process(&mut input, &mut module.stores))
    }

    fn punctuate(schedule: u32, timestamp: i64) -> Result<Vec<Output>, exported::Failure> {
        with_module(|module| module.instance.punctuate(schedule, timestamp, &mut module.stores))
    }

    fn flush(store: String, changes: Changes) -> Result<Vec<Output>, exported::Failure> {
        with_module(|module| module.instance.flush(&store, &changes, &mut module.stores))
    }
}

fn with_module<T>(call: impl FnOnce(&mut Module) -> Result<T, Failure>) -> Result<T, exported::Failure> {
    let result = MODULE.with_borrow_mut(|module| match module {
        Some(module) => call(module),
        None => Err(Failure {
            fault: Fault::Processing,
            index: None,
            node: None,
            message: "the host called the module before init".to_owned(),
        }),
    });
    result.map_err(|failure| exported::Failure {
        fault: match failure.fault {
            Fault::Deserialization => exported::Fault::Deserialization,
            Fault::Processing => exported::Fault::Processing,
            Fault::Serialization => exported::Fault::Serialization,
        },
        index: failure.index,
        node: failure.node,
        message: failure.message,
    })
}

/// The host's functions. A store once opened is kept: it is good for the life of the instance.
#[derive(Default)]
struct Imports {
    stores: Vec<(String, state::Store)>,
}

impl Host for Imports {
    fn open(&mut self, store: &str) -> Result<usize, Failure> {
        if let Some(position) = self.stores.iter().position(|(name, _)| name == store) {
            return Ok(position);
        }
        let opened = state::Store::open(store).map_err(|message| Failure {
            fault: Fault::Processing,
            index: None,
            node: None,
            message,
        })?;
        self.stores.push((store.to_owned(), opened));
        Ok(self.stores.len() - 1)
    }

    fn get(&mut self, store: usize, keys: &Column) -> Result<Entries, Failure> {
        Ok(self.stores[store].1.get(keys))
    }

    fn put(&mut self, store: usize, entries: &Entries, headers: &[Header]) -> Result<(), Failure> {
        let store = &self.stores[store].1;
        if headers.is_empty() {
            store.put(entries)
        } else {
            store.put_with_headers(entries, headers)
        }
        Ok(())
    }

    fn scan(
        &mut self,
        store: usize,
        (from, to): (Option<&[u8]>, Option<&[u8]>),
        reverse: bool,
        limit: u32,
    ) -> Result<Entries, Failure> {
        Ok(self.stores[store].1.scan(from, to, reverse, limit))
    }

    fn get_as_of(&mut self, store: usize, keys: &Column, times: &[i64]) -> Result<Versions, Failure> {
        Ok(self.stores[store].1.get_as_of(keys, times))
    }

    fn put_versions(&mut self, store: usize, entries: &Entries) -> Result<Vec<i64>, Failure> {
        Ok(self.stores[store].1.put_versions(entries))
    }

    fn scan_each(&mut self, store: usize, from: &Column, to: &Column, limit: u32) -> Result<Found, Failure> {
        Ok(self.stores[store].1.scan_each(from, to, limit))
    }

    fn set_changelog_headers(&mut self, store: usize, headers: &[Header]) -> Result<(), Failure> {
        self.stores[store].1.set_changelog_headers(headers);
        Ok(())
    }

    fn schedule(&mut self, interval_ms: i64, clock: Clock, anchor: Option<i64>) -> Result<u32, Failure> {
        Ok(context::schedule(interval_ms, clock, anchor))
    }

    fn cancel(&mut self, schedule: u32) {
        context::cancel(schedule);
    }

    fn request_commit(&mut self) {
        context::request_commit();
    }

    fn wall_clock_ms(&self) -> i64 {
        context::wall_clock_ms()
    }

    fn metadata(&self, key: &str) -> Option<i64> {
        context::metadata(key)
    }

    fn set_metadata(&mut self, key: &str, value: i64) -> Result<(), Failure> {
        context::set_metadata(key, value);
        Ok(())
    }

    fn partition_count(&self, topic: &str) -> Option<u32> {
        context::partition_count(topic)
    }

    fn dropped(&mut self, node: &str, reason: &str, count: u32) {
        context::dropped(node, reason, count);
    }
}
