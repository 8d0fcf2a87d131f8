//! What Linux says of processes and of the machine.

use std::fs;
use std::process;
use std::time::Instant;

use anyhow::{Context, Result};
use millrace_e2e::setting;

/// Clock ticks in a second: 100 on every Linux.
const TICKS: f64 = 100.0;

fn read(path: &str) -> Result<String> {
    fs::read_to_string(path).with_context(|| format!("read {path}"))
}

/// CPU seconds of all threads of a process so far, in user and kernel mode.
fn cpu_seconds(pid: u32) -> Result<f64> {
    let stat = read(&format!("/proc/{pid}/stat"))?;
    let (_, fields) = stat.rsplit_once(") ").context("no command in /proc/pid/stat")?;
    let ticks: f64 = fields.split(' ').skip(11).take(2).filter_map(|field| field.parse::<f64>().ok()).sum();
    Ok(ticks / TICKS)
}

/// CPU seconds of everything that ran on the machine so far.
fn busy_seconds() -> Result<f64> {
    let stat = read("/proc/stat")?;
    let fields: Vec<f64> = stat.lines().next().unwrap_or_default().split(' ').filter_map(|f| f.parse().ok()).collect();
    // user, nice, system, irq, softirq, steal; not idle and waiting for disks
    Ok([0, 1, 2, 5, 6, 7].iter().filter_map(|&field| fields.get(field)).sum::<f64>() / TICKS)
}

/// Memory of a process, in MB.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Memory {
    /// The most it ever had.
    pub peak: f64,
    pub now: f64,
}

impl Memory {
    pub(crate) fn of(pid: u32) -> Result<Self> {
        let status = read(&format!("/proc/{pid}/status"))?;
        let field = |name: &str| -> Result<f64> {
            let line = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
            let kb = line.with_context(|| format!("no {name} in /proc/pid/status"))?.trim().trim_end_matches(" kB");
            Ok(kb.parse::<f64>().with_context(|| format!("{name} is no number"))? / 1024.0)
        };
        Ok(Self { peak: field("VmHWM")?, now: field("VmRSS")? })
    }
}

/// CPU seconds at one moment.
pub(crate) struct Clocks {
    at: Instant,
    app: f64,
    broker: f64,
    bench: f64,
    machine: f64,
}

/// What was used between two moments.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Used {
    pub seconds: f64,
    pub app_cpu_s: f64,
    pub broker_cpu_s: f64,
    /// Cores that neither the application, nor the broker, nor the bench used.
    pub other_cores: f64,
}

impl Clocks {
    /// With the processes of the application that run already.
    pub(crate) fn read(app: &[u32]) -> Result<Self> {
        Ok(Self {
            at: Instant::now(),
            app: app.iter().map(|&pid| cpu_seconds(pid)).sum::<Result<f64>>()?,
            broker: cpu_seconds(setting::kafka_pid()?)?,
            bench: cpu_seconds(process::id())?,
            machine: busy_seconds()?,
        })
    }

    pub(crate) fn since(&self, before: &Self) -> Used {
        let seconds = (self.at - before.at).as_secs_f64();
        let (app_cpu_s, broker_cpu_s) = (self.app - before.app, self.broker - before.broker);
        let other = self.machine - before.machine - app_cpu_s - broker_cpu_s - (self.bench - before.bench);
        Used { seconds, app_cpu_s, broker_cpu_s, other_cores: other.max(0.0) / seconds }
    }
}
