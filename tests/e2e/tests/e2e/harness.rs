//! The tools of these tests, tested without Millrace: a verifier that can't fail would prove nothing.

use anyhow::{Result, ensure};
use millrace_e2e::app::App;
use millrace_e2e::counts::{Expect, Load, verify};
use millrace_e2e::kafka::Kafka;
use millrace_e2e::records::{self, Record};

/// The verifier's words on outputs for the input a, b, a.
fn verdict(outputs: &[(&str, &str)], expect: Expect) -> Result<String> {
    let app = App::new(&Kafka::shared()?, "verifier")?;
    app.write(&[Record::new("a", ""), Record::new("b", ""), Record::new("a", "")])?;
    let outputs: Vec<_> = outputs.iter().map(|(key, value)| Record::new(key, value)).collect();
    records::write(&app.kafka, &app.output, &outputs)?;
    let verdict = verify(&app.kafka, &app.input, &app.output, expect);
    Ok(verdict.map_or_else(|error| format!("{error:#}"), |_| "right".into()))
}

#[test]
fn verifier_tells_right_from_wrong() -> Result<()> {
    let right = [("a", "1"), ("b", "1"), ("a", "2")];
    let skipped = [("b", "1"), ("a", "2")];
    let repeated = [("a", "1"), ("a", "1"), ("b", "1"), ("a", "2")];
    let lost = [("a", "1"), ("a", "2")];
    let doubled = [("a", "1"), ("b", "1"), ("a", "2"), ("a", "3")];
    for (outputs, expect, wanted) in [
        (&right[..], Expect::EveryCount, "right"),
        (&skipped, Expect::EveryCount, "1 of 2 keys are wrong"),
        (&skipped, Expect::Rising, "right"),
        (&repeated, Expect::Rising, "1 of 2 keys are wrong"),
        (&repeated, Expect::Last, "right"),
        (&lost, Expect::Last, "1 of 2 keys are wrong"),
        (&doubled, Expect::Last, "1 of 2 keys are wrong"),
    ] {
        let found = verdict(outputs, expect)?;
        ensure!(found.starts_with(wanted), "{outputs:?} as {expect:?}: {found}, not {wanted}");
    }
    Ok(())
}

#[test]
fn peer_counts_a_load() -> Result<()> {
    let app = App::new(&Kafka::shared()?, "peer")?;
    Load { records: 20_000, keys: 500, value_size: 20, seed: 1 }.write(&app.kafka, &app.input)?;
    let mut peer = app.peer()?.option("expect", "20000").start()?;
    peer.line(&["event=PROCESSED"])?;
    peer.stop()?;
    let verified = verify(&app.kafka, &app.input, &app.output, Expect::EveryCount)?;
    ensure!((verified.input, verified.output, verified.keys) == (20_000, 20_000, 500), "{verified:?}");
    Ok(())
}
