//! Tests of a task through one door: a scenario in, what came out of it.

use std::sync::{Arc, Mutex};

use super::*;
use crate::commit::{Guarantee, commit};
use crate::memory::Memory;
use crate::quarantine::{Policies, Policy};
use crate::record::Batch;
use crate::sim::guest::{Behaviour, Count};
use crate::sim::log::{Cluster, Producer};

pub(crate) fn spec(inputs: usize, behaviour: &Behaviour) -> TaskSpec {
    let input = |index: usize| InputSpec {
        name: format!("input-{index}"),
        topic: format!("input-{index}").into(),
        partition: 0,
        extracts_timestamps: behaviour.extract,
    };
    TaskSpec {
        id: TaskId { subtopology: 0, partition: 0 },
        application_id: "app".to_owned(),
        inputs: (0..inputs).map(input).collect(),
        stores: vec![StoreSpec {
            name: "count-store".to_owned(),
            cached: behaviour.cached,
            persistent: true,
            changelog: Some("app-count-store-changelog".into()),
            expiry: None,
        }],
        outputs: [("counts".to_owned(), "counts".into()), ("r-repartition".to_owned(), "app-r-repartition".into())]
            .into(),
        dynamic_sinks: false,
        partition_counts: Arc::default(),
        caching: true,
    }
}

/// A task, running, and the log it writes to.
pub(crate) struct Bench {
    pub(crate) task: Task,
    pub(crate) log: Producer,
    pub(crate) cluster: Arc<Mutex<Cluster>>,
}

impl Bench {
    pub(crate) fn new(inputs: usize, behaviour: Behaviour, settings: Settings) -> Self {
        let spec = Arc::new(spec(inputs, &behaviour));
        let database = Box::new(Memory::new(["count-store".to_owned()]));
        let mut task = Task::new(spec, Arc::new(settings), Box::new(Count::new(behaviour)), database);
        let cluster = Arc::new(Mutex::new(Cluster::default()));
        task.restoring().expect("legal");
        task.start(&vec![Start::default(); inputs], None, 0).expect("starts");
        Self { task, log: Producer::new(&cluster, false), cluster }
    }

    /// Buffers records of an input: offset, key (empty: null), value and timestamp.
    pub(crate) fn add(&mut self, input: usize, records: &[(i64, &str, &str, i64)]) {
        let mut chunk = Chunk::default();
        for &(offset, key, value, timestamp) in records {
            chunk.offsets.push(offset);
            let key = Some(key.as_bytes()).filter(|key| !key.is_empty());
            chunk.records.push(key, Some(value.as_bytes()), timestamp);
        }
        self.task.add(input, chunk);
    }

    pub(crate) fn process(&mut self) -> Result<Vec<usize>, Error> {
        let mut batches = Vec::new();
        loop {
            let done = self.task.process(1_000_000, &mut self.log)?;
            if !done.more {
                return Ok(batches);
            }
            if done.records > 0 {
                batches.push(done.records);
            }
        }
    }

    /// What a topic holds: key, value (a count as its number) and timestamp.
    pub(crate) fn written(&mut self, topic: &str) -> Vec<String> {
        self.log.write(self.log.queued());
        let cluster = self.cluster.lock().expect("no test panics with it");
        let text = |bytes: Option<&Vec<u8>>| match bytes {
            None => "null".to_owned(),
            Some(bytes) if bytes.len() == 8 && bytes[0] == 0 => crate::sim::guest::number(bytes).to_string(),
            Some(bytes) => String::from_utf8_lossy(bytes).into_owned(),
        };
        let records = cluster.read(&TopicPartition::new(topic, 0), 0);
        records.iter().map(|r| format!("{}={}@{}", text(r.key.as_ref()), text(r.value.as_ref()), r.timestamp)).collect()
    }
}

