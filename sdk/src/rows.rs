//! Owns records on their way through a topology: typed columns that operators share instead of
//! copying. Must not know what operators there are.

mod column;

use std::rc::Rc;

use crate::contract::Header;

pub(crate) use column::{Col, Raw, Writer};

/// What keys and values can be. Every type that can be cloned is.
pub trait Data: Clone + 'static {}
impl<T: Clone + 'static> Data for T {}

/// The headers of a record, in its own order; a key may come more than once. They go on with a record through all operators,
/// to the topics it is written to. Aggregates have those of the record in hand.
///
/// ```
/// use millrace::Headers;
///
/// let mut headers = Headers::new();
/// headers.add("trace", "7").add("trace", "8").add_null("empty");
/// assert_eq!(headers.last("trace"), Some(&b"8"[..]));
/// assert_eq!(headers.iter().count(), 3);
/// assert!(headers.remove("trace").last("trace").is_none());
/// ```
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Headers(Vec<(String, Option<Vec<u8>>)>);

impl Headers {
    pub(crate) const EMPTY: Self = Self(Vec::new());

    /// No headers.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Appends one.
    pub fn add(&mut self, key: impl Into<String>, value: impl AsRef<[u8]>) -> &mut Self {
        self.push(key.into(), Some(value.as_ref().to_vec()));
        self
    }

    /// Appends one whose value is null.
    pub fn add_null(&mut self, key: impl Into<String>) -> &mut Self {
        self.push(key.into(), None);
        self
    }

    pub(crate) fn push(&mut self, key: String, value: Option<Vec<u8>>) {
        self.0.push((key, value));
    }

    /// Takes away all of that key.
    pub fn remove(&mut self, key: &str) -> &mut Self {
        self.0.retain(|(name, _)| name != key);
        self
    }

    /// The value of the last one of that key; none if there is no such header or its value is null.
    #[must_use]
    pub fn last(&self, key: &str) -> Option<&[u8]> {
        self.0.iter().rev().find(|(name, _)| name == key).and_then(|(_, value)| value.as_deref())
    }

    /// All of them in order.
    pub fn iter(&self) -> impl Iterator<Item = (&str, Option<&[u8]>)> {
        self.0.iter().map(|(key, value)| (key.as_str(), value.as_deref()))
    }

    /// All of them as those of a record in a batch.
    pub(crate) fn of_record(&self, index: u32) -> impl Iterator<Item = Header> {
        self.0.iter().map(move |(key, value)| Header { index, key: key.clone(), value: value.clone() })
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl<K: Into<String>, V: AsRef<[u8]>> FromIterator<(K, V)> for Headers {
    fn from_iter<I: IntoIterator<Item = (K, V)>>(items: I) -> Self {
        Self(items.into_iter().map(|(key, value)| (key.into(), Some(value.as_ref().to_vec()))).collect())
    }
}

/// What a record carries beside its key and value.
#[derive(Clone)]
pub(crate) struct Meta {
    pub(crate) timestamps: Rc<Vec<i64>>,
    /// Which record of the input each stems from; [`UNKNOWN`] in a punctuation.
    pub(crate) origins: Rc<Vec<u32>>,
    /// None: no record has headers.
    pub(crate) headers: Option<Col<Rc<Headers>>>,
}

/// The headers of rows; none if no row has any.
pub(crate) fn headers_of(rows: Vec<Option<Rc<Headers>>>) -> Option<Col<Rc<Headers>>> {
    rows.iter().any(Option::is_some).then(|| Col::new(rows))
}

/// The origin of a record that stems from no input.
pub(crate) const UNKNOWN: u32 = u32::MAX;

impl Meta {
    pub(crate) fn headers(&self, row: usize) -> Option<&Rc<Headers>> {
        self.headers.as_ref().and_then(|headers| headers.get(row))
    }

    pub(crate) fn select(&self, rows: &Rc<Vec<u32>>) -> Self {
        Self {
            timestamps: Rc::new(rows.iter().map(|&row| self.timestamps[row as usize]).collect()),
            origins: Rc::new(rows.iter().map(|&row| self.origins[row as usize]).collect()),
            headers: self.headers.as_ref().map(|headers| headers.select(rows)),
        }
    }

    pub(crate) fn with_timestamps(&self, timestamps: Vec<i64>) -> Self {
        Self { timestamps: Rc::new(timestamps), ..self.clone() }
    }
}

/// Rows that can be cut, whatever is in them.
pub(crate) trait Cut: 'static {
    fn len(&self) -> usize;
    /// The rows given, which may repeat.
    fn cut(&self, rows: &Rc<Vec<u32>>) -> Self;
}

/// Records of a stream.
pub(crate) struct Rows<K, V> {
    pub(crate) keys: Col<K>,
    pub(crate) values: Col<V>,
    pub(crate) meta: Meta,
}

impl<K, V> Clone for Rows<K, V> {
    fn clone(&self) -> Self {
        Self { keys: self.keys.clone(), values: self.values.clone(), meta: self.meta.clone() }
    }
}

impl<K: Data, V: Data> Cut for Rows<K, V> {
    fn len(&self) -> usize {
        self.meta.timestamps.len()
    }

    fn cut(&self, rows: &Rc<Vec<u32>>) -> Self {
        Self { keys: self.keys.select(rows), values: self.values.select(rows), meta: self.meta.select(rows) }
    }
}

/// Updates of a table.
pub(crate) struct Updates<K, V> {
    pub(crate) keys: Col<K>,
    pub(crate) new: Col<V>,
    /// None: old values are not sent.
    pub(crate) old: Option<Col<V>>,
    /// Which came after later ones of their keys, as versioned tables know; none: of no table that does.
    pub(crate) late: Option<Rc<Vec<bool>>>,
    pub(crate) meta: Meta,
}

impl<K: Data, V: Data> Updates<K, V> {
    pub(crate) fn old(&self, row: usize) -> Option<&V> {
        self.old.as_ref().and_then(|old| old.get(row))
    }

    /// Those that are not late; none: all.
    pub(crate) fn in_order(&self) -> Option<Self> {
        let late = self.late.as_ref().filter(|late| late.contains(&true))?;
        let kept = (0..late.len()).filter(|&row| !late[row]).map(crate::contract::index);
        Some(self.cut(&Rc::new(kept.collect())))
    }
}

impl<K: Data, V: Data> Cut for Updates<K, V> {
    fn len(&self) -> usize {
        self.meta.timestamps.len()
    }

    fn cut(&self, rows: &Rc<Vec<u32>>) -> Self {
        Self {
            keys: self.keys.select(rows),
            new: self.new.select(rows),
            old: self.old.as_ref().map(|old| old.select(rows)),
            late: self.late.as_ref().map(|late| Rc::new(rows.iter().map(|&row| late[row as usize]).collect())),
            meta: self.meta.select(rows),
        }
    }
}
