//! A case measured against the topology: what is done in each step, and what has to be there after it, as bytes and
//! rows. Finds out what the case names and the topology does not have. Must not run anything.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::anyhow;
use millrace_engine::topology::{Layout, PartitionCounts, Partitioning, Store};
use serde_json::{Value as Json, json};
use toml::Value;

use super::case::{self, Case, TopicFormat};
use super::diff::Row;
use super::driver::{Entry, Record};
use crate::app::Application;
use crate::format::{Format, show_key};

pub(super) struct Script {
    pub(super) counts: PartitionCounts,
    pub(super) partitioning: Partitioning,
    pub(super) start_ms: i64,
    pub(super) steps: Vec<Step>,
    formats: BTreeMap<String, Formats>,
    stores: BTreeMap<String, Shown>,
    internal: BTreeSet<String>,
}

pub(super) struct Step {
    pub(super) advance_ms: Option<i64>,
    pub(super) input: Vec<Input>,
    /// By topic.
    pub(super) output: Option<BTreeMap<String, Vec<Row>>>,
    /// By store.
    pub(super) stores: BTreeMap<String, Vec<Row>>,
}

/// A record to be written; what is `None` is the clock's and the partitioner's to say.
pub(super) struct Input {
    pub(super) topic: String,
    pub(super) record: Record,
    pub(super) timestamp: Option<i64>,
    pub(super) partition: Option<u32>,
}

#[derive(Clone, Copy)]
struct Formats {
    key: Format,
    value: Format,
}

/// What nothing is said of is text.
const TEXT: Formats = Formats { key: Format::String, value: Format::String };

struct Shown {
    layout: Layout,
    formats: Formats,
}

impl Script {
    pub(super) fn of(case: &Case, application: &Application) -> Result<Self, (Option<usize>, anyhow::Error)> {
        Self::unfinished(case, application).map_err(|error| (None, error))?.with_steps(case, application)
    }

    fn unfinished(case: &Case, application: &Application) -> anyhow::Result<Self> {
        let plan = application.plan();
        let read = plan.external_topics().into_iter().map(str::to_owned);
        let written =
            case.steps.iter().flat_map(|step| &step.get_ref().input).filter_map(|record| record.topic.clone());
        let topics = read.chain(application.output_topics()).chain(written);
        let counts: PartitionCounts =
            topics.filter(|topic| !plan.is_repartition(topic)).map(|topic| (topic, case.partitions)).collect();
        let partitioning = Partitioning::new(plan, &counts)?;
        let internal = partitioning.internal_topics().iter().map(|topic| topic.name.clone()).collect();
        let formats = case.topics.iter().map(|(topic, formats)| Ok((topic.clone(), self::formats(topic, formats)?)));
        let shown = |store: &Store| Shown {
            layout: store.layout.clone(),
            formats: Formats { key: Format::named(&store.format.key), value: Format::named(&store.format.value) },
        };
        let globals = plan.global_stores().iter().map(|global| &global.store);
        let stores = plan.subtopologies().iter().flat_map(|subtopology| &subtopology.stores).chain(globals);
        Ok(Self {
            formats: formats.collect::<anyhow::Result<_>>()?,
            stores: stores.map(|store| (store.name.clone(), shown(store))).collect(),
            counts,
            partitioning,
            start_ms: case.start.0,
            steps: Vec::new(),
            internal,
        })
    }

    fn with_steps(mut self, case: &Case, application: &Application) -> Result<Self, (Option<usize>, anyhow::Error)> {
        let topics = Topics::of(&self, application);
        if let Some(topic) = case.topics.keys().find(|topic| !topics.has(topic)) {
            return Err((None, anyhow!("topics.{topic}: the topology neither reads nor writes it")));
        }
        let mut steps = Vec::new();
        for (step, line) in case.steps.iter().zip(&case.lines) {
            steps.push(self.step(step.get_ref(), &topics).map_err(|error| (Some(*line), error))?);
        }
        self.steps = steps;
        Ok(self)
    }

