//! How long a process takes from its start to its first output, with input waiting and nothing to restore.

use std::fmt;
use std::time::Duration;

use anyhow::{Context, Result};
use millrace_e2e::app::App;
use millrace_e2e::counts::{Load, verify};
use millrace_e2e::kafka::{Kafka, OwnKafka};

use crate::bench::Bench;
use crate::machine::{Clocks, Memory};
use crate::outputs::Outputs;
use crate::report::{Figure, Measurement};
use crate::scenario::{Scenario, Waits};
use crate::side::Side;

const LIMIT: Duration = Duration::from_secs(120);
/// Some for each partition.
const LOAD: Load = Load { records: 1_000, keys: 100, value_size: 100, seed: 1 };

/// What brokers do by default, and the one that the others share does not: three seconds in which the first members
/// of a group may come.
const DEFAULTS: &[(&str, &str)] =
    &[("group.initial.rebalance.delay.ms", "3000"), ("group.streams.initial.rebalance.delay.ms", "3000")];

#[derive(Clone, Copy, Debug)]
pub(crate) struct Started {
    running_s: f64,
    output_s: f64,
    cpu_s: f64,
    rss_mb: f64,
}

impl Measurement for Started {
    const FIGURES: &[Figure<Self>] = &[
        ("start_to_running_s", |m| m.running_s),
        ("start_to_output_s", |m| m.output_s),
        ("cpu_s", |m| m.cpu_s),
        ("rss_mb", |m| m.rss_mb),
    ];
    const COMPARED: &[(&str, &str)] =
        &[("running", "start_to_running_s"), ("output", "start_to_output_s"), ("cpu", "cpu_s"), ("rss", "rss_mb")];
}

impl fmt::Display for Started {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { running_s, output_s, cpu_s, rss_mb } = self;
        write!(
            f,
            "running after {running_s:.2} s, first output after {output_s:.2} s, {cpu_s:.2} CPU-s, {rss_mb:.0} MB"
        )
    }
}

impl Bench {
    pub(crate) fn first_output(&self, scenario: &Scenario, side: Side, waits: Waits) -> Result<Started> {
        let kafka = match waits {
            Waits::Never => self.kafka.clone(),
            Waits::Default => self.default_kafka()?,
        };
        let mut app = App::new(&kafka, "bench-start")?;
        app.leave_on_stop();
        LOAD.write(&kafka, &app.input)?;
        let outputs = Outputs::from_beginning(&kafka, &app.output)?;

        let before = Clocks::read(&[])?;
        let mut process = self.instance(scenario, side).start(&mut app)?;
        let output_s = (outputs.first(LIMIT)? - process.started).as_secs_f64();
        let used = Clocks::read(&[process.pid()])?.since(&before);
        let running_s = (process.line(side.running())?.at - process.started).as_secs_f64();
        let memory = Memory::of(process.pid())?;
        outputs_of_all(&outputs)?;
        process.stop()?;
        verify(&kafka, &app.input, &app.output, scenario.expect)?;
        self.forget(&app)?;
        Ok(Started { running_s, output_s, cpu_s: used.app_cpu_s, rss_mb: memory.now })
    }

    /// A broker of its own, started when it is first asked for.
    fn default_kafka(&self) -> Result<Kafka> {
        if self.default_kafka.get().is_none() {
            let mut own = OwnKafka::reserve()?;
            own.configure(DEFAULTS);
            own.start()?;
            // Nobody else can have set it: this is one thread.
            let _ = self.default_kafka.set(own);
        }
        Ok(self.default_kafka.get().context("it was set above")?.kafka())
    }
}

/// Waits until the rest of the load has its output, too.
fn outputs_of_all(outputs: &Outputs) -> Result<()> {
    for _ in 1..LOAD.records {
        outputs.first(LIMIT)?;
    }
    Ok(())
}
