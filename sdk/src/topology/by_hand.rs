//! Owns topologies put together node by node. Must not know the DSL.

use std::fmt;
use std::sync::Arc;

use super::{GlobalNodes, Kind, Shape, Topology};
use crate::global_table::check_consumed;
use crate::logic::{Destination, Process, Produce, RecordSource};
use crate::options::{Consumed, Produced, RecordContext};
use crate::processor::Processor;
use crate::rows::{Data, Rows};
use crate::stores::StoreBuilder;

impl fmt::Debug for Topology {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.nodes.iter().map(|node| &node.name)).finish()
    }
}

/// Node by node, parents before their children. The first mistake is told when the topology is
/// exported or given to a test driver.
///
/// ```
/// # use millrace::{TopologyTestDriver, prelude::*};
/// struct Shout;
///
/// impl Processor<String, String, String, String> for Shout {
///     fn process(
///         &mut self,
///         context: &mut ProcessorContext<'_, String, String>,
///         record: Record<String, String>,
///     ) -> ProcessResult {
///         let louder = record.value.as_ref().map(|value| value.to_uppercase());
///         context.forward(record.with_value(louder));
///         Ok(())
///     }
/// }
///
/// fn topology() -> Topology {
///     let mut topology = Topology::new();
///     topology
///         .add_source("lines", ["quiet"], Consumed::with(StringSerde, StringSerde))
///         .add_processor("shout", || Shout, &["lines"])
///         .add_sink("shouted", "loud", Produced::with(StringSerde, StringSerde), &["shout"]);
///     topology
/// }
/// millrace::export!(topology);
///
/// # fn main() {
/// # let driver = TopologyTestDriver::new(topology()).unwrap();
/// # let quiet = driver.create_input_topic("quiet", StringSerde, StringSerde);
/// # let loud = driver.create_output_topic("loud", StringSerde, StringSerde);
/// quiet.pipe_input("a", "hello");
/// assert_eq!(loud.read_lines(), ["a:HELLO"]);
/// # }
/// ```
impl Topology {
    /// Without a node.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a source that reads topics.
    pub fn add_source<K: Data, V: Data, T: Into<String>>(
        &mut self,
        name: &str,
        topics: impl IntoIterator<Item = T>,
        consumed: Consumed<K, V>,
    ) -> &mut Self {
        self.source(name, topics.into_iter().map(Into::into).collect(), None, consumed)
    }

    /// Adds a source that reads all topics whose whole name matches a regular expression.
    pub fn add_source_matching<K: Data, V: Data>(
        &mut self,
        name: &str,
        pattern: impl Into<String>,
        consumed: Consumed<K, V>,
    ) -> &mut Self {
        self.source(name, Vec::new(), Some(pattern.into()), consumed)
    }

    fn source<K: Data, V: Data>(
        &mut self,
        name: &str,
        topics: Vec<String>,
        pattern: Option<String>,
        consumed: Consumed<K, V>,
    ) -> &mut Self {
        self.attempt(|topology| {
            let (keys, values) = (consumed.serdes.keys_of(name)?, consumed.serdes.values_of(name)?);
            let logic = Arc::new(RecordSource { keys, values, extractor: consumed.extractor });
            let kind = Kind::Source { logic, topics, pattern, reset: consumed.reset.map(Into::into) };
            topology.insert_source(name, kind, Shape::of::<Rows<K, V>>())
        })
    }

    /// Adds a processor below its parents, whose records it takes.
    pub fn add_processor<K: Data, V: Data, K2: Data, V2: Data, P: Processor<K, V, K2, V2>>(
        &mut self,
        name: &str,
        supplier: impl Fn() -> P + Send + Sync + 'static,
        parents: &[&str],
    ) -> &mut Self {
        self.attempt(|topology| {
            let kind = Kind::Inner { logic: Arc::new(Process::new(supplier)) };
            let (takes, gives) = (Shape::of::<Rows<K, V>>(), Shape::of::<Rows<K2, V2>>());
            topology.insert_below(name, kind, takes, Some(gives), &owned(parents))
        })
    }

    /// Adds a store that every instance has whole, with the source that reads all partitions of a topic and the processor
    /// that fills the store with their records. All other processors may read it.
    pub fn add_global_store<K: Data, V: Data, SK: Data, SV: Data, P: Processor<K, V, (), ()>>(
        &mut self,
        store: StoreBuilder<SK, SV>,
        source: &str,
        topic: impl Into<String>,
        consumed: Consumed<K, V>,
        processor: &str,
        supplier: impl Fn() -> P + Send + Sync + 'static,
    ) -> &mut Self {
        self.attempt(|topology| {
            check_consumed(source, &consumed)?;
            let (keys, values) = (consumed.serdes.keys_of(source)?, consumed.serdes.values_of(source)?);
            let nodes = GlobalNodes {
                source: source.to_owned(),
                read: Arc::new(RecordSource { keys, values, extractor: None }),
                topic: topic.into(),
                processor: processor.to_owned(),
                logic: Arc::new(Process::new(supplier)),
                gives: Shape::of::<Rows<K, V>>(),
            };
            topology.insert_global(nodes, store.definition())
        })
    }