    fn step(&self, step: &case::Step, topics: &Topics) -> anyhow::Result<Step> {
        let input = step.input.iter().map(|record| self.input(record, topics)).collect::<anyhow::Result<_>>()?;
        let mut output = step.output.as_ref().map(|_| BTreeMap::<String, Vec<Row>>::new());
        for record in step.output.iter().flatten() {
            let topic = topics.written(record.topic.as_deref())?;
            let row = self.expected(topic, record).map_err(|error| anyhow!("output to {topic}: {error}"))?;
            output.get_or_insert_default().entry(topic.to_owned()).or_default().push(row);
        }
        let mut stores = BTreeMap::new();
        for (store, expected) in &step.stores {
            let rows = self.contents(store, expected).map_err(|error| anyhow!("stores.{store}: {error}"))?;
            stores.insert(store.clone(), rows);
        }
        Ok(Step { advance_ms: step.advance.map(|advance| advance.0), input, output, stores })
    }

    fn input(&self, record: &case::Record, topics: &Topics) -> anyhow::Result<Input> {
        let topic = topics.read(record.topic.as_deref())?.to_owned();
        let Formats { key, value } = self.formats_of(&topic);
        let bytes = |name: &str, format, value: &Option<Value>| {
            let bytes = value.as_ref().map(|value| bytes(format, value)).transpose();
            bytes.map_err(|error| anyhow!("{name} for {topic}: {error}; [topics.{topic}] says what it is"))
        };
        let partitions = self.partitions(&topic);
        if let Some(partition) = record.partition.filter(|partition| *partition >= partitions) {
            return Err(anyhow!(
                "topic {topic} has no partition {partition}: `partitions` says how many, now {partitions}"
            ));
        }
        let headers = record.headers.iter().flatten();
        let record_of = Record {
            key: bytes("key", key, &record.key)?,
            value: bytes("value", value, &record.value)?,
            headers: headers.map(|(name, value)| (name.clone(), Some(value.as_bytes().to_vec()))).collect(),
            ..Record::default()
        };
        let timestamp = record.timestamp.map(|time| time.0);
        Ok(Input { topic, record: record_of, timestamp, partition: record.partition })
    }

    fn partitions(&self, topic: &str) -> u32 {
        let internal = self.partitioning.internal_topics().iter().find(|internal| internal.name == topic);
        internal.map_or_else(|| self.counts.get(topic).copied().unwrap_or(1), |internal| internal.partitions)
    }

    fn formats_of(&self, topic: &str) -> Formats {
        self.formats.get(topic).copied().unwrap_or(TEXT)
    }

    fn expected(&self, topic: &str, record: &case::Record) -> Result<Row, String> {
        let Formats { key, value } = self.formats_of(topic);
        let shown = |format: Format, value: &Option<Value>| match value {
            Some(value) => Ok::<_, String>(format.show(&bytes(format, value)?)),
            None => Ok(Json::Null),
        };
        let mut rest = BTreeMap::new();
        rest.extend(record.timestamp.map(|time| ("timestamp", json!(time.0))));
        rest.extend(record.partition.map(|partition| ("partition", json!(partition))));
        rest.extend(record.headers.as_ref().map(|headers| ("headers", json!(headers))));
        Ok(Row { key: shown(key, &record.key)?, value: shown(value, &record.value)?, rest })
    }

