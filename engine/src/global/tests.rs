//! Tests of filling: every record once, and what becomes of those that fail.

use super::*;
use crate::memory::{Memory, Shared};
use crate::sim::guest::{Behaviour, Count, number};
use crate::task::{InputSpec, StoreSpec};

const POISON: &str = "poison";

/// Two partitions of a topic fill one store.
fn spec() -> Arc<TaskSpec> {
    let input =
        |partition| InputSpec { name: "t".to_owned(), topic: "t".into(), partition, extracts_timestamps: false };
    let stores: Vec<StoreSpec> = crate::task::tests::spec(0, &Behaviour::default())
        .stores
        .into_iter()
        .map(|store| StoreSpec { changelog: None, ..store })
        .collect();
    let inputs = (0..2).map(input).collect();
    Arc::new(TaskSpec { inputs, stores, ..crate::task::tests::spec(0, &Behaviour::default()) })
}

fn filler(policy: Policy, state: &Shared) -> Filler {
    // It counts, and forwards nothing.
    let behaviour = Behaviour { cached: true, poison: Some(POISON.into()), ..Behaviour::default() };
    let settings = Settings { policies: Policies { otherwise: policy, kinds: Vec::new() }, ..Settings::default() };
    let mut filler = Filler::new(spec(), settings, Box::new(Count::new(behaviour)), Box::new(state.clone()));
    let stored = filler.task().stored_positions().expect("reads").inputs;
    let at = |partition| stored.iter().find(|(at, _)| at.partition == partition).map_or(Offset(0), |&(_, at)| at);
    filler.start(&[at(0), at(1)], 0).expect("starts");
    filler
}

fn chunk(first: i64, records: &[(&str, &str)]) -> Chunk {
    let mut chunk = Chunk::default();
    for (offset, (key, value)) in (first..).zip(records) {
        chunk.offsets.push(offset);
        chunk.records.push(Some(key.as_bytes()), Some(value.as_bytes()), 1);
    }
    chunk
}

fn state() -> Shared {
    Shared::new(Memory::new(["count-store".to_owned()]))
}

/// The counts of these keys, as tasks read them.
fn counts(state: &Shared, keys: &[&str]) -> Vec<Option<u64>> {
    let stores = GlobalStores::new(&spec(), Arc::new(state.clone()));
    let store = stores.store("count-store").expect("it is one");
    let mut counts = Vec::new();
    let keys = Column::from_iter(keys.iter().map(|key| Some(key.as_bytes())));
    stores.get(store, &keys, |found| counts.push(found.map(|(_, value)| number(value)))).expect("reads");
    counts
}

fn positions(state: &Shared) -> Vec<(u32, i64)> {
    let positions = Database::positions(state).expect("reads").inputs;
    let mut positions: Vec<_> = positions.into_iter().map(|(at, offset)| (at.partition, offset.0)).collect();
    positions.sort_unstable();
    positions
}

#[test]
fn every_record_of_every_partition_counts_once() {
    let state = state();
    let mut first = filler(Policy::Fail, &state);
    first.fill(0, chunk(0, &[("a", ""), ("b", ""), ("a", "")]), 0).expect("fills");
    first.fill(1, chunk(5, &[("a", "")]), 0).expect("fills");
    assert_eq!(counts(&state, &["b", "a", "none", "a"]), [Some(1), Some(3), None, Some(3)]);
    assert_eq!(positions(&state), [(0, 3), (1, 6)]);
    // Killed, it goes on where it was, and what it is given again does not count again.
    drop(first);
    let mut second = filler(Policy::Fail, &state);
    second.fill(0, chunk(2, &[("a", ""), ("c", "")]), 0).expect("fills");
    assert_eq!(counts(&state, &["a", "b", "c"]), [Some(3), Some(1), Some(1)]);
    assert_eq!(positions(&state), [(0, 4), (1, 6)]);
}

#[test]
fn what_fails_is_left_out_alone_and_nothing_becomes_a_dead_letter() {
    let state = state();
    let mut filler = filler(Policy::DeadLetter { topic: "letters".to_owned() }, &state);
    filler.fill(0, chunk(0, &[("a", ""), ("b", POISON), ("c", "")]), 0).expect("fills");
    assert_eq!(counts(&state, &["a", "b", "c"]), [Some(1), None, Some(1)]);
    assert_eq!(positions(&state), [(0, 3), (1, 0)]);
    let incidents = filler.task().take_incidents();
    assert_eq!(incidents.iter().map(|incident| &incident.policy).collect::<Vec<_>>(), [&Policy::Skip]);
}

#[test]
fn what_is_before_a_record_that_stops_it_is_there() {
    let state = state();
    let filled = filler(Policy::Fail, &state).fill(1, chunk(0, &[("a", ""), ("b", POISON), ("c", "")]), 0);
    assert!(matches!(filled, Err(Error::Guest(_))), "{filled:?}");
    assert_eq!(counts(&state, &["a", "b", "c"]), [Some(1), None, None]);
    assert_eq!(positions(&state), [(0, 0), (1, 1)]);
}
