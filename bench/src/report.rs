//! Prints what was measured: a table for people and a line of JSON for programs.

use anyhow::{Context, Result};
use millrace_e2e::counts::Load;
use serde_json::{Value, json};

use crate::run::{Measured, Side};
use crate::scenario::Scenario;

type Figure = (&'static str, fn(&Measured) -> f64);

const FIGURES: &[Figure] = &[
    ("records_per_s", |m| m.records_per_s),
    ("cpu_s_per_million", |m| m.cpu_s_per_million),
    ("peak_rss_mb", |m| m.peak_rss_mb),
    ("start_to_running_s", |m| m.start_to_running_s),
    ("broker_cpu_s", |m| m.broker_cpu_s),
    ("other_cores", |m| m.other_cores),
];

/// Of the figures, those that are a matter of comparison.
const COMPARED: &[(&str, &str)] =
    &[("records_per_s", "records_per_s"), ("cpu", "cpu_s_per_million"), ("rss", "peak_rss_mb")];

struct Spread {
    min: f64,
    median: f64,
    max: f64,
}

fn spread(results: &[(Side, Measured)], side: Side, of: fn(&Measured) -> f64) -> Option<Spread> {
    let mut values: Vec<_> = results.iter().filter(|(of_side, _)| *of_side == side).map(|(_, m)| of(m)).collect();
    values.sort_by(f64::total_cmp);
    Some(Spread { min: *values.first()?, median: *values.get(values.len() / 2)?, max: *values.last()? })
}

pub(crate) fn print(scenario: &Scenario, load: &Load, partitions: i32, results: &[(Side, Measured)]) -> Result<()> {
    println!("\n{}: {}", scenario.name, scenario.about);
    println!(
        "{} records, {} keys, {}-byte values, {partitions} partitions; min / median / max of {} runs, all verified\n",
        load.records,
        load.keys,
        load.value_size,
        results.len() / 2
    );
    println!("| {:<18} | {:^32} | {:^32} | ratio |", "", "Millrace", "Kafka Streams");
    println!("|{:-<20}|{:-<34}|{:-<34}|------:|", "", "", "");
    let (mut ours, mut theirs, mut ratios) = (json!({}), json!({}), json!({}));
    for (name, of) in FIGURES {
        let mine = spread(results, Side::Millrace, *of).context("no run of Millrace")?;
        let other = spread(results, Side::KafkaStreams, *of).context("no run of Kafka Streams")?;
        let ratio = mine.median / other.median;
        println!("| {name:<18} | {:>32} | {:>32} | {ratio:>5.2} |", cell(&mine), cell(&other));
        ours[name] = rounded(mine.median);
        theirs[name] = rounded(other.median);
        if let Some((short, _)) = COMPARED.iter().find(|(_, figure)| figure == name) {
            ratios[short] = rounded(ratio);
        }
    }
    let line = json!({
        "scenario": scenario.name, "records": load.records, "keys": load.keys, "value_size": load.value_size,
        "partitions": partitions, "runs": results.len() / 2, "millrace": ours, "kafka_streams": theirs, "ratio": ratios,
    });
    println!("\n{line}");
    Ok(())
}

fn cell(spread: &Spread) -> String {
    let digits = if spread.max >= 100.0 { 0 } else { 2 };
    format!("{:.digits$} / {:.digits$} / {:.digits$}", spread.min, spread.median, spread.max)
}

fn rounded(value: f64) -> Value {
    json!((value * 1000.0).round() / 1000.0)
}
