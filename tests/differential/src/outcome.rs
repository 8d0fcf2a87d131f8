//! Owns what came of a case on one side, in the form both sides are brought to.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::case::Header;

#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Outcome {
    pub name: String,
    /// What `Topology#describe` prints.
    #[serde(default)]
    pub describe: String,
    /// Of each topic of the application's own, its settings.
    #[serde(default, rename = "internalTopics")]
    pub internal_topics: BTreeMap<String, BTreeMap<String, String>>,
    /// Of each topic that was written, by its full name, the records in order.
    #[serde(default)]
    pub topics: BTreeMap<String, Vec<Written>>,
    /// Of each store, the entries in key order.
    #[serde(default)]
    pub stores: BTreeMap<String, Vec<Entry>>,
    /// Of each versioned store, for how many milliseconds it keeps what was. Only our side says it.
    #[serde(default)]
    pub histories: BTreeMap<String, i64>,
    /// Why there is nothing else.
    #[serde(default)]
    pub error: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Written {
    #[serde(with = "crate::hex::optional")]
    pub key: Option<Vec<u8>>,
    #[serde(with = "crate::hex::optional")]
    pub value: Option<Vec<u8>>,
    pub timestamp: i64,
    pub headers: Vec<Header>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    #[serde(with = "crate::hex::optional")]
    pub key: Option<Vec<u8>>,
    #[serde(with = "crate::hex::optional")]
    pub value: Option<Vec<u8>>,
    /// None: the store keeps none.
    pub timestamp: Option<i64>,
}
