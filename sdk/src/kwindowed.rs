//! Owns the windowed streams: the aggregations of a grouped stream in windows, and the names of their nodes and stores.
//! Must not know how records find their windows.

use std::marker::PhantomData;
use std::sync::Arc;

use crate::contract::{Layout, Windows};
use crate::graph::{SharedGraph, stored_as};
use crate::kcogrouped::{CogroupedKStream, SessionWindowedCogroupedKStream, TimeWindowedCogroupedKStream};
use crate::kgrouped::{AGGREGATE, Aggregation, KGroupedStream, REDUCE, never_null, reducing};
use crate::ktable::KTable;
use crate::logic::{
    Aggregate, AggregateSessions, AggregateSliding, AggregateWindows, Closes, Count, Fold, Logic, Step, StoreView,
    TableState, TableStore, View,
};
use crate::options::{Materialized, Named, Serdes};
use crate::rows::Data;
use crate::serdes::{SessionWindowedSerde, SharedSerde, TimeWindowedSerde};
use crate::topology::StoreDefinition;
use crate::windows::{
    EmitStrategy, FixedWindows, SessionWindows, SlidingWindows, TimeWindows, UnlimitedWindows, Windowed,
};

/// The kinds of windows a grouped stream can be cut into, see [`KGroupedStream::windowed_by`].
pub trait WindowedBy<K, V>: sealed::Sealed {
    /// What comes of it.
    type Stream;
    /// What comes of several grouped streams with one aggregate.
    type Cogrouped;
    #[doc(hidden)]
    fn cut(self, grouped: &KGroupedStream<K, V>) -> Self::Stream;
    #[doc(hidden)]
    fn cut_cogrouped(self, cogrouped: &CogroupedKStream<K, V>) -> Self::Cogrouped;
}

mod sealed {
    use crate::windows::{SessionWindows, SlidingWindows, TimeWindows, UnlimitedWindows};

    pub trait Sealed {}
    impl Sealed for TimeWindows {}
    impl Sealed for UnlimitedWindows {}
    impl Sealed for SlidingWindows {}
    impl Sealed for SessionWindows {}
}

macro_rules! windowed_by {
    ($($windows:ident => $stream:ident, $cogrouped:ident of $kind:expr),* $(,)?) => {$(
        impl<K: Data, V: Data> WindowedBy<K, V> for $windows {
            type Stream = $stream<K, V>;
            type Cogrouped = $cogrouped<K, V>;

            fn cut(self, grouped: &KGroupedStream<K, V>) -> Self::Stream {
                $stream { grouped: grouped.clone(), windows: $kind(self), emit: EmitStrategy::default() }
            }

            fn cut_cogrouped(self, cogrouped: &CogroupedKStream<K, V>) -> Self::Cogrouped {
                $cogrouped { cogrouped: cogrouped.clone(), windows: $kind(self) }
            }
        }
    )*};
}
windowed_by!(
    TimeWindows => TimeWindowedKStream, TimeWindowedCogroupedKStream of |windows| Kind::Fixed(FixedWindows::from(windows)),
    UnlimitedWindows => TimeWindowedKStream, TimeWindowedCogroupedKStream of |windows| Kind::Fixed(FixedWindows::from(windows)),
    SlidingWindows => TimeWindowedKStream, TimeWindowedCogroupedKStream of Kind::Sliding,
    SessionWindows => SessionWindowedKStream, SessionWindowedCogroupedKStream of std::convert::identity,
);

#[derive(Debug, Clone, Copy)]
pub(crate) enum Kind {
    Fixed(FixedWindows),
    Sliding(SlidingWindows),
}

/// A grouped stream cut into windows by time, to be aggregated into a table of keys and windows: a window store with a
/// changelog, which keeps windows as long as they can change, or longer ([`Materialized::with_retention`]).
///
/// Each update of a window goes on at once, or at the next commit if the table is cached. Records whose windows are
/// closed are left out and counted as dropped; so are those with a null key, and those with a null value, which
/// only `count` of windows other than sliding ones counts.
#[derive(Debug)]
pub struct TimeWindowedKStream<K, V> {
    grouped: KGroupedStream<K, V>,
    windows: Kind,
    emit: EmitStrategy,
}

