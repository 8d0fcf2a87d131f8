//! The table of `./mill bench guest-call`: time and instructions per record, native and through the contract.

use std::env;
use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::{Context, Result};
use clap::{Parser, Subcommand};
use millrace_guest_call::cases::{CASES, Case};
use millrace_guest_call::{Bench, Calls, instructions};

/// Records of a round: some tens of milliseconds.
const ROUND: usize = 50_000;

#[derive(Parser)]
struct Options {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Measures and prints the table.
    Table {
        module: PathBuf,
        /// Rounds of each case; the median counts.
        #[arg(long, default_value_t = 15)]
        rounds: usize,
        /// Makes the instructions counted those that `./mill test guest-call` expects.
        #[arg(long)]
        renew: bool,
    },
    /// Calls the module until it is killed, for a profiler.
    Loop { module: PathBuf, case: String },
    #[command(hide = true)]
    Counted { module: PathBuf },
}

fn main() -> Result<()> {
    match Options::parse().command {
        Command::Table { module, rounds, renew } => table(&module, rounds, renew),
        Command::Loop { module, case } => endless(&module, &case),
        Command::Counted { module } => instructions::run(&bench(&module)?),
    }
}

fn bench(module: &Path) -> Result<Bench> {
    Bench::new(&std::fs::read(module).with_context(|| format!("read {}", module.display()))?)
}

fn table(module: &Path, rounds: usize, renew: bool) -> Result<()> {
    let counts = instructions::count(&env::current_exe()?, module)?;
    if renew {
        instructions::renew(Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/instructions.txt")), &counts)?;
    }
    let bench = bench(module)?;
    println!(
        "| records per call | native, ns | contract, ns | ratio | native, instructions | contract, instructions | ratio |"
    );
    println!("| ---: | ---: | ---: | ---: | ---: | ---: | ---: |");
    for pair in CASES.chunks(2) {
        let times = measure(&bench, pair, rounds)?;
        let instructions: Vec<f64> =
            pair.iter().map(|case| f64::from(u32::try_from(counts[case.name]).unwrap_or(u32::MAX))).collect();
        println!(
            "| {} | {:.0} | {:.0} | {:.2} | {:.0} | {:.0} | {:.2} |",
            pair[0].batch,
            times[0],
            times[1],
            times[1] / times[0],
            instructions[0],
            instructions[1],
            instructions[1] / instructions[0],
        );
    }
    Ok(())
}

/// The median time per record of each case, in nanoseconds; a round of each in turn.
fn measure(bench: &Bench, cases: &[Case], rounds: usize) -> Result<Vec<f64>> {
    let mut tasks: Vec<(&Case, Calls, Vec<f64>)> = Vec::new();
    for case in cases {
        tasks.push((case, bench.calls(case.side, case.batch)?, Vec::new()));
    }
    for _ in 0..rounds.max(1) {
        for (case, calls, times) in &mut tasks {
            let records = calls.records(ROUND);
            let start = Instant::now();
            (case.drain)(calls, records)?;
            times.push(start.elapsed().as_secs_f64() * 1e9 / ROUND as f64);
        }
    }
    let median = |mut times: Vec<f64>| {
        times.sort_unstable_by(f64::total_cmp);
        times[times.len() / 2]
    };
    Ok(tasks.into_iter().map(|(_, _, times)| median(times)).collect())
}

fn endless(module: &Path, name: &str) -> Result<()> {
    let case = CASES.iter().find(|case| case.name == name).with_context(|| {
        let names: Vec<_> = CASES.iter().map(|case| case.name).collect();
        format!("there is no case {name}; there are {}", names.join(", "))
    })?;
    let mut calls = bench(module)?.calls(case.side, case.batch)?;
    loop {
        let records = calls.records(ROUND);
        (case.drain)(&mut calls, records)?;
    }
}
