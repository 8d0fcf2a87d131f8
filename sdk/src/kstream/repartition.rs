//! Owns the detour through a repartition topic: its name, the three nodes it takes and theirs. Must
//! not know what needs it.

use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use super::KStream;
use crate::graph::{Origins, SharedGraph, Write, resolve};
use crate::ktable::KTable;
use crate::logic::{Destination, Filter, Produce, RecordSource};
use crate::options::{Materialized, Partitioner, Repartitioned, Serdes};
use crate::rows::{Data, Rows};
use crate::topology::{Kind, Shape, Topology};

/// What is wanted of a repartition topic.
pub(crate) struct Repartition<K, V> {
    /// The topic's name without `-repartition`.
    pub(crate) prefix: String,
    pub(crate) serdes: Serdes<K, V>,
    pub(crate) partitioner: Option<Partitioner<K, V>>,
    pub(crate) partitions: Option<u32>,
}

/// The node that brings the records back, and what adds it to the topology.
pub(crate) struct RepartitionNode {
    pub(crate) source: String,
    /// The topic, as the source reads it.
    pub(crate) origins: Origins,
    write: Write,
    keeps_null_keys: Arc<AtomicBool>,
}

impl RepartitionNode {
    /// Adds it below a node.
    pub(crate) fn add(self, graph: &SharedGraph, parent: usize) -> usize {
        let mut graph = graph.borrow_mut();
        let node = graph.add(&[parent], &self.source, self.write);
        graph.ask_for_null_keys(node, self.keeps_null_keys);
        node
    }
}

/// Names the nodes of a repartition topic. Generated names are taken off the counter whether they
/// are used or not.
pub(crate) fn repartition_source<K: Data, V: Data>(graph: &SharedGraph, wanted: Repartition<K, V>) -> RepartitionNode {
    let Repartition { prefix, serdes, partitioner, partitions } = wanted;
    let topic = if prefix.ends_with("-repartition") { prefix.clone() } else { format!("{prefix}-repartition") };
    let generated = {
        let mut graph = graph.borrow_mut();
        ["KSTREAM-SINK-", "KSTREAM-FILTER-", "KSTREAM-SOURCE-"].map(|prefix| graph.generate(prefix))
    };
    let [sink, filter, source] = if is_generated(&prefix) {
        generated
    } else {
        ["-sink", "-filter", "-source"].map(|suffix| format!("{topic}{suffix}"))
    };
    let (keys, values) = resolve(graph, &source, &serdes);
    let name = source.clone();
    let origins = Origins::new([topic.clone()].into());
    let keeps_null_keys = Arc::new(AtomicBool::new(false));
    let keeps = Arc::clone(&keeps_null_keys);
    let write = Box::new(move |topology: &mut Topology, parents: &[String]| {
        let shape = Shape::of::<Rows<K, V>>();
        topology.insert_repartition(&topic, partitions);
        let logic = Arc::new(Filter::new(true, move |key: Option<&K>, _: Option<&V>| {
            key.is_some() || keeps.load(Ordering::Relaxed)
        }));
        topology.insert_below(&filter, Kind::Inner { logic }, shape, Some(shape), parents)?;
        let logic = Arc::new(Produce {
            destination: Destination::Topic(topic.clone()),
            keys: Arc::clone(&keys),
            values: Arc::clone(&values),
            partitioner,
            by_inner_key: false,
        });
        topology.insert_below(&sink, Kind::Sink { logic, topic: Some(topic.clone()) }, shape, None, &[filter])?;
        let logic = Arc::new(RecordSource { keys, values, extractor: None });
        let kind = Kind::Source { logic, topics: vec![topic], pattern: None, reset: None };
        topology.insert_source(&name, kind, shape)
    });
    RepartitionNode { source, origins, write, keeps_null_keys }
}

/// Whether a name is `KSTREAM…-` and ten digits.
fn is_generated(prefix: &str) -> bool {
    prefix
        .strip_prefix("KSTREAM")
        .and_then(|rest| rest.rsplit_once('-'))
        .is_some_and(|(_, number)| number.len() == 10 && number.bytes().all(|byte| byte.is_ascii_digit()))
}

