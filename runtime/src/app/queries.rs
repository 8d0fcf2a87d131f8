//! What queries over HTTP are answered from: the stores that are open, and the group that says who has the others.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use millrace_engine::ports::Error;
use millrace_engine::record::{TaskId, TopicPartition};
use millrace_engine::topology::Partitioning;

use crate::api::{Blocks, Owners, Range, Sizes, Stores};
use crate::config::Config;
use crate::kafka::{Membership, members, present};
use crate::store::{View, Views};

/// Shorter than the time that an answer may take.
const ASK_TIMEOUT: Duration = Duration::from_secs(4);

/// The databases of the state directory.
pub(super) struct OpenStores(pub(super) Views);

impl OpenStores {
    fn view(&self, task: TaskId) -> Result<View, Error> {
        self.0.of(task).ok_or_else(|| Error::Retry(format!("task {task} is not open")))
    }
}

impl Stores for OpenStores {
    fn get(&self, task: TaskId, store: &str, key: &[u8]) -> Result<Option<Vec<u8>>, Error> {
        self.view(task)?.get(store, key)
    }

    fn scan(
        &self,
        task: TaskId,
        store: &str,
        range: Range<'_>,
        reverse: bool,
        visit: &mut dyn FnMut(&[u8], &[u8]) -> bool,
    ) -> Result<(), Error> {
        self.view(task)?.scan(store, range, reverse, visit)
    }

    fn observed(&self, task: TaskId, store: &str) -> Result<Option<i64>, Error> {
        self.view(task)?.observed(store)
    }

    fn sizes(&self, task: TaskId, store: &str) -> Option<Sizes> {
        let sizes = self.0.of(task)?.sizes(store)?;
        let (entries, file_bytes, memtable_bytes) = (sizes.entries, sizes.file_bytes, sizes.memtable_bytes);
        Some(Sizes { entries, file_bytes, memtable_bytes })
    }

    fn blocks(&self, task: TaskId) -> Option<Blocks> {
        let blocks = self.0.of(task)?.blocks()?;
        Some(Blocks { hits: blocks.hits, misses: blocks.misses })
    }
}

/// The members of the application's group.
pub(super) struct Group {
    id: String,
    membership: Arc<Membership>,
    partitioning: Arc<Partitioning>,
}

impl Group {
    pub(super) fn new(config: &Config, membership: Arc<Membership>, partitioning: Arc<Partitioning>) -> Self {
        Self { id: config.application_id.clone(), membership, partitioning }
    }

    fn reader_of(&self, partition: &TopicPartition) -> Option<TaskId> {
        let mut subtopologies = self.partitioning.subtopologies().iter();
        let reader = subtopologies.find(|of| of.inputs.iter().any(|input| input.full_name == partition.topic))?;
        Some(TaskId { subtopology: reader.subtopology, partition: partition.partition })
    }
}

impl Owners for Group {
    fn instances(&self) -> Result<Option<Vec<String>>, Error> {
        let members = present(&self.membership.consumer(), &self.id, ASK_TIMEOUT)?;
        Ok(members.map(|members| members.into_iter().map(|member| member.name).collect()))
    }

    fn ask(&self) -> Result<BTreeMap<TaskId, String>, Error> {
        let members = members(&self.membership.consumer(), &self.id, ASK_TIMEOUT)?.unwrap_or_default();
        let of_member = members.iter().flat_map(|member| {
            let tasks = member.partitions.iter().filter_map(|partition| self.reader_of(partition));
            tasks.map(|task| (task, member.name.clone()))
        });
        Ok(of_member.collect())
    }
}
