//! The reference deployment from nothing to its counts, and what becomes of pods that go and come back.

use std::collections::BTreeSet;
use std::fs;

use anyhow::{Context, Result, anyhow, ensure};
use millrace_e2e::counts::{Expect, Load, verify};
use millrace_e2e::process::Process;
use millrace_e2e::records::{self, Reader, Record};
use millrace_e2e::wait;
use millrace_k8s::deployment::{Deployment, INPUT, OUTPUT, PORT, name};
use millrace_k8s::setting;
use serde_json::{Value, json};

/// Those of the guide.
const FIVE: [(&str, &str); 5] =
    [("foo", "bar"), ("hello", "world"), ("hello", "universe"), ("foo", "baz"), ("john", "doe")];

/// Applies it and waits for two pods that share the four partitions.
pub(crate) fn started(deployment: Deployment) -> Result<Deployment> {
    // Started on a busy machine, one pod may for a moment have all partitions; what it leaves behind is soon cleaned up.
    deployment.set("state.cleanup.delay.ms", "1000")?;
    // Each count is forwarded, so that each can be looked at.
    deployment.set("statestore.cache.max.bytes", "0")?;
    deployment.apply()?;
    deployment.rolled_out()?;
    for number in 0..2 {
        deployment.runs(number, 2)?;
    }
    Ok(deployment)
}

#[test]
fn five_records_are_counted_and_each_pod_has_two_tasks() -> Result<()> {
    let deployment = started(Deployment::new("count")?)?;
    let pods = [deployment.pod(0)?, deployment.pod(1)?];
    ensure!(pods[0].node != pods[1].node, "both are on one node: {pods:?}");
    for number in 0..2 {
        let claim = deployment.kubectl.json(&["get", "pvc", &format!("count-store-{}", name(number))])?;
        ensure!(claim["status"]["phase"] == "Bound", "{claim}");
        ensure!(claim["spec"]["storageClassName"] == "managed-csi-premium", "{claim}");
        ensure!(claim["status"]["capacity"]["storage"] == "1Gi", "{claim}");
        ensure!(claim["spec"]["accessModes"] == json!(["ReadWriteOnce"]), "{claim}");
    }

    records::write(&deployment.kafka, INPUT, &FIVE.map(|(key, value)| Record::new(key, value)))?;
    let counts: BTreeSet<_> = [("foo", "2"), ("hello", "2"), ("john", "1")].map(|(k, v)| (k.into(), v.into())).into();
    Reader::new(&deployment.kafka, OUTPUT)?.until("the counts", wait::LONG, |found| {
        let found: BTreeSet<(String, String)> = found.iter().map(|found| found.record.text()).collect();
        found.is_superset(&counts)
    })?;
    deployment.group()?.caught_up()?;
    verify(&deployment.kafka, INPUT, OUTPUT, Expect::EveryCount)?;

    let directories = wait::until("two task directories on each pod", wait::LONG, || {
        let directories = [deployment.task_directories(0)?, deployment.task_directories(1)?];
        Ok(directories.iter().all(|names| names.len() == 2).then_some(directories))
    })?;
    for (number, names) in (0..).zip(&directories) {
        ensure!(deployment.status(number)?.tasks == *names, "{number}: {names:?}, {:?}", deployment.status(number)?);
    }
    let tasks: BTreeSet<_> = directories.iter().flatten().map(String::as_str).collect();
    ensure!(tasks == BTreeSet::from(["0_0", "0_1", "0_2", "0_3"]), "{directories:?}");
    Ok(())
}

