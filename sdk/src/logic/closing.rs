//! Owns the results of windows that go on once, when their windows are closed: which have not gone on yet, when that is
//! looked for and in which order they go on. Must not know how they come about.
//!
//! Which results go on at which record, and in which order, is as in Kafka Streams. It is looked for at every record, and
//! before the record is in the store: what would be gone by the age that the record gives the store goes on, too. Up
//! to where windows were closed at the last look is kept with the task, so that no result goes on again after a restart.
//! Which results wait is made anew from the store by each instance.

use std::collections::BTreeSet;
use std::rc::Rc;

use super::keyed::TableStore;
use crate::contract::{Cursor, Failure, Fault, empty_column, index, push_bytes};
use crate::rows::{Col, Data, Meta, Updates};
use crate::run::Run;
use crate::windows::{FixedWindows, SessionWindows, SlidingWindows, Windowed};

/// How many entries the host is asked for at once.
const CHUNK: u32 = 512;

/// Which windows there are, and with that how keys are stored and when windows are closed.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Closes {
    Fixed(FixedWindows),
    Sliding(SlidingWindows),
    Sessions {
        windows: SessionWindows,
        /// The store is one of Kafka Streams' in memory, which have another order.
        in_memory: bool,
    },
}

/// Where a result stands among those that wait: time, time, key, time. The last or the second is not used and 0.
type Place = (i64, i64, Vec<u8>, i64);

impl Closes {
    /// The place of a key as it is stored.
    fn place(self, stored: &[u8]) -> Option<Place> {
        let time = |bytes: &[u8]| Some(i64::from_be_bytes(*bytes.first_chunk::<8>()?));
        match self {
            // Key, start, sequence number.
            Self::Fixed(_) | Self::Sliding(_) => {
                let (key, times) = stored.split_at_checked(stored.len().checked_sub(12)?)?;
                Some((time(times)?, 0, key.to_vec(), 0))
            }
            // Key, end, start.
            Self::Sessions { in_memory, .. } => {
                let (key, times) = stored.split_at_checked(stored.len().checked_sub(16)?)?;
                let (end, start) = (time(times)?, time(&times[8..])?);
                Some(if in_memory { (end, 0, key.to_vec(), start) } else { (end, start, key.to_vec(), 0) })
            }
        }
    }

    /// The key at a place as it is stored.
    fn stored(self, (first, second, key, last): &Place) -> Vec<u8> {
        match self {
            Self::Fixed(_) | Self::Sliding(_) => [key.as_slice(), &first.to_be_bytes(), &[0; 4]].concat(),
            Self::Sessions { in_memory, .. } => {
                let start = if in_memory { last } else { second };
                [key.as_slice(), &first.to_be_bytes(), &start.to_be_bytes()].concat()
            }
        }
    }

    /// The first and the last time of results to go on, now that windows are closed up to `close`; none: none do.
    fn range(self, last: Option<i64>, close: i64) -> Option<(i64, i64)> {
        if last.is_some_and(|last| last >= close) {
            return None;
        }
        let (from, to, news) = match self {
            Self::Fixed(windows) => {
                let to = close.saturating_sub(windows.size_ms);
                let from = last.map_or(0, |last| last.saturating_sub(windows.size_ms).max(0) + 1);
                (from, to, last.is_none() || !windows.of(to).eq(windows.of(from - 1)))
            }
            Self::Sliding(SlidingWindows { difference_ms, .. }) => {
                let to = close.saturating_sub(difference_ms).saturating_sub(1);
                (last.map_or(0, |last| last.saturating_sub(difference_ms).max(0)), to, true)
            }
            Self::Sessions { .. } => {
                let (from, to) = (last.unwrap_or(0).max(0), close.saturating_sub(1));
                (from, to, from <= to)
            }
        };
        (to >= 0 && news).then_some((from, to))
    }

