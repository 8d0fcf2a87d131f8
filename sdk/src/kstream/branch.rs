//! Owns `split`: branches and what they are called.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fmt;
use std::rc::Rc;
use std::sync::Arc;

use super::KStream;
use crate::logic::{PassThrough, Predicate, Split};
use crate::rows::{Data, Rows};
use crate::topology::{Kind, Shape, Topology};

/// What becomes of the records of a branch, and its name.
///
/// ```
/// # use millrace::{TopologyTestDriver, prelude::*};
/// # let mut builder = StreamsBuilder::new();
/// builder
///     .stream("lines", Consumed::with(StringSerde, StringSerde))
///     .split()
///     .branch(
///         |_, line| line.is_some_and(|line| line.starts_with('!')),
///         Branched::with_consumer(|urgent: KStream<String, String>| urgent.to("urgent", Produced::default())),
///     )
///     .no_default_branch();
/// # let driver = TopologyTestDriver::new(builder.build().unwrap()).unwrap();
/// # let lines = driver.create_input_topic("lines", StringSerde, StringSerde);
/// # let urgent = driver.create_output_topic("urgent", StringSerde, StringSerde);
/// lines.pipe_key_values([("a", "!fire"), ("b", "tea")]);
/// assert_eq!(urgent.read_lines(), ["a:!fire"]);
/// ```
pub struct Branched<K, V> {
    name: Option<String>,
    chain: Chain<K, V>,
}

type Function<K, V> = Box<dyn FnOnce(KStream<K, V>) -> Option<KStream<K, V>>>;

enum Chain<K, V> {
    Keep,
    Function(Function<K, V>),
}

impl<K, V> fmt::Debug for Branched<K, V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Branched").field("name", &self.name).finish_non_exhaustive()
    }
}

impl<K, V> Default for Branched<K, V> {
    fn default() -> Self {
        Self { name: None, chain: Chain::Keep }
    }
}

impl<K, V> Branched<K, V> {
    /// A branch with a name, which follows that of the split.
    pub fn as_(name: impl Into<String>) -> Self {
        Self { name: Some(name.into()), chain: Chain::Keep }
    }

    /// A branch that `function` makes something of: the stream it answers is the branch.
    pub fn with_function(function: impl FnOnce(KStream<K, V>) -> KStream<K, V> + 'static) -> Self {
        Self { name: None, chain: Chain::Function(Box::new(|stream| Some(function(stream)))) }
    }

    /// A branch that `consumer` takes; it is not among the branches answered.
    pub fn with_consumer(consumer: impl FnOnce(KStream<K, V>) + 'static) -> Self {
        let function = |stream| {
            consumer(stream);
            None
        };
        Self { name: None, chain: Chain::Function(Box::new(function)) }
    }

    /// The same with this name, which follows that of the split.
    #[must_use]
    pub fn with_name(mut self, name: impl Into<String>) -> Self {
        self.name = Some(name.into());
        self
    }
}

/// A stream being split into branches: each record goes to the first branch whose predicate says
/// yes.
pub struct BranchedKStream<K, V> {
    stream: KStream<K, V>,
    name: String,
    node: usize,
    predicates: Rc<RefCell<Vec<Predicate<K, V>>>>,
    branches: BTreeMap<String, KStream<K, V>>,
}

impl<K, V> fmt::Debug for BranchedKStream<K, V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BranchedKStream").field("name", &self.name).finish_non_exhaustive()
    }
}

impl<K: Data, V: Data> KStream<K, V> {
    /// Splits the stream into branches: each record goes to the first one whose predicate says yes.
    ///
    /// ```
    /// # use millrace::{TopologyTestDriver, prelude::*};
    /// # let mut builder = StreamsBuilder::new();
    /// let branches = builder
    ///     .stream("numbers", Consumed::with(StringSerde, LongSerde))
    ///     .named("by-sign-")
    ///     .split()
    ///     .branch(|_, number| number.is_some_and(|number| *number < 0), Branched::as_("negative"))
    ///     .default_branch(Branched::as_("other"));
    /// branches["by-sign-negative"].to("negative", Produced::default());
    /// branches["by-sign-other"].to("other", Produced::default());
    /// # let driver = TopologyTestDriver::new(builder.build().unwrap()).unwrap();
    /// # let numbers = driver.create_input_topic("numbers", StringSerde, LongSerde);
    /// # let negative = driver.create_output_topic("negative", StringSerde, LongSerde);
    /// # let other = driver.create_output_topic("other", StringSerde, LongSerde);
    /// numbers.pipe_key_values([("a", -1), ("b", 2)]);
    /// assert_eq!((negative.read_lines(), other.read_lines()), (vec!["a:-1".to_owned()], vec!["b:2".to_owned()]));
    /// ```
    #[must_use]
    pub fn split(&self) -> BranchedKStream<K, V> {
        let predicates = Rc::new(RefCell::new(Vec::new()));
        let mut graph = self.graph.borrow_mut();
        let name = graph.name(self.next_name.as_deref(), "KSTREAM-BRANCH-");
        let (own, collected) = (name.clone(), Rc::clone(&predicates));
        let write = Box::new(move |topology: &mut Topology, parents: &[String]| {
            let kind = Kind::Inner { logic: Arc::new(Split { predicates: collected.take() }) };
            let shape = Shape::of::<Rows<K, V>>();
            topology.insert_below(&own, kind, shape, Some(shape), parents)
        });
        let node = graph.add(&[self.node], &name, write);
        drop(graph);
        let stream = Self { next_name: None, ..self.clone() };
        BranchedKStream { stream, name, node, predicates, branches: BTreeMap::new() }
    }
}

