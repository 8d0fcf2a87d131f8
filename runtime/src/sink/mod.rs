//! Owns the producer: sending, acknowledgements, transactions. Must not know tasks.
//!
//! Under exactly-once one transaction spans what is sent between two commits:
//!
//! ```text
//!   (none) ── begin ──▶ open ── commit ──▶ (none)
//!                         └──── abort ───▶ (none), or the producer is replaced
//! ```
//!
//! A transaction whose end is not known (time-out, fenced, the coordinator is away) is not asked about: the producer
//! is replaced, and registering the new one under the same transactional id ends what the former left open, one way
//! or the other. What was committed the tasks then learn from the group when they are restored.

mod deliveries;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use millrace_engine::ports::{Committed, Error, Log, Partitions, Rejected};
use millrace_engine::record::{Batch, Header, Offset, TopicPartition};
use rdkafka::TopicPartitionList;
use rdkafka::consumer::{CommitMode, Consumer};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{Header as KafkaHeader, OwnedHeaders};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};

use crate::config::Guarantee;
use crate::kafka::{Clients, Membership, Topics, classify, create_with, is_record_error, number, send_now};
use deliveries::{Deliveries, Refused};

/// How long one wait for acknowledgements lasts before the worker looks at its other duties.
const FLUSH_TIMEOUT: Duration = Duration::from_secs(10);
/// How often it looks meanwhile what has become of them. A wait of the client takes all the time that it is given, also
/// when the last acknowledgement has come long before.
const FLUSH_STEP: Duration = Duration::from_millis(1);
/// A request to a coordinator; librdkafka repeats it within this time where that helps. A transaction that takes
/// longer has timed out anyway.
const COORDINATOR_TIMEOUT: Duration = Duration::from_secs(12);
/// How long a producer is first waited for that registers; then twice as long each time.
const REGISTER_STEP: Duration = Duration::from_millis(40);

/// How long an abort is waited for until it is told again what became of records.
const ABORT_STEP: Duration = Duration::from_millis(100);
/// Each time the brokers refuse records, what is uncommitted is begun anew without those. A module that makes others
/// each time must not keep that up for ever.
const REFUSALS_MAX: u32 = 20;

/// What ends the waits of a sink from outside.
#[derive(Clone)]
pub struct Switches {
    /// While it is off nothing may be committed: the group may have given the tasks to others.
    pub lease: Arc<AtomicBool>,
    /// Set when the process gives up waiting for a broker.
    pub abandon: Arc<AtomicBool>,
}

/// The log as one worker sees it: a producer of its own, and the group's offsets.
pub struct Sink {
    clients: Clients,
    worker: usize,
    guarantee: Guarantee,
    /// `None`: there was none yet, or it can't be used any more.
    producer: Option<BaseProducer<Deliveries>>,
    membership: Arc<Membership>,
    in_transaction: bool,
    /// Times since the last commit that a broker refused records which are held back now.
    refusals: u32,
    switches: Switches,
}

impl Sink {
    /// Without a producer, which [`Log::abort`] makes, or the first record.
    #[must_use]
    pub fn new(
        clients: &Clients,
        worker: usize,
        guarantee: Guarantee,
        membership: Arc<Membership>,
        switches: Switches,
    ) -> Self {
        let clients = clients.clone();
        Self { clients, worker, guarantee, producer: None, membership, in_transaction: false, refusals: 0, switches }
    }

    fn is_transactional(&self) -> bool {
        self.guarantee == Guarantee::ExactlyOnce
    }

    fn producer(&mut self) -> Result<&BaseProducer<Deliveries>, Error> {
        if self.producer.is_none() {
            self.connect()?;
        }
        self.producer.as_ref().ok_or_else(|| Error::Retry("there is no producer at the moment".to_owned()))
    }

    fn connect(&mut self) -> Result<(), Error> {
        let settings = self.clients.producer(self.worker);
        let producer: BaseProducer<Deliveries> = create_with(&settings, Deliveries::default(), "producer")?;
        if self.is_transactional() {
            register(&producer).map_err(|error| classify("register the transactional producer", &error))?;
        }
        self.producer = Some(producer);
        Ok(())
    }

