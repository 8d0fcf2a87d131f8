//! Owns one task: its phase, its buffered records, its position in its inputs, its instance of the module and
//! the state it lends to it. Must not know where records come from, nor what the log and the database are.
//!
//! ```text
//!                 restoring()            start()
//!     Created ──────────────▶ Restoring ─────────▶ Running
//!        │                     │     ▲              │   ▲
//!        │           suspend() │     │ restoring()  │   │ resume()
//!        │                     ▼     │    suspend() ▼   │
//!        │                     └───▶ Suspended ◀────┘   │
//!        │                            │    └────────────┘
//!        └──────────── close() ───────┴──────▶ Closed     (from any phase)
//!
//!                                 follow()            restoring()
//!     Created, Suspended, Standby ────────▶ Standby ─────────────▶ Restoring
//! ```
//!
//! A standby is a warm copy of a task that runs on another instance: its module is not called, its stores follow the
//! changelogs, and little is left to restore when it is to run.
//!
//! A turn of the worker, for each of its tasks:
//!
//! 1. `add` what was fetched for its inputs, `flow` to know which partitions to pause and resume,
//! 2. `process`, which makes at most one batch of what is buffered and calls the module once with it, and again as
//!    long as it says there was something to do; a batch that failed goes on in parts ([`Task::is_isolating`]), with
//!    commits in between if they are due,
//! 3. `punctuate` for the wall clock,
//! 4. when the interval is over, or a task says [`Task::is_commit_due`]: [`crate::commit::commit`] for all of them.
//!
//! A call that fails with [`Error::Retry`] may be repeated: the task knows what is left to do. After
//! [`Error::Guest`] the task is suspended: all before the failing record is processed and may be committed.
//! After any other error it is closed, and what was uncommitted is gone.

mod buffer;
mod output;
mod spec;
mod swap;

use std::collections::VecDeque;
use std::sync::Arc;

pub use buffer::{BufferLimits, Chunk, Flow};
pub(crate) use output::{Outgoing, route};
pub use spec::{InputSpec, Settings, StoreSpec, TaskSpec};
pub use swap::{Fit, Successor};

use crate::context::{Clock, Context, Dropped};
use crate::global::GlobalStores;
use crate::overlay::{Lookups, StoreKind};
use crate::ports::{Database, Error, Guest, Log, Positions, Write};
use crate::quarantine::{Incident, Pieces, Stamping};
use crate::record::{Input, Offset, TaskId, TopicPartition};
use crate::restore::Restoration;
use buffer::{Buffer, Cut};

/// Punctuations of one turn. A schedule that makes another one each time must not stop the worker.
const PUNCTUATIONS_MAX: usize = 1_000;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    Created,
    /// Its stores are being filled from their changelogs.
    Restoring,
    Running,
    /// It processes nothing but may be committed, and be taken up again.
    Suspended,
    /// It follows the changelogs of the task, which runs elsewhere.
    Standby,
    Closed,
}

impl Phase {
    fn may_become(self, next: Self) -> bool {
        use Phase::{Closed, Created, Restoring, Running, Standby, Suspended};
        matches!(
            (self, next),
            (Created | Suspended | Standby, Restoring)
                | (Restoring | Suspended, Running)
                | (Restoring | Running, Suspended)
                | (Created | Suspended | Standby, Standby)
                | (Created | Restoring | Running | Suspended | Standby, Closed)
        )
    }
}

/// What the stores of a task are to its overlay.
fn kinds(stores: &[StoreSpec]) -> Vec<(String, StoreKind)> {
    let kind = |store: &StoreSpec| StoreKind { cached: store.cached, expiry: store.expiry };
    stores.iter().map(|store| (store.name.clone(), kind(store))).collect()
}

/// Where an input of a task goes on.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Start {
    /// `None`: the group does not know; its reset policy has to say.
    pub offset: Option<Offset>,
    /// Highest timestamp seen in the partition, from the metadata of its committed offset.
    pub partition_time: Option<i64>,
}

/// What one call of `process` did.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Processed {
    pub records: usize,
    pub bytes: usize,
    pub punctuations: usize,
    /// Whether there may be more to process at once.
    pub more: bool,
}

