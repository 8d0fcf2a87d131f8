//! Owns what follows from a plan and the partition counts of the topics it reads: the topics of
//! patterns, the internal topics with their partitions, the tasks. Must not know who runs them.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use super::error::TopologyError;
use super::graph::{OffsetReset, Source};
use super::internal::InternalTopic;
use super::names::is_reserved;
use super::pattern::Pattern;
use super::plan::{Plan, Subtopology};
use super::repartitions::Repartitions;
use crate::record::TaskId;

/// Partitions of topics, by their full names. Topics nobody reads do no harm.
pub type PartitionCounts = BTreeMap<String, u32>;

/// A plan measured against the cluster.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Partitioning {
    subtopologies: Vec<Partitioned>,
    internal_topics: Vec<InternalTopic>,
    partition_counts: Arc<BTreeMap<String, u32>>,
}

/// A subtopology's input.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Partitioned {
    pub subtopology: u32,
    /// Tasks, one for each partition number; the most partitions of any input.
    pub tasks: u32,
    /// In the order of the sources, those of a pattern by name.
    pub inputs: Vec<InputTopic>,
    /// It keeps state, so the inputs have as many partitions each, and those of one number belong
    /// to the same task wherever it runs.
    pub stateful: bool,
    /// Some of its state is in changelogs, from which other members can copy it.
    pub logged: bool,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InputTopic {
    /// As the graph and the module call it.
    pub name: Arc<str>,
    /// As Kafka calls it.
    pub full_name: Arc<str>,
    pub partitions: u32,
    pub offset_reset: Option<OffsetReset>,
    pub extracts_timestamps: bool,
    /// Internal, so what was committed can be purged.
    pub repartition: bool,
}

impl Partitioning {
    /// `counts` must have every topic that exists, or at least those the plan reads and writes.
    pub fn new(plan: &Plan, counts: &PartitionCounts) -> Result<Self, TopologyError> {
        let missing: Vec<&str> =
            plan.external_topics().into_iter().filter(|topic| counts.get(*topic).is_none_or(|n| *n == 0)).collect();
        if !missing.is_empty() {
            return Err(TopologyError::MissingTopics(missing.join(", ")));
        }
        let inputs = input_topics(plan, counts)?;
        let mut repartitions = Repartitions::declared(plan);
        repartitions.find(plan, &inputs, counts)?;
        repartitions.copartition(plan, counts)?;
        let mut subtopologies = Vec::new();
        for (subtopology, mut inputs) in plan.subtopologies().iter().zip(inputs) {
            for input in &mut inputs {
                input.partitions = repartitions.count(plan, &input.name, counts).unwrap_or_default();
            }
            check_aligned(subtopology, &inputs)?;
            let tasks = inputs.iter().map(|input| input.partitions).max().unwrap_or_default();
            let stateful = !subtopology.stores.is_empty();
            let logged = subtopology.stores.iter().any(|store| plan.changelog(store).is_some());
            subtopologies.push(Partitioned { subtopology: subtopology.id, tasks, inputs, stateful, logged });
        }
        let internal_topics = internal_topics(plan, &subtopologies, &repartitions);
        let partition_counts = Arc::new(counts_by_graph_name(plan, &repartitions, &subtopologies, counts));
        Ok(Self { subtopologies, internal_topics, partition_counts })
    }

    /// By ascending id.
    #[must_use]
    pub fn subtopologies(&self) -> &[Partitioned] {
        &self.subtopologies
    }

    #[must_use]
    pub fn internal_topics(&self) -> &[InternalTopic] {
        &self.internal_topics
    }

    /// Of the topics the graph reads and writes, by their names there, as far as they exist.
    #[must_use]
    pub fn partition_counts(&self) -> &Arc<BTreeMap<String, u32>> {
        &self.partition_counts
    }

    pub fn tasks(&self) -> impl Iterator<Item = TaskId> + '_ {
        self.subtopologies.iter().flat_map(Partitioned::ids)
    }

    /// The topics the group has to subscribe to, by full name.
    pub fn subscription(&self) -> impl Iterator<Item = &InputTopic> + '_ {
        self.subtopologies.iter().flat_map(|partitioned| &partitioned.inputs)
    }

    /// The internal topics that are still to be created. One that exists with another number of
    /// partitions is an error: its records, or the state behind it, are spread by the old number.
    pub fn missing_topics(&self, existing: &PartitionCounts) -> Result<Vec<&InternalTopic>, TopologyError> {
        let mut missing = Vec::new();
        for topic in &self.internal_topics {
            match existing.get(&topic.name) {
                None => missing.push(topic),
                Some(&found) if found == topic.partitions => {}
                Some(&found) => {
                    let (topic, needed) = (topic.name.clone(), topic.partitions);
                    return Err(TopologyError::InternalTopicPartitions { topic, found, needed });
                }
            }
        }
        Ok(missing)
    }
}