#[test]
fn a_count_is_kept_forwarded_and_committed() {
    let mut bench = Bench::new(1, Behaviour::default(), Settings::default());
    bench.add(0, &[(0, "foo", "a", 5), (1, "hello", "b", 6), (2, "foo", "c", 4), (7, "", "d", 9)]);
    assert_eq!(bench.process().expect("processes"), [4]);
    assert_eq!(bench.written("counts"), ["foo=1@5", "hello=1@6", "foo=2@5"]);
    assert!(bench.written("app-count-store-changelog").is_empty());
    let done = commit(&mut [&mut bench.task], &mut bench.log, Guarantee::AtLeastOnce).expect("commits");
    assert_eq!((done.tasks, done.changelog_records), (1, 2));
    // The last value of each key, in the order of the last changes.
    assert_eq!(bench.written("app-count-store-changelog"), ["hello=1@6", "foo=2@5"]);
    let positions = bench.task.stored_positions().expect("reads");
    assert_eq!(positions.inputs, [(TopicPartition::new("input-0", 0), Offset(8))]);
    assert_eq!(positions.changelogs, [("count-store".to_owned(), Offset(2))]);
    assert_eq!(positions.stream_time, Some(9));
    let cluster = bench.cluster.lock().expect("no test panics with it");
    let committed = cluster.committed(&TopicPartition::new("input-0", 0)).expect("committed");
    assert_eq!(committed.offset, Offset(8));
    assert_eq!(crate::commit::Metadata::decode(&committed.metadata).partition_time, Some(9));
    drop(cluster);
    assert_eq!(bench.task.take_dropped()[0].count, 1);
    assert!(!bench.task.is_commit_needed());
}

#[test]
fn a_record_known_already_is_not_processed_again() {
    let mut bench = Bench::new(1, Behaviour::default(), Settings::default());
    bench.add(0, &[(0, "a", "", 1), (1, "a", "", 2)]);
    bench.add(0, &[(0, "a", "", 1), (1, "a", "", 2), (2, "a", "", 3)]);
    bench.add(0, &[(1, "a", "", 2)]);
    bench.process().expect("processes");
    assert_eq!(bench.written("counts"), ["a=1@1", "a=2@2", "a=3@3"]);
}

#[test]
fn the_lowest_timestamp_of_all_inputs_is_next() {
    let check = |first: &[i64], second: &[i64], expected: &[&str]| {
        let mut bench = Bench::new(2, Behaviour::default(), Settings::default());
        for (input, times) in [first, second].into_iter().enumerate() {
            let key = ["a", "b"][input];
            let records: Vec<_> = times.iter().zip(0..).map(|(&time, offset)| (offset, key, "", time)).collect();
            bench.add(input, &records);
        }
        bench.process().expect("processes");
        let keys: Vec<String> = bench.written("counts").iter().map(|text| text[..1].to_owned()).collect();
        assert_eq!(keys, expected);
    };
    check(&[1, 2, 3], &[], &["a", "a", "a"]);
    check(&[1, 4, 5], &[2, 3, 9], &["a", "b", "b", "a", "a", "b"]);
    // Within a partition the order is the log's, whatever the timestamps.
    check(&[9, 1], &[5, 6], &["b", "b", "a", "a"]);
    // Equal timestamps take turns.
    check(&[5, 5, 5], &[5, 5], &["a", "b", "a", "b", "a"]);
}

#[test]
fn inputs_take_turns_across_batches_too() {
    let settings = Settings { batch_records: 1, ..Settings::default() };
    let mut bench = Bench::new(2, Behaviour::default(), settings);
    // The second input has records first, so it has waited for longer.
    bench.add(1, &[(0, "b", "", 5), (1, "b", "", 7)]);
    bench.add(0, &[(0, "a", "", 5), (1, "a", "", 7)]);
    bench.process().expect("processes");
    let keys: Vec<String> = bench.written("counts").iter().map(|text| text[..1].to_owned()).collect();
    assert_eq!(keys, ["b", "a", "b", "a"]);
}

#[test]
fn a_batch_ends_at_its_limits_and_at_punctuations() {
    let check = |settings: Settings, schedule: Option<(Clock, i64)>, expected: &[usize]| {
        let mut bench = Bench::new(1, Behaviour { schedule, ..Behaviour::default() }, settings);
        bench.add(0, &[(0, "a", "12345678", 1), (1, "a", "1", 12), (2, "a", "1", 13), (3, "a", "1", 35)]);
        bench.add(0, &[(4, "a", "1", 36)]);
        assert_eq!(bench.process().expect("processes"), expected);
    };
    let records = |batch_records| Settings { batch_records, ..Settings::default() };
    check(Settings::default(), None, &[5]);
    check(records(3), None, &[3, 2]);
    check(Settings { batch_bytes: 8, ..Settings::default() }, None, &[1, 4]);
    check(Settings::default(), Some((Clock::WallClock, 1)), &[5]);
    check(Settings::default(), Some((Clock::StreamTime, 10)), &[1, 1, 2, 1]);
}

