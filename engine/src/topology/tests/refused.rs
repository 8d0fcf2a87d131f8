//! Bad graphs, and what they are told.

use crate::topology::sample::word_count;
use crate::topology::{Layout, Plan, Topology};

fn check(graph: Topology, expected: &str) {
    let error = Plan::new("app", graph).unwrap_err().to_string();
    assert_eq!(error, expected);
}

/// A source of topic `a`.
fn start() -> Topology {
    Topology::default().source("S", "a")
}

#[test]
fn names() {
    let refused = |id: &str| Plan::new(id, word_count()).unwrap_err().to_string();
    assert_eq!(refused(""), "application id \"\" is empty: give it a name");
    assert_eq!(
        refused("my app"),
        "application id \"my app\" has the character ' ': use ASCII letters, digits, '.', '_' and '-'"
    );
    assert!(refused(&"x".repeat(240)).contains("is longer than 249 characters"));
    check(Topology::default(), "the topology reads nothing: declare a source or a global store");
    check(start().source("", "b"), "node \"\" is empty: give it a name");
    check(start().sink("K", "S", "no/slash"), {
        "topic \"no/slash\" has the character '/': use ASCII letters, digits, '.', '_' and '-'"
    });
    check(start().processor("P", "S", "..").store(".."), "store \"..\" is nothing but dots: give it a name");
    check(start().source("S", "b"), "two nodes are called S: give each node a name of its own");
    check(
        start().processor("P", "S", "x").store("x").store("x"),
        "two stores are called x: declare a store once and name it in every processor that uses it",
    );
}

#[test]
fn sources() {
    check(start().source("T", ""), "source T reads nothing: give it topics or a pattern");
    let mut both = start();
    both.sources[0].pattern = Some("b".into());
    check(both, "source S has both topics and a pattern: use two sources, and merge them");
    let twice = "topic a is read by S and by T: read it once and use that source twice";
    check(start().source("T", "b a"), twice);
    check(start().global("g", "T", "a", "P").store("g"), twice);
    check(
        Topology::default().source("S", "a a"),
        "topic a is read by S and by S: read it once and use that source twice",
    );
    check(
        start().pattern("T", "[ab]"),
        "pattern \"[ab]\" of source T takes in topic a, which S reads: narrow the pattern",
    );
    let error = Plan::new("app", start().pattern("T", "b(")).unwrap_err().to_string();
    assert!(error.starts_with("source T has a pattern the host can't use, \"b(\": "), "{error}");
    let mut reads_own = word_count();
    reads_own.sources[0].topics.push("app-count-store-changelog".into());
    check(
        reads_own,
        "source KSTREAM-SOURCE-0000000000 reads app-count-store-changelog, an internal topic of this application: \
         read it under its name in the graph",
    );
    check(
        start().sink("K", "S", "__consumer_offsets"),
        "sink K writes to __consumer_offsets, which Kafka keeps for itself: choose another topic",
    );
}

#[test]
fn parents() {
    check(start().processor("P", "", ""), "P has no parents, so no record ever gets there: name its parents");
    check(start().sink("K", "", "b"), "K has no parents, so no record ever gets there: name its parents");
    check(start().processor("P", "Q", ""), "P has parent Q, which is no node of the topology: check the spelling");
    check(start().processor("P", "S S", ""), "P names its parent S twice: name it once");
    check(
        start().sink("K", "S", "b").processor("P", "K", ""),
        "P has the sink K as parent, but sinks hand on nothing: use the sink's own parent",
    );
    check(
        start().global("g", "GS", "b", "GP").store("g").processor("P", "GP", ""),
        "P has parent GP, which fills a global store and hands on nothing: read the topic in another application, or \
         use a table instead",
    );
}

#[test]
fn cycles() {
    let told = |names: &str| {
        format!("the nodes {names} feed one another in a circle: lead the records back through a topic instead")
    };
    check(start().processor("P", "S P", ""), &told("P"));
    check(start().processor("P", "S R", "").processor("Q", "P", "").processor("R", "Q", ""), &told("P, Q, R"));
    let mut long = start().processor("P0", "S P99", "");
    for i in 1..100 {
        long = long.processor(&format!("P{i}"), &format!("P{}", i - 1), "");
    }
    check(long, &told("P0, P1, P2, P3, P4, …"));
}

