//! Owns the fetched records of a task until they are processed, and the order in which they are:
//! as in Kafka Streams, of all partitions the one whose next record has the lowest timestamp is next. Must not
//! know what processing is.

use std::collections::VecDeque;

use crate::record::{Batch, Cursor, Input};

/// Fetched records of one partition, in offset order.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Chunk {
    pub offsets: Vec<i64>,
    pub records: Batch,
}

/// How much of a partition may be buffered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BufferLimits {
    pub records: usize,
    pub bytes: usize,
}

/// Inputs (indices into the task's) whose fetching is to stop or to go on.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Flow {
    pub pause: Vec<usize>,
    pub resume: Vec<usize>,
}

/// How large a batch may become and where it has to end.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Cut {
    pub(crate) records: usize,
    pub(crate) bytes: usize,
    pub(crate) stream_time: Option<i64>,
    /// The record that brings stream time here is the last of its batch: a punctuation is due after it.
    pub(crate) punctuation: Option<i64>,
    /// Where a partition is empty of which the broker has more, the batch ends.
    pub(crate) waits: bool,
}

/// Records to be processed together.
#[derive(Debug, Default)]
pub(crate) struct Taken {
    pub(crate) input: Input,
    pub(crate) bytes: usize,
    /// Chunks that are through with the batch: input and the offset after the chunk, which may lie
    /// behind records that were dropped.
    pub(crate) ends: Vec<(usize, i64)>,
}

#[derive(Debug)]
struct Held {
    chunk: Chunk,
    /// The timestamps are those to go by.
    stamped: bool,
    end: i64,
}

#[derive(Debug, Default)]
struct Queue {
    chunks: VecDeque<Held>,
    /// In the first chunk.
    cursor: Cursor,
    records: usize,
    bytes: usize,
    /// The next offset that is not buffered yet.
    expected: i64,
    paused: bool,
    /// Of two partitions with the same timestamp the one that waits for longer is next, since records were
    /// taken out of it or, if that left none, since there are some again.
    turn: u64,
    /// The broker has, or may have, more than was added.
    behind: bool,
    /// Highest timestamp taken out.
    time: Option<i64>,
}

impl Queue {
    fn head_time(&self) -> Option<i64> {
        let held = self.chunks.front()?;
        held.chunk.records.timestamps.get(self.cursor.row()).copied()
    }

    /// What comes next of it is still at the broker.
    fn is_awaited(&self) -> bool {
        self.chunks.is_empty() && self.behind
    }

    /// Whether the first chunk has timestamps to go by, as far as there is one.
    fn is_stamped(&self) -> bool {
        self.chunks.front().is_none_or(|held| held.stamped)
    }
}

#[derive(Debug, Default)]
pub(crate) struct Buffer {
    queues: Vec<Queue>,
    turns: u64,
    idle_since: Option<i64>,
}

impl Buffer {
    pub(crate) fn new(inputs: usize) -> Self {
        Self { queues: (0..inputs).map(|_| Queue::default()).collect(), ..Self::default() }
    }

    /// Empties a queue, which goes on at `offset`.
    pub(crate) fn start(&mut self, input: usize, offset: Option<i64>, time: Option<i64>) {
        self.queues[input] = Queue { expected: offset.unwrap_or(0), time, ..Queue::default() };
    }

    pub(crate) fn clear(&mut self) {
        for queue in &mut self.queues {
            *queue = Queue { time: queue.time, ..Queue::default() };
        }
        self.idle_since = None;
    }

    /// Buffers what is new of a chunk and says how many records were dropped for a negative timestamp.
    pub(crate) fn add(&mut self, input: usize, chunk: Chunk, extract: bool) -> usize {
        debug_assert_eq!(chunk.offsets.len(), chunk.records.len(), "one offset per record");
        let queue = &mut self.queues[input];
        let Some(&last) = chunk.offsets.last() else { return 0 };
        let known = chunk.offsets.partition_point(|&offset| offset < queue.expected);
        let end = last + 1;
        if known == chunk.offsets.len() {
            return 0;
        }
        let mut chunk = chunk;
        if known > 0 {
            chunk = part(&chunk, |row| row >= known);
        }
        let mut dropped = 0;
        if !extract && chunk.records.timestamps.iter().any(|&time| time < 0) {
            let before = chunk.offsets.len();
            chunk = part(&chunk, |row| chunk.records.timestamps[row] >= 0);
            dropped = before - chunk.offsets.len();
        }
        queue.expected = end;
        if queue.records == 0 {
            self.turns += 1;
            queue.turn = self.turns;
        }
        queue.records += chunk.offsets.len();
        queue.bytes += chunk.records.size();
        queue.chunks.push_back(Held { chunk, stamped: !extract, end });
        dropped
    }

