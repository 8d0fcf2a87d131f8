//! Owns what can be said of a suppression: how long updates wait, and how many may. Must not know where they do.

use std::fmt;
use std::time::Duration;

use crate::windows::{Windowed, millis};

/// What becomes of a buffer that is full.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum WhenFull {
    ShutDown,
    EmitEarly,
}

/// How much a suppression's buffer takes and what is done when it is full. It has a changelog of its own.
///
/// ```
/// # use millrace::{TopologyTestDriver, prelude::*};
/// # use std::time::Duration;
/// # let mut builder = StreamsBuilder::new();
/// // Of two keys; a third one drives out what has waited longest.
/// builder
///     .table("prices", Consumed::with(StringSerde, LongSerde), Materialized::as_("prices"))
///     .suppress(Suppressed::until_time_limit(Duration::from_secs(60), BufferConfig::max_records(2)))
///     .to_stream()
///     .to("slow", Produced::default());
/// # let driver = TopologyTestDriver::new(builder.build().unwrap()).unwrap();
/// # let prices = driver.create_input_topic("prices", StringSerde, LongSerde);
/// # let slow = driver.create_output_topic("slow", StringSerde, LongSerde);
/// prices.pipe_input_at("tea", 5, 0);
/// prices.pipe_input_at("salt", 1, 1_000);
/// prices.pipe_input_at("rice", 2, 2_000);
/// assert_eq!(slow.read_lines(), ["tea:5"]);
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BufferConfig {
    pub(crate) max_records: Option<usize>,
    pub(crate) max_bytes: Option<usize>,
    pub(crate) when_full: WhenFull,
    pub(crate) logged: bool,
    pub(crate) changelog_config: Vec<(String, String)>,
}

impl BufferConfig {
    fn new(max_records: Option<usize>, max_bytes: Option<usize>, when_full: WhenFull) -> Self {
        Self { max_records, max_bytes, when_full, logged: true, changelog_config: Vec::new() }
    }

    /// It is never full.
    #[must_use]
    pub fn unbounded() -> Self {
        Self::new(None, None, WhenFull::ShutDown)
    }

    /// Of that many keys; what has waited longest goes on when there are more.
    #[must_use]
    pub fn max_records(records: usize) -> Self {
        Self::new(Some(records), None, WhenFull::EmitEarly)
    }

    /// Of that many bytes, as Kafka Streams counts them; what has waited longest goes on when there are more.
    #[must_use]
    pub fn max_bytes(bytes: usize) -> Self {
        Self::new(None, Some(bytes), WhenFull::EmitEarly)
    }

    /// The same with that many keys at most.
    #[must_use]
    pub fn with_max_records(self, records: usize) -> Self {
        Self { max_records: Some(records), ..self }
    }

    /// The same with that many bytes at most.
    #[must_use]
    pub fn with_max_bytes(self, bytes: usize) -> Self {
        Self { max_bytes: Some(bytes), ..self }
    }

    /// The same without limits: it is never full.
    #[must_use]
    pub fn with_no_bound(self) -> Self {
        Self { max_records: None, max_bytes: None, when_full: WhenFull::ShutDown, ..self }
    }

    /// The same; when it is full, what has waited longest goes on.
    #[must_use]
    pub fn emit_early_when_full(self) -> Self {
        Self { when_full: WhenFull::EmitEarly, ..self }
    }

    /// The same; when it is full, the record that fills it fails.
    #[must_use]
    pub fn shut_down_when_full(self) -> Self {
        Self { when_full: WhenFull::ShutDown, ..self }
    }

    /// The same without a changelog: what waits when the disk is lost is lost.
    #[must_use]
    pub fn with_logging_disabled(self) -> Self {
        Self { logged: false, ..self }
    }

    /// The same with a changelog whose default configuration these entries are laid over.
    #[must_use]
    pub fn with_logging_enabled<C: Into<String>>(self, config: impl IntoIterator<Item = (C, C)>) -> Self {
        let changelog_config = config.into_iter().map(|(key, value)| (key.into(), value.into())).collect();
        Self { logged: true, changelog_config, ..self }
    }
}

/// How long updates of a table are held back, see [`crate::KTable::suppress`].
///
/// ```
/// # use millrace::{TopologyTestDriver, prelude::*};
/// # use std::time::Duration;
/// # let mut builder = StreamsBuilder::new();
/// // At most one update of a key in a minute.
/// builder
///     .table("prices", Consumed::with(StringSerde, LongSerde), Materialized::as_("prices"))
///     .suppress(Suppressed::until_time_limit(Duration::from_secs(60), BufferConfig::max_records(1_000)))
///     .to_stream()
///     .to("slow", Produced::default());
/// # let driver = TopologyTestDriver::new(builder.build().unwrap()).unwrap();
/// # let prices = driver.create_input_topic("prices", StringSerde, LongSerde);
/// # let slow = driver.create_output_topic("slow", StringSerde, LongSerde);
/// prices.pipe_input_at("tea", 5, 0);
/// prices.pipe_input_at("tea", 6, 30_000);
/// prices.pipe_input_at("salt", 1, 60_000);
/// assert_eq!(slow.read_lines(), ["tea:6"]);
/// ```
pub struct Suppressed<K> {
    pub(crate) name: Option<String>,
    pub(crate) buffer: BufferConfig,
    /// None: for the grace period of the windows.
    pub(crate) wait_ms: Option<i64>,
    pub(crate) time: fn(&K, i64) -> i64,
}

impl<K> fmt::Debug for Suppressed<K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Suppressed").field("name", &self.name).finish_non_exhaustive()
    }
}

impl<K> Suppressed<K> {
    /// The first update of a key waits so long, in stream time, and later ones take its place meanwhile.
    #[must_use]
    pub fn until_time_limit(wait: Duration, buffer: BufferConfig) -> Self {
        Self { name: None, buffer, wait_ms: Some(millis(wait)), time: |_, timestamp| timestamp }
    }

    /// The same with this name for its node, and for its store with `-store` behind it.
    #[must_use]
    pub fn with_name(self, name: impl Into<String>) -> Self {
        Self { name: Some(name.into()), ..self }
    }
}

impl<K> Suppressed<Windowed<K>> {
    /// Of each window only the last update goes on, when it is closed: the end of the window and the grace period are
    /// over, in stream time. So the buffer must not emit early.
    #[must_use]
    pub fn until_window_closes(buffer: BufferConfig) -> Self {
        Self { name: None, buffer, wait_ms: None, time: |key, _| key.window.end }
    }
}
