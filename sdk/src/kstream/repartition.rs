//! Owns the detour through a repartition topic: its name, the three nodes it takes and theirs. Must
//! not know what needs it.

use std::sync::Arc;

use crate::graph::{SharedGraph, resolve};
use crate::logic::{Destination, Filter, Produce, RecordSource};
use crate::options::{Partitioner, Serdes};
use crate::rows::{Data, Rows};
use crate::topology::{Kind, Shape, Topology};

/// What is wanted of a repartition topic.
pub(crate) struct Repartition<K, V> {
    /// The topic's name without `-repartition`.
    pub(crate) prefix: String,
    pub(crate) serdes: Serdes<K, V>,
    pub(crate) partitioner: Option<Partitioner<K, V>>,
    pub(crate) partitions: Option<u32>,
}

/// The node that brings the records back, and what adds it to the topology.
pub(crate) struct RepartitionNode {
    pub(crate) source: String,
    pub(crate) write: Box<dyn FnOnce(&mut Topology, &[String]) -> Result<(), String>>,
}

/// Names the nodes of a repartition topic. Generated names are taken off the counter whether they
/// are used or not.
pub(crate) fn repartition_source<K: Data, V: Data>(graph: &SharedGraph, wanted: Repartition<K, V>) -> RepartitionNode {
    let Repartition { prefix, serdes, partitioner, partitions } = wanted;
    let topic = if prefix.ends_with("-repartition") { prefix.clone() } else { format!("{prefix}-repartition") };
    let generated = {
        let mut graph = graph.borrow_mut();
        ["KSTREAM-SINK-", "KSTREAM-FILTER-", "KSTREAM-SOURCE-"].map(|prefix| graph.generate(prefix))
    };
    let [sink, filter, source] = if is_generated(&prefix) {
        generated
    } else {
        ["-sink", "-filter", "-source"].map(|suffix| format!("{topic}{suffix}"))
    };
    let (keys, values) = resolve(graph, &source, &serdes);
    let name = source.clone();
    let write = Box::new(move |topology: &mut Topology, parents: &[String]| {
        let shape = Shape::of::<Rows<K, V>>();
        topology.insert_repartition(&topic, partitions);
        let logic = Arc::new(Filter::new(true, |key: Option<&K>, _: Option<&V>| key.is_some()));
        topology.insert_below(&filter, Kind::Inner { logic }, shape, Some(shape), parents)?;
        let logic = Arc::new(Produce {
            destination: Destination::Topic(topic.clone()),
            keys: Arc::clone(&keys),
            values: Arc::clone(&values),
            partitioner,
        });
        topology.insert_below(&sink, Kind::Sink { logic, topic: Some(topic.clone()) }, shape, None, &[filter])?;
        let logic = Arc::new(RecordSource { keys, values, extractor: None });
        let kind = Kind::Source { logic, topics: vec![topic], pattern: None, reset: None };
        topology.insert_source(&name, kind, shape)
    });
    RepartitionNode { source, write }
}

/// Whether a name is `KSTREAM…-` and ten digits.
fn is_generated(prefix: &str) -> bool {
    prefix
        .strip_prefix("KSTREAM")
        .and_then(|rest| rest.rsplit_once('-'))
        .is_some_and(|(_, number)| number.len() == 10 && number.bytes().all(|byte| byte.is_ascii_digit()))
}
