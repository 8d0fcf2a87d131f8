//! Standbys: other instances have the state of a task warm, wherever it runs, and take it over with what little is left.

use std::collections::BTreeSet;

use anyhow::{Context, Result, ensure};
use millrace_e2e::app::App;
use millrace_e2e::counts::{Expect, Load, verify};
use millrace_e2e::kafka::Kafka;
use millrace_e2e::process::{Process, field};
use millrace_e2e::wait;

const LOAD: Load = Load { records: 40_000, keys: 20_000, value_size: 20, seed: 6 };

/// An application whose instances come and go: they hand their tasks over when they stop, and are missed soon.
fn app(test: &str) -> Result<App> {
    let mut app = App::new(&Kafka::shared()?, test)?;
    app.leave_on_stop();
    app.set("num.standby.replicas", "1");
    app.set("kafka.consumer.session.timeout.ms", "6000");
    app.set("kafka.consumer.heartbeat.interval.ms", "1000");
    Ok(app)
}

/// The tasks in the last line that has these words.
fn tasks(process: &Process, words: &[&str]) -> BTreeSet<String> {
    let lines = process.lines();
    let last = lines.iter().rev().find(|line| words.iter().all(|word| line.text.contains(word)));
    let list = last.and_then(|line| line.text.split_once("tasks=[")?.1.split_once(']'));
    let names = list.map_or("", |(names, _)| names).split(", ").map(|name| name.trim_matches('"').to_owned());
    names.filter(|name| !name.is_empty()).collect()
}

/// The tasks an instance keeps standbys of. One that has come to run there since is not named again.
fn kept(process: &Process) -> BTreeSet<String> {
    &tasks(process, &["keeping standbys"]) - &tasks(process, &["partitions assigned"])
}

/// Whom the group would give each of the four tasks if its owner left, by what each of two or three instances runs:
/// halves go to the two others, in the order of the group.
fn heirs(run: &[BTreeSet<String>]) -> Vec<BTreeSet<String>> {
    let mut order: Vec<usize> = (0..run.len()).collect();
    order.sort_by_key(|instance| &run[*instance]);
    let mut heirs = vec![BTreeSet::new(); run.len()];
    for (partition, task) in ["0_0", "0_1", "0_2", "0_3"].into_iter().enumerate() {
        let others: Vec<usize> = order.iter().copied().filter(|instance| !run[*instance].contains(task)).collect();
        heirs[others[partition * others.len() / 4]].insert(task.to_owned());
    }
    heirs
}

/// Waits until each of the four tasks runs at one of the instances and has its standby, with nothing left to read, at
/// its heir. (With the standbys of the group as it was before, each task has one too, but at the wrong one.)
fn every_task_has_a_standby(instances: &[&Process]) -> Result<()> {
    let settled = |instance: &&&Process| {
        let kept = kept(instance);
        // Its last line about each is that it has come to the end.
        kept.iter().all(|task| {
            let lines = instance.lines();
            let last = lines.iter().rev().find(|line| line.text.contains(&format!("task={task}")));
            last.is_some_and(|line| line.text.contains("standby caught up") && line.text.contains("lag=0"))
        })
    };
    wait::until("every task to have a standby", wait::LONG, || {
        let run: Vec<_> = instances.iter().map(|instance| tasks(instance, &["partitions assigned"])).collect();
        let kept: Vec<_> = instances.iter().map(|instance| kept(instance)).collect();
        let each_once = run.iter().map(BTreeSet::len).sum::<usize>() == 4
            && run.iter().flatten().collect::<BTreeSet<_>>().len() == 4;
        let all = each_once && kept == heirs(&run) && instances.iter().filter(settled).count() == run.len();
        Ok(all.then_some(()))
    })
    .with_context(|| instances.iter().map(|instance| instance.tail()).collect::<Vec<_>>().join("\n---\n"))
}