    pub(crate) fn records(&self, input: usize) -> usize {
        self.queues[input].records
    }

    pub(crate) fn bytes(&self, input: usize) -> usize {
        self.queues[input].bytes
    }

    pub(crate) fn time(&self, input: usize) -> Option<i64> {
        self.queues[input].time
    }

    pub(crate) fn set_behind(&mut self, input: usize, behind: bool) {
        self.queues[input].behind = behind;
    }

    /// What has to change so that no partition buffers much more than its limit. A paused partition
    /// goes on at half of it: to pause and to resume costs the consumer what it has fetched ahead.
    pub(crate) fn flow(&mut self, limits: BufferLimits) -> Flow {
        let mut flow = Flow::default();
        for (input, queue) in self.queues.iter_mut().enumerate() {
            let full = queue.records >= limits.records || queue.bytes >= limits.bytes;
            let low = queue.records <= limits.records / 2 && queue.bytes <= limits.bytes / 2;
            if full && !queue.paused {
                queue.paused = true;
                flow.pause.push(input);
            } else if low && queue.paused {
                queue.paused = false;
                flow.resume.push(input);
            }
        }
        flow
    }

    /// Whether records may be taken out now, although more may be to come of other partitions.
    pub(crate) fn is_ready(&mut self, now_ms: i64, max_idle_ms: Option<u64>) -> bool {
        if self.queues.iter().all(|queue| queue.chunks.is_empty()) {
            return false;
        }
        let (Some(max_idle_ms), true) = (max_idle_ms, self.queues.iter().any(|queue| queue.chunks.is_empty())) else {
            self.idle_since = None;
            return true;
        };
        if self.queues.iter().any(Queue::is_awaited) {
            self.idle_since = None;
            return false;
        }
        let since = *self.idle_since.get_or_insert(now_ms);
        now_ms.saturating_sub(since) >= i64::try_from(max_idle_ms).unwrap_or(i64::MAX)
    }

    /// A chunk whose timestamps the module has to find before anything is taken out.
    pub(crate) fn unstamped(&mut self) -> Option<(usize, Chunk)> {
        let input = self.queues.iter().position(|queue| !queue.is_stamped())?;
        let held = self.queues[input].chunks.front_mut()?;
        Some((input, std::mem::take(&mut held.chunk)))
    }

    /// Gives such a chunk back with its timestamps, without the records whose timestamp is negative, and
    /// says how many those were.
    pub(crate) fn stamp(&mut self, input: usize, chunk: Chunk) -> usize {
        let queue = &mut self.queues[input];
        let Some(held) = queue.chunks.front_mut() else { return 0 };
        let (rows, size) = (chunk.offsets.len(), chunk.records.size());
        held.chunk = chunk;
        held.stamped = true;
        if held.chunk.records.timestamps.iter().any(|&time| time < 0) {
            held.chunk = part(&held.chunk, |row| held.chunk.records.timestamps[row] >= 0);
        }
        let dropped = rows - held.chunk.offsets.len();
        queue.records -= dropped;
        queue.bytes -= size - held.chunk.records.size();
        dropped
    }

    /// Nothing from `offset` on, which lies in or right after the first chunk, is to be processed any more.
    pub(crate) fn cut_off(&mut self, input: usize, offset: i64) {
        let queue = &mut self.queues[input];
        queue.chunks.truncate(1);
        if let Some(held) = queue.chunks.front_mut() {
            held.end = offset;
            queue.records = held.chunk.offsets.len();
            queue.bytes = held.chunk.records.size();
        }
    }