#[test]
fn stream_time_punctuates_after_the_record_that_makes_it_due() {
    let behaviour = Behaviour { schedule: Some((Clock::StreamTime, 10)), ..Behaviour::default() };
    let mut bench = Bench::new(1, behaviour, Settings::default());
    bench.add(0, &[(0, "a", "", 3), (1, "a", "", 9), (2, "a", "", 10), (3, "a", "", 35), (4, "a", "", 39)]);
    bench.process().expect("processes");
    let expected = ["a=1@3", "punctuated=stream@3", "a=2@9", "a=3@10", "punctuated=stream@10"];
    assert_eq!(bench.written("counts")[..5], expected);
    assert_eq!(bench.written("counts")[5..], ["a=4@35", "punctuated=stream@35", "a=5@39"]);
}

#[test]
fn the_wall_clock_punctuates_once_however_late() {
    let behaviour = Behaviour { schedule: Some((Clock::WallClock, 10)), ..Behaviour::default() };
    let mut bench = Bench::new(1, behaviour, Settings::default());
    let counts = [0, 9, 10, 19, 45, 49, 50].map(|now| bench.task.punctuate(now, &mut bench.log).expect("punctuates"));
    assert_eq!(counts, [0, 0, 1, 0, 1, 0, 1]);
    assert_eq!(bench.task.next_wall_clock_ms(), Some(60));
}

#[test]
fn a_cached_store_forwards_once_per_commit() {
    let mut bench = Bench::new(1, Behaviour { cached: true, ..Behaviour::default() }, Settings::default());
    bench.add(0, &[(0, "a", "", 1), (1, "b", "", 2), (2, "a", "", 3)]);
    bench.process().expect("processes");
    assert!(bench.written("counts").is_empty());
    commit(&mut [&mut bench.task], &mut bench.log, Guarantee::AtLeastOnce).expect("commits");
    assert_eq!(bench.written("counts"), ["b=1@2", "a=2@3"]);
}

#[test]
fn timestamps_come_from_the_module_if_the_source_says_so() {
    let mut bench = Bench::new(1, Behaviour { extract: true, ..Behaviour::default() }, Settings::default());
    bench.add(0, &[(0, "a", "100", 1), (1, "b", "-1", 2), (2, "a", "90", 3), (3, "b", "-5", 3)]);
    bench.process().expect("processes");
    assert_eq!(bench.written("counts"), ["a=1@100", "a=2@100"]);
    assert_eq!(bench.task.position(0), Some(Offset(4)));
    assert_eq!(bench.task.take_dropped()[0].count, 2);
}

#[test]
fn a_full_partition_is_paused_until_it_is_half_empty() {
    let mut bench = Bench::new(2, Behaviour::default(), Settings { batch_records: 1, ..Settings::default() });
    let limits = BufferLimits { records: 4, bytes: 1_000 };
    bench.add(1, &[(0, "a", "", 1), (1, "a", "", 2), (2, "a", "", 3)]);
    assert_eq!(bench.task.flow(limits), Flow::default());
    bench.add(1, &[(3, "a", "", 4)]);
    assert_eq!(bench.task.flow(limits).pause, [1]);
    assert_eq!(bench.task.flow(limits), Flow::default());
    for expected in [vec![], vec![1], vec![]] {
        bench.task.process(0, &mut bench.log).expect("processes");
        assert_eq!(bench.task.flow(limits).resume, expected);
    }
}

#[test]
fn an_input_that_goes_on_is_waited_for() {
    let settings = Settings { max_task_idle_ms: Some(10), ..Settings::default() };
    let mut bench = Bench::new(2, Behaviour::default(), settings);
    bench.add(0, &[(0, "a", "", 1)]);
    bench.task.set_behind(1, true);
    let processed = |bench: &mut Bench, now| bench.task.process(now, &mut bench.log).expect("processes").records;
    assert_eq!(processed(&mut bench, 0), 0);
    assert_eq!(processed(&mut bench, 1_000), 0);
    bench.task.set_behind(1, false);
    assert_eq!(processed(&mut bench, 1_001), 0);
    assert_eq!(processed(&mut bench, 1_010), 0);
    assert_eq!(processed(&mut bench, 1_011), 1);
}

