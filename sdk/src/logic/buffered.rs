//! Owns the bytes of what a suppression or a join holds back: Kafka Streams' buffer values, version 3. Must not know when they go on.

use std::rc::Rc;

use crate::rows::{Headers, Meta};
use crate::run::Run;
use crate::serdes::SerdeError;

const NULL: i32 = -1;
/// The old value is the one from before the buffer had the key.
const AS_PRIOR: i32 = -2;

/// Where and when a record came from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Origin {
    pub(super) timestamp: i64,
    pub(super) offset: i64,
    pub(super) topic: String,
    pub(super) partition: i32,
    pub(super) headers: Rc<Headers>,
}

impl Origin {
    pub(super) fn of(meta: &Meta, row: usize, run: &Run<'_>) -> Self {
        let source = run.source(meta.origins[row]);
        Self {
            timestamp: meta.timestamps[row],
            offset: source.as_ref().map_or(-1, |source| source.offset),
            topic: source.as_ref().map_or_else(String::new, |source| source.topic.to_owned()),
            partition: i32::try_from(run.task().partition).unwrap_or(i32::MAX),
            headers: meta.headers(row).cloned().unwrap_or_default(),
        }
    }
}

/// The last update of a key, with the value the key had before the buffer had it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Buffered {
    pub(super) origin: Origin,
    pub(super) prior: Option<Vec<u8>>,
    pub(super) old: Option<Vec<u8>>,
    pub(super) new: Option<Vec<u8>>,
    /// When it is to go on, unless the buffer is full before.
    pub(super) time: i64,
}

impl Buffered {
    /// How much of a buffer it takes, as Kafka Streams counts.
    pub(super) fn size(&self, key: &[u8]) -> usize {
        const TIMES: usize = 3 * size_of::<i64>();
        let length = |value: &Option<Vec<u8>>| value.as_ref().map_or(0, Vec::len);
        let old = if self.old == self.prior { 0 } else { length(&self.old) };
        let headers = self.origin.headers.iter();
        let headers: usize = headers.map(|(key, value)| key.chars().count() + value.map_or(0, <[u8]>::len)).sum();
        let origin = self.origin.topic.chars().count() + size_of::<i32>() + headers;
        TIMES + key.len() + length(&self.prior) + old + length(&self.new) + origin
    }

    pub(super) fn write(&self, out: &mut Vec<u8>) -> Result<(), SerdeError> {
        let Origin { timestamp, offset, topic, partition, headers } = &self.origin;
        out.extend_from_slice(&timestamp.to_be_bytes());
        out.extend_from_slice(&offset.to_be_bytes());
        write(out, Some(topic.as_bytes()))?;
        out.extend_from_slice(&partition.to_be_bytes());
        out.extend_from_slice(&length(headers.iter().count())?.to_be_bytes());
        for (key, value) in headers.iter() {
            write(out, Some(key.as_bytes()))?;
            write(out, value)?;
        }
        write(out, self.prior.as_deref())?;
        match &self.old {
            Some(_) if self.old == self.prior => out.extend_from_slice(&AS_PRIOR.to_be_bytes()),
            old => write(out, old.as_deref())?,
        }
        write(out, self.new.as_deref())?;
        out.extend_from_slice(&self.time.to_be_bytes());
        Ok(())
    }

    pub(super) fn read(bytes: &[u8]) -> Result<Self, SerdeError> {
        let mut rest = Rest(bytes);
        let (timestamp, offset) = (rest.long()?, rest.long()?);
        let topic = rest.text()?;
        let partition = rest.int()?;
        let mut headers = Headers::new();
        for _ in 0..rest.int()? {
            let key = rest.text()?;
            headers.push(key, rest.value()?);
        }
        let prior = rest.value()?;
        let old = match rest.int()? {
            AS_PRIOR => prior.clone(),
            length => rest.take(length)?,
        };
        let (new, time) = (rest.value()?, rest.long()?);
        let origin = Origin { timestamp, offset, topic, partition, headers: Rc::new(headers) };
        Ok(Self { origin, prior, old, new, time })
    }
}

