//! Fills the global stores: up to where their topics end before anything is processed, and then on and on, on a thread of
//! its own. Must not know how the stores are kept, nor who reads them.
//!
//! How far a topic was read stands beside what was made of it, in the database. So a start reads on from there, unless the
//! topic no longer has that offset: then it was deleted from, or made anew, and the stores begin with nothing.

mod reader;

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use millrace_engine::global::{Filler, GlobalStores};
use millrace_engine::ports::{Error, Fault};
use millrace_engine::quarantine::{Incident, Policy};
use millrace_engine::record::{Offset, TopicPartition};
use millrace_engine::task::Successor;

use crate::kafka::Clients;
use crate::status::{GlobalStatus, Status};
use reader::{Bounds, Reader};

/// How long a turn waits for records of all topics, and so how late a stop is noticed.
const WAIT: Duration = Duration::from_millis(100);
/// Pause before something is tried again that may pass.
const RETRY_WAIT: Duration = Duration::from_secs(1);
/// How often it is said how far the filling is.
const PROGRESS_INTERVAL: Duration = Duration::from_secs(5);

/// Makes what fills the stores.
pub trait FillerFactory: Send {
    /// On what is on disk, or on empty stores. What was made before is gone.
    fn make(&mut self, emptied: bool) -> Result<(Filler, GlobalStores), Error>;
    /// Another version of the module, if there is one since this was asked last.
    fn successor(&mut self) -> Option<Successor>;
    fn now_ms(&self) -> i64;
}

/// The global stores, filled.
pub struct Globals {
    filler: Filler,
    stores: GlobalStores,
    readers: Vec<Reader>,
    status: Vec<Arc<GlobalStatus>>,
    factory: Box<dyn FillerFactory>,
}

impl Globals {
    /// Fills the stores up to where their topics end at the moment, and waits for that.
    pub fn fill(clients: &Clients, mut factory: Box<dyn FillerFactory>, status: &Status) -> Result<Self, Error> {
        let (mut filler, mut stores) = factory.make(false)?;
        let bounds = Bounds::ask(clients, &inputs(&mut filler))?;
        let offsets = match begin(&mut filler, &bounds)? {
            Ok(offsets) => offsets,
            Err(why) => {
                tracing::warn!(why, "what is on disk of the global stores can't be gone on with: they are filled anew");
                // Closed before it is opened again.
                drop(filler);
                (filler, stores) = factory.make(true)?;
                bounds.begins()
            }
        };
        filler.start(&offsets, factory.now_ms())?;
        let spec = Arc::clone(filler.task().spec());
        let status = spec.stores.iter().map(|store| status.global(&store.name)).collect();
        let readers = Reader::all(clients, &inputs(&mut filler), &offsets, &bounds)?;
        let mut globals = Self { filler, stores, readers, status, factory };
        globals.catch_up()?;
        Ok(globals)
    }

    /// As tasks read them.
    #[must_use]
    pub fn stores(&self) -> GlobalStores {
        self.stores.clone()
    }

    fn catch_up(&mut self) -> Result<(), Error> {
        let (began, mut told_at, mut records) = (Instant::now(), Instant::now(), 0);
        (0..self.readers.len()).for_each(|reader| self.tell(reader, 0));
        while !self.readers.iter().all(Reader::is_through) {
            records += self.turn()?;
            if told_at.elapsed() >= PROGRESS_INTERVAL {
                told_at = Instant::now();
                let left: u64 = self.readers.iter().map(Reader::left).sum();
                tracing::info!(records, left, "filling the global stores");
            }
        }
        let ms = began.elapsed().as_millis();
        tracing::info!(records, ms, "the global stores are filled");
        Ok(())
    }

    /// Reads what there is, waiting for it a moment, and says how much that was.
    fn turn(&mut self) -> Result<usize, Error> {
        let wait = WAIT / u32::try_from(self.readers.len().max(1)).unwrap_or(1);
        let mut all = 0;
        for reader in 0..self.readers.len() {
            let read = self.readers[reader].poll(wait)?;
            let records = read.iter().map(|(_, chunk)| chunk.offsets.len()).sum();
            for (input, chunk) in read {
                let mut filled = self.filler.fill(input, chunk, self.factory.now_ms());
                while let Err(Error::Retry(reason)) = filled {
                    tracing::warn!(reason, "fill the global stores; will try again");
                    std::thread::sleep(RETRY_WAIT);
                    filled = self.filler.work(self.factory.now_ms());
                }
                self.tell_left_out();
                filled?;
            }
            self.tell(reader, records);
            all += records;
        }
        Ok(all)
    }

