//! One instance of the application: its process, the faults it goes through, and what its logs say when all is over.

use std::collections::BTreeSet;
use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result};
use millrace_e2e::app::App;
use millrace_e2e::process::{Line, Process, field};
use millrace_e2e::wait;
use rustix::process::Signal;

use crate::disk::Disk;
use crate::fault::{Fault, Faults, ScaleIn, Step};
use crate::journal::Journal;
use crate::network::Member;

/// How soon an orchestrator starts a process again that ended by itself.
const BACK_OFF: Duration = Duration::from_secs(1);
/// How long faults wait for an instance to come up.
const RUNNING_LIMIT: Duration = Duration::from_secs(30);
/// A stop that waits for a broker gives up after 25 s (`STOP_PATIENCE`); processes that are slow get some more.
const STOP_LIMIT: Duration = Duration::from_secs(60);

pub(crate) struct Instance<'a> {
    name: String,
    app: &'a App,
    journal: &'a Journal,
    logs: PathBuf,
    member: Option<&'a Member>,
    disk: Option<Disk>,
    process: Process,
    starts: u32,
    disk_is_full: bool,
    /// Tasks that have run on this disk, so that nothing of them may be restored from the beginning.
    held: BTreeSet<String>,
    pub(crate) restored: u64,
    pub(crate) rebuilt: u64,
}

impl<'a> Instance<'a> {
    pub(crate) fn start(
        name: &str,
        app: &'a App,
        journal: &'a Journal,
        logs: &Path,
        member: Option<&'a Member>,
        disk: Option<Disk>,
    ) -> Result<Self> {
        Ok(Self {
            process: launch(name, app, member, &log_file(logs, name, 1))?,
            name: name.to_owned(),
            app,
            journal,
            logs: logs.to_owned(),
            member,
            disk,
            starts: 1,
            disk_is_full: false,
            held: BTreeSet::new(),
            restored: 0,
            rebuilt: 0,
        })
    }

    pub(crate) fn is_running(&self) -> Result<()> {
        self.process.line(&["state=RUNNING"]).map(drop)
    }

    /// Goes through faults as long as they are made, lives on until the run is over, and stops.
    pub(crate) fn live(&mut self, faults: Faults, stops: Vec<ScaleIn>, until: Duration) -> Result<()> {
        let journal = self.journal;
        let mut stops = stops.into_iter().peekable();
        for step in faults {
            if !self.is_up_for(&step)? || !journal.wait(step.pause, || self.look_after())? || journal.elapsed() > until
            {
                break;
            }
            let due = stops.next_if(|stop| journal.elapsed() > stop.at);
            let step = due.map_or(step, |due| Step { fault: Fault::ScaleIn, lasts: due.lasts, ..step });
            journal.say(&format!("{}: {}{}", self.name, step.fault, lasting(step.lasts)));
            self.suffer(step)?;
            journal.survived(step.fault);
        }
        while journal.wait(Duration::from_secs(60), || self.look_after())? {}
        self.stop()
    }

    /// Waits until it is, if the step wants that; for a while, since others may keep it from it.
    fn is_up_for(&mut self, step: &Step) -> Result<bool> {
        let journal = self.journal;
        let deadline = journal.elapsed() + RUNNING_LIMIT;
        while step.waits_for_running && self.process.has_line(&["state=RUNNING"]).is_none() {
            if journal.elapsed() > deadline || !journal.wait(Duration::from_millis(200), || self.look_after())? {
                break;
            }
        }
        Ok(!journal.is_over())
    }

    fn suffer(&mut self, step: Step) -> Result<()> {
        let journal = self.journal;
        match step.fault {
            Fault::Kill | Fault::LoseDisk => {
                self.kill()?;
                if step.fault == Fault::LoseDisk {
                    self.lose_disk()?;
                }
                journal.wait(step.lasts, || Ok(()))?;
                self.restart()
            }
            Fault::Stop | Fault::ScaleIn => {
                self.stop()?;
                journal.wait(step.lasts, || Ok(()))?;
                self.restart()
            }
            Fault::Freeze => {
                self.process.signal(Signal::STOP)?;
                journal.wait(step.lasts, || Ok(()))?;
                self.process.signal(Signal::CONT)
            }
            Fault::Cut => {
                let member = self.member.context("cut an instance that has no network of its own")?;
                member.cut()?;
                journal.wait(step.lasts, || self.look_after())?;
                member.mend()
            }
            Fault::FullDisk | Fault::KillOnFullDisk => self.fill_disk(step),
            Fault::KillBroker | Fault::FreezeBroker | Fault::CutBroker => Ok(()),
        }
    }

