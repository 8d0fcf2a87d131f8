//! What is said of a run at its end.

use std::time::Duration;

use crate::journal::Journal;
use crate::run::Course;
use crate::verdict::Verdict;
use crate::{Guarantee, Options};

/// True: it passed.
pub(crate) fn tell(options: &Options, seed: u64, course: &Course, verdict: &Verdict, journal: &Journal) -> bool {
    let seconds = |time: Duration| format!("{:.1} s", time.as_secs_f64());
    let counts = journal.counts();
    let row = |name: &str, value: &str| journal.say(&format!("{name:34} {value}"));
    for (fault, count) in &counts {
        row(&fault.to_string(), &count.to_string());
    }
    let Verdict { records, keys, outputs, wrongs } = verdict;
    row("records", &format!("{records} of {keys} keys, {outputs} counts"));
    row("time", &format!("{} with faults, then {} to the end", seconds(options.length()), seconds(course.drain)));
    let stall = course.stall;
    let when = format!("partition {}, ended {} after the start", stall.partition, seconds(stall.ended));
    row("longest stall of a partition", &format!("{} ({when})", seconds(stall.lasted)));
    row("records restored", &format!("{} and {} tasks from nothing", course.restored, course.rebuilt));
    row("seed", &seed.to_string());
    row("logs", &options.logs.display().to_string());
    let flaws = journal.flaws();
    for flaw in &flaws {
        journal.say(&format!("FLAW: {}", flaw.lines().next().unwrap_or_default()));
    }
    let allowed = match options.guarantee {
        Guarantee::AtLeastOnce => " (at_least_once may count again after a crash)",
        Guarantee::ExactlyOnceV2 => "",
    };
    let verb = if flaws.is_empty() { "survived" } else { "made, NOT survived" };
    journal.say(&format!(
        "soak: {} faults {verb}, {} lost, {} duplicated, {} skipped{allowed}",
        counts.values().sum::<usize>(),
        wrongs.lost,
        wrongs.duplicated,
        wrongs.skipped,
    ));
    flaws.is_empty()
}
