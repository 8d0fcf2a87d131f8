//! What happened and when: said to people at once, kept in a file beside the logs of the processes, and counted at the end.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Write;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result};

use crate::fault::Fault;

pub(crate) struct Journal {
    began: OnceLock<Instant>,
    over: AtomicBool,
    interrupted: AtomicBool,
    book: Mutex<Book>,
}

struct Book {
    file: File,
    survived: BTreeMap<Fault, usize>,
    flaws: Vec<String>,
}

impl Journal {
    pub(crate) fn new(logs: &Path) -> Result<Self> {
        let file = File::create(logs.join("soak.log")).context("create the run's own log")?;
        let book = Book { file, survived: BTreeMap::new(), flaws: Vec::new() };
        Ok(Self {
            began: OnceLock::new(),
            over: AtomicBool::new(false),
            interrupted: AtomicBool::new(false),
            book: Mutex::new(book),
        })
    }

    /// How long the run has lasted, from the first question on.
    pub(crate) fn elapsed(&self) -> Duration {
        self.began.get_or_init(Instant::now).elapsed()
    }

    /// A line with the time, in UTC as in the logs of `millrace`.
    pub(crate) fn say(&self, text: &str) {
        let ms = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_millis() % 86_400_000;
        let (h, m, s, ms) = (ms / 3_600_000, ms / 60_000 % 60, ms / 1000 % 60, ms % 1000);
        let line = format!("{h:02}:{m:02}:{s:02}.{ms:03} {text}");
        println!("{line}");
        // What was said above is in the terminal; a full disk is no reason to end the run.
        let _ = writeln!(self.book().file, "{line}");
    }

    pub(crate) fn survived(&self, fault: Fault) {
        *self.book().survived.entry(fault).or_default() += 1;
    }

    /// Something that must not happen whatever goes wrong around it.
    pub(crate) fn flaw(&self, text: &str) {
        self.say(&format!("FLAW: {text}"));
        self.book().flaws.push(text.to_owned());
    }

    pub(crate) fn counts(&self) -> BTreeMap<Fault, usize> {
        self.book().survived.clone()
    }

    pub(crate) fn flaws(&self) -> Vec<String> {
        self.book().flaws.clone()
    }

    /// Ends the run, for all who wait here.
    pub(crate) fn end(&self) {
        self.over.store(true, Ordering::Relaxed);
    }

    /// Ends it for a reason that is not its own.
    pub(crate) fn interrupt(&self) {
        self.interrupted.store(true, Ordering::Relaxed);
        self.end();
    }

    pub(crate) fn is_interrupted(&self) -> bool {
        self.interrupted.load(Ordering::Relaxed)
    }

    pub(crate) fn is_over(&self) -> bool {
        self.over.load(Ordering::Relaxed)
    }

    /// Waits for a while, and calls `meanwhile` often. False: the run is over.
    pub(crate) fn wait(&self, time: Duration, mut meanwhile: impl FnMut() -> Result<()>) -> Result<bool> {
        let began = Instant::now();
        while began.elapsed() < time && !self.is_over() {
            meanwhile()?;
            std::thread::park_timeout(time.saturating_sub(began.elapsed()).min(Duration::from_millis(20)));
        }
        Ok(!self.is_over())
    }

    /// The same up to a moment of the run.
    pub(crate) fn wait_until(&self, at: Duration, meanwhile: impl FnMut() -> Result<()>) -> Result<bool> {
        self.wait(at.saturating_sub(self.elapsed()), meanwhile)
    }

    fn book(&self) -> MutexGuard<'_, Book> {
        self.book.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