#[test]
fn a_standby_takes_over_with_a_delta() -> Result<()> {
    let app = app("standby")?;
    LOAD.write(&app.kafka, &app.input)?;
    let mut first = app.run("a")?;
    app.group()?.caught_up()?;
    let mut second = app.run("b")?;
    every_task_has_a_standby(&[&first, &second])?;
    ensure!(app.tasks_on_disk("a")?.len() == 4 && app.tasks_on_disk("b")?.len() == 4);

    let before = second.restored();
    first.kill()?;
    second.line(&["state=RUNNING", "tasks=4"])?;
    let delta = second.restored() - before;
    // The two tasks have some 8,600 keys together.
    ensure!(before > 8_000 && delta < 100, "restored {before}, then {delta}:\n{}", second.tail());
    LOAD.write(&app.kafka, &app.input)?;
    app.group()?.caught_up()?;
    second.stop()?;
    // Everything was committed before the kill, so even at-least-once counts nothing twice.
    verify(&app.kafka, &app.input, &app.output, Expect::EveryCount).map(drop)
}

/// Whoever leaves, its tasks come to where they are warm, and so does what changes hands with them.
#[test]
fn standbys_move_when_an_instance_comes_and_goes() -> Result<()> {
    let app = app("standby-moves")?;
    LOAD.write(&app.kafka, &app.input)?;
    let mut first = app.run("a")?;
    app.group()?.caught_up()?;
    let mut second = app.run("b")?;
    every_task_has_a_standby(&[&first, &second])?;
    let mut third = app.run("c")?;
    every_task_has_a_standby(&[&first, &second, &third])?;
    let before = [&first, &third].map(|instance| (instance, kept(instance), instance.lines().len()));
    second.stop()?;
    every_task_has_a_standby(&[&first, &third])?;
    // Who had a standby of a task that it runs now. Some move to an instance that had none.
    let mut taken_over = 0;
    for (instance, kept, seen) in before {
        let lines = instance.lines();
        for line in lines.iter().skip(seen).filter(|line| line.text.contains(" restored ")) {
            let task = field(&line.text, "task").unwrap_or_default();
            if kept.contains(task) {
                taken_over += 1;
                let records: u64 = field(&line.text, "records").unwrap_or_default().parse()?;
                ensure!(records < 100, "{task} was restored when one left:\n{}", instance.tail());
            }
        }
    }
    ensure!(taken_over > 0, "nobody took over from a standby:\n{}\n---\n{}", first.tail(), third.tail());
    LOAD.write(&app.kafka, &app.input)?;
    app.group()?.caught_up()?;
    first.stop()?;
    third.stop()?;
    verify(&app.kafka, &app.input, &app.output, Expect::EveryCount).map(drop)
}

/// Killed in the middle of its work, with a transaction open.
#[test]
fn a_standby_takes_over_exactly_once() -> Result<()> {
    let mut app = app("standby-eos")?;
    app.set("processing.guarantee", "exactly_once_v2");
    LOAD.write(&app.kafka, &app.input)?;
    let mut first = app.run("a")?;
    app.group()?.caught_up()?;
    let mut second = app.run("b")?;
    every_task_has_a_standby(&[&first, &second])?;
    let before = second.restored();
    for round in 0..10 {
        Load { records: 5_000, ..LOAD }.write(&app.kafka, &app.input)?;
        if round == 5 {
            first.kill()?;
        }
    }
    second.line(&["state=RUNNING", "tasks=4"])?;
    let delta = second.restored() - before;
    // Without standbys it would be all keys of the two tasks, some 8,600, and their changes since.
    ensure!(delta < 5_000, "restored {before}, then {delta}:\n{}", second.tail());
    // Nobody sees them before the transaction is given up that the killed one left open.
    app.outputs(90_000)?;
    second.stop()?;
    verify(&app.kafka, &app.input, &app.output, Expect::EveryCount).map(drop)
}
