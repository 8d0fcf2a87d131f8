//! Good graphs, and what follows from them.

use crate::record::TaskId;
use crate::topology::sample::{counts, word_count};
use crate::topology::{InternalTopic, Partitioning, Plan, Purpose, Topology};

fn plan(graph: Topology) -> Plan {
    Plan::new("app", graph).unwrap()
}

/// One line per subtopology: its number, nodes and stores; global stores in square brackets.
fn groups(graph: Topology) -> Vec<String> {
    let plan = plan(graph);
    let mut lines: Vec<(u32, String)> = Vec::new();
    for subtopology in plan.subtopologies() {
        let nodes = (subtopology.sources.iter().map(|node| node.name.clone()))
            .chain(subtopology.processors.iter().map(|node| node.name.clone()))
            .chain(subtopology.sinks.iter().map(|node| node.name.clone()))
            .chain(subtopology.stores.iter().map(|store| format!("({})", store.name)));
        lines.push((subtopology.id, nodes.collect::<Vec<_>>().join(" ")));
    }
    lines.extend(plan.global_stores().iter().map(|global| (global.id, format!("[{}]", global.store.name))));
    lines.sort();
    lines.into_iter().map(|(id, line)| format!("{id}: {line}")).collect()
}

/// The internal topics as `name:partitions`, or the error.
fn topics(graph: Topology, existing: &[(&str, u32)]) -> String {
    match Partitioning::new(&plan(graph), &counts(existing)) {
        Ok(partitioning) => {
            let short =
                |topic: &InternalTopic| format!("{}:{}", topic.name.trim_start_matches("app-"), topic.partitions);
            partitioning.internal_topics().iter().map(short).collect::<Vec<_>>().join(" ")
        }
        Err(error) => error.to_string(),
    }
}

#[test]
fn the_reference_topology_has_one_subtopology_and_one_changelog() {
    let plan = Plan::new("counts-app", word_count()).unwrap();
    assert_eq!(plan.subtopologies().len(), 1);
    let partitioning = Partitioning::new(&plan, &counts(&[("input-topic", 4), ("counts-topic", 2)])).unwrap();
    let tasks: Vec<String> = partitioning.tasks().map(|task| task.to_string()).collect();
    assert_eq!(tasks, ["0_0", "0_1", "0_2", "0_3"]);
    let [changelog] = partitioning.internal_topics() else { panic!("one internal topic") };
    assert_eq!(changelog.name, "counts-app-count-store-changelog");
    assert_eq!(changelog.partitions, 4);
    assert_eq!(changelog.configs["cleanup.policy"], "compact");
    assert_eq!(changelog.purpose, Purpose::Changelog("count-store".into()));
    let subscription: Vec<&str> = partitioning.subscription().map(|input| &*input.full_name).collect();
    assert_eq!(subscription, ["input-topic"]);
}

#[test]
fn subtopologies_are_numbered_by_their_first_source() {
    let graph = Topology::default()
        .source("S1", "a")
        .source("S2", "b")
        .source("S3", "c")
        .processor("P3", "S3", "")
        .processor("P2", "S2", "")
        .processor("P1", "S1 S3", "")
        .sink("K", "P2", "out");
    assert_eq!(groups(graph), ["0: S1 S3 P3 P1", "1: S2 P2 K"]);
}

#[test]
fn a_shared_store_connects() {
    let graph = Topology::default()
        .source("S1", "a")
        .source("S2", "b")
        .source("S3", "c")
        .processor("P1", "S1", "x")
        .processor("P2", "S2", "")
        .processor("P3", "S3", "x y")
        .store("y")
        .store("x");
    assert_eq!(groups(graph), ["0: S1 S3 P1 P3 (y) (x)", "1: S2 P2"]);
}