    /// A new producer in place of one that is no use any more. One that can't be had now is had later.
    fn replace_producer(&mut self) -> Result<(), Error> {
        self.producer = None;
        self.in_transaction = false;
        match self.connect() {
            Err(Error::Retry(reason)) => {
                tracing::warn!(worker = self.worker, reason, "will try again");
                Ok(())
            }
            connected => connected,
        }
    }

    /// The class of an error of the producer. An error that the client itself does not survive is no reason to end
    /// the process: the tasks start again with another one.
    fn class(&self, doing: &str, error: &KafkaError) -> Error {
        let fatal = self.producer.as_ref().and_then(|producer| producer.client().fatal_error());
        match fatal {
            Some((code, reason)) => Error::Fenced(format!("{doing}: {error}: {reason} ({code})")),
            None => classify(doing, error),
        }
    }

    /// What a failed delivery means: nobody sends that record again. If it is known now which one the broker won't take,
    /// all is begun anew without it.
    fn check_deliveries(&mut self) -> Result<(), Error> {
        let Some(error) = self.producer.as_ref().and_then(|producer| producer.context().failure()) else {
            return Ok(());
        };
        if self.learn() && self.refusals < REFUSALS_MAX {
            self.refusals += 1;
            return Err(Error::Fenced(format!("{error}; it will be held back")));
        }
        match error {
            // The transaction must not be committed without it, and does not hold up others when it is aborted.
            Error::Retry(message) if self.is_transactional() => Err(Error::Fenced(message)),
            Error::Retry(message) => Err(Error::Fatal(message)),
            error => Err(error),
        }
    }

    /// Remembers what was refused, and says whether any of it is news.
    fn learn(&self) -> bool {
        let refused = self.producer.as_ref().map_or_else(Vec::new, |producer| producer.context().take_refused());
        let mut news = false;
        for refused in refused {
            news |= match refused {
                Refused::Record { topic, key, value } => {
                    self.clients.objections().refuse(&topic, key.as_deref(), value.as_deref())
                }
                Refused::Size { topic } => self.learn_limit(&topic),
            };
        }
        news
    }

    fn learn_limit(&self, topic: &str) -> bool {
        let asked = Topics::connect(&self.clients).and_then(|topics| topics.record_limits([topic]));
        match asked {
            Ok(limits) => limits.get(topic).is_some_and(|&limit| self.clients.objections().limit(topic, limit)),
            Err(error) => {
                tracing::warn!(%error, topic, "how large a record may be is not known");
                false
            }
        }
    }

    fn commit_list(&self, offsets: &[(TopicPartition, Committed)]) -> Result<TopicPartitionList, Error> {
        let mut list = TopicPartitionList::with_capacity(offsets.len());
        for (partition, committed) in offsets {
            let mut element = list.add_partition(&partition.topic, number(partition));
            element
                .set_offset(rdkafka::Offset::Offset(committed.offset.0))
                .map_err(|error| classify("name the offsets to commit", &error))?;
            element.set_metadata(&committed.metadata);
        }
        Ok(list)
    }

    fn check_lease(&self) -> Result<(), Error> {
        if self.switches.lease.load(Ordering::Acquire) {
            return Ok(());
        }
        Err(Error::Fenced("commit: the group went on without this worker, which was busy for too long".to_owned()))
    }

    fn commit_transaction(&mut self, list: &TopicPartitionList) -> Result<(), Error> {
        self.begin()?;
        let metadata = self
            .membership
            .consumer()
            .group_metadata()
            .ok_or_else(|| Error::Fenced("commit a transaction: the consumer is in no group".to_owned()))?;
        // After the metadata was taken: if the lease ends from here on, it is of a generation that the group refuses.
        self.check_lease()?;
        let producer = self.producer()?;
        let outcome = producer
            .send_offsets_to_transaction(list, &metadata, COORDINATOR_TIMEOUT)
            .and_then(|()| producer.commit_transaction(COORDINATOR_TIMEOUT));
        outcome.map_err(|error| self.class("commit the transaction", &error))?;
        self.in_transaction = false;
        Ok(())
    }

