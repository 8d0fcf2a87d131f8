//! Measures Millrace beside Kafka Streams: the same topology on the same load and broker, in alternation, in one run. Each
//! result is verified, or does not count. Run by `./mill bench`.

mod scenario;
mod load;
mod steady;
mod side;
mod pass_through;
mod machine;
mod outputs;
mod bench;
mod drain;
mod large_state;
mod latency;
mod restart;
mod restore;
mod start;
mod many_tasks;
mod growth;
mod queries;
mod plot;
mod statistics;
mod report;

use std::cell::OnceCell;
use std::path::PathBuf;

use anyhow::{Result, ensure};
use clap::{Parser, Subcommand};
use millrace_e2e::kafka::Kafka;

use crate::bench::{Bench, Sizes};
use crate::load::Inputs;
use crate::pass_through::PassThrough;
use crate::scenario::{Kind, SCENARIOS, Scenario};
use crate::side::Side;

/// Side by side with Kafka Streams on one broker.
#[derive(Parser)]
#[command(args_conflicts_with_subcommands = true, after_help = names())]
struct Options {
    #[command(subcommand)]
    part: Option<Part>,
    /// A tenth of the load, one round: shows that everything works, not how fast.
    #[arg(long)]
    quick: bool,
    /// Input records of each run, those that fill a large state not counted [the scenario's].
    #[arg(long)]
    records: Option<u64>,
    /// Different keys among them, and so how large the state is [the scenario's].
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
    /// A folder for the plots of the scenario growth, and the points they are drawn from.
    #[arg(long, value_name = "FOLDER")]
    plots: Option<PathBuf>,
    /// Which to run, by their names or by what their names begin with; without a name all but growth.
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
    let scenarios = choose(&options.scenarios)?;
    let Options { quick, records, keys, value_size, partitions, .. } = options;
    let bench = Bench {
        inputs: Inputs::new(&kafka),
        kafka,
        sizes: Sizes { quick, records, keys, value_size, partitions },
        rounds: options.rounds.unwrap_or(if quick { 1 } else { 3 }),
        sides: options.sides,
        settings: options.settings,
        plots: options.plots,
        default_kafka: OnceCell::new(),
    };
    scenarios.into_iter().try_for_each(|scenario| bench.measure(scenario))
}

fn setting(text: &str) -> Result<(String, String), String> {
    let (key, value) = text.split_once('=').ok_or("say KEY=VALUE")?;
    Ok((key.to_owned(), value.to_owned()))
}

fn names() -> String {
    let names = SCENARIOS.iter().map(|scenario| format!("  {:<20} {}\n", scenario.name, scenario.about));
    format!("Scenarios:\n{}", names.collect::<String>())
}

/// A name means one scenario, or, if none is called so, all those whose names begin with it and a dash.
fn choose(names: &[String]) -> Result<Vec<&'static Scenario>> {
    if names.is_empty() {
        return Ok(SCENARIOS.iter().filter(|scenario| scenario.kind != Kind::Growth).collect());
    }
    let mut chosen = Vec::new();
    for name in names {
        let mut meant: Vec<_> = SCENARIOS.iter().filter(|scenario| scenario.name == name).collect();
        if meant.is_empty() {
            let family = format!("{name}-");
            meant.extend(SCENARIOS.iter().filter(|scenario| scenario.name.starts_with(&family)));
        }
        let known: Vec<_> = SCENARIOS.iter().map(|scenario| scenario.name).collect();
        ensure!(!meant.is_empty(), "there is no scenario {name}; there are {}", known.join(", "));
        chosen.extend(meant);
    }
    Ok(chosen)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(names: &[&str], expected: &[&str]) {
        let names: Vec<_> = names.iter().map(ToString::to_string).collect();
        let chosen: Vec<_> = choose(&names).expect("there are such").iter().map(|scenario| scenario.name).collect();
        assert_eq!(chosen, expected);
    }

    #[test]
    fn a_name_means_one_scenario_or_its_family() {
        check(&["alos"], &["alos"]);
        check(&["restart", "eos"], &["restart-alos", "restart-eos", "eos"]);
        check(&["latency-eos"], &["latency-eos"]);
        assert!(choose(&["lat".to_owned()]).is_err());
    }
}
