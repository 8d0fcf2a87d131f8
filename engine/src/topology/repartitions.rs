//! Owns the search for the partition counts of repartition topics, as Kafka Streams'
//! `RepartitionTopics` and `CopartitionedTopicsEnforcer` find them.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use super::error::TopologyError;
use super::partitioning::{InputTopic, PartitionCounts};
use super::plan::Plan;
use super::union::Union;

/// The partition counts of repartition topics, by their names in the graph, as far as known.
pub(super) struct Repartitions {
    counts: HashMap<String, Option<u32>>,
    declared: HashMap<String, u32>,
}

impl Repartitions {
    pub(super) fn declared(plan: &Plan) -> Self {
        let topics = plan.repartitions().iter();
        Self {
            counts: topics.clone().map(|topic| (topic.topic.clone(), topic.partitions)).collect(),
            declared: topics.filter_map(|topic| Some((topic.topic.clone(), topic.partitions?))).collect(),
        }
    }

    pub(super) fn of(&self, topic: &str) -> Option<u32> {
        self.counts.get(topic).copied().flatten()
    }

    /// Of any topic, under its name in the graph.
    pub(super) fn count(&self, plan: &Plan, topic: &str, counts: &PartitionCounts) -> Option<u32> {
        match self.counts.get(topic) {
            Some(count) => *count,
            None => counts.get(plan.full_name(topic)).copied(),
        }
    }

    /// Each takes the most partitions of any source of the subtopologies that write into it. Those
    /// may be repartition topics too, so this goes on until all are known; where topics feed each
    /// other in a circle, the largest known decides, as whatever else is in it gets at most that.
    pub(super) fn find(
        &mut self,
        plan: &Plan,
        inputs: &[Vec<InputTopic>],
        counts: &PartitionCounts,
    ) -> Result<(), TopologyError> {
        let writers = writers_of(plan);
        loop {
            let most: Vec<Upstream> = inputs.iter().map(|inputs| self.upstream(plan, inputs, counts)).collect();
            let mut progress = false;
            let mut in_a_circle: Option<(&str, u32)> = None;
            let mut unknown: Option<&str> = None;
            for repartition in plan.repartitions() {
                let topic = repartition.topic.as_str();
                if self.of(topic).is_some() {
                    continue;
                }
                let upstream = writers.get(topic).into_iter().flatten().map(|&writer| most[writer]);
                let upstream = upstream.reduce(Upstream::join).unwrap_or_default();
                match (upstream.most, upstream.complete) {
                    (Some(count), true) => {
                        self.counts.insert(topic.to_owned(), Some(count));
                        progress = true;
                    }
                    (Some(count), false) if in_a_circle.is_none_or(|(_, largest)| count > largest) => {
                        in_a_circle = Some((topic, count));
                    }
                    (Some(_), false) => {}
                    (None, _) => unknown = unknown.or(Some(topic)),
                }
            }
            match (progress, in_a_circle, unknown) {
                (true, ..) => {}
                (false, Some((topic, count)), _) => {
                    self.counts.insert(topic.to_owned(), Some(count));
                }
                (false, None, Some(topic)) => {
                    return Err(TopologyError::UnknownPartitions(plan.full_name(topic).to_owned()));
                }
                (false, None, None) => return Ok(()),
            }
        }
    }

    fn upstream(&self, plan: &Plan, inputs: &[InputTopic], counts: &PartitionCounts) -> Upstream {
        let known = inputs.iter().map(|input| self.count(plan, &input.name, counts));
        known.fold(Upstream { most: None, complete: true }, |upstream, count| {
            upstream.join(Upstream { most: count, complete: count.is_some() })
        })
    }

    /// Makes topics that are joined agree: what exists or was declared decides, the others follow;
    /// where all are to be found, the largest decides.
    pub(super) fn copartition(&mut self, plan: &Plan, counts: &PartitionCounts) -> Result<(), TopologyError> {
        for group in copartition_groups(plan) {
            let mut fixed: Option<(&str, u32)> = None;
            let mut largest = None;
            for topic in group.iter().copied() {
                let Some(count) = self.count(plan, topic, counts) else { continue };
                largest = largest.max(Some(count));
                if plan.is_repartition(topic) && !self.declared.contains_key(topic) {
                    continue;
                }
                match fixed {
                    Some((first, first_count)) if first_count != count => {
                        let (first, second) = (plan.full_name(first).to_owned(), plan.full_name(topic).to_owned());
                        return Err(TopologyError::NotCopartitioned {
                            first,
                            first_count,
                            second,
                            second_count: count,
                        });
                    }
                    _ => fixed = Some((topic, count)),
                }
            }
            let agreed = fixed.map(|(_, count)| count).or(largest);
            for topic in group {
                if plan.is_repartition(topic) {
                    self.counts.insert(topic.to_owned(), agreed);
                }
            }
        }
        Ok(())
    }
}

/// The most partitions among topics of which not all may be known.
#[derive(Debug, Clone, Copy, Default)]
struct Upstream {
    most: Option<u32>,
    complete: bool,
}

impl Upstream {
    fn join(self, other: Self) -> Self {
        Self { most: self.most.max(other.most), complete: self.complete && other.complete }
    }
}

/// For each repartition topic the positions of the subtopologies that write into it.
fn writers_of(plan: &Plan) -> HashMap<&str, BTreeSet<usize>> {
    let mut writers: HashMap<&str, BTreeSet<usize>> = HashMap::new();
    for (position, subtopology) in plan.subtopologies().iter().enumerate() {
        for topic in subtopology.sinks.iter().filter_map(|sink| sink.topic.as_deref()) {
            if plan.is_repartition(topic) {
                writers.entry(topic).or_default().insert(position);
            }
        }
    }
    writers
}

/// The declared groups, those with a topic in common made one, in the order of the graph.
fn copartition_groups(plan: &Plan) -> Vec<Vec<&str>> {
    let mut positions: HashMap<&str, usize> = HashMap::new();
    let mut topics: Vec<&str> = Vec::new();
    for topic in plan.copartitioned().iter().flatten() {
        positions.entry(topic).or_insert_with(|| {
            topics.push(topic);
            topics.len() - 1
        });
    }
    let mut union = Union::new(topics.len());
    for group in plan.copartitioned() {
        for pair in group.windows(2) {
            union.unite(positions[pair[0].as_str()], positions[pair[1].as_str()]);
        }
    }
    let mut groups: BTreeMap<usize, Vec<&str>> = BTreeMap::new();
    for (position, topic) in topics.into_iter().enumerate() {
        groups.entry(union.root(position)).or_default().push(topic);
    }
    groups.into_values().collect()
}
