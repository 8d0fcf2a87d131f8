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
    /// Splits the stream into branches.
    ///
    /// ```
    /// use millrace::prelude::*;
    ///
    /// let mut builder = StreamsBuilder::new();
    /// let numbers = builder.stream("numbers", Consumed::with(StringSerde, LongSerde));
    /// let branches = numbers
    ///     .named("by-sign-")
    ///     .split()
    ///     .branch(|_, number| number.is_some_and(|number| *number < 0), Branched::as_("negative"))
    ///     .default_branch(Branched::as_("other"));
    /// branches["by-sign-negative"].to("negative-numbers", Produced::default());
    /// branches["by-sign-other"].to("other-numbers", Produced::default());
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
    /// Adds a branch for the records that no earlier branch takes and this predicate wants.
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
    #[must_use]
    pub fn default_branch(mut self, branched: Branched<K, V>) -> BTreeMap<String, KStream<K, V>> {
        self.add(0, branched);
        self.branches
    }

    /// The branches by name; records that none of them wants are left out.
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
