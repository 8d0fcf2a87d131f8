//! The end-to-end tests: `millrace` as a process, on a real Apache Kafka, beside Kafka Streams. One test binary, so that all
//! tests run side by side; each has its own topics and application. Run by `./mill test e2e`.

mod harness;
mod counts;
mod windows;
mod backlog;
mod foreign_keys;
mod versioned;
mod globals;
mod restart;
mod standbys;
mod exactly_once;
mod rebalance;
mod handover;
mod modules;
mod versions;
mod topics;
mod state_directory;
mod faults;
mod operate;
mod tls;
mod traces;
mod cases;
mod brokers;
mod eos;
