//! Owns what internal topics are made of: name, partitions and the configs Kafka Streams gives
//! them. Must not know why a topic has that many partitions; `partitioning` does.

use std::collections::BTreeMap;

use super::graph::{Layout, Store};

/// Kafka Streams' default for what a changelog keeps beyond the store, for clocks that differ.
const ADDITIONAL_RETENTION_MS: i64 = 24 * 60 * 60 * 1000;

/// A topic of the application's own: the host creates it, or checks it when it exists.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InternalTopic {
    /// As Kafka knows it.
    pub name: String,
    pub partitions: u32,
    pub configs: BTreeMap<String, String>,
    pub purpose: Purpose,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Purpose {
    Repartition,
    /// Of the store named.
    Changelog(String),
    /// Versions of the module.
    Modules,
}

impl InternalTopic {
    /// Where the versions of the module are: in the first partition what they are, in the second the components.
    #[must_use]
    pub fn modules(application_id: &str) -> Self {
        let configs = [("cleanup.policy", "compact"), ("max.message.bytes", "1048588")];
        let name = format!("{application_id}-modules");
        Self { name, partitions: 2, configs: with_create_time(&configs), purpose: Purpose::Modules }
    }

    pub(super) fn repartition(name: String, partitions: u32) -> Self {
        let configs = [("cleanup.policy", "delete"), ("segment.bytes", "52428800"), ("retention.ms", "-1")];
        Self { name, partitions, configs: with_create_time(&configs), purpose: Purpose::Repartition }
    }

    pub(super) fn changelog(name: String, partitions: u32, store: &Store) -> Self {
        let (policy, ageing) = match &store.layout {
            Layout::KeyValue => ("compact", None),
            Layout::Window(windows) => {
                // No two records of duplicates have one key, so there is nothing to compact.
                let policy = if windows.retain_duplicates { "delete" } else { "compact,delete" };
                (policy, Some(("retention.ms", windows.retention_ms)))
            }
            Layout::Session(retention_ms) => ("compact,delete", Some(("retention.ms", *retention_ms))),
            Layout::Versioned(history_ms) => ("compact", Some(("min.compaction.lag.ms", *history_ms))),
        };
        let mut configs = with_create_time(&[("cleanup.policy", policy)]);
        if let Some((config, kept_ms)) = ageing {
            configs.insert(config.to_owned(), kept_ms.saturating_add(ADDITIONAL_RETENTION_MS).to_string());
        }
        configs.extend(store.changelog_config.iter().cloned());
        Self { name, partitions, configs, purpose: Purpose::Changelog(store.name.clone()) }
    }
}

fn with_create_time(configs: &[(&str, &str)]) -> BTreeMap<String, String> {
    let configs = configs.iter().chain(&[("message.timestamp.type", "CreateTime")]);
    configs.map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::topology::graph::{Format, Windows};

    fn check(layout: Layout, changelog_config: &[(&str, &str)], expected: &str) {
        let changelog_config = changelog_config.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
        let store = Store {
            name: "s".into(),
            layout,
            format: Format::default(),
            persistent: true,
            logged: true,
            cached: false,
            changelog_config,
        };
        let topic = InternalTopic::changelog("app-s-changelog".into(), 3, &store);
        let configs: Vec<String> = topic.configs.iter().map(|(key, value)| format!("{key}={value}")).collect();
        assert_eq!(configs.join(" "), expected);
    }

    #[test]
    fn changelog_configs_follow_the_layout() {
        let windows = |retention_ms| Layout::Window(Windows { size_ms: 1, retention_ms, retain_duplicates: false });
        let time = "message.timestamp.type=CreateTime";
        check(Layout::KeyValue, &[], &format!("cleanup.policy=compact {time}"));
        check(windows(60_000), &[], &format!("cleanup.policy=compact,delete {time} retention.ms=86460000"));
        check(windows(i64::MAX), &[], &format!("cleanup.policy=compact,delete {time} retention.ms={}", i64::MAX));
        let duplicates = Layout::Window(Windows { size_ms: 1, retention_ms: 5, retain_duplicates: true });
        check(duplicates, &[], &format!("cleanup.policy=delete {time} retention.ms=86400005"));
        check(Layout::Session(1), &[], &format!("cleanup.policy=compact,delete {time} retention.ms=86400001"));
        check(Layout::Versioned(5), &[], &format!("cleanup.policy=compact {time} min.compaction.lag.ms=86400005"));
    }

    #[test]
    fn a_stores_own_settings_win() {
        check(
            Layout::Session(1),
            &[("retention.ms", "7"), ("segment.ms", "8"), ("message.timestamp.type", "LogAppendTime")],
            "cleanup.policy=compact,delete message.timestamp.type=LogAppendTime retention.ms=7 segment.ms=8",
        );
    }

    #[test]
    fn a_repartition_topic_keeps_everything_until_it_is_purged() {
        let topic = InternalTopic::repartition("app-x-repartition".into(), 2);
        let configs: Vec<String> = topic.configs.iter().map(|(key, value)| format!("{key}={value}")).collect();
        assert_eq!(
            configs.join(" "),
            "cleanup.policy=delete message.timestamp.type=CreateTime retention.ms=-1 segment.bytes=52428800"
        );
    }
}