#[test]
fn an_input_that_goes_on_ends_the_batch_where_it_runs_dry() {
    for (max_task_idle_ms, counts) in [(Some(0), [2, 0, 2]), (None, [4, 0, 1])] {
        let mut bench = Bench::new(2, Behaviour::default(), Settings { max_task_idle_ms, ..Settings::default() });
        bench.task.set_behind(1, true);
        bench.add(0, &[(0, "a", "", 1), (1, "a", "", 3), (2, "a", "", 5)]);
        bench.add(1, &[(0, "a", "", 2)]);
        let processed = |bench: &mut Bench| bench.task.process(0, &mut bench.log).expect("processes").records;
        let before = [processed(&mut bench), processed(&mut bench)];
        bench.add(1, &[(1, "a", "", 4)]);
        assert_eq!([before[0], before[1], processed(&mut bench)], counts, "{max_task_idle_ms:?}");
    }
}

#[test]
fn only_legal_moves_are_made() {
    let mut task = Bench::new(1, Behaviour::default(), Settings::default()).task;
    assert!(task.resume().is_err());
    task.suspend().expect("legal");
    assert!(task.suspend().is_err());
    task.resume().expect("legal");
    assert!(task.follow(&[]).is_err(), "it runs");
    task.suspend().expect("legal");
    task.follow(&[]).expect("legal");
    task.follow(&[]).expect("legal, for other stores");
    assert!(task.suspend().is_err() && task.resume().is_err());
    task.restoring().expect("legal");
    assert!(task.follow(&[]).is_err(), "it is restoring");
    task.close();
    assert!(task.restoring().is_err() && task.follow(&[]).is_err());
    assert_eq!(task.phase(), Phase::Closed);
}

#[test]
fn what_the_log_does_not_take_now_is_sent_later() {
    let mut bench = Bench::new(1, Behaviour::default(), Settings { batch_records: 2, ..Settings::default() });
    bench.add(0, &[(0, "a", "", 1), (1, "b", "", 2), (2, "c", "", 3)]);
    bench.log.fails_in = Some((1, || Error::Retry("queue full".to_owned())));
    bench.process().expect("nothing is lost by it");
    assert_eq!(bench.written("counts"), ["a=1@1", "b=1@2", "c=1@3"]);
}

fn policy(otherwise: Policy) -> Settings {
    Settings { policies: Policies { otherwise, kinds: Vec::new() }, ..Settings::default() }
}

/// Whether the module names the failing record or not, its neighbours are processed as if it had never come.
#[test]
fn a_failing_record_is_isolated() {
    for silent in [false, true] {
        let poison = Some(b"bad".to_vec());
        let behaviour = Behaviour { poison, silent, ..Behaviour::default() };
        let letters = Policy::DeadLetter { topic: "letters".to_owned() };
        let mut bench = Bench::new(1, behaviour, policy(letters.clone()));
        bench.add(0, &[(0, "a", "", 1), (1, "a", "bad", 2), (2, "a", "", 3), (3, "b", "bad", 9), (4, "c", "", 5)]);
        bench.process().expect("processes");
        assert_eq!(bench.written("counts"), ["a=1@1", "a=2@3", "c=1@5"]);
        assert_eq!(bench.written("letters"), ["a=bad@2", "b=bad@9"]);
        assert_eq!(bench.task.position(0), Some(Offset(5)));
        assert_eq!(bench.task.stream_time(), Some(5));
        let incidents = bench.task.take_incidents();
        let told: Vec<_> = incidents.iter().map(|i| format!("{}: {}={}", i.place, i.key, i.value)).collect();
        assert_eq!(told, ["input-0-0 offset 1: \"a\"=\"bad\"", "input-0-0 offset 3: \"b\"=\"bad\""]);
        let cluster = bench.cluster.lock().expect("no test panics with it");
        let letter = cluster.read(&TopicPartition::new("letters", 0), 0)[0].clone();
        let text = |h: &crate::record::Header| String::from_utf8(h.value.clone().expect("set")).expect("text");
        let headers: Vec<_> = letter.headers.iter().map(|h| (h.key.as_str(), text(h))).collect();
        let kind = if silent { "Trap" } else { "Processing" };
        let trace = if silent { "Trap: poison" } else { "Processing: poison\n\tat KSTREAM-AGGREGATE-0000000003" };
        let expected = [
            ("__streams.errors.exception", kind),
            ("__streams.errors.message", "poison"),
            ("__streams.errors.stacktrace", trace),
            ("__streams.errors.topic", "input-0"),
            ("__streams.errors.partition", "0"),
            ("__streams.errors.offset", "1"),
        ];
        assert_eq!(headers, expected.map(|(key, value)| (key, value.to_owned())));
    }
}