/// How far the task is in one input.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Progress {
    /// The next record to process.
    pub(crate) position: Option<Offset>,
    /// Moved since the database was written last.
    pub(crate) unwritten: bool,
    /// Moved since the group was told last.
    pub(crate) uncommitted: bool,
    /// Highest timestamp processed.
    pub(crate) time: Option<i64>,
}

/// A batch that the module has not done all of yet.
struct Unfinished {
    pieces: Pieces<Input>,
    /// Of each chunk that is through with the batch: input and the offset after the chunk.
    ends: Vec<(usize, i64)>,
}

pub struct Task {
    pub(crate) spec: Arc<TaskSpec>,
    pub(crate) settings: Arc<Settings>,
    pub(crate) guest: Box<dyn Guest>,
    pub(crate) context: Context,
    pub(crate) progress: Vec<Progress>,
    /// Handed back by the module, not taken by the log yet.
    pub(crate) pending: VecDeque<Outgoing>,
    pub(crate) incidents: Vec<Incident>,
    phase: Phase,
    buffer: Buffer,
    /// What failed as a whole, and is run in parts.
    batch: Option<Unfinished>,
    stamping: Option<Stamping>,
    /// A turn has left stream-time punctuations that are due.
    is_late: bool,
    /// A call has taken all the time it may. No other is made before the worker had the chance to commit.
    pub(crate) timed_out: bool,
    /// A fault that is due once what was buffered of the input before it is processed.
    doom: Option<(usize, Error)>,
    pub(crate) restoration: Restoration,
    /// The log has taken something of it since the last commit.
    pub(crate) sent: bool,
    /// Its inputs have positions: it was running since it was restored last.
    started: bool,
}

impl Task {
    #[must_use]
    pub fn new(
        spec: Arc<TaskSpec>,
        settings: Arc<Settings>,
        guest: Box<dyn Guest>,
        database: Box<dyn Database>,
    ) -> Self {
        let stores = kinds(&spec.stores);
        let partitions = spec.partition_counts.clone();
        let context = Context::new(database, &stores, partitions, settings.cache_bytes, settings.call);
        Self {
            progress: vec![Progress::default(); spec.inputs.len()],
            buffer: Buffer::new(spec.inputs.len()),
            pending: VecDeque::new(),
            incidents: Vec::new(),
            phase: Phase::Created,
            batch: None,
            stamping: None,
            is_late: false,
            timed_out: false,
            doom: None,
            restoration: Restoration::default(),
            sent: false,
            started: false,
            spec,
            settings,
            guest,
            context,
        }
    }

    /// The same, with global stores that its module may read.
    #[must_use]
    pub fn reading(mut self, globals: GlobalStores) -> Self {
        self.context.read_globals(globals);
        self
    }

    #[must_use]
    pub fn id(&self) -> TaskId {
        self.spec.id
    }

    #[must_use]
    pub fn spec(&self) -> &Arc<TaskSpec> {
        &self.spec
    }

    #[must_use]
    pub fn phase(&self) -> Phase {
        self.phase
    }

    /// The partition of an input.
    #[must_use]
    pub fn partition(&self, input: usize) -> TopicPartition {
        let InputSpec { topic, partition, .. } = &self.spec.inputs[input];
        TopicPartition::new(topic.clone(), *partition)
    }

    /// How far the task has come in an input: the next record to process.
    #[must_use]
    pub fn position(&self, input: usize) -> Option<Offset> {
        self.progress[input].position
    }

    fn enter(&mut self, next: Phase) -> Result<(), Error> {
        if !self.phase.may_become(next) {
            return Err(Error::Fatal(format!("task {} can't go from {:?} to {next:?}", self.id(), self.phase)));
        }
        self.phase = next;
        Ok(())
    }

    /// Its stores are about to be filled, and what was uncommitted is dropped. For a task with nothing to restore; else
    /// see [`Task::restore`].
    pub fn restoring(&mut self) -> Result<(), Error> {
        self.begin(Phase::Restoring)
    }

    /// Enters a phase in which its stores are filled: what was uncommitted is dropped.
    pub(crate) fn begin(&mut self, phase: Phase) -> Result<(), Error> {
        self.enter(phase)?;
        self.context.overlay().discard();
        self.context.metadata.clear();
        self.pending.clear();
        self.restoration = Restoration::default();
        self.progress.fill(Progress::default());
        (self.sent, self.started) = (false, false);
        Ok(())
    }