impl<K: Data, V: Data> BranchedKStream<K, V> {
    /// Adds a branch for the records that no earlier branch takes and this predicate wants. It is asked about nulls, too.
    ///
    /// ```
    /// # use millrace::{TopologyTestDriver, prelude::*};
    /// # let mut builder = StreamsBuilder::new();
    /// let branches = builder
    ///     .stream("numbers", Consumed::with(StringSerde, LongSerde))
    ///     .named("n-")
    ///     .split()
    ///     .branch(|_, number| number.is_some_and(|number| number % 6 == 0), Branched::as_("sixth"))
    ///     .branch(|_, number| number.is_some_and(|number| number % 2 == 0), Branched::as_("even"))
    ///     .no_default_branch();
    /// branches["n-even"].to("even", Produced::default());
    /// # let driver = TopologyTestDriver::new(builder.build().unwrap()).unwrap();
    /// # let numbers = driver.create_input_topic("numbers", StringSerde, LongSerde);
    /// # let even = driver.create_output_topic("even", StringSerde, LongSerde);
    /// numbers.pipe_key_values([("a", 6), ("b", 4), ("c", 3)]);
    /// assert_eq!(even.read_lines(), ["b:4"]);
    /// ```
    #[must_use]
    pub fn branch(
        mut self,
        predicate: impl Fn(Option<&K>, Option<&V>) -> bool + Send + Sync + 'static,
        branched: Branched<K, V>,
    ) -> Self {
        self.predicates.borrow_mut().push(Box::new(predicate));
        let number = self.predicates.borrow().len();
        self.add(number, branched);
        self
    }

    /// Adds a branch for all other records, and answers the branches by name: that of the split
    /// followed by the branch's, or by its number from 1, 0 for the default branch.
    ///
    /// ```
    /// # use millrace::{TopologyTestDriver, prelude::*};
    /// # let mut builder = StreamsBuilder::new();
    /// let branches = builder
    ///     .stream("numbers", Consumed::with(StringSerde, LongSerde))
    ///     .named("n-")
    ///     .split()
    ///     .branch(|_, number| number.is_none(), Branched::default())
    ///     .default_branch(Branched::default());
    /// assert_eq!(branches.keys().collect::<Vec<_>>(), ["n-0", "n-1"]);
    /// ```
    #[must_use]
    pub fn default_branch(mut self, branched: Branched<K, V>) -> BTreeMap<String, KStream<K, V>> {
        self.add(0, branched);
        self.branches
    }

    /// The branches by name, see [`Self::default_branch`]; records that none of them wants are left out.
    ///
    /// ```
    /// # use millrace::{TopologyTestDriver, prelude::*};
    /// # let mut builder = StreamsBuilder::new();
    /// let lines = builder.stream("lines", Consumed::with(StringSerde, StringSerde));
    /// let branches =
    ///     lines.named("l-").split().branch(|key, _| key.is_some(), Branched::as_("keyed")).no_default_branch();
    /// branches["l-keyed"].to("keyed", Produced::default());
    /// # let driver = TopologyTestDriver::new(builder.build().unwrap()).unwrap();
    /// # let lines = driver.create_input_topic("lines", StringSerde, StringSerde);
    /// # let keyed = driver.create_output_topic("keyed", StringSerde, StringSerde);
    /// lines.pipe_nullable(None, Some("x".to_owned()));
    /// lines.pipe_input("a", "y");
    /// assert_eq!(keyed.read_lines(), ["a:y"]);
    /// ```
    #[must_use]
    pub fn no_default_branch(self) -> BTreeMap<String, KStream<K, V>> {
        self.branches
    }

    fn add(&mut self, number: usize, branched: Branched<K, V>) {
        let name = match &branched.name {
            None => format!("{}{number}", self.name),
            Some(name) => format!("{}{name}", self.name),
        };
        let own = name.clone();
        let write = Box::new(move |topology: &mut Topology, parents: &[String]| {
            let kind = Kind::Inner { logic: Arc::new(PassThrough::<K, V>::new()) };
            let shape = Shape::of::<Rows<K, V>>();
            topology.insert_below(&own, kind, shape, Some(shape), parents)
        });
        let node = {
            let mut graph = self.stream.graph.borrow_mut();
            graph.check_name(&name);
            graph.generate(&name);
            graph.add(&[self.node], &name, write)
        };
        let (serdes, repartition) = (self.stream.serdes.clone(), self.stream.repartition);
        let stream =
            KStream::new(&self.stream.graph, name.clone(), serdes, repartition, node, Rc::clone(&self.stream.origins));
        let branch = match branched.chain {
            Chain::Keep => Some(stream),
            Chain::Function(function) => function(stream),
        };
        if let Some(branch) = branch {
            self.branches.insert(name, branch);
        }
    }
}
