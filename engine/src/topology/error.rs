//! Owns the ways a declared graph can be wrong, alone or against the topics Kafka has. Each
//! message names the node, store or topic, and what to do about it.

use super::names::BadName;

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TopologyError {
    #[error("the topology reads nothing: declare a source or a global store")]
    Empty,
    #[error("the topology declares {count} {what}, more than {limit}: split it into several applications")]
    TooMany { what: &'static str, count: usize, limit: usize },
    #[error("{kind} {name} {problem}")]
    Name { kind: &'static str, name: String, problem: BadName },
    #[error("two nodes are called {0}: give each node a name of its own")]
    NodeTwice(String),
    #[error("two stores are called {0}: declare a store once and name it in every processor that uses it")]
    StoreTwice(String),

    #[error("source {0} reads nothing: give it topics or a pattern")]
    SourceWithoutTopics(String),
    #[error("source {0} has both topics and a pattern: use two sources, and merge them")]
    SourceWithTopicsAndPattern(String),
    #[error("topic {topic} is read by {first} and by {second}: read it once and use that source twice")]
    TopicReadTwice { topic: String, first: String, second: String },
    #[error("source {source_name} has a pattern the host can't use, {pattern}: {problem}")]
    Pattern { source_name: String, pattern: String, problem: String },
    #[error(
        "pattern {pattern} of source {source_name} takes in topic {topic}, which {other} reads: narrow the pattern"
    )]
    PatternTakesTopic { source_name: String, pattern: String, topic: String, other: String },
    #[error(
        "source {source_name} reads {topic}, an internal topic of this application: read it under its name in the graph"
    )]
    SourceReadsInternal { source_name: String, topic: String },
    #[error("sink {sink} writes to {topic}, which Kafka keeps for itself: choose another topic")]
    SinkIntoReserved { sink: String, topic: String },

    #[error("{0} has no parents, so no record ever gets there: name its parents")]
    NoParents(String),
    #[error("{node} has parent {parent}, which is no node of the topology: check the spelling")]
    UnknownParent { node: String, parent: String },
    #[error("{node} names its parent {parent} twice: name it once")]
    ParentTwice { node: String, parent: String },
    #[error("{node} has the sink {parent} as parent, but sinks hand on nothing: use the sink's own parent")]
    SinkAsParent { node: String, parent: String },
    #[error(
        "{node} has parent {parent}, which fills a global store and hands on nothing: read the topic in another application, \
         or use a table instead"
    )]
    GlobalAsParent { node: String, parent: String },
    #[error("the nodes {0} feed one another in a circle: lead the records back through a topic instead")]
    Cycle(String),

    #[error("processor {processor} uses store {store}, which is not declared: add it to the stores")]
    UnknownStore { processor: String, store: String },
    #[error("processor {processor} names store {store} twice: name it once")]
    StoreNamedTwice { processor: String, store: String },
    #[error("store {0} is used by no processor: name it in one, or drop it")]
    UnusedStore(String),
    #[error("store {store} {problem}")]
    Store { store: String, problem: String },
    #[error("the global store of {processor} is {store}, which is not declared: add it to the stores")]
    UnknownGlobalStore { processor: String, store: String },
    #[error("store {0} is filled by two global processors: give each a store of its own")]
    GlobalStoreTwice(String),
    #[error("processor {processor} names the global store {store}: every processor can read it, don't connect it")]
    GlobalStoreConnected { processor: String, store: String },

    #[error("repartition topic {topic} {problem}")]
    Repartition { topic: String, problem: String },
    #[error("topic {0} is to be co-partitioned, but no source reads it: name topics of the graph's sources")]
    CopartitionedUnread(String),

    #[error("these source topics don't exist: {0}; create them, then start again")]
    MissingTopics(String),
    #[error("topic {topic} matches the patterns of {first} and of {second}: narrow one of them")]
    TopicMatchedTwice { topic: String, first: String, second: String },
    #[error(
        "nothing says how many partitions {0} should have: create all source topics, see that patterns match one, or give the \
         repartition topic a number of partitions"
    )]
    UnknownPartitions(String),
    #[error(
        "topics {first} ({first_count} partitions) and {second} ({second_count}) are joined and must have as many partitions: \
         repartition one of them"
    )]
    NotCopartitioned { first: String, first_count: u32, second: String, second_count: u32 },
    #[error(
        "subtopology {subtopology} keeps state in {store} and reads {first} ({first_count} partitions) and {second} \
         ({second_count}): the same key would be counted in two places; give both as many partitions, or repartition one"
    )]
    Unaligned { subtopology: u32, store: String, first: String, first_count: u32, second: String, second_count: u32 },
    #[error(
        "internal topic {topic} exists with {found} partitions, but needs {needed}: bring the source topics back to the \
         number of partitions they had, or, to start over, stop all instances and delete the application's internal \
         topics and state directories"
    )]
    InternalTopicPartitions { topic: String, found: u32, needed: u32 },
}
