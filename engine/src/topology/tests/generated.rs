//! Graphs by chance: what is derived from good ones is consistent, and no graph makes the planner
//! panic. A failure prints its seed; run the test with that seed alone to repeat it.

use std::collections::{BTreeMap, BTreeSet};

use crate::record::TaskId;
use crate::sim::Random;
use crate::topology::chance::{hostile_graph, random_graph};
use crate::topology::{PartitionCounts, Partitioning, Plan, Purpose, Subtopology, Topology, TopologyError};

const SEEDS: u64 = 3_000;

/// Of a subtopology: each node and whom it gets records from.
fn nodes(subtopology: &Subtopology) -> BTreeMap<&str, &[String]> {
    let sources = subtopology.sources.iter().map(|source| (source.name.as_str(), [].as_slice()));
    let processors = subtopology.processors.iter().map(|node| (node.name.as_str(), node.parents.as_slice()));
    let sinks = subtopology.sinks.iter().map(|sink| (sink.name.as_str(), sink.parents.as_slice()));
    sources.chain(processors).chain(sinks).collect()
}

fn check_plan(graph: &Topology, plan: &Plan) {
    let declared = graph.sources.len() + graph.processors.len() + graph.sinks.len();
    let mut found: BTreeSet<&str> = BTreeSet::new();
    for subtopology in plan.subtopologies() {
        let nodes = nodes(subtopology);
        assert!(!subtopology.sources.is_empty(), "subtopology {} reads nothing", subtopology.id);
        for (&name, parents) in &nodes {
            assert!(found.insert(name), "{name} is in two subtopologies");
            for parent in *parents {
                assert!(nodes.contains_key(parent.as_str()), "{name} and its parent {parent} are apart");
            }
        }
        let stores: BTreeSet<&str> = subtopology.stores.iter().map(|store| store.name.as_str()).collect();
        let used: BTreeSet<&str> = subtopology.processors.iter().flat_map(|p| &p.stores).map(String::as_str).collect();
        assert_eq!(stores, used, "stores of subtopology {}", subtopology.id);
        check_connected(subtopology, &nodes);
    }
    assert_eq!(found.len(), declared, "some node is in no subtopology");
    let stores: usize = plan.subtopologies().iter().map(|subtopology| subtopology.stores.len()).sum();
    assert_eq!(stores + plan.global_stores().len(), graph.stores.len(), "some store is in no or two subtopologies");
    let ids = plan.subtopologies().iter().map(|s| s.id).chain(plan.global_stores().iter().map(|g| g.id));
    let ids: BTreeSet<u32> = ids.collect();
    let count = u32::try_from(plan.subtopologies().len() + plan.global_stores().len()).unwrap();
    assert_eq!(ids, (0..count).collect(), "numbers have gaps");
    assert!(plan.subtopologies().is_sorted_by_key(|subtopology| subtopology.id));
}

/// Everything can be reached from the first source through records and stores.
fn check_connected(subtopology: &Subtopology, nodes: &BTreeMap<&str, &[String]>) {
    let mut reached = BTreeSet::from([subtopology.sources[0].name.as_str()]);
    loop {
        let before = reached.len();
        for (&name, parents) in nodes {
            if parents.iter().any(|parent| reached.contains(parent.as_str())) {
                reached.insert(name);
            }
            if reached.contains(name) {
                reached.extend(parents.iter().map(String::as_str));
            }
        }
        let stores: BTreeSet<&String> = subtopology
            .processors
            .iter()
            .filter(|p| reached.contains(p.name.as_str()))
            .flat_map(|p| &p.stores)
            .collect();
        let users = subtopology.processors.iter().filter(|p| p.stores.iter().any(|store| stores.contains(store)));
        reached.extend(users.map(|processor| processor.name.as_str()));
        if reached.len() == before {
            break;
        }
    }
    assert_eq!(reached.len(), nodes.len(), "subtopology {} is two", subtopology.id);
}

