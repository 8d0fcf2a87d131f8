//! Calls that go well, and what the module reaches in them.

use millrace_engine::record::{Changes, Header};

use super::*;

#[test]
fn records_come_and_go_in_order() {
    let (mut guest, mut context) = ready(&[]);
    let outputs = process(&mut guest, &mut context, &["a", "b", "c"]).unwrap();
    assert_eq!(said(&outputs), ["a", "b", "c"]);
    assert_eq!(outputs[2].origins, [2]);
    assert_eq!((outputs[0].topic.as_str(), &outputs[0].partitions), ("out", &None));
    assert!(process(&mut guest, &mut context, &[]).unwrap().is_empty());
}

#[test]
fn state_is_read_and_written_in_the_context() {
    let (mut guest, mut context) = ready(&[]);
    process(&mut guest, &mut context, &["put k=1", "put a=2", "put k=3"]).unwrap();
    let outputs = process(&mut guest, &mut context, &["get k", "get absent", "scan"]).unwrap();
    assert_eq!(said(&outputs), ["3 at 7", "null at 0", "a,k"]);
    let found = context.get(0, &[Some(b"k".as_slice())].into_iter().collect()).unwrap();
    assert_eq!(found.values.bytes, b"3");
}

#[test]
fn the_context_is_reached() {
    let (mut guest, mut context) = ready(&[]);
    let outputs = process(&mut guest, &mut context, &["partitions in", "partitions x", "schedule 100"]).unwrap();
    assert_eq!(said(&outputs)[..2], ["Some(4)", "None"]);
    let schedule: u32 = said(&outputs)[2].parse().unwrap();
    let outputs = guest.punctuate(schedule, 55, &mut context).unwrap();
    assert_eq!(said(&outputs), [format!("schedule {schedule} at 55")]);
}

#[test]
fn changes_are_flushed() {
    let (mut guest, mut context) = ready(&[]);
    let column = |text: &str| [Some(text.as_bytes())].into_iter().collect::<Column>();
    let header = Header { index: 0, key: "h".to_owned(), value: Some(vec![1]) };
    let mut changes = Changes {
        keys: column("k"),
        old_values: [None].into_iter().collect(),
        new_values: column("v"),
        timestamps: vec![1],
        headers: vec![header],
    };
    let lent = changes.clone();
    let outputs = guest.flush("store", &mut changes, &mut context).unwrap();
    assert_eq!(said(&outputs), ["store: k: null -> v"]);
    assert_eq!(changes, lent);
}

#[test]
fn timestamps_are_extracted() {
    let (mut guest, _) = ready(&[]);
    let mut records = input(&["17", "previous", "offset", "-1"]);
    assert_eq!(guest.extract(&mut records, Some(9)).unwrap(), [17, 9, 2, -1]);
    assert_eq!(records, input(&["17", "previous", "offset", "-1"]));

    let fault = guest.extract(&mut input(&["1", "x"]), None).unwrap_err();
    assert_eq!((fault.kind, fault.index), (FaultKind::Deserialization, Some(1)));

    guest.reset(&mut context()).unwrap();
    let fault = guest.extract(&mut input(&["1", "too few"]), None).unwrap_err();
    assert!(fault.message.contains("0 timestamps for 2 records"), "{fault}");
}

#[test]
fn nothing_is_reached_but_what_is_granted() {
    let (mut guest, mut context) = ready(&[("GRANTED", "yes")]);
    let outputs = process(&mut guest, &mut context, &["reach"]).unwrap();
    assert_eq!(said(&outputs), ["env GRANTED=yes file false network false arguments 0 clock true"]);
}

#[test]
fn the_word_count_counts() {
    let module = Module::load(&component("guest-wordcount"), settings(&[]), None).unwrap();
    let mut guest = module.instantiate(TaskInfo { topics: vec!["input-topic".to_owned()], ..task(0) });
    let mut context = context_with("count-store");
    guest.reset(&mut context).unwrap();
    let mut records = input(&["x", "x", "x", "x", "x"]);
    records.records.keys = ["foo", "hello", "foo", "john", "hello"].iter().map(|key| Some(key.as_bytes())).collect();
    let outputs = guest.process(&mut records, &mut context).unwrap();
    assert_eq!(outputs[0].topic, "counts-topic");
    assert_eq!(said(&outputs), ["1", "1", "2", "1", "2"]);
    let counts = context.get(0, &["foo", "hello", "john"].iter().map(|key| Some(key.as_bytes())).collect()).unwrap();
    let expected: Vec<u8> = [2_i64, 2, 1].iter().flat_map(|count| count.to_be_bytes()).collect();
    assert_eq!(counts.values.bytes, expected);
}