    fn fill_disk(&mut self, step: Step) -> Result<()> {
        self.disk()?.fill()?;
        self.disk_is_full = true;
        if step.fault == Fault::KillOnFullDisk {
            self.kill()?;
            self.restart()?;
        }
        let journal = self.journal;
        journal.wait(step.lasts, || self.look_after())?;
        self.disk_is_full = false;
        self.disk()?.free()
    }

    fn disk(&self) -> Result<&Disk> {
        self.disk.as_ref().context("fill a disk that is not there")
    }

    fn lose_disk(&mut self) -> Result<()> {
        self.held.clear();
        fs::remove_dir_all(self.app.state_dir(&self.name).join(&self.app.id)).or_else(|error| match error.kind() {
            // It was lost before anything was written to it again.
            ErrorKind::NotFound => Ok(()),
            _ => Err(error).context("delete the state"),
        })
    }

    fn restart(&mut self) -> Result<()> {
        self.starts += 1;
        let log = log_file(&self.logs, &self.name, self.starts);
        self.process = launch(&self.name, self.app, self.member, &log)?;
        Ok(())
    }

    fn kill(&mut self) -> Result<()> {
        self.process.kill()?;
        self.read_log();
        Ok(())
    }

    fn stop(&mut self) -> Result<()> {
        self.process.signal(Signal::TERM)?;
        match self.process.ended(STOP_LIMIT) {
            Ok(status) if status.success() => {}
            // It had not got so far as to ask for signals.
            Ok(_) if self.process.has_line(&["starting"]).is_none() => {}
            // It did not wait for a broker that is away, or for a disk that is full, as documented.
            Ok(_) if self.process.has_line(&["stopped without a last commit"]).is_some() => {
                self.journal.say(&format!("{}: stopped without a last commit", self.name));
            }
            Ok(status) => self.flaw(&format!("ended with {status} when stopped"), &self.last_lines(10)),
            Err(_) => {
                self.flaw("did not end when stopped; killed", &self.last_lines(10));
                self.process.kill()?;
            }
        }
        self.read_log();
        Ok(())
    }

    /// A process stays up, whatever goes wrong around it; only a full disk is a reason to end.
    fn look_after(&mut self) -> Result<()> {
        if self.process.is_running()? || self.journal.is_over() {
            return Ok(());
        }
        let status = self.process.ended(wait::LONG)?;
        self.read_log();
        if self.disk_is_full {
            self.journal.say(&format!("{}: ended with {status} on a full disk:\n{}", self.name, self.last_lines(3)));
        } else {
            self.flaw(&format!("ended by itself with {status}"), &self.last_lines(10));
        }
        self.journal.wait(BACK_OFF, || Ok(()))?;
        self.restart()
    }

    fn flaw(&self, what: &str, tail: &str) {
        let log = log_file(&self.logs, &self.name, self.starts);
        self.journal.flaw(&format!("{} {what}; {}:\n{tail}", self.name, log.display()));
    }

    /// Without what the client says of brokers that are away, which may be all that there is at the end.
    fn last_lines(&self, count: usize) -> String {
        let mut lines = self.process.lines();
        lines.retain(|line| !line.text.contains("brokers are down") && !line.text.contains("Connect to ipv4"));
        lines.iter().skip(lines.len().saturating_sub(count)).map(|line| format!("    {}\n", line.text)).collect()
    }

    /// What the log of a process that ended says about state.
    fn read_log(&mut self) {
        for Line { text, .. } in self.process.lines() {
            let Some(task) = field(&text, "task") else { continue };
            if text.contains("task running") {
                self.held.insert(task.to_owned());
            } else if text.contains("restoring from the changelog") && field(&text, "rebuild") == Some("true") {
                self.rebuilt += 1;
                if self.held.contains(task) {
                    self.flaw(&format!("restored task {task} from nothing, although its disk had it"), &text);
                }
            } else if text.contains("state is corrupt") {
                self.flaw("found its state corrupt", &text);
            }
        }
        self.restored += self.process.sum(&["restored", "task="], "records");
    }
}

fn lasting(lasts: Duration) -> String {
    if lasts.is_zero() { String::new() } else { format!(", {:.1} s", lasts.as_secs_f64()) }
}

fn log_file(logs: &Path, name: &str, start: u32) -> PathBuf {
    logs.join(format!("{name}-{start:03}.log"))
}

fn launch(name: &str, app: &App, member: Option<&Member>, log: &Path) -> Result<Process> {
    let mut command = app.command("run", name)?;
    if let Some(member) = member {
        command = member.command(&command);
    }
    Process::start_logged(&format!("instance {name}"), &mut command, log)
}
