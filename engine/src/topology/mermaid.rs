//! Owns the drawing of a plan in Mermaid's language, which Markdown viewers show as a picture.

use std::fmt::{self, Write};

use super::diagram::{Diagram, Item, Shape};
use super::plan::Plan;

impl Plan {
    /// For a code block of language `mermaid`.
    #[must_use]
    pub fn mermaid(&self) -> String {
        let mut text = String::new();
        // Writing to a string can't fail.
        let _ = write(&mut text, &Diagram::of(self));
        text
    }
}

fn write(out: &mut String, diagram: &Diagram) -> fmt::Result {
    writeln!(out, "flowchart TB")?;
    for topic in &diagram.topics {
        writeln!(out, "  {}", item(topic))?;
    }
    for cluster in &diagram.clusters {
        writeln!(out, "  subgraph c{}[{}]", cluster.id, quote(&[cluster.title.as_str()]))?;
        for node in &cluster.items {
            writeln!(out, "    {}", item(node))?;
        }
        writeln!(out, "  end")?;
    }
    for edge in &diagram.edges {
        writeln!(out, "  {} {} {}", edge.from, if edge.state { "-.-" } else { "-->" }, edge.to)?;
    }
    out.write_str(
        "  classDef topic fill:#ddf4ff,stroke:#57606a,color:#24292f\n  \
         classDef internal fill:#ddf4ff,stroke:#57606a,color:#24292f,stroke-dasharray:4 3\n  \
         classDef edge fill:#dafbe1,stroke:#57606a,color:#24292f\n  \
         classDef node fill:#ffffff,stroke:#57606a,color:#24292f\n  \
         classDef store fill:#fff8c5,stroke:#57606a,color:#24292f\n",
    )
}

fn item(item: &Item) -> String {
    let (open, close, class) = match item.shape {
        Shape::Topic => ("[[", "]]", "topic"),
        Shape::Internal | Shape::Unnamed => ("[[", "]]", "internal"),
        Shape::Source | Shape::Sink => ("(", ")", "edge"),
        Shape::Processor => ("(", ")", "node"),
        Shape::Store => ("[(", ")]", "store"),
    };
    format!("{}{open}{}{close}:::{class}", item.id, quote(&item.lines))
}

/// Entities for what Mermaid or the HTML it makes would read as its own.
fn quote<T: AsRef<str>>(lines: &[T]) -> String {
    let mut text = String::from("\"");
    for (index, line) in lines.iter().enumerate() {
        if index > 0 {
            text.push_str("<br/>");
        }
        for c in line.as_ref().chars() {
            match c {
                '"' | '#' | '<' | '>' | '&' | '`' | ';' | '\\' => {
                    text.push_str(&format!("#{};", u32::from(c)));
                }
                '\n' => text.push_str("<br/>"),
                c => text.push(c),
            }
        }
    }
    text + "\""
}
