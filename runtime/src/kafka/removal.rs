//! Takes members out of a group that did not leave it, in their place. Must not know why.
//!
//! Kafka's own tools ask the coordinator to remove them (KIP-571), with a request that the client library does not have. But
//! whoever joins under the name of a static member takes its place, and can leave. A member without a name is in the group
//! until its session ends.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use millrace_engine::ports::Error;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::{BaseConsumer, Consumer, ConsumerContext, Rebalance};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::{ClientConfig, ClientContext};

use super::{ClientLog, GroupMember, GroupOffsets, classify, create_with};

const POLL: Duration = Duration::from_millis(20);
const ASK_AGAIN: Duration = Duration::from_millis(500);

/// Joins in place of these members, by their names, and leaves; then waits until the group has no members, for so long at
/// the most. Gives back those that it has even then.
pub fn remove_members(
    settings: &ClientConfig,
    names: &[String],
    topics: &[&str],
    group: &GroupOffsets,
    patience: Duration,
) -> Result<Vec<GroupMember>, Error> {
    let mut substitutes = Vec::new();
    for name in names {
        substitutes.push(Substitute::join(settings, name, topics)?);
    }
    let deadline = Instant::now() + patience;
    let mut asked_at = Instant::now();
    loop {
        for substitute in &mut substitutes {
            substitute.turn()?;
        }
        if substitutes.is_empty() {
            std::thread::sleep(POLL);
        }
        if asked_at.elapsed() >= ASK_AGAIN {
            let left = group.members()?;
            if left.is_empty() || Instant::now() > deadline {
                return Ok(left);
            }
            asked_at = Instant::now();
        }
    }
}

/// A member in the place of another one.
struct Substitute {
    name: String,
    consumer: BaseConsumer<Joining>,
    left: bool,
}

impl Substitute {
    fn join(settings: &ClientConfig, name: &str, topics: &[&str]) -> Result<Self, Error> {
        let mut settings = settings.clone();
        settings.set("group.instance.id", name);
        let consumer: BaseConsumer<Joining> = create_with(&settings, Joining::default(), "member to leave the group")?;
        consumer.subscribe(topics).map_err(|error| classify(&format!("join the group as {name}"), &error))?;
        Ok(Self { name: name.to_owned(), consumer, left: false })
    }

    /// Leaves as soon as it has the place. What it may have fetched by then is of no interest, and never committed.
    fn turn(&mut self) -> Result<(), Error> {
        if let Some(Err(error)) = self.consumer.poll(POLL) {
            tracing::debug!(name = self.name, %error, "joining to leave");
        }
        if let Some((RDKafkaErrorCode::FencedInstanceId, _)) = self.consumer.client().fatal_error() {
            return Err(Error::Fatal(format!("instance {} has joined the group again: stop it first", self.name)));
        }
        if !self.left && self.consumer.context().joined.load(Ordering::Relaxed) {
            self.consumer.unsubscribe();
            self.left = true;
        }
        Ok(())
    }
}

#[derive(Default)]
struct Joining {
    joined: AtomicBool,
}

impl ClientContext for Joining {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, line: &str) {
        ClientLog::line(level, facility, line);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        ClientLog.error(error, reason);
    }
}

impl ConsumerContext for Joining {
    fn post_rebalance(&self, _: &BaseConsumer<Self>, rebalance: &Rebalance<'_>) {
        if let Rebalance::Assign(_) = rebalance {
            self.joined.store(true, Ordering::Relaxed);
        }
    }
}
