//! What `millrace dev` and `millrace demo` share: an application that runs in this process
//! against the embedded broker. Must not know where its input comes from or who reads its output.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;

use anyhow::{Context, bail};
use millrace_engine::topology::Partitioning;

use crate::app::{Application, Running};
use crate::config::{Config, Guarantee};
use crate::kafka::{EmbeddedBroker, Feeder, Seen, Tail};

/// The broker, the topics of one application on it, and clients for their ends.
pub(super) struct Embedded {
    broker: EmbeddedBroker,
    config: Config,
    application: Application,
    inputs: Vec<String>,
    outputs: Vec<String>,
}

impl Embedded {
    /// Starts the broker and creates every topic of the application. `state` is where this run
    /// keeps its stores: they belong to this broker, which forgets everything, and to no other.
    pub(super) fn start(mut config: Config, state: &Path, partitions: u32) -> anyhow::Result<Self> {
        if config.guarantee == Guarantee::ExactlyOnce {
            bail!(
                "the embedded broker has no transactions, so it can't run processing.guarantee = \"exactly_once_v2\": \
                 start a real Kafka with ./mill kafka start and use millrace run, or set MILLRACE_PROCESSING_GUARANTEE=at_least_once"
            );
        }
        let application = Application::load(&config)?;
        let broker = EmbeddedBroker::start()?;
        config.kafka.bootstrap_servers = broker.bootstrap_servers();
        // Settings for the real cluster, security among them, are not for this one.
        config.kafka.common.clear();
        config.kafka.consumer.clear();
        config.kafka.producer.clear();
        config.kafka.admin.clear();
        // A session must outlast the three seconds for which this broker holds up a first join: it throws members
        // out whose session ends meanwhile, without an answer. Nor much longer: for about as long it waits, after
        // a member has left, for the others to join again.
        config.kafka.consumer.insert("session.timeout.ms".to_owned(), "6000".to_owned());
        config.kafka.consumer.insert("heartbeat.interval.ms".to_owned(), "500".to_owned());
        config.instance_id = None;
        config.leave_on_stop = true;
        config.state_dir = state.to_owned();
        // Beside whatever else runs on the machine.
        config.http.listen = config.http.listen.map(|_| SocketAddr::from((Ipv4Addr::LOCALHOST, 0)));
        // On loopback, which no certificate is for.
        config.http.tls = None;
        let plan = application.plan();
        let inputs: Vec<String> = plan.external_topics().iter().map(|topic| (*topic).to_owned()).collect();
        let outputs = application.output_topics();
        for topic in inputs.iter().chain(&outputs) {
            broker.create_topic(topic, partitions)?;
        }
        let counts = inputs.iter().map(|topic| (topic.clone(), partitions)).collect();
        for topic in Partitioning::new(plan, &counts).context("lay out the internal topics")?.internal_topics() {
            broker.create_topic(&topic.name, topic.partitions)?;
        }
        Ok(Self { broker, config, application, inputs, outputs })
    }

    pub(super) fn config(&self) -> &Config {
        &self.config
    }

    pub(super) fn inputs(&self) -> &[String] {
        &self.inputs
    }

    pub(super) fn outputs(&self) -> &[String] {
        &self.outputs
    }

    pub(super) fn run(&self) -> anyhow::Result<Running> {
        self.application.clone().start(&self.config)
    }

    pub(super) fn feeder(&self) -> anyhow::Result<Feeder> {
        // How far global topics were read is not told to the group.
        let globals = self.application.plan().global_stores();
        let is_global = |topic: &String| globals.iter().any(|global| global.filled.topic == *topic);
        let inputs: Vec<String> = self.inputs.iter().filter(|topic| !is_global(topic)).cloned().collect();
        Ok(Feeder::new(&self.broker.bootstrap_servers(), &self.config.application_id, &inputs)?)
    }

    pub(super) fn tail(&self) -> anyhow::Result<Tail> {
        Ok(Tail::new(&self.broker.bootstrap_servers(), &self.outputs)?)
    }
}

/// `foo:bar` is the key `foo` and the value `bar`; a line without a colon is a value without a key.
pub(super) fn parse_line(line: &str) -> (Option<&str>, &str) {
    line.split_once(':').map_or((None, line), |(key, value)| (Some(key), value))
}

/// A record in words: text where it is text, else numbers and hexadecimals.
pub(super) fn show(seen: &Seen) -> String {
    format!(
        "{}[{}]  {} = {}",
        seen.topic,
        seen.partition,
        show_bytes(seen.key.as_deref()),
        show_bytes(seen.value.as_deref())
    )
}

fn show_bytes(bytes: Option<&[u8]>) -> String {
    let Some(bytes) = bytes else {
        return "null".to_owned();
    };
    match std::str::from_utf8(bytes) {
        Ok(text) if !text.chars().any(|c| c.is_control() && c != '\t') => text.to_owned(),
        _ => match <[u8; 8]>::try_from(bytes) {
            Ok(long) => i64::from_be_bytes(long).to_string(),
            Err(_) => bytes.iter().fold("0x".to_owned(), |hex, byte| hex + &format!("{byte:02x}")),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_keys_and_values() {
        assert_eq!(parse_line("foo:bar"), (Some("foo"), "bar"));
        assert_eq!(parse_line("foo:bar:baz"), (Some("foo"), "bar:baz"));
        assert_eq!(parse_line("bar"), (None, "bar"));
        assert_eq!(parse_line(":bar"), (Some(""), "bar"));
    }

    #[test]
    fn bytes_are_shown_as_what_they_look_like() {
        assert_eq!(show_bytes(None), "null");
        assert_eq!(show_bytes(Some(b"foo")), "foo");
        assert_eq!(show_bytes(Some(&2_i64.to_be_bytes())), "2");
        assert_eq!(show_bytes(Some(&[0xff, 0x00])), "0xff00");
    }
}
