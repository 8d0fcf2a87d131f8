//! What tasks cost that have little to do: two instances share many partitions, idle at first, then at a low rate.

use std::fmt;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use millrace_e2e::app::App;
use millrace_e2e::counts::verify;
use millrace_e2e::process::Process;
use millrace_e2e::{topics, wait};
use serde_json::json;

use crate::bench::Bench;
use crate::machine::{Clocks, Memory};
use crate::report::{Figure, Measurement};
use crate::scenario::Scenario;
use crate::side::Side;
use crate::steady::Steady;

const LIMIT: Duration = Duration::from_secs(300);
const RECORDS_PER_S: u32 = 2_000;
/// So many that each partition has some.
const KEYS: u64 = 10_000;
const INSTANCES: [&str; 2] = ["one", "two"];
/// Without a word of either instance for so long, tasks have found their places.
const SETTLED: Duration = Duration::from_secs(3);

/// Of both instances together.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ManyTasks {
    settled_s: f64,
    idle_cores: f64,
    busy_cores: f64,
    /// After the load.
    rss_mb: f64,
    peak_rss_mb: f64,
    tasks: f64,
    other_cores: f64,
}

impl Measurement for ManyTasks {
    const FIGURES: &[Figure<Self>] = &[
        ("rss_mb", |m| m.rss_mb),
        ("peak_rss_mb", |m| m.peak_rss_mb),
        ("rss_per_task_kb", |m| m.rss_mb * 1024.0 / m.tasks),
        ("idle_cores", |m| m.idle_cores),
        ("idle_us_per_task_s", |m| m.idle_cores * 1e6 / m.tasks),
        ("busy_cores", |m| m.busy_cores),
        ("start_to_settled_s", |m| m.settled_s),
        ("other_cores", |m| m.other_cores),
    ];
    const COMPARED: &[(&str, &str)] =
        &[("rss", "rss_mb"), ("idle_cpu", "idle_cores"), ("cpu", "busy_cores"), ("settled", "start_to_settled_s")];
}

impl fmt::Display for ManyTasks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { settled_s, idle_cores, busy_cores, rss_mb, peak_rss_mb, .. } = self;
        write!(
            f,
            "{rss_mb:.0} MB (peak {peak_rss_mb:.0}), {idle_cores:.2} cores idle, {busy_cores:.2} under load, settled \
             after {settled_s:.1} s"
        )
    }
}

impl Bench {
    pub(crate) fn measure_many_tasks(&self, scenario: &Scenario, partitions: i32) -> Result<()> {
        let seconds = if self.sizes.quick { 4 } else { 10 };
        let load = Steady { records_per_s: RECORDS_PER_S, seconds, keys: KEYS, value_size: self.sizes.value_size };
        let facts = vec![
            ("partitions", json!(partitions)),
            ("instances", json!(INSTANCES.len())),
            ("records_per_s", json!(RECORDS_PER_S)),
            ("seconds", json!(seconds)),
        ];
        self.compare(scenario, &facts, |side| self.many_tasks(scenario, side, partitions, &load))
    }

    fn many_tasks(&self, scenario: &Scenario, side: Side, partitions: i32, load: &Steady) -> Result<ManyTasks> {
        let mut app = App::without_topics(&self.kafka, "bench-tasks")?;
        app.leave_on_stop();
        topics::create(&self.kafka, &app.input, partitions, &[])?;
        topics::create(&self.kafka, &app.output, self.sizes.partitions, &[])?;

        let start = Instant::now();
        let mut processes = Vec::new();
        for name in INSTANCES {
            processes.push(self.instance(scenario, side).named(name).start(&mut app)?);
        }
        let settled = settled(&mut processes, side)?;
        let pids: Vec<_> = processes.iter().map(Process::pid).collect();

        let began = Clocks::read(&pids)?;
        thread::park_timeout(Duration::from_secs(load.seconds.into()));
        let rested = Clocks::read(&pids)?;
        load.send(&self.kafka, &app.input, Instant::now())?;
        let loaded = Clocks::read(&pids)?;
        let memory = pids.iter().map(|&pid| Memory::of(pid)).collect::<Result<Vec<_>>>()?;
        app.group()?.caught_up_within(LIMIT)?;
        for process in &mut processes {
            process.stop()?;
        }
        verify(&self.kafka, &app.input, &app.output, scenario.expect)?;
        self.forget(&app)?;
        let (idle, busy) = (rested.since(&began), loaded.since(&rested));
        Ok(ManyTasks {
            settled_s: (settled - start).as_secs_f64(),
            idle_cores: idle.app_cpu_s / idle.seconds,
            busy_cores: busy.app_cpu_s / busy.seconds,
            rss_mb: memory.iter().map(|memory| memory.now).sum(),
            peak_rss_mb: memory.iter().map(|memory| memory.peak).sum(),
            tasks: partitions.into(),
            other_cores: idle.other_cores.max(busy.other_cores),
        })
    }
}

/// Waits until all instances run and say no more, and returns when the last word was.
fn settled(processes: &mut [Process], side: Side) -> Result<Instant> {
    wait::until("all instances to run and be quiet", LIMIT, || {
        let mut last = None;
        for process in processes.iter_mut() {
            ensure!(process.is_running()?, "it ended:\n{}", process.tail());
            if process.has_line(side.running()).is_none() {
                return Ok(None);
            }
            last = last.max(process.lines().last().map(|line| line.at));
        }
        Ok(last.filter(|last| last.elapsed() > SETTLED))
    })
}