fn check_partitioning(plan: &Plan, partitioning: &Partitioning, existing: &PartitionCounts) {
    let mut names = BTreeSet::new();
    for topic in partitioning.internal_topics() {
        assert!(topic.partitions > 0, "{} has no partitions", topic.name);
        assert!(topic.name.starts_with("app-") && topic.name.len() <= 249, "{}", topic.name);
        assert!(names.insert(&topic.name), "{} is there twice", topic.name);
        assert!(!existing.contains_key(&topic.name), "{} is a source topic", topic.name);
    }
    for (subtopology, partitioned) in plan.subtopologies().iter().zip(partitioning.subtopologies()) {
        assert_eq!(subtopology.id, partitioned.subtopology);
        assert_eq!(partitioned.stateful, !subtopology.stores.is_empty());
        for input in &partitioned.inputs {
            assert!(input.partitions <= partitioned.tasks, "{} has partitions without a task", input.full_name);
            assert!(!partitioned.stateful || input.partitions == partitioned.tasks, "{} is unaligned", input.full_name);
            if !input.repartition {
                assert_eq!(existing[&*input.full_name], input.partitions);
            }
        }
        for store in subtopology.stores.iter().filter(|_| partitioned.tasks > 0) {
            let changelog = partitioning
                .internal_topics()
                .iter()
                .find(|topic| topic.purpose == Purpose::Changelog(store.name.clone()));
            assert_eq!(changelog.map(|topic| topic.partitions), store.logged.then_some(partitioned.tasks));
        }
    }
    if plan.copartitioned().is_empty() {
        check_repartitions(plan, partitioning);
    }
    assert_eq!(partitioning.missing_topics(existing).unwrap().len(), partitioning.internal_topics().len());
}

/// As declared, or the most of any input of those that write it.
fn check_repartitions(plan: &Plan, partitioning: &Partitioning) {
    for repartition in plan.repartitions() {
        let writers = plan.subtopologies().iter().zip(partitioning.subtopologies()).filter(|(subtopology, _)| {
            subtopology.sinks.iter().any(|sink| sink.topic.as_ref() == Some(&repartition.topic))
        });
        let most = writers.map(|(_, partitioned)| partitioned.tasks).max();
        let found = partitioning.partition_counts().get(&repartition.topic).copied();
        assert_eq!(found, repartition.partitions.or(most), "{}", repartition.topic);
    }
}

/// Every partition of every input is read by exactly the task of its number.
fn check_tasks(plan: &Plan, partitioning: &Partitioning) {
    let mut read: BTreeSet<(String, u32)> = BTreeSet::new();
    for id in partitioning.tasks() {
        let partitioned = partitioning.subtopologies().iter().find(|p| p.subtopology == id.subtopology).unwrap();
        let has = |&input: &usize| id.partition < partitioned.inputs[input].partitions;
        let inputs: Vec<usize> = (0..partitioned.inputs.len()).filter(has).collect();
        assert!(!inputs.is_empty(), "{id} reads nothing");
        let spec = partitioning.task_spec(plan, id, &inputs, true).unwrap();
        for input in spec.inputs {
            assert!(read.insert((input.topic.to_string(), id.partition)), "{} is read twice", input.topic);
        }
    }
    let partitions: u32 = partitioning.subscription().map(|input| input.partitions).sum();
    assert_eq!(read.len(), partitions as usize);
    let beyond = TaskId { subtopology: u32::MAX, partition: 0 };
    assert!(partitioning.task_spec(plan, beyond, &[], true).is_none());
}

#[test]
fn what_follows_from_a_good_graph_is_consistent() {
    let mut fitted = 0;
    for seed in 0..SEEDS {
        let (graph, existing) = random_graph(&mut Random::new(seed));
        let repeat = std::panic::catch_unwind(|| {
            let plan = Plan::new("app", graph.clone()).unwrap();
            check_plan(&graph, &plan);
            let Ok(partitioning) = Partitioning::new(&plan, &existing) else { return false };
            check_partitioning(&plan, &partitioning, &existing);
            check_tasks(&plan, &partitioning);
            true
        });
        fitted += u64::from(repeat.unwrap_or_else(|_| panic!("seed {seed}: {graph:#?} {existing:?}")));
    }
    assert!(fitted > SEEDS / 2, "only {fitted} graphs fitted their topics");
}

#[test]
fn no_graph_makes_the_planner_panic() {
    let mut refusals: BTreeSet<String> = BTreeSet::new();
    let mut accepted = 0;
    for seed in 0..SEEDS {
        let (graph, existing) = hostile_graph(&mut Random::new(seed));
        let outcome = std::panic::catch_unwind(|| -> Result<(), TopologyError> {
            let plan = Plan::new("app", graph.clone())?;
            check_plan(&graph, &plan);
            assert!(plan.describe().starts_with("Topologies:\n"));
            assert!(plan.dot().ends_with("}\n"));
            assert!(plan.mermaid().starts_with("flowchart"));
            Partitioning::new(&plan, &existing).map(drop)
        });
        match outcome.unwrap_or_else(|_| panic!("seed {seed}")) {
            Ok(()) => accepted += 1,
            Err(error) => {
                let message = error.to_string();
                assert!(message.len() < 2_000 && !message.contains('\n'), "seed {seed}: {message}");
                let kind = format!("{error:?}").split([' ', '(']).next().unwrap_or_default().to_owned();
                refusals.insert(kind);
            }
        }
    }
    assert!(accepted > SEEDS / 20, "only {accepted} accepted");
    assert!(refusals.len() > 25, "only these refusals were met: {:?}", refusals);
}