impl<K: Data, V: Data> TimeWindowedKStream<K, V> {
    /// The same stream; the next aggregation's node gets this name instead of a generated one.
    #[must_use]
    pub fn named(&self, name: impl Into<Named>) -> Self {
        Self { grouped: self.grouped.named(name), windows: self.windows, emit: self.emit }
    }

    /// The same stream; when results of the aggregations go on is as given: each update, or each window once when it is
    /// closed: at the first record of any key that comes from so late. An unlimited window never closes.
    ///
    /// ```
    /// # use millrace::{TopologyTestDriver, prelude::*};
    /// # use std::time::Duration;
    /// # let mut builder = StreamsBuilder::new();
    /// builder
    ///     .stream("clicks", Consumed::with(StringSerde, StringSerde))
    ///     .group_by_key(Grouped::default())
    ///     .windowed_by(TimeWindows::of_size_with_no_grace(Duration::from_secs(60)))
    ///     .emit_strategy(EmitStrategy::OnWindowClose)
    ///     .count(Materialized::as_("counts"))
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
    pub fn emit_strategy(&self, emit: EmitStrategy) -> Self {
        if let Kind::Fixed(windows) = self.windows
            && windows.is_unlimited()
            && emit == EmitStrategy::OnWindowClose
        {
            let message = "an unlimited window never closes: its results can't go on when it does";
            self.grouped.graph.borrow_mut().fail(message);
        }
        Self { grouped: self.grouped.clone(), windows: self.windows, emit }
    }

    /// How many records there were of each key in each window.
    ///
    /// ```
    /// # use millrace::{TopologyTestDriver, prelude::*};
    /// # use std::time::Duration;
    /// # let mut builder = StreamsBuilder::new();
    /// builder
    ///     .stream("clicks", Consumed::with(StringSerde, StringSerde))
    ///     .group_by_key(Grouped::default())
    ///     .windowed_by(TimeWindows::of_size_and_grace(Duration::from_secs(60), Duration::from_secs(5)))
    ///     .count(Materialized::as_("counts"));
    /// # let driver = TopologyTestDriver::new(builder.build().unwrap()).unwrap();
    /// # let clicks = driver.create_input_topic("clicks", StringSerde, StringSerde);
    /// clicks.pipe_input_at("ann", "home", 59_000);
    /// clicks.pipe_input_at("ann", "help", 64_999);
    /// clicks.pipe_input_at("ann", "late, in time", 58_000);
    /// clicks.pipe_input_at("bob", "home", 65_000);
    /// clicks.pipe_input_at("ann", "too late", 58_000);
    /// let counts = driver.get_window_store::<String, i64>("counts").unwrap();
    /// assert_eq!(counts.fetch_range(&"ann".to_owned(), ..), [(0, 2), (60_000, 1)]);
    /// ```
    pub fn count(&self, materialized: Materialized<K, i64>) -> KTable<Windowed<K>, i64> {
        if matches!(self.windows, Kind::Fixed(_)) {
            self.grouped.skip_name(&materialized);
        }
        let serdes = self.grouped.count_serdes(&materialized);
        match self.windows {
            Kind::Fixed(windows) => self.fold_fixed(AGGREGATE, windows, serdes, materialized, || Some(0), Count),
            Kind::Sliding(windows) => self.fold_sliding(AGGREGATE, windows, serdes, materialized, || Some(0), Count),
        }
    }

