//! Owns `transform_values` of a table, and the names it takes. Must not know how the function is called.

use std::marker::PhantomData;
use std::sync::Arc;

use super::KTable;
use crate::logic::{StoreView, TableState, TableStore, Transform, TransformedView, View};
use crate::options::{Materialized, Serdes};
use crate::processor::{ProcessResult, ProcessorContext};
use crate::rows::Data;

const TRANSFORM_VALUES: &str = "KTABLE-TRANSFORMVALUES-";

impl<K: Data, V: Data> KTable<K, V> {
    /// Other values for the same keys, made by a function that may look into stores and change them: those named, which
    /// [`crate::StreamsBuilder::add_state_store`] adds. None as an answer: the key is not in this table.
    ///
    /// The function is called for deletions, too, with no value. It can't forward records and has no punctuations; what
    /// it has to remember belongs into its stores. If the table is looked into, by a join for example, or has to tell
    /// old values, it is called again for the values of the table before; keep the result
    /// ([`Self::transform_values_materialized`]) where it must be called once per update.
    ///
    /// ```
    /// # use millrace::{TopologyTestDriver, prelude::*};
    /// # let mut builder = StreamsBuilder::new();
    /// // How much each price has changed since the last time.
    /// builder.add_state_store(Stores::key_value_store("last", StringSerde, LongSerde));
    /// builder
    ///     .table("prices", Consumed::with(StringSerde, LongSerde), Materialized::default())
    ///     .transform_values(
    ///         |context, product, price| {
    ///             let mut last = context.key_value_store::<String, i64>("last")?;
    ///             let Some(price) = price else {
    ///                 last.delete(product)?;
    ///                 return Ok(None);
    ///             };
    ///             let change = price - last.get(product)?.unwrap_or(0);
    ///             last.put(product, *price)?;
    ///             Ok(Some(change))
    ///         },
    ///         &["last"],
    ///     )
    ///     .to_stream()
    ///     .to("changes", Produced::default());
    /// # let driver = TopologyTestDriver::new(builder.build().unwrap()).unwrap();
    /// # let prices = driver.create_input_topic("prices", StringSerde, LongSerde);
    /// # let changes = driver.create_output_topic("changes", StringSerde, LongSerde);
    /// prices.pipe_key_values([("tea", 5), ("tea", 7)]);
    /// assert_eq!(changes.read_lines(), ["tea:5", "tea:2"]);
    /// ```
    #[must_use]
    pub fn transform_values<R: Data>(
        &self,
        transformer: impl Fn(&mut ProcessorContext<'_, (), ()>, &K, Option<&V>) -> ProcessResult<Option<R>>
        + Send
        + Sync
        + 'static,
        stores: &[&str],
    ) -> KTable<K, R> {
        self.transformed(transformer, None, stores)
    }

    /// As [`Self::transform_values`], kept in a store of its own if `materialized` has a name.
    ///
    /// ```
    /// # use millrace::{TopologyTestDriver, prelude::*};
    /// # let mut builder = StreamsBuilder::new();
    /// builder
    ///     .table("names", Consumed::with(StringSerde, StringSerde), Materialized::default())
    ///     .transform_values_materialized(
    ///         |context, _id, name: Option<&String>| {
    ///             Ok(name.map(|name| format!("{name}, task {}", context.task_id())))
    ///         },
    ///         Materialized::as_("labels").with_value_serde(StringSerde),
    ///         &[],
    ///     );
    /// # let driver = TopologyTestDriver::new(builder.build().unwrap()).unwrap();
    /// # let names = driver.create_input_topic("names", StringSerde, StringSerde);
    /// names.pipe_input("c1", "Ada");
    /// let labels = driver.get_key_value_store::<String, String>("labels").unwrap();
    /// assert_eq!(labels.get(&"c1".to_owned()).as_deref(), Some("Ada, task 0_0"));
    /// ```
    #[must_use]
    pub fn transform_values_materialized<R: Data>(
        &self,
        transformer: impl Fn(&mut ProcessorContext<'_, (), ()>, &K, Option<&V>) -> ProcessResult<Option<R>>
        + Send
        + Sync
        + 'static,
        materialized: Materialized<K, R>,
        stores: &[&str],
    ) -> KTable<K, R> {
        self.transformed(transformer, Some(materialized), stores)
    }

    fn transformed<R: Data>(
        &self,
        transformer: impl Fn(&mut ProcessorContext<'_, (), ()>, &K, Option<&V>) -> ProcessResult<Option<R>>
        + Send
        + Sync
        + 'static,
        materialized: Option<Materialized<K, R>>,
        stores: &[&str],
    ) -> KTable<K, R> {
        let name = self.graph.borrow_mut().name(self.next_name.as_deref(), TRANSFORM_VALUES);
        let inherited = Serdes { keys: self.serdes.keys.clone(), values: None };
        let serdes = materialized.as_ref().map(|it| it.serdes.clone()).unwrap_or_default().or(inherited);
        let state = Arc::new(TableState::default());
        let (store, definition) = self.own_store(&name, &serdes, materialized, &state).unzip();
        let transformer = Arc::new(transformer);
        let stores: Vec<String> = stores.iter().map(|store| (*store).to_owned()).collect();
        let view: Arc<dyn View<K, R>> = match &store {
            Some(TableStore { name, keys, values, history_ms, .. }) => StoreView::of(name, keys, values, *history_ms),
            None => Arc::new(TransformedView {
                parent: Arc::clone(&self.view),
                transformer: Arc::clone(&transformer),
                stores: stores.clone(),
            }),
        };
        let logic = Arc::new(Transform { transformer, store, state: Arc::clone(&state), types: PhantomData });
        self.followed_by((name, logic), (definition, stores), serdes, state, view)
    }
}