#[test]
fn stores() {
    check(start().processor("P", "S", "x"), "processor P uses store x, which is not declared: add it to the stores");
    check(start().processor("P", "S", "x x").store("x"), "processor P names store x twice: name it once");
    check(start().store("x"), "store x is used by no processor: name it in one, or drop it");
    check(
        start().global("g", "GS", "b", "GP"),
        "the global store of GP is g, which is not declared: add it to the stores",
    );
    check(
        start().global("g", "GS", "b", "GP").global("g", "GS2", "c", "GP2").store("g"),
        "store g is filled by two global processors: give each a store of its own",
    );
    check(
        start().global("g", "GS", "b", "GP").store("g").processor("P", "S", "g"),
        "processor P names the global store g: every processor can read it, don't connect it",
    );
    let with = |layout| {
        let mut graph = word_count();
        graph.stores[0].layout = layout;
        graph
    };
    check(with(Layout::Session(-1)), "store count-store keeps entries for -1 ms: make the retention 0 or more");
    check(
        with(Layout::Versioned(i64::MIN)),
        "store count-store keeps entries for -9223372036854775808 ms: make the retention 0 or more",
    );
    check(
        start().processor("P", "S", "w").window_store("w", 10, 9),
        "store w keeps windows for 9 ms but they are 10 ms long: make the retention at least their size",
    );
    check(
        start().processor("P", "S", "w").window_store("w", -1, 9),
        "store w has windows of -1 ms: make the size 0 or more",
    );
    let mut unnamed = word_count();
    unnamed.stores[0].changelog_config.push((" ".into(), "1".into()));
    check(unnamed, "store count-store has a changelog setting without a name: name it as Kafka's topic settings are");
}

#[test]
fn repartition_topics() {
    let graph =
        |topic: &str, partitions| start().sink("K", "S", topic).source("R", topic).repartition(topic, partitions);
    Plan::new("app", graph("r-repartition", None)).unwrap();
    Plan::new("app", graph("KTABLE-FK-JOIN-SUBSCRIPTION-REGISTRATION-0000000006-topic", None)).unwrap();
    check(graph("r", None), "repartition topic r has another ending: let its name end in -repartition");
    for count in [0, 10_001, u32::MAX] {
        check(graph("r-repartition", Some(count)), &{
            format!(
                "repartition topic r-repartition is to have {count} partitions: choose 1 to 10000, or none to take \
                 those of its sources"
            )
        });
    }
    check(
        graph("r-repartition", None).repartition("r-repartition", Some(1)),
        "repartition topic r-repartition is declared twice: declare it once",
    );
    check(
        start().source("R", "r-repartition").repartition("r-repartition", None),
        "repartition topic r-repartition is written by no sink: add one, or drop the topic",
    );
    check(
        start().sink("K", "S", "r-repartition").repartition("r-repartition", None),
        "repartition topic r-repartition is read by no source: add one, or drop the topic",
    );
    check(
        start().copartitioned("a z"),
        "topic z is to be co-partitioned, but no source reads it: name topics of the graph's sources",
    );
}

#[test]
fn sizes() {
    let mut many = start();
    for i in 0..5_000 {
        many = many.processor(&format!("P{i}"), "S", "");
    }
    check(many, "the topology declares 5001 nodes, more than 4096: split it into several applications");
    let mut wide = start();
    wide.sources[0].topics = vec!["a".into(); 100_001];
    check(wide, {
        "the topology declares 100001 topics, parents and stores of nodes, more than 100000: split it into several \
         applications"
    });
}

#[test]
fn a_sink_may_write_to_a_topic_its_own_subtopology_reads() {
    Plan::new("app", start().sink("K", "S", "a").dynamic_sink("D", "S")).unwrap();
}