    fn contents(&self, store: &str, expected: &Value) -> Result<Vec<Row>, String> {
        let Some(shown) = self.stores.get(store) else {
            let names: Vec<&str> = self.stores.keys().map(String::as_str).collect();
            return Err(format!("there is no such store; there are: {}", names.join(", ")));
        };
        let mut rows = Vec::new();
        for entry in Case::entries(expected)? {
            let needs = match shown.layout {
                Layout::KeyValue | Layout::Versioned(_) => &[][..],
                Layout::Window(_) => &[("start", entry.start)][..],
                Layout::Session(_) => &[("start", entry.start), ("end", entry.end)][..],
            };
            if let Some((name, _)) = needs.iter().find(|(_, time)| time.is_none()) {
                return Err(format!("an entry needs `{name}`: [{{ key = …, {name} = …, value = … }}]"));
            }
            let Formats { key, value } = shown.formats;
            let mut rest = BTreeMap::new();
            let times = [("timestamp", entry.timestamp), ("start", entry.start), ("end", entry.end)];
            rest.extend(times.into_iter().filter_map(|(name, time)| Some((name, json!(time?.0)))));
            let key = key.show(&store_key(key, &entry.key)?);
            rows.push(Row { key, value: value.show(&bytes(value, &entry.value)?), rest });
        }
        Ok(sorted(rows))
    }

    /// A record that was written, as rows have it.
    pub(super) fn found(&self, topic: &str, record: &Record) -> Row {
        let Formats { key, value } = self.formats_of(topic);
        let show =
            |format: Format, bytes: &Option<Vec<u8>>| bytes.as_ref().map_or(Json::Null, |bytes| format.show(bytes));
        let header = |(name, value): &(String, Option<Vec<u8>>)| (name.clone(), show(Format::String, value));
        let headers: BTreeMap<String, Json> = record.headers.iter().map(header).collect();
        let rest = [
            ("timestamp", json!(record.timestamp)),
            ("partition", json!(record.partition)),
            ("headers", json!(headers)),
        ];
        Row { key: show(key, &record.key), value: show(value, &record.value), rest: rest.into() }
    }

    /// What a store holds, as rows have it.
    pub(super) fn held(&self, store: &str, entries: &[Entry]) -> Vec<Row> {
        let Some(Shown { layout, formats }) = self.stores.get(store) else { return Vec::new() };
        let row = |entry: &Entry| {
            let mut rest = BTreeMap::from([("timestamp", json!(entry.timestamp))]);
            let mut key = show_key(layout, formats.key, &entry.key);
            if !matches!(layout, Layout::KeyValue | Layout::Versioned(_)) {
                for name in ["start", "end"] {
                    rest.extend(key.get(name).map(|time| (name, time.clone())));
                }
                key = key.get("key").cloned().unwrap_or(key);
            }
            Row { key, value: formats.value.show(&entry.value), rest }
        };
        sorted(entries.iter().map(row).collect())
    }

    /// Whether a topic is the application's own.
    pub(super) fn is_internal(&self, topic: &str) -> bool {
        self.internal.contains(topic)
    }
}

/// Rows of a store have no order of their own.
fn sorted(mut rows: Vec<Row>) -> Vec<Row> {
    let time = |row: &Row, name| row.rest.get(name).and_then(Json::as_i64);
    rows.sort_by_cached_key(|row| (row.key.to_string(), time(row, "start"), time(row, "end")));
    rows
}

/// Which topics records may be for.
struct Topics {
    read: Vec<String>,
    written: Vec<String>,
    /// The module may name others.
    others: bool,
    internal: BTreeSet<String>,
}

impl Topics {
    fn of(script: &Script, application: &Application) -> Self {
        let globals = application.plan().global_stores().iter().map(|global| global.filled.topic.clone());
        let subscription = script.partitioning.subscription().map(|input| input.full_name.to_string());
        let read: BTreeSet<String> = subscription.chain(globals).collect();
        Self {
            read: read.into_iter().filter(|topic| !script.is_internal(topic)).collect(),
            written: application.output_topics(),
            others: application.topology().sinks.iter().any(|sink| sink.topic.is_none()),
            internal: script.internal.clone(),
        }
    }

    fn has(&self, topic: &String) -> bool {
        self.others || self.internal.contains(topic) || self.read.contains(topic) || self.written.contains(topic)
    }