#[test]
fn a_task_that_fails_stops_before_the_record() {
    for silent in [false, true] {
        let behaviour = Behaviour { poison: Some(b"bad".to_vec()), silent, ..Behaviour::default() };
        let mut bench = Bench::new(1, behaviour, Settings::default());
        bench.add(0, &[(0, "a", "", 1), (1, "a", "bad", 2), (2, "a", "", 3)]);
        let error = bench.process().expect_err("stops").to_string();
        let expected = if silent {
            "input-0-0 offset 1: Trap: poison"
        } else {
            "input-0-0 offset 1, node KSTREAM-AGGREGATE-0000000003: Processing: poison"
        };
        assert_eq!(error, expected);
        assert_eq!(bench.task.phase(), Phase::Suspended);
        assert_eq!(bench.process().expect("does nothing"), [0; 0]);
        commit(&mut [&mut bench.task], &mut bench.log, Guarantee::AtLeastOnce).expect("commits");
        assert_eq!(bench.written("app-count-store-changelog"), ["a=1@1"]);
        assert_eq!(bench.task.stored_positions().expect("reads").inputs[0].1, Offset(1));
        let cluster = bench.cluster.lock().expect("no test panics with it");
        let committed = cluster.committed(&TopicPartition::new("input-0", 0)).expect("committed");
        assert_eq!(crate::commit::Metadata::decode(&committed.metadata).partition_time, Some(1));
    }
}

/// However many records loop, there is a moment for a commit between any two calls that take all their time: a
/// transaction would not outlive two of them. Each of those commits counts what is through and no more.
#[test]
fn a_task_can_be_committed_between_calls_that_time_out() {
    let check = |extract: bool, schedule: Option<(Clock, i64)>| {
        let behaviour =
            Behaviour { poison: Some(b"bad".to_vec()), endless: true, extract, schedule, ..Behaviour::default() };
        let cut_off = Arc::clone(&behaviour.cut_off);
        let mut bench = Bench::new(1, behaviour, policy(Policy::Skip));
        bench
            .add(0, &[(0, "a", "5", 5), (1, "a", "bad", 99), (2, "a", "6", 6), (3, "b", "bad", 7), (4, "b", "bad", 8)]);
        bench.add(0, &[(5, "a", "9", 9), (6, "c", "bad", 10)]);
        let (mut calls, mut committed) = (0, Vec::new());
        loop {
            let done = bench.task.process(1_000_000, &mut bench.log).expect("processes");
            let before = std::mem::replace(&mut calls, cut_off.load(std::sync::atomic::Ordering::Relaxed));
            assert!(calls <= before + 1, "{} calls timed out in one turn", calls - before);
            commit(&mut [&mut bench.task], &mut bench.log, Guarantee::ExactlyOnce).expect("commits");
            let stored = bench.task.stored_positions().expect("reads");
            committed.extend(stored.inputs.first().map(|(_, offset)| (offset.0, stored.stream_time)));
            if !done.more {
                break;
            }
        }
        assert_eq!(bench.written("counts"), ["a=1@5", "a=2@6", "a=3@9"]);
        committed.dedup();
        committed
    };
    let all = [(1, Some(5)), (2, Some(5)), (3, Some(6)), (4, Some(6)), (5, Some(6)), (6, Some(9)), (7, Some(9))];
    assert_eq!(check(false, None), all);
    // A punctuation that loops is a record less in each turn, too.
    assert_eq!(check(false, Some((Clock::StreamTime, 2))).last(), all.last());
    // Here they are known before the batch is made.
    assert_eq!(check(true, None), [(5, Some(6)), (7, Some(9))]);
}

#[test]
fn an_undecodable_timestamp_is_a_failing_record() {
    let behaviour = || Behaviour { extract: true, ..Behaviour::default() };
    let records = [(0, "a", "10", 0), (1, "b", "bad", 0), (2, "c", "30", 0)];
    let mut bench = Bench::new(1, behaviour(), policy(Policy::Skip));
    bench.add(0, &records);
    bench.process().expect("processes");
    assert_eq!(bench.written("counts"), ["a=1@10", "c=1@30"]);
    let mut bench = Bench::new(1, behaviour(), Settings::default());
    bench.add(0, &records);
    let error = bench.process().expect_err("stops").to_string();
    assert!(error.starts_with("input-0-0 offset 1"), "{error}");
    assert_eq!(bench.written("counts"), ["a=1@10"]);
    assert_eq!(bench.task.position(0), Some(Offset(1)));
}

