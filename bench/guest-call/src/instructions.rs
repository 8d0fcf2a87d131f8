//! Owns counting: instructions per record of each case, of the module's code and the host's alike, and how many are
//! expected. callgrind counts, because counters of the processor are not to be had in most virtual machines, and
//! wasmtime's fuel does not see the host. What it counts is the same in every run to a few in a thousand.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};

use crate::Bench;
use crate::cases::CASES;

/// Enough for all batches, few enough for half a minute under callgrind.
const RECORDS: usize = 5_000;

/// How much more than expected is taken for chance, or for another compiler: percent.
const TOLERATED: u64 = 10;

/// Instructions per record by the name of the case.
pub type Counts = BTreeMap<String, u64>;

/// Does what is counted. To be run under callgrind.
pub fn run(bench: &Bench) -> Result<()> {
    for case in CASES {
        let mut calls = bench.calls(case.side, case.batch)?;
        let records = calls.records(RECORDS);
        (case.drain)(&mut calls, records)?;
    }
    Ok(())
}

/// Runs `program`, which calls [`run`] when it is told `counted MODULE`, under callgrind.
pub fn count(program: &Path, module: &Path) -> Result<Counts> {
    let directory = tempfile::tempdir()?;
    let file = directory.path().join("callgrind");
    let output = Command::new("valgrind")
        .args(["--tool=callgrind", "--dump-line=no", "--toggle-collect=millrace_guest_call::cases::*"])
        .arg(format!("--callgrind-out-file={}", file.display()))
        .arg(program)
        .arg("counted")
        .arg(module)
        .output()
        .context("run valgrind (./mill setup installs it)")?;
    ensure!(output.status.success(), "valgrind: {}", String::from_utf8_lossy(&output.stderr));
    let profile = std::fs::read_to_string(&file).context("read what callgrind has written")?;
    let totals = inclusive(&profile);
    let per_record = |name: &str| {
        let total = totals.get(&format!("millrace_guest_call::cases::{name}"));
        let total = total.with_context(|| format!("callgrind has not seen {name}"))?;
        Ok((name.to_owned(), total / RECORDS as u64))
    };
    CASES.iter().map(|case| per_record(case.name)).collect()
}

/// The cost of each function with all that it called, from callgrind's format: lines of cost follow `fn=`, and after
/// `calls=` comes a line with the cost of what was called.
fn inclusive(profile: &str) -> BTreeMap<String, u64> {
    let mut names = BTreeMap::new();
    let mut totals = BTreeMap::new();
    let mut current = String::new();
    for line in profile.lines() {
        if let Some((kind @ ("fn" | "cfn"), function)) = line.split_once('=') {
            // Written out at its first mention, a number in brackets from then on.
            let (number, name) = function.split_once(' ').unwrap_or((function, ""));
            let known: &mut String = names.entry(number.to_owned()).or_default();
            if !name.is_empty() {
                name.clone_into(known);
            }
            if kind == "fn" {
                known.clone_into(&mut current);
            }
        } else if line.starts_with(|first: char| first.is_ascii_digit() || "+-*".contains(first)) {
            let cost = line.split_whitespace().nth(1).and_then(|cost| cost.parse::<u64>().ok());
            *totals.entry(current.clone()).or_default() += cost.unwrap_or(0);
        }
    }
    totals
}

/// Reads what is expected: lines of a name and a number.
pub fn expected(file: &Path) -> Result<Counts> {
    let text = std::fs::read_to_string(file).with_context(|| format!("read {}", file.display()))?;
    let line = |line: &str| {
        let (name, count) = line.split_once(' ').with_context(|| format!("no name and number: {line}"))?;
        Ok((name.to_owned(), count.trim().parse().with_context(|| format!("no number: {line}"))?))
    };
    text.lines().filter(|line| !line.starts_with('#')).map(line).collect()
}

pub fn renew(file: &Path, counts: &Counts) -> Result<()> {
    let lines = CASES.iter().map(|case| format!("{} {}\n", case.name, counts[case.name]));
    let head = "# Instructions per record. Written by `./mill bench guest-call --renew`, compared by `./mill test guest-call`.\n";
    std::fs::write(file, head.to_owned() + &lines.collect::<String>())
        .with_context(|| format!("write {}", file.display()))
}

/// Refuses counts that are well above what is expected.
pub fn compare(counts: &Counts, expected: &Counts) -> Result<()> {
    let mut over = Vec::new();
    for case in CASES {
        let (Some(&is), Some(&was)) = (counts.get(case.name), expected.get(case.name)) else {
            bail!("{} is not counted, or nothing is expected of it", case.name);
        };
        if is * 100 > was * (100 + TOLERATED) {
            over.push(format!("{} takes {is} instructions per record, {was} are expected", case.name));
        }
    }
    ensure!(
        over.is_empty(),
        "{}; if that is worth it, `./mill bench guest-call --renew` makes it what is expected",
        over.join("; ")
    );
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn costs_are_added_up_with_those_of_what_was_called() {
        let profile = "version: 1\nevents: Ir\nsummary: 40\n\nfl=(1) a.rs\nfn=(1) a\n0 5\ncfn=(2) b\ncalls=3 0\n0 20\n\
                       fi=(2) inlined.rs\n+0 2\n\nfn=(2)\n* 13\nfn=(1)\n0 1\ntotals: 40\n";
        assert_eq!(inclusive(profile), BTreeMap::from([("a".to_owned(), 28), ("b".to_owned(), 13)]));
    }

    #[test]
    fn more_than_a_tenth_more_is_refused() {
        let counts = |count| CASES.iter().map(|case| (case.name.to_owned(), count)).collect::<Counts>();
        assert!(compare(&counts(110), &counts(100)).is_ok());
        assert!(compare(&counts(50), &counts(100)).is_ok());
        let refused = compare(&counts(111), &counts(100)).unwrap_err().to_string();
        assert!(refused.contains("native_1 takes 111 instructions per record, 100 are expected"), "{refused}");
        assert!(compare(&Counts::new(), &counts(100)).is_err());
    }

    #[test]
    fn what_is_expected_is_read_as_it_was_written() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("expected");
        let counts: Counts = CASES.iter().zip(7..).map(|(case, count)| (case.name.to_owned(), count)).collect();
        renew(&file, &counts).unwrap();
        assert_eq!(expected(&file).unwrap(), counts);
    }
}
