//! Versions of the module: pushed through Kafka, taken up by instances that run, refused, rolled back.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use millrace_e2e::app::App;
use millrace_e2e::counts::{Expect, Load, verify};
use millrace_e2e::kafka::Kafka;
use millrace_e2e::process::{Process, field};
use millrace_e2e::records::{self, Record};
use millrace_e2e::{http, setting, topics, wait};

const SWAPPED: &str = "the module was swapped";

/// An application whose instances run what is pushed.
fn app(test: &str) -> Result<App> {
    let mut app = App::new(&Kafka::shared()?, test)?;
    app.set("module.source", "uploaded");
    Ok(app)
}

/// The counting module in another version: see its `VERSION`.
fn version(app: &App, word: &str) -> Result<PathBuf> {
    let mut bytes = fs::read(setting::module("guest-counts")?).context("read the module")?;
    let sign = b"counts-version:plain..";
    let at = bytes.windows(sign.len()).position(|window| window == sign).context("the module has no version")?;
    let padded = format!("{word:.<7}");
    bytes[at + sign.len() - padded.len()..at + sign.len()].copy_from_slice(padded.as_bytes());
    let path = app.path(&format!("{word}.wasm"));
    fs::write(&path, bytes)?;
    Ok(path)
}

fn push(app: &App, word: &str, options: &[&str]) -> Result<String> {
    let file = version(app, word)?;
    let file = file.to_string_lossy();
    app.ask("a", &[&["module", "push", &*file], options].concat())
}

/// Waits until the list of versions has all of these words: instances say what they run when they have come to it.
fn listed(app: &App, words: &[&str]) -> Result<()> {
    let mut list = String::new();
    let said = wait::until("the list of versions to say so", wait::LONG, || {
        list = app.ask("a", &["module", "list"])?;
        Ok(words.iter().all(|word| list.contains(word)).then_some(()))
    });
    said.with_context(|| format!("{words:?} in\n{list}"))
}

/// Writes 10,000 records a second until it is told that it is enough.
fn load(app: &App, enough: &AtomicBool) -> Result<()> {
    let mut seed = 1;
    while !enough.load(Ordering::Relaxed) {
        Load { records: 1_000, keys: 500, value_size: 20, seed }.write(&app.kafka, &app.input)?;
        seed += 1;
        thread::park_timeout(Duration::from_millis(100));
    }
    Ok(())
}

/// Of each output partition: records before the first one of version `padded`, and after it. Fails where both are mixed.
fn parts(app: &App) -> Result<BTreeMap<i32, (usize, usize)>> {
    let mut parts: BTreeMap<i32, (usize, usize)> = BTreeMap::new();
    for found in records::read(&app.kafka, &app.output)? {
        let (before, after) = parts.entry(found.partition).or_default();
        if found.record.value.is_some_and(|value| value.len() == 12) {
            *after += 1;
        } else {
            ensure!(*after == 0, "partition {} has the former version's output after the next one's", found.partition);
            *before += 1;
        }
    }
    Ok(parts)
}

fn assignments(instances: &[&Process]) -> usize {
    instances.iter().map(|instance| instance.count(&["partitions assigned"])).sum()
}

