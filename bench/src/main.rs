//! Measures Millrace beside Kafka Streams: the same topology on the same load and broker, in alternation, in one run. Each
//! result is verified, or does not count. Run by `./mill bench`.

mod scenario;
mod machine;
mod pass_through;
mod run;
mod restart;
mod report;

use std::fmt::Display;

use anyhow::{Context, Result, ensure};
use clap::{Parser, Subcommand};
use millrace_e2e::counts::Load;
use millrace_e2e::kafka::Kafka;
use millrace_e2e::topics;

use crate::pass_through::PassThrough;
use crate::report::Measurement;
use crate::run::{Bench, Side};
use crate::scenario::{Kind, SCENARIOS, Scenario};

/// Side by side with Kafka Streams on one broker.
#[derive(Parser)]
#[command(args_conflicts_with_subcommands = true)]
struct Options {
    #[command(subcommand)]
    part: Option<Part>,
    /// A tenth of the load, one round: shows that everything works, not how fast.
    #[arg(long)]
    quick: bool,
    /// Input records of each run [2000000; 200000 with --quick].
    #[arg(long)]
    records: Option<u64>,
    /// Different keys among them [100000; 10000 with --quick].
    #[arg(long)]
    keys: Option<u64>,
    #[arg(long, default_value_t = 100)]
    value_size: usize,
    #[arg(long, default_value_t = 4)]
    partitions: i32,
    /// Runs of each side [3; 1 with --quick].
    #[arg(long)]
    rounds: Option<usize>,
    /// Which sides to run, comma-separated.
    #[arg(long, value_enum, value_delimiter = ',', default_value = "millrace,kafka-streams,pass-through")]
    sides: Vec<Side>,
    /// A key of Millrace's config file, over those of the scenario: what it changes is a question for the bench.
    #[arg(long = "set", value_name = "KEY=VALUE", value_parser = setting)]
    settings: Vec<(String, String)>,
    /// Which to run; all of them without a name.
    scenarios: Vec<String>,
}

#[derive(Subcommand)]
enum Part {
    /// What the bench runs as the third side.
    #[command(hide = true)]
    PassThrough(PassThrough),
}

fn main() -> Result<()> {
    let options = Options::parse();
    let kafka = Kafka::shared()?;
    if let Some(Part::PassThrough(part)) = options.part {
        return part.run(&kafka);
    }
    let (records, keys, rounds) = if options.quick { (200_000, 10_000, 1) } else { (2_000_000, 100_000, 3) };
    let load = Load {
        records: options.records.unwrap_or(records),
        keys: options.keys.unwrap_or(keys),
        value_size: options.value_size,
        seed: 1,
    };
    let scenarios = choose(&options.scenarios)?;

    let bench = Bench {
        kafka,
        input: "bench-input".into(),
        partitions: options.partitions,
        records: load.records,
        settings: options.settings,
    };
    topics::create(&bench.kafka, &bench.input, bench.partitions, &[("retention.ms", "-1")])?;
    eprintln!("writing {} records, {} keys, values of {} bytes", load.records, load.keys, load.value_size);
    load.write(&bench.kafka, &bench.input)?;

    let rounds = options.rounds.unwrap_or(rounds);
    for scenario in scenarios {
        match scenario.kind {
            Kind::Drain => {
                let results = alternate(scenario, rounds, &options.sides, |side| bench.drain(scenario, side))?;
                report::print(scenario, &load, bench.partitions, &results);
            }
            Kind::Restart => {
                // Every key once: it is the state that counts.
                let load = Load { records: load.records / 2, keys: load.records / 2, ..load };
                let run = |side| bench.restart(scenario, side, &load);
                let results = alternate(scenario, rounds, &options.sides, run)?;
                report::print(scenario, &load, bench.partitions, &results);
            }
        }
    }
    Ok(())
}

/// Each side in turn, again and again, so that what changes on the machine meanwhile changes for all.
fn alternate<M: Measurement + Display>(
    scenario: &Scenario,
    rounds: usize,
    sides: &[Side],
    run: impl Fn(Side) -> Result<M>,
) -> Result<Vec<(Side, M)>> {
    let mut results = Vec::new();
    for round in 1..=rounds {
        for &side in sides.iter().filter(|&&side| scenario.has(side)) {
            let result = run(side).with_context(|| format!("{}, {side}, round {round}", scenario.name))?;
            eprintln!("{}, round {round}: {side}: {result}", scenario.name);
            results.push((side, result));
        }
    }
    Ok(results)
}

fn setting(text: &str) -> Result<(String, String), String> {
    let (key, value) = text.split_once('=').ok_or("say KEY=VALUE")?;
    Ok((key.to_owned(), value.to_owned()))
}

fn choose(names: &[String]) -> Result<Vec<&'static Scenario>> {
    for name in names {
        let known: Vec<_> = SCENARIOS.iter().map(|scenario| scenario.name).collect();
        ensure!(known.contains(&name.as_str()), "there is no scenario {name}; there are {}", known.join(", "));
    }
    Ok(SCENARIOS.iter().filter(|scenario| names.is_empty() || names.iter().any(|name| name == scenario.name)).collect())
}
