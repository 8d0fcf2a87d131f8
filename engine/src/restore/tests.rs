//! Tests of plans as tables, and of what carrying them out does to a database.

use std::sync::Arc;

use super::*;
use crate::memory::Memory;
use crate::ports::Database;
use crate::record::TaskId;
use crate::sim::guest::{Behaviour, Count};
use crate::sim::log::Producer;
use crate::task::{InputSpec, Phase, StoreSpec};

fn spec(inputs: usize, logged: bool) -> TaskSpec {
    let input = |index: usize| {
        let name = format!("input-{index}");
        InputSpec { topic: name.as_str().into(), name, partition: 3, extracts_timestamps: false }
    };
    let changelog = Some(Arc::from("changelog")).filter(|_| logged);
    TaskSpec {
        id: TaskId { subtopology: 0, partition: 3 },
        application_id: "app".to_owned(),
        inputs: (0..inputs).map(input).collect(),
        stores: vec![StoreSpec { name: "s".to_owned(), cached: false, persistent: true, changelog, expiry: None }],
        outputs: std::collections::BTreeMap::new(),
        dynamic_sinks: false,
        partition_counts: Arc::default(),
        caching: true,
    }
}

/// Stored and committed offset of each input, the position of the store, the bounds of its changelog.
#[derive(Clone)]
struct Case {
    inputs: Vec<(Option<i64>, Option<i64>)>,
    position: Option<i64>,
    changelog: (i64, i64),
}

fn planned(case: &Case, guarantee: Guarantee, spec: &TaskSpec) -> Plan {
    let stored_inputs =
        case.inputs.iter().enumerate().filter_map(|(input, &(stored, _))| {
            Some((TopicPartition::new(format!("input-{input}"), 3), Offset(stored?)))
        });
    let changelogs = case.position.map(|position| ("s".to_owned(), Offset(position)));
    let stored = Positions {
        inputs: stored_inputs.collect(),
        changelogs: changelogs.into_iter().collect(),
        stream_time: Some(50),
        ..Positions::default()
    };
    let committed = case.inputs.iter().enumerate().map(|(input, &(_, committed))| {
        // Not all partitions are committed each time.
        let processors = [("kept".to_owned(), 7 + i64::try_from(input).unwrap_or_default())].into();
        let metadata = Metadata { partition_time: Some(70), processors }.encode();
        committed.map(|offset| Committed { offset: Offset(offset), metadata })
    });
    let committed: Vec<_> = committed.collect();
    let bounds = (Offset(case.changelog.0), Offset(case.changelog.1));
    let changelogs = [Some(bounds).filter(|_| spec.stores[0].changelog.is_some())];
    plan(&Facts { guarantee, spec, stored: &stored, committed: &committed, changelogs: &changelogs })
}

fn check(case: &Case, at_least_once: Replay, exactly_once: Replay, starts: &[Option<i64>]) {
    let spec = spec(case.inputs.len(), true);
    for (guarantee, expected) in [(Guarantee::AtLeastOnce, at_least_once), (Guarantee::ExactlyOnce, exactly_once)] {
        let plan = planned(case, guarantee, &spec);
        assert_eq!(plan.stores, [expected], "{guarantee:?}");
        let offsets: Vec<_> = plan.starts.iter().map(|start| start.offset.map(|offset| offset.0)).collect();
        assert_eq!(offsets, starts);
    }
}

fn case(inputs: &[(Option<i64>, Option<i64>)], position: Option<i64>, changelog: (i64, i64)) -> Case {
    Case { inputs: inputs.to_vec(), position, changelog }
}

fn range(from: i64, to: i64) -> Replay {
    Replay::Range { from: Offset(from), to: Offset(to), rebuild: false }
}

fn rebuild(from: i64, to: i64) -> Replay {
    Replay::Range { from: Offset(from), to: Offset(to), rebuild: true }
}