    /// Adds a sink that writes what its parents forward to a topic.
    pub fn add_sink<K: Data, V: Data>(
        &mut self,
        name: &str,
        topic: impl Into<String>,
        produced: Produced<K, V>,
        parents: &[&str],
    ) -> &mut Self {
        let topic = topic.into();
        self.sink(name, Some(topic.clone()), Destination::Topic(topic), produced, parents)
    }

    /// Adds a sink that writes each record to the topic that `extractor` names.
    pub fn add_sink_by<K: Data, V: Data>(
        &mut self,
        name: &str,
        extractor: impl Fn(Option<&K>, Option<&V>, &RecordContext<'_>) -> String + Send + Sync + 'static,
        produced: Produced<K, V>,
        parents: &[&str],
    ) -> &mut Self {
        self.sink(name, None, Destination::Extract(Box::new(extractor)), produced, parents)
    }

    fn sink<K: Data, V: Data>(
        &mut self,
        name: &str,
        topic: Option<String>,
        destination: Destination<K, V>,
        produced: Produced<K, V>,
        parents: &[&str],
    ) -> &mut Self {
        self.attempt(|topology| {
            let (keys, values) = (produced.serdes.keys_of(name)?, produced.serdes.values_of(name)?);
            let (partitioner, by_inner_key) = (produced.partitioner, false);
            let logic = Arc::new(Produce { destination, keys, values, partitioner, by_inner_key });
            topology.insert_below(name, Kind::Sink { logic, topic }, Shape::of::<Rows<K, V>>(), None, &owned(parents))
        })
    }

    /// Adds a store for processors that are there already.
    ///
    /// ```
    /// # use millrace::{TopologyTestDriver, prelude::*};
    /// struct Count;
    ///
    /// impl Processor<String, String, String, i64> for Count {
    ///     fn process(
    ///         &mut self,
    ///         context: &mut ProcessorContext<'_, String, i64>,
    ///         record: Record<String, String>,
    ///     ) -> ProcessResult {
    ///         let Some(key) = &record.key else { return Ok(()) };
    ///         let mut counts = context.key_value_store::<String, i64>("counts")?;
    ///         let count = counts.get(key)?.unwrap_or(0) + 1;
    ///         counts.put(key, count)?;
    ///         context.forward(record.with_value(Some(count)));
    ///         Ok(())
    ///     }
    /// }
    ///
    /// let mut topology = Topology::new();
    /// topology
    ///     .add_source_matching("lines", "lines-.*", Consumed::with(StringSerde, StringSerde))
    ///     .add_processor("count", || Count, &["lines"])
    ///     .add_state_store(Stores::key_value_store("counts", StringSerde, LongSerde), &["count"])
    ///     .add_sink_by(
    ///         "by-parity",
    ///         |_, count, _| if count.is_some_and(|count| count % 2 == 0) { "even" } else { "odd" }.to_owned(),
    ///         Produced::with(StringSerde, LongSerde),
    ///         &["count"],
    ///     );
    /// # use millrace::TestDriverConfig;
    /// # let config = TestDriverConfig { pattern_topics: vec!["lines-1".to_owned()], ..TestDriverConfig::default() };
    /// # let driver = TopologyTestDriver::with(topology, config).unwrap();
    /// # let lines = driver.create_input_topic("lines-1", StringSerde, StringSerde);
    /// # let even = driver.create_output_topic("even", StringSerde, LongSerde);
    /// lines.pipe_key_values([("a", "x"), ("a", "y")]);
    /// assert_eq!(even.read_lines(), ["a:2"]);
    /// ```
    pub fn add_state_store<K: Data, V: Data>(&mut self, store: StoreBuilder<K, V>, processors: &[&str]) -> &mut Self {
        self.attempt(|topology| {
            let definition = store.definition();
            let name = definition.declared.name.clone();
            topology.insert_store(definition)?;
            processors.iter().try_for_each(|processor| topology.connect(processor, &name))
        })
    }

    /// Gives a processor stores that are there already.
    pub fn connect_processor_and_state_stores(&mut self, processor: &str, stores: &[&str]) -> &mut Self {
        self.attempt(|topology| stores.iter().try_for_each(|store| topology.connect(processor, store)))
    }

    fn attempt(&mut self, step: impl FnOnce(&mut Self) -> Result<(), String>) -> &mut Self {
        if self.error.is_none() {
            self.error = step(self).err();
        }
        self
    }
}

fn owned(names: &[&str]) -> Vec<String> {
    names.iter().map(|name| (*name).to_owned()).collect()
}