impl<K: Data, V: Data> KStream<K, V> {
    /// Sends the records through a repartition topic, so that equal keys meet in one partition, in as many partitions as
    /// `repartitioned` says. The topic is the application's own, `<application.id>-<name>-repartition`; what was processed is
    /// deleted from it. A null key is left out, unless a left or outer join wants it.
    ///
    /// ```
    /// # use millrace::{TopologyTestDriver, prelude::*};
    /// # let mut builder = StreamsBuilder::new();
    /// builder
    ///     .stream("clicks", Consumed::with(StringSerde, StringSerde))
    ///     .select_key(|_, page| page.cloned())
    ///     .repartition(Repartitioned::with(StringSerde, StringSerde).with_name("by-page").with_number_of_partitions(12))
    ///     .to("pages", Produced::default());
    /// # let driver = TopologyTestDriver::new(builder.build().unwrap()).unwrap();
    /// # let clicks = driver.create_input_topic("clicks", StringSerde, StringSerde);
    /// # let pages = driver.create_output_topic("pages", StringSerde, StringSerde);
    /// # let between = driver.create_output_topic("test-application-by-page-repartition", StringSerde, StringSerde);
    /// clicks.pipe_input("ann", "home");
    /// assert_eq!(between.read_lines(), ["home:home"]);
    /// assert_eq!(pages.read_lines(), ["home:home"]);
    /// ```
    #[must_use]
    pub fn repartition(&self, repartitioned: Repartitioned<K, V>) -> Self {
        let name = {
            let mut graph = self.graph.borrow_mut();
            repartitioned.name.clone().unwrap_or_else(|| graph.generate("KSTREAM-REPARTITION-"))
        };
        let serdes = repartitioned.serdes.or(self.serdes.clone());
        let wanted = Repartition {
            prefix: name,
            serdes: serdes.clone(),
            partitioner: repartitioned.partitioner,
            partitions: repartitioned.partitions,
        };
        let created = repartition_source(&self.graph, wanted);
        let (source, origins) = (created.source.clone(), Rc::clone(&created.origins));
        let node = created.add(&self.graph, self.node);
        Self::new(&self.graph, source, serdes, false, node, origins)
    }

    /// The latest value of each key as a table: the records are its updates, a null value deletes, a null key is left out and
    /// counted as dropped. It is kept in a store when that has a name, or when an operator further down needs it; if the key
    /// may have changed the records go through a repartition topic first.
    ///
    /// ```
    /// # use millrace::{TopologyTestDriver, prelude::*};
    /// # let mut builder = StreamsBuilder::new();
    /// builder
    ///     .stream("moves", Consumed::with(StringSerde, StringSerde))
    ///     .map_values(|city| city.to_uppercase())
    ///     .to_table(Materialized::as_("cities").with_value_serde(StringSerde));
    /// # let driver = TopologyTestDriver::new(builder.build().unwrap()).unwrap();
    /// # let moves = driver.create_input_topic("moves", StringSerde, StringSerde);
    /// moves.pipe_key_values([("ann", "Oslo"), ("ann", "Rome")]);
    /// let cities = driver.get_key_value_store::<String, String>("cities").unwrap();
    /// assert_eq!(cities.get(&"ann".to_owned()).as_deref(), Some("ROME"));
    /// ```
    #[must_use]
    pub fn to_table(&self, materialized: Materialized<K, V>) -> KTable<K, V> {
        let (name, store) = {
            let mut graph = self.graph.borrow_mut();
            let name = graph.name(self.next_name.as_deref(), "KSTREAM-TOTABLE-");
            (name, materialized.name.clone().unwrap_or_else(|| graph.generate_store("KSTREAM-TOTABLE-")))
        };
        let serdes = materialized.serdes.clone().or(self.serdes.clone());
        let (mut parent, mut origins) = (self.node, Rc::clone(&self.origins));
        if self.repartition {
            let wanted =
                Repartition { prefix: name.clone(), serdes: serdes.clone(), partitioner: None, partitions: None };
            let created = repartition_source(&self.graph, wanted);
            origins = Rc::clone(&created.origins);
            parent = created.add(&self.graph, self.node);
        }
        KTable::of_stream(&self.graph, (parent, origins), name, store, serdes, &materialized)
    }
}
