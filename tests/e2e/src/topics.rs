//! Topics of a Kafka: create, change, look up. Every call is done when the brokers have done it.

use std::collections::BTreeMap;
use std::future::Future;
use std::time::Duration;

use anyhow::{Context, Result, anyhow};
use rdkafka::admin::{
    AdminClient, AdminOptions, AlterConfig, NewPartitions, NewTopic, ResourceSpecifier, TopicReplication, TopicResult,
};
use rdkafka::client::DefaultClientContext;
use rdkafka::consumer::{BaseConsumer, Consumer};

use crate::kafka::Kafka;
use crate::wait;

const REQUEST: Duration = Duration::from_secs(60);

/// Replicas: three on a cluster, one on a single broker.
const BROKERS_DEFAULT: i32 = -1;

fn done<T>(future: impl Future<Output = T>) -> Result<T> {
    Ok(tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(future))
}

fn options() -> AdminOptions {
    AdminOptions::new().request_timeout(Some(REQUEST)).operation_timeout(Some(REQUEST))
}

fn admin(kafka: &Kafka) -> Result<AdminClient<DefaultClientContext>> {
    kafka.client().create().context("create an admin client")
}

fn each(results: Vec<TopicResult>) -> Result<()> {
    results
        .into_iter()
        .try_for_each(|result| result.map(drop).map_err(|(topic, code)| anyhow!("topic {topic}: {code}")))
}

/// Creates a topic and waits until clients can see it.
pub fn create(kafka: &Kafka, topic: &str, partitions: i32, config: &[(&str, &str)]) -> Result<()> {
    let mut new = NewTopic::new(topic, partitions, TopicReplication::Fixed(BROKERS_DEFAULT));
    for (name, value) in config {
        new = new.set(name, value);
    }
    each(done(admin(kafka)?.create_topics([&new], &options()))?.context("create topic")?)?;
    wait::until(&format!("topic {topic} to appear"), wait::LONG, || {
        Ok((partition_count(kafka, topic)? == Some(partitions)).then_some(()))
    })
}

pub fn delete(kafka: &Kafka, names: &[&str]) -> Result<()> {
    if names.is_empty() {
        return Ok(());
    }
    each(done(admin(kafka)?.delete_topics(names, &options()))?.context("delete topics")?)
}

pub fn add_partitions(kafka: &Kafka, topic: &str, total: usize) -> Result<()> {
    let new = NewPartitions::new(topic, total);
    each(done(admin(kafka)?.create_partitions([&new], &options()))?.context("add partitions")?)
}

pub fn set_config(kafka: &Kafka, topic: &str, name: &str, value: &str) -> Result<()> {
    let change = AlterConfig::new(ResourceSpecifier::Topic(topic)).set(name, value);
    for result in done(admin(kafka)?.alter_configs([&change], &options()))?.context("alter topic config")? {
        result.map_err(|(resource, code)| anyhow!("{resource:?}: {code}"))?;
    }
    Ok(())
}

pub fn config(kafka: &Kafka, topic: &str) -> Result<BTreeMap<String, String>> {
    let mut found = BTreeMap::new();
    let results = done(admin(kafka)?.describe_configs([&ResourceSpecifier::Topic(topic)], &options()))?;
    for resource in results.context("describe topic config")? {
        let resource = resource.map_err(|code| anyhow!("topic {topic}: {code}"))?;
        found.extend(resource.entries.into_iter().filter_map(|entry| Some((entry.name, entry.value?))));
    }
    Ok(found)
}

/// None: there is no such topic.
pub fn partition_count(kafka: &Kafka, topic: &str) -> Result<Option<i32>> {
    let consumer: BaseConsumer = kafka.client().create()?;
    let metadata = consumer.fetch_metadata(Some(topic), REQUEST).context("fetch metadata")?;
    let topic = metadata.topics().iter().find(|found| found.name() == topic && found.error().is_none());
    topic
        .filter(|topic| !topic.partitions().is_empty())
        .map(|topic| Ok(i32::try_from(topic.partitions().len())?))
        .transpose()
}

/// The names of all topics that begin so.
pub fn names(kafka: &Kafka, prefix: &str) -> Result<Vec<String>> {
    let consumer: BaseConsumer = kafka.client().create()?;
    let metadata = consumer.fetch_metadata(None, REQUEST).context("fetch metadata")?;
    let mut names: Vec<_> = metadata.topics().iter().map(|topic| topic.name().to_owned()).collect();
    names.retain(|name| name.starts_with(prefix));
    names.sort();
    Ok(names)
}