#[test]
fn a_global_store_takes_a_number_where_it_was_declared() {
    let graph = Topology::default()
        .global("g1", "GS1", "ga", "GP1")
        .source("S1", "a")
        .global("g2", "GS2", "gb", "GP2")
        .source("S2", "b")
        .store("g1")
        .store("g2");
    assert_eq!(groups(graph), ["0: [g1]", "1: S1", "2: [g2]", "3: S2"]);
}

#[test]
fn parents_may_be_declared_after_their_children() {
    let graph = Topology::default().processor("B", "A", "").processor("A", "S", "").source("S", "a");
    assert_eq!(groups(graph), ["0: S B A"]);
}

/// `a` is regrouped into `r`, which is regrouped into `q`, and counted.
fn chain() -> Topology {
    Topology::default()
        .source("Sq", "q-repartition")
        .source("Sr", "r-repartition")
        .source("Sa", "a b")
        .sink("Ka", "Sa", "r-repartition")
        .sink("Kr", "Sr", "q-repartition")
        .processor("Count", "Sq", "n")
        .store("n")
        .repartition("q-repartition", None)
        .repartition("r-repartition", None)
}

#[test]
fn a_repartition_topic_has_the_most_partitions_of_what_feeds_it() {
    let found = topics(chain(), &[("a", 3), ("b", 5)]);
    assert_eq!(found, "q-repartition:5 r-repartition:5 n-changelog:5");
}

#[test]
fn a_declared_count_is_kept_and_passed_on() {
    let mut graph = chain();
    graph.repartitions[1].partitions = Some(7);
    assert_eq!(topics(graph, &[("a", 3), ("b", 5)]), "q-repartition:7 r-repartition:7 n-changelog:7");
}

#[test]
fn repartition_topics_that_feed_each_other_take_what_is_known() {
    let mut graph = chain();
    graph = graph.sink("Back", "Count", "r-repartition");
    assert_eq!(topics(graph, &[("a", 3), ("b", 5)]), "q-repartition:5 r-repartition:5 n-changelog:5");
}

/// `a` and `b` joined; `b` through a repartition topic.
fn join(declared: Option<u32>) -> Topology {
    Topology::default()
        .source("Sa", "a")
        .source("Sb", "b")
        .sink("Kb", "Sb", "b-repartition")
        .source("Sr", "b-repartition")
        .processor("This", "Sa", "w1 w2")
        .processor("Other", "Sr", "w1 w2")
        .window_store("w1", 10, 20)
        .window_store("w2", 10, 20)
        .repartition("b-repartition", declared)
        .copartitioned("a b-repartition")
}

#[test]
fn a_repartition_topic_follows_the_topic_it_is_joined_with() {
    assert_eq!(topics(join(None), &[("a", 3), ("b", 5)]), "b-repartition:3 w1-changelog:3 w2-changelog:3");
    assert_eq!(topics(join(Some(3)), &[("a", 3), ("b", 5)]), "b-repartition:3 w1-changelog:3 w2-changelog:3");
    let error = topics(join(Some(4)), &[("a", 3), ("b", 5)]);
    assert_eq!(
        error,
        "topics a (3 partitions) and app-b-repartition (4) are joined and must have as many partitions: \
         repartition one of them"
    );
}

#[test]
fn joined_repartition_topics_take_the_largest_or_the_declared() {
    let graph = |a, b| {
        Topology::default()
            .source("Sa", "a")
            .source("Sb", "b")
            .sink("Ka", "Sa", "a-repartition")
            .sink("Kb", "Sb", "b-repartition")
            .source("Ra", "a-repartition")
            .source("Rb", "b-repartition")
            .processor("Join", "Ra Rb", "w")
            .store("w")
            .repartition("a-repartition", a)
            .repartition("b-repartition", b)
            .copartitioned("a-repartition")
            .copartitioned("b-repartition a-repartition")
    };
    let existing = [("a", 3), ("b", 5)];
    assert_eq!(topics(graph(None, None), &existing), "a-repartition:5 b-repartition:5 w-changelog:5");
    assert_eq!(topics(graph(Some(2), None), &existing), "a-repartition:2 b-repartition:2 w-changelog:2");
    assert!(topics(graph(Some(2), Some(4)), &existing).contains("are joined"));
}

