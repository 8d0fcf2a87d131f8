//! What stands in a case file: reads it, and names the line of what is wrong with it. Must not know the module.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};

use jiff::SignedDuration;
use serde::Deserialize;
use toml::{Spanned, Table, Value};

/// A case file.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Case {
    #[serde(skip)]
    pub(super) path: PathBuf,
    /// Partitions of every topic that the application does not make itself.
    #[serde(default = "one")]
    pub(super) partitions: u32,
    /// What the clock says at first.
    #[serde(default)]
    pub(super) start: Time,
    /// Variables that the module reads.
    #[serde(default)]
    pub(super) env: BTreeMap<String, String>,
    #[serde(default)]
    pub(super) topics: BTreeMap<String, TopicFormat>,
    #[serde(rename = "step")]
    pub(super) steps: Vec<Spanned<Step>>,
    /// Of each step, from 1.
    #[serde(skip)]
    pub(super) lines: Vec<usize>,
}

fn one() -> u32 {
    1
}

/// What keys and values of a topic are.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct TopicFormat {
    pub(super) key: Option<String>,
    pub(super) value: Option<String>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Step {
    pub(super) name: Option<String>,
    /// Moves the clock on, before anything else in the step.
    pub(super) advance: Option<Advance>,
    #[serde(default)]
    pub(super) input: Vec<Record>,
    /// All that was written since outputs were compared last, in order per topic.
    pub(super) output: Option<Vec<Record>>,
    /// All that these stores hold: a table of keys and values, or an array of entries.
    #[serde(default)]
    pub(super) stores: BTreeMap<String, Value>,
}

/// A record that is written, or expected: then what is left out is not compared, but key and value, which are null.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Record {
    /// May be left out where there is only one.
    pub(super) topic: Option<String>,
    pub(super) key: Option<Value>,
    pub(super) value: Option<Value>,
    pub(super) timestamp: Option<Time>,
    pub(super) partition: Option<u32>,
    pub(super) headers: Option<BTreeMap<String, String>>,
}

/// An entry of a store; what is left out but the value is not compared.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Entry {
    pub(super) key: Value,
    pub(super) value: Value,
    pub(super) timestamp: Option<Time>,
    /// Of a window or a session.
    pub(super) start: Option<Time>,
    pub(super) end: Option<Time>,
}

/// Milliseconds since 1970, or a time as TOML has it; one without an offset is in UTC.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(try_from = "Value")]
pub(super) struct Time(pub(super) i64);

impl TryFrom<Value> for Time {
    type Error = String;

    fn try_from(value: Value) -> Result<Self, String> {
        match value {
            Value::Integer(ms) if ms >= 0 => Ok(Self(ms)),
            Value::Datetime(time) => {
                let parsed = super::super::reset::datetime(&time.to_string());
                let parsed = parsed.map_err(|error| format!("`{time}` is no time: {error}"))?;
                Ok(Self(parsed.as_millisecond()))
            }
            other => Err(format!("`{other}` is no time: write 2026-11-23T15:00:00Z, or milliseconds since 1970")),
        }
    }
}

/// Milliseconds, or a duration as `90s` or `1h 30m`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(try_from = "Value")]
pub(super) struct Advance(pub(super) i64);

impl TryFrom<Value> for Advance {
    type Error = String;

    fn try_from(value: Value) -> Result<Self, String> {
        let wrong = || format!("`{value}` is no duration: write \"90s\", \"1h 30m\", or milliseconds");
        let ms = match &value {
            Value::Integer(ms) => *ms,
            Value::String(text) => {
                let duration: SignedDuration = text.parse().map_err(|_| wrong())?;
                i64::try_from(duration.as_millis()).map_err(|_| wrong())?
            }
            _ => return Err(wrong()),
        };
        if ms < 0 { Err(format!("`{value}`: the clock can't go back")) } else { Ok(Self(ms)) }
    }
}

/// Why a case can't be run: its file, and what is wrong there.
#[derive(Debug)]
pub(super) struct Bad {
    pub(super) path: PathBuf,
    pub(super) line: Option<usize>,
    pub(super) message: String,
}

