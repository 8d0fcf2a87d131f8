//! Several inputs of one task that all have a long backlog: what counts is the order of time, not what a fetch brings first.

use anyhow::{Result, ensure};
use millrace_e2e::app::App;
use millrace_e2e::kafka::Kafka;
use millrace_e2e::records::{self, Record};
use millrace_e2e::topics;

const RECORDS: i64 = 20_000;
const KEYS: i64 = 50;
const BEGIN: i64 = 1_700_000_000_000;

/// Right before each record its key gets a new name. Names are long: a fetch brings the records of a partition all at
/// once, and a fraction of the names.
#[test]
fn a_backlog_is_joined_in_the_order_of_time() -> Result<()> {
    let kafka = Kafka::shared()?;
    let mut app = App::new(&kafka, "backlog")?;
    app.environment("COUNTS_MODE", "names");
    let names = format!("{}.names", app.input);
    topics::create(&kafka, &names, 4, &[])?;
    let key = |number: i64| format!("key-{}", number % KEYS);
    let padding = "x".repeat(500);
    let name = |number| Record::new(&key(number), &format!("name-{number}-{padding}")).at(BEGIN + 2 * number);
    let record = |number| Record::new(&key(number), &number.to_string()).at(BEGIN + 2 * number + 1);
    records::write(&kafka, &names, &(0..RECORDS).map(name).collect::<Vec<_>>())?;
    app.write(&(0..RECORDS).map(record).collect::<Vec<_>>())?;

    let mut millrace = app.run("a")?;
    let outputs = app.outputs(usize::try_from(RECORDS)?)?;
    millrace.stop()?;
    let text = |record: &Record| record.text().1.replace(&padding, "");
    let wrong: Vec<String> = outputs
        .iter()
        .map(|found| text(&found.record))
        .filter(|joined| joined.split_once(' ').is_none_or(|(number, name)| name != format!("name-{number}-")))
        .collect();
    ensure!(
        wrong.is_empty(),
        "{} of {RECORDS} met another name: {:?}",
        wrong.len(),
        wrong.iter().take(10).collect::<Vec<_>>()
    );
    Ok(())
}
