//! Owns the bytes of records that wait for a partner in a left or outer join of streams. Must not know how long they wait.

use std::sync::Arc;

use super::{Serde, SerdeError, SharedSerde};

const TIME_BYTES: usize = 8;
const LENGTH_BYTES: usize = 4;
/// Kafka's `ListSerializer` begins with this for entries that have their lengths before them.
const VARIABLE_SIZE: u8 = 1;

/// When a record waits, on which side and under which key. Its bytes are in the order of the times.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Waiting<K> {
    pub(crate) timestamp: i64,
    pub(crate) left: bool,
    pub(crate) key: K,
}

/// Kafka's `TimestampedKeyAndJoinSideSerde`: 8-byte time, 1 for the left side, the key.
pub(crate) struct WaitingSerde<K>(pub(crate) SharedSerde<K>);

impl<K: 'static> Serde for WaitingSerde<K> {
    type Value = Waiting<K>;

    fn serialize(&self, value: &Waiting<K>, out: &mut Vec<u8>) -> Result<(), SerdeError> {
        out.extend_from_slice(&value.timestamp.to_be_bytes());
        out.push(u8::from(value.left));
        self.0.serialize(&value.key, out)
    }

    fn deserialize(&self, bytes: &[u8]) -> Result<Waiting<K>, SerdeError> {
        let parts = bytes.split_first_chunk::<TIME_BYTES>().and_then(|(time, rest)| Some((time, rest.split_first()?)));
        let Some((time, (side, key))) = parts else {
            return Err(SerdeError::new("a key of a join begins with a time and a side"));
        };
        let (timestamp, key) = (i64::from_be_bytes(*time), self.0.deserialize(key)?);
        Ok(Waiting { timestamp, left: *side == 1, key })
    }

    fn format(&self) -> String {
        format!("timestamped<{}>", self.0.format())
    }
}

/// A value of one of the sides.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Sided<L, R> {
    Left(L),
    Right(R),
}

/// All values that wait under one key: Kafka's list of `LeftOrRightValue`s, each of which begins with a 1 for the left.
pub(crate) struct SidedSerde<L, R> {
    pub(crate) left: SharedSerde<L>,
    pub(crate) right: SharedSerde<R>,
}

impl<L: 'static, R: 'static> Serde for SidedSerde<L, R> {
    type Value = Arc<Vec<Sided<L, R>>>;

    fn serialize(&self, values: &Self::Value, out: &mut Vec<u8>) -> Result<(), SerdeError> {
        let length = |bytes: usize| i32::try_from(bytes).map_err(|_| SerdeError::new("it is larger than 2 GiB"));
        out.push(VARIABLE_SIZE);
        out.extend_from_slice(&length(values.len())?.to_be_bytes());
        for value in &**values {
            let start = out.len();
            out.extend_from_slice(&[0; LENGTH_BYTES]);
            match value {
                Sided::Left(value) => {
                    out.push(1);
                    self.left.serialize(value, out)?;
                }
                Sided::Right(value) => {
                    out.push(0);
                    self.right.serialize(value, out)?;
                }
            }
            let bytes = length(out.len() - start - LENGTH_BYTES)?;
            out[start..start + LENGTH_BYTES].copy_from_slice(&bytes.to_be_bytes());
        }
        Ok(())
    }

    fn deserialize(&self, bytes: &[u8]) -> Result<Self::Value, SerdeError> {
        let torn = || SerdeError::new("it is no list of values of a join");
        let (_, mut rest) = bytes.split_first().filter(|(kind, _)| **kind == VARIABLE_SIZE).ok_or_else(torn)?;
        let length = |rest: &mut &[u8]| {
            let (length, tail) = rest.split_first_chunk::<LENGTH_BYTES>().ok_or_else(torn)?;
            *rest = tail;
            usize::try_from(i32::from_be_bytes(*length)).map_err(|_| torn())
        };
        let count = length(&mut rest)?;
        let mut values = Vec::new();
        for _ in 0..count {
            let bytes = length(&mut rest)?;
            let (entry, tail) = rest.split_at_checked(bytes).ok_or_else(torn)?;
            rest = tail;
            let (side, value) = entry.split_first().ok_or_else(torn)?;
            values.push(match side {
                1 => Sided::Left(self.left.deserialize(value)?),
                _ => Sided::Right(self.right.deserialize(value)?),
            });
        }
        Ok(Arc::new(values))
    }

    fn format(&self) -> String {
        format!("joined<{},{}>", self.left.format(), self.right.format())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{IntegerSerde, StringSerde};

    #[test]
    fn bytes_are_kafkas() {
        let keys = WaitingSerde(Arc::new(StringSerde) as SharedSerde<String>);
        let key = Waiting { timestamp: 258, left: true, key: "k".to_owned() };
        let mut bytes = Vec::new();
        keys.serialize(&key, &mut bytes).unwrap();
        assert_eq!(bytes, b"\0\0\0\0\0\0\x01\x02\x01k");
        assert_eq!(keys.deserialize(&bytes), Ok(key));
        assert!(keys.deserialize(&bytes[..8]).is_err());
        let values = SidedSerde { left: Arc::new(StringSerde), right: Arc::new(IntegerSerde) };
        let list = Arc::new(vec![Sided::Left("ab".to_owned()), Sided::Right(7)]);
        let mut bytes = Vec::new();
        values.serialize(&list, &mut bytes).unwrap();
        assert_eq!(bytes, b"\x01\0\0\0\x02\0\0\0\x03\x01ab\0\0\0\x05\0\0\0\0\x07");
        assert_eq!(values.deserialize(&bytes), Ok(list));
        assert!(values.deserialize(&bytes[..12]).is_err());
        assert!(values.deserialize(b"").is_err());
    }
}
