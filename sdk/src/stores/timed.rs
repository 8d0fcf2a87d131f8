//! Owns which entries of a window or session store are asked for: from the first to the last byte string that their
//! keys can be, and which of those in between they are. Must not know what is done with them.

use std::ops::{Bound, RangeBounds};

use super::opened::ByteRange;

/// The first time of a key as it is stored, and after it no more than eight bytes.
const TIME: usize = 8;

/// Entries by their keys, and by the times behind those.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Times {
    /// The least and the greatest key, without times.
    pub(super) keys: (Bound<Vec<u8>>, Bound<Vec<u8>>),
    /// The least and the greatest first time.
    pub(super) first: (i64, i64),
    /// The greatest second time, where there is one.
    pub(super) second: i64,
    /// How many bytes are behind a key: two times, or one and a sequence number.
    pub(super) suffix: usize,
}

impl Times {
    /// Whether a key, as it is stored, is one of them.
    pub(super) fn have(&self, stored: &[u8]) -> bool {
        let Some((key, times)) = stored.len().checked_sub(self.suffix).and_then(|at| stored.split_at_checked(at))
        else {
            return false;
        };
        let Some((first, rest)) = times.split_first_chunk::<TIME>() else { return false };
        let first = i64::from_be_bytes(*first);
        let second = rest.first_chunk::<TIME>().map(|second| i64::from_be_bytes(*second));
        let (from, to) = (self.keys.0.as_ref(), self.keys.1.as_ref());
        (from.map(Vec::as_slice), to.map(Vec::as_slice)).contains(key)
            && (self.first.0..=self.first.1).contains(&first)
            && second.is_none_or(|second| second <= self.second)
    }

    /// Where they lie in the store.
    pub(super) fn range(&self) -> ByteRange {
        let one = match &self.keys {
            (Bound::Included(from), Bound::Included(to)) => from == to,
            _ => false,
        };
        let from = match &self.keys.0 {
            Bound::Included(key) if one => Some([key.as_slice(), &self.first.0.to_be_bytes()].concat()),
            Bound::Included(key) | Bound::Excluded(key) => Some(key.clone()),
            Bound::Unbounded => None,
        };
        let to = match &self.keys.1 {
            Bound::Included(key) if one => Some(behind(key, key.len(), self.first.1)),
            Bound::Included(key) | Bound::Excluded(key) => Some(above(key, self.first.1)),
            Bound::Unbounded => None,
        };
        (from, to)
    }
}

/// Above all that is stored of a key's first bytes up to a time.
fn behind(key: &[u8], bytes: usize, time: i64) -> Vec<u8> {
    [&key[..bytes], &time.to_be_bytes(), &[0xff; TIME + 1]].concat()
}

/// Above all that is stored, up to a time, of keys that are not greater. Among those are the ones that this one begins
/// with, whose times may be greater than its other bytes.
fn above(key: &[u8], time: i64) -> Vec<u8> {
    let begin = time.to_be_bytes()[0];
    // From there on all are below.
    let last = key.iter().position(|&byte| byte < begin).unwrap_or(key.len());
    let ends = (0..=last).filter(|&bytes| bytes == last || key[bytes] == begin);
    ends.map(|bytes| behind(key, bytes, time)).max().unwrap_or_default()
}

/// The first and the last time of a range, both included.
pub(super) fn first_and_last(times: &impl RangeBounds<i64>) -> (i64, i64) {
    let from = match times.start_bound() {
        Bound::Unbounded => 0,
        Bound::Included(time) => *time,
        Bound::Excluded(time) => time.saturating_add(1),
    };
    let to = match times.end_bound() {
        Bound::Unbounded => i64::MAX,
        Bound::Included(time) => *time,
        Bound::Excluded(time) => time.saturating_sub(1),
    };
    // No entry has a time before 1970, whose bytes would be in another order.
    (from.max(0), to.max(-1))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stored(key: &[u8], time: i64) -> Vec<u8> {
        [key, &time.to_be_bytes(), &[0; 4]].concat()
    }

    fn check(keys: (Bound<&[u8]>, Bound<&[u8]>), first: (i64, i64), key: &[u8], time: i64, expected: bool) {
        let keys = (keys.0.map(<[u8]>::to_vec), keys.1.map(<[u8]>::to_vec));
        let times = Times { keys, first, second: i64::MAX, suffix: 12 };
        let stored = stored(key, time);
        let (from, to) = times.range();
        let lies_in = from.is_none_or(|from| from <= stored) && to.is_none_or(|to| stored < to);
        assert_eq!(times.have(&stored) && lies_in, expected, "{key:02x?} @ {time}");
        assert!(lies_in || !times.have(&stored), "{key:02x?} @ {time} is one of them but not read");
    }

    #[test]
    fn a_range_has_the_entries_that_were_asked_for() {
        use Bound::{Excluded, Included, Unbounded};
        let one = (Included(b"b".as_slice()), Included(b"b".as_slice()));
        check(one, (5, 7), b"b", 5, true);
        check(one, (5, 7), b"b", 7, true);
        check(one, (5, 7), b"b", 8, false);
        check(one, (0, i64::MAX), b"b\0", 3, false);
        check(one, (0, i64::MAX), b"c", 3, false);
        let some = (Included(b"b".as_slice()), Excluded(b"d".as_slice()));
        check(some, (0, i64::MAX), b"a", 1, false);
        check(some, (0, i64::MAX), b"b", 1, true);
        check(some, (0, i64::MAX), b"cc", i64::MAX, true);
        check(some, (0, i64::MAX), b"d", 1, false);
        let up_to = (Unbounded, Included(b"k\0\0".as_slice()));
        // Its bytes with its time are above those of the greatest key with its own.
        for time in [0, 1, 1 << 40, i64::MAX] {
            check(up_to, (0, time), b"k", time, true);
            check(up_to, (0, time), b"", time, true);
            check(up_to, (0, time), b"k\0\0\0", time, false);
        }
    }

    #[test]
    fn bounds_of_times_are_whole_milliseconds() {
        assert_eq!(first_and_last(&(..)), (0, i64::MAX));
        assert_eq!(first_and_last(&(3..7)), (3, 6));
        assert_eq!(first_and_last(&(-3..=7)), (0, 7));
        assert_eq!(first_and_last(&(..0)), (0, -1));
    }
}