    /// Up to when windows are closed once this time was observed.
    fn close(self, observed: i64) -> i64 {
        match self {
            Self::Fixed(windows) => observed.saturating_sub(windows.grace_ms),
            Self::Sliding(windows) => observed.saturating_sub(windows.grace_ms),
            Self::Sessions { windows, .. } => observed.saturating_sub(windows.grace_ms).saturating_sub(windows.gap_ms),
        }
    }
}

/// The results of one aggregation that have not gone on. An instance keeps it between calls.
pub(super) struct Waiting {
    closes: Closes,
    /// Up to where windows were closed when results went on last.
    last: Option<i64>,
    /// The same as it is kept with the task.
    kept: Option<i64>,
    places: BTreeSet<Place>,
}

impl Waiting {
    /// As the instance has kept it, or as the store says.
    pub(super) fn of<K: Data, A: Data>(
        closes: Closes,
        store: &TableStore<Windowed<K>, A>,
        run: &mut Run<'_>,
    ) -> Result<Self, Failure> {
        if let Some(kept) = run.take_kept::<Option<Self>>(&store.name) {
            return Ok(kept);
        }
        let last = run.host.metadata(&store.name);
        let mut waiting = Self { closes, last, kept: last, places: BTreeSet::new() };
        let handle = run.host.open(&store.name)?;
        let mut from = Vec::new();
        loop {
            let entries = run.host.scan(handle, (Some(&from), None), false, CHUNK)?;
            let mut next = Cursor::default();
            for _ in &entries.timestamps {
                let key = next.next(&entries.keys).unwrap_or_default();
                waiting.add(key);
                from.clear();
                from.extend_from_slice(key);
            }
            if entries.timestamps.len() < CHUNK as usize {
                return Ok(waiting);
            }
            from.push(0);
        }
    }

    pub(super) fn keep(mut self, store: &str, run: &mut Run<'_>) -> Result<(), Failure> {
        if let Some(last) = self.last.filter(|_| self.last != self.kept) {
            run.host.set_metadata(store, last)?;
            self.kept = self.last;
        }
        run.keep(store, Some(self));
        Ok(())
    }

    /// There is a result under a key, as it is stored.
    pub(super) fn add(&mut self, stored: &[u8]) {
        self.places.extend(self.closes.place(stored));
    }

    /// There is none any more.
    pub(super) fn remove(&mut self, stored: &[u8]) {
        if let Some(place) = self.closes.place(stored) {
            self.places.remove(&place);
        }
    }

    /// Whether windows may be closed by now that were not at the last look.
    pub(super) fn is_due(&self, observed: Option<i64>) -> bool {
        observed.is_some_and(|observed| self.closes.range(self.last, self.closes.close(observed)).is_some())
    }

    /// Sends on the results of windows that are closed by now, before the record that a row is.
    pub(super) fn emit<K: Data, A: Data>(
        &mut self,
        store: &TableStore<Windowed<K>, A>,
        observed: i64,
        (meta, row, sends_old): (&Meta, usize, bool),
        run: &mut Run<'_>,
    ) -> Result<(), Failure> {
        let close = self.closes.close(observed);
        let Some((from, to)) = self.closes.range(self.last, close) else { return Ok(()) };
        let mut closed = Vec::new();
        while self.places.first().is_some_and(|first| first.0 <= to)
            && let Some(first) = self.places.pop_first()
        {
            // What is before has gone on, but a restart has made the aggregation forget the time.
            if first.0 >= from {
                closed.push(first);
            }
        }
        for some in closed.chunks(CHUNK as usize) {
            self.send(store, some, (meta, row, sends_old), run)?;
        }
        self.last = Some(close);
        Ok(())
    }

