//! Owns the processors of a stream, and the names of their nodes. Must not know what they do.

use std::rc::Rc;
use std::sync::Arc;

use super::KStream;
use crate::fixed_key::{FixedKey, FixedKeyProcessor};
use crate::logic::Process;
use crate::options::Serdes;
use crate::processor::Processor;
use crate::rows::{Data, Rows};
use crate::topology::{Kind, Shape, Topology};

impl<K: Data, V: Data> KStream<K, V> {
    /// Sends the records through a [`Processor`], which may use the stores named and forwards any records. The stores are
    /// those that [`crate::StreamsBuilder::add_state_store`] adds, or those of tables; global ones need not be named.
    ///
    /// The keys count as changed after this. [`Self::process_values`] keeps them.
    ///
    /// ```
    /// # use millrace::{TopologyTestDriver, prelude::*};
    /// # let mut builder = StreamsBuilder::new();
    /// /// Forwards each record under its value, too.
    /// struct Both;
    ///
    /// impl Processor<String, String, String, String> for Both {
    ///     fn process(
    ///         &mut self,
    ///         context: &mut ProcessorContext<'_, String, String>,
    ///         record: Record<String, String>,
    ///     ) -> ProcessResult {
    ///         let (key, value) = (record.key.clone(), record.value.clone());
    ///         context.forward(record.clone());
    ///         context.forward(record.with_key(value).with_value(key));
    ///         Ok(())
    ///     }
    /// }
    ///
    /// builder
    ///     .stream("friends", Consumed::with(StringSerde, StringSerde))
    ///     .process(|| Both, &[])
    ///     .to("both", Produced::with(StringSerde, StringSerde));
    /// # let driver = TopologyTestDriver::new(builder.build().unwrap()).unwrap();
    /// # let friends = driver.create_input_topic("friends", StringSerde, StringSerde);
    /// # let both = driver.create_output_topic("both", StringSerde, StringSerde);
    /// friends.pipe_input("ann", "bob");
    /// assert_eq!(both.read_lines(), ["ann:bob", "bob:ann"]);
    /// ```
    #[must_use]
    pub fn process<K2: Data, V2: Data, P: Processor<K, V, K2, V2>>(
        &self,
        supplier: impl Fn() -> P + Send + Sync + 'static,
        stores: &[&str],
    ) -> KStream<K2, V2> {
        let (name, node) = self.add_processor("KSTREAM-PROCESSOR-", supplier, stores);
        KStream::new(&self.graph, name, Serdes::default(), true, node, Rc::clone(&self.origins))
    }

    /// Sends the records through a [`FixedKeyProcessor`], which leaves their keys as they are and may use the stores named,
    /// as in [`Self::process`]. So what follows needs no repartition topic.
    ///
    /// ```
    /// # use millrace::{TopologyTestDriver, prelude::*};
    /// # let mut builder = StreamsBuilder::new();
    /// /// Adds where a record was read from.
    /// struct Trace;
    ///
    /// impl FixedKeyProcessor<String, String, String> for Trace {
    ///     fn process(
    ///         &mut self,
    ///         context: &mut FixedKeyProcessorContext<'_, '_, String, String>,
    ///         mut record: FixedKeyRecord<String, String>,
    ///     ) -> ProcessResult {
    ///         if let Some(place) = context.record_metadata() {
    ///             record.headers.add("from", format!("{}-{}", place.topic, place.partition));
    ///         }
    ///         context.forward(record);
    ///         Ok(())
    ///     }
    /// }
    ///
    /// builder
    ///     .stream("lines", Consumed::with(StringSerde, StringSerde))
    ///     .process_values(|| Trace, &[])
    ///     .to("traced", Produced::with(StringSerde, StringSerde));
    /// # let driver = TopologyTestDriver::new(builder.build().unwrap()).unwrap();
    /// # let lines = driver.create_input_topic("lines", StringSerde, StringSerde);
    /// # let traced = driver.create_output_topic("traced", StringSerde, StringSerde);
    /// lines.pipe_input("a", "x");
    /// assert_eq!(traced.read_record().unwrap().headers.last("from"), Some(&b"lines-0"[..]));
    /// ```
    #[must_use]
    pub fn process_values<V2: Data, P: FixedKeyProcessor<K, V, V2>>(
        &self,
        supplier: impl Fn() -> P + Send + Sync + 'static,
        stores: &[&str],
    ) -> KStream<K, V2> {
        let (name, node) = self.add_processor("KSTREAM-PROCESSVALUES-", move || FixedKey(supplier()), stores);
        KStream::new(&self.graph, name, self.keeping_keys(), self.repartition, node, Rc::clone(&self.origins))
    }

    fn add_processor<K2: Data, V2: Data, P: Processor<K, V, K2, V2>>(
        &self,
        prefix: &str,
        supplier: impl Fn() -> P + Send + Sync + 'static,
        stores: &[&str],
    ) -> (String, usize) {
        let mut graph = self.graph.borrow_mut();
        // The one operator that takes no name off the counter when it is given one.
        let name = match &self.next_name {
            Some(name) => {
                graph.check_name(name);
                name.clone()
            }
            None => graph.generate(prefix),
        };
        let (own, stores) = (name.clone(), stores.iter().map(|store| (*store).to_owned()).collect::<Vec<_>>());
        let write = Box::new(move |topology: &mut Topology, parents: &[String]| {
            let kind = Kind::Inner { logic: Arc::new(Process::new(supplier)) };
            let (takes, gives) = (Shape::of::<Rows<K, V>>(), Shape::of::<Rows<K2, V2>>());
            topology.insert_below(&own, kind, takes, Some(gives), parents)?;
            stores.iter().try_for_each(|store| topology.connect(&own, store))
        });
        let node = graph.add(&[self.node], &name, write);
        (name, node)
    }
}