/// Both times it is the same member of the group, on the same disk.
#[test]
fn a_deleted_pod_and_a_killed_one_come_back_to_their_tasks() -> Result<()> {
    let deployment = started(Deployment::new("back")?)?;
    let load = Load { records: 20_000, keys: 1_000, value_size: 20, seed: 5 };
    load.write(&deployment.kafka, INPUT)?;
    let group = deployment.group()?;
    group.caught_up()?;
    let (other, before) = (deployment.status(1)?, deployment.pod(0)?);

    deployment.kubectl.run(&["delete", "pod", &name(0)])?;
    deployment.rolled_out()?;
    let (status, back) = (deployment.runs(0, 2)?, deployment.pod(0)?);
    ensure!(back.uid != before.uid, "the pod is the same: {back:?}");
    ensure!(back.volume == before.volume, "{before:?}, then {back:?}");
    ensure!((status.rebalances, status.restored) == (1, 0), "after the deletion: {status:?}");

    load.write(&deployment.kafka, INPUT)?;
    group.caught_up()?;
    deployment.kill(0)?;
    wait::until("the container to be started again", wait::LONG, || {
        Ok((deployment.pod(0)?.restarts == 1).then_some(()))
    })?;
    let (status, killed) = (deployment.runs(0, 2)?, deployment.pod(0)?);
    ensure!((&killed.uid, &killed.volume) == (&back.uid, &back.volume), "{back:?}, then {killed:?}");
    ensure!((status.rebalances, status.restored) == (1, 0), "after the kill: {status:?}");

    ensure!(deployment.status(1)? == other, "the other pod was disturbed: {other:?}, now {:?}", deployment.status(1)?);
    load.write(&deployment.kafka, INPUT)?;
    group.caught_up()?;
    verify(&deployment.kafka, INPUT, OUTPUT, Expect::EveryCount).map(drop)
}

/// The commands that the guide has for looking at a deployment, as they stand there, with the counts of its five records.
#[test]
fn what_the_guide_shows_can_be_seen() -> Result<()> {
    let deployment = started(Deployment::new("look")?)?;
    records::write(&deployment.kafka, INPUT, &FIVE.map(|(key, value)| Record::new(key, value)))?;
    deployment.group()?.caught_up()?;
    let guide = fs::read_to_string(setting::project().join("docs/aks.md"))?;
    let (_, section) = guide.split_once("## 6. Look at it").context("there is no section 6")?;
    let blocks = section.split("```sh\n").skip(1).filter_map(|rest| rest.split("```").next());
    // Those that ask Azure or brokers are not for here.
    let blocks: Vec<_> = blocks.take_while(|block| !block.contains("az ")).collect();
    let (of_ports, blocks): (Vec<_>, Vec<_>) = blocks.into_iter().partition(|block| block.contains("port-forward"));
    ensure!(blocks.len() == 3, "{} blocks to run:\n{section}", blocks.len());
    let mut said = Vec::new();
    for block in blocks {
        said.push(deployment.kubectl.shell(block)?);
        ensure!(said.last().is_some_and(|said| !said.trim().is_empty()), "nothing was printed by:\n{block}");
    }
    let listed = said.pop().unwrap_or_default();
    for task in ["0_0", "0_1", "0_2", "0_3"] {
        ensure!(listed.contains(task), "millrace state does not list {task}:\n{listed}");
    }

    // The same answers from either pod, which passes on to the other what that one has.
    let questions: Vec<_> =
        of_ports.iter().flat_map(|block| block.lines()).filter(|line| line.starts_with("curl")).collect();
    let answers = [answers(&deployment, 0, &questions)?, answers(&deployment, 1, &questions)?];
    for [metrics, foo, john, entries] in &answers {
        ensure!(metrics.contains("millrace_process_records_total"), "{metrics}");
        let json = |text: &str| serde_json::from_str::<Value>(text).with_context(|| text.to_owned());
        let (foo, john) = (json(foo)?, json(john)?);
        ensure!(foo["value"] == 2 && john["value"] == 1, "{foo}, {john}");
        ensure!(json(entries)?["entries"].is_array(), "{entries}");
    }
    Ok(())
}

/// What commands print that ask a port of this machine, which is the pod's here.
fn answers(deployment: &Deployment, number: u32, questions: &[&str]) -> Result<[String; 4]> {
    let pod = format!("pod/{}", name(number));
    let mut forward = deployment.kubectl.command(&["port-forward", &pod, &format!(":{PORT}")])?;
    let forward = Process::start("kubectl port-forward", &mut forward)?;
    let line = forward.line(&["Forwarding from 127.0.0.1:"])?.text;
    let address = line.split_whitespace().nth(2).context("an address")?;
    let answer = |question: &&str| deployment.kubectl.shell(&question.replace("localhost:8642", address));
    let answers: Vec<_> = questions.iter().map(answer).collect::<Result<_>>()?;
    answers.try_into().map_err(|answers: Vec<_>| anyhow!("{} answers: {answers:?}", answers.len()))
}