    /// Begins to process: one start for each input, and the highest timestamp processed so far.
    ///
    /// The starts are written to the database before anything else: from then on the state there is known to be
    /// that at these offsets, see [`crate::restore`]. So where the group has no offset, the reset policy should be
    /// resolved before.
    pub fn start(&mut self, starts: &[Start], stream_time: Option<i64>, now_ms: i64) -> Result<(), Error> {
        if self.phase != Phase::Restoring || !self.restoration.is_done() {
            return Err(Error::Fatal(format!("task {} can't start before it is restored", self.id())));
        }
        let mut positions = Positions { stream_time, ..Positions::default() };
        for (input, start) in starts.iter().enumerate() {
            // The group may be behind the disk: another instance would process again what is processed here.
            let uncommitted = start.offset.is_some();
            let (position, time) = (start.offset, start.partition_time);
            self.progress[input] = Progress { position, unwritten: false, uncommitted, time };
            self.buffer.start(input, start.offset.map(|offset| offset.0), start.partition_time);
            positions.inputs.extend(start.offset.map(|offset| (self.partition(input), offset)));
        }
        self.context.overlay().database()?.write(Write { entries: Vec::new(), positions })?;
        let stored = self.stored_positions()?;
        for (store, spec) in self.spec.stores.iter().enumerate() {
            self.context.overlay().observe(store, stored.observed(&spec.name));
        }
        let latest = starts.iter().filter_map(|start| start.partition_time).max();
        self.context.stream_time = stream_time.max(latest);
        self.context.now_ms = now_ms;
        self.reset_guest()?;
        self.started = true;
        self.enter(Phase::Running)
    }

    /// Stops processing. What is buffered is dropped: it is fetched again if the task is resumed.
    pub fn suspend(&mut self) -> Result<(), Error> {
        self.enter(Phase::Suspended)?;
        self.clear();
        self.doom = None;
        Ok(())
    }

    fn clear(&mut self) {
        self.buffer.clear();
        self.batch = None;
        self.stamping = None;
    }

    /// Goes on where it was suspended, if nobody else had the task in between and it was running.
    pub fn resume(&mut self) -> Result<(), Error> {
        if !self.started {
            return Err(Error::Fatal(format!("task {} can't be resumed before it is restored", self.id())));
        }
        self.enter(Phase::Running)?;
        for input in 0..self.progress.len() {
            let offset = self.progress[input].position.map(|offset| offset.0);
            self.buffer.start(input, offset, self.progress[input].time);
        }
        Ok(())
    }

    /// The end of the task; what is uncommitted is dropped.
    pub fn close(&mut self) {
        self.phase = Phase::Closed;
        self.clear();
        self.pending.clear();
        self.context.overlay().discard();
    }

    /// Buffers records of an input. Those below the position the task has buffered to are known already.
    pub fn add(&mut self, input: usize, chunk: Chunk) {
        let extract = self.spec.inputs[input].extracts_timestamps;
        let dropped = self.buffer.add(input, chunk, extract);
        self.count_negative(input, dropped);
    }

    fn count_negative(&mut self, input: usize, dropped: usize) {
        if dropped > 0 {
            let count = u32::try_from(dropped).unwrap_or(u32::MAX);
            self.context.dropped(&self.spec.inputs[input].name, "negative timestamp", count);
        }
    }

    /// Buffered records of an input.
    #[must_use]
    pub fn buffered_records(&self, input: usize) -> usize {
        self.buffer.records(input)
    }

    /// Buffered bytes of an input.
    #[must_use]
    pub fn buffered_bytes(&self, input: usize) -> usize {
        self.buffer.bytes(input)
    }

    /// Inputs whose fetching has to be paused or resumed, each named once until that changes.
    pub fn flow(&mut self, limits: BufferLimits) -> Flow {
        self.buffer.flow(limits)
    }

    /// Whether the broker has, or may have, records of an input that were not added yet. A task with several inputs
    /// waits for them, unless `max_task_idle_ms` says never to.
    pub fn set_behind(&mut self, input: usize, behind: bool) {
        self.buffer.set_behind(input, behind);
    }