#[test]
fn the_tail_is_applied_if_somebody_else_committed() {
    let repair = Replay::Repair { from: Offset(30), to: Offset(40) };
    let nothing = Replay::Nothing;
    // A clean stop, and a clean start of all.
    check(&case(&[(Some(9), Some(9))], Some(40), (0, 40)), nothing, nothing, &[Some(9)]);
    check(&case(&[(None, None)], None, (0, 0)), rebuild(0, 0), rebuild(0, 0), &[None]);
    // Our own tail; under exactly-once the transaction's.
    check(&case(&[(Some(9), Some(9))], Some(30), (0, 40)), repair, range(30, 40), &[Some(9)]);
    check(&case(&[(Some(9), Some(5))], Some(30), (0, 40)), repair, range(30, 40), &[Some(9)]);
    check(&case(&[(Some(9), None)], Some(30), (0, 40)), repair, range(30, 40), &[Some(9)]);
    // Somebody else's.
    check(&case(&[(Some(9), Some(10))], Some(30), (0, 40)), range(30, 40), range(30, 40), &[Some(10)]);
    let two = [(Some(9), Some(10)), (Some(8), Some(7))];
    check(&case(&two, Some(30), (0, 40)), range(30, 40), range(30, 40), &[Some(10), Some(7)]);
    let two = [(Some(9), Some(9)), (None, Some(7))];
    check(&case(&two, Some(30), (0, 40)), range(30, 40), range(30, 40), &[Some(9), Some(7)]);
    // A restore of an empty disk that was interrupted goes on.
    check(&case(&[(None, Some(9))], Some(30), (0, 40)), range(30, 40), range(30, 40), &[Some(9)]);
    check(&case(&[(None, None)], Some(30), (0, 40)), range(30, 40), range(30, 40), &[None]);
}

#[test]
fn a_store_without_a_position_in_its_changelog_is_rebuilt() {
    for position in [None, Some(41), Some(4)] {
        let case = case(&[(Some(9), Some(9))], position, (5, 40));
        check(&case, rebuild(5, 40), rebuild(5, 40), &[Some(9)]);
    }
    check(&case(&[(None, Some(9))], None, (5, 40)), rebuild(5, 40), rebuild(5, 40), &[Some(9)]);
    // One that is new is empty, and does not keep the others from going on where the disk is.
    check(&case(&[(Some(9), Some(7))], None, (5, 5)), rebuild(5, 5), rebuild(5, 5), &[Some(9)]);
    // Its changelog may lack what only this disk had.
    check(&case(&[(Some(9), Some(7))], None, (5, 40)), rebuild(5, 40), rebuild(5, 40), &[Some(7)]);
}

#[test]
fn a_store_without_a_changelog_is_left_alone() {
    let case = case(&[(Some(9), Some(10))], None, (0, 0));
    let plan = planned(&case, Guarantee::ExactlyOnce, &spec(1, false));
    assert_eq!(plan.stores, [Replay::Nothing]);
    assert_eq!(plan.stream_time, Some(70));
    assert_eq!(plan.starts[0].partition_time, Some(70));
}

fn created(database: Memory) -> Task {
    let behaviour = Behaviour::default();
    let spec = Arc::new(crate::task::tests::spec(1, &behaviour));
    let guest = Box::new(Count::new(behaviour));
    Task::new(spec, Arc::default(), guest, Box::new(database))
}

fn restoring(plan: &Plan, database: Memory) -> Task {
    let mut task = created(database);
    task.restore(plan).expect("restores");
    task
}

/// The plan of one store and one input.
fn plan_of(replay: Replay) -> Plan {
    Plan { stores: vec![replay], starts: vec![Start::default()], stream_time: None, metadata: BTreeMap::new() }
}

/// Changelog records: offset, key, value.
fn changelog(records: &[(i64, Option<&str>, Option<&str>)]) -> Chunk {
    let mut chunk = Chunk::default();
    for &(offset, key, value) in records {
        chunk.offsets.push(offset);
        chunk.records.push(key.map(str::as_bytes), value.map(str::as_bytes), offset);
    }
    chunk
}