    fn tell(&self, reader: usize, records: usize) {
        self.status[reader].read(records, self.readers[reader].left());
    }

    /// Says what was left out, and why.
    fn tell_left_out(&mut self) {
        let task = self.filler.task();
        for Incident { place, key, value, fault, policy, .. } in task.take_incidents() {
            let Fault { kind, node, message, lines, .. } = fault;
            if policy == Policy::Fail {
                tracing::error!(at = place, node, fault = ?kind, %policy, key, value, ?lines, "{message}");
            } else {
                tracing::warn!(at = place, node, fault = ?kind, %policy, key, value, ?lines, "{message}");
            }
        }
        for dropped in task.take_dropped() {
            let (node, count) = (dropped.node, dropped.count);
            tracing::warn!(node, count, "left out records of a global store: {}", dropped.reason);
        }
    }

    /// Keeps the stores up to date from now on. `failed` is told why that ended, if it was not stopped.
    pub fn follow(mut self, failed: impl FnOnce(Error) + Send + 'static) -> io::Result<Following> {
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let follow = move || {
            let mut alarm = Alarm(Some(failed));
            while !stopped.load(Ordering::Relaxed) {
                self.take_version();
                if let Err(error) = self.turn() {
                    alarm.ring(error);
                    return;
                }
            }
        };
        let thread = std::thread::Builder::new().name("global".to_owned()).spawn(follow)?;
        Ok(Following { stop, thread })
    }

    /// Goes on with another version of the module. One that fills other stores has the application start anew.
    fn take_version(&mut self) {
        let Some(successor) = self.factory.successor() else { return };
        match self.filler.take_over(successor) {
            Ok(true) => tracing::info!("the global stores are filled by the new version of the module"),
            Ok(false) => tracing::warn!("the version before goes on filling the global stores until a restart"),
            Err(error) => tracing::error!(%error, "the version before goes on filling the global stores"),
        }
    }
}

/// Tells why the thread ended, also if it panicked: stores that stay as they are would not be noticed otherwise.
struct Alarm<F: FnOnce(Error)>(Option<F>);

impl<F: FnOnce(Error)> Alarm<F> {
    fn ring(&mut self, error: Error) {
        if let Some(failed) = self.0.take() {
            failed(error);
        }
    }
}

impl<F: FnOnce(Error)> Drop for Alarm<F> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.ring(Error::Fatal("their thread panicked; its message is above".to_owned()));
        }
    }
}

/// The thread that keeps the stores up to date.
pub struct Following {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<()>,
}

impl Following {
    /// Ends it, and closes the stores.
    pub fn stop(self) {
        self.stop.store(true, Ordering::Relaxed);
        if self.thread.join().is_err() {
            tracing::error!("the thread that fills the global stores panicked; its message is above");
        }
    }
}

fn inputs(filler: &mut Filler) -> Vec<TopicPartition> {
    let task = filler.task();
    (0..task.spec().inputs.len()).map(|input| task.partition(input)).collect()
}

/// Where each input goes on: where its store is, or at the beginning of its topic for a store that has nothing. An inner
/// error: what is on disk is not what its topic would make of it.
fn begin(filler: &mut Filler, bounds: &Bounds) -> Result<Result<Vec<Offset>, String>, Error> {
    let stored = filler.task().stored_positions()?;
    let mut offsets = bounds.begins();
    for (input, at) in inputs(filler).iter().enumerate() {
        let Some(&(_, offset)) = stored.inputs.iter().find(|(known, _)| known == at) else { continue };
        let (begin, end) = bounds.of(input);
        if filler.keeps(input) {
            if offset < begin || offset > end {
                let why = format!("{at} has the offsets {} to {}, and was read up to {}", begin.0, end.0, offset.0);
                return Ok(Err(why));
            }
            offsets[input] = offset;
        }
    }
    Ok(Ok(offsets))
}