    /// Highest timestamp processed.
    #[must_use]
    pub fn stream_time(&self) -> Option<i64> {
        self.context.stream_time
    }

    /// Highest timestamp processed of an input.
    #[must_use]
    pub fn partition_time(&self, input: usize) -> Option<i64> {
        self.progress[input].time
    }

    /// The state of the task, uncommitted changes included.
    pub fn state(&mut self) -> &mut Context {
        &mut self.context
    }

    /// Records the module left out since this was asked last.
    pub fn take_dropped(&mut self) -> Vec<Dropped> {
        self.context.take_dropped()
    }

    /// Keys that were looked up in its stores since this was asked last.
    pub fn take_lookups(&mut self) -> Lookups {
        self.context.overlay().take_lookups()
    }

    /// Faults that were dealt with since this was asked last.
    pub fn take_incidents(&mut self) -> Vec<Incident> {
        std::mem::take(&mut self.incidents)
    }

    /// Memory that uncommitted changes of its stores take.
    #[must_use]
    pub fn dirty_bytes(&self) -> usize {
        self.context.dirty_bytes()
    }

    /// Whether a commit should not wait for the interval to end.
    #[must_use]
    pub fn is_commit_due(&self) -> bool {
        self.context.commit_requested || self.context.dirty_bytes() >= self.settings.overlay_bytes
    }

    /// Whether there is anything to commit. What was sent is: a punctuation may do nothing else, and under exactly-once
    /// that is in a transaction, which has to come to its end.
    #[must_use]
    pub fn is_commit_needed(&self) -> bool {
        self.sent
            || self.context.is_dirty()
            || !self.pending.is_empty()
            || self.progress.iter().any(|progress| progress.unwritten || progress.uncommitted)
    }

    /// When a wall-clock punctuation is due next.
    #[must_use]
    pub fn next_wall_clock_ms(&self) -> Option<i64> {
        self.context.schedules.next(Clock::WallClock)
    }

    /// What the database says of itself.
    pub fn stored_positions(&mut self) -> Result<Positions, Error> {
        self.context.overlay().database()?.positions()
    }

    /// Whether a batch failed and is being run in parts to find the records that are to blame.
    #[must_use]
    pub fn is_isolating(&self) -> bool {
        self.batch.is_some() || self.stamping.is_some()
    }

    /// Processes one batch of what is buffered, or the next part of one that failed, then the stream-time punctuations
    /// that are due.
    pub fn process(&mut self, now_ms: i64, log: &mut dyn Log) -> Result<Processed, Error> {
        self.send_pending(log)?;
        if self.phase != Phase::Running {
            return Ok(Processed::default());
        }
        let ready = self.buffer.is_ready(now_ms, self.settings.max_task_idle_ms);
        if !ready && !self.is_isolating() && !self.is_late {
            return Ok(Processed::default());
        }
        self.context.now_ms = now_ms;
        self.timed_out = false;
        let done = self.process_batch(ready, log);
        self.stopped_by(done)
    }

    /// Leaves the phase in which an error allows no more of it.
    fn stopped_by<T>(&mut self, done: Result<T, Error>) -> Result<T, Error> {
        match &done {
            Err(Error::Guest(_)) => self.suspend()?,
            Ok(_) | Err(Error::Retry(_)) => {}
            Err(_) => self.close(),
        }
        done
    }

    fn process_batch(&mut self, ready: bool, log: &mut dyn Log) -> Result<Processed, Error> {
        let mut done = Processed { more: true, ..Processed::default() };
        if self.batch.is_none() {
            self.stamp()?;
            if self.is_isolating() || self.timed_out {
                return Ok(done);
            }
            if ready {
                self.take_batch(&mut done);
            }
        }
        if let Some(mut batch) = self.batch.take() {
            let process =
                &mut |guest: &mut dyn Guest, input: &mut Input, context: &mut Context| guest.process(input, context);
            done.records = self.run_next(&mut batch.pieces, process, log)?;
            if !batch.pieces.is_done() {
                self.batch = Some(batch);
                return Ok(done);
            }
            for (input, end) in batch.ends {
                self.advance(input, Offset(end), None);
            }
        }
        if let Some(stream_time) = self.context.stream_time {
            done.punctuations = self.punctuate_due(Clock::StreamTime, stream_time, log)?;
            self.is_late = self.context.schedules.next(Clock::StreamTime).is_some_and(|next| next <= stream_time);
        }
        if let Some((_, error)) = self.doom.take_if(|(input, _)| self.buffer.records(*input) == 0) {
            return Err(error);
        }
        Ok(done)
    }

