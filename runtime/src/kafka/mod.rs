//! Owns what all Kafka clients share: settings, error classes, topics. Must not know of tasks.
