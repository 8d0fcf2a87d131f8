//! One measured restart: fill a store, kill the application while it processes more, start it again on the same disk
//! and under the same name, and verify the output of both lives.

use std::fmt;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use millrace_e2e::app::App;
use millrace_e2e::counts::{Load, verify};
use millrace_e2e::process::Process;
use millrace_e2e::wait;

use crate::report::{Figure, Measurement};
use crate::run::{Bench, Side};
use crate::scenario::Scenario;

const LIMIT: Duration = Duration::from_secs(60);

#[derive(Clone, Copy, Debug)]
pub(crate) struct Restarted {
    /// From the start of the process.
    pub running_s: f64,
    /// Until new input is committed, with its output.
    pub committed_s: f64,
    /// Read back from the changelog.
    pub restored: u64,
}

impl Measurement for Restarted {
    const FIGURES: &[Figure<Self>] = &[
        ("start_to_running_s", |m| m.running_s),
        ("start_to_commit_s", |m| m.committed_s),
        ("restored_records", |m| m.restored as f64),
    ];
    const COMPARED: &[(&str, &str)] = &[("running", "start_to_running_s"), ("commit", "start_to_commit_s")];
}

impl fmt::Display for Restarted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { running_s, committed_s, restored } = self;
        write!(
            f,
            "running after {running_s:.2} s, new input committed after {committed_s:.2} s, {restored} records restored"
        )
    }
}

impl Bench {
    /// The load is written in turn to fill the store, then again at random; the kill is soon in that.
    pub(crate) fn restart(&self, scenario: &Scenario, side: Side, load: &Load) -> Result<Restarted> {
        let mut app = App::new(&self.kafka, "bench-restart")?;
        app.set("group.instance.id", "bench");
        load.write_in_turn(&self.kafka, &app.input)?;
        let group = app.group()?;
        let mut first = self.start(&mut app, scenario, side)?;
        let reach = |goal: u64, process: &mut Process| {
            let goal = i64::try_from(goal)?;
            wait::until(&format!("{goal} records"), LIMIT, || {
                ensure!(process.is_running()?, "it ended:\n{}", process.tail());
                Ok((group.progress()? >= goal).then_some(()))
            })
        };
        first.line_within(side.running(), LIMIT)?;
        reach(load.records, &mut first)?;
        load.write(&self.kafka, &app.input)?;
        reach(load.records + load.records / 20, &mut first)?;
        first.kill()?;
        let before = u64::try_from(group.progress()?)?;
        ensure!(before < 2 * load.records, "all was processed before it was killed: use more --records");

        let mut second = self.start(&mut app, scenario, side)?;
        let running_s = (second.line_within(side.running(), LIMIT)?.at - second.started).as_secs_f64();
        reach(before + 1, &mut second)?;
        let committed_s = (Instant::now() - second.started).as_secs_f64();
        let restored = match side {
            Side::Millrace => second.restored(),
            Side::KafkaStreams | Side::PassThrough => second.sum(&["event=RESTORE "], "records"),
        };
        reach(2 * load.records, &mut second)?;
        second.stop()?;
        verify(&self.kafka, &app.input, &app.output, scenario.expect)?;
        Ok(Restarted { running_s, committed_s, restored })
    }
}
