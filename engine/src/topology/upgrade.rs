//! Owns the gate: what a topology may change of the one before it without orphaning state or records. Must not know
//! where versions come from, nor how one is put in another's place.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use super::graph::{Layout, Store};
use super::plan::{FilledStore, Plan};

/// What of a topology lasts: all that is named on disk, in Kafka and in the group.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Shape {
    /// By number.
    pub subtopologies: BTreeMap<u32, Part>,
    /// Internal topics between subtopologies, by their full names: the partitions that were asked for.
    pub repartitions: BTreeMap<String, Option<u32>>,
    /// Global stores by their names.
    pub globals: BTreeMap<String, GlobalShape>,
}

/// What of a subtopology lasts.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Part {
    /// Full names of topics, and patterns.
    pub inputs: BTreeSet<String>,
    pub outputs: BTreeSet<String>,
    pub stores: BTreeMap<String, StoreShape>,
}

/// What of a store lasts.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct StoreShape {
    /// Layout of the keys, and types of keys and values as far as they are declared.
    pub layout: String,
    pub format: String,
    pub persistent: bool,
    pub cached: bool,
    pub changelog: Option<String>,
}

/// What of a global store lasts.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct GlobalShape {
    /// That it is filled from.
    pub topic: String,
    pub store: StoreShape,
}

/// What a difference asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Effect {
    /// A task goes on with it at once.
    None,
    /// A task goes on with it once its stores are opened anew.
    Reopen,
    /// The application starts anew with it.
    Restart,
    /// State or records would be orphaned, or members of the group would disagree: refused unless it is allowed by name.
    Refused,
}

/// One difference between two topologies.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Difference {
    /// What `--allow` calls it: `store:counts`, `input:orders`, `internal-topic:app-by-city-repartition`,
    /// `subtopology:1`.
    pub name: String,
    pub effect: Effect,
    pub what: String,
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.name, self.what)
    }
}

impl Plan {
    #[must_use]
    pub fn shape(&self) -> Shape {
        let mut shape = Shape::default();
        for subtopology in self.subtopologies() {
            let topics = subtopology.sources.iter().flat_map(|source| &source.topics);
            let patterns = subtopology.sources.iter().filter_map(|source| source.pattern.as_ref());
            let inputs = topics.map(|topic| self.full_name(topic).to_owned());
            let inputs = inputs.chain(patterns.map(|pattern| format!("pattern {pattern}"))).collect();
            let outputs = subtopology.sinks.iter().filter_map(|sink| sink.topic.as_ref());
            let outputs = outputs.map(|topic| self.full_name(topic).to_owned()).collect();
            let stores =
                subtopology.stores.iter().map(|store| (store.name.clone(), store_shape(self, store))).collect();
            shape.subtopologies.insert(subtopology.id, Part { inputs, outputs, stores });
        }
        for FilledStore { filled, store, .. } in self.global_stores() {
            let global = GlobalShape { topic: filled.topic.clone(), store: store_shape(self, store) };
            shape.globals.insert(store.name.clone(), global);
        }
        let repartitions = self.repartitions().iter();
        shape.repartitions =
            repartitions.map(|each| (self.full_name(&each.topic).to_owned(), each.partitions)).collect();
        shape
    }
}

fn store_shape(plan: &Plan, store: &Store) -> StoreShape {
    let layout = match &store.layout {
        Layout::KeyValue => "key-value".to_owned(),
        Layout::Window(windows) => {
            let duplicates = if windows.retain_duplicates { ", with duplicates" } else { "" };
            format!("windows of {} ms, kept {} ms{duplicates}", windows.size_ms, windows.retention_ms)
        }
        Layout::Session(retention_ms) => format!("sessions, kept {retention_ms} ms"),
        Layout::Versioned(history_ms) => format!("versioned, history of {history_ms} ms"),
    };
    let format = &store.format;
    let format = if format.key.is_empty() { String::new() } else { format!("{} to {}", format.key, format.value) };
    let (persistent, cached) = (store.persistent, store.cached);
    StoreShape { layout, format, persistent, cached, changelog: plan.changelog(store) }
}

