//! Owns how the versions of a versioned store lie in rows, and which version was valid when. Must not know where rows are
//! kept.
//!
//! Each version is a row: its key, and behind that 8 bytes for the time from which it is valid, whose sign bit is turned
//! so that they sort as numbers do. The latest version has the highest number there instead, so that it is found without
//! a search, and stands behind the others. What a stored form has as its timestamp is the other end: until when a version
//! was valid, or for the latest one since when. The first byte of the value says whether the version is a value or a
//! deletion.

use crate::overlay::parse;

/// Until when the latest version is valid.
pub const LATEST: i64 = i64::MAX;
/// What a put says of a version that the history does not go back to.
pub const NOT_PUT: i64 = i64::MIN;

/// Bytes of a row's key behind the store's own.
pub const TIME_BYTES: usize = 8;

const VALUE: u8 = 1;
const DELETION: u8 = 0;
/// A deletion that was the latest version until a value followed.
const FOLLOWED: u8 = 2;

/// What a key had for a time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Version<'a> {
    /// `None`: the key was deleted.
    pub value: Option<&'a [u8]>,
    pub valid_from: i64,
    /// The first moment at which it is not valid any more; [`LATEST`]: it still is.
    pub valid_to: i64,
}

/// The row of the version that is valid from a time on and was followed by another; of the latest one for [`LATEST`].
#[must_use]
pub fn row_key(key: &[u8], valid_from: i64) -> Vec<u8> {
    [key, &turned(valid_from).to_be_bytes()].concat()
}

/// The key and the time of a row.
#[must_use]
pub fn split(row: &[u8]) -> Option<(&[u8], i64)> {
    let (key, time) = row.split_last_chunk::<TIME_BYTES>()?;
    Some((key, turned(i64::from_be_bytes(*time))))
}

/// With the other sign bit.
fn turned(time: i64) -> i64 {
    time ^ i64::MIN
}

/// The key and the version in a row; `None` if it is none.
#[must_use]
pub fn read<'a>(row: &'a [u8], stored: &'a [u8]) -> Option<(&'a [u8], Version<'a>)> {
    let (end, bytes) = parse(stored)?;
    read_parsed(row, end, bytes)
}

/// The same of a stored form that was parsed.
pub(crate) fn read_parsed<'a>(row: &'a [u8], end: i64, bytes: &'a [u8]) -> Option<(&'a [u8], Version<'a>)> {
    let (key, time) = split(row)?;
    let (valid_from, valid_to) = if time == LATEST { (end, LATEST) } else { (time, end) };
    let value = unmarked(bytes)?;
    Some((key, Version { value, valid_from, valid_to }))
}

/// What is marked as a value or a deletion; `None` if it is neither.
pub(crate) fn unmarked(bytes: &[u8]) -> Option<Option<&[u8]>> {
    let (&kind, value) = bytes.split_first()?;
    Some((kind == VALUE).then_some(value))
}

/// A value or a deletion as rows have it.
pub(crate) fn marked(value: Option<&[u8]>) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(1 + value.map_or(0, <[u8]>::len));
    bytes.push(if value.is_some() { VALUE } else { DELETION });
    bytes.extend_from_slice(value.unwrap_or_default());
    bytes
}

/// What rows have of the latest version once `value` follows it.
pub(crate) fn followed(latest: Option<&[u8]>, value: Option<&[u8]>) -> Vec<u8> {
    if latest.is_none() && value.is_some() { vec![FOLLOWED] } else { marked(latest) }
}

/// Whether what a row has is a deletion that was the latest version until a value followed.
pub(crate) fn is_followed(bytes: &[u8]) -> bool {
    bytes == [FOLLOWED]
}

/// Whether nobody can ask for the version in a row any more, once the history begins at `begin`. The latest value is never
/// too old.
#[must_use]
pub fn is_over(row: &[u8], stored: &[u8], begin: i64) -> bool {
    read(row, stored).is_some_and(|(_, version)| match version {
        Version { value: Some(_), valid_to: LATEST, .. } => false,
        Version { valid_to: LATEST, valid_from, .. } => valid_from < begin,
        Version { valid_to, .. } => valid_to < begin,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::overlay::stored;

    #[test]
    fn rows_sort_by_key_and_time_with_the_latest_version_last() {
        let times = [i64::MIN, -1, 0, 1, 255, 256, i64::MAX - 1, LATEST];
        let rows: Vec<_> = times.iter().map(|&time| row_key(b"k", time)).collect();
        assert!(rows.is_sorted());
        for (row, time) in rows.iter().zip(times) {
            assert_eq!(split(row), Some((&b"k"[..], time)));
        }
    }

    #[test]
    fn a_row_says_from_when_to_when() {
        let (value, deletion) = (marked(Some(b"v")), marked(None));
        let check = |time, end, bytes: &[u8], expected: (Option<&[u8]>, i64, i64)| {
            let (row, stored) = (row_key(b"k", time), stored(end, bytes));
            let (value, valid_from, valid_to) = expected;
            assert_eq!(read(&row, &stored), Some((&b"k"[..], Version { value, valid_from, valid_to })));
        };
        check(5, 7, &value, (Some(b"v"), 5, 7));
        check(5, 7, &deletion, (None, 5, 7));
        check(LATEST, 7, &value, (Some(b"v"), 7, LATEST));
        assert_eq!(read(b"short", &stored(1, &value)), None);
        assert_eq!(read(&row_key(b"k", 5), &stored(1, b"")), None);
    }

    #[test]
    fn all_but_the_latest_value_goes_once_the_history_begins_after_it() {
        let over = |time, end, value, begin| is_over(&row_key(b"k", time), &stored(end, &marked(value)), begin);
        assert!(!over(5, 7, Some(b"v"), 7));
        assert!(over(5, 7, Some(b"v"), 8));
        assert!(!over(LATEST, 7, Some(b"v"), 100));
        assert!(!over(LATEST, 7, None, 7));
        assert!(over(LATEST, 7, None, 8));
    }
}