/// Two instances take a version up under load, without a rebalance, and a third one starts with it.
fn swap_under_load(test: &str, guarantee: &str, word: &str) -> Result<()> {
    let mut app = app(test)?;
    app.set("processing.guarantee", guarantee);
    app.set("num.standby.replicas", "1");
    push(&app, "plain", &[])?;
    let (mut a, mut b) = (app.start("a")?, app.start("b")?);
    let group = app.group()?;
    let enough = AtomicBool::new(false);
    let (mut c, pauses) = thread::scope(|scope| {
        let writing = scope.spawn(|| load(&app, &enough));
        let outcome = (|| {
            wait::until("both to have tasks, and some progress", wait::LONG, || {
                let share = |of: &Process| of.has_line(&["partitions assigned", "partitions=2"]).is_some();
                Ok((share(&a) && share(&b) && group.progress()? > 5_000).then_some(()))
            })?;
            let before = assignments(&[&a, &b]);
            push(&app, word, &["--note", "with zeros"])?;
            let swapped = [SWAPPED, "version=2", "tasks=2", "reopened=0"];
            let lines = [a.line(&swapped)?, b.line(&swapped)?];
            ensure!(assignments(&[&a, &b]) == before, "there was a rebalance");
            if word == "stocked" {
                for instance in [&a, &b] {
                    instance.nth_line(&["the standby follows the changelogs of other stores"], 2, wait::LONG)?;
                }
            }
            let progress = group.progress()?;
            wait::until("progress with the new version", wait::LONG, || {
                Ok((group.progress()? > progress + 5_000).then_some(()))
            })?;
            let c = app.run("c")?;
            let pauses = lines.map(|line| field(&line.text, "pause_ms").unwrap_or_default().to_owned());
            Ok((c, pauses))
        })();
        enough.store(true, Ordering::Relaxed);
        writing.join().expect("the load does not panic")?;
        outcome
    })?;
    println!("{guarantee}, {word}: the pauses were {pauses:?} ms");
    ensure!(c.has_line(&["starting", "version=2"]).is_some(), "the third instance runs another version:\n{}", c.tail());
    group.caught_up()?;
    listed(&app, &["version 2    active", "with zeros"])?;
    listed(&app, &["instance a: version 2", "instance b: version 2", "instance c: version 2"])?;
    for instance in [&mut a, &mut b, &mut c] {
        instance.stop()?;
    }
    verify(&app.kafka, &app.input, &app.output, Expect::EveryCount)?;
    let parts = parts(&app)?;
    ensure!(parts.len() == 4 && parts.values().all(|(before, after)| *before > 0 && *after > 0), "{parts:?}");
    // Each store is its changelog, also what was left of it when its task went to the third instance.
    app.ask("c", &["state", "verify"]).map(drop)
}

#[test]
fn a_swap_under_load_exactly_once() -> Result<()> {
    swap_under_load("swap-eos", "exactly_once_v2", "padded")
}

#[test]
fn a_swap_under_load_at_least_once() -> Result<()> {
    swap_under_load("swap-alos", "at_least_once", "padded")
}

/// The version has a store more: it is made in the open databases, and followed by the standbys.
#[test]
fn a_store_more_under_load_exactly_once() -> Result<()> {
    swap_under_load("more-eos", "exactly_once_v2", "stocked")
}

#[test]
fn a_store_more_under_load_at_least_once() -> Result<()> {
    swap_under_load("more-alos", "at_least_once", "stocked")
}

/// Killed around the time of a swap, and started again on the same disk. Some versions have a store more.
fn kills_during_swaps(test: &str, guarantee: &str, rounds: [(&str, &str); 4], expect: Expect) -> Result<()> {
    let mut app = app(test)?;
    app.set("processing.guarantee", guarantee);
    push(&app, "plain", &[])?;
    let group = app.group()?;
    let enough = AtomicBool::new(false);
    let mut last = thread::scope(|scope| {
        let writing = scope.spawn(|| load(&app, &enough));
        let outcome = (|| {
            // The version is ready, being swapped in, or in use.
            for (word, line) in rounds {
                let mut instance = app.run("a")?;
                let progress = group.progress()?;
                wait::until("progress", wait::LONG, || Ok((group.progress()? > progress).then_some(())))?;
                push(&app, word, &["--allow", "store:second-store"])?;
                instance.line(&[line])?;
                instance.kill()?;
            }
            app.run("a")
        })();
        enough.store(true, Ordering::Relaxed);
        writing.join().expect("the load does not panic")?;
        outcome
    })?;
    group.caught_up()?;
    // And once more with the store that came and perhaps went.
    push(&app, "added", &[])?;
    last.line(&[SWAPPED])?;
    Load { records: 1_000, keys: 500, value_size: 20, seed: 0 }.write(&app.kafka, &app.input)?;
    group.caught_up()?;
    last.stop()?;
    verify(&app.kafka, &app.input, &app.output, expect)?;
    app.ask("a", &["state", "verify"]).map(drop)
}

