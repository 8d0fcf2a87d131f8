//! Owns the suppression of a table's updates, and the names of its node and its store. Must not know how updates wait.

use std::rc::Rc;
use std::sync::Arc;

use super::{KTable, Lineage, Origin};
use crate::contract::Layout;
use crate::graph::{resolve, stored_as};
use crate::logic::{Suppress, SuppressedView, TableState, View};
use crate::options::Materialized;
use crate::rows::{Data, Updates};
use crate::serdes::BytesSerde;
use crate::suppressed::{Suppressed, WhenFull};
use crate::topology::{Kind, Shape, Topology};

const SUPPRESS: &str = "KTABLE-SUPPRESS-";

impl<K: Data, V: Data> KTable<K, V> {
    /// The same table with fewer updates: they wait in a buffer, where a later one of a key takes the place of an earlier
    /// one, until a time limit or until their window is closed. Time is stream time, that of the records that come: without new
    /// records nothing is emitted. The buffer is a store with a changelog, so what waits outlives a restart.
    ///
    /// ```
    /// # use millrace::{TopologyTestDriver, prelude::*};
    /// # use std::time::Duration;
    /// # let mut builder = StreamsBuilder::new();
    /// builder
    ///     .stream("clicks", Consumed::with(StringSerde, StringSerde))
    ///     .group_by_key(Grouped::default())
    ///     .windowed_by(TimeWindows::of_size_with_no_grace(Duration::from_secs(60)))
    ///     .count(Materialized::as_("counts"))
    ///     .suppress(Suppressed::until_window_closes(BufferConfig::unbounded()))
    ///     .to_stream()
    ///     .to("per-minute", Produced::default());
    /// # let driver = TopologyTestDriver::new(builder.build().unwrap()).unwrap();
    /// # let clicks = driver.create_input_topic("clicks", StringSerde, StringSerde);
    /// # let counts = driver.create_output_topic("per-minute", TimeWindowedSerde::new(StringSerde, 60_000), LongSerde);
    /// clicks.pipe_input_at("ada", "home", 1_000);
    /// clicks.pipe_input_at("ada", "help", 2_000);
    /// assert!(counts.is_empty());
    /// clicks.pipe_input_at("bob", "home", 60_000);
    /// assert_eq!(counts.read_lines(), ["[ada@0/60000]:2"]);
    /// ```
    #[must_use]
    pub fn suppress(&self, suppressed: Suppressed<K>) -> Self {
        let Suppressed { name, buffer, wait_ms, time } = suppressed;
        let (node, store) = {
            let mut graph = self.graph.borrow_mut();
            match name {
                Some(name) => {
                    graph.check_name(&name);
                    (name.clone(), format!("{name}-store"))
                }
                None => (graph.generate(SUPPRESS), graph.generate_store(SUPPRESS)),
            }
        };
        let closes = wait_ms.is_none();
        let grace = if closes { self.graph.borrow().grace_ms(self.node) } else { None };
        if closes && grace.is_none() {
            let message = format!("node {node} waits for windows to close, but its table does not come of windows");
            self.graph.borrow_mut().fail(message);
        }
        if closes && buffer.when_full == WhenFull::EmitEarly {
            let message = format!(
                "node {node} waits for windows to close, but its buffer emits early: let it shut_down_when_full()"
            );
            self.graph.borrow_mut().fail(message);
        }
        if self.view.is_versioned() {
            let message = format!("node {node} suppresses a versioned table, which sends what comes late, too");
            self.graph.borrow_mut().fail(message);
        }
        self.lineage.send_old(true);
        let (keys, values) = resolve(&self.graph, &node, &self.serdes);
        let options = Materialized {
            logged: buffer.logged,
            changelog_config: buffer.changelog_config.clone(),
            ..Materialized::<K, Vec<u8>>::default().with_caching_disabled()
        };
        let bytes = Arc::new(BytesSerde) as crate::serdes::SharedSerde<Vec<u8>>;
        let definition = stored_as(Layout::KeyValue, &store, &keys, &bytes, &options);
        let view: Arc<dyn View<K, V>> = Arc::new(SuppressedView {
            parent: Arc::clone(&self.view),
            store: store.clone(),
            keys: keys.clone(),
            values: values.clone(),
        });
        let wait_ms = wait_ms.or(grace).unwrap_or_default();
        let logic = Arc::new(Arc::new(Suppress {
            store: store.clone(),
            keys,
            values,
            time,
            wait_ms,
            buffer,
            drops_tombstones: closes,
        }));
        let own = node.clone();
        let write = Box::new(move |topology: &mut Topology, parents: &[String]| {
            let shape = Shape::of::<Updates<K, V>>();
            topology.insert_below(&own, Kind::Inner { logic }, shape, Some(shape), parents)?;
            topology.insert_store(definition)?;
            topology.connect(&own, &store)
        });
        let node = self.graph.borrow_mut().add(&[self.node], &node, write);
        let state = Arc::new(TableState::default());
        let origin = Origin::Table { parent: Rc::clone(&self.lineage), stored: false };
        let lineage = Rc::new(Lineage { state, origin });
        KTable::new(&self.graph, self.serdes.clone(), node, lineage, view, Rc::clone(&self.origins))
    }
}