impl fmt::Display for Bad {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.line {
            Some(line) => write!(f, "{}:{line}: {}", self.path.display(), self.message),
            None => write!(f, "{}: {}", self.path.display(), self.message),
        }
    }
}

impl Case {
    pub(super) fn read(path: &Path) -> Result<Self, Bad> {
        let bad = |line, message| Bad { path: path.to_owned(), line, message };
        let text = std::fs::read_to_string(path).map_err(|error| bad(None, error.to_string()))?;
        Self::parse(path, &text)
    }

    fn parse(path: &Path, text: &str) -> Result<Self, Bad> {
        let line_of = |at: usize| 1 + text[..at.min(text.len())].matches('\n').count();
        let bad = |line, message| Bad { path: path.to_owned(), line, message };
        let mut case: Self = toml::from_str(text)
            .map_err(|error| bad(error.span().map(|span| line_of(span.start)), error.message().trim().to_owned()))?;
        case.path = path.to_owned();
        case.lines = case.steps.iter().map(|step| line_of(step.span().start)).collect();
        if case.partitions == 0 {
            return Err(bad(None, "partitions must be at least 1".to_owned()));
        }
        let steps = case.steps.iter().map(Spanned::get_ref);
        if !steps.clone().any(|step| step.output.is_some() || !step.stores.is_empty()) {
            return Err(bad(None, "no step says what is expected: give one `output` or `stores`".to_owned()));
        }
        for (step, line) in steps.zip(&case.lines) {
            let expected = step.output.is_some() || !step.stores.is_empty();
            if step.advance.is_none() && step.input.is_empty() && !expected {
                let message = "the step is empty: give it `input`, `advance`, `output` or `stores`";
                return Err(bad(Some(*line), message.to_owned()));
            }
        }
        Ok(case)
    }

    /// The entries that are expected of a store, in the longer of the two ways of writing them.
    pub(super) fn entries(expected: &Value) -> Result<Vec<Entry>, String> {
        let from_table = |table: &Table| {
            let entry = |(key, value): (&String, &Value)| Entry {
                key: Value::String(key.clone()),
                value: value.clone(),
                timestamp: None,
                start: None,
                end: None,
            };
            table.iter().map(entry).collect()
        };
        match expected {
            Value::Table(table) => Ok(from_table(table)),
            Value::Array(array) => {
                let entry =
                    |entry: &Value| entry.clone().try_into().map_err(|error: toml::de::Error| error.to_string());
                array.iter().map(entry).collect()
            }
            _ => Err("write { KEY = VALUE, … }, or [{ key = …, value = … }, …]".to_owned()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, expected: &str) {
        let found = match Case::parse(Path::new("c.toml"), text) {
            Ok(_) => "sound".to_owned(),
            Err(bad) => bad.to_string(),
        };
        assert!(found.contains(expected), "{text}\n{found}");
    }

    #[test]
    fn what_is_wrong_is_named_with_its_line() {
        let step = "[[step]]\noutput = []\n";
        check(step, "sound");
        check("", "missing field `step`");
        check("[[step]]\ninput = []\nadvance = 1\n", "no step says what is expected");
        check(&format!("{step}[[step]]\nname = 'x'\n"), "c.toml:3: the step is empty");
        check(&format!("partitions = 0\n{step}"), "at least 1");
        check("[[step]]\noutputs = []\n", "c.toml:2: unknown field `outputs`");
        check("[[step]]\noutput = [\n  { topik = 'x' },\n]\n", "c.toml:3: unknown field `topik`");
        check(&format!("{step}advance = 'soon'\n"), "is no duration");
        check(&format!("{step}advance = -1\n"), "can't go back");
        check(&format!("start = 'now'\n{step}"), "c.toml:1: `\"now\"` is no time");
        check("[[step]\n", "c.toml:1: ");
    }

    #[test]
    fn times_and_durations() {
        let text = "start = 2026-11-23T15:00:00Z\n[[step]]\nadvance = '1h 30m'\noutput = []\n";
        let case = Case::parse(Path::new("c.toml"), text).expect("is sound");
        assert_eq!(case.start, Time(1_795_446_000_000));
        assert_eq!(case.steps[0].get_ref().advance, Some(Advance(5_400_000)));
        assert_eq!(case.lines, [2]);
    }
}