#[test]
fn joined_source_topics_must_agree() {
    let graph =
        Topology::default().source("Sa", "a").source("Sb", "b").processor("Join", "Sa Sb", "").copartitioned("a b");
    let error = topics(graph, &[("a", 4), ("b", 2)]);
    assert!(error.contains("a (4 partitions) and b (2)"), "{error}");
}

#[test]
fn state_needs_inputs_of_equal_partitions_but_merging_alone_does_not() {
    let merged = Topology::default().source("Sa", "a").source("Sb", "b").processor("Merge", "Sa Sb", "");
    let plan = plan(merged.clone());
    let partitioning = Partitioning::new(&plan, &counts(&[("a", 1), ("b", 3)])).unwrap();
    assert_eq!(partitioning.subtopologies()[0].tasks, 3);
    let error = topics(merged.processor("Count", "Merge", "n").store("n"), &[("a", 1), ("b", 3)]);
    assert_eq!(
        error,
        "subtopology 0 keeps state in n and reads a (1 partitions) and b (3): the same key would be counted in two \
         places; give both as many partitions, or repartition one"
    );
}

#[test]
fn missing_topics_are_all_named() {
    let graph = || Topology::default().source("S", "a b c").global("g", "GS", "d", "GP").store("g");
    assert_eq!(
        topics(graph(), &[("b", 1), ("c", 0)]),
        "these source topics don't exist: a, c, d; create them, then start again"
    );
    assert_eq!(topics(graph(), &[("a", 1), ("b", 1), ("c", 1), ("d", 9)]), "");
}

#[test]
fn a_pattern_takes_in_what_exists_but_not_the_applications_own_topics() {
    let graph = Topology::default().pattern("S", ".*").processor("P", "S", "n").store("n");
    let plan = plan(graph.clone());
    let existing = counts(&[("b", 2), ("a", 2), ("__consumer_offsets", 50), ("app-n-changelog", 2)]);
    let partitioning = Partitioning::new(&plan, &existing).unwrap();
    let inputs: Vec<&str> = partitioning.subscription().map(|input| &*input.name).collect();
    assert_eq!(inputs, ["a", "b"]);
    assert_eq!(topics(graph, &[]), "");
}

#[test]
fn a_topic_of_two_patterns_is_refused() {
    let graph = Topology::default().pattern("S", "a.*").pattern("T", ".*b");
    assert_eq!(topics(graph.clone(), &[("ax", 1), ("xb", 1)]), "");
    let error = topics(graph, &[("aab", 1)]);
    assert_eq!(error, "topic aab matches the patterns of S and of T: narrow one of them");
}

#[test]
fn a_repartition_topic_behind_a_pattern_without_topics_is_refused() {
    let graph = Topology::default()
        .pattern("S", "x.*")
        .sink("K", "S", "r-repartition")
        .source("R", "r-repartition")
        .repartition("r-repartition", None);
    assert!(topics(graph.clone(), &[]).starts_with("nothing says how many partitions app-r-repartition should have"));
    assert_eq!(topics(graph, &[("x", 2)]), "r-repartition:2");
}

#[test]
fn internal_topics_are_created_once_and_checked_after() {
    let partitioning = Partitioning::new(&plan(chain()), &counts(&[("a", 3), ("b", 3)])).unwrap();
    let missing = |existing: &[(&str, u32)]| {
        let missing = partitioning.missing_topics(&counts(existing))?;
        Ok::<_, crate::topology::TopologyError>(missing.into_iter().map(|t| t.name.clone()).collect::<Vec<_>>())
    };
    assert_eq!(missing(&[]).unwrap(), ["app-q-repartition", "app-r-repartition", "app-n-changelog"]);
    assert_eq!(missing(&[("app-q-repartition", 3), ("app-r-repartition", 3)]).unwrap(), ["app-n-changelog"]);
    let error = missing(&[("app-n-changelog", 4)]).unwrap_err().to_string();
    assert!(error.starts_with("internal topic app-n-changelog exists with 4 partitions, but needs 3:"), "{error}");
}