/// In what `next` differs from `running`, what is refused first.
#[must_use]
pub fn differences(running: &Shape, next: &Shape) -> Vec<Difference> {
    let mut found = Vec::new();
    compare_inputs(running, next, &mut found);
    compare_repartitions(running, next, &mut found);
    compare_stores(running, next, &mut found);
    compare_globals(running, next, &mut found);
    compare_outputs(running, next, &mut found);
    found.sort_by(|a, b| (b.effect, &a.name).cmp(&(a.effect, &b.name)));
    found
}

fn inputs(shape: &Shape) -> BTreeMap<&str, u32> {
    shape
        .subtopologies
        .iter()
        .flat_map(|(&id, part)| part.inputs.iter().map(move |topic| (topic.as_str(), id)))
        .collect()
}

fn stores(shape: &Shape) -> BTreeMap<&str, (u32, &StoreShape)> {
    let parts = shape.subtopologies.iter();
    parts.flat_map(|(&id, part)| part.stores.iter().map(move |(name, store)| (name.as_str(), (id, store)))).collect()
}

fn compare_inputs(running: &Shape, next: &Shape, found: &mut Vec<Difference>) {
    let (before, after) = (inputs(running), inputs(next));
    let mut moved = BTreeMap::new();
    for (&topic, &id) in &before {
        match after.get(topic) {
            Some(&now) if now != id => {
                moved.entry(id).or_insert(now);
            }
            None if !running.repartitions.contains_key(topic) => found.push(Difference {
                name: format!("input:{topic}"),
                effect: Effect::Refused,
                what: "it is not read any more; what is in it beyond the committed offsets would stay unread"
                    .to_owned(),
            }),
            _ => {}
        }
    }
    for &topic in after.keys().filter(|topic| !before.contains_key(*topic) && !next.repartitions.contains_key(**topic))
    {
        let what = "it is read for the first time; members of the group would disagree on who reads what".to_owned();
        found.push(Difference { name: format!("input:{topic}"), effect: Effect::Refused, what });
    }
    let stores_after = stores(next);
    for (name, (id, _)) in stores(running) {
        if let Some(&(now, _)) = stores_after.get(name).filter(|(now, _)| *now != id) {
            moved.entry(id).or_insert(now);
        }
    }
    for (id, now) in moved {
        let what = format!(
            "it would be subtopology {now}; its tasks, their directories and committed offsets have the number in their names"
        );
        found.push(Difference { name: format!("subtopology:{id}"), effect: Effect::Refused, what });
    }
}

fn compare_repartitions(running: &Shape, next: &Shape, found: &mut Vec<Difference>) {
    let mut add = |topic: &str, what: String| {
        found.push(Difference { name: format!("internal-topic:{topic}"), effect: Effect::Refused, what });
    };
    for (topic, partitions) in &running.repartitions {
        match next.repartitions.get(topic) {
            None => add(
                topic,
                "it is gone, or has another name; records that are in it would never be processed".to_owned(),
            ),
            Some(now) if now != partitions => {
                let text = |n: &Option<u32>| n.map_or_else(|| "as many as its sources".to_owned(), |n| n.to_string());
                add(topic, format!("its partitions would be {}, not {}", text(now), text(partitions)));
            }
            Some(_) => {}
        }
    }
    for topic in next.repartitions.keys().filter(|topic| !running.repartitions.contains_key(*topic)) {
        add(topic, "it is new, or had another name; members of the group would disagree on who reads it".to_owned());
    }
}

fn compare_stores(running: &Shape, next: &Shape, found: &mut Vec<Difference>) {
    let (before, after) = (stores(running), stores(next));
    let mut add = |name: &str, effect, what: String| {
        found.push(Difference { name: format!("store:{name}"), effect, what });
    };
    for (&name, (_, old)) in &before {
        let Some((_, new)) = after.get(name) else {
            let changelog = old.changelog.as_ref().map(|topic| format!(" and changelog {topic}")).unwrap_or_default();
            add(
                name,
                Effect::Refused,
                format!("it is gone, or has another name; its state{changelog} would be orphaned"),
            );
            continue;
        };
        if old.layout != new.layout {
            add(
                name,
                Effect::Refused,
                format!("its layout would be {}, not {}; what is stored could not be read", new.layout, old.layout),
            );
        }
        if old.format != new.format && !old.format.is_empty() && !new.format.is_empty() {
            let what =
                format!("its types would be {}, not {}; what is stored could not be read", new.format, old.format);
            add(name, Effect::Refused, what);
        }
        if old.changelog != new.changelog {
            let text = |changelog: &Option<String>| changelog.clone().unwrap_or_else(|| "none".to_owned());
            let (old, new) = (text(&old.changelog), text(&new.changelog));
            add(
                name,
                Effect::Refused,
                format!("its changelog would be {new}, not {old}; its state would be in neither"),
            );
        } else if old.persistent != new.persistent {
            let place = if new.persistent { "on disk" } else { "in memory" };
            // Without a changelog there is nothing to fill it from.
            let effect = if new.changelog.is_some() { Effect::Reopen } else { Effect::Refused };
            add(name, effect, format!("it would be {place}"));
        }
        if old.cached != new.cached {
            let cached = if new.cached { "cached" } else { "not cached any more" };
            add(name, Effect::Reopen, format!("it would be {cached}"));
        }
    }
    for &name in after.keys().filter(|name| !before.contains_key(*name)) {
        add(name, Effect::Reopen, "it is new".to_owned());
    }
}

