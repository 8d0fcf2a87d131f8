//! What the end-to-end tests and the bench are made of: a real Apache Kafka, its topics and records, and the processes that
//! run on it, Millrace and its peer in Kafka Streams. Knows the command line, the topics and the log lines of `millrace`,
//! and nothing of its insides.

pub mod setting;
pub mod wait;
pub mod kafka;
pub mod topics;
pub mod records;
pub mod group;
pub mod counts;
pub mod process;
pub mod http;
pub mod app;
pub mod peer;
pub mod eos;
pub mod in_turn;
pub mod smoke;
pub mod relational;