#[test]
fn unlogged_and_global_stores_have_no_changelog() {
    let mut graph = Topology::default()
        .source("S", "a")
        .processor("P", "S", "kept lost")
        .store("kept")
        .store("lost")
        .store("g")
        .global("g", "GS", "b", "GP");
    graph.stores[1].logged = false;
    assert_eq!(topics(graph, &[("a", 2), ("b", 3)]), "kept-changelog:2");
}

#[test]
fn topics_have_their_full_names() {
    let plan = plan(chain());
    assert_eq!(plan.full_name("r-repartition"), "app-r-repartition");
    assert_eq!(plan.full_name("a"), "a");
    assert_eq!(plan.external_topics().into_iter().collect::<Vec<_>>(), ["a", "b"]);
}

#[test]
fn a_task_is_told_its_part_of_the_graph() {
    let mut graph = join(None).sink("K", "This", "out").dynamic_sink("D", "Other");
    graph.stores[0].cached = true;
    graph.stores[1].logged = false;
    graph.sources[0].extracts_timestamps = true;
    let plan = plan(graph);
    let partitioning = Partitioning::new(&plan, &counts(&[("a", 3), ("b", 5), ("out", 7), ("other", 1)])).unwrap();
    let id = |subtopology, partition| TaskId { subtopology, partition };
    let spec = partitioning.task_spec(&plan, id(0, 2), &[0, 1], true).unwrap();
    assert_eq!((spec.id, spec.application_id.as_str(), spec.caching), (id(0, 2), "app", true));
    let inputs = spec.inputs.iter().map(|input| (input.name.as_str(), &*input.topic, input.extracts_timestamps));
    assert_eq!(inputs.collect::<Vec<_>>(), [("a", "a", true), ("b-repartition", "app-b-repartition", false)]);
    let stores = spec.stores.iter().map(|s| (s.name.as_str(), s.cached, s.persistent, s.changelog.as_deref()));
    assert_eq!(stores.collect::<Vec<_>>(), [("w1", true, true, Some("app-w1-changelog")), ("w2", false, true, None)]);
    assert_eq!(spec.outputs.iter().map(|(name, full)| (name.as_str(), &**full)).collect::<Vec<_>>(), [("out", "out")]);
    assert!(spec.dynamic_sinks);
    assert_eq!(*spec.partition_counts, counts(&[("a", 3), ("b", 5), ("b-repartition", 3), ("out", 7)]));
    let spec = partitioning.task_spec(&plan, id(1, 4), &[0], false).unwrap();
    assert_eq!(&*spec.outputs["b-repartition"], "app-b-repartition");
    assert!(!spec.dynamic_sinks && !spec.caching);
    for (nobody, inputs) in [(id(0, 3), vec![]), (id(1, 5), vec![0]), (id(2, 0), vec![]), (id(0, 0), vec![2])] {
        assert_eq!(partitioning.task_spec(&plan, nobody, &inputs, true), None);
    }
}

#[test]
fn of_repartition_topics_in_a_circle_all_get_the_largest() {
    let graph = |first: &str, second: &str| {
        Topology::default()
            .source("One", &format!("{first} x-repartition"))
            .sink("ToY", "One", "y-repartition")
            .source("Two", &format!("{second} y-repartition"))
            .sink("ToX", "Two", "x-repartition")
            .repartition("x-repartition", None)
            .repartition("y-repartition", None)
    };
    let existing = [("a", 2), ("b", 5)];
    assert_eq!(topics(graph("a", "b"), &existing), "x-repartition:5 y-repartition:5");
    assert_eq!(topics(graph("b", "a"), &existing), "x-repartition:5 y-repartition:5");
}
