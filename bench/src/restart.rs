//! One measured restart: fill a store, kill the application while it processes more, start it again on the same disk
//! and under the same name, and verify the output of both lives.

use std::fmt;
use std::thread;
use std::time::Duration;

use anyhow::{Result, ensure};
use millrace_e2e::app::App;
use millrace_e2e::counts::{Expect, Load, verify};
use millrace_e2e::group::Group;
use millrace_e2e::process::Process;
use millrace_e2e::wait;

use crate::bench::Bench;
use crate::machine::Clocks;
use crate::outputs::Outputs;
use crate::report::{Figure, Measurement};
use crate::scenario::Scenario;
use crate::side::Side;

const LIMIT: Duration = Duration::from_secs(600);
/// In which a broker ends what a process that was killed had under way.
const SETTLED: Duration = Duration::from_millis(500);

#[derive(Clone, Copy, Debug)]
pub(crate) struct Restarted {
    /// From the start of the process.
    running_s: f64,
    /// Until the first new output can be read, by who reads what is committed.
    output_s: f64,
    /// Read back from the changelog.
    restored: u64,
    other_cores: f64,
}

impl Measurement for Restarted {
    const FIGURES: &[Figure<Self>] = &[
        ("start_to_running_s", |m| m.running_s),
        ("start_to_output_s", |m| m.output_s),
        ("restored_records", |m| m.restored as f64),
        ("other_cores", |m| m.other_cores),
    ];
    const COMPARED: &[(&str, &str)] = &[("running", "start_to_running_s"), ("output", "start_to_output_s")];
}

impl fmt::Display for Restarted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { running_s, output_s, restored, .. } = self;
        write!(f, "running after {running_s:.2} s, new output after {output_s:.2} s, {restored} records restored")
    }
}

impl Bench {
    /// The load is written in turn to fill the store, then again at random; the kill is soon in that.
    pub(crate) fn restart(&self, scenario: &Scenario, side: Side, load: &Load) -> Result<Restarted> {
        let mut app = App::new(&self.kafka, "bench-restart")?;
        load.write_in_turn(&self.kafka, &app.input)?;
        let group = app.group()?;
        let written = Group::new(&self.kafka, &app.id, &app.output)?;
        let reach = |goal: u64, process: &mut Process, progress: &dyn Fn() -> Result<i64>| {
            let goal = i64::try_from(goal)?;
            wait::until(&format!("{goal} records"), LIMIT, || {
                ensure!(process.is_running()?, "it ended:\n{}", process.tail());
                Ok((progress()? >= goal).then_some(()))
            })
        };
        let committed = || group.progress();
        // Without transactions there is an output for each input, long before the next commit.
        let emitted = || if scenario.exactly_once { group.progress() } else { written.end() };

        let mut first = self.instance(scenario, side).stays().start(&mut app)?;
        first.line_within(side.running(), LIMIT)?;
        reach(load.records, &mut first, &committed)?;
        load.write(&self.kafka, &app.input)?;
        reach(load.records + load.records / 20, &mut first, &emitted)?;
        first.kill()?;
        ensure!(emitted()? < i64::try_from(2 * load.records)?, "all was done before it was killed: use more --records");
        thread::park_timeout(SETTLED);
        let outputs = Outputs::from_end(&self.kafka, &app.output)?;

        let clocks = Clocks::read(&[])?;
        let mut second = self.instance(scenario, side).stays().start(&mut app)?;
        let output_s = (outputs.first(LIMIT)? - second.started).as_secs_f64();
        let running_s = (second.line_within(side.running(), LIMIT)?.at - second.started).as_secs_f64();
        let used = Clocks::read(&[second.pid()])?.since(&clocks);
        let restored = second.sum(side.restored(), "records");
        reach(2 * load.records, &mut second, &committed)?;
        second.stop()?;
        verify(&self.kafka, &app.input, &app.output, expected(scenario, side))?;
        self.forget(&app)?;
        Ok(Restarted { running_s, output_s, restored, other_cores: used.other_cores })
    }
}

/// Kafka Streams counts again after a kill what it had counted since its last commit, unless it is told exactly-once.
fn expected(scenario: &Scenario, side: Side) -> Expect {
    if side == Side::KafkaStreams && !scenario.exactly_once { Expect::AtLeast } else { scenario.expect }
}