    /// Joins the values of each key and window into one: the first is taken as it is, `reducer` joins each further one
    /// to it.
    ///
    /// ```
    /// # use millrace::{TopologyTestDriver, prelude::*};
    /// # use std::time::Duration;
    /// # let mut builder = StreamsBuilder::new();
    /// builder
    ///     .stream("temperatures", Consumed::with(StringSerde, DoubleSerde))
    ///     .group_by_key(Grouped::default())
    ///     .windowed_by(TimeWindows::of_size_with_no_grace(Duration::from_secs(60)))
    ///     .reduce(|highest, now| highest.max(*now), Materialized::as_("highest"));
    /// # let driver = TopologyTestDriver::new(builder.build().unwrap()).unwrap();
    /// # let temperatures = driver.create_input_topic("temperatures", StringSerde, DoubleSerde);
    /// temperatures.pipe_input_at("attic", 20.5, 0);
    /// temperatures.pipe_input_at("attic", 19.0, 1_000);
    /// assert_eq!(driver.get_window_store("highest").unwrap().fetch(&"attic".to_owned(), 0), Some(20.5));
    /// ```
    pub fn reduce(
        &self,
        reducer: impl Fn(V, &V) -> V + Send + Sync + 'static,
        materialized: Materialized<K, V>,
    ) -> KTable<Windowed<K>, V> {
        self.reduce_nullable(move |joined, value| Some(reducer(joined, value)), materialized)
    }

    /// As [`Self::reduce`]; none deletes the window, and its next value is the first again.
    ///
    /// ```
    /// # use millrace::{TopologyTestDriver, prelude::*};
    /// # use std::time::Duration;
    /// # let mut builder = StreamsBuilder::new();
    /// builder
    ///     .stream("items", Consumed::with(StringSerde, LongSerde))
    ///     .group_by_key(Grouped::default())
    ///     .windowed_by(TimeWindows::of_size_with_no_grace(Duration::from_secs(60)))
    ///     .reduce_nullable(|sum, item| (*item != 0).then(|| sum + item), Materialized::as_("baskets"));
    /// # let driver = TopologyTestDriver::new(builder.build().unwrap()).unwrap();
    /// # let items = driver.create_input_topic("items", StringSerde, LongSerde);
    /// items.pipe_key_values([("ann", 5), ("bob", 2), ("ann", 0)]);
    /// let baskets = driver.get_window_store::<String, i64>("baskets").unwrap();
    /// assert_eq!((baskets.fetch(&"ann".to_owned(), 0), baskets.fetch(&"bob".to_owned(), 0)), (None, Some(2)));
    /// ```
    pub fn reduce_nullable(
        &self,
        reducer: impl Fn(V, &V) -> Option<V> + Send + Sync + 'static,
        materialized: Materialized<K, V>,
    ) -> KTable<Windowed<K>, V> {
        self.fold(REDUCE, self.grouped.serdes.clone(), materialized, || None, reducing(reducer))
    }

    /// Folds the values of each key and window into an aggregate of any type, which begins as `initializer` says.
    ///
    /// ```
    /// # use millrace::{TopologyTestDriver, prelude::*};
    /// # use std::time::Duration;
    /// # let mut builder = StreamsBuilder::new();
    /// builder
    ///     .stream("orders", Consumed::with(StringSerde, DoubleSerde))
    ///     .group_by_key(Grouped::default())
    ///     .windowed_by(TimeWindows::of_size_with_no_grace(Duration::from_secs(60)))
    ///     .aggregate(|| 0.0, |_shop, price, sum| sum + price, Materialized::as_("sums"));
    /// # let driver = TopologyTestDriver::new(builder.build().unwrap()).unwrap();
    /// # let orders = driver.create_input_topic("orders", StringSerde, DoubleSerde);
    /// orders.pipe_input_at("north", 2.5, 0);
    /// orders.pipe_input_at("north", 1.5, 59_999);
    /// assert_eq!(driver.get_window_store("sums").unwrap().fetch(&"north".to_owned(), 0), Some(4.0));
    /// ```
    pub fn aggregate<A: Data>(
        &self,
        initializer: impl Fn() -> A + Send + Sync + 'static,
        aggregator: impl Fn(&K, &V, A) -> A + Send + Sync + 'static,
        materialized: Materialized<K, A>,
    ) -> KTable<Windowed<K>, A> {
        self.aggregate_nullable(move || Some(initializer()), never_null(aggregator), materialized)
    }

