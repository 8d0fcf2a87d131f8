//! What a record can make the module do.

use std::hint::black_box;
use std::time::Duration;

use crate::bindings::exports::millrace::streams::module::{Failure, Fault, Output};
use crate::bindings::millrace::streams::context::{self, Clock};
use crate::bindings::millrace::streams::records::{Column, Header};
use crate::bindings::millrace::streams::state::{Entries, Store};
use crate::{column, said, strings};

/// Answers a good record, or does not return.
pub(crate) fn run(command: &str, index: u32) -> Result<Vec<Output>, Failure> {
    let (command, argument) = command.split_once(' ').unwrap_or((command, ""));
    match command {
        "panic" => panic!("the record is cursed"),
        "abort" => std::process::abort(),
        "exit" => std::process::exit(3),
        "loop" => spin(),
        "sleep" => std::thread::sleep(Duration::from_secs(3600)),
        "allocate" => allocate(),
        "recurse" => drop(black_box(recurse(1))),
        "print" => println!("{argument}"),
        "print-forever" => loop {
            eprintln!("again and again");
        },
        "err" => return Err(failure(Fault::Processing, index, "refused")),
        "err-deserialization" => return Err(failure(Fault::Deserialization, index, "not a number")),
        "err-serialization" => return Err(failure(Fault::Serialization, index, "not a string")),
        "err-elsewhere" => return Err(failure(Fault::Processing, 1_000_000, "refused")),
        "flood" => return Ok(flood(argument.parse().expect("the bytes of the flood"))),
        "malformed" => return Ok(vec![malformed(argument, index)]),
        "put" => put(argument),
        "misput" => misput(argument),
        "flood-state" => flood_state(),
        "get" => return Ok(vec![said(&get(argument), Some(index))]),
        "scan" => return Ok(vec![said(&scan(), Some(index))]),
        "open" => return open(argument, index),
        "hoard" => (0..100_000).for_each(|_| std::mem::forget(Store::open("store"))),
        "reach" => return Ok(vec![said(&reach(), Some(index))]),
        "schedule" => {
            let schedule = context::schedule(argument.parse().expect("an interval"), Clock::WallClock, None);
            return Ok(vec![said(&schedule.to_string(), Some(index))]);
        }
        "commit" => context::request_commit(),
        "dropped" => context::dropped("hostile", argument, 2),
        "partitions" => return Ok(vec![said(&format!("{:?}", context::partition_count(argument)), Some(index))]),
        _ => {}
    }
    Ok(vec![said(command, Some(index))])
}

fn failure(fault: Fault, index: u32, message: &str) -> Failure {
    Failure { fault, index: Some(index), node: Some("hostile".to_owned()), message: message.to_owned() }
}

#[inline(never)]
fn spin() {
    let mut n = 0_u64;
    loop {
        n = black_box(n.wrapping_add(1));
    }
}

fn allocate() {
    let mut hoard: Vec<Vec<u8>> = Vec::new();
    loop {
        hoard.push(black_box(vec![1; 1 << 20]));
    }
}

fn recurse(n: u64) -> u64 {
    // Through a pointer, so that the compiler does not make a loop of it.
    let next: fn(u64) -> u64 = black_box(recurse);
    next(n + 1) ^ n
}

fn flood(bytes: usize) -> Vec<Output> {
    let part = "x".repeat(64 << 10);
    (0..bytes.div_ceil(part.len())).map(|_| said(&part, None)).collect()
}

/// One record whose columns do not fit together.
fn malformed(how: &str, index: u32) -> Output {
    let mut output = said("malformed", Some(index));
    match how {
        "lengths" => output.records.values.lengths = vec![1000],
        "negative" => output.records.values.lengths = vec![-7],
        "timestamps" => output.records.timestamps.push(0),
        "headers" => {
            output.records.headers.push(Header { index: 5, key: "h".to_owned(), value: None });
        }
        "origins" => output.origins = vec![1_000_000],
        "partitions" => output.partitions = Some(Vec::new()),
        "topic" => output.topic.clear(),
        other => panic!("no such malformation: {other}"),
    }
    output
}

fn store() -> Store {
    Store::open("store").expect("the topology declares it")
}

fn put(argument: &str) {
    let (key, value) = argument.split_once('=').expect("key=value");
    store().put(&Entries { keys: column(&[key]), values: column(&[value]), timestamps: vec![7] });
}

fn misput(how: &str) {
    let mut entries = Entries { keys: column(&["k"]), values: column(&["v"]), timestamps: vec![7] };
    match how {
        "lengths" => entries.keys.lengths = vec![i32::MAX],
        "null" => entries.keys = Column { bytes: Vec::new(), lengths: vec![-1] },
        "rows" => entries.timestamps.clear(),
        other => panic!("no such mistake: {other}"),
    }
    store().put(&entries);
}

fn flood_state() {
    let value = "x".repeat(64 << 10);
    for n in 0.. {
        put(&format!("{n}={value}"));
    }
}

fn get(key: &str) -> String {
    let found = store().get(&column(&[key]));
    format!("{} at {}", strings(&found.values).join(","), found.timestamps[0])
}

fn scan() -> String {
    strings(&store().scan(None, None, false, 10).keys).join(",")
}

fn open(name: &str, index: u32) -> Result<Vec<Output>, Failure> {
    match Store::open(name) {
        Ok(_) => Ok(vec![said("opened", Some(index))]),
        Err(message) => Err(failure(Fault::Processing, index, &message)),
    }
}

/// What there is outside: nothing but a clock and granted variables.
fn reach() -> String {
    let mut variables: Vec<String> = std::env::vars().map(|(name, value)| format!("{name}={value}")).collect();
    variables.sort();
    let file = std::fs::read("/etc/hostname").is_ok() || std::fs::read_dir(".").is_ok();
    let network =
        std::net::TcpStream::connect("127.0.0.1:9092").is_ok() || std::net::UdpSocket::bind("0.0.0.0:0").is_ok();
    let arguments = std::env::args().count();
    let clock = std::time::SystemTime::now() > std::time::UNIX_EPOCH + Duration::from_secs(1_700_000_000);
    format!("env {} file {file} network {network} arguments {arguments} clock {clock}", variables.join(","))
}