    fn take_batch(&mut self, done: &mut Processed) {
        let cut = Cut {
            records: self.settings.batch_records,
            bytes: self.settings.batch_bytes,
            stream_time: self.context.stream_time,
            punctuation: self.context.schedules.next(Clock::StreamTime),
            waits: self.settings.max_task_idle_ms.is_some(),
        };
        if let Some(taken) = self.buffer.take(cut) {
            done.bytes = taken.bytes;
            self.batch = Some(Unfinished { pieces: Pieces::new(taken.input), ends: taken.ends });
        }
    }

    /// Has the module find the timestamps of chunks that are next, where a source asks for it. Returns early after a
    /// call that failed.
    fn stamp(&mut self) -> Result<(), Error> {
        loop {
            if self.stamping.is_none() {
                self.stamping = self.unstamped();
            }
            let Some(mut stamping) = self.stamping.take() else { return Ok(()) };
            let error = self.extract_next(&mut stamping)?;
            if error.is_none() && !stamping.pieces.is_done() {
                self.stamping = Some(stamping);
                return Ok(());
            }
            self.stamped(stamping, error);
            if self.timed_out {
                return Ok(());
            }
        }
    }

    fn unstamped(&mut self) -> Option<Stamping> {
        let (input, chunk) = self.buffer.unstamped()?;
        let topic = u32::try_from(input).unwrap_or(u32::MAX);
        let topics = vec![topic; chunk.offsets.len()];
        let rows = Input { topics, offsets: chunk.offsets, records: chunk.records };
        Some(Stamping { input, pieces: Pieces::new(rows), timestamps: Vec::new(), time: self.buffer.time(input) })
    }

    /// Gives the chunk back to the buffer; with an error, up to the record that it is due after.
    fn stamped(&mut self, stamping: Stamping, error: Option<Error>) {
        let Stamping { input: index, pieces, timestamps, .. } = stamping;
        let mut input = pieces.rows();
        let failed = input.offsets.get(timestamps.len()).copied();
        input.records.timestamps[..timestamps.len()].copy_from_slice(&timestamps);
        input.records.timestamps[timestamps.len()..].fill(-1);
        let dropped = self.buffer.stamp(index, Chunk { offsets: input.offsets, records: input.records });
        match (error, failed) {
            (Some(error), Some(offset)) => {
                self.buffer.cut_off(index, offset);
                self.doom.get_or_insert((index, error));
            }
            _ => self.count_negative(index, dropped),
        }
    }

    /// Calls the module for the wall-clock punctuations that are due, and says how many those were.
    pub fn punctuate(&mut self, now_ms: i64, log: &mut dyn Log) -> Result<usize, Error> {
        self.send_pending(log)?;
        if self.phase != Phase::Running {
            return Ok(0);
        }
        self.context.now_ms = now_ms;
        self.timed_out = false;
        let done = self.punctuate_due(Clock::WallClock, now_ms, log);
        self.stopped_by(done)
    }

    fn punctuate_due(&mut self, clock: Clock, now: i64, log: &mut dyn Log) -> Result<usize, Error> {
        let mut count = 0;
        while count < PUNCTUATIONS_MAX
            && !self.timed_out
            && let Some(schedule) = self.context.schedules.take_due(clock, now)
        {
            self.punctuate_isolated(schedule, now, log)?;
            count += 1;
        }
        Ok(count)
    }

    /// A commit has made everything durable.
    pub(crate) fn committed(&mut self) {
        self.context.commit_requested = false;
        self.sent = false;
    }

    /// An input is processed to here.
    pub(crate) fn advance(&mut self, input: usize, offset: Offset, time: Option<i64>) {
        let progress = &mut self.progress[input];
        progress.time = progress.time.max(time);
        if progress.position.is_none_or(|position| position < offset) {
            (progress.position, progress.unwritten, progress.uncommitted) = (Some(offset), true, true);
        }
    }
}

#[cfg(test)]
pub(crate) mod tests;