    /// As [`Self::aggregate`] with aggregates that may be null; none deletes the window, whose next value begins anew.
    ///
    /// ```
    /// # use millrace::{TopologyTestDriver, prelude::*};
    /// # use std::time::Duration;
    /// # let mut builder = StreamsBuilder::new();
    /// builder
    ///     .stream("items", Consumed::with(StringSerde, LongSerde))
    ///     .group_by_key(Grouped::default())
    ///     .windowed_by(TimeWindows::of_size_with_no_grace(Duration::from_secs(60)))
    ///     .aggregate_nullable(
    ///         || Some(0),
    ///         |_who, item, sum| (*item != 0).then(|| sum.unwrap_or(0) + item),
    ///         Materialized::as_("baskets").with_value_serde(LongSerde),
    ///     );
    /// # let driver = TopologyTestDriver::new(builder.build().unwrap()).unwrap();
    /// # let items = driver.create_input_topic("items", StringSerde, LongSerde);
    /// items.pipe_key_values([("ann", 5), ("ann", 0)]);
    /// assert_eq!(driver.get_window_store::<String, i64>("baskets").unwrap().fetch(&"ann".to_owned(), 0), None);
    /// ```
    pub fn aggregate_nullable<A: Data>(
        &self,
        initializer: impl Fn() -> Option<A> + Send + Sync + 'static,
        aggregator: impl Fn(&K, &V, Option<A>) -> Option<A> + Send + Sync + 'static,
        materialized: Materialized<K, A>,
    ) -> KTable<Windowed<K>, A> {
        let serdes = Serdes { keys: self.grouped.serdes.keys.clone(), values: None };
        self.fold(AGGREGATE, serdes, materialized, initializer, aggregator)
    }

    fn fold<A: Data>(
        &self,
        prefix: &str,
        inherited: Serdes<K, A>,
        materialized: Materialized<K, A>,
        start: impl Fn() -> Option<A> + Send + Sync + 'static,
        step: impl Fn(&K, &V, Option<A>) -> Option<A> + Send + Sync + 'static,
    ) -> KTable<Windowed<K>, A> {
        match self.windows {
            Kind::Fixed(windows) => {
                let step = move |key: &Windowed<K>, value: &V, old| step(&key.key, value, old);
                self.fold_fixed(prefix, windows, inherited, materialized, start, Fold(step))
            }
            Kind::Sliding(windows) => self.fold_sliding(prefix, windows, inherited, materialized, start, Fold(step)),
        }
    }

    fn fold_fixed<A: Data>(
        &self,
        prefix: &str,
        windows: FixedWindows,
        inherited: Serdes<K, A>,
        materialized: Materialized<K, A>,
        start: impl Fn() -> Option<A> + Send + Sync + 'static,
        step: impl Step<Windowed<K>, V, A> + 'static,
    ) -> KTable<Windowed<K>, A> {
        let span = Span::from(windows);
        let closes = self.emit.closes(Closes::Fixed(windows));
        let made = |_, store, state| {
            let aggregate = Aggregate { store, state, start, step, types: PhantomData };
            Arc::new(AggregateWindows { windows, aggregate, closes }) as Arc<dyn Logic>
        };
        self.attach(prefix, windows.check(), span, inherited, materialized, made)
    }

    fn fold_sliding<A: Data>(
        &self,
        prefix: &str,
        windows: SlidingWindows,
        inherited: Serdes<K, A>,
        materialized: Materialized<K, A>,
        start: impl Fn() -> Option<A> + Send + Sync + 'static,
        step: impl Step<K, V, A> + 'static,
    ) -> KTable<Windowed<K>, A> {
        let closes = self.emit.closes(Closes::Sliding(windows));
        let made = |inner, store, state| {
            let types = PhantomData;
            Arc::new(AggregateSliding { windows, inner, store, state, start, step, closes, types }) as Arc<dyn Logic>
        };
        self.attach(prefix, windows.check(), Span::from(windows), inherited, materialized, made)
    }