    /// Ends what was sent since the last commit, so that nothing of it arrives later.
    fn end(&mut self) -> Result<(), KafkaError> {
        let Some(producer) = &self.producer else { return Ok(()) };
        if self.in_transaction {
            abort_transaction(producer)?;
        } else {
            producer.flush(FLUSH_TIMEOUT)?;
        }
        if let Some((code, reason)) = producer.client().fatal_error() {
            tracing::warn!(%code, reason, "the producer is replaced");
            return Err(KafkaError::Flush(code));
        }
        // Of records that were dropped with the transaction, or whose tasks were.
        self.learn();
        producer.context().failure();
        producer.context().take_positions();
        Ok(())
    }
}

impl Log for Sink {
    fn begin(&mut self) -> Result<(), Error> {
        let needed = self.is_transactional() && !self.in_transaction;
        let producer = self.producer()?;
        if needed {
            let begun = producer.begin_transaction();
            begun.map_err(|error| self.class("begin a transaction", &error))?;
            self.in_transaction = true;
        }
        Ok(())
    }

    fn objection(&self, topic: &str, records: &Batch) -> Option<Rejected> {
        let objection = self.clients.objections().of(topic);
        let mut headers = records.headers.as_slice();
        let rows = records.keys.iter().zip(records.values.iter()).enumerate();
        rows.into_iter().find_map(|(index, (key, value))| {
            let message = objection.to(key, value, take_headers(&mut headers, index))?;
            Some(Rejected { index, message })
        })
    }

    fn send(&mut self, topic: &str, partitions: Partitions<'_>, records: &Batch) -> Result<Vec<Rejected>, Error> {
        self.begin()?;
        let abandon = Arc::clone(&self.switches.abandon);
        let objection = self.clients.objections().of(topic);
        let producer = self.producer()?;
        let mut rejected = Vec::new();
        let slot = match partitions {
            Partitions::One(partition) => producer.context().slot(topic, partition),
            Partitions::ByKey | Partitions::Each(_) => Deliveries::UNTRACKED,
        };
        let mut headers = records.headers.as_slice();
        let columns = records.keys.iter().zip(records.values.iter()).zip(&records.timestamps);
        for (index, ((key, value), &timestamp)) in columns.enumerate() {
            // librdkafka takes 0 for "now"; a record of the epoch's first millisecond keeps its place.
            let mut record = BaseRecord::<[u8], [u8], usize>::with_opaque_to(topic, slot).timestamp(timestamp.max(1));
            record.key = key;
            record.payload = value;
            record.partition = match partitions {
                Partitions::ByKey => None,
                Partitions::One(partition) => Some(i32::try_from(partition).unwrap_or(i32::MAX)),
                Partitions::Each(each) => each.get(index).copied().filter(|partition| *partition >= 0),
            };
            let own = take_headers(&mut headers, index);
            if let Some(message) = objection.to(key, value, own) {
                rejected.push(Rejected { index, message });
                continue;
            }
            record.headers = owned(own);
            match queue(producer, record, &abandon) {
                Ok(()) => {}
                Err(KafkaError::MessageProduction(code)) if is_record_error(code) => {
                    rejected.push(Rejected { index, message: code.to_string() });
                }
                Err(error) => return Err(self.class(&format!("write to topic {topic}"), &error)),
            }
        }
        // Serves acknowledgements that have come in, without waiting.
        producer.poll(Duration::ZERO);
        self.check_deliveries()?;
        Ok(rejected)
    }

    fn flush(&mut self) -> Result<Vec<(TopicPartition, Offset)>, Error> {
        let until = Instant::now() + FLUSH_TIMEOUT;
        send_now(self.producer()?);
        loop {
            let flushed = self.producer()?.flush(FLUSH_STEP);
            // First: a transaction with a record that was refused is never flushed.
            self.check_deliveries()?;
            match flushed {
                Ok(()) => break,
                Err(error)
                    if error.rdkafka_error_code() == Some(RDKafkaErrorCode::OperationTimedOut)
                        && Instant::now() < until => {}
                Err(error) => return Err(self.class("wait for the broker to acknowledge records", &error)),
            }
        }
        Ok(self.producer()?.context().take_positions())
    }

