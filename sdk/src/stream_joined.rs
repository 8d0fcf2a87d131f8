//! Owns what can be said of a join of two streams: names, serdes, how its stores are kept. Must not know what meets what.

use std::fmt;
use std::sync::Arc;

use crate::serdes::{Serde, SharedSerde};

/// How two streams are joined: the join's name, the name its stores' names begin with, how they are kept, and serdes.
/// Serdes that are not given are those of the streams.
///
/// ```
/// # use millrace::{TopologyTestDriver, prelude::*};
/// # use std::time::Duration;
/// # let mut builder = StreamsBuilder::new();
/// let orders = builder.stream("orders", Consumed::with(StringSerde, StringSerde));
/// let payments = builder.stream("payments", Consumed::with(StringSerde, LongSerde));
/// let hour = JoinWindows::of_time_difference_with_no_grace(Duration::from_secs(3600));
/// let joined = StreamJoined::as_("paid").with_store_name("paid").in_memory();
/// orders.join(&payments, |order, sum| format!("{order}: {sum}"), hour, joined);
/// # let driver = TopologyTestDriver::new(builder.build().unwrap()).unwrap();
/// assert_eq!(driver.state_store_names(), ["paid-this-join-store", "paid-other-join-store"]);
/// ```
pub struct StreamJoined<K, V, O> {
    pub(crate) name: Option<String>,
    pub(crate) store_name: Option<String>,
    pub(crate) keys: Option<SharedSerde<K>>,
    pub(crate) values: Option<SharedSerde<V>>,
    pub(crate) other_values: Option<SharedSerde<O>>,
    pub(crate) persistent: bool,
    pub(crate) logged: bool,
    pub(crate) changelog_config: Vec<(String, String)>,
}

impl<K, V, O> Default for StreamJoined<K, V, O> {
    fn default() -> Self {
        Self {
            name: None,
            store_name: None,
            keys: None,
            values: None,
            other_values: None,
            persistent: true,
            logged: true,
            changelog_config: Vec::new(),
        }
    }
}

impl<K, V, O> fmt::Debug for StreamJoined<K, V, O> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StreamJoined").field("name", &self.name).finish_non_exhaustive()
    }
}

impl<K, V, O> StreamJoined<K, V, O> {
    /// With serdes for the keys, the values of this stream and those of the other one.
    pub fn with(
        keys: impl Serde<Value = K>,
        values: impl Serde<Value = V>,
        other_values: impl Serde<Value = O>,
    ) -> Self {
        Self {
            keys: Some(Arc::new(keys)),
            values: Some(Arc::new(values)),
            other_values: Some(Arc::new(other_values)),
            ..Self::default()
        }
    }

    /// The same with this serde for the keys.
    #[must_use]
    pub fn with_key_serde(self, serde: impl Serde<Value = K>) -> Self {
        Self { keys: Some(Arc::new(serde)), ..self }
    }

    /// The same with this serde for the values of this stream.
    #[must_use]
    pub fn with_value_serde(self, serde: impl Serde<Value = V>) -> Self {
        Self { values: Some(Arc::new(serde)), ..self }
    }

    /// The same with this serde for the values of the other stream.
    #[must_use]
    pub fn with_other_value_serde(self, serde: impl Serde<Value = O>) -> Self {
        Self { other_values: Some(Arc::new(serde)), ..self }
    }

    /// With this name for its nodes and repartition topics.
    pub fn as_(name: impl Into<String>) -> Self {
        Self::default().with_name(name)
    }

    /// The same with this name for its nodes and repartition topics.
    #[must_use]
    pub fn with_name(self, name: impl Into<String>) -> Self {
        Self { name: Some(name.into()), ..self }
    }

    /// The same with stores whose names begin with this one.
    #[must_use]
    pub fn with_store_name(self, name: impl Into<String>) -> Self {
        Self { store_name: Some(name.into()), ..self }
    }

    /// The same with stores in memory, rebuilt from their changelogs at each start.
    #[must_use]
    pub fn in_memory(self) -> Self {
        Self { persistent: false, ..self }
    }

    /// The same without changelogs: what is lost with the disk is lost.
    #[must_use]
    pub fn with_logging_disabled(self) -> Self {
        Self { logged: false, ..self }
    }

    /// The same with changelogs whose default configuration these entries are laid over.
    #[must_use]
    pub fn with_logging_enabled<C: Into<String>>(self, config: impl IntoIterator<Item = (C, C)>) -> Self {
        let changelog_config = config.into_iter().map(|(key, value)| (key.into(), value.into())).collect();
        Self { logged: true, changelog_config, ..self }
    }
}