    fn attach<A: Data>(
        &self,
        prefix: &str,
        checked: Result<(), String>,
        span: Span,
        inherited: Serdes<K, A>,
        materialized: Materialized<K, A>,
        made: impl FnOnce(SharedSerde<K>, TableStore<Windowed<K>, A>, Arc<TableState>) -> Arc<dyn Logic>,
    ) -> KTable<Windowed<K>, A> {
        let materialized = self.emit.kept(materialized);
        let Aggregation { store, node, serdes, keys, values } =
            self.grouped.name_aggregation(prefix, inherited, &materialized);
        let retention_ms = retention(&self.grouped.graph, &node, checked, span.least_ms, &materialized);
        let Kept { store, definition, view, written } =
            Kept::in_windows(span.size_ms, retention_ms, store, (&keys, values), &materialized);
        let serdes = Serdes { keys: Some(written), values: serdes.values };
        let state = Arc::new(TableState::default());
        let logic = made(keys, store, Arc::clone(&state));
        self.grouped.attach(node, definition, (state, Some(span.grace_ms)), logic, serdes, view)
    }
}

impl EmitStrategy {
    fn closes(self, closes: Closes) -> Option<Closes> {
        (self == Self::OnWindowClose).then_some(closes)
    }

    /// Nothing is to be flushed where results go on once.
    fn kept<K, V>(self, materialized: Materialized<K, V>) -> Materialized<K, V> {
        Materialized { cached: materialized.cached && self == Self::OnWindowUpdate, ..materialized }
    }
}

/// How a table of windows is kept.
pub(crate) struct Kept<K, A> {
    pub(crate) store: TableStore<Windowed<K>, A>,
    pub(crate) definition: StoreDefinition,
    pub(crate) view: Arc<dyn View<Windowed<K>, A>>,
    /// The form of its keys in topics.
    pub(crate) written: SharedSerde<Windowed<K>>,
}

impl<K: Data, A: Data> Kept<K, A> {
    /// In windows that are all so long.
    pub(crate) fn in_windows(
        size_ms: i64,
        retention_ms: i64,
        store: String,
        (keys, values): (&SharedSerde<K>, SharedSerde<A>),
        materialized: &Materialized<K, A>,
    ) -> Self {
        let layout = Layout::Window(Windows { size_ms, retention_ms, retain_duplicates: false });
        let stored: SharedSerde<Windowed<K>> = Arc::new(TimeWindowedSerde::of_store(keys.clone(), size_ms));
        let written = Arc::new(TimeWindowedSerde::of_topic(keys.clone(), size_ms));
        Self::laid_out(layout, store, (stored, values), written, materialized)
    }

    pub(crate) fn in_sessions(
        retention_ms: i64,
        store: String,
        (keys, values): (&SharedSerde<K>, SharedSerde<A>),
        materialized: &Materialized<K, A>,
    ) -> Self {
        let written: SharedSerde<Windowed<K>> = Arc::new(SessionWindowedSerde::of(keys.clone()));
        Self::laid_out(Layout::Session(retention_ms), store, (Arc::clone(&written), values), written, materialized)
    }

    fn laid_out(
        layout: Layout,
        name: String,
        (keys, values): (SharedSerde<Windowed<K>>, SharedSerde<A>),
        written: SharedSerde<Windowed<K>>,
        materialized: &Materialized<K, A>,
    ) -> Self {
        let definition = stored_as(layout, &name, &keys, &values, materialized);
        let view = StoreView::of(&name, &keys, &values, None);
        let store = TableStore { name, keys, values, cached: materialized.cached, history_ms: None };
        Self { store, definition, view, written }
    }
}

/// How long a window is, how long it can change at most from its start on, and how long from its end on.
pub(crate) struct Span {
    pub(crate) size_ms: i64,
    pub(crate) least_ms: i64,
    pub(crate) grace_ms: i64,
}

impl From<FixedWindows> for Span {
    fn from(FixedWindows { size_ms, grace_ms, .. }: FixedWindows) -> Self {
        Self { size_ms, least_ms: size_ms.saturating_add(grace_ms), grace_ms }
    }
}

