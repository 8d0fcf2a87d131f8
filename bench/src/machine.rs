//! What Linux says of a process and of the machine.

use std::fs;

use anyhow::{Context, Result};

/// Clock ticks in a second: 100 on every Linux.
const TICKS: f64 = 100.0;

fn read(path: &str) -> Result<String> {
    fs::read_to_string(path).with_context(|| format!("read {path}"))
}

/// CPU seconds of all threads of a process so far, in user and kernel mode.
pub(crate) fn cpu_seconds(pid: u32) -> Result<f64> {
    let stat = read(&format!("/proc/{pid}/stat"))?;
    let (_, fields) = stat.rsplit_once(") ").context("no command in /proc/pid/stat")?;
    let ticks: f64 = fields.split(' ').skip(11).take(2).filter_map(|field| field.parse::<f64>().ok()).sum();
    Ok(ticks / TICKS)
}

/// The most memory a process ever had, in MB.
pub(crate) fn peak_rss_mb(pid: u32) -> Result<f64> {
    let status = read(&format!("/proc/{pid}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).context("no VmHWM in /proc/pid/status")?;
    let kb: f64 = line.trim().trim_end_matches(" kB").parse().context("VmHWM is no number")?;
    Ok(kb / 1024.0)
}

/// CPU seconds of everything that ran on the machine so far.
pub(crate) fn busy_seconds() -> Result<f64> {
    let stat = read("/proc/stat")?;
    let fields: Vec<f64> = stat.lines().next().unwrap_or_default().split(' ').filter_map(|f| f.parse().ok()).collect();
    // user, nice, system, irq, softirq, steal; not idle and waiting for disks
    Ok([0, 1, 2, 5, 6, 7].iter().filter_map(|&field| fields.get(field)).sum::<f64>() / TICKS)
}