/// A database with one row and its positions.
fn database() -> Memory {
    let mut memory = Memory::new(["count-store".to_owned()]);
    let value = stored(1, b"old");
    let changelogs = vec![("count-store".to_owned(), Offset(3))];
    let inputs = vec![(TopicPartition::new("input-0", 0), Offset(9))];
    let positions = Positions { changelogs, inputs, ..Positions::default() };
    memory.write(Write { entries: vec![(0, b"left", Some(&value))], positions }).expect("memory does not fail");
    memory
}

/// Keys and values of the task's store, and its position.
fn restored(task: &mut Task) -> (Vec<(String, String)>, Option<i64>) {
    let entries = task.state().scan(0, (None, None), false, 100).expect("reads");
    let text = |bytes: Option<&[u8]>| String::from_utf8_lossy(bytes.unwrap_or_default()).into_owned();
    let rows = entries.keys.iter().zip(entries.values.iter()).map(|(key, value)| (text(key), text(value)));
    let rows = rows.collect();
    (rows, task.stored_positions().expect("reads").changelogs.first().map(|(_, offset)| offset.0))
}

fn text(rows: &[(&str, &str)]) -> Vec<(String, String)> {
    rows.iter().map(|&(key, value)| (key.to_owned(), value.to_owned())).collect()
}

#[test]
fn replays_are_applied_with_their_position() {
    let mut task = restoring(&plan_of(range(3, 9)), database());
    assert!(task.start(&[Start::default()], None, 0).is_err(), "it is not restored yet");
    let records = [(3, Some("a"), Some("1")), (4, Some("b"), Some("2")), (5, None, Some("3"))];
    task.replay(0, &changelog(&records), Offset(6)).expect("replays");
    assert_eq!(restored(&mut task), (text(&[("a", "1"), ("b", "2"), ("left", "old")]), Some(6)));
    assert_eq!(task.replays()[0].2, Offset(6));
    let records = [(6, Some("a"), None), (7, Some("b"), Some("4")), (8, Some("b"), Some("5"))];
    task.replay(0, &changelog(&records), Offset(9)).expect("replays");
    assert_eq!(restored(&mut task), (text(&[("b", "5"), ("left", "old")]), Some(9)));
    assert!(task.replays().is_empty());
    assert!(task.replay(0, &changelog(&[]), Offset(9)).is_err(), "there is nothing more to replay");
    task.start(&[Start::default()], None, 0).expect("starts");
}

/// Half of a rebuilt store never looks like the whole: there is no input it could agree with.
#[test]
fn a_rebuild_begins_with_nothing() {
    let mut task = restoring(&plan_of(rebuild(0, 2)), database());
    assert_eq!(restored(&mut task), (Vec::new(), Some(0)));
    assert_eq!(task.stored_positions().expect("reads").inputs, []);
    task.replay(0, &changelog(&[(0, Some("a"), Some("1"))]), Offset(1)).expect("replays");
    assert_eq!(restored(&mut task), (text(&[("a", "1")]), Some(1)));
    task.replay(0, &changelog(&[(1, Some("b"), Some("2"))]), Offset(2)).expect("replays");
    assert_eq!(restored(&mut task), (text(&[("a", "1"), ("b", "2")]), Some(2)));
}

/// It has no input positions, an end of its changelog neither.
#[test]
fn a_standby_follows_its_changelog() {
    let begin = (Offset(0), Offset(5));
    let check = |bounds, rows: &[(&str, &str)], from| {
        let mut task = created(database());
        task.follow(&[Some(bounds)]).expect("follows");
        assert_eq!(task.phase(), Phase::Standby);
        assert_eq!(task.stored_positions().expect("reads").inputs, []);
        assert_eq!(restored(&mut task), (text(rows), Some(from)));
        let [(store, ref followed, next, to)] = task.replays()[..] else { panic!("one store is followed") };
        assert_eq!((store, followed.partition, next, to), (0, 0, Offset(from), None));
        let next = from + 2;
        let records = [(from, Some("a"), Some("1")), (from + 1, Some("b"), Some("2"))];
        task.replay(0, &changelog(&records), Offset(next)).expect("replays");
        let rows: Vec<_> = [("a", "1"), ("b", "2")].iter().chain(rows).copied().collect();
        assert_eq!(restored(&mut task), (text(&rows), Some(next)));
        assert!(task.start(&[Start::default()], None, 0).is_err(), "it does not run");
        assert!(!task.is_commit_needed());
    };
    check(begin, &[("left", "old")], 3);
    // What its changelog no longer has, or never had, it begins anew.
    check((Offset(4), Offset(5)), &[], 4);
    check((Offset(0), Offset(2)), &[], 0);
}