impl From<SlidingWindows> for Span {
    fn from(SlidingWindows { difference_ms, grace_ms }: SlidingWindows) -> Self {
        Self { size_ms: difference_ms, least_ms: difference_ms.saturating_mul(2).saturating_add(grace_ms), grace_ms }
    }
}

/// How long the store keeps entries.
pub(crate) fn retention<K, A>(
    graph: &SharedGraph,
    node: &str,
    checked: Result<(), String>,
    least_ms: i64,
    materialized: &Materialized<K, A>,
) -> i64 {
    let retention_ms = materialized.retention_ms.unwrap_or(least_ms);
    let kept = if materialized.is_versioned() {
        Err("keeps versions, which windows don't have: give it another store".to_owned())
    } else if retention_ms < least_ms {
        Err(format!("keeps windows for {retention_ms} ms, but they can change for {least_ms} ms: keep them that long"))
    } else {
        Ok(())
    };
    if let Err(message) = checked.and(kept) {
        graph.borrow_mut().fail(format!("node {node}: {message}"));
    }
    retention_ms
}

/// A grouped stream cut into sessions, to be aggregated into a table of keys and sessions.
///
/// When a record joins sessions to one, those that were are deleted from the table. Records that come too late for any
/// open session are left out and counted as dropped; so are those with a null key, and those with a null value, which
/// only `count` counts.
#[derive(Debug)]
pub struct SessionWindowedKStream<K, V> {
    grouped: KGroupedStream<K, V>,
    windows: SessionWindows,
    emit: EmitStrategy,
}

impl<K: Data, V: Data> SessionWindowedKStream<K, V> {
    /// The same stream; the next aggregation's node gets this name instead of a generated one.
    #[must_use]
    pub fn named(&self, name: impl Into<Named>) -> Self {
        Self { grouped: self.grouped.named(name), windows: self.windows, emit: self.emit }
    }

    /// The same stream; when results of the aggregations go on is as given, see [`TimeWindowedKStream::emit_strategy`]. With
    /// [`EmitStrategy::OnWindowClose`] a session goes on once, when no record can make it grow any more.
    ///
    /// ```
    /// # use millrace::{TopologyTestDriver, prelude::*};
    /// # use std::time::Duration;
    /// # let mut builder = StreamsBuilder::new();
    /// builder
    ///     .stream("clicks", Consumed::with(StringSerde, StringSerde))
    ///     .group_by_key(Grouped::default())
    ///     .windowed_by(SessionWindows::of_inactivity_gap_with_no_grace(Duration::from_secs(30)))
    ///     .emit_strategy(EmitStrategy::OnWindowClose)
    ///     .count(Materialized::as_("visits"))
    ///     .to_stream()
    ///     .to("visits", Produced::default());
    /// # let driver = TopologyTestDriver::new(builder.build().unwrap()).unwrap();
    /// # let clicks = driver.create_input_topic("clicks", StringSerde, StringSerde);
    /// # let visits = driver.create_output_topic("visits", SessionWindowedSerde::new(StringSerde), LongSerde);
    /// clicks.pipe_input_at("ann", "home", 0);
    /// clicks.pipe_input_at("ann", "help", 20_000);
    /// clicks.pipe_input_at("bob", "home", 90_000);
    /// assert_eq!(visits.read_lines(), ["[ann@0/20000]:2"]);
    /// ```
    #[must_use]
    pub fn emit_strategy(&self, emit: EmitStrategy) -> Self {
        Self { grouped: self.grouped.clone(), windows: self.windows, emit }
    }

