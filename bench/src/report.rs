//! Prints what was measured: a table for people and a line of JSON for programs.

use millrace_e2e::counts::Load;
use serde_json::{Value, json};

use crate::run::Side;
use crate::scenario::Scenario;

/// A column of a table: its name, and where it is in what was measured.
pub(crate) type Figure<M> = (&'static str, fn(&M) -> f64);

/// What is printed of one kind of run.
pub(crate) trait Measurement: Sized + 'static {
    const FIGURES: &[Figure<Self>];
    /// Of the figures, those of which Millrace to Kafka Streams is a ratio worth naming, after the name of the ratio.
    const COMPARED: &[(&str, &str)];
}

struct Spread {
    min: f64,
    median: f64,
    max: f64,
}

fn spread<M>(results: &[(Side, M)], side: Side, of: fn(&M) -> f64) -> Option<Spread> {
    let mut values: Vec<_> = results.iter().filter(|(of_side, _)| *of_side == side).map(|(_, m)| of(m)).collect();
    values.sort_by(f64::total_cmp);
    Some(Spread { min: *values.first()?, median: *values.get(values.len() / 2)?, max: *values.last()? })
}

pub(crate) fn print<M: Measurement>(scenario: &Scenario, load: &Load, partitions: i32, results: &[(Side, M)]) {
    let sides: Vec<_> = [Side::Millrace, Side::KafkaStreams, Side::PassThrough]
        .into_iter()
        .filter(|side| results.iter().any(|(of, _)| of == side))
        .collect();
    let runs = results.len() / sides.len().max(1);
    println!("\n{}: {}", scenario.name, scenario.about);
    println!(
        "{} records, {} keys, {}-byte values, {partitions} partitions; min / median / max of {runs} runs, each verified\n",
        load.records, load.keys, load.value_size
    );
    print!("| {:<18} |", "");
    sides.iter().for_each(|side| print!(" {:^32} |", side.to_string()));
    print!("\n|{:-<20}|", "");
    sides.iter().for_each(|_| print!("{:-<33}:|", ""));
    println!();

    let mut line = json!({
        "scenario": scenario.name, "records": load.records, "keys": load.keys, "value_size": load.value_size,
        "partitions": partitions, "runs": runs,
    });
    for (name, of) in M::FIGURES {
        print!("| {name:<18} |");
        for &side in &sides {
            if let Some(spread) = spread(results, side, *of) {
                print!(" {:>32} |", cell(&spread));
                line[key(side)][name] = rounded(spread.median);
            }
        }
        println!();
    }
    for (name, figure) in M::COMPARED {
        let of = |side| line[key(side)][figure].as_f64();
        if let (Some(mine), Some(other)) = (of(Side::Millrace), of(Side::KafkaStreams)) {
            line["ratio"][name] = rounded(mine / other);
        }
    }
    println!("\n{line}");
}

fn key(side: Side) -> &'static str {
    match side {
        Side::Millrace => "millrace",
        Side::KafkaStreams => "kafka_streams",
        Side::PassThrough => "passthrough",
    }
}

fn cell(spread: &Spread) -> String {
    let digits = if spread.max >= 100.0 { 0 } else { 2 };
    format!("{:.digits$} / {:.digits$} / {:.digits$}", spread.min, spread.median, spread.max)
}

fn rounded(value: f64) -> Value {
    json!((value * 1000.0).round() / 1000.0)
}
