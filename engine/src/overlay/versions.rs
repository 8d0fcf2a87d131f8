//! Owns what the overlay does for versioned stores: a put changes the rows of its key as `versions` lays them out, and a
//! look into the past finds the row of its time. Must not know who asks.
//!
//! The versions of a key follow each other without a gap from the first one on: each is valid until the next begins. What is
//! put between two of them ends the one before it.

use super::Overlay;
use crate::context::Entries;
use crate::ports::{Error, StoreIndex};
use crate::record::{Batch, Column};
use crate::versions::{LATEST, NOT_PUT, Version, followed, is_followed, marked, read_parsed, row_key, unmarked};

/// A version that was found, by itself.
struct Found {
    value: Option<Vec<u8>>,
    valid_from: i64,
    valid_to: i64,
    /// A deletion that was the latest version until a value followed.
    followed: bool,
}

impl From<Version<'_>> for Found {
    fn from(Version { value, valid_from, valid_to }: Version<'_>) -> Self {
        Self { value: value.map(<[u8]>::to_vec), valid_from, valid_to, followed: false }
    }
}

impl Overlay {
    /// Whether a store keeps versions.
    pub(crate) fn is_versioned(&self, store: StoreIndex) -> bool {
        self.stores[store].kind().expiry.is_some_and(|expiry| expiry.is_versioned())
    }

