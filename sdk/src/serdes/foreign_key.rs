//! Owns the bytes that go to and fro in a foreign-key join, as Kafka Streams writes them: subscriptions, the keys of their
//! store, and responses. Must not know what they are answered with.

use std::rc::Rc;

use super::{Serde, SerdeError};

/// In the first byte, beside the version: no hash follows, for the row was deleted.
const NO_HASH: u8 = 0x80;
/// The highest version of a subscription there is; 0 has no partition.
const SUBSCRIPTION_VERSION: u8 = 1;
const RESPONSE_VERSION: u8 = 0;

/// What is to become of a subscription, and what is to be answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Instruction {
    /// It ends; no answer.
    DeleteKeyNoPropagate = 0,
    /// It ends; the answer is null.
    DeleteKeyAndPropagate = 1,
    /// It begins; the answer is null where the right table does not have the key.
    PropagateNullIfNoFkValAvailable = 2,
    /// It begins; no answer where the right table does not have the key.
    PropagateOnlyIfFkValAvailable = 3,
}

impl Instruction {
    const ALL: [Self; 4] = [
        Self::DeleteKeyNoPropagate,
        Self::DeleteKeyAndPropagate,
        Self::PropagateNullIfNoFkValAvailable,
        Self::PropagateOnlyIfFkValAvailable,
    ];

    /// Whether the subscription ends.
    pub(crate) fn deletes(self) -> bool {
        matches!(self, Self::DeleteKeyNoPropagate | Self::DeleteKeyAndPropagate)
    }
}

/// A row of the left table that refers to a key of the right one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Subscription {
    /// Of the row's value; none: the row was deleted.
    pub(crate) hash: Option<u128>,
    pub(crate) instruction: Instruction,
    /// The row's key as its serde writes it.
    pub(crate) primary_key: Vec<u8>,
    /// Where the row is, and the answer goes. None: from an application before Kafka Streams 3.4, which did not say.
    pub(crate) primary_partition: Option<i32>,
}

/// Version and whether there is a hash, the instruction, the hash, the key, the partition.
pub(crate) struct SubscriptionSerde;

impl Serde for SubscriptionSerde {
    type Value = Subscription;

    fn serialize(&self, value: &Subscription, out: &mut Vec<u8>) -> Result<(), SerdeError> {
        let version = if value.primary_partition.is_some() { SUBSCRIPTION_VERSION } else { 0 };
        out.push(version | if value.hash.is_none() { NO_HASH } else { 0 });
        out.push(value.instruction as u8);
        if let Some(hash) = value.hash {
            out.extend_from_slice(&hash.to_be_bytes());
        }
        out.extend_from_slice(&value.primary_key);
        if let Some(partition) = value.primary_partition {
            out.extend_from_slice(&partition.to_be_bytes());
        }
        Ok(())
    }

    fn deserialize(&self, bytes: &[u8]) -> Result<Subscription, SerdeError> {
        let torn = || SerdeError::new("it is no subscription of a foreign-key join");
        let (first, rest) = bytes.split_first().ok_or_else(torn)?;
        let version = first & !NO_HASH;
        if version > SUBSCRIPTION_VERSION {
            return Err(newer("subscription", version, SUBSCRIPTION_VERSION));
        }
        let (instruction, rest) = rest.split_first().ok_or_else(torn)?;
        let instruction = Instruction::ALL.into_iter().find(|known| *known as u8 == *instruction).ok_or_else(torn)?;
        let (hash, rest) = split_hash(*first, rest).ok_or_else(torn)?;
        let (primary_key, partition) = match version {
            0 => (rest, None),
            _ => rest.split_last_chunk().map(|(key, partition)| (key, Some(*partition))).ok_or_else(torn)?,
        };
        let primary_partition = partition.map(i32::from_be_bytes);
        Ok(Subscription { hash, instruction, primary_key: primary_key.to_vec(), primary_partition })
    }

    fn format(&self) -> String {
        "subscription".to_owned()
    }
}

/// What the right table has of the key that a row refers to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Response {
    /// Of the row's value when it asked.
    pub(crate) hash: Option<u128>,
    /// As the right table's serde writes it; none: it does not have the key.
    pub(crate) foreign_value: Option<Rc<Vec<u8>>>,
    /// Where it goes. It is not written.
    pub(crate) primary_partition: Option<i32>,
}

/// Version and whether there is a hash, the hash, the value.
pub(crate) struct ResponseSerde;

impl Serde for ResponseSerde {
    type Value = Response;

    fn serialize(&self, value: &Response, out: &mut Vec<u8>) -> Result<(), SerdeError> {
        out.push(RESPONSE_VERSION | if value.hash.is_none() { NO_HASH } else { 0 });
        if let Some(hash) = value.hash {
            out.extend_from_slice(&hash.to_be_bytes());
        }
        if let Some(value) = &value.foreign_value {
            out.extend_from_slice(value);
        }
        Ok(())
    }

