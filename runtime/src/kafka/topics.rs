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
        let resources: Vec<ResourceSpecifier<'_>> =
            internal.iter().map(|topic| ResourceSpecifier::Topic(&topic.name)).collect();
        let described = self
            .runtime
            .block_on(self.admin.describe_configs(&resources, &options()))
            .map_err(|error| classify("read the configuration of internal topics", &error))?;
        let mut wrong = Vec::new();
        for (topic, described) in internal.iter().zip(described) {
            let wanted = topic.configs.get(POLICY);
            let found = described.ok().and_then(|resource| resource.get(POLICY).and_then(|entry| entry.value.clone()));
            if let (Some(wanted), Some(found)) = (wanted, found)
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
        let resources: Vec<ResourceSpecifier<'_>> = topics.iter().copied().map(ResourceSpecifier::Topic).collect();
        let described = self
            .runtime
            .block_on(self.admin.describe_configs(&resources, &options()))
            .map_err(|error| classify("read how large records may be", &error))?;
        let limits = topics.into_iter().zip(described).filter_map(|(topic, described)| {
            let limit = described.ok()?.get("max.message.bytes")?.value.as_ref()?.parse().ok()?;
            Some((topic.to_owned(), limit))
        });
        Ok(limits.collect())
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
