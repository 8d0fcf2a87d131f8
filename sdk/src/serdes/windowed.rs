//! Owns the bytes of keys in windows: those of topics and those of stores. Must not know what the windows are for.

use std::sync::Arc;

use super::{Serde, SerdeError, SharedSerde};
use crate::windows::{Window, Windowed};

const TIME_BYTES: usize = 8;
const SEQUENCE_BYTES: usize = 4;

/// A key in a window of a known size, as Kafka's `TimeWindowedSerde`: the key and its window's start. In a topic such
/// keys are partitioned by the key alone.
///
/// ```
/// use millrace::{Serde, StringSerde, TimeWindowedSerde, Window, Windowed};
///
/// let key = Windowed { key: "k".to_owned(), window: Window { start: 258, end: 268 } };
/// let mut bytes = Vec::new();
/// TimeWindowedSerde::new(StringSerde, 10).serialize(&key, &mut bytes).unwrap();
/// assert_eq!(bytes, b"k\0\0\0\0\0\0\x01\x02");
/// ```
pub struct TimeWindowedSerde<K> {
    inner: SharedSerde<K>,
    size_ms: i64,
    /// A store's keys end in a sequence number, which is 0.
    stored: bool,
}

impl<K: 'static> TimeWindowedSerde<K> {
    /// Keys of `inner` in windows of that many milliseconds.
    pub fn new(inner: impl Serde<Value = K>, size_ms: i64) -> Self {
        Self::of_topic(Arc::new(inner), size_ms)
    }

    pub(crate) fn of_topic(inner: SharedSerde<K>, size_ms: i64) -> Self {
        Self { inner, size_ms, stored: false }
    }

    pub(crate) fn of_store(inner: SharedSerde<K>, size_ms: i64) -> Self {
        Self { inner, size_ms, stored: true }
    }
}

impl<K: 'static> Serde for TimeWindowedSerde<K> {
    type Value = Windowed<K>;

    fn serialize(&self, value: &Windowed<K>, out: &mut Vec<u8>) -> Result<(), SerdeError> {
        self.inner.serialize(&value.key, out)?;
        out.extend_from_slice(&value.window.start.to_be_bytes());
        if self.stored {
            out.extend_from_slice(&[0; SEQUENCE_BYTES]);
        }
        Ok(())
    }

    fn deserialize(&self, bytes: &[u8]) -> Result<Windowed<K>, SerdeError> {
        let end = bytes.len().checked_sub(if self.stored { SEQUENCE_BYTES } else { 0 });
        let (key, start) = end.and_then(|end| split_time(&bytes[..end])).ok_or_else(|| too_short(bytes))?;
        let window = Window { start, end: start.saturating_add(self.size_ms) };
        Ok(Windowed { key: self.inner.deserialize(key)?, window })
    }

    fn window_bytes(&self) -> usize {
        TIME_BYTES
    }

    fn format(&self) -> String {
        format!("windowed<{}>", self.inner.format())
    }
}

/// A key in a session, as Kafka's `SessionWindowedSerde`: the key, the session's end and its start. In a topic such keys
/// are partitioned by the key alone.
///
/// ```
/// use millrace::{Serde, SessionWindowedSerde, StringSerde, Window, Windowed};
///
/// let key = Windowed { key: "k".to_owned(), window: Window { start: 1, end: 2 } };
/// let mut bytes = Vec::new();
/// SessionWindowedSerde::new(StringSerde).serialize(&key, &mut bytes).unwrap();
/// assert_eq!(bytes, b"k\0\0\0\0\0\0\0\x02\0\0\0\0\0\0\0\x01");
/// ```
pub struct SessionWindowedSerde<K> {
    inner: SharedSerde<K>,
}

impl<K: 'static> SessionWindowedSerde<K> {
    /// Keys of `inner`.
    pub fn new(inner: impl Serde<Value = K>) -> Self {
        Self::of(Arc::new(inner))
    }

    pub(crate) fn of(inner: SharedSerde<K>) -> Self {
        Self { inner }
    }
}

impl<K: 'static> Serde for SessionWindowedSerde<K> {
    type Value = Windowed<K>;

    fn serialize(&self, value: &Windowed<K>, out: &mut Vec<u8>) -> Result<(), SerdeError> {
        self.inner.serialize(&value.key, out)?;
        out.extend_from_slice(&value.window.end.to_be_bytes());
        out.extend_from_slice(&value.window.start.to_be_bytes());
        Ok(())
    }

    fn deserialize(&self, bytes: &[u8]) -> Result<Windowed<K>, SerdeError> {
        let times = split_time(bytes).and_then(|(rest, start)| Some((split_time(rest)?, start)));
        let ((key, end), start) = times.ok_or_else(|| too_short(bytes))?;
        Ok(Windowed { key: self.inner.deserialize(key)?, window: Window { start, end } })
    }

    fn window_bytes(&self) -> usize {
        2 * TIME_BYTES
    }

    fn format(&self) -> String {
        format!("session<{}>", self.inner.format())
    }
}

fn split_time(bytes: &[u8]) -> Option<(&[u8], i64)> {
    let (rest, time) = bytes.split_last_chunk::<TIME_BYTES>()?;
    Some((rest, i64::from_be_bytes(*time)))
}

fn too_short(bytes: &[u8]) -> SerdeError {
    SerdeError::new(format!("a key in a window ends in the window's times, but there are {} bytes", bytes.len()))
}

macro_rules! debug {
    ($($type:ident),*) => {$(
        impl<K> std::fmt::Debug for $type<K> {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(stringify!($type))
            }
        }
    )*};
}
debug!(TimeWindowedSerde, SessionWindowedSerde);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::StringSerde;

    fn check(serde: &dyn Serde<Value = Windowed<String>>, window: Window, expected: &[u8]) {
        let key = Windowed { key: "k".to_owned(), window };
        let mut bytes = Vec::new();
        serde.serialize(&key, &mut bytes).unwrap();
        assert_eq!(bytes, expected);
        assert_eq!(serde.deserialize(&bytes), Ok(key));
        assert!(serde.deserialize(&bytes[..6]).is_err());
    }

    #[test]
    fn bytes_are_kafkas() {
        let inner: SharedSerde<String> = Arc::new(StringSerde);
        let window = Window { start: 258, end: 268 };
        check(&TimeWindowedSerde::new(StringSerde, 10), window, b"k\0\0\0\0\0\0\x01\x02");
        check(&TimeWindowedSerde::of_store(inner, 10), window, b"k\0\0\0\0\0\0\x01\x02\0\0\0\0");
        check(&SessionWindowedSerde::new(StringSerde), window, b"k\0\0\0\0\0\0\x01\x0c\0\0\0\0\0\0\x01\x02");
    }
}
