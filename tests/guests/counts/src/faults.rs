//! The same count by a processor written by hand, which first does what the record's value says: each fault once it has
//! written to its store, so that a test can see what is undone. It owns the faults, not what is made of them.

use std::hint::black_box;

use millrace::SerdeError;
use millrace::prelude::*;

use crate::variable;

const STORE: &str = "count-store";
/// Of what there is too much of: a flood is many of these.
const DROP: usize = 64 << 10;

pub(crate) fn topology(builder: &mut StreamsBuilder) {
    builder.add_state_store(Stores::key_value_store(STORE, StringSerde, LongSerde));
    builder
        .stream(variable("COUNTS_INPUT", "input-topic"), Consumed::with(StringSerde, Strict))
        .process(|| Counts, &[STORE])
        .to(variable("COUNTS_OUTPUT", "counts-topic"), Produced::with(StringSerde, Strict));
}

/// Text that is refused if it is none, where Kafka's own serde makes question marks of it; and one that can't be
/// written.
struct Strict;

const UNSPEAKABLE: &str = "unspeakable";

impl Serde for Strict {
    type Value = String;

    fn serialize(&self, value: &String, out: &mut Vec<u8>) -> Result<(), SerdeError> {
        if value == UNSPEAKABLE {
            return Err(SerdeError::new("there are no bytes for it"));
        }
        out.extend_from_slice(value.as_bytes());
        Ok(())
    }

    fn deserialize(&self, bytes: &[u8]) -> Result<String, SerdeError> {
        String::from_utf8(bytes.to_vec()).map_err(SerdeError::new)
    }

    fn format(&self) -> String {
        "string".to_owned()
    }
}

struct Counts;

type Context<'a> = ProcessorContext<'a, String, String>;

impl Processor<String, String, String, String> for Counts {
    fn process(&mut self, context: &mut Context<'_>, record: Record<String, String>) -> ProcessResult {
        let (Some(key), Some(value)) = (record.key.clone(), record.value.clone()) else { return Ok(()) };
        let mut store = context.key_value_store::<String, i64>(STORE)?;
        let count = store.get(&key)?.unwrap_or(0) + 1;
        store.put(&key, count)?;
        let mut answer = count.to_string();
        match value.as_str() {
            "panic" => {
                eprintln!("{key} comes to {count}");
                panic!("the record is cursed");
            }
            "err" => {
                println!("{key} comes to {count}");
                return Err(ProcessError::new("refused"));
            }
            "loop" => {
                println!("{key} comes to {count}");
                spin();
            }
            "memory" => allocate(),
            "output" => {
                (0..100).for_each(|_| context.forward(record.clone().with_value(Some("x".repeat(DROP)))));
            }
            "state" => {
                for n in 0.. {
                    store.put(&format!("{key}-{n}-{}", "x".repeat(DROP)), n)?;
                }
            }
            // More than a topic takes, unless it was told to.
            UNSPEAKABLE => answer = value,
            "large" => answer = "x".repeat(2 << 20),
            _ => {}
        }
        context.forward(record.with_value(Some(answer)));
        Ok(())
    }
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
