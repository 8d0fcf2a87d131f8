//! Owns how keys and values become bytes, the same bytes as Kafka's own serdes make. Must not know
//! where the bytes go.

mod windowed;
mod joined;
mod foreign_key;
mod murmur3;

use std::any::{Any, TypeId};
use std::convert;
use std::fmt;
use std::marker::PhantomData;
use std::sync::Arc;

use serde::Serialize;
use serde::de::DeserializeOwned;

pub(crate) use foreign_key::{
    Instruction, Response, ResponseSerde, Subscription, SubscriptionSerde, subscription_prefix,
};
pub(crate) use joined::{Sided, SidedSerde, Waiting, WaitingSerde};
pub(crate) use murmur3::hash128;
pub use windowed::{SessionWindowedSerde, TimeWindowedSerde};

/// A value that could not be written or read; the message says what was expected and what came.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SerdeError(String);

impl SerdeError {
    /// An error with a message for the log and the dead-letter topic.
    pub fn new(message: impl fmt::Display) -> Self {
        Self(message.to_string())
    }
}

impl fmt::Display for SerdeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl std::error::Error for SerdeError {}

/// Turns values of one type into bytes and back. Null never gets here: a null key or value stays
/// null whatever the serde.
///
/// ```
/// use millrace::{Serde, SerdeError};
///
/// /// One byte: 0 or 1.
/// struct BoolSerde;
///
/// impl Serde for BoolSerde {
///     type Value = bool;
///     fn serialize(&self, value: &bool, out: &mut Vec<u8>) -> Result<(), SerdeError> {
///         out.push(u8::from(*value));
///         Ok(())
///     }
///     fn deserialize(&self, bytes: &[u8]) -> Result<bool, SerdeError> {
///         match bytes {
///             [0] => Ok(false),
///             [1] => Ok(true),
///             other => Err(SerdeError::new(format!("a bool is one byte 0 or 1, not {other:?}"))),
///         }
///     }
///     fn format(&self) -> String {
///         "bool".to_owned()
///     }
/// }
/// ```
pub trait Serde: Send + Sync + 'static {
    /// What is written and read.
    type Value;
    /// Appends the bytes of `value` to `out`.
    fn serialize(&self, value: &Self::Value, out: &mut Vec<u8>) -> Result<(), SerdeError>;
    /// Reads a value from all of `bytes`.
    fn deserialize(&self, bytes: &[u8]) -> Result<Self::Value, SerdeError>;
    /// Whether [`Self::deserialize`] is sure to succeed on these bytes. Then it is put off until
    /// somebody asks for the value, which may never happen. If in doubt: no.
    fn is_readable(&self, bytes: &[u8]) -> bool {
        let _ = bytes;
        false
    }
    /// Whether [`Self::serialize`] writes exactly these bytes for the value that is read from them.
    /// Then they are copied instead. If in doubt: no.
    fn is_canonical(&self, bytes: &[u8]) -> bool {
        let _ = bytes;
        false
    }
    /// [`Self::is_readable`] of all strings of a column, as far as they are not null. They lie end to end in `bytes`,
    /// and the length of a null is negative.
    #[doc(hidden)]
    fn are_readable(&self, bytes: &[u8], lengths: &[i32]) -> bool {
        all(bytes, lengths, |string| self.is_readable(string))
    }
    /// The same of [`Self::is_canonical`].
    #[doc(hidden)]
    fn are_canonical(&self, bytes: &[u8], lengths: &[i32]) -> bool {
        all(bytes, lengths, |string| self.is_canonical(string))
    }
    /// Names a serde that has no settings: all of its type do the same.
    #[doc(hidden)]
    fn identity(&self) -> Option<TypeId> {
        (size_of_val(self) == 0).then(TypeId::of::<Self>)
    }
    /// How many bytes at the end of a key name its window: in a topic it is partitioned by those before them.
    #[doc(hidden)]
    fn window_bytes(&self) -> usize {
        0
    }
    /// What people are told the bytes are when they inspect a store: `string`, `long`, `integer`,
    /// `double`, `bytes`, `json` (the host can print these) or a name of your own.
    fn format(&self) -> String;
}

fn all(bytes: &[u8], lengths: &[i32], mut test: impl FnMut(&[u8]) -> bool) -> bool {
    let mut rest = bytes;
    lengths.iter().filter_map(|&length| usize::try_from(length).ok()).all(|length| {
        let (string, tail) = rest.split_at(length);
        rest = tail;
        test(string)
    })
}

pub(crate) type SharedSerde<T> = Arc<dyn Serde<Value = T>>;

/// UTF-8, as Kafka's `StringSerde`: bytes that are not UTF-8 are read as replacement characters.
#[derive(Debug, Clone, Copy, Default)]
pub struct StringSerde;

