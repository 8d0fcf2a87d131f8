//! Owns a Kafka that fits into a test. Must not know what is written to it.

mod cluster;
mod coordinator;
mod producer;

pub(crate) use cluster::{Cluster, Record};
pub(crate) use producer::Producer;