/// Whatever becomes of them is safe: they are read anew from their topics, before anything is processed.
fn compare_globals(running: &Shape, next: &Shape, found: &mut Vec<Difference>) {
    let names: BTreeSet<&String> = running.globals.keys().chain(next.globals.keys()).collect();
    for name in names {
        let what = match (running.globals.get(name), next.globals.get(name)) {
            (Some(_), None) => "it is gone".to_owned(),
            (None, Some(new)) => format!("it is new, and is filled from {} first", new.topic),
            (Some(old), Some(new)) if old.topic != new.topic => {
                format!("it would be filled from {}, not {}", new.topic, old.topic)
            }
            (Some(old), Some(new)) if old != new => "it is kept in another way, and is filled anew".to_owned(),
            _ => continue,
        };
        found.push(Difference { name: format!("global-store:{name}"), effect: Effect::Restart, what });
    }
}

fn compare_outputs(running: &Shape, next: &Shape, found: &mut Vec<Difference>) {
    let outputs = |shape: &Shape| -> BTreeSet<String> {
        let outputs = shape.subtopologies.values().flat_map(|part| &part.outputs);
        outputs.filter(|topic| !shape.repartitions.contains_key(*topic)).cloned().collect()
    };
    let (before, after) = (outputs(running), outputs(next));
    let mut add = |topic: &String, what: &str| {
        found.push(Difference { name: format!("output:{topic}"), effect: Effect::None, what: what.to_owned() });
    };
    before.difference(&after).for_each(|topic| add(topic, "it is not written any more"));
    after.difference(&before).for_each(|topic| add(topic, "it is written for the first time"));
}

#[cfg(test)]
mod tests {
    use super::super::graph::{Format, GlobalStore, Processor, Repartition, Sink, Source, Topology};
    use super::*;

    fn store(name: &str) -> Store {
        Store {
            name: name.to_owned(),
            layout: Layout::KeyValue,
            format: Format { key: "string".to_owned(), value: "i64".to_owned() },
            persistent: true,
            logged: true,
            cached: false,
            changelog_config: Vec::new(),
        }
    }

    fn source(name: &str, topic: &str) -> Source {
        let (name, topics) = (name.to_owned(), vec![topic.to_owned()]);
        Source { name, topics, pattern: None, offset_reset: None, extracts_timestamps: false }
    }

    /// `orders` is counted by city through an internal topic.
    fn graph() -> Topology {
        let sink = |name: &str, parent: &str, topic: &str| Sink {
            name: name.to_owned(),
            parents: vec![parent.to_owned()],
            topic: Some(topic.to_owned()),
        };
        Topology {
            sources: vec![source("read", "orders"), source("again", "by-city-repartition")],
            processors: vec![Processor {
                name: "count".to_owned(),
                parents: vec!["again".to_owned()],
                stores: vec!["counts".to_owned()],
            }],
            sinks: vec![sink("spread", "read", "by-city-repartition"), sink("write", "count", "out")],
            repartitions: vec![Repartition { topic: "by-city-repartition".to_owned(), partitions: Some(4) }],
            stores: vec![store("counts")],
            ..Topology::default()
        }
    }