#[test]
fn a_flood_of_state_is_cut_off() {
    let behaviour = Behaviour { poison: Some(b"bad".to_vec()), flood: true, ..Behaviour::default() };
    let mut settings = policy(Policy::Skip);
    settings.call.state_bytes = 1_000;
    let mut bench = Bench::new(1, behaviour, settings);
    bench.add(0, &[(0, "a", "bad", 1), (1, "a", "", 2)]);
    bench.process().expect("processes");
    assert_eq!(bench.written("counts"), ["a=1@2"]);
    assert_eq!(bench.task.take_incidents()[0].fault.kind, crate::ports::FaultKind::Flood);
}

#[test]
fn a_change_that_can_not_be_flushed_is_left_out() {
    let behaviour = Behaviour { poison: Some(b"b".to_vec()), cached: true, ..Behaviour::default() };
    let mut bench = Bench::new(1, behaviour, policy(Policy::Skip));
    bench.add(0, &[(0, "a", "", 1), (1, "b", "", 2), (2, "c", "", 3)]);
    bench.process().expect("processes");
    commit(&mut [&mut bench.task], &mut bench.log, Guarantee::AtLeastOnce).expect("commits");
    assert_eq!(bench.written("counts"), ["a=1@1", "c=1@3"]);
    assert_eq!(bench.written("app-count-store-changelog"), ["a=1@1", "b=1@2", "c=1@3"]);
}

#[test]
fn an_output_that_is_refused_is_its_origins_fault() {
    let refuses = Some(("counts".to_owned(), 2_u64.to_be_bytes().to_vec()));
    let letters = Policy::DeadLetter { topic: "letters".to_owned() };
    for (origins, expected) in [(true, "a=second@2"), (false, "a=2@2")] {
        let mut bench = Bench::new(1, Behaviour { origins, ..Behaviour::default() }, policy(letters.clone()));
        bench.log.refuses = refuses.clone();
        bench.add(0, &[(0, "a", "first", 1), (1, "a", "second", 2), (2, "a", "third", 3)]);
        bench.process().expect("processes");
        assert_eq!(bench.written("counts"), ["a=1@1", "a=3@3"]);
        assert_eq!(bench.written("letters"), [expected]);
    }
    let mut bench = Bench::new(1, Behaviour { origins: true, ..Behaviour::default() }, Settings::default());
    bench.log.refuses = refuses;
    bench.add(0, &[(0, "a", "first", 1), (1, "a", "second", 2)]);
    let error = bench.process().expect_err("stops");
    assert!(matches!(&error, Error::Fatal(text) if text.starts_with("input-0-0 offset 1: ")), "{error}");
    assert_eq!(bench.task.phase(), Phase::Closed);
}

/// What is known beforehand leaves nothing behind: the third record makes the count that the second one would have.
#[test]
fn an_output_that_would_be_refused_undoes_its_call() {
    for origins in [true, false] {
        let letters = Policy::DeadLetter { topic: "letters".to_owned() };
        let mut bench = Bench::new(1, Behaviour { origins, ..Behaviour::default() }, policy(letters));
        bench.log.refuses = Some(("counts".to_owned(), 2_u64.to_be_bytes().to_vec()));
        bench.log.foresees = true;
        bench.add(0, &[(0, "a", "first", 1), (1, "a", "second", 2), (2, "b", "", 3), (3, "a", "third", 4)]);
        bench.process().expect("processes");
        assert_eq!(bench.written("counts"), ["a=1@1", "b=1@3"]);
        commit(&mut [&mut bench.task], &mut bench.log, Guarantee::AtLeastOnce).expect("commits");
        assert_eq!(bench.written("letters"), ["a=second@2", "a=third@4"]);
        assert_eq!(bench.written("app-count-store-changelog"), ["a=1@1", "b=1@3"]);
    }
}

