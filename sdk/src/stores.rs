//! Owns the stores of the Processor API: how they are declared and how a processor reads and writes
//! them. Must not know where the host keeps the entries.

mod opened;
mod key_value;
mod timed;
mod window;
mod session;
mod versioned;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use crate::contract::{Layout, Windows};
use crate::graph::{StoreSerdes, stored_as};
use crate::options::Materialized;
use crate::rows::Data;
use crate::serdes::{Serde, SessionWindowedSerde, TimeWindowedSerde};
use crate::topology::StoreDefinition;
use crate::windows::{Windowed, millis};

pub use key_value::KeyValueStore;
pub use opened::StoreIterator;
pub use session::SessionStore;
pub use versioned::{Put, VersionedKeyValueStore, VersionedRecord};
pub use window::WindowStore;

/// Makes stores for processors and transformers: [`crate::StreamsBuilder::add_state_store`] adds them, and those that use
/// one name it.
///
/// ```
/// # use millrace::{TopologyTestDriver, prelude::*};
/// # let mut builder = StreamsBuilder::new();
/// builder.add_state_store(
///     Stores::key_value_store("seen", StringSerde, LongSerde)
///         .in_memory()
///         .with_logging_enabled([("min.cleanable.dirty.ratio", "0.1")]),
/// );
/// builder
///     .table("names", Consumed::with(StringSerde, StringSerde), Materialized::default())
///     .transform_values(
///         |context, id, name: Option<&String>| {
///             let mut seen = context.key_value_store::<String, i64>("seen")?;
///             let times = seen.get(id)?.unwrap_or(0) + 1;
///             seen.put(id, times)?;
///             Ok(name.cloned())
///         },
///         &["seen"],
///     );
/// # let driver = TopologyTestDriver::new(builder.build().unwrap()).unwrap();
/// # let names = driver.create_input_topic("names", StringSerde, StringSerde);
/// names.pipe_key_values([("u1", "Ada"), ("u1", "Eva")]);
/// assert_eq!(driver.get_key_value_store("seen").unwrap().get(&"u1".to_owned()), Some(2_i64));
/// ```
#[derive(Debug)]
pub struct Stores;

impl Stores {
    /// A key-value store on disk with a changelog.
    pub fn key_value_store<K: Data, V: Data>(
        name: impl Into<String>,
        keys: impl Serde<Value = K>,
        values: impl Serde<Value = V>,
    ) -> StoreBuilder<K, V> {
        let serdes = StoreSerdes { keys: Arc::new(keys), values: Arc::new(values) };
        StoreBuilder::new(name.into(), Layout::KeyValue, serdes)
    }

    /// A store on disk with a changelog that keeps what each key had before, for `history` after it was followed by another
    /// value, in the time of what is put into the store.
    pub fn versioned_store<K: Data, V: Data>(
        name: impl Into<String>,
        history: Duration,
        keys: impl Serde<Value = K>,
        values: impl Serde<Value = V>,
    ) -> StoreBuilder<K, V> {
        let serdes = StoreSerdes { keys: Arc::new(keys), values: Arc::new(values) };
        StoreBuilder::new(name.into(), Layout::Versioned(millis(history)), serdes)
    }

    /// A store on disk with a changelog whose keys are in windows of one size. An entry is kept for `retention` after its
    /// window's start, in the time of what is put into the store; that is at least the size. With duplicates retained,
    /// several values of one key and window stand side by side.
    pub fn window_store<K: Data, V: Data>(
        name: impl Into<String>,
        retention: Duration,
        window_size: Duration,
        retain_duplicates: bool,
        keys: impl Serde<Value = K>,
        values: impl Serde<Value = V>,
    ) -> StoreBuilder<Windowed<K>, V> {
        let (size_ms, retention_ms) = (millis(window_size), millis(retention));
        let keys = TimeWindowedSerde::of_store(Arc::new(keys), size_ms);
        let serdes = StoreSerdes { keys: Arc::new(keys), values: Arc::new(values) };
        let windows = Windows { size_ms, retention_ms, retain_duplicates };
        StoreBuilder::new(name.into(), Layout::Window(windows), serdes)
    }

    /// A store on disk with a changelog whose keys are in sessions. An entry is kept for `retention` after its session's
    /// end, in the time of what is put into the store.
    pub fn session_store<K: Data, V: Data>(
        name: impl Into<String>,
        retention: Duration,
        keys: impl Serde<Value = K>,
        values: impl Serde<Value = V>,
    ) -> StoreBuilder<Windowed<K>, V> {
        let keys = SessionWindowedSerde::of(Arc::new(keys));
        let serdes = StoreSerdes { keys: Arc::new(keys), values: Arc::new(values) };
        StoreBuilder::new(name.into(), Layout::Session(millis(retention)), serdes)
    }
}

/// A store to be: how it is kept.
pub struct StoreBuilder<K, V> {
    name: String,
    layout: Layout,
    serdes: StoreSerdes<K, V>,
    options: Materialized<K, V>,
}

impl<K, V> fmt::Debug for StoreBuilder<K, V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StoreBuilder").field("name", &self.name).finish_non_exhaustive()
    }
}

impl<K: Data, V: Data> StoreBuilder<K, V> {
    fn new(name: String, layout: Layout, serdes: StoreSerdes<K, V>) -> Self {
        Self { name, layout, serdes, options: Materialized::default().with_caching_disabled() }
    }

    /// Kept in memory, rebuilt from the changelog at each start.
    #[must_use]
    pub fn in_memory(self) -> Self {
        Self { options: self.options.in_memory(), ..self }
    }

    /// Without a changelog: what is lost with the disk is lost.
    #[must_use]
    pub fn with_logging_disabled(self) -> Self {
        Self { options: self.options.with_logging_disabled(), ..self }
    }

    /// With a changelog, whose default configuration these entries are laid over.
    #[must_use]
    pub fn with_logging_enabled<C: Into<String>>(self, config: impl IntoIterator<Item = (C, C)>) -> Self {
        Self { options: self.options.with_logging_enabled(config), ..self }
    }

    /// For those who come from Kafka Streams: it changes nothing, because the host writes only the
    /// last value per key and commit to the changelog either way.
    #[must_use]
    pub fn with_caching_enabled(self) -> Self {
        Self { options: self.options.with_caching_enabled(), ..self }
    }

    pub(crate) fn definition(&self) -> StoreDefinition {
        let StoreSerdes { keys, values } = &self.serdes;
        stored_as(self.layout.clone(), &self.name, keys, values, &self.options)
    }
}