    /// What a change makes of the graph, as its effect and names.
    fn check(change: impl FnOnce(&mut Topology), expected: &[(Effect, &str)]) {
        let mut next = graph();
        change(&mut next);
        let shape = |graph| Plan::new("app", graph).unwrap().shape();
        let found = differences(&shape(graph()), &shape(next));
        let names: Vec<_> = found.iter().map(|each| (each.effect, each.name.as_str())).collect();
        assert_eq!(names, expected, "{found:?}");
    }

    #[test]
    fn logic_stateless_nodes_and_outputs_are_free() {
        check(|_| {}, &[]);
        check(
            |graph| {
                let (parents, stores) = (vec!["read".to_owned()], Vec::new());
                graph.processors.push(Processor { name: "filter".to_owned(), parents, stores });
                graph.sinks[0].parents = vec!["filter".to_owned()];
            },
            &[],
        );
        check(
            |graph| graph.sinks[1].topic = Some("other".to_owned()),
            &[(Effect::None, "output:other"), (Effect::None, "output:out")],
        );
    }

    #[test]
    fn stores_may_come_but_not_go() {
        let renamed = |graph: &mut Topology| {
            graph.stores[0].name = "tally".to_owned();
            graph.processors[0].stores[0] = "tally".to_owned();
        };
        check(renamed, &[(Effect::Refused, "store:counts"), (Effect::Reopen, "store:tally")]);
        let added = |graph: &mut Topology| {
            graph.stores.push(store("latest"));
            graph.processors[0].stores.push("latest".to_owned());
        };
        check(added, &[(Effect::Reopen, "store:latest")]);
        check(|graph| graph.stores[0].logged = false, &[(Effect::Refused, "store:counts")]);
        check(|graph| graph.stores[0].layout = Layout::Session(1), &[(Effect::Refused, "store:counts")]);
        check(|graph| graph.stores[0].format.value = "f64".to_owned(), &[(Effect::Refused, "store:counts")]);
        check(|graph| graph.stores[0].persistent = false, &[(Effect::Reopen, "store:counts")]);
        check(|graph| graph.stores[0].cached = true, &[(Effect::Reopen, "store:counts")]);
    }

    #[test]
    fn global_stores_come_and_go_with_a_restart() {
        let global = |topic: &str| {
            let topic = topic.to_owned();
            move |graph: &mut Topology| {
                let name = |text: &str| text.to_owned();
                let (store, source, processor) = (name("rates"), name("read-rates"), name("fill"));
                graph.stores.push(self::store("rates"));
                // Declared after all sources, it takes no number from what is there.
                graph.global_stores.push(GlobalStore { store, source, topic, processor, position: 2 });
            }
        };
        check(global("rates"), &[(Effect::Restart, "global-store:rates")]);
        let shape = |change: &dyn Fn(&mut Topology)| {
            let mut graph = graph();
            change(&mut graph);
            Plan::new("app", graph).unwrap().shape()
        };
        let with = |topic: &'static str| shape(&move |graph| global(topic)(graph));
        let names = |found: Vec<Difference>| found.into_iter().map(|each| (each.effect, each.name)).collect::<Vec<_>>();
        let changed = vec![(Effect::Restart, "global-store:rates".to_owned())];
        assert_eq!(names(differences(&with("rates"), &with("rates"))), []);
        assert_eq!(names(differences(&with("rates"), &with("prices"))), changed);
        assert_eq!(names(differences(&with("rates"), &shape(&|_| {}))), changed);
    }

    #[test]
    fn topics_and_numbers_are_kept() {
        let input = |graph: &mut Topology| graph.sources[0].topics[0] = "sales".to_owned();
        check(input, &[(Effect::Refused, "input:orders"), (Effect::Refused, "input:sales")]);
        let internal = |graph: &mut Topology| {
            graph.repartitions[0].topic = "by-zip-repartition".to_owned();
            graph.sources[1].topics[0] = "by-zip-repartition".to_owned();
            graph.sinks[0].topic = Some("by-zip-repartition".to_owned());
        };
        let names = ["internal-topic:app-by-city-repartition", "internal-topic:app-by-zip-repartition"];
        check(internal, &names.map(|name| (Effect::Refused, name)));
        check(|graph| graph.repartitions[0].partitions = Some(8), &[(Effect::Refused, names[0])]);
        let swapped = |graph: &mut Topology| graph.sources.swap(0, 1);
        check(swapped, &[(Effect::Refused, "subtopology:0"), (Effect::Refused, "subtopology:1")]);
    }
}