#[test]
fn an_output_for_an_unknown_topic_is_a_fault() {
    let check = |topic: &str, dynamic: bool, expected: Option<&str>| {
        let behaviour = Behaviour { output: Some(topic.to_owned()), ..Behaviour::default() };
        let mut bench = Bench::new(1, behaviour, policy(Policy::Skip));
        let mut spec = (*bench.task.spec).clone();
        spec.dynamic_sinks = dynamic;
        bench.task.spec = Arc::new(spec);
        bench.add(0, &[(0, "a", "", 1)]);
        bench.process().expect("processes");
        match expected {
            Some(topic) => assert_eq!(bench.written(topic), ["a=1@1"]),
            None => assert_eq!(bench.task.take_incidents().len(), 1),
        }
    };
    check("counts", false, Some("counts"));
    check("r-repartition", false, Some("app-r-repartition"));
    check("elsewhere", false, None);
    check("elsewhere", true, Some("elsewhere"));
    check("", true, None);
}

#[test]
fn a_malformed_output_is_a_fault() {
    let spec = spec(1, &Behaviour::default());
    let check = |bytes: &[u8], lengths: &[i32], partitions: Option<&[i32]>, origins: &[u32], good: bool| {
        let mut records = Batch { timestamps: vec![1; lengths.len()], ..Batch::default() };
        records.keys.bytes = bytes.to_vec();
        records.keys.lengths = lengths.to_vec();
        records.values.lengths = vec![-1; lengths.len()];
        let partitions = partitions.map(<[i32]>::to_vec);
        let output =
            crate::record::Output { topic: "counts".to_owned(), records, partitions, origins: origins.to_vec() };
        let routed = route(vec![output], 2, &spec, &Settings::default());
        assert_eq!(routed.is_ok(), good, "{bytes:?} {lengths:?} {partitions:?}", partitions = routed.err());
    };
    check(b"ab", &[1, 1], None, &[0, 1], true);
    check(b"ab", &[1, -1], None, &[], false);
    check(b"ab", &[1, 2], None, &[], false);
    check(b"ab", &[i32::MAX, i32::MAX], None, &[], false);
    check(b"ab", &[-2, 4], None, &[], false);
    check(b"ab", &[1, 1], None, &[2, 0], false);
    check(b"ab", &[1, 1], None, &[0], false);
    check(b"ab", &[1, 1], Some(&[0, -1]), &[], true);
    check(b"ab", &[1, 1], Some(&[0]), &[], false);
    check(b"ab", &[1, 1], Some(&[0, -2]), &[], false);
}

/// Another version of the module for the bench's task.
fn successor(bench: &Bench, behaviour: Behaviour) -> Successor {
    let changelogs = std::collections::BTreeMap::new();
    Successor { spec: bench.task.spec().clone(), guest: Box::new(Count::new(behaviour)), changelogs }
}

#[test]
fn another_version_goes_on_at_a_commit_with_what_is_buffered() {
    let mut bench = Bench::new(1, Behaviour::default(), Settings::default());
    bench.add(0, &[(0, "foo", "a", 5)]);
    bench.process().expect("processes");
    let early = successor(&bench, Behaviour::default());
    assert!(matches!(bench.task.take_over(early), Err(Error::Fatal(_))), "there is something to commit");
    commit(&mut [&mut bench.task], &mut bench.log, Guarantee::AtLeastOnce).expect("commits");
    bench.add(0, &[(1, "foo", "b", 6)]);
    let renamed = Behaviour { output: Some("r-repartition".to_owned()), ..Behaviour::default() };
    let next = successor(&bench, renamed);
    assert!(bench.task.take_over(next).expect("goes on"));
    bench.add(0, &[(2, "foo", "c", 7)]);
    assert_eq!(bench.process().expect("processes"), [2]);
    assert_eq!(bench.written("counts"), ["foo=1@5"]);
    assert_eq!(bench.written("app-r-repartition"), ["foo=2@6", "foo=3@7"]);
}

#[test]
fn a_version_whose_init_fails_changes_nothing() {
    let schedule = Some((Clock::WallClock, 10));
    let mut bench = Bench::new(1, Behaviour { schedule, ..Behaviour::default() }, Settings::default());
    let due = bench.task.next_wall_clock_ms();
    let next = successor(&bench, Behaviour { init_fails: true, ..Behaviour::default() });
    let refused = bench.task.take_over(next);
    assert!(matches!(&refused, Err(Error::Guest(fault)) if fault.message.contains("not today")), "{refused:?}");
    assert_eq!((bench.task.phase(), bench.task.next_wall_clock_ms()), (Phase::Running, due));
    bench.add(0, &[(0, "foo", "a", 5)]);
    assert_eq!(bench.process().expect("processes"), [1]);
    assert_eq!(bench.written("counts"), ["foo=1@5"]);
}

