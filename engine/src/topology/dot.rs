//! Owns the drawing of a plan in Graphviz' language.

use std::fmt::{self, Write};

use super::diagram::{Diagram, Item, Shape};
use super::plan::Plan;

impl Plan {
    /// For `dot -Tsvg`.
    #[must_use]
    pub fn dot(&self) -> String {
        let mut text = String::new();
        // Writing to a string can't fail.
        let _ = write(&mut text, self.application_id(), &Diagram::of(self));
        text
    }
}

fn write(out: &mut String, title: &str, diagram: &Diagram) -> fmt::Result {
    writeln!(out, "digraph {} {{", quote(title))?;
    out.write_str(
        "  graph [rankdir=TB, fontname=\"Helvetica\", fontsize=12, nodesep=0.35, ranksep=0.45, compound=true]\n  \
         node [fontname=\"Helvetica\", fontsize=11, shape=box, style=\"rounded,filled\", color=\"#57606a\", \
         fillcolor=\"#ffffff\", margin=\"0.15,0.08\"]\n  \
         edge [color=\"#57606a\", arrowsize=0.7]\n",
    )?;
    for topic in &diagram.topics {
        writeln!(out, "  {}", item(topic))?;
    }
    for cluster in &diagram.clusters {
        writeln!(out, "  subgraph cluster_{} {{", cluster.id)?;
        writeln!(
            out,
            "    label={}; labeljust=l; style=\"rounded,filled\"; color=\"#d0d7de\"; fillcolor=\"#f6f8fa\"",
            quote(&cluster.title)
        )?;
        for node in &cluster.items {
            writeln!(out, "    {}", item(node))?;
        }
        writeln!(out, "  }}")?;
    }
    for edge in &diagram.edges {
        let style = if edge.state { " [dir=none, style=dashed]" } else { "" };
        writeln!(out, "  {} -> {}{style}", edge.from, edge.to)?;
    }
    writeln!(out, "}}")
}

fn item(item: &Item) -> String {
    let look = match item.shape {
        Shape::Topic => ", shape=cds, style=filled, fillcolor=\"#ddf4ff\"",
        Shape::Internal => ", shape=cds, style=\"filled,dashed\", fillcolor=\"#ddf4ff\"",
        Shape::Unnamed => ", shape=cds, style=\"filled,dotted\", fillcolor=\"#ddf4ff\"",
        Shape::Source | Shape::Sink => ", fillcolor=\"#dafbe1\"",
        Shape::Processor => "",
        Shape::Store => ", shape=cylinder, style=filled, fillcolor=\"#fff8c5\"",
    };
    format!("{} [label={}{look}]", item.id, quote(&item.lines.join("\n")))
}

fn quote(text: &str) -> String {
    format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n"))
}
