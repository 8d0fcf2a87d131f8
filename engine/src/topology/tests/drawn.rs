//! Drawings, by example and with names that try to break out of them.

use crate::topology::sample::word_count;
use crate::topology::{Plan, Topology};

#[test]
fn the_reference_topology_as_mermaid() {
    let expected = r#"flowchart TB
  t0[["input-topic"]]:::topic
  t1[["counts-topic"]]:::topic
  subgraph c0["Subtopology 0"]
    n0x0("KSTREAM-SOURCE-0000000000"):::edge
    n0x1("KSTREAM-AGGREGATE-0000000002"):::node
    n0x2("KTABLE-TOSTREAM-0000000006"):::node
    n0x3("KSTREAM-SINK-0000000007"):::edge
    s0x4[("count-store")]:::store
  end
  t0 --> n0x0
  n0x3 --> t1
  n0x0 --> n0x1
  n0x1 --> n0x2
  n0x2 --> n0x3
  n0x1 -.- s0x4
  classDef topic fill:#ddf4ff,stroke:#57606a,color:#24292f
"#;
    let found = Plan::new("counts-app", word_count()).unwrap().mermaid();
    assert!(found.starts_with(expected), "{found}");
}

/// A bit of everything.
fn rich() -> Topology {
    let mut graph = Topology::default()
        .pattern("Any", r#"a"\.*"#)
        .source("In", "in")
        .processor("Weird \"<b>\\", "", "w")
        .processor("Count", "", "n")
        .sink("K", "In", "r-repartition")
        .source("R", "r-repartition")
        .repartition("r-repartition", None)
        .dynamic_sink("D", "Count")
        .window_store("w", 10, 20)
        .store("n")
        .store("g")
        .global("g", "GS", "countries", "GP");
    graph.processors[0].parents = vec!["Any".into()];
    graph.processors[1].parents = vec!["R".into(), "Weird \"<b>\\".into()];
    graph.stores[0].logged = false;
    graph.stores[1].persistent = false;
    graph
}

#[test]
fn dot_has_clusters_topics_and_stores() {
    let dot = Plan::new("app", rich()).unwrap().dot();
    for line in [
        r#"digraph "app" {"#,
        r##"  t0 [label="topics like a\"\\.*", shape=cds, style="filled,dotted", fillcolor="#ddf4ff"]"##,
        r##"  t1 [label="r-repartition", shape=cds, style="filled,dashed", fillcolor="#ddf4ff"]"##,
        r#"  subgraph cluster_0 {"#,
        r#"    n0x2 [label="Weird \"<b>\\"]"#,
        r##"    s0x5 [label="w\nwindows, no changelog", shape=cylinder, style=filled, fillcolor="#fff8c5"]"##,
        r##"    s0x6 [label="n\nin memory", shape=cylinder, style=filled, fillcolor="#fff8c5"]"##,
        r#"  n0x2 -> s0x5 [dir=none, style=dashed]"#,
        r#"  t1 -> n0x1"#,
        r#"  subgraph cluster_2 {"#,
    ] {
        assert!(dot.lines().any(|found| found == line), "no {line} in\n{dot}");
    }
}

#[test]
fn names_cannot_break_out_of_mermaid() {
    let mermaid = Plan::new("app", rich()).unwrap().mermaid();
    assert!(mermaid.contains(r#"    n0x2("Weird #34;#60;b#62;#92;"):::node"#), "{mermaid}");
    assert!(mermaid.contains(r#"    s0x5[("w<br/>windows, no changelog")]:::store"#), "{mermaid}");
}