    fn deserialize(&self, bytes: &[u8]) -> Result<Response, SerdeError> {
        let torn = || SerdeError::new("it is no response of a foreign-key join");
        let (first, rest) = bytes.split_first().ok_or_else(torn)?;
        let version = first & !NO_HASH;
        if version > RESPONSE_VERSION {
            return Err(newer("response", version, RESPONSE_VERSION));
        }
        let (hash, value) = split_hash(*first, rest).ok_or_else(torn)?;
        // As in Kafka Streams, a value that is written as nothing arrives as none.
        let foreign_value = (!value.is_empty()).then(|| Rc::new(value.to_vec()));
        Ok(Response { hash, foreign_value, primary_partition: None })
    }

    fn format(&self) -> String {
        "response".to_owned()
    }
}

fn split_hash(first: u8, rest: &[u8]) -> Option<(Option<u128>, &[u8])> {
    if first & NO_HASH != 0 {
        return Some((None, rest));
    }
    let (hash, rest) = rest.split_first_chunk()?;
    Some((Some(u128::from_be_bytes(*hash)), rest))
}

fn newer(what: &str, version: u8, known: u8) -> SerdeError {
    SerdeError::new(format!(
        "it is a {what} of a foreign-key join in version {version}, newer than {known}: use a newer Millrace"
    ))
}

/// What the keys of all subscriptions to a foreign key begin with in their store: its length and itself. The row's key
/// comes behind it.
pub(crate) fn subscription_prefix(foreign_key: &[u8]) -> Result<Vec<u8>, SerdeError> {
    let length = i32::try_from(foreign_key.len()).map_err(|_| SerdeError::new("it is larger than 2 GiB"))?;
    Ok([&length.to_be_bytes(), foreign_key].concat())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check<S: Serde>(serde: &S, value: &S::Value, expected: &[u8])
    where
        S::Value: PartialEq + std::fmt::Debug,
    {
        let mut bytes = Vec::new();
        serde.serialize(value, &mut bytes).unwrap();
        assert_eq!(bytes, expected);
        assert_eq!(serde.deserialize(&bytes).as_ref(), Ok(value));
    }

    #[test]
    fn bytes_are_kafkas() {
        let hash = Some(0x0102_0304_0506_0708_090a_0b0c_0d0e_0f10);
        let written = b"\x01\x02\x03\x04\x05\x06\x07\x08\x09\x0a\x0b\x0c\x0d\x0e\x0f\x10";
        let subscription = |hash, instruction, primary_partition| Subscription {
            hash,
            instruction,
            primary_key: b"pk".to_vec(),
            primary_partition,
        };
        let (begins, ends) = (Instruction::PropagateOnlyIfFkValAvailable, Instruction::DeleteKeyAndPropagate);
        let check_subscription = |value, parts: &[&[u8]]| check(&SubscriptionSerde, &value, &parts.concat());
        check_subscription(subscription(hash, begins, Some(7)), &[b"\x01\x03", written, b"pk\0\0\0\x07"]);
        check_subscription(subscription(None, ends, Some(0)), &[b"\x81\x01pk\0\0\0\0"]);
        check_subscription(subscription(hash, begins, None), &[b"\0\x03", written, b"pk"]);
        let response = |hash, value: Option<&[u8]>| Response {
            hash,
            foreign_value: value.map(|value| Rc::new(value.to_vec())),
            primary_partition: None,
        };
        let check_response = |value, parts: &[&[u8]]| check(&ResponseSerde, &value, &parts.concat());
        check_response(response(hash, Some(b"v")), &[b"\0", written, b"v"]);
        check_response(response(hash, None), &[b"\0", written]);
        check_response(response(None, None), &[b"\x80"]);
        assert_eq!(subscription_prefix(b"fk").unwrap(), b"\0\0\0\x02fk");
    }

    #[test]
    fn what_is_none_is_refused() {
        for bytes in [&b""[..], b"\x01", b"\x01\x04", b"\x01\x03short", b"\x81\x01\0\0\0"] {
            assert!(SubscriptionSerde.deserialize(bytes).is_err(), "{bytes:?}");
        }
        for bytes in [&b""[..], b"\0short"] {
            assert!(ResponseSerde.deserialize(bytes).is_err(), "{bytes:?}");
        }
        let newer = SubscriptionSerde.deserialize(b"\x82\x01\0\0\0\0").unwrap_err().to_string();
        assert!(newer.contains("version 2, newer than 1"), "{newer}");
        assert!(ResponseSerde.deserialize(b"\x81").is_err());
    }
}
