//! Whether everything was counted exactly once, read from the topics after all has ended.

use std::collections::HashMap;

use anyhow::{Context, Result};
use millrace_e2e::app::App;
use millrace_e2e::counts::{Audit, Expect, Wrongs};
use millrace_e2e::records::{self, Reader};
use millrace_e2e::wait;
use rdkafka::Message;

use crate::Guarantee;
use crate::journal::Journal;

pub(crate) struct Verdict {
    pub(crate) records: u64,
    pub(crate) outputs: u64,
    pub(crate) keys: usize,
    pub(crate) wrongs: Wrongs,
}

/// Flaws go to the journal.
pub(crate) fn judge(app: &App, guarantee: Guarantee, written: u64, journal: &Journal) -> Result<Verdict> {
    for topic in [&app.output, &app.changelog()] {
        let settled = || Ok(records::is_settled(&app.kafka, topic)?.then_some(()));
        if wait::until("transactions to end", wait::LONG, settled).is_err() {
            journal.flaw(&format!("a transaction on {topic} is still open long after everybody has stopped"));
        }
    }
    let audit = Audit::read(&app.kafka, &app.input, &app.output)?;
    if audit.input != written {
        journal.flaw(&format!("{written} records were acknowledged, the input topic has {}", audit.input));
    }
    let expect = match guarantee {
        Guarantee::AtLeastOnce => Expect::AtLeast,
        Guarantee::ExactlyOnceV2 => Expect::EveryCount,
    };
    if let Err(wrong) = audit.check(expect) {
        journal.flaw(&format!("{wrong:#}"));
    }
    // Under at-least-once a process that was frozen may write what it had at hand over what its successor wrote: nobody
    // fences it.
    if guarantee == Guarantee::ExactlyOnceV2 {
        let wrong = wrong_in_changelog(app, &audit)?;
        if let Some(example) = wrong.first() {
            journal.flaw(&format!("the changelog is wrong for {} keys, for example {example}", wrong.len()));
        }
    }
    let keys = audit.expected().count();
    Ok(Verdict { records: audit.input, outputs: audit.output, keys, wrongs: audit.wrongs() })
}

/// Keys whose last value in the changelog is not their number of input records.
fn wrong_in_changelog(app: &App, audit: &Audit) -> Result<Vec<String>> {
    let mut last: HashMap<Vec<u8>, u64> = HashMap::new();
    Reader::new(&app.kafka, &app.changelog())?.for_each(|message| {
        let value = message.payload().context("a deletion in the changelog")?;
        let value = value.try_into().context("a value that is no count in the changelog")?;
        last.insert(message.key().unwrap_or_default().to_owned(), u64::from_be_bytes(value));
        Ok(())
    })?;
    let found = |key: &[u8]| last.get(key).copied().unwrap_or_default();
    let wrong = audit.expected().filter(|(key, expected)| found(key) != *expected);
    Ok(wrong.map(|(key, n)| format!("{}: {} instead of {n}", String::from_utf8_lossy(key), found(key))).collect())
}
