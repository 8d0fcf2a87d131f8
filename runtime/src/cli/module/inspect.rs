//! `millrace module inspect`: what a component is, also one that this millrace refuses.

use std::fmt::Write as _;
use std::path::Path;

use anyhow::Context;

use crate::app::{Application, bytes};
use crate::cli::describe::without_file;
use crate::cli::{LogArgs, print};
use crate::guest::{CONTRACT, Inspection};

pub(super) fn run(log: &LogArgs, file: &Path) -> anyhow::Result<()> {
    let config = without_file(log, file)?;
    let component = super::read(file)?;
    let inspection = Inspection::of(&component).with_context(|| format!("inspect {}", file.display()))?;
    print(&report(file, component.len() as u64, &inspection))?;
    // Why it is refused is told last, after what it is.
    let application = Application::of(&component, &file.display().to_string(), &config, None)?;
    print(&format!("\n{}", application.plan().describe()))
}

fn report(file: &Path, size: u64, inspection: &Inspection) -> String {
    let contracts = inspection.contracts();
    let contract = if contracts.is_empty() { "none".to_owned() } else { contracts.join(", ") };
    let mut text = format!("module     {}\n", file.display());
    let _ = writeln!(text, "size       {}", bytes(size));
    let _ = writeln!(text, "digest     {}", inspection.digest);
    let _ = writeln!(text, "contract   millrace:streams {contract} (this millrace has {CONTRACT})");
    for (title, names) in [("exports", &inspection.exports), ("imports", &inspection.imports)] {
        for (index, name) in names.iter().enumerate() {
            let _ = writeln!(text, "{:10} {name}", if index == 0 { title } else { "" });
        }
    }
    text
}
