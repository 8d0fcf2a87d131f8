//! Global stores: who fills them, who reads them, and what is refused. What comes of joins with global tables the
//! differential tests compare with Kafka Streams.

#![allow(clippy::unwrap_used, reason = "a test that fails may panic")]

use millrace::prelude::*;
use millrace::{RawRecord, TopologyTestDriver};

/// Looks a key up in `rates`, or writes it if the value says so.
struct Ask;

impl Processor<String, String, String, i64> for Ask {
    fn process(
        &mut self,
        context: &mut ProcessorContext<'_, String, i64>,
        record: Record<String, String>,
    ) -> ProcessResult {
        let (Some(key), value) = (record.key.clone(), record.value.as_deref()) else { return Ok(()) };
        let mut rates = context.key_value_store::<String, i64>("rates")?;
        if value == Some("write") {
            return rates.put(&key, 0);
        }
        let rate = rates.get(&key)?;
        let all = i64::try_from(rates.all().count())?;
        context.forward(record.with_value(Some(rate.unwrap_or(-1) * 100 + all)));
        Ok(())
    }
}

/// Keeps the sum of what came for a key, and where the last of it was read.
struct Sum;

impl Processor<String, i64, (), ()> for Sum {
    fn process(&mut self, context: &mut ProcessorContext<'_, (), ()>, record: Record<String, i64>) -> ProcessResult {
        let place = context.record_metadata().map(|at| (at.topic.to_owned(), at.partition, at.offset));
        assert!(matches!(place, Some((topic, 0, _)) if topic == "rates"));
        let (Some(key), Some(value)) = (record.key, record.value) else { return Ok(()) };
        let mut rates = context.key_value_store::<String, i64>("rates")?;
        let sum = rates.get(&key)?.unwrap_or(0) + value;
        rates.put(&key, sum)
    }
}

fn driver() -> TopologyTestDriver {
    let mut builder = StreamsBuilder::new();
    let rates = Stores::key_value_store("rates", StringSerde, LongSerde);
    builder.add_global_store(rates, "rates", Consumed::with(StringSerde, LongSerde), || Sum);
    builder
        .stream("asked", Consumed::with(StringSerde, StringSerde))
        .process(|| Ask, &[])
        .to("answered", Produced::with(StringSerde, LongSerde));
    TopologyTestDriver::new(builder.build().unwrap()).unwrap()
}

#[test]
fn every_processor_reads_what_one_has_written() {
    let driver = driver();
    let rates = driver.create_input_topic("rates", StringSerde, LongSerde);
    let asked = driver.create_input_topic("asked", StringSerde, StringSerde);
    asked.pipe_input("a", "?");
    rates.pipe_input("a", 2);
    rates.pipe_input("b", 1);
    rates.pipe_input("a", 3);
    asked.pipe_input("a", "?");
    let answered = driver.create_output_topic("answered", StringSerde, LongSerde).read_key_values_to_list();
    let answered: Vec<i64> = answered.into_iter().filter_map(|(_, answer)| answer).collect();
    assert_eq!(answered, [-100, 502]);
    assert_eq!(driver.get_key_value_store("rates").unwrap().all(), [("a".to_owned(), 5_i64), ("b".to_owned(), 1)]);
    assert_eq!(driver.state_store_names(), ["rates"]);
    assert_eq!(driver.produced_topic_names(), ["answered"]);
}

#[test]
fn nobody_else_writes_it() {
    let driver = driver();
    let write = RawRecord { key: Some(b"a".to_vec()), value: Some(b"write".to_vec()), ..RawRecord::default() };
    let error = driver.pipe_raw_record("asked", write).unwrap_err().to_string();
    assert!(error.contains("rates is a global store, which only its own processor writes"), "{error}");
    assert!(driver.store_entries("rates").is_empty());
}

#[test]
fn a_record_that_cannot_be_read_is_not_in_it() {
    let driver = driver();
    let record =
        |value: &[u8]| RawRecord { key: Some(b"a".to_vec()), value: Some(value.to_vec()), ..RawRecord::default() };
    let error = driver.pipe_raw_record("rates", record(b"short")).unwrap_err().to_string();
    assert!(error.contains("a long takes 8 bytes"), "{error}");
    driver.pipe_raw_record("rates", record(&7_i64.to_be_bytes())).unwrap();
    assert_eq!(driver.get_key_value_store("rates").unwrap().get(&"a".to_owned()), Some(7_i64));
}

#[test]
fn what_makes_no_sense_of_a_global_table_is_refused() {
    let refused = |build: fn(&mut StreamsBuilder), words: &str| {
        let mut builder = StreamsBuilder::new();
        build(&mut builder);
        let error = builder.build().unwrap_err().to_string();
        assert!(error.contains(words), "{error}");
    };
    refused(
        |builder| {
            let consumed =
                Consumed::with(StringSerde, LongSerde).with_timestamp_extractor(|record, _| record.timestamp);
            builder.global_table("rates", consumed, Materialized::default());
        },
        "give it no extractor",
    );
    refused(
        |builder| {
            builder.global_table("rates", Consumed::with(StringSerde, LongSerde), Materialized::as_("rates"));
            let _ = builder.stream("asked", Consumed::with(StringSerde, StringSerde)).process(|| Ask, &["rates"]);
        },
        "every processor can read it, don't name it",
    );
    refused(
        |builder| {
            builder.stream("rates", Consumed::with(StringSerde, LongSerde)).to("seen", Produced::default());
            builder.global_table("rates", Consumed::with(StringSerde, LongSerde), Materialized::default());
        },
        "both read topic rates",
    );
}