/// In memory, too: the task is the same.
#[test]
fn a_promoted_standby_restores_what_it_lacks() {
    let mut task = created(database());
    task.follow(&[Some((Offset(0), Offset(5)))]).expect("follows");
    task.replay(0, &changelog(&[(3, Some("a"), Some("1"))]), Offset(4)).expect("replays");
    let stored = task.stored_positions().expect("reads");
    let committed = [Some(Committed { offset: Offset(7), metadata: String::new() })];
    let spec = task.spec().clone();
    for guarantee in [Guarantee::AtLeastOnce, Guarantee::ExactlyOnce] {
        let changelogs = &[Some((Offset(0), Offset(5)))];
        let plan = plan(&Facts { guarantee, spec: &spec, stored: &stored, committed: &committed, changelogs });
        // What it had processed before it became one (up to 9) says nothing any more.
        assert_eq!((&plan.stores[..], plan.starts[0].offset), (&[range(4, 5)][..], Some(Offset(7))));
    }
    task.restore(&plan_of(range(4, 5))).expect("restores");
    task.replay(0, &changelog(&[(4, Some("b"), Some("2"))]), Offset(5)).expect("replays");
    assert_eq!(restored(&mut task), (text(&[("a", "1"), ("b", "2"), ("left", "old")]), Some(5)));
    let start = Start { offset: Some(Offset(7)), ..Start::default() };
    task.start(&[start], None, 0).expect("starts");
    assert_eq!(task.stored_positions().expect("reads").inputs, [(TopicPartition::new("input-0", 0), Offset(7))]);
}

#[test]
fn an_empty_changelog_is_restored_at_once() {
    let mut task = restoring(&plan_of(rebuild(0, 0)), Memory::new(["count-store".to_owned()]));
    assert!(task.replays().is_empty());
    assert_eq!(restored(&mut task), (Vec::new(), Some(0)));
}

/// What the tail says is not what is kept: it is written again as it is here.
#[test]
fn a_repaired_changelog_gets_the_local_values() {
    let mut task = restoring(&plan_of(Replay::Repair { from: Offset(3), to: Offset(5) }), database());
    let records = [(3, Some("left"), Some("newer")), (4, Some("gone"), Some("1"))];
    task.replay(0, &changelog(&records), Offset(5)).expect("replays");
    assert_eq!(restored(&mut task), (text(&[("left", "old")]), Some(3)));
    task.start(&[Start::default()], None, 0).expect("starts");
    let cluster = Arc::default();
    let mut log = Producer::new(&cluster, false);
    crate::commit::commit(&mut [&mut task], &mut log, Guarantee::AtLeastOnce).expect("commits");
    let cluster = cluster.lock().expect("no test panics with it");
    let records = cluster.read(&TopicPartition::new("app-count-store-changelog", 0), 0);
    let written: Vec<_> = records.iter().map(|r| (r.key.as_deref(), r.value.as_deref(), r.timestamp)).collect();
    assert_eq!(written.len(), 2);
    assert!(written.contains(&(Some(b"left"), Some(b"old"), 1)));
    assert!(written.contains(&(Some(b"gone"), None, 4)));
}

