//! Owns what can be said of a foreign-key join of two tables: its name, and how the tables' topics are partitioned. Must not
//! know what meets what.

use std::fmt;
use std::sync::Arc;

/// Chooses the partition of a key among so many; none: by Kafka's default.
pub(crate) type KeyPartitioner<K> = Arc<dyn Fn(&str, Option<&K>, u32) -> Option<i32> + Send + Sync>;

/// How two tables are joined on a foreign key: the name that those of its nodes, its store and its topics begin with, and
/// partitioners where a table's topic is not partitioned by Kafka's default.
///
/// ```
/// # use millrace::{TopologyTestDriver, prelude::*};
/// # let mut builder = StreamsBuilder::new();
/// let authors = builder.table("authors", Consumed::with(StringSerde, StringSerde), Materialized::default());
/// let books = builder.table("books", Consumed::with(StringSerde, StringSerde), Materialized::default());
/// books.join_on_foreign_key(
///     &authors,
///     |_title, author| Some(author.clone()),
///     |_author, name| name.clone(),
///     // All books are in the first partition.
///     TableJoined::as_("by-author").with_partitioner(|_topic, _title, _partitions| Some(0)),
/// );
/// # let driver = TopologyTestDriver::new(builder.build().unwrap()).unwrap();
/// assert!(driver.describe().contains("by-author-subscription-registration"));
/// ```
pub struct TableJoined<K, O> {
    pub(crate) name: Option<String>,
    pub(crate) partitioner: Option<KeyPartitioner<K>>,
    pub(crate) other_partitioner: Option<KeyPartitioner<O>>,
}

impl<K, O> Default for TableJoined<K, O> {
    fn default() -> Self {
        Self { name: None, partitioner: None, other_partitioner: None }
    }
}

impl<K, O> fmt::Debug for TableJoined<K, O> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TableJoined").field("name", &self.name).finish_non_exhaustive()
    }
}

impl<K, O> TableJoined<K, O> {
    /// With this name.
    pub fn as_(name: impl Into<String>) -> Self {
        Self::default().with_name(name)
    }

    /// The same with this name.
    #[must_use]
    pub fn with_name(self, name: impl Into<String>) -> Self {
        Self { name: Some(name.into()), ..self }
    }

    /// The same for a left table whose topic is partitioned by `partitioner`: it is given the topic to be written, a key
    /// and the number of partitions, and answers the partition, or none for Kafka's default.
    #[must_use]
    pub fn with_partitioner(
        self,
        partitioner: impl Fn(&str, Option<&K>, u32) -> Option<i32> + Send + Sync + 'static,
    ) -> Self {
        Self { partitioner: Some(Arc::new(partitioner)), ..self }
    }

    /// The same for the right table; in a left join the key can be null.
    #[must_use]
    pub fn with_other_partitioner(
        self,
        partitioner: impl Fn(&str, Option<&O>, u32) -> Option<i32> + Send + Sync + 'static,
    ) -> Self {
        Self { other_partitioner: Some(Arc::new(partitioner)), ..self }
    }
}