#[test]
fn a_version_with_changed_stores_inputs_or_timestamps_does_not_take_a_task() {
    let bench = Bench::new(1, Behaviour::default(), Settings::default());
    let check = |expected: Fit, change: fn(&mut TaskSpec)| {
        let mut next = successor(&bench, Behaviour::default());
        change(Arc::make_mut(&mut next.spec));
        assert_eq!(bench.task.fit(&next), expected);
    };
    check(Fit::InPlace, |spec| spec.outputs.clear());
    check(Fit::InPlace, |spec| spec.stores.clear());
    check(Fit::InPlace, |spec| spec.stores.insert(0, StoreSpec { changelog: None, ..added() }));
    check(Fit::Unknown(vec![added_changelog()]), |spec| spec.stores.insert(0, added()));
    check(Fit::Anew, |spec| spec.stores[0].cached = true);
    check(Fit::Anew, |spec| spec.inputs.clear());
    check(Fit::Anew, |spec| spec.inputs[0].extracts_timestamps = true);
    let extracting = Bench::new(1, Behaviour { extract: true, ..Behaviour::default() }, Settings::default());
    assert_eq!(extracting.task.fit(&successor(&extracting, Behaviour::default())), Fit::Anew);
}

fn added() -> StoreSpec {
    let changelog = Some("app-added-store-changelog".into());
    StoreSpec { name: "added-store".to_owned(), cached: false, persistent: true, changelog, expiry: None }
}

fn added_changelog() -> TopicPartition {
    TopicPartition::new("app-added-store-changelog", 0)
}

/// A version that has one store more, whose changelog ends there.
fn with_added(bench: &Bench, end: i64, behaviour: Behaviour) -> Successor {
    let mut next = successor(bench, behaviour);
    Arc::make_mut(&mut next.spec).stores.insert(0, added());
    next.changelogs.insert(added_changelog(), (Offset(0), Offset(end)));
    next
}

fn stored_counts(bench: &mut Bench, store: &str) -> Option<Vec<u64>> {
    let context = bench.task.state();
    let rows = context.scan(context.store(store)?, (None, None), false, 9).expect("reads");
    Some(rows.values.iter().flatten().map(crate::sim::guest::number).collect())
}

#[test]
fn a_version_with_a_store_more_goes_on_with_those_that_are_there() {
    let mut bench = Bench::new(1, Behaviour::default(), Settings::default());
    bench.add(0, &[(0, "foo", "a", 5)]);
    bench.process().expect("processes");
    commit(&mut [&mut bench.task], &mut bench.log, Guarantee::AtLeastOnce).expect("commits");
    bench.add(0, &[(1, "foo", "b", 6), (2, "bar", "c", 6)]);
    let before = successor(&bench, Behaviour::default());

    // Its `init` fails: as if it had never been.
    let next = with_added(&bench, 0, Behaviour { init_fails: true, ..Behaviour::default() });
    assert!(bench.task.take_over(next).is_err());
    assert_eq!(stored_counts(&mut bench, "added-store"), None);
    // Somebody has written to its changelog: it would lack that.
    let next = with_added(&bench, 1, Behaviour::default());
    assert!(!bench.task.take_over(next).expect("it says so"));
    assert_eq!((stored_counts(&mut bench, "added-store"), bench.task.spec().stores.len()), (None, 1));

    let next = with_added(&bench, 0, Behaviour::default());
    assert!(bench.task.take_over(next).expect("goes on"));
    assert_eq!(bench.process().expect("processes"), [2]);
    assert_eq!(stored_counts(&mut bench, "count-store"), Some(vec![1, 2]));
    assert_eq!(stored_counts(&mut bench, "added-store"), Some(vec![1, 2]));
    commit(&mut [&mut bench.task], &mut bench.log, Guarantee::AtLeastOnce).expect("commits");
    assert_eq!(bench.written("app-added-store-changelog"), ["foo=2@6", "bar=1@6"]);
    let positions = bench.task.stored_positions().expect("reads").changelogs;
    assert!(positions.contains(&("added-store".to_owned(), Offset(2))), "{positions:?}");

    // And back to the version without it.
    assert!(bench.task.take_over(before).expect("goes on"));
    assert_eq!(stored_counts(&mut bench, "added-store"), None);
    assert_eq!(stored_counts(&mut bench, "count-store"), Some(vec![1, 2]));
}