#[test]
fn kills_during_swaps_exactly_once() -> Result<()> {
    let rounds = [("stocked", "is ready"), ("plain", SWAPPED), ("added", SWAPPED), ("padded", "is ready")];
    kills_during_swaps("kill-eos", "exactly_once_v2", rounds, Expect::EveryCount)
}

#[test]
fn kills_during_swaps_at_least_once() -> Result<()> {
    let rounds = [("padded", SWAPPED), ("stocked", "is ready"), ("added", "is ready"), ("stocked", SWAPPED)];
    kills_during_swaps("kill-alos", "at_least_once", rounds, Expect::Last)
}

/// A renamed store is refused and named; allowed by its name, it is taken up, as is a store more.
#[test]
fn stores_that_change() -> Result<()> {
    let mut app = app("swap-stores")?;
    app.set("http.listen", "127.0.0.1:0");
    push(&app, "plain", &[])?;
    let mut instance = app.run("a")?;
    let address = http::address(&instance)?;
    ensure!(!http::get(&address, "/v1/stores")?.1.contains("second-store"));
    app.write(&[Record::new("k", "1")])?;
    app.counts(&[("k", 1)])?;

    let renamed = version(&app, "renamed")?;
    let renamed = renamed.to_string_lossy();
    let words = ["store:count-store", "would be orphaned", "--allow"];
    app.denied("a", &["module", "push", &renamed], &words)?;
    ensure!(app.ask("a", &["module", "diff", &renamed])?.contains("store:tally-store: it is new (safe"));

    push(&app, "added", &[])?;
    instance.line(&[SWAPPED, "version=2", "tasks=4", "reopened=0"])?;
    app.write(&[Record::new("k", "2")])?;
    app.counts(&[("k", 2)])?;
    // Queries know the store that has come, too.
    ensure!(http::get(&address, "/v1/stores")?.1.contains("second-store"));
    let (code, answer) = http::get(&address, "/v1/stores/second-store/entries")?;
    ensure!(code == 200, "{code} {answer}");
    ensure!(topics::partition_count(&app.kafka, &format!("{}-second-store-changelog", app.id))? == Some(4));

    app.ask("a", &["module", "rollback", "--reason", "it was only a test"])?;
    instance.line(&[SWAPPED, "version=1"])?;
    ensure!(app.ask("a", &["module", "list"])?.contains("because: it was only a test"));
    // A store that comes back is restored, with its task. Those whose changelogs have nothing are as good as new.
    app.ask("a", &["module", "activate", "2"])?;
    instance.line(&[SWAPPED, "version=2", "tasks=3", "reopened=1"])?;
    instance.nth_line(&["state=RUNNING"], 2, wait::LONG)?;
    let (code, entry) = http::get(&address, "/v1/stores/second-store/keys/k")?;
    ensure!(code == 200 && entry.contains(r#""value":1"#), "{code} {entry}");
    app.ask("a", &["module", "rollback"])?;
    instance.nth_line(&[SWAPPED, "version=1"], 2, wait::LONG)?;
    app.ask("a", &["module", "push", &renamed, "--allow", "store:count-store"])?;
    instance.line(&[SWAPPED, "version=3"])?;
    app.write(&[Record::new("k", "3")])?;
    app.counts(&[("k", 1)])?;
    instance.stop()
}

/// A version that reads another topic is refused; allowed by its name, the instance starts anew with it, by itself.
#[test]
fn inputs_that_change() -> Result<()> {
    let app = app("swap-inputs")?;
    let more = format!("{}.more", app.input);
    topics::create(&app.kafka, &more, 2, &[])?;
    push(&app, "plain", &[])?;
    let mut instance = app.run("a")?;
    app.write(&[Record::new("k", "1")])?;
    app.counts(&[("k", 1)])?;

    let widened = version(&app, "widened")?;
    let difference = format!("input:{more}");
    app.denied("a", &["module", "push", &widened.to_string_lossy()], &[&difference, "--allow"])?;
    push(&app, "widened", &["--allow", &difference])?;
    instance.line(&["starts anew"])?;
    instance.nth_line(&["state=RUNNING"], 2, wait::LONG)?;
    app.write(&[Record::new("k", "2")])?;
    records::write(&app.kafka, &more, &[Record::new("m", "7")])?;
    app.counts(&[("k", 2), ("m", 7)])?;
    ensure!(instance.restored() == 0, "state was restored:\n{}", instance.tail());
    instance.stop()
}

/// A version that fails is taken back on all instances, and the one before goes on where it was.
fn rolled_back(test: &str, settings: &[(&str, &str)], records: usize) -> Result<()> {
    let mut app = app(test)?;
    settings.iter().for_each(|(key, value)| app.set(key, value));
    push(&app, "plain", &[])?;
    let (mut a, mut b) = (app.start("a")?, app.start("b")?);
    wait::until("both to have tasks", wait::LONG, || {
        let share = |of: &Process| of.has_line(&["partitions assigned", "partitions=2"]).is_some();
        Ok((share(&a) && share(&b)).then_some(()))
    })?;
    app.write(&[Record::new("k", "1")])?;
    app.counts(&[("k", 1)])?;
    push(&app, "faulty", &[])?;
    for instance in [&a, &b] {
        instance.line(&[SWAPPED, "version=2"])?;
    }
    let poison: Vec<Record> = (0..records).map(|_| Record::new("k", "2")).collect();
    app.write(&poison)?;
    for instance in [&a, &b] {
        instance.line(&[SWAPPED, "version=1"])?;
    }
    app.write(&[Record::new("other", "1")])?;
    app.counts(&[("other", 1)])?;
    listed(&app, &["version 2    rolled back", "is beyond me"])?;
    if settings.is_empty() {
        app.counts(&[("k", 2)])?;
    }
    a.stop()?;
    b.stop()
}

#[test]
fn a_version_that_fails_is_rolled_back() -> Result<()> {
    rolled_back("swap-fail", &[], 1)
}

#[test]
fn a_version_that_leaves_too_much_out_is_rolled_back() -> Result<()> {
    rolled_back("swap-skip", &[("faults.policy", "skip"), ("module.trial.faults", "5")], 5)
}

/// A record of each of many keys.
fn of_all_partitions(app: &App) -> Result<()> {
    let records: Vec<Record> = (0..40).map(|key| Record::new(&format!("key-{key}"), "1")).collect();
    app.write(&records)
}

/// Partitions of the output that have a count of the version `padded`, once all records are counted so often.
fn padded_partitions(app: &App, times: usize) -> Result<Vec<i32>> {
    let found = app.outputs(40 * times)?;
    let padded = found.iter().filter(|found| found.record.value.as_ref().is_some_and(|value| value.len() == 12));
    let mut partitions: Vec<i32> = padded.map(|found| found.partition).collect();
    partitions.sort_unstable();
    partitions.dedup();
    Ok(partitions)
}

/// A version runs on one task only until it is made to run on all, also in an instance that starts meanwhile.
#[test]
fn a_canary() -> Result<()> {
    let app = app("swap-canary")?;
    push(&app, "plain", &[])?;
    let mut instance = app.run("a")?;
    ensure!(push(&app, "padded", &["--canary", "1"])?.contains("version 2 is active on 1 tasks"));
    instance.line(&[SWAPPED, "version=2", "canary=1", "tasks=1"])?;
    of_all_partitions(&app)?;
    ensure!(padded_partitions(&app, 1)? == [0]);
    listed(&app, &["version 2    on trial", "version 1, and 2 on some tasks"])?;
    instance.stop()?;

    instance = app.run("a")?;
    instance.line(&[SWAPPED, "version=2", "canary=1", "tasks=1"])?;
    of_all_partitions(&app)?;
    ensure!(padded_partitions(&app, 2)? == [0]);
    app.ask("a", &["module", "activate", "2"])?;
    instance.line(&[SWAPPED, "version=2", "tasks=4"])?;
    of_all_partitions(&app)?;
    ensure!(padded_partitions(&app, 3)? == [0, 1, 2, 3]);
    instance.stop()?;
    ensure!(app.ask("a", &["module", "prune", "--keep", "0", "--forget", "a"])?.contains("deleted instance a"));
    ensure!(!app.ask("a", &["module", "list"])?.contains("instance a"));
    Ok(())
}

/// One that fails on its task is taken back before the others had it, one that comes through gets to all of them.
#[test]
fn canaries_that_fail_and_that_come_through() -> Result<()> {
    let mut app = app("swap-canaries")?;
    app.set("module.trial.ms", "1000");
    app.set_for("patient", "module.trial.ms", "300000");
    app.leaves_on_stop("patient");
    push(&app, "plain", &[])?;
    let mut instance = app.run("patient")?;
    push(&app, "faulty", &["--canary", "1"])?;
    instance.line(&[SWAPPED, "version=2", "canary=1"])?;
    of_all_partitions(&app)?;
    instance.line(&[SWAPPED, "version=1"])?;
    app.outputs(40)?;
    ensure!(instance.count(&["rolling back", "version=2"]) == 1, "{}", instance.tail());
    instance.stop()?;

    let mut instance = app.run("a")?;
    push(&app, "padded", &["--canary", "2"])?;
    instance.line(&["has come through its trial", "version=3"])?;
    instance.line(&[SWAPPED, "version=3", "tasks=4"])?;
    of_all_partitions(&app)?;
    ensure!(padded_partitions(&app, 2)? == [0, 1, 2, 3]);
    instance.stop()
}

/// An instance that is there before the first version waits for it. What is wrong with a push changes nothing.
#[test]
fn what_is_wrong_is_said() -> Result<()> {
    let mut app = app("push-wrong")?;
    app.denied("a", &["module", "list"], &["nothing was ever pushed", "millrace module push"])?;
    app.denied("a", &["module", "rollback"], &["no version of the module is active"])?;
    let mut instance = app.start("a")?;
    instance.line(&["no version of the module is active", "trying again"])?;

    let plain = version(&app, "plain")?;
    let half = app.path("half.wasm");
    let bytes = fs::read(&plain)?;
    fs::write(&half, &bytes[..bytes.len() / 2])?;
    app.denied("a", &["module", "push", &half.to_string_lossy()], &["half.wasm", "truncated or damaged"])?;
    let large = app.path("large.wasm");
    fs::File::create(&large)?.set_len(300 << 20)?;
    app.denied("a", &["module", "push", &large.to_string_lossy()], &["large.wasm", "256 MiB"])?;
    app.set_for("file", "module.source", &plain.to_string_lossy());
    app.denied("file", &["module", "push", &plain.to_string_lossy()], &["module.source = \"uploaded\""])?;
    ensure!(instance.is_running()?, "it gave up:\n{}", instance.tail());

    push(&app, "plain", &[])?;
    instance.line(&["state=RUNNING"])?;
    ensure!(push(&app, "plain", &[])?.contains("active already"));
    app.denied("a", &["module", "activate", "7"], &["no version 7", "there is 1"])?;

    // Chunks that are not there: what runs goes on.
    let topic = format!("{}-modules", app.id);
    let damaged = r#"{"format":1,"number":2,"digest":"00","size":9,"upload":"u","chunks":[90,91],"contract":"0.1.0","pushed_at_ms":5}"#;
    let active = r#"{"format":1,"change":2,"version":2,"previous":1,"reason":"pushed","at_ms":5}"#;
    let records = [Record::new("version/2", damaged), Record::new("active", active)];
    records::write_to(&app.kafka, &topic, 0, &records)?;
    instance.line(&["can't be taken up", "2 of its 2 chunks are not there any more"])?;
    app.write(&[Record::new("k", "1")])?;
    app.counts(&[("k", 1)])?;
    listed(&app, &["instance a: version 1"])?;

    // Chunks that are not what the version says.
    let found = records::read(&app.kafka, &topic)?;
    let first = found.iter().find(|found| found.record.key.as_deref() == Some(b"version/1")).context("version 1")?;
    let (_, first) = first.record.text();
    let (head, digest) = first.split_once(r#""digest":""#).context("a digest")?;
    let other = format!(r#"{}"digest":"{:0<8}{}"#, head.replace(r#""number":1"#, r#""number":3"#), "", &digest[8..]);
    let active = r#"{"format":1,"change":3,"version":3,"previous":1,"reason":"pushed","at_ms":5}"#;
    let records = [Record::new("version/3", &other), Record::new("active", active)];
    records::write_to(&app.kafka, &topic, 0, &records)?;
    instance.line(&["version=3", "can't be taken up", "its digest is"])?;
    listed(&app, &["instance a: version 1", "version 3 can't be taken up"])?;

    // Who starts now runs the version before, too.
    instance.kill()?;
    let mut instance = app.run("a")?;
    ensure!(instance.has_line(&["its digest is", "the version before runs in its place", "running=1"]).is_some());
    app.write(&[Record::new("k", "2")])?;
    app.counts(&[("k", 2)])?;

    // And a good version can be pushed all the same.
    push(&app, "padded", &[])?;
    instance.line(&[SWAPPED, "version=4"])?;
    instance.stop()
}

/// Versions are pushed while members come and go: they are taken up when the tasks are at hand, and nothing is lost.
fn pushes_during_rebalances(test: &str, guarantee: &str, protocol: &str) -> Result<()> {
    let mut app = app(test)?;
    app.set("processing.guarantee", guarantee);
    app.set("group.protocol", protocol);
    app.leave_on_stop();
    push(&app, "plain", &[])?;
    let mut a = app.run("a")?;
    let group = app.group()?;
    let enough = AtomicBool::new(false);
    thread::scope(|scope| {
        let writing = scope.spawn(|| load(&app, &enough));
        let outcome: Result<()> = (|| {
            for (round, word) in ["padded", "stocked", "plain"].into_iter().enumerate() {
                // It joins while the version is stored, and leaves while it is taken up, or before.
                let mut b = app.start("b")?;
                push(&app, word, &["--allow", "store:second-store"])?;
                b.line(&["partitions assigned"])?;
                b.stop()?;
                a.nth_line(&[SWAPPED, "tasks="], round + 1, wait::LONG)?;
                let progress = group.progress()?;
                wait::until("progress", wait::LONG, || Ok((group.progress()? > progress).then_some(())))?;
            }
            Ok(())
        })();
        enough.store(true, Ordering::Relaxed);
        writing.join().expect("the load does not panic")?;
        outcome
    })?;
    group.caught_up()?;
    a.stop()?;
    verify(&app.kafka, &app.input, &app.output, Expect::EveryCount).map(drop)
}

#[test]
fn pushes_during_rebalances_exactly_once() -> Result<()> {
    pushes_during_rebalances("push-rebalance-eos", "exactly_once_v2", "classic")
}

#[test]
fn pushes_during_rebalances_at_least_once() -> Result<()> {
    pushes_during_rebalances("push-rebalance-alos", "at_least_once", "classic")
}

#[test]
fn pushes_during_incremental_rebalances() -> Result<()> {
    pushes_during_rebalances("push-rebalance-848", "exactly_once_v2", "consumer")
}

/// Of several pushes at once each one is made as a whole, or not at all.
#[test]
fn pushes_at_once() -> Result<()> {
    let app = app("push-race")?;
    push(&app, "plain", &[])?;
    let words = ["padded", "added", "renamed"];
    let files: Vec<PathBuf> = words.iter().map(|word| version(&app, word)).collect::<Result<_>>()?;
    let outcomes: Vec<bool> = thread::scope(|scope| {
        let pushing = files.iter().map(|file| {
            let app = &app;
            scope.spawn(move || {
                let allow =
                    ["--allow", "store:count-store", "--allow", "store:tally-store", "--allow", "store:second-store"];
                let file = file.to_string_lossy();
                app.call("a", &[&["module", "push", &*file], &allow[..]].concat())
            })
        });
        let pushing: Vec<_> = pushing.collect();
        let outcomes = pushing.into_iter().map(|pushing| {
            let output = pushing.join().expect("a push does not panic")?;
            let said = String::from_utf8_lossy(&output.stderr).into_owned();
            ensure!(output.status.success() || said.contains("at the same moment"), "{said}");
            Ok(output.status.success())
        });
        outcomes.collect::<Result<_>>()
    })?;
    let made = outcomes.iter().filter(|made| **made).count();
    ensure!(made > 0, "all were refused");
    let list = app.ask("a", &["module", "list"])?;
    ensure!(list.lines().filter(|line| line.starts_with("version")).count() == made + 1, "{made} were made:\n{list}");
    // What is active can be run.
    app.run("a")?.stop()
}

/// The component with so many bytes more, which mean nothing: a custom section of WebAssembly.
fn inflated(mut component: Vec<u8>, bytes: u32) -> Vec<u8> {
    let name = b"\x03pad";
    component.push(0);
    // The length as LEB128.
    let mut length = bytes + 4;
    while length >= 128 {
        component.push(length.to_le_bytes()[0] | 128);
        length >>= 7;
    }
    component.push(length.to_le_bytes()[0]);
    component.extend(name);
    component.resize(component.len() + bytes as usize, 1);
    component
}

/// Most memory that a process has had so far, in MiB.
fn peak_memory(process: &Process) -> Result<u64> {
    let status =
        fs::read_to_string(format!("/proc/{}/status", process.pid())).context("read the status of a process")?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).context("no peak")?;
    Ok(line.trim().trim_end_matches(" kB").parse::<u64>().context("a number")? / 1024)
}

/// Pushed, refused and rolled back over HTTP, with the token only; also 200 MB, which instances take up.
#[test]
fn over_http() -> Result<()> {
    let mut app = app("push-http")?;
    let token = app.path("token");
    fs::write(&token, "s3cret\n")?;
    app.set("http.listen", "127.0.0.1:0");
    app.set("http.token.file", &token.to_string_lossy());
    let mut instance = app.start("a")?;
    let address = http::address(&instance)?;
    let put = |path: &str, component: &[u8]| http::put(&address, path, "s3cret", component);
    let (code, done) = put("/v1/module", &fs::read(version(&app, "plain")?)?)?;
    ensure!(code == 200 && done.contains("version 1 is active"), "{code} {done}");
    instance.line(&["state=RUNNING"])?;

    let padded = fs::read(version(&app, "padded")?)?;
    ensure!(http::put(&address, "/v1/module", "guess", &padded)?.0 == 401);
    let (code, done) = put("/v1/module?note=from%20a%20pipeline", &padded)?;
    ensure!(
        code == 200 && done.contains("version 2 is active: ") && done.contains(r#""differences":[]"#),
        "{code} {done}"
    );
    instance.line(&[SWAPPED, "version=2"])?;
    let known = wait::until("the instance to know", wait::LONG, || {
        let (code, known) = http::get(&address, "/v1/module")?;
        ensure!(code == 200, "{known}");
        Ok(known.contains(r#""instance":"a","version":2"#).then_some(known))
    })?;
    ensure!(known.contains(r#""active":{"version":2,"previous":1"#) && known.contains("from a pipeline"), "{known}");

    let renamed = fs::read(version(&app, "renamed")?)?;
    let (code, why) = put("/v1/module", &renamed)?;
    ensure!(code == 409 && why.contains("store:count-store") && why.contains("allow=…"), "{code} {why}");
    let (code, why) = put("/v1/module", &padded[..padded.len() / 2])?;
    ensure!(code == 400 && why.contains("truncated or damaged"), "{code} {why}");
    let (code, why) = http::post(&address, "/v1/module/activate?version=9", "s3cret")?;
    ensure!(code == 404 && why.contains("there is no version 9"), "{code} {why}");
    let (code, done) = http::post(&address, "/v1/module/rollback?reason=over%20the%20wire", "s3cret")?;
    ensure!(code == 200 && done.contains("version 1 is active again"), "{code} {done}");
    instance.line(&[SWAPPED, "version=1"])?;
    listed(&app, &["because: over the wire"])?;

    let before = peak_memory(&instance)?;
    let large = inflated(padded, 200 << 20);
    let (code, done) = put("/v1/module", &large)?;
    ensure!(code == 200 && done.contains("version 3 is active"), "{code} {done}");
    instance.line(&[SWAPPED, "version=3"])?;
    let more = peak_memory(&instance)? - before;
    println!("200 MiB of module took {more} MiB more");
    ensure!(more < 700, "{more} MiB");
    app.write(&[Record::new("k", "1")])?;
    ensure!(app.outputs(1)?[0].record.value.as_ref().is_some_and(|value| value.len() == 12), "not by the large module");
    instance.stop()
}
