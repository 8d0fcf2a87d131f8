//! The application as the brokers have it, for commands that ask from outside its group.

use std::collections::BTreeSet;
use std::time::Duration;

use millrace_engine::ports::Error;
use millrace_engine::record::TopicPartition;
use millrace_engine::topology::{PartitionCounts, Partitioning};

use super::{ConfigArgs, LogArgs};
use crate::app::Application;
use crate::config::Config;
use crate::kafka::{Clients, GroupOffsets, Topics};

/// Longer than a broker that is there takes.
const ASK_TIMEOUT: Duration = Duration::from_secs(20);

pub(super) struct Group {
    pub(super) config: Config,
    pub(super) clients: Clients,
    pub(super) topics: Topics,
    pub(super) partitioning: Partitioning,
    pub(super) offsets: GroupOffsets,
    existing: PartitionCounts,
}

impl Group {
    pub(super) fn connect(log: &LogArgs, args: &ConfigArgs) -> anyhow::Result<Self> {
        let mut config = log.load(args)?;
        // An instance of that name may be running.
        config.instance_id = None;
        let application = Application::load(&config)?;
        let clients = Clients::new(&config, String::new());
        let topics = Topics::connect(&clients)?;
        let existing = topics.partition_counts(ASK_TIMEOUT)?;
        let partitioning = Partitioning::new(application.plan(), &existing)?;
        let offsets = GroupOffsets::connect(&clients)?;
        Ok(Self { config, clients, topics, partitioning, offsets, existing })
    }

    /// All partitions that there are of what the application reads.
    pub(super) fn inputs(&self) -> Vec<TopicPartition> {
        self.partitions(true)
    }

    /// The same without those of its own topics.
    pub(super) fn sources(&self) -> Vec<TopicPartition> {
        self.partitions(false)
    }

    fn partitions(&self, with_internal: bool) -> Vec<TopicPartition> {
        let inputs = self.partitioning.subscription().filter(|input| with_internal || !input.repartition);
        let existing = inputs.filter(|input| self.existing.contains_key(&*input.full_name));
        let partitions = existing.flat_map(|input| {
            (0..input.partitions).map(|partition| TopicPartition::new(input.full_name.clone(), partition))
        });
        // Two subtopologies may read one topic.
        let once: BTreeSet<_> = partitions.collect();
        once.into_iter().collect()
    }

    /// The application's own topics, as far as they exist.
    pub(super) fn internal_topics(&self) -> Vec<String> {
        let names = self.partitioning.internal_topics().iter().map(|topic| topic.name.clone());
        names.filter(|name| self.existing.contains_key(name)).collect()
    }

    /// Topics that are named like its own, and are not: of a topology it had before, or of an application whose id only
    /// begins the same.
    pub(super) fn similar_topics(&self) -> Vec<String> {
        let own: BTreeSet<&str> = self.partitioning.internal_topics().iter().map(|topic| topic.name.as_str()).collect();
        let prefix = format!("{}-", self.config.application_id);
        let is_similar = |name: &&String| {
            let internal = name.ends_with("-changelog") || name.ends_with("-repartition");
            internal && name.starts_with(&prefix) && !own.contains(name.as_str())
        };
        self.existing.keys().filter(is_similar).cloned().collect()
    }

    /// Which of these topics the brokers show now.
    pub(super) fn left_of(&self, topics: &[String]) -> Result<Vec<String>, Error> {
        let existing = self.topics.partition_counts(ASK_TIMEOUT)?;
        Ok(topics.iter().filter(|topic| existing.contains_key(*topic)).cloned().collect())
    }
}
