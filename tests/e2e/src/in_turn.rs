//! Owns three instances of an application that are ended in turn and started again, while one of Kafka's own tests writes. Must
//! not know who judges what became of it.

use std::path::Path;
use std::time::Duration;

use anyhow::{Result, ensure};

use crate::app::App;
use crate::group::Group;
use crate::process::Process;
use crate::wait;

/// Static members.
const INSTANCES: [&str; 3] = ["a", "b", "c"];

/// What differs between runs of one test.
pub struct Options<'a> {
    pub guarantee: &'a str,
    /// Keys of the config file.
    pub settings: &'a [(&'a str, &'a str)],
    /// How instances are ended.
    pub end: fn(&mut Process) -> Result<()>,
    /// How long instances are ended in turn, while the driver writes.
    pub end_for: Duration,
    /// Where the logs of all processes are kept.
    pub logs: &'a Path,
}

/// How a run went.
#[derive(Debug)]
pub struct Report {
    /// How many instances were ended.
    pub ends: u32,
    pub verdict: &'static str,
    pub log: String,
}

pub struct InTurn<'a> {
    app: &'a App,
    logs: &'a Path,
    instances: Vec<Process>,
    ends: u32,
}

impl<'a> InTurn<'a> {
    /// Starts all of them.
    pub fn start(app: &'a App, logs: &'a Path) -> Result<Self> {
        let mut this = Self { app, logs, instances: Vec::new(), ends: 0 };
        for name in INSTANCES {
            let instance = this.begin(name)?;
            this.instances.push(instance);
        }
        for instance in &this.instances {
            instance.line(&["state=RUNNING"])?;
        }
        Ok(this)
    }

    fn begin(&self, name: &str) -> Result<Process> {
        let log = self.logs.join(format!("{name}-{}.log", self.ends));
        Process::start_logged(name, &mut self.app.command("run", name)?, &log)
    }

    /// Ends the next one when all partitions have got on, and has it back.
    pub fn end_next(&mut self, group: &Group, how: fn(&mut Process) -> Result<()>) -> Result<()> {
        let before = group.committed()?;
        wait::until("progress in all partitions", wait::LONG, || {
            let now = group.committed()?;
            Ok(now.iter().zip(&before).all(|((now, _), (before, _))| now > before).then_some(()))
        })?;
        let place = self.ends as usize % INSTANCES.len();
        how(&mut self.instances[place])?;
        self.ends += 1;
        self.instances[place] = self.begin(INSTANCES[place])?;
        self.instances[place].line(&["state=RUNNING"]).map(drop)
    }

    /// Stops all of them, none of which may have ended by itself, and says how many were ended before.
    pub fn stop(mut self) -> Result<u32> {
        for (name, instance) in INSTANCES.iter().zip(&mut self.instances) {
            ensure!(instance.is_running()?, "instance {name} ended by itself; its log:\n{}", instance.tail());
            instance.stop()?;
        }
        Ok(self.ends)
    }
}