    fn commit(&mut self, offsets: &[(TopicPartition, Committed)]) -> Result<(), Error> {
        let list = self.commit_list(offsets)?;
        match self.guarantee {
            Guarantee::ExactlyOnce => self.commit_transaction(&list)?,
            Guarantee::AtLeastOnce => {
                self.check_lease()?;
                self.membership
                    .consumer()
                    .commit(&list, CommitMode::Sync)
                    .map_err(|error| classify("commit offsets to the group", &error))?;
            }
        }
        self.refusals = 0;
        Ok(())
    }

    fn abort(&mut self) -> Result<(), Error> {
        self.learn();
        let ended = self.end();
        self.in_transaction = false;
        match ended {
            Ok(()) if self.producer.is_some() => Ok(()),
            // Registering one ends what a former process under the same name left open.
            Ok(()) => self.replace_producer(),
            Err(error) => {
                tracing::warn!(worker = self.worker, %error, "what was sent since the last commit could not be ended");
                self.replace_producer()
            }
        }
    }
}

/// Registers the producer. While the broker ends the transaction that a former process left open, which takes some
/// tens of milliseconds, it refuses; the client would ask again after half a second, but asks at once when it is
/// called again.
fn register(producer: &BaseProducer<Deliveries>) -> Result<(), KafkaError> {
    let mut step = REGISTER_STEP;
    in_steps(|| {
        let wait = step;
        step = (step * 2).min(COORDINATOR_TIMEOUT / 8);
        producer.init_transactions(wait)
    })
}

/// Aborts the open transaction. The client waits in there until it has told what became of each record that was under
/// way, and it tells that in `poll`: so it is asked in short calls, each of which goes on where the last one stopped.
fn abort_transaction(producer: &BaseProducer<Deliveries>) -> Result<(), KafkaError> {
    in_steps(|| {
        producer.poll(Duration::ZERO);
        producer.abort_transaction(ABORT_STEP)
    })
}

/// Calls the coordinator again and again, for as long as it may take and the client says that it helps.
fn in_steps(mut call: impl FnMut() -> Result<(), KafkaError>) -> Result<(), KafkaError> {
    let deadline = Instant::now() + COORDINATOR_TIMEOUT;
    loop {
        match call() {
            Err(KafkaError::Transaction(error)) if error.is_retriable() && Instant::now() < deadline => {}
            outcome => return outcome,
        }
    }
}

/// Queues one record, waiting for room while the queue is full.
fn queue(
    producer: &BaseProducer<Deliveries>,
    mut record: BaseRecord<'_, [u8], [u8], usize>,
    abandon: &AtomicBool,
) -> Result<(), KafkaError> {
    // The clock is read only where there is something to wait for.
    let mut told = None;
    loop {
        match producer.send(record) {
            Ok(()) => return Ok(()),
            Err((KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull), back))
                if !abandon.load(Ordering::Relaxed) =>
            {
                record = back;
                producer.poll(Duration::from_millis(10));
                if told.get_or_insert_with(Instant::now).elapsed() > FLUSH_TIMEOUT {
                    told = None;
                    tracing::warn!(topic = record.topic, "waiting for the broker to take records");
                }
            }
            Err((error, _)) => return Err(error),
        }
    }
}

/// Takes the headers of record `index` off the front of those that are left.
fn take_headers<'a>(headers: &mut &'a [Header], index: usize) -> &'a [Header] {
    let count = headers.iter().take_while(|header| usize::try_from(header.index) == Ok(index)).count();
    let (own, rest) = headers.split_at(count);
    *headers = rest;
    own
}

fn owned(headers: &[Header]) -> Option<OwnedHeaders> {
    let empty = || OwnedHeaders::new_with_capacity(headers.len());
    let add = |owned: OwnedHeaders, header: &Header| {
        owned.insert(KafkaHeader { key: &header.key, value: header.value.as_deref() })
    };
    (!headers.is_empty()).then(|| headers.iter().fold(empty(), add))
}
