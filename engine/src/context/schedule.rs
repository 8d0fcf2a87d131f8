//! Owns the punctuations a module asked for: when each is due next, and what of that survives a
//! fresh instance. Must not know who calls the module.
//!
//! The times are Kafka Streams': a stream-time schedule without an anchor is aligned to 0 and so
//! fires with the first record, one on the wall clock fires an interval from now, and a schedule that
//! missed several intervals fires once.

use super::{Clock, Misuse};

/// No topology needs more, and a module in a loop must not fill the host's memory.
const SCHEDULES_MAX: usize = 1_000;

#[derive(Debug, Clone, PartialEq, Eq)]
struct Schedule {
    id: u32,
    clock: Clock,
    interval_ms: i64,
    anchor: Option<i64>,
    next: i64,
}

impl Schedule {
    /// The first time of the series after `now`, or the next one if that is later.
    fn advance(&mut self, now: i64) {
        let missed = now.saturating_sub(self.next).max(0) / self.interval_ms;
        self.next = self.next.saturating_add(missed.saturating_add(1).saturating_mul(self.interval_ms));
    }
}

#[derive(Debug, Clone, Default)]
pub(crate) struct Schedules {
    live: Vec<Schedule>,
    next_id: u32,
    /// Those of the instance before this one: `init` makes them again, and they keep their times.
    before: Vec<Schedule>,
}

impl Schedules {
    pub(crate) fn add(
        &mut self,
        interval_ms: i64,
        clock: Clock,
        anchor: Option<i64>,
        now: Option<i64>,
    ) -> Result<u32, Misuse> {
        if interval_ms < 1 {
            return Err(Misuse(format!("a punctuation every {interval_ms} ms: at least 1 is needed")));
        }
        if self.live.len() >= SCHEDULES_MAX {
            return Err(Misuse(format!("more than {SCHEDULES_MAX} punctuations")));
        }
        let next = match (anchor, clock) {
            (Some(anchor), _) => anchor,
            (None, Clock::StreamTime) => 0,
            (None, Clock::WallClock) => now.unwrap_or(0).saturating_add(interval_ms),
        };
        let mut schedule = Schedule { id: self.next_id, clock, interval_ms, anchor, next };
        if anchor.is_some() && now.is_some_and(|now| next < now) {
            schedule.advance(now.unwrap_or(next));
        }
        let same = |old: &&Schedule| {
            (old.id, old.clock, old.interval_ms, old.anchor) == (schedule.id, clock, interval_ms, anchor)
        };
        if let Some(old) = self.before.iter().find(same) {
            schedule.next = old.next;
        }
        self.next_id += 1;
        let id = schedule.id;
        self.live.push(schedule);
        Ok(id)
    }

    pub(crate) fn cancel(&mut self, id: u32) {
        self.live.retain(|schedule| schedule.id != id);
    }

    /// When the next punctuation of a clock is due.
    pub(crate) fn next(&self, clock: Clock) -> Option<i64> {
        self.live.iter().filter(|schedule| schedule.clock == clock).map(|schedule| schedule.next).min()
    }

    /// The one that is due first at `now`, moved on to its next time.
    pub(crate) fn take_due(&mut self, clock: Clock, now: i64) -> Option<u32> {
        let due = self.live.iter_mut().filter(|schedule| schedule.clock == clock && schedule.next <= now);
        let first = due.min_by_key(|schedule| (schedule.next, schedule.id))?;
        first.advance(now);
        Some(first.id)
    }

    /// A fresh instance makes its schedules anew, under the same ids.
    pub(crate) fn restart(&mut self) {
        self.before = std::mem::take(&mut self.live);
        self.next_id = 0;
    }

    /// `init` is through: what it did not make again is gone.
    pub(crate) fn started(&mut self) {
        self.before.clear();
    }
}