    fn send<K: Data, A: Data>(
        &self,
        store: &TableStore<Windowed<K>, A>,
        places: &[Place],
        (meta, row, sends_old): (&Meta, usize, bool),
        run: &mut Run<'_>,
    ) -> Result<(), Failure> {
        let mut asked = empty_column();
        places.iter().for_each(|place| push_bytes(&mut asked, Some(&self.closes.stored(place))));
        let handle = run.host.open(&store.name)?;
        let found = run.host.get(handle, &asked)?;
        let (mut next_key, mut next_value) = (Cursor::default(), Cursor::default());
        let (mut keys, mut new, mut timestamps) = (Vec::new(), Vec::new(), Vec::new());
        for &timestamp in &found.timestamps {
            let key = next_key.next(&asked).unwrap_or_default();
            // It may be deleted, or gone by age.
            let Some(value) = next_value.next(&found.values) else { continue };
            let read = store.keys.deserialize(key).and_then(|key| Ok((key, store.values.deserialize(value)?)));
            let (key, value) = read.map_err(|error| {
                let message = format!("store {} has an entry that can't be read: {error}", store.name);
                run.failure(Fault::Processing, meta, row, message)
            })?;
            let in_session = matches!(self.closes, Closes::Sessions { .. });
            timestamps.push(if in_session { key.window.end } else { timestamp });
            keys.push(Some(key));
            new.push(Some(value));
        }
        if keys.is_empty() {
            return Ok(());
        }
        let old = sends_old.then(|| Col::new(vec![None; keys.len()]));
        let meta = meta.select(&Rc::new(vec![index(row); keys.len()])).with_timestamps(timestamps);
        run.forward(&Updates { keys: Col::new(keys), new: Col::new(new), old, late: None, meta })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::windows::TimeWindows;
    use std::time::Duration;

    fn check(closes: Closes, stored: &[u8], expected: Place) {
        let place = closes.place(stored).unwrap();
        assert_eq!(place, expected);
        assert_eq!(closes.stored(&place), stored);
        assert_eq!(closes.place(&stored[1..stored.len() - 1]), None);
    }

    #[test]
    fn a_place_says_which_key_it_is() {
        let ms = Duration::from_millis;
        let fixed = Closes::Fixed(TimeWindows::of_size_with_no_grace(ms(10)).into());
        check(fixed, b"k\0\0\0\0\0\0\0\x07\0\0\0\0", (7, 0, b"k".to_vec(), 0));
        let windows = SessionWindows::of_inactivity_gap_with_no_grace(ms(10));
        let stored = b"k\0\0\0\0\0\0\0\x07\0\0\0\0\0\0\0\x05";
        check(Closes::Sessions { windows, in_memory: false }, stored, (7, 5, b"k".to_vec(), 0));
        check(Closes::Sessions { windows, in_memory: true }, stored, (7, 0, b"k".to_vec(), 5));
    }

    #[test]
    fn what_goes_on_begins_where_the_last_look_ended() {
        let ms = Duration::from_millis;
        let fixed = Closes::Fixed(TimeWindows::of_size_with_no_grace(ms(10)).into());
        assert_eq!(fixed.range(None, 9), None);
        assert_eq!(fixed.range(None, 10), Some((0, 0)));
        assert_eq!(fixed.range(Some(10), 10), None);
        // No window ends in between.
        assert_eq!(fixed.range(Some(10), 19), None);
        assert_eq!(fixed.range(Some(10), 20), Some((1, 10)));
        let sliding = Closes::Sliding(SlidingWindows::of_time_difference_with_no_grace(ms(10)));
        assert_eq!(sliding.range(None, 10), None);
        assert_eq!(sliding.range(None, 11), Some((0, 0)));
        assert_eq!(sliding.range(Some(11), 12), Some((1, 1)));
        let windows = SessionWindows::of_inactivity_gap_with_no_grace(ms(10));
        let sessions = Closes::Sessions { windows, in_memory: false };
        assert_eq!(sessions.close(30), 20);
        assert_eq!(sessions.range(None, 20), Some((0, 19)));
        assert_eq!(sessions.range(Some(20), 21), Some((20, 20)));
    }
}