    fn read<'a>(&'a self, named: Option<&'a str>) -> anyhow::Result<&'a str> {
        let all = self.read.join(", ");
        match (named, self.read.as_slice()) {
            (Some(topic), read) if read.iter().any(|known| known == topic) => Ok(topic),
            (Some(topic), _) => Err(anyhow!("the topology does not read topic {topic}; it reads {all}")),
            (None, [only]) => Ok(only),
            (None, _) => Err(anyhow!("a record of `input` needs `topic`; the topology reads {all}")),
        }
    }

    fn written<'a>(&'a self, named: Option<&'a str>) -> anyhow::Result<&'a str> {
        let all = self.written.join(", ");
        match (named, self.written.as_slice()) {
            (Some(topic), written)
                if self.others || self.internal.contains(topic) || written.iter().any(|known| known == topic) =>
            {
                Ok(topic)
            }
            (Some(topic), _) => Err(anyhow!("the topology does not write topic {topic}; it writes {all}")),
            (None, [only]) if !self.others => Ok(only),
            (None, _) => Err(anyhow!("a record of `output` needs `topic`; the topology writes {all}")),
        }
    }
}

fn formats(topic: &str, formats: &TopicFormat) -> anyhow::Result<Formats> {
    let format = |name: &Option<String>| match name {
        None => Ok(Format::String),
        Some(name) => Format::known(name).map_err(|error| anyhow!("topics.{topic}: {error}")),
    };
    Ok(Formats { key: format(&formats.key)?, value: format(&formats.value)? })
}

/// What TOML says, as the bytes of a format; else what it should have said.
fn bytes(format: Format, value: &Value) -> Result<Vec<u8>, String> {
    match (format, value) {
        (Format::Json, value) => Ok(json_of(value).to_string().into_bytes()),
        (Format::String | Format::Bytes, Value::String(text)) => format.read(text),
        (Format::Long | Format::Integer | Format::Double, Value::Integer(number)) => format.read(&number.to_string()),
        (Format::Double, Value::Float(number)) => format.read(&number.to_string()),
        (format, value) => Err(format!("`{value}` is no {}", format.name())),
    }
}

/// The same of a key of a store, which in a table is always text.
fn store_key(format: Format, key: &Value) -> Result<Vec<u8>, String> {
    match key {
        Value::String(text) if format != Format::Json => format.read(text),
        key => bytes(format, key),
    }
}

fn json_of(value: &Value) -> Json {
    match value {
        Value::String(text) => json!(text),
        Value::Integer(number) => json!(number),
        Value::Float(number) => json!(number),
        Value::Boolean(value) => json!(value),
        Value::Datetime(time) => json!(time.to_string()),
        Value::Array(values) => values.iter().map(json_of).collect(),
        Value::Table(table) => Json::Object(table.iter().map(|(key, value)| (key.clone(), json_of(value))).collect()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_bytes_of_their_format() {
        let table: toml::Table =
            "s = 'a'\ni = 7\nf = 0.5\nt = { a = [1, true] }\nh = '0x00ff'".parse().expect("is TOML");
        let check = |format: &str, key: &str, expected: Result<&[u8], &str>| {
            let format = Format::known(format).expect("is a format");
            let found = bytes(format, &table[key]);
            assert_eq!(found.as_deref().map_err(String::as_str), expected);
        };
        check("string", "s", Ok(b"a"));
        check("string", "i", Err("`7` is no string"));
        check("long", "i", Ok(&[0, 0, 0, 0, 0, 0, 0, 7]));
        check("integer", "i", Ok(&[0, 0, 0, 7]));
        check("double", "f", Ok(&0.5_f64.to_be_bytes()));
        check("double", "i", Ok(&7_f64.to_be_bytes()));
        check("json", "t", Ok(br#"{"a":[1,true]}"#));
        check("bytes", "h", Ok(&[0, 0xff]));
        check("bytes", "s", Err("`a` is not bytes, as 0x00ff"));
    }
}
