//! The topics an application needs: how many partitions they have, the internal ones created or
//! checked, repartition topics purged. Must not know why a topic is needed.

use std::collections::BTreeMap;
use std::time::Duration;

use millrace_engine::ports::Error;
use millrace_engine::record::{Offset, TopicPartition};
use millrace_engine::topology::InternalTopic;
use rdkafka::TopicPartitionList;
use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, ResourceSpecifier, TopicReplication};
use rdkafka::error::RDKafkaErrorCode;
use tokio::runtime::Runtime;

use super::client::{ClientLog, create_with};
use super::{Clients, classify};

/// One administrative request may take this long; the broker then is considered away.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(20);

pub struct Topics {
    admin: AdminClient<ClientLog>,
    /// The admin client's calls are futures; the threads that make them are not.
    runtime: Runtime,
}

impl Topics {
    pub fn connect(clients: &Clients) -> Result<Self, Error> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .build()
            .map_err(|error| Error::Fatal(format!("start the admin client: {error}")))?;
        Ok(Self { admin: create_with(&clients.admin(), ClientLog, "admin client")?, runtime })
    }

    /// The partition count of every topic of the cluster.
    pub fn partition_counts(&self, timeout: Duration) -> Result<BTreeMap<String, u32>, Error> {
        let metadata = self
            .admin
            .inner()
            .fetch_metadata(None, timeout)
            .map_err(|error| classify("ask for the topics of the cluster", &error))?;
        let mut counts = BTreeMap::new();
        for topic in metadata.topics().iter().filter(|topic| topic.error().is_none()) {
            let count = u32::try_from(topic.partitions().len()).unwrap_or(u32::MAX);
            counts.insert(topic.name().to_owned(), count);
        }
        Ok(counts)
    }

    /// Creates topics; one that another instance created first is as good.
    pub fn create(&self, topics: &[&InternalTopic], replication: i32) -> Result<(), Error> {
        if topics.is_empty() {
            return Ok(());
        }
        let requests: Vec<NewTopic<'_>> = topics
            .iter()
            .map(|topic| {
                let partitions = i32::try_from(topic.partitions).unwrap_or(i32::MAX);
                let mut request = NewTopic::new(&topic.name, partitions, TopicReplication::Fixed(replication));
                for (key, value) in &topic.configs {
                    request = request.set(key, value);
                }
                request
            })
            .collect();
        let results = self
            .runtime
            .block_on(self.admin.create_topics(&requests, &options()))
            .map_err(|error| classify("create internal topics", &error))?;
        for result in results {
            match result {
                Ok(name) => tracing::info!(topic = name, "created internal topic"),
                Err((_, RDKafkaErrorCode::TopicAlreadyExists)) => {}
                Err((name, code)) => {
                    let error = rdkafka::error::KafkaError::AdminOp(code);
                    return Err(classify(&format!("create internal topic {name}"), &error));
                }
            }
        }
        Ok(())
    }

    /// Names of the internal topics whose clean-up policy is not the one they need, with both
    /// policies: a changelog that is deleted by age, or a repartition topic that is compacted,
    /// loses records.
    pub fn wrong_policies(&self, internal: &[InternalTopic]) -> Result<Vec<String>, Error> {
        const POLICY: &str = "cleanup.policy";
        let names = internal.iter().map(|topic| &*topic.name);
        let policies = self.settings(names, POLICY, "read the configuration of internal topics")?;
        let mut wrong = Vec::new();
        for (topic, found) in internal.iter().zip(policies) {
            if let (Some(wanted), Some(found)) = (topic.configs.get(POLICY), found)
                && policy_set(wanted) != policy_set(&found)
            {
                wrong.push(format!("{}: {POLICY} is {found}, but it needs {wanted}", topic.name));
            }
        }
        Ok(wrong)
    }

    /// How large a batch each topic takes, as far as the application may read that.
    pub fn record_limits<'a>(
        &self,
        topics: impl IntoIterator<Item = &'a str>,
    ) -> Result<BTreeMap<String, usize>, Error> {
        let topics: Vec<&str> = topics.into_iter().collect();
        if topics.is_empty() {
            return Ok(BTreeMap::new());
        }
        let limits = self.settings(topics.iter().copied(), "max.message.bytes", "read how large records may be")?;
        let known = topics.into_iter().zip(limits);
        Ok(known.filter_map(|(topic, limit)| Some((topic.to_owned(), limit?.parse().ok()?))).collect())
    }

    /// One setting of each topic, as far as it may be read.
    fn settings<'a>(
        &self,
        topics: impl Iterator<Item = &'a str>,
        name: &str,
        doing: &str,
    ) -> Result<Vec<Option<String>>, Error> {
        let resources: Vec<ResourceSpecifier<'_>> = topics.map(ResourceSpecifier::Topic).collect();
        let described = self
            .runtime
            .block_on(self.admin.describe_configs(&resources, &options()))
            .map_err(|error| classify(doing, &error))?;
        Ok(described.into_iter().map(|described| described.ok()?.get(name)?.value.clone()).collect())
    }

    /// Deletes topics; one that is gone already is as good.
    pub fn delete(&self, topics: &[String]) -> Result<(), Error> {
        if topics.is_empty() {
            return Ok(());
        }
        let names: Vec<&str> = topics.iter().map(String::as_str).collect();
        let results = self
            .runtime
            .block_on(self.admin.delete_topics(&names, &options()))
            .map_err(|error| classify("delete internal topics", &error))?;
        for result in results {
            match result {
                Ok(_) | Err((_, RDKafkaErrorCode::UnknownTopicOrPartition)) => {}
                Err((name, code)) => {
                    let error = rdkafka::error::KafkaError::AdminOp(code);
                    return Err(classify(&format!("delete internal topic {name}"), &error));
                }
            }
        }
        Ok(())
    }

    /// Deletes the records of repartition topics that were processed and committed.
    pub fn purge(&self, below: &[(TopicPartition, Offset)]) -> Result<(), Error> {
        let mut list = TopicPartitionList::with_capacity(below.len());
        for (partition, offset) in below {
            let number = i32::try_from(partition.partition).unwrap_or(i32::MAX);
            list.add_partition_offset(&partition.topic, number, rdkafka::Offset::Offset(offset.0))
                .map_err(|error| classify("purge repartition topics", &error))?;
        }
        self.runtime
            .block_on(self.admin.delete_records(&list, &options()))
            .map(|_| ())
            .map_err(|error| classify("purge repartition topics", &error))
    }
}

fn options() -> AdminOptions {
    AdminOptions::new().request_timeout(Some(REQUEST_TIMEOUT)).operation_timeout(Some(REQUEST_TIMEOUT))
}

/// `compact,delete` and `delete,compact` are the same policy.
fn policy_set(policy: &str) -> std::collections::BTreeSet<&str> {
    policy.split(',').map(str::trim).collect()
}