#[test]
fn what_a_module_kept_is_the_latest_of_what_is_committed() {
    let both = case(&[(None, Some(5)), (None, Some(5))], None, (0, 0));
    let spec = spec(2, true);
    let plan = planned(&both, Guarantee::ExactlyOnce, &spec);
    assert_eq!(plan.metadata, [("kept".to_owned(), 8)].into());
    let none = case(&[(None, None)], None, (0, 0));
    assert_eq!(planned(&none, Guarantee::ExactlyOnce, &spec).metadata, [].into());
}

/// What a task has of a key as of each of these times.
fn versions(task: &mut Task, times: std::ops::Range<i64>) -> Vec<Option<String>> {
    let mut keys = crate::record::Column::default();
    keys.push(Some(b"k"));
    let at = |time| {
        let found = task.context.get_as_of(0, &keys, &[time]).expect("memory does not fail").values;
        found.iter().next().flatten().map(|value| String::from_utf8_lossy(value).into_owned())
    };
    times.map(at).collect()
}

#[test]
fn versions_are_restored_in_the_order_they_were_put_and_a_tail_is_repaired_by_what_was_valid() {
    let expiry = Some(crate::expiry::Expiry { keys: crate::expiry::TimedKeys::Versions, retention_ms: 10 });
    let mut spec = spec(1, true);
    spec.stores[0].expiry = expiry;
    let spec = Arc::new(spec);
    let chunk = |rows: &[(Option<&str>, i64)]| {
        let mut chunk = Chunk::default();
        for &(value, time) in rows {
            chunk.records.push(Some(b"k"), value.map(str::as_bytes), time);
        }
        chunk
    };
    let guest = Box::new(Count::new(Behaviour::default()));
    let database = Box::new(Memory::of(&spec.stores));
    let mut task = Task::new(spec, Arc::default(), guest, database);
    let plan = Plan {
        stores: vec![Replay::Range { from: Offset(0), to: Offset(6), rebuild: true }],
        starts: vec![Start::default()],
        stream_time: None,
        metadata: BTreeMap::new(),
    };
    task.restore(&plan).expect("memory does not fail");
    task.replay(0, &chunk(&[(Some("a"), 1), (Some("c"), 5), (Some("b"), 3)]), Offset(3)).expect("it is restoring");
    assert_eq!(
        versions(&mut task, 0..7),
        [None, Some("a"), Some("a"), Some("b"), Some("b"), Some("c"), Some("c")].map(|it| it.map(str::to_owned))
    );
    // What is older than the history by then was never in the store, though Kafka Streams has it in the changelog.
    task.replay(0, &chunk(&[(None, 12), (Some("z"), 1), (Some("d"), 13)]), Offset(6)).expect("it is restoring");
    let expected = [None, None, Some("b"), Some("b"), Some("c")].map(|it| it.map(str::to_owned));
    assert_eq!(versions(&mut task, 1..6), expected);
    assert_eq!(versions(&mut task, 11..14), [Some("c"), None, Some("d")].map(|it| it.map(str::to_owned)));
    let stored = task.context.overlay().database().unwrap().positions().unwrap();
    assert_eq!((stored.observed("s"), stored.changelogs), (Some(13), vec![("s".to_owned(), Offset(6))]));

    // A tail that was not written here: it had a version at 8, a deletion at 14, and one that is too old.
    let plan = Plan { stores: vec![Replay::Repair { from: Offset(6), to: Offset(9) }], ..plan };
    task.start(&[Start::default()], None, 0).expect("starts");
    task.suspend().expect("it runs");
    task.restore(&plan).expect("memory does not fail");
    task.replay(0, &chunk(&[(Some("x"), 8), (None, 14), (None, 2)]), Offset(9)).expect("it is restoring");
    let mut repaired = Vec::new();
    task.context.overlay().dirty(0, |_, time, value, _| {
        repaired.push((time, value.map(|value| String::from_utf8_lossy(value).into_owned())));
    });
    let expected = [(8, "c"), (14, "d"), (13, "d"), (13, "d")];
    assert_eq!(repaired, expected.map(|(time, value)| (time, Some(value.to_owned()))));
}
