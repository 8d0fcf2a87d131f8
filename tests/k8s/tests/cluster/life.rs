//! The reference deployment from nothing to its counts, and what becomes of pods that go and come back.

use std::collections::BTreeSet;

use anyhow::{Result, ensure};
use millrace_e2e::counts::{Expect, Load, verify};
use millrace_e2e::records::{self, Reader, Record};
use millrace_e2e::wait;
use millrace_k8s::deployment::{Deployment, INPUT, OUTPUT, name};
use serde_json::json;

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

    let input = [("foo", "bar"), ("hello", "world"), ("hello", "universe"), ("foo", "baz"), ("john", "doe")];
    records::write(&deployment.kafka, INPUT, &input.map(|(key, value)| Record::new(key, value)))?;
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
    let (other, before) = (deployment.log(1)?, deployment.pod(0)?);

    deployment.kubectl.run(&["delete", "pod", &name(0)])?;
    deployment.rolled_out()?;
    deployment.runs(0, 2)?;
    let (back, log) = (deployment.pod(0)?, deployment.log(0)?);
    ensure!(back.uid != before.uid, "the pod is the same: {back:?}");
    ensure!(back.volume == before.volume, "{before:?}, then {back:?}");
    ensure!((log.rebalances, log.restored) == (1, 0), "after the deletion: {log:?}");

    load.write(&deployment.kafka, INPUT)?;
    group.caught_up()?;
    deployment.kill(0)?;
    wait::until("the container to be started again", wait::LONG, || {
        Ok((deployment.pod(0)?.restarts == 1).then_some(()))
    })?;
    deployment.runs(0, 2)?;
    let (killed, log) = (deployment.pod(0)?, deployment.log(0)?);
    ensure!((&killed.uid, &killed.volume) == (&back.uid, &back.volume), "{back:?}, then {killed:?}");
    ensure!((log.rebalances, log.restored) == (1, 0), "after the kill: {log:?}");

    ensure!(deployment.log(1)? == other, "the other pod was disturbed: {other:?}, now {:?}", deployment.log(1)?);
    load.write(&deployment.kafka, INPUT)?;
    group.caught_up()?;
    verify(&deployment.kafka, INPUT, OUTPUT, Expect::EveryCount).map(drop)
}