fn length(length: usize) -> Result<i32, SerdeError> {
    i32::try_from(length).map_err(|_| SerdeError::new("it is larger than 2 GiB"))
}

fn write(out: &mut Vec<u8>, value: Option<&[u8]>) -> Result<(), SerdeError> {
    out.extend_from_slice(&value.map_or(Ok(NULL), |value| length(value.len()))?.to_be_bytes());
    out.extend_from_slice(value.unwrap_or_default());
    Ok(())
}

/// What is left to read.
struct Rest<'a>(&'a [u8]);

impl Rest<'_> {
    fn bytes<const N: usize>(&mut self) -> Result<[u8; N], SerdeError> {
        let (bytes, rest) = self.0.split_first_chunk::<N>().ok_or_else(torn)?;
        self.0 = rest;
        Ok(*bytes)
    }

    fn long(&mut self) -> Result<i64, SerdeError> {
        self.bytes().map(i64::from_be_bytes)
    }

    fn int(&mut self) -> Result<i32, SerdeError> {
        self.bytes().map(i32::from_be_bytes)
    }

    fn take(&mut self, length: i32) -> Result<Option<Vec<u8>>, SerdeError> {
        if length == NULL {
            return Ok(None);
        }
        let length = usize::try_from(length).map_err(|_| torn())?;
        let (bytes, rest) = self.0.split_at_checked(length).ok_or_else(torn)?;
        self.0 = rest;
        Ok(Some(bytes.to_vec()))
    }

    fn value(&mut self) -> Result<Option<Vec<u8>>, SerdeError> {
        let length = self.int()?;
        self.take(length)
    }

    fn text(&mut self) -> Result<String, SerdeError> {
        let bytes = self.value()?.ok_or_else(torn)?;
        String::from_utf8(bytes).map_err(|_| torn())
    }
}

fn torn() -> SerdeError {
    SerdeError::new("it is no value of a suppression's buffer as Kafka Streams writes it since 2.6")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn value(prior: Option<&[u8]>, old: Option<&[u8]>) -> Buffered {
        let mut headers = Headers::new();
        headers.add("h", b"1").add_null("n");
        let origin = Origin { timestamp: 1, offset: 2, topic: "t".to_owned(), partition: 3, headers: Rc::new(headers) };
        Buffered { origin, prior: prior.map(Into::into), old: old.map(Into::into), new: Some(b"new".to_vec()), time: 4 }
    }

    #[test]
    fn bytes_are_kafkas() {
        let begin = b"\0\0\0\0\0\0\0\x01\0\0\0\0\0\0\0\x02\0\0\0\x01t\0\0\0\x03\0\0\0\x02\
            \0\0\0\x01h\0\0\0\x011\0\0\0\x01n\xff\xff\xff\xff";
        let end = b"\0\0\0\x03new\0\0\0\0\0\0\0\x04";
        for (prior, old, middle) in [
            (None, None, b"\xff\xff\xff\xff\xff\xff\xff\xff".as_slice()),
            (Some(b"p".as_slice()), Some(b"p".as_slice()), b"\0\0\0\x01p\xff\xff\xff\xfe"),
            (None, Some(b"o"), b"\xff\xff\xff\xff\0\0\0\x01o"),
            (Some(b"p"), None, b"\0\0\0\x01p\xff\xff\xff\xff"),
        ] {
            let value = value(prior, old);
            let mut bytes = Vec::new();
            value.write(&mut bytes).unwrap();
            assert_eq!(bytes, [begin.as_slice(), middle, end].concat());
            assert_eq!(Buffered::read(&bytes), Ok(value));
            assert!((0..bytes.len()).all(|cut| Buffered::read(&bytes[..cut]).is_err()));
        }
    }

    #[test]
    fn a_size_is_what_kafka_streams_counts() {
        // Three times, the key, the topic, the partition, two headers and the values.
        assert_eq!(value(None, None).size(b"key"), 24 + 3 + 1 + 4 + 3 + 3);
        assert_eq!(value(Some(b"pp"), Some(b"pp")).size(b"key"), 38 + 2);
        assert_eq!(value(Some(b"pp"), Some(b"o")).size(b"key"), 38 + 3);
    }
}
