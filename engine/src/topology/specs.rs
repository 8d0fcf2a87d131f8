//! Owns what a task is told of its graph. Must not know what a task does with it.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::graph::Store;
use super::partitioning::{Partitioned, Partitioning};
use super::plan::{FilledStore, Plan, Subtopology};
use crate::record::TaskId;
use crate::task::{InputSpec, StoreSpec, TaskSpec};

impl Partitioning {
    /// The spec of an assigned task, which reads those of its subtopology's inputs whose positions
    /// `inputs` lists; see [`crate::assignment::Assignment`]. `None` if there is no such task.
    #[must_use]
    pub fn task_spec(&self, plan: &Plan, id: TaskId, inputs: &[usize], caching: bool) -> Option<TaskSpec> {
        let subtopology = plan.subtopology(id.subtopology)?;
        let partitioned = self.subtopologies().iter().find(|of| of.subtopology == id.subtopology)?;
        if id.partition >= partitioned.tasks {
            return None;
        }
        Some(TaskSpec {
            id,
            application_id: plan.application_id().to_owned(),
            inputs: input_specs(partitioned, id, inputs)?,
            stores: plan.store_specs(id.subtopology, caching)?,
            outputs: outputs(plan, subtopology),
            dynamic_sinks: subtopology.sinks.iter().any(|sink| sink.topic.is_none()),
            partition_counts: self.partition_counts().clone(),
            caching,
        })
    }

    /// The spec of the task that fills the global stores, which reads all partitions of their topics. It has the number of
    /// the first of them. `None` if there is no global store.
    #[must_use]
    pub fn global_spec(&self, plan: &Plan) -> Option<TaskSpec> {
        let globals = plan.global_stores();
        let inputs = globals.iter().flat_map(|global| {
            let topic: Arc<str> = global.filled.topic.as_str().into();
            let partitions = self.partition_counts().get(&*topic).copied().unwrap_or_default();
            (0..partitions).map(move |partition| InputSpec {
                name: topic.to_string(),
                topic: Arc::clone(&topic),
                partition,
                extracts_timestamps: false,
            })
        });
        let stores = globals.iter().map(|FilledStore { store, .. }| StoreSpec {
            name: store.name.clone(),
            cached: false,
            persistent: store.persistent,
            changelog: None,
            expiry: None,
        });
        Some(TaskSpec {
            id: TaskId { subtopology: globals.first()?.id, partition: 0 },
            application_id: plan.application_id().to_owned(),
            inputs: inputs.collect(),
            stores: stores.collect(),
            outputs: BTreeMap::new(),
            dynamic_sinks: false,
            partition_counts: self.partition_counts().clone(),
            caching: false,
        })
    }
}

impl Plan {
    /// The stores of each task of a subtopology. `None` if there is no such subtopology.
    #[must_use]
    pub fn store_specs(&self, subtopology: u32, caching: bool) -> Option<Vec<StoreSpec>> {
        let spec = |store: &Store| StoreSpec {
            name: store.name.clone(),
            cached: store.cached && caching,
            persistent: store.persistent,
            changelog: self.changelog(store).map(Arc::from),
            expiry: store.layout.expiry(),
        };
        Some(self.subtopology(subtopology)?.stores.iter().map(spec).collect())
    }
}

fn input_specs(partitioned: &Partitioned, id: TaskId, inputs: &[usize]) -> Option<Vec<InputSpec>> {
    let spec = |&input: &usize| {
        let topic = partitioned.inputs.get(input).filter(|topic| id.partition < topic.partitions)?;
        Some(InputSpec {
            name: topic.name.to_string(),
            topic: topic.full_name.clone(),
            partition: id.partition,
            extracts_timestamps: topic.extracts_timestamps,
        })
    };
    inputs.iter().map(spec).collect()
}

fn outputs(plan: &Plan, subtopology: &Subtopology) -> BTreeMap<String, Arc<str>> {
    let topics = subtopology.sinks.iter().filter_map(|sink| sink.topic.as_ref());
    topics.map(|topic| (topic.clone(), plan.full_name(topic).into())).collect()
}
