//! Owns versioned stores in the hands of a processor. Must not know where the host keeps the versions.

use std::fmt;

use super::opened::Opened;
use crate::contract::{Cursor, Entries, Layout, Versions, empty_column, empty_entries, push_bytes};
use crate::host::{LATEST, NOT_PUT};
use crate::processor::{ProcessError, ProcessResult, Services};
use crate::rows::Data;

/// What a key had for a time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VersionedRecord<V> {
    /// The value.
    pub value: V,
    /// Since when.
    pub valid_from: i64,
    /// The first moment at which it was not valid any more; none: it still is.
    pub valid_to: Option<i64>,
}

/// What became of a version that was put.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Put {
    /// It is the latest one of its key.
    Latest,
    /// Another one follows it at that time.
    ValidTo(i64),
    /// The store's history does not go back to it: it was left out.
    TooOld,
}

/// A versioned store in the hands of a processor: what each key has, and what it had as far back as the store's history
/// goes. What is written is visible at once, and durable with the next commit.
///
/// ```
/// use millrace::prelude::*;
/// use std::time::Duration;
///
/// /// Says by how much a price has changed within the last minute.
/// struct Changes;
///
/// impl Processor<String, i64, String, i64> for Changes {
///     fn process(
///         &mut self,
///         context: &mut ProcessorContext<'_, String, i64>,
///         record: Record<String, i64>,
///     ) -> ProcessResult {
///         let (Some(key), Some(price)) = (record.key.clone(), record.value) else { return Ok(()) };
///         let mut prices = context.versioned_store::<String, i64>("prices")?;
///         prices.put(&key, Some(&price), record.timestamp)?;
///         let before = prices.get_as_of(&key, record.timestamp - 60_000)?;
///         if let Some(before) = before {
///             context.forward(record.with_value(Some(price - before.value)));
///         }
///         Ok(())
///     }
/// }
///
/// let mut builder = StreamsBuilder::new();
/// let hour = Duration::from_secs(3_600);
/// builder.add_state_store(Stores::versioned_store("prices", hour, StringSerde, LongSerde));
/// builder
///     .stream("prices", Consumed::with(StringSerde, LongSerde))
///     .process(|| Changes, &["prices"])
///     .to("changes", Produced::with(StringSerde, LongSerde));
///
/// let driver = millrace::TopologyTestDriver::new(builder.build().unwrap()).unwrap();
/// let prices = driver.create_input_topic("prices", StringSerde, LongSerde);
/// let changes = driver.create_output_topic("changes", StringSerde, LongSerde);
/// let price = |value, time| millrace::TestRecord::new(Some("tea".to_owned()), Some(value), time);
/// prices.pipe_records(vec![price(300, 0), price(310, 50_000), price(330, 80_000)]);
/// assert_eq!(changes.read_key_value().unwrap().1, Some(30));
/// ```
pub struct VersionedKeyValueStore<'a, K, V>(Opened<'a, K, V>);

impl<K, V> fmt::Debug for VersionedKeyValueStore<'_, K, V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("VersionedKeyValueStore").field("name", &self.0.name).finish_non_exhaustive()
    }
}

impl<'a, K: Data, V: Data> VersionedKeyValueStore<'a, K, V> {
    pub(crate) fn open(services: &'a mut (dyn Services + 'a), name: &str) -> ProcessResult<Self> {
        let store = Opened::open(services, name)?;
        match store.layout {
            Layout::Versioned(_) => Ok(Self(store)),
            _ => Err(ProcessError::new(format!("store {name} keeps no versions"))),
        }
    }

    /// What a key has.
    pub fn get(&mut self, key: &K) -> ProcessResult<Option<VersionedRecord<V>>> {
        self.get_as_of(key, LATEST)
    }

    /// What a key had at that time. Before the store's history begins nothing is known but the latest value, if it is as
    /// old.
    pub fn get_as_of(&mut self, key: &K, time: i64) -> ProcessResult<Option<VersionedRecord<V>>> {
        let mut keys = empty_column();
        push_bytes(&mut keys, Some(&self.0.key(key)?));
        let handle = self.0.handle;
        let Versions { values, valid_from, valid_to } = self.0.host().get_as_of(handle, &keys, &[time])?;
        let Some(value) = Cursor::default().next(&values) else { return Ok(None) };
        let valid_to = Some(valid_to[0]).filter(|&time| time != LATEST);
        Ok(Some(VersionedRecord { value: self.0.value(value)?, valid_from: valid_from[0], valid_to }))
    }

    /// Sets what a key has from that time on, until the next version there is; none: nothing.
    pub fn put(&mut self, key: &K, value: Option<&V>, time: i64) -> ProcessResult<Put> {
        let mut entries: Entries = empty_entries();
        push_bytes(&mut entries.keys, Some(&self.0.key(key)?));
        let value = value.map(|value| self.0.bytes(value)).transpose()?;
        push_bytes(&mut entries.values, value.as_deref());
        entries.timestamps.push(time);
        let handle = self.0.handle;
        Ok(match self.0.host().put_versions(handle, &entries)?.first() {
            Some(&NOT_PUT) => Put::TooOld,
            Some(&valid_to) if valid_to != LATEST => Put::ValidTo(valid_to),
            _ => Put::Latest,
        })
    }

    /// Deletes a key from that time on, until the next version there is, and says what it had then.
    pub fn delete(&mut self, key: &K, time: i64) -> ProcessResult<Option<VersionedRecord<V>>> {
        let found = self.get_as_of(key, time)?;
        Ok(match self.put(key, None, time)? {
            Put::TooOld => None,
            _ => found,
        })
    }
}
