//! What queries are answered from: the topology, the stores that are open here, and who has the others. Must not know
//! how a store is kept, nor how the group is asked.

use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError, RwLock};

use millrace_engine::partitioner::partition;
use millrace_engine::ports::Error;
use millrace_engine::record::TaskId;
use millrace_engine::topology::{FilledStore, Partitioning, Plan, Store};

use crate::format::Format;

/// `from <= key < to`.
pub type Range<'a> = (Option<&'a [u8]>, Option<&'a [u8]>);

/// The committed state of the tasks of this process.
///
/// [`Error::Retry`] is the answer when a task is not open, or was closed meanwhile.
pub trait Stores: Send + Sync {
    /// The stored form of a value: eight bytes of timestamp before it.
    fn get(&self, task: TaskId, store: &str, key: &[u8]) -> Result<Option<Vec<u8>>, Error>;
    /// Visits entries in key order, or in reverse, until `visit` says false. It is to be a page, not a whole store: a
    /// task that wants to be closed waits for it.
    fn scan(
        &self,
        task: TaskId,
        store: &str,
        range: Range<'_>,
        reverse: bool,
        visit: &mut dyn FnMut(&[u8], &[u8]) -> bool,
    ) -> Result<(), Error>;
    /// The latest time that a store whose entries age has observed: what is gone by then may still be there.
    fn observed(&self, task: TaskId, store: &str) -> Result<Option<i64>, Error>;
    fn sizes(&self, task: TaskId, store: &str) -> Option<Sizes>;
    /// `None`: nothing of the task is on disk.
    fn blocks(&self, task: TaskId) -> Option<Blocks>;
}

/// Blocks of files that were read of a task's stores: from the database's cache, or from the files.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Blocks {
    pub hits: u64,
    pub misses: u64,
}

/// How large a store of a task is, as far as that is known without looking at its entries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sizes {
    pub entries: u64,
    pub file_bytes: u64,
    pub memtable_bytes: u64,
}

/// Which instance of the application runs a task.
pub trait Owners: Send + Sync {
    /// The instance of each task as the group has it now, by its `group.instance.id`; empty while it is being
    /// rebalanced. Asks the group's coordinator.
    fn ask(&self) -> Result<BTreeMap<TaskId, String>, Error>;
    /// All members of the group, also those without a task. Asks the group's coordinator. `None`: it does not know, as the
    /// embedded broker.
    fn instances(&self) -> Result<Option<Vec<String>>, Error>;
}

/// The catalog as it is now: none until the source topics are known, another one with another version of the module.
#[derive(Default)]
pub struct Catalogs(RwLock<Option<Arc<Catalog>>>);

impl Catalogs {
    pub fn set(&self, catalog: Catalog) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = Some(Arc::new(catalog));
    }

    /// The topology is another one from now on.
    pub fn describe(&self, plan: &Plan, partitioning: &Arc<Partitioning>) {
        let mut catalog = self.0.write().unwrap_or_else(PoisonError::into_inner);
        let (plan, partitioning) = (plan.clone(), Arc::clone(partitioning));
        *catalog = catalog.take().map(|old| {
            let (stores, owners) = (Arc::clone(&old.stores), Arc::clone(&old.owners));
            Arc::new(Catalog { plan, partitioning, stores, owners })
        });
    }

    pub(super) fn get(&self) -> Option<Arc<Catalog>> {
        self.0.read().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

pub struct Catalog {
    pub plan: Plan,
    pub partitioning: Arc<Partitioning>,
    pub stores: Arc<dyn Stores>,
    pub owners: Arc<dyn Owners>,
}

/// A store and where it is in the topology.
pub(super) struct Known<'a> {
    pub(super) store: &'a Store,
    pub(super) subtopology: u32,
    /// How many partitions it has, and so tasks.
    pub(super) partitions: u32,
    /// Every instance has all of it. Then it counts as the one task of its subtopology.
    pub(super) global: bool,
    pub(super) key: Format,
    pub(super) value: Format,
}

impl Catalog {
    /// All stores, in the order of the topology, then the global ones.
    pub(super) fn all(&self) -> impl Iterator<Item = Known<'_>> {
        self.of_tasks().chain(self.globals())
    }

    pub(super) fn globals(&self) -> impl Iterator<Item = Known<'_>> {
        self.plan.global_stores().iter().map(|FilledStore { id, store, .. }| Known {
            store,
            subtopology: *id,
            partitions: 1,
            global: true,
            key: Format::named(&store.format.key),
            value: Format::named(&store.format.value),
        })
    }

    pub(super) fn of_tasks(&self) -> impl Iterator<Item = Known<'_>> {
        self.plan.subtopologies().iter().flat_map(|subtopology| {
            let mut partitioned = self.partitioning.subtopologies().iter();
            let partitions = partitioned.find(|of| of.subtopology == subtopology.id).map_or(0, |of| of.tasks);
            subtopology.stores.iter().map(move |store| Known {
                store,
                subtopology: subtopology.id,
                partitions,
                global: false,
                key: Format::named(&store.format.key),
                value: Format::named(&store.format.value),
            })
        })
    }

    pub(super) fn store(&self, name: &str) -> Option<Known<'_>> {
        self.all().find(|known| known.store.name == name)
    }
}

impl Known<'_> {
    pub(super) fn task(&self, partition: u32) -> TaskId {
        TaskId { subtopology: self.subtopology, partition }
    }

    /// What its task is called.
    pub(super) fn name(&self, task: TaskId) -> String {
        if self.global { "global".to_owned() } else { task.to_string() }
    }

    /// The task that has a key, if it was written where Kafka's default partitioner puts it.
    pub(super) fn task_of(&self, key: &[u8]) -> TaskId {
        self.task(partition(key, self.partitions))
    }
}
