//! A module that does what a record's value says, mostly what no module should. It owns the
//! attacks; what must come of them is in the tests of the guest adapter.

#![cfg(target_arch = "wasm32")]
#![allow(clippy::pedantic, reason = "hostile by purpose")]

#[allow(unsafe_code, clippy::all, clippy::undocumented_unsafe_blocks, reason = "generated from the contract")]
mod bindings {
    wit_bindgen::generate!({ path: "../../../wit", world: "topology" });
    use super::Hostile;
    export!(Hostile);
}
mod attacks;

use bindings::exports::millrace::streams::module::{
    Batch, Changes, Column, Failure, Fault, Guest, Input, Output, Task, Topology,
};
use bindings::millrace::streams::graph::{Format, Layout, Processor, Sink, Source, Store};

struct Hostile;

/// How describe and init misbehave.
const DESCRIBE: &str = "HOSTILE_DESCRIBE";
const INIT: &str = "HOSTILE_INIT";

impl Guest for Hostile {
    fn describe() -> Result<Topology, String> {
        match std::env::var(DESCRIBE).as_deref() {
            Ok("err") => return Err("no topology today".to_owned()),
            Ok(attack) => drop(attacks::run(attack, 0)),
            Err(_) => {}
        }
        Ok(topology())
    }

    fn init(_task: Task) -> Result<(), String> {
        match std::env::var(INIT).as_deref() {
            Ok("err") => Err("not today".to_owned()),
            Ok(attack) => attacks::run(attack, 0).map(drop).map_err(|failure| failure.message),
            Err(_) => Ok(()),
        }
    }

    /// The timestamp of a record is its value.
    fn extract(
        _topic: u32,
        offsets: Vec<i64>,
        records: Batch,
        partition_time: Option<i64>,
    ) -> Result<Vec<i64>, Failure> {
        let mut timestamps = Vec::new();
        for (index, value) in strings(&records.values).into_iter().enumerate() {
            match value.as_str() {
                "too few" => return Ok(Vec::new()),
                "previous" => timestamps.push(partition_time.unwrap_or(-1)),
                "offset" => timestamps.push(offsets[index]),
                number => timestamps.push(number.parse().map_err(|_| Failure {
                    fault: Fault::Deserialization,
                    index: Some(index as u32),
                    node: Some("source".to_owned()),
                    message: format!("no timestamp: {number}"),
                })?),
            }
        }
        Ok(timestamps)
    }

    fn process(input: Input) -> Result<Vec<Output>, Failure> {
        let mut outputs = Vec::new();
        for (index, value) in strings(&input.records.values).into_iter().enumerate() {
            outputs.extend(attacks::run(&value, index as u32)?);
        }
        Ok(outputs)
    }

    fn punctuate(schedule: u32, timestamp: i64) -> Result<Vec<Output>, Failure> {
        Ok(vec![said(&format!("schedule {schedule} at {timestamp}"), None)])
    }

    fn flush(store: String, changes: Changes) -> Result<Vec<Output>, Failure> {
        let keys = strings(&changes.keys).join(",");
        let (old, new) = (strings(&changes.old_values).join(","), strings(&changes.new_values).join(","));
        Ok(vec![said(&format!("{store}: {keys}: {old} -> {new}"), None)])
    }
}

fn topology() -> Topology {
    let source = Source {
        name: "source".to_owned(),
        topics: vec!["in".to_owned()],
        pattern: None,
        offset_reset: None,
        extracts_timestamps: false,
    };
    let processor =
        Processor { name: "hostile".to_owned(), parents: vec!["source".to_owned()], stores: vec!["store".to_owned()] };
    let sink = Sink { name: "sink".to_owned(), parents: vec!["hostile".to_owned()], topic: Some("out".to_owned()) };
    let store = Store {
        name: "store".to_owned(),
        layout: Layout::KeyValue,
        format: Format { key: "string".to_owned(), value: "string".to_owned() },
        persistent: true,
        logged: true,
        cached: false,
        changelog_config: Vec::new(),
    };
    Topology {
        sources: vec![source],
        processors: vec![processor],
        sinks: vec![sink],
        repartitions: Vec::new(),
        stores: vec![store],
        global_stores: Vec::new(),
        copartitioned: Vec::new(),
    }
}

fn strings(column: &Column) -> Vec<String> {
    let mut rest = column.bytes.as_slice();
    let item = |length: &i32| match usize::try_from(*length) {
        Ok(length) => {
            let (head, tail) = rest.split_at(length);
            rest = tail;
            String::from_utf8_lossy(head).into_owned()
        }
        Err(_) => "null".to_owned(),
    };
    column.lengths.iter().map(item).collect()
}

fn column(items: &[&str]) -> Column {
    Column { bytes: items.concat().into_bytes(), lengths: items.iter().map(|item| item.len() as i32).collect() }
}

/// An output with one record without a key.
fn said(text: &str, origin: Option<u32>) -> Output {
    let records = Batch {
        keys: Column { bytes: Vec::new(), lengths: vec![-1] },
        values: column(&[text]),
        timestamps: vec![0],
        headers: Vec::new(),
    };
    Output { topic: "out".to_owned(), records, partitions: None, origins: origin.into_iter().collect() }
}