    /// Says of each key which version was valid at its time, deletions included.
    pub(crate) fn get_as_of(
        &mut self,
        store: StoreIndex,
        keys: &Column,
        times: &[i64],
        mut found: impl FnMut(Option<Version<'_>>),
    ) -> Result<(), Error> {
        let mut rows = Vec::new();
        self.load(store, &latest_rows(keys), &mut rows)?;
        for ((key, row), &time) in keys.iter().zip(rows).zip(times) {
            let key = key.unwrap_or_default();
            match self.latest(store, row) {
                Some(latest) if latest.valid_from <= time => found(Some(latest)),
                _ => {
                    let begun = self.stores[store].history().is_none_or(|begin| begin <= time);
                    let past = if begun { self.before(store, key, time)? } else { None };
                    let past = past.filter(|past| time < past.valid_to);
                    found(past.as_ref().map(|past| Version {
                        value: past.value.as_deref(),
                        valid_from: past.valid_from,
                        valid_to: past.valid_to,
                    }));
                }
            }
        }
        self.evict(store);
        Ok(())
    }

    /// Puts versions in order, and says of each until when it is valid: [`LATEST`], or [`NOT_PUT`].
    pub(crate) fn put_versions(&mut self, store: StoreIndex, entries: &Entries) -> Result<Vec<i64>, Error> {
        let mut rows = Vec::new();
        self.load(store, &latest_rows(&entries.keys), &mut rows)?;
        let mut valid_to = Vec::with_capacity(rows.len());
        let entries = entries.keys.iter().zip(entries.values.iter()).zip(&entries.timestamps);
        for (((key, value), &time), row) in entries.zip(rows) {
            let key = key.unwrap_or_default();
            if self.stores[store].history().is_some_and(|begin| time < begin) {
                valid_to.push(NOT_PUT);
                continue;
            }
            self.stores[store].observe(Some(time));
            valid_to.push(self.put_version(store, (key, row), value, time)?);
            self.stores[store].log_put(key, value, time);
        }
        Ok(valid_to)
    }

    /// `latest` is the row of the key's latest version.
    fn put_version(
        &mut self,
        store: StoreIndex,
        (key, latest): (&[u8], u32),
        value: Option<&[u8]>,
        time: i64,
    ) -> Result<i64, Error> {
        let known = self.latest(store, latest).map(Found::from);
        match known {
            Some(known) if time < known.valid_from => return self.put_past(store, key, known.valid_from, value, time),
            Some(known) if known.valid_from < time => {
                let past = self.stores[store].find_or_insert_unknown(&row_key(key, known.valid_from));
                self.stores[store].change(past, time, Some(&followed(known.value.as_deref(), value)), &[]);
            }
            Some(known) if value.is_none() && known.value.is_some() => {
                return self.delete_at_once(store, (key, latest), time);
            }
            _ => {}
        }
        self.stores[store].change(latest, time, Some(&marked(value)), &[]);
        Ok(LATEST)
    }

    /// Puts a version before the latest one, which is valid from `latest` on.
    fn put_past(
        &mut self,
        store: StoreIndex,
        key: &[u8],
        latest: i64,
        value: Option<&[u8]>,
        time: i64,
    ) -> Result<i64, Error> {
        let valid_to = match self.before(store, key, time)? {
            Some(same) if same.valid_from == time => same.valid_to,
            Some(before) => {
                let row = self.stores[store].find_or_insert_unknown(&row_key(key, before.valid_from));
                self.stores[store].change(row, time, Some(&marked(before.value.as_deref())), &[]);
                before.valid_to
            }
            None => self.first_after(store, key, time)?.unwrap_or(latest),
        };
        let row = self.stores[store].find_or_insert_unknown(&row_key(key, time));
        self.stores[store].change(row, valid_to, Some(&marked(value)), &[]);
        Ok(valid_to)
    }

    /// Deletes the latest version at the very time it began. As in Kafka Streams the key is as it was before if it had
    /// nothing then, or had been deleted; the deletion stays if there was a value, or a deletion that was put late.
    fn delete_at_once(&mut self, store: StoreIndex, (key, latest): (&[u8], u32), time: i64) -> Result<i64, Error> {
        let before = self.before(store, key, time)?;
        match before {
            Some(Found { followed: false, .. }) => self.stores[store].change(latest, time, Some(&marked(None)), &[]),
            Some(Found { valid_from, .. }) => {
                let past = self.stores[store].find_or_insert_unknown(&row_key(key, valid_from));
                self.stores[store].change(past, time, None, &[]);
                self.stores[store].change(latest, valid_from, Some(&marked(None)), &[]);
            }
            None => self.stores[store].change(latest, time, None, &[]),
        }
        Ok(LATEST)
    }

    /// Has the changelog say again what was valid at the times of these records: whoever replays both finds that. Then what
    /// is valid now, for that is what compaction is to leave of a key.
    pub(super) fn touch_versions(&mut self, store: StoreIndex, records: &Batch) -> Result<(), Error> {
        let begin = self.stores[store].history();
        let mut touched = Batch::default();
        for (key, &time) in records.keys.iter().zip(&records.timestamps) {
            if key.is_some() && begin.is_none_or(|begin| begin <= time) {
                touched.push(key, None, time);
            }
        }
        let latest = vec![LATEST; touched.timestamps.len()];
        let mut then = Vec::with_capacity(latest.len());
        for times in [&touched.timestamps, &latest] {
            self.get_as_of(store, &touched.keys, times, |version| then.push(version.map(Found::from)))?;
        }
        let now = then.split_off(latest.len());
        let known = &mut self.stores[store];
        for ((key, &time), version) in touched.keys.iter().zip(&touched.timestamps).zip(then) {
            known.log_put(key.unwrap_or_default(), version.and_then(|version| version.value).as_deref(), time);
        }
        for (key, version) in touched.keys.iter().zip(now) {
            let Some(version) = version else { continue };
            known.log_put(key.unwrap_or_default(), version.value.as_deref(), version.valid_from);
        }
        Ok(())
    }

    /// Takes versions from the changelog.
    pub(crate) fn replay_versions(&mut self, store: StoreIndex, records: &Batch) -> Result<(), Error> {
        let mut entries = Entries::default();
        for ((key, value), &time) in records.keys.iter().zip(records.values.iter()).zip(&records.timestamps) {
            if key.is_some() {
                entries.keys.push(key);
                entries.values.push(value);
                entries.timestamps.push(time);
            }
        }
        self.put_versions(store, &entries).map(drop)
    }

    /// All versions of all keys, for people to look at.
    pub(crate) fn versions(
        &mut self,
        store: StoreIndex,
        mut visit: impl FnMut(&[u8], Version<'_>),
    ) -> Result<(), Error> {
        self.scan(store, (None, None), false, |row, time, bytes| {
            if let Some((key, version)) = read_parsed(row, time, bytes) {
                visit(key, version);
            }
            true
        })
    }

    fn latest(&self, store: StoreIndex, row: u32) -> Option<Version<'_>> {
        let (valid_from, bytes) = self.stores[store].live(row)?;
        Some(Version { value: unmarked(bytes)?, valid_from, valid_to: LATEST })
    }

    /// The last version in the past that began no later than `time`.
    fn before(&mut self, store: StoreIndex, key: &[u8], time: i64) -> Result<Option<Found>, Error> {
        let to = time.checked_add(1).unwrap_or(LATEST);
        self.first(store, key, (i64::MIN, to), true)
    }

    /// When the first version in the past began that began after `time`.
    fn first_after(&mut self, store: StoreIndex, key: &[u8], time: i64) -> Result<Option<i64>, Error> {
        Ok(self.first(store, key, (time, LATEST), false)?.map(|version| version.valid_from))
    }

    fn first(
        &mut self,
        store: StoreIndex,
        key: &[u8],
        (from, to): (i64, i64),
        reverse: bool,
    ) -> Result<Option<Found>, Error> {
        let (from, to) = (row_key(key, from), row_key(key, to));
        let mut found = None;
        self.scan(store, (Some(&from), Some(&to)), reverse, |row, time, bytes| {
            // Rows of longer keys that begin alike lie in between.
            if row.len() == from.len() {
                let followed = is_followed(bytes);
                found = read_parsed(row, time, bytes).map(|(_, version)| Found { followed, ..version.into() });
            }
            found.is_none()
        })?;
        Ok(found)
    }
}

fn latest_rows(keys: &Column) -> Column {
    let mut rows = Column::default();
    keys.iter().for_each(|key| rows.push(Some(&row_key(key.unwrap_or_default(), LATEST))));
    rows
}