    /// How many records there were of each key in each session. A session that grows or is joined to another one is deleted,
    /// and the new one follows.
    ///
    /// ```
    /// # use millrace::{TopologyTestDriver, prelude::*};
    /// # use std::time::Duration;
    /// # let mut builder = StreamsBuilder::new();
    /// builder
    ///     .stream("clicks", Consumed::with(StringSerde, StringSerde))
    ///     .group_by_key(Grouped::default())
    ///     .windowed_by(SessionWindows::of_inactivity_gap_with_no_grace(Duration::from_secs(30)))
    ///     .count(Materialized::as_("visits"))
    ///     .to_stream()
    ///     .to("visits", Produced::default());
    /// # let driver = TopologyTestDriver::new(builder.build().unwrap()).unwrap();
    /// # let clicks = driver.create_input_topic("clicks", StringSerde, StringSerde);
    /// # let visits = driver.create_output_topic("visits", SessionWindowedSerde::new(StringSerde), LongSerde);
    /// clicks.pipe_input_at("ann", "home", 0);
    /// clicks.pipe_input_at("ann", "help", 20_000);
    /// clicks.pipe_input_at("ann", "home", 90_000);
    /// assert_eq!(visits.read_lines(), ["[ann@0/0]:1", "[ann@0/0]:null", "[ann@0/20000]:2", "[ann@90000/90000]:1"]);
    /// ```
    pub fn count(&self, materialized: Materialized<K, i64>) -> KTable<Windowed<K>, i64> {
        self.grouped.skip_name(&materialized);
        let serdes = self.grouped.count_serdes(&materialized);
        let merge = |_: &K, one: Option<i64>, other: i64| one.map(|one| one.wrapping_add(other));
        self.fold(AGGREGATE, serdes, materialized, || Some(0), Count, merge)
    }

    /// Joins the values of each key and session into one: the first is taken as it is, `reducer` joins each further one
    /// to it, and the values of two sessions.
    ///
    /// ```
    /// # use millrace::{TopologyTestDriver, prelude::*};
    /// # use std::time::Duration;
    /// # let mut builder = StreamsBuilder::new();
    /// builder
    ///     .stream("steps", Consumed::with(StringSerde, LongSerde))
    ///     .group_by_key(Grouped::default())
    ///     .windowed_by(SessionWindows::of_inactivity_gap_with_no_grace(Duration::from_secs(30)))
    ///     .reduce(|sum, steps| sum + steps, Materialized::as_("walks"));
    /// # let driver = TopologyTestDriver::new(builder.build().unwrap()).unwrap();
    /// # let steps = driver.create_input_topic("steps", StringSerde, LongSerde);
    /// steps.pipe_input_at("ann", 100, 0);
    /// steps.pipe_input_at("ann", 50, 30_000);
    /// assert_eq!(driver.get_session_store("walks").unwrap().fetch_session(&"ann".to_owned(), 0, 30_000), Some(150_i64));
    /// ```
    pub fn reduce(
        &self,
        reducer: impl Fn(V, &V) -> V + Send + Sync + 'static,
        materialized: Materialized<K, V>,
    ) -> KTable<Windowed<K>, V> {
        self.reduce_nullable(move |joined, value| Some(reducer(joined, value)), materialized)
    }

    /// As [`Self::reduce`]; none deletes the session.
    pub fn reduce_nullable(
        &self,
        reducer: impl Fn(V, &V) -> Option<V> + Send + Sync + 'static,
        materialized: Materialized<K, V>,
    ) -> KTable<Windowed<K>, V> {
        let reducer = Arc::new(reducer);
        let join = Arc::clone(&reducer);
        let step = reducing(move |joined, value| join(joined, value));
        let merge = move |_: &K, one: Option<V>, other: V| match one {
            None => Some(other),
            Some(one) => reducer(one, &other),
        };
        self.fold(REDUCE, self.grouped.serdes.clone(), materialized, || None, Fold(step), merge)
    }

