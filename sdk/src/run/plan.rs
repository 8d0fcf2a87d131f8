//! Owns the decision where records may go through the graph many at a time: wherever nobody could
//! tell it from one by one. Must not know what the nodes do beyond what they declare.

use std::collections::HashSet;

use crate::topology::{Kind, Topology};

/// Of each node, whether a batch may start there.
///
/// It may if below it every node is reached by one path only, no two nodes share a store or an
/// output topic, and no more than one node has effects a user can see: then each node, store and
/// topic gets the same records in the same order either way.
pub(crate) fn batched(topology: &Topology) -> Vec<bool> {
    (0..topology.nodes.len()).map(|node| separable(topology, node)).collect()
}

fn separable(topology: &Topology, start: usize) -> bool {
    let mut nodes = HashSet::new();
    let mut stores = HashSet::new();
    let mut topics = HashSet::new();
    let (mut effects, mut sinks, mut any_topic) = (0, 0, false);
    let mut pending = vec![start];
    while let Some(position) = pending.pop() {
        let node = &topology.nodes[position];
        if !nodes.insert(position) || !node.stores.iter().all(|store| stores.insert(store)) {
            return false;
        }
        match &node.kind {
            Kind::Source { .. } => {}
            Kind::Inner { logic, .. } => effects += usize::from(logic.has_effects()),
            Kind::Sink { topic, .. } => {
                sinks += 1;
                match topic {
                    Some(topic) if !topics.insert(topic) => return false,
                    Some(_) => {}
                    None => any_topic = true,
                }
            }
        }
        pending.extend(&node.children);
    }
    effects <= 1 && !(any_topic && sinks > 1)
}

/// Of each node, whether it belongs to the subtopology of these sources: connected to them by
/// edges in either direction or by stores.
pub(crate) fn reachable(topology: &Topology, sources: &[usize]) -> Vec<bool> {
    let mut reached = vec![false; topology.nodes.len()];
    let mut pending = sources.to_vec();
    while let Some(position) = pending.pop() {
        if std::mem::replace(&mut reached[position], true) {
            continue;
        }
        let node = &topology.nodes[position];
        pending.extend(node.children.iter().chain(&node.parents));
        let shares = |other: &usize| topology.nodes[*other].stores.iter().any(|store| node.stores.contains(store));
        pending.extend((0..topology.nodes.len()).filter(shares));
    }
    reached
}
