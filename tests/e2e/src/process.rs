//! A process under test: its log line by line, its end, and signals to it. Ends with the value that holds it.

use std::fs::File;
use std::io::{BufRead, BufReader, Read, Write};
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use rustix::process::{Pid, Signal, kill_process};

use crate::wait;

/// A line and when it came.
#[derive(Clone, Debug)]
pub struct Line {
    pub at: Instant,
    pub text: String,
}

#[derive(Default)]
struct Log {
    lines: Vec<Line>,
    open_streams: usize,
    /// Where the lines are kept for people.
    file: Option<File>,
}

#[derive(Default)]
struct Shared {
    log: Mutex<Log>,
    news: Condvar,
}

impl Shared {
    fn log(&self) -> MutexGuard<'_, Log> {
        self.log.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

pub struct Process {
    name: String,
    child: Child,
    shared: Arc<Shared>,
    pub started: Instant,
}

impl Process {
    /// Starts it with output and errors both read into one log.
    pub fn start(name: &str, command: &mut Command) -> Result<Self> {
        Self::spawn(name, command, None)
    }

    /// The same, with its log in a file, too.
    pub fn start_logged(name: &str, command: &mut Command, log: &Path) -> Result<Self> {
        let file = File::create(log).with_context(|| format!("create {}", log.display()))?;
        Self::spawn(name, command, Some(file))
    }

    fn spawn(name: &str, command: &mut Command, file: Option<File>) -> Result<Self> {
        let started = Instant::now();
        let mut child = command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .with_context(|| format!("start {name}: {}", command.get_program().display()))?;
        let shared = Arc::new(Shared::default());
        shared.log().file = file;
        let streams: [Option<Box<dyn Read + Send>>; 2] =
            [child.stdout.take().map(|s| Box::new(s) as _), child.stderr.take().map(|s| Box::new(s) as _)];
        for stream in streams.into_iter().flatten() {
            shared.log().open_streams += 1;
            let shared = Arc::clone(&shared);
            thread::spawn(move || collect(stream, &shared));
        }
        Ok(Self { name: name.to_owned(), child, shared, started })
    }

    #[must_use]
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Everything said so far.
    #[must_use]
    pub fn lines(&self) -> Vec<Line> {
        self.shared.log().lines.clone()
    }

    #[must_use]
    pub fn text(&self) -> String {
        self.lines().into_iter().map(|line| line.text + "\n").collect()
    }

    /// The first line that has all of these words, if it came already.
    #[must_use]
    pub fn has_line(&self, words: &[&str]) -> Option<Line> {
        self.lines().into_iter().find(|line| words.iter().all(|word| line.text.contains(word)))
    }

    /// How many lines have all of these words.
    #[must_use]
    pub fn count(&self, words: &[&str]) -> usize {
        self.lines().iter().filter(|line| words.iter().all(|word| line.text.contains(word))).count()
    }

    /// Waits for a line that has all of these words, from the beginning of the log on.
    pub fn line(&self, words: &[&str]) -> Result<Line> {
        self.line_within(words, wait::LONG)
    }

    pub fn line_within(&self, words: &[&str], limit: Duration) -> Result<Line> {
        self.nth_line(words, 1, limit)
    }

    /// Waits until the `n`-th such line.
    pub fn nth_line(&self, words: &[&str], n: usize, limit: Duration) -> Result<Line> {
        let deadline = Instant::now() + limit;
        let mut log = self.shared.log();
        loop {
            let matches = |line: &&Line| words.iter().all(|word| line.text.contains(word));
            if let Some(line) = log.lines.iter().filter(matches).nth(n - 1) {
                return Ok(line.clone());
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() || log.open_streams == 0 {
                let why = if left.is_zero() { "in time" } else { "before it ended" };
                drop(log);
                bail!("{} did not say {words:?} (time {n}) {why}; its log:\n{}", self.name, self.tail());
            }
            log = self.shared.news.wait_timeout(log, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// The sum of a numeric field over all lines that have these words.
    #[must_use]
    pub fn sum(&self, words: &[&str], field: &str) -> u64 {
        let lines = self.lines();
        let matching = lines.iter().filter(|line| words.iter().all(|word| line.text.contains(word)));
        matching.filter_map(|line| number(&line.text, field)).sum()
    }

    /// Records that Millrace has read back from changelogs so far, for tasks that were to run.
    #[must_use]
    pub fn restored(&self) -> u64 {
        self.sum(&["restored"], "records")
    }

    #[must_use]
    pub fn tail(&self) -> String {
        let lines = self.lines();
        let skip = lines.len().saturating_sub(60);
        lines.into_iter().skip(skip).map(|line| format!("    {}\n", line.text)).collect()
    }

    pub fn signal(&self, signal: Signal) -> Result<()> {
        let pid = Pid::from_child(&self.child);
        kill_process(pid, signal).with_context(|| format!("signal {}", self.name))
    }

    pub fn is_running(&mut self) -> Result<bool> {
        Ok(self.child.try_wait().context("look after the child")?.is_none())
    }

    /// Waits for its end and for the last of its output.
    pub fn ended(&mut self, limit: Duration) -> Result<ExitStatus> {
        let name = self.name.clone();
        let child = &mut self.child;
        let status = wait::until(&format!("{name} to end"), limit, || child.try_wait().context("look after the child"));
        let status = status.with_context(|| format!("its log:\n{}", self.tail()))?;
        wait::until(&format!("the output of {name} to end"), wait::LONG, || {
            Ok((self.shared.log().open_streams == 0).then_some(()))
        })?;
        Ok(status)
    }

    /// SIGTERM, and a clean end.
    pub fn stop(&mut self) -> Result<()> {
        self.signal(Signal::TERM)?;
        let status = self.ended(wait::LONG)?;
        // A JVM that ran its shutdown hooks reports the signal as 143.
        if !status.success() && status.code() != Some(143) {
            bail!("{} ended with {status} when stopped; its log:\n{}", self.name, self.tail());
        }
        Ok(())
    }

    /// SIGKILL: no chance to tidy up.
    pub fn kill(&mut self) -> Result<()> {
        self.signal(Signal::KILL)?;
        self.ended(wait::LONG).map(drop)
    }
}

/// The word in `name=word`.
#[must_use]
pub fn field<'a>(text: &'a str, name: &str) -> Option<&'a str> {
    let (_, rest) = text.split_once(&format!(" {name}="))?;
    rest.split_whitespace().next()
}

fn number(text: &str, name: &str) -> Option<u64> {
    field(text, name)?.parse().ok()
}

fn collect(stream: impl Read, shared: &Shared) {
    let mut stream = BufReader::new(stream);
    let mut bytes = Vec::new();
    while matches!(stream.read_until(b'\n', &mut bytes), Ok(n) if n > 0) {
        let text = String::from_utf8_lossy(&bytes).trim_end().to_owned();
        let mut log = shared.log();
        if let Some(file) = &mut log.file {
            // The lines in memory are what is asked; a full disk is no reason to lose those, too.
            let _ = writeln!(file, "{text}");
        }
        log.lines.push(Line { at: Instant::now(), text });
        drop(log);
        shared.news.notify_all();
        bytes.clear();
    }
    shared.log().open_streams -= 1;
    shared.news.notify_all();
}

impl Drop for Process {
    fn drop(&mut self) {
        // What still runs was not ended by its test, which failed then.
        let left = matches!(self.child.try_wait(), Ok(None));
        let _ = self.child.kill();
        let _ = self.child.wait();
        if left || thread::panicking() {
            eprintln!("the log of {}:\n{}", self.name, self.tail());
        }
    }
}