impl Partitioned {
    /// Its tasks.
    pub fn ids(&self) -> impl Iterator<Item = TaskId> + use<> {
        let subtopology = self.subtopology;
        (0..self.tasks).map(move |partition| TaskId { subtopology, partition })
    }
}

/// For each subtopology the topics of its sources, their partitions still unknown.
fn input_topics(plan: &Plan, counts: &PartitionCounts) -> Result<Vec<Vec<InputTopic>>, TopologyError> {
    let own = own_topics(plan);
    let mut matched: HashMap<&str, &str> = HashMap::new();
    let mut all = Vec::new();
    for subtopology in plan.subtopologies() {
        let mut inputs = Vec::new();
        for source in &subtopology.sources {
            let input = |topic: &str| InputTopic {
                name: topic.into(),
                full_name: plan.full_name(topic).into(),
                partitions: 0,
                offset_reset: source.offset_reset,
                extracts_timestamps: source.extracts_timestamps,
                repartition: plan.is_repartition(topic),
            };
            inputs.extend(source.topics.iter().map(|topic| input(topic)));
            let Some(pattern) = pattern_of(source)? else { continue };
            for topic in counts.keys().filter(|topic| pattern.takes_in(topic)) {
                if is_reserved(topic) || own.contains(topic.as_str()) {
                    continue;
                }
                if let Some(first) = matched.insert(topic, &source.name) {
                    let (first, second) = (first.to_owned(), source.name.clone());
                    return Err(TopologyError::TopicMatchedTwice { topic: topic.clone(), first, second });
                }
                inputs.push(input(topic));
            }
        }
        all.push(inputs);
    }
    Ok(all)
}

fn pattern_of(source: &Source) -> Result<Option<Pattern>, TopologyError> {
    let Some(pattern) = &source.pattern else { return Ok(None) };
    Pattern::new(pattern).map(Some).map_err(|problem| TopologyError::Pattern {
        source_name: source.name.clone(),
        pattern: pattern.clone(),
        problem,
    })
}

/// The internal topics, which a pattern as wide as `.*` does not mean.
fn own_topics(plan: &Plan) -> BTreeSet<String> {
    let stores = plan.subtopologies().iter().flat_map(|subtopology| &subtopology.stores);
    let changelogs = stores.filter_map(|store| plan.changelog(store));
    let repartitions = plan.repartitions().iter().map(|repartition| plan.full_name(&repartition.topic).to_owned());
    changelogs.chain(repartitions).collect()
}

/// Equal partition numbers of topics go to the same member only if the topics have as many
/// partitions; state that is fed by others would be split between members.
fn check_aligned(subtopology: &Subtopology, inputs: &[InputTopic]) -> Result<(), TopologyError> {
    let (Some(store), Some(first)) = (subtopology.stores.first(), inputs.first()) else { return Ok(()) };
    match inputs.iter().find(|input| input.partitions != first.partitions) {
        None => Ok(()),
        Some(second) => Err(TopologyError::Unaligned {
            subtopology: subtopology.id,
            store: store.name.clone(),
            first: first.full_name.to_string(),
            first_count: first.partitions,
            second: second.full_name.to_string(),
            second_count: second.partitions,
        }),
    }
}

fn internal_topics(plan: &Plan, subtopologies: &[Partitioned], repartitions: &Repartitions) -> Vec<InternalTopic> {
    let found = plan.repartitions().iter().filter_map(|repartition| {
        let partitions = repartitions.of(&repartition.topic)?;
        Some(InternalTopic::repartition(plan.full_name(&repartition.topic).to_owned(), partitions))
    });
    let mut topics: Vec<InternalTopic> = found.collect();
    for (subtopology, partitioned) in plan.subtopologies().iter().zip(subtopologies) {
        // A pattern that matches nothing yet has no tasks, and a topic needs a partition.
        for store in subtopology.stores.iter().filter(|_| partitioned.tasks > 0) {
            if let Some(changelog) = plan.changelog(store) {
                topics.push(InternalTopic::changelog(changelog, partitioned.tasks, store));
            }
        }
    }
    topics
}

fn counts_by_graph_name(
    plan: &Plan,
    repartitions: &Repartitions,
    subtopologies: &[Partitioned],
    counts: &PartitionCounts,
) -> BTreeMap<String, u32> {
    let read = subtopologies.iter().flat_map(|partitioned| &partitioned.inputs).map(|input| &*input.name);
    let sinks = plan.subtopologies().iter().flat_map(|subtopology| &subtopology.sinks);
    let globals = plan.global_stores().iter().map(|global| global.filled.topic.as_str());
    let topics = read.chain(sinks.filter_map(|sink| sink.topic.as_deref())).chain(globals);
    topics.filter_map(|topic| Some((topic.to_owned(), repartitions.count(plan, topic, counts)?))).collect()
}
