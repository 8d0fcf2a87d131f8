//! Owns how the bytes of a store are shown to people and to JSON, and how what people write becomes bytes: by the
//! format that the module declares of the store. Must not know where the bytes come from.
//!
//! A format decides nothing but that. What does not fit its own is shown as bytes, so that nothing is hidden.

use std::fmt::Write;

use millrace_engine::topology::Layout;
use serde_json::{Value, json};

/// What the bytes of a key or a value are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    String,
    Long,
    Integer,
    Double,
    Json,
    /// Also of a format that only the module knows.
    Bytes,
}

impl Format {
    const ALL: [Self; 6] = [Self::String, Self::Long, Self::Integer, Self::Double, Self::Json, Self::Bytes];

    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::String => "string",
            Self::Long => "long",
            Self::Integer => "integer",
            Self::Double => "double",
            Self::Json => "json",
            Self::Bytes => "bytes",
        }
    }

    /// By the name that somebody gives it; else the names there are.
    pub fn known(name: &str) -> Result<Self, String> {
        let names = || Self::ALL.map(Self::name).join(", ");
        let known = Self::ALL.into_iter().find(|format| format.name() == name);
        known.ok_or_else(|| format!("`{name}` is no format; there are {}", names()))
    }

    /// By the name that a module gives it, which may be one that only the module knows.
    #[must_use]
    pub fn named(name: &str) -> Self {
        Self::known(name).unwrap_or(Self::Bytes)
    }

    /// What somebody wrote, as bytes of a key; else what it should have been.
    pub fn read(self, text: &str) -> Result<Vec<u8>, String> {
        let wrong = |wanted: &str| format!("`{text}` is {wanted}");
        match self {
            Self::String => Ok(text.as_bytes().to_vec()),
            Self::Json => {
                serde_json::from_str::<Value>(text).map_err(|error| wrong(&format!("no JSON: {error}")))?;
                Ok(text.as_bytes().to_vec())
            }
            Self::Long => Ok(text.parse::<i64>().map_err(|_| wrong("no long"))?.to_be_bytes().to_vec()),
            Self::Integer => Ok(text.parse::<i32>().map_err(|_| wrong("no integer"))?.to_be_bytes().to_vec()),
            Self::Double => Ok(text.parse::<f64>().map_err(|_| wrong("no double"))?.to_be_bytes().to_vec()),
            Self::Bytes => unhex(text).ok_or_else(|| wrong("not bytes, as 0x00ff")),
        }
    }

    /// Text where it is text, a number where it is a number, else `0x…`.
    #[must_use]
    pub fn show(self, bytes: &[u8]) -> Value {
        let shown = match self {
            Self::String => std::str::from_utf8(bytes).ok().map(|text| json!(text)),
            Self::Long => bytes.try_into().ok().map(|bytes| json!(i64::from_be_bytes(bytes))),
            Self::Integer => bytes.try_into().ok().map(|bytes| json!(i32::from_be_bytes(bytes))),
            Self::Double => bytes.try_into().ok().map(|bytes| json!(f64::from_be_bytes(bytes))),
            Self::Json => serde_json::from_slice(bytes).ok(),
            Self::Bytes => None,
        };
        // What is no number to JSON comes as null.
        shown.filter(|shown| !shown.is_null() || self == Self::Json).unwrap_or_else(|| json!(hex(bytes)))
    }
}

/// A key of a store, taken apart as the layout says.
#[must_use]
pub fn show_key(layout: &Layout, format: Format, key: &[u8]) -> Value {
    match layout {
        Layout::KeyValue | Layout::Versioned(_) => format.show(key),
        Layout::Window(windows) => match split_window(key) {
            Some((key, start, sequence)) => {
                let mut shown = json!({ "key": format.show(key), "start": start, "end": start + windows.size_ms });
                if windows.retain_duplicates {
                    shown["sequence"] = json!(sequence);
                }
                shown
            }
            None => json!(hex(key)),
        },
        Layout::Session(_) => match split_session(key) {
            Some((key, end, start)) => json!({ "key": format.show(key), "start": start, "end": end }),
            None => json!(hex(key)),
        },
    }
}

