//! The reader on the embedded broker.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use millrace_engine::ports::Error;
use millrace_engine::record::{Offset, TaskId};
use millrace_engine::task::Chunk;
use rdkafka::ClientConfig;
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};

use super::{Open, Reader};
use crate::kafka::{ClientLog, EmbeddedBroker, create_with};

const TOPIC: &str = "changes";
const PARTITIONS: u32 = 16;
const RECORDS: usize = 300;
const LONG: Duration = Duration::from_secs(60);

fn reader(broker: &EmbeddedBroker) -> Reader {
    let mut settings = ClientConfig::new();
    settings.set("bootstrap.servers", broker.bootstrap_servers()).set("group.id", "reader");
    settings.set("enable.partition.eof", "true").set("fetch.wait.max.ms", "10").set("enable.auto.commit", "false");
    Reader::new(TOPIC.to_owned(), create_with(&settings, ClientLog, "reader").expect("a client"))
}

fn fill(broker: &EmbeddedBroker) {
    broker.create_topic(TOPIC, PARTITIONS).expect("a topic");
    let producer: BaseProducer =
        ClientConfig::new().set("bootstrap.servers", broker.bootstrap_servers()).create().expect("a producer");
    for number in 0..RECORDS {
        for partition in 0..PARTITIONS {
            let value = number.to_string();
            let record = BaseRecord::<str, str>::to(TOPIC).partition(super::number_of(partition)).key("k");
            producer.send(record.payload(&value)).expect("room in the queue");
        }
    }
    producer.flush(LONG).expect("the records to be written");
}

fn task(partition: u32) -> TaskId {
    TaskId { subtopology: 0, partition }
}

fn begin(reader: &mut Reader, partition: u32, from: i64) -> Result<(), Error> {
    let end = Some(Offset(i64::try_from(RECORDS).expect("a small number")));
    let next = Offset(from);
    reader.begin(
        partition,
        Open { task: task(partition), store: 0, next, end, gathered: Chunk::default(), at_end: false },
    )
}

/// Reads until all partitions that were begun are at their ends; the offsets by task, in the order in which they came.
fn read_all(reader: &mut Reader) -> BTreeMap<TaskId, Vec<i64>> {
    let deadline = Instant::now() + LONG;
    let mut offsets: BTreeMap<TaskId, Vec<i64>> = BTreeMap::new();
    while !reader.partitions.is_empty() {
        assert!(Instant::now() < deadline, "still reading: {:?}", reader.partitions.keys());
        let mut reads = Vec::new();
        reader.poll(Duration::from_millis(10), &mut reads);
        for read in reads {
            let read = read.unwrap_or_else(|(tasks, error)| panic!("{tasks:?}: {error}"));
            offsets.entry(read.task).or_default().extend(read.chunk.offsets);
        }
    }
    offsets
}

fn all_from(from: i64) -> Vec<i64> {
    (from..i64::try_from(RECORDS).expect("a small number")).collect()
}

/// Tasks come in quick succession, also while others are read, and one that was read may come again.
#[test]
fn partitions_are_taken_up_one_by_one() {
    let broker = EmbeddedBroker::start().expect("a broker");
    fill(&broker);
    let mut reader = reader(&broker);
    for partition in 0..PARTITIONS {
        begin(&mut reader, partition, 0).expect("a partition is begun");
    }
    let read = read_all(&mut reader);
    assert_eq!(read, (0..PARTITIONS).map(|partition| (task(partition), all_from(0))).collect());

    for partition in [3, 5, 3, 5] {
        // Given up before it is read, the second time.
        if reader.partitions.remove(&partition).is_some() {
            reader.stop(partition);
        }
        begin(&mut reader, partition, 100).expect("a partition is begun again");
    }
    let read = read_all(&mut reader);
    assert_eq!(read, [3, 5].map(|partition| (task(partition), all_from(100))).into());
}