impl Serde for StringSerde {
    type Value = String;

    fn serialize(&self, value: &String, out: &mut Vec<u8>) -> Result<(), SerdeError> {
        out.extend_from_slice(value.as_bytes());
        Ok(())
    }

    fn deserialize(&self, bytes: &[u8]) -> Result<String, SerdeError> {
        Ok(String::from_utf8_lossy(bytes).into_owned())
    }

    fn is_readable(&self, _bytes: &[u8]) -> bool {
        true
    }

    fn is_canonical(&self, bytes: &[u8]) -> bool {
        str::from_utf8(bytes).is_ok()
    }

    fn are_readable(&self, _bytes: &[u8], _lengths: &[i32]) -> bool {
        true
    }

    fn are_canonical(&self, bytes: &[u8], lengths: &[i32]) -> bool {
        // Wherever it is cut, ASCII is UTF-8; other text is only where its characters are whole.
        bytes.is_ascii() || all(bytes, lengths, |string| self.is_canonical(string))
    }

    fn format(&self) -> String {
        "string".to_owned()
    }
}

/// The bytes as they are.
#[derive(Debug, Clone, Copy, Default)]
pub struct BytesSerde;

impl Serde for BytesSerde {
    type Value = Vec<u8>;

    fn serialize(&self, value: &Vec<u8>, out: &mut Vec<u8>) -> Result<(), SerdeError> {
        out.extend_from_slice(value);
        Ok(())
    }

    fn deserialize(&self, bytes: &[u8]) -> Result<Vec<u8>, SerdeError> {
        Ok(bytes.to_vec())
    }

    fn is_readable(&self, _bytes: &[u8]) -> bool {
        true
    }

    fn is_canonical(&self, _bytes: &[u8]) -> bool {
        true
    }

    fn are_readable(&self, _bytes: &[u8], _lengths: &[i32]) -> bool {
        true
    }

    fn are_canonical(&self, _bytes: &[u8], _lengths: &[i32]) -> bool {
        true
    }

    fn format(&self) -> String {
        "bytes".to_owned()
    }
}

macro_rules! big_endian {
    ($serde:ident, $type:ty, $format:literal, $bits:expr, $doc:literal) => {
        #[doc = $doc]
        #[derive(Debug, Clone, Copy, Default)]
        pub struct $serde;

        impl Serde for $serde {
            type Value = $type;

            fn serialize(&self, value: &$type, out: &mut Vec<u8>) -> Result<(), SerdeError> {
                out.extend_from_slice(&$bits(*value).to_be_bytes());
                Ok(())
            }

            fn deserialize(&self, bytes: &[u8]) -> Result<$type, SerdeError> {
                let bytes = bytes.try_into().map_err(|_| {
                    SerdeError::new(format!(
                        concat!("a ", $format, " takes {} bytes, but there are {}"),
                        size_of::<$type>(),
                        bytes.len()
                    ))
                })?;
                Ok(<$type>::from_be_bytes(bytes))
            }

            fn is_readable(&self, bytes: &[u8]) -> bool {
                bytes.len() == size_of::<$type>()
            }

            fn is_canonical(&self, bytes: &[u8]) -> bool {
                self.deserialize(bytes).is_ok_and(|value| $bits(value).to_be_bytes() == bytes)
            }

            fn format(&self) -> String {
                $format.to_owned()
            }
        }
    };
}

big_endian!(LongSerde, i64, "long", convert::identity, "Eight bytes, big-endian, as Kafka's `LongSerde`.");
big_endian!(IntegerSerde, i32, "integer", convert::identity, "Four bytes, big-endian, as Kafka's `IntegerSerde`.");
big_endian!(
    DoubleSerde,
    f64,
    "double",
    double_to_long_bits,
    "The eight bytes of IEEE 754, big-endian, as Kafka's `DoubleSerde`."
);

/// The bits of a double, one and the same for all that is not a number, as in Java.
fn double_to_long_bits(value: f64) -> u64 {
    if value.is_nan() { 0x7ff8_0000_0000_0000 } else { value.to_bits() }
}

/// JSON of any type that `serde` can write and read.
///
/// ```
/// use millrace::{JsonSerde, Serde};
///
/// let serde = JsonSerde::<Vec<i32>>::new();
/// let mut bytes = Vec::new();
/// serde.serialize(&vec![1, 2], &mut bytes).unwrap();
/// assert_eq!(bytes, b"[1,2]");
/// assert_eq!(serde.deserialize(&bytes).unwrap(), [1, 2]);
/// ```
pub struct JsonSerde<T>(PhantomData<fn() -> T>);

impl<T> JsonSerde<T> {
    /// The serde of `T`.
    #[must_use]
    pub fn new() -> Self {
        Self(PhantomData)
    }
}

