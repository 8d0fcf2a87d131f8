//! The host: adapters around the core, listed in the order data flows through them.
//! Builds the binary `millrace`.

pub mod config;
pub mod format;
pub mod traces;
pub mod status;
pub mod tls;
pub mod kafka;
pub mod global;
pub mod source;
pub mod worker;
pub mod guest;
pub mod store;
pub mod sink;
pub mod module;
pub mod registry;
pub mod api;
pub mod cli;
pub mod app;