    /// Moves records out in processing order; `None` if there is nothing.
    pub(crate) fn take(&mut self, cut: Cut) -> Option<Taken> {
        let mut taken = Taken::default();
        let mut stream_time = cut.stream_time;
        let mut full = false;
        self.drop_finished(&mut taken);
        while !full && self.queues.iter().all(Queue::is_stamped) {
            if cut.waits && self.queues.iter().any(Queue::is_awaited) {
                break;
            }
            let heads = self.queues.iter().enumerate();
            let mut heads: Vec<_> = heads.filter_map(|(input, q)| Some((q.head_time()?, q.turn, input))).collect();
            heads.sort_unstable();
            let Some(&(_, _, input)) = heads.first() else { break };
            let before = heads.get(1).map(|&(time, _, _)| time);
            let rows;
            (rows, full) = self.run(input, before, &cut, &mut taken, &mut stream_time);
            self.move_out(input, rows, &mut taken);
            self.drop_finished(&mut taken);
        }
        if taken.input.is_empty() && taken.ends.is_empty() { None } else { Some(taken) }
    }

    /// How many records of the first chunk of `input` are next, and whether the batch ends with them.
    fn run(
        &self,
        input: usize,
        before: Option<i64>,
        cut: &Cut,
        taken: &mut Taken,
        stream_time: &mut Option<i64>,
    ) -> (usize, bool) {
        let queue = &self.queues[input];
        let Some(held) = queue.chunks.front() else { return (0, true) };
        let records = &held.chunk.records;
        let start = queue.cursor.row();
        let length = |lengths: &[i32], row: usize| usize::try_from(lengths[row]).unwrap_or(0);
        for row in start..records.len() {
            let time = records.timestamps[row];
            let rows = row - start;
            if rows > 0 && before.is_some_and(|before| time >= before) {
                return (rows, false);
            }
            let size = length(&records.keys.lengths, row) + length(&records.values.lengths, row);
            let count = taken.input.len() + rows;
            if count > 0 && (count >= cut.records || taken.bytes + size > cut.bytes) {
                return (rows, true);
            }
            taken.bytes += size;
            *stream_time = (*stream_time).max(Some(time));
            if cut.punctuation.is_some_and(|due| *stream_time >= Some(due)) {
                return (rows + 1, true);
            }
        }
        (records.len() - start, false)
    }

    fn move_out(&mut self, input: usize, rows: usize, taken: &mut Taken) {
        if rows == 0 {
            return;
        }
        self.turns += 1;
        let queue = &mut self.queues[input];
        queue.turn = self.turns;
        let Some(held) = queue.chunks.front_mut() else { return };
        let start = queue.cursor.row();
        let highest = held.chunk.records.timestamps[start..start + rows].iter().copied().max();
        queue.time = queue.time.max(highest);
        queue.records -= rows;
        let topic = u32::try_from(input).expect("a task has a handful of inputs");
        taken.input.topics.resize(taken.input.topics.len() + rows, topic);
        if start == 0 && rows == held.chunk.offsets.len() && taken.input.offsets.is_empty() {
            queue.bytes -= held.chunk.records.size();
            let chunk = std::mem::take(&mut held.chunk);
            taken.input.offsets = chunk.offsets;
            taken.input.records = chunk.records;
            return;
        }
        taken.input.offsets.extend_from_slice(&held.chunk.offsets[start..start + rows]);
        let before = taken.input.records.size();
        taken.input.records.append(&held.chunk.records, &mut queue.cursor, rows);
        queue.bytes -= taken.input.records.size() - before;
    }

    fn drop_finished(&mut self, taken: &mut Taken) {
        for (input, queue) in self.queues.iter_mut().enumerate() {
            while let Some(held) = queue.chunks.front()
                && held.stamped
                && queue.cursor.row() >= held.chunk.offsets.len()
            {
                taken.ends.push((input, held.end));
                queue.chunks.pop_front();
                queue.cursor = Cursor::default();
            }
        }
    }
}

/// The records of a chunk that `keep` names.
fn part(chunk: &Chunk, keep: impl Fn(usize) -> bool) -> Chunk {
    let mut kept = Chunk::default();
    let mut cursor = Cursor::default();
    for (row, &offset) in chunk.offsets.iter().enumerate() {
        if keep(row) {
            kept.offsets.push(offset);
            kept.records.append(&chunk.records, &mut cursor, 1);
        } else {
            cursor.skip(&chunk.records, 1);
        }
    }
    kept
}