impl<T> Default for JsonSerde<T> {
    fn default() -> Self {
        Self::new()
    }
}

impl<T> Clone for JsonSerde<T> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T> Copy for JsonSerde<T> {}

impl<T> fmt::Debug for JsonSerde<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JsonSerde")
    }
}

impl<T: Serialize + DeserializeOwned + 'static> Serde for JsonSerde<T> {
    type Value = T;

    fn serialize(&self, value: &T, out: &mut Vec<u8>) -> Result<(), SerdeError> {
        serde_json::to_writer(out, value).map_err(SerdeError::new)
    }

    fn deserialize(&self, bytes: &[u8]) -> Result<T, SerdeError> {
        serde_json::from_slice(bytes).map_err(SerdeError::new)
    }

    fn format(&self) -> String {
        "json".to_owned()
    }
}

/// The serde of a type that has an obvious one, so that it need not be named at every operator.
pub(crate) fn natural<T: 'static>() -> Option<SharedSerde<T>> {
    fn of<T: 'static, S: Serde>(serde: S) -> Option<SharedSerde<T>> {
        let serde: SharedSerde<S::Value> = Arc::new(serde);
        (&serde as &dyn Any).downcast_ref::<SharedSerde<T>>().cloned()
    }
    of::<T, _>(StringSerde)
        .or_else(|| of::<T, _>(LongSerde))
        .or_else(|| of::<T, _>(IntegerSerde))
        .or_else(|| of::<T, _>(DoubleSerde))
        .or_else(|| of::<T, _>(BytesSerde))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check<S: Serde>(serde: &S, value: &S::Value, bytes: &[u8])
    where
        S::Value: PartialEq + fmt::Debug,
    {
        let mut out = Vec::new();
        serde.serialize(value, &mut out).unwrap();
        assert_eq!(out, bytes);
        assert_eq!(&serde.deserialize(bytes).unwrap(), value);
    }

    #[test]
    fn bytes_are_kafkas() {
        check(&LongSerde, &-2, &[255, 255, 255, 255, 255, 255, 255, 254]);
        check(&IntegerSerde, &258, &[0, 0, 1, 2]);
        check(&DoubleSerde, &1.5, &[0x3f, 0xf8, 0, 0, 0, 0, 0, 0]);
        assert!(!DoubleSerde.is_canonical(&[0x7f, 0xf8, 0, 0, 0, 0, 0, 1]));
        check(&StringSerde, &"zoë".to_owned(), "zoë".as_bytes());
        check(&BytesSerde, &vec![0, 255], &[0, 255]);
        check(&JsonSerde::new(), &vec![1, 2], b"[1,2]");
    }

    #[test]
    fn refuses_what_it_cannot_read() {
        assert_eq!(LongSerde.deserialize(&[1]), Err(SerdeError::new("a long takes 8 bytes, but there are 1")));
        assert!(JsonSerde::<Vec<i32>>::new().deserialize(b"[").is_err());
        assert_eq!(StringSerde.deserialize(&[b'a', 0xff]), Ok("a\u{fffd}".to_owned()));
    }

    /// What is asked of a column at once is what it would be string by string.
    #[test]
    fn a_column_is_canonical_if_each_string_is() {
        fn check<S: Serde>(serde: &S, strings: &[Option<&[u8]>], expected: bool) {
            let mut column = crate::contract::empty_column();
            strings.iter().for_each(|string| crate::contract::push_bytes(&mut column, *string));
            assert_eq!(serde.are_canonical(&column.bytes, &column.lengths), expected, "{strings:?}");
            assert_eq!(strings.iter().flatten().all(|string| serde.is_canonical(string)), expected);
        }
        check(&StringSerde, &[], true);
        check(&StringSerde, &[Some(b"a"), None, Some(b"")], true);
        check(&StringSerde, &[Some("zo\u{eb}".as_bytes()), None, Some(b"b")], true);
        // Valid as a whole, but cut in the midst of a character.
        check(&StringSerde, &[Some(b"zo\xc3"), Some(b"\xab")], false);
        check(&LongSerde, &[Some(&[0; 8]), None, Some(&[1; 8])], true);
        check(&LongSerde, &[Some(&[0; 8]), Some(&[1; 7]), Some(&[1; 9])], false);
        check(&BytesSerde, &[Some(b"\xff"), None], true);
    }

    #[test]
    fn types_with_a_natural_serde() {
        assert_eq!(natural::<i64>().map(|serde| serde.format()), Some("long".to_owned()));
        assert_eq!(natural::<String>().map(|serde| serde.format()), Some("string".to_owned()));
        assert!(natural::<u16>().is_none());
    }
}
