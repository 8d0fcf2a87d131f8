//! Calls that go wrong: each is cut off, told apart, and leaves the next instance untouched.

use std::time::Instant;

use super::*;

/// Processes a good record, the attack and a good one: the fault must be of `kind` and say `part`,
/// the instance be unusable, and a fresh one go on.
fn check(attack: &str, kind: FaultKind, part: &str) -> Fault {
    let (mut guest, mut context) = ready(&[]);
    let fault = process(&mut guest, &mut context, &["good", attack, "good"]).unwrap_err();
    assert_eq!(fault.kind, kind, "{attack}: {fault}");
    assert!(fault.to_string().contains(part), "{attack}: {part:?} is missing in: {fault}");

    let unusable = process(&mut guest, &mut context, &["good"]).unwrap_err();
    assert!(unusable.message.contains("was not reset"), "{unusable}");
    guest.reset(&mut context).unwrap();
    assert_eq!(said(&process(&mut guest, &mut context, &["good"]).unwrap()), ["good"]);
    fault
}

#[test]
fn a_panic_is_told_with_its_message() {
    check("panic", FaultKind::Trap, "the record is cursed");
    check("abort", FaultKind::Trap, "panicked or aborted");
    check("exit", FaultKind::Trap, "exit(");
    check("recurse", FaultKind::Trap, "call stack exhausted");
}

#[test]
fn what_takes_too_long_is_stopped() {
    for attack in ["loop", "sleep", "print-forever"] {
        let start = Instant::now();
        check(attack, FaultKind::Timeout, "longer than the 1000 ms allowed");
        assert!(start.elapsed() < Duration::from_secs(20), "{attack} took {:?}", start.elapsed());
    }
    // Where it looped, and what it said before.
    let (mut guest, mut context) = ready(&[]);
    let fault = process(&mut guest, &mut context, &["print one", "print two", "loop"]).unwrap_err();
    assert!(fault.message.contains("attacks::spin"), "{fault}");
    assert_eq!(fault.lines, ["one", "two"]);
}

#[test]
fn what_takes_too_much_memory_is_stopped() {
    check("allocate", FaultKind::Memory, "33554432 allowed");
}

#[test]
fn a_flood_of_output_is_stopped() {
    // Over the limit, and so far over it that it is not even copied.
    check("flood 5000000", FaultKind::Flood, "4194304 bytes of output");
    check("flood 12000000", FaultKind::Flood, "handed over more than 8388608 bytes");
    let (mut guest, mut context) = ready(&[]);
    assert!(process(&mut guest, &mut context, &["flood 3000000"]).is_ok());
}

#[test]
fn failures_are_handed_on() {
    let (mut guest, mut context) = ready(&[]);
    let fault = process(&mut guest, &mut context, &["print before", "err"]).unwrap_err();
    assert_eq!((fault.message.as_str(), fault.lines), ("refused", vec!["before".to_owned()]));
    let fault = check("err", FaultKind::Processing, "refused");
    assert_eq!((fault.index, fault.node.as_deref()), (Some(1), Some("hostile")));
    check("err-deserialization", FaultKind::Deserialization, "not a number");
    check("err-serialization", FaultKind::Serialization, "not a string");
    assert_eq!(check("err-elsewhere", FaultKind::Processing, "refused").index, None);
}

#[test]
fn malformed_outputs_are_refused() {
    let parts = [
        ("lengths", "lengths of its values"),
        ("negative", "lengths of its values"),
        ("timestamps", "2 timestamps and 1 keys"),
        ("headers", "headers"),
        ("origins", "origins beyond the 3 records"),
        ("partitions", "0 partitions"),
        ("topic", "no name"),
    ];
    for (how, part) in parts {
        check(&format!("malformed {how}"), FaultKind::Trap, part);
    }
}

#[test]
fn misuse_of_the_host_traps() {
    check("misput lengths", FaultKind::Trap, "malformed column of keys");
    check("misput null", FaultKind::Trap, "null key");
    check("misput rows", FaultKind::Trap, "0 timestamps");
    check("flood-state", FaultKind::Trap, "1048576 bytes");
    check("hoard", FaultKind::Trap, "");
    check("schedule 0", FaultKind::Trap, "at least 1");
    check("open nowhere", FaultKind::Processing, "no store `nowhere`");
}

#[test]
fn a_fault_of_one_task_leaves_the_others_alone() {
    let module = module(&[]);
    let mut contexts = [context(), context()];
    let mut guests = [module.instantiate(task(0)), module.instantiate(task(1))];
    for (guest, context) in guests.iter_mut().zip(&mut contexts) {
        guest.reset(context).unwrap();
        process(guest, context, &["put k=1"]).unwrap();
    }
    process(&mut guests[0], &mut contexts[0], &["panic"]).unwrap_err();
    assert_eq!(said(&process(&mut guests[1], &mut contexts[1], &["get k"]).unwrap()), ["1 at 7"]);
}

#[test]
fn an_init_that_fails_says_so() {
    for (attack, kind, part) in [
        ("err", FaultKind::Processing, "not today"),
        ("panic", FaultKind::Trap, "cursed"),
        ("loop", FaultKind::Timeout, "`init`"),
    ] {
        let mut guest = module(&[("HOSTILE_INIT", attack)]).instantiate(task(0));
        let fault = guest.reset(&mut context()).unwrap_err();
        assert_eq!(fault.kind, kind, "{attack}");
        assert!(fault.to_string().contains(part), "{attack}: {fault}");
    }
}