fn split_window(key: &[u8]) -> Option<(&[u8], i64, i32)> {
    let (rest, sequence) = key.split_last_chunk::<4>()?;
    let (key, start) = rest.split_last_chunk::<8>()?;
    Some((key, i64::from_be_bytes(*start), i32::from_be_bytes(*sequence)))
}

fn split_session(key: &[u8]) -> Option<(&[u8], i64, i64)> {
    let (rest, start) = key.split_last_chunk::<8>()?;
    let (key, end) = rest.split_last_chunk::<8>()?;
    Some((key, i64::from_be_bytes(*end), i64::from_be_bytes(*start)))
}

/// The first key after all that begin so; `None`: there is no such key.
#[must_use]
pub fn after_prefix(prefix: &[u8]) -> Option<Vec<u8>> {
    let at = prefix.iter().rposition(|&byte| byte != u8::MAX)?;
    let mut after = prefix[..=at].to_vec();
    after[at] += 1;
    Some(after)
}

/// `0x00ff`.
#[must_use]
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold("0x".to_owned(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// What [`hex`] wrote.
#[must_use]
pub fn unhex(text: &str) -> Option<Vec<u8>> {
    let (pairs, odd) = text.strip_prefix("0x")?.as_bytes().as_chunks::<2>();
    let digit = |digit: u8| char::from(digit).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
    let byte = |&[high, low]: &[u8; 2]| Some(digit(high)? << 4 | digit(low)?);
    if odd.is_empty() { pairs.iter().map(byte).collect() } else { None }
}

#[cfg(test)]
mod tests {
    use millrace_engine::topology::Windows;

    use super::*;

    #[test]
    fn what_is_read_is_shown_as_it_was_written() {
        for (name, text, shown) in [
            ("string", "foo", json!("foo")),
            ("long", "-7", json!(-7)),
            ("integer", "7", json!(7)),
            ("double", "0.5", json!(0.5)),
            ("json", r#"{"a":1}"#, json!({ "a": 1 })),
            ("bytes", "0x00ff", json!("0x00ff")),
            ("avro", "0x00ff", json!("0x00ff")),
        ] {
            let format = Format::named(name);
            assert_eq!(format.read(text).map(|bytes| format.show(&bytes)), Ok(shown), "{name}");
        }
        for (name, text) in [("long", "x"), ("integer", "3000000000"), ("json", "{"), ("bytes", "00"), ("bytes", "0x0")]
        {
            assert!(Format::named(name).read(text).is_err(), "{name} {text}");
        }
    }

    #[test]
    fn a_prefix_ends_before_the_next_one() {
        assert_eq!(after_prefix(b"ab"), Some(b"ac".to_vec()));
        assert_eq!(after_prefix(b"a\xff"), Some(b"b".to_vec()));
        assert_eq!(after_prefix(b"\xff"), None);
        assert_eq!(after_prefix(b""), None);
    }

    #[test]
    fn what_does_not_fit_is_shown_as_bytes() {
        assert_eq!(Format::String.show(&[0xff]), json!("0xff"));
        assert_eq!(Format::Long.show(b"abc"), json!("0x616263"));
        assert_eq!(Format::Double.show(&f64::NAN.to_be_bytes()), json!("0x7ff8000000000000"));
        assert_eq!(Format::Json.show(b"null"), json!(null));
    }

    #[test]
    fn keys_of_windows_are_taken_apart() {
        let windows = |retain_duplicates| Layout::Window(Windows { size_ms: 10, retention_ms: 100, retain_duplicates });
        let key = [b"k".as_slice(), &20_i64.to_be_bytes(), &3_i32.to_be_bytes()].concat();
        let shown = json!({ "key": "k", "start": 20, "end": 30 });
        assert_eq!(show_key(&windows(false), Format::String, &key), shown);
        let shown = json!({ "key": "k", "start": 20, "end": 30, "sequence": 3 });
        assert_eq!(show_key(&windows(true), Format::String, &key), shown);
        let key = [b"k".as_slice(), &30_i64.to_be_bytes(), &20_i64.to_be_bytes()].concat();
        assert_eq!(show_key(&Layout::Session(1), Format::String, &key), json!({ "key": "k", "start": 20, "end": 30 }));
        assert_eq!(show_key(&Layout::Session(1), Format::String, b"short"), json!("0x73686f7274"));
    }
}