    /// Folds the values of each key and session into an aggregate of any type, which begins as `initializer` says;
    /// `merger` makes one aggregate of those of two sessions.
    ///
    /// ```
    /// # use millrace::{TopologyTestDriver, prelude::*};
    /// # use std::time::Duration;
    /// # let mut builder = StreamsBuilder::new();
    /// builder
    ///     .stream("clicks", Consumed::with(StringSerde, StringSerde))
    ///     .group_by_key(Grouped::default())
    ///     .windowed_by(SessionWindows::of_inactivity_gap_and_grace(Duration::from_secs(30), Duration::from_secs(60)))
    ///     .aggregate(
    ///         String::new,
    ///         |_user, page, path| path + "/" + page,
    ///         |_user, earlier, later| earlier + &later,
    ///         Materialized::as_("paths").with_value_serde(StringSerde),
    ///     );
    /// # let driver = TopologyTestDriver::new(builder.build().unwrap()).unwrap();
    /// # let clicks = driver.create_input_topic("clicks", StringSerde, StringSerde);
    /// clicks.pipe_input_at("ann", "home", 0);
    /// clicks.pipe_input_at("ann", "buy", 40_000);
    /// // Late, in time, and between the two sessions.
    /// clicks.pipe_input_at("ann", "help", 20_000);
    /// let paths = driver.get_session_store::<String, String>("paths").unwrap();
    /// assert_eq!(paths.fetch_session(&"ann".to_owned(), 0, 40_000).as_deref(), Some("/home/buy/help"));
    /// ```
    pub fn aggregate<A: Data>(
        &self,
        initializer: impl Fn() -> A + Send + Sync + 'static,
        aggregator: impl Fn(&K, &V, A) -> A + Send + Sync + 'static,
        merger: impl Fn(&K, A, A) -> A + Send + Sync + 'static,
        materialized: Materialized<K, A>,
    ) -> KTable<Windowed<K>, A> {
        let merge = move |key: &K, one: Option<A>, other: A| one.map(|one| merger(key, one, other));
        self.aggregate_nullable(move || Some(initializer()), never_null(aggregator), merge, materialized)
    }

    /// As [`Self::aggregate`] with aggregates that may be null; none deletes the session.
    pub fn aggregate_nullable<A: Data>(
        &self,
        initializer: impl Fn() -> Option<A> + Send + Sync + 'static,
        aggregator: impl Fn(&K, &V, Option<A>) -> Option<A> + Send + Sync + 'static,
        merger: impl Fn(&K, Option<A>, A) -> Option<A> + Send + Sync + 'static,
        materialized: Materialized<K, A>,
    ) -> KTable<Windowed<K>, A> {
        let serdes = Serdes { keys: self.grouped.serdes.keys.clone(), values: None };
        self.fold(AGGREGATE, serdes, materialized, initializer, Fold(aggregator), merger)
    }

    fn fold<A: Data>(
        &self,
        prefix: &str,
        inherited: Serdes<K, A>,
        materialized: Materialized<K, A>,
        start: impl Fn() -> Option<A> + Send + Sync + 'static,
        step: impl Step<K, V, A> + 'static,
        merge: impl Fn(&K, Option<A>, A) -> Option<A> + Send + Sync + 'static,
    ) -> KTable<Windowed<K>, A> {
        let materialized = self.emit.kept(materialized);
        let Aggregation { store, node, serdes, keys, values } =
            self.grouped.name_aggregation(prefix, inherited, &materialized);
        let SessionWindows { gap_ms, grace_ms } = self.windows;
        let least_ms = gap_ms.saturating_add(grace_ms);
        let kept_ms = retention(&self.grouped.graph, &node, self.windows.check(), least_ms, &materialized);
        // A session is closed one millisecond after that.
        let retention_ms = if self.emit == EmitStrategy::OnWindowClose { kept_ms.max(least_ms + 1) } else { kept_ms };
        let Kept { store, definition, view, written } =
            Kept::in_sessions(retention_ms, store, (&keys, values), &materialized);
        let state = Arc::new(TableState::default());
        let logic = Arc::new(AggregateSessions {
            windows: self.windows,
            inner: keys,
            store,
            state: Arc::clone(&state),
            start,
            step,
            merge,
            closes: self.emit.closes(Closes::Sessions { windows: self.windows, in_memory: !materialized.persistent }),
            types: PhantomData,
        });
        let serdes = Serdes { keys: Some(written), values: serdes.values };
        self.grouped.attach(node, definition, (state, Some(least_ms)), logic, serdes, view)
    }
}
