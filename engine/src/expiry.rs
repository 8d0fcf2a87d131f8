//! Owns the age of entries: which time a key of a window or session store names, and when an entry or a version is gone.
//! Must not know where entries are kept.
//!
//! A store's clock is the highest time that a key written to it has named (its *observed time*), as in Kafka Streams:
//! it stands still while nothing is written. An entry is gone when the clock is a retention past it. From that
//! moment on nobody gets to see it, whether it was deleted yet or not.

use crate::versions;

/// How the entries of a store age.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Expiry {
    pub keys: TimedKeys,
    pub retention_ms: i64,
}

/// Where in a key its time is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TimedKeys {
    /// Key, 8-byte window start, 4-byte sequence number: the start.
    Window,
    /// The same, where each entry has a sequence number of its own: a deletion deletes nothing, and names no time.
    Duplicates,
    /// Key, 8-byte window end, 8-byte window start: the end.
    Session,
    /// As `versions` has them. A key alone names no time: the store's clock is that of what is put.
    Versions,
}

impl Expiry {
    /// The time a key names; `None`: it is too short to be a key of the store.
    #[must_use]
    pub fn time(&self, key: &[u8]) -> Option<i64> {
        let behind = match self.keys {
            TimedKeys::Window | TimedKeys::Duplicates => 4,
            TimedKeys::Session => 8,
            TimedKeys::Versions => return None,
        };
        let time = key.get(..key.len().checked_sub(behind)?)?.last_chunk::<8>()?;
        Some(i64::from_be_bytes(*time))
    }

    /// Whether an entry, in stored form, is gone when the store has observed this time.
    #[must_use]
    pub fn is_over(&self, key: &[u8], stored: &[u8], observed: Option<i64>) -> bool {
        let Some(begin) = observed.map(|observed| observed.saturating_sub(self.retention_ms)) else { return false };
        match self.keys {
            TimedKeys::Versions => versions::is_over(key, stored, begin),
            _ => self.time(key).is_some_and(|time| time <= begin),
        }
    }

    /// Whether entries are versions of their keys.
    #[must_use]
    pub fn is_versioned(&self) -> bool {
        self.keys == TimedKeys::Versions
    }

    /// The latest time that is named by what is written: keys, and whether there is a value.
    #[must_use]
    pub fn latest<'a>(&self, written: impl Iterator<Item = (&'a [u8], bool)>) -> Option<i64> {
        let names = |&(_, has_value): &(&[u8], bool)| has_value || self.keys != TimedKeys::Duplicates;
        written.filter(names).filter_map(|(key, _)| self.time(key)).max()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_time_of_a_key_is_where_the_layout_has_it() {
        let key: Vec<u8> = [b"k".as_slice(), &7_i64.to_be_bytes(), &9_i64.to_be_bytes()].concat();
        let of = |keys| Expiry { keys, retention_ms: 10 };
        assert_eq!(of(TimedKeys::Session).time(&key), Some(7));
        assert_eq!(of(TimedKeys::Window).time(&key[..13]), Some(7));
        assert_eq!(of(TimedKeys::Window).time(&key[..11]), None);
        assert_eq!(of(TimedKeys::Session).time(b"abc"), None);
    }

    #[test]
    fn a_deletion_names_a_time_unless_it_deletes_nothing() {
        let key: Vec<u8> = [7_i64.to_be_bytes().as_slice(), &[0; 4]].concat();
        let latest = |keys, has_value| Expiry { keys, retention_ms: 10 }.latest([(&*key, has_value)].into_iter());
        assert_eq!(latest(TimedKeys::Window, false), Some(7));
        assert_eq!(latest(TimedKeys::Duplicates, false), None);
        assert_eq!(latest(TimedKeys::Duplicates, true), Some(7));
    }

    #[test]
    fn an_entry_is_gone_a_retention_after_its_time() {
        let expiry = Expiry { keys: TimedKeys::Window, retention_ms: 10 };
        let key: Vec<u8> = [7_i64.to_be_bytes().as_slice(), &[0; 4]].concat();
        assert!(!expiry.is_over(&key, &[], None));
        assert!(!expiry.is_over(&key, &[], Some(16)));
        assert!(expiry.is_over(&key, &[], Some(17)));
        let endless = Expiry { retention_ms: i64::MAX, ..expiry };
        assert!(!endless.is_over(&key, &[], Some(i64::MAX - 1)));
    }
}
