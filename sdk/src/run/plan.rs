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
    let Some(nodes) = single_paths(topology, start) else { return false };
    keeps_order(topology, &nodes, &[])
}

/// The nodes from one on, if there is one path only to each.
fn single_paths(topology: &Topology, start: usize) -> Option<HashSet<usize>> {
    let mut nodes = HashSet::new();
    let mut pending = vec![start];
    while let Some(node) = pending.pop() {
        if !nodes.insert(node) {
            return None;
        }
        pending.extend(&topology.nodes[node].children);
    }
    Some(nodes)
}

/// Whether each store and topic, and the user, get the same from these nodes in whatever order those work. Some of them
/// share stores with each other all the same.
fn keeps_order(topology: &Topology, nodes: &HashSet<usize>, sharing: &[usize]) -> bool {
    let mut stores: HashSet<&String> = sharing.iter().flat_map(|&node| &topology.nodes[node].stores).collect();
    let mut topics = HashSet::new();
    let (mut effects, mut sinks, mut any_topic) = (0, 0, false);
    for &position in nodes {
        let node = &topology.nodes[position];
        if !sharing.contains(&position) && !node.stores.iter().all(|store| stores.insert(store)) {
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
    }
    effects <= 1 && !(any_topic && sinks > 1)
}

/// A join of two sources whose records may meet there many at a time, although they take turns.
pub(crate) struct Junction {
    pub(crate) sources: [usize; 2],
    /// The nodes before the join.
    pub(crate) retains: [usize; 2],
    pub(crate) joins: [usize; 2],
    pub(crate) span_ms: i64,
}

/// All such joins. There is one where each source alone may start batches, both meet in no other node than below the join, and
/// nothing on the way there keeps anything; and, as above, where nobody could tell it from one by one.
pub(crate) fn junctions(topology: &Topology) -> Vec<Junction> {
    let retaining = |node: usize| match &topology.nodes[node].kind {
        Kind::Inner { logic, .. } => logic.as_retaining(),
        _ => None,
    };
    let mut found: Vec<Junction> = Vec::new();
    for first in 0..topology.nodes.len() {
        let Some(join) = retaining(first) else { continue };
        let others = first + 1..topology.nodes.len();
        let mut second = others.filter(|&node| retaining(node).is_some_and(|other| other.join() == join.join()));
        let junction = second.next().and_then(|second| junction(topology, [first, second], join.span_ms()));
        found.extend(junction);
    }
    let alone = |junction: &Junction| {
        let sources = found.iter().flat_map(|other| &other.sources);
        sources.filter(|source| junction.sources.contains(source)).count() == 2
    };
    let alone: Vec<bool> = found.iter().map(alone).collect();
    found.into_iter().zip(alone).filter_map(|(junction, alone)| alone.then_some(junction)).collect()
}

fn junction(topology: &Topology, retains: [usize; 2], span_ms: i64) -> Option<Junction> {
    let [first, second] = retains.map(|retain| only_source(topology, retain));
    let sources = [first?, second?];
    let below = [single_paths(topology, sources[0])?, single_paths(topology, sources[1])?];
    let join_of = |retain: usize| match topology.nodes[retain].children.as_slice() {
        [join] => Some(*join),
        _ => None,
    };
    let joins = [join_of(retains[0])?, join_of(retains[1])?];
    let [merged] = topology.nodes[joins[0]].children.as_slice() else { return None };
    let met = single_paths(topology, *merged)?;
    let all = below[0].union(&below[1]).copied().collect();
    let sharing = [retains, joins].concat();
    let fits = below[0].intersection(&below[1]).all(|node| met.contains(node)) && keeps_order(topology, &all, &sharing);
    fits.then_some(Junction { sources, retains, joins, span_ms })
}

/// The source that all records of a node come from, if nothing on the way keeps anything or can be seen.
fn only_source(topology: &Topology, node: usize) -> Option<usize> {
    let [parent] = topology.nodes[node].parents.as_slice() else { return None };
    match &topology.nodes[*parent].kind {
        Kind::Source { .. } => Some(*parent),
        Kind::Inner { logic, .. } if topology.nodes[*parent].stores.is_empty() && !logic.has_effects() => {
            only_source(topology, *parent)
        }
        _ => None,
    }
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
