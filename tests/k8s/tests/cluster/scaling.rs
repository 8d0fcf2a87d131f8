//! More pods, fewer pods, and nodes that are emptied.

use anyhow::{Result, ensure};
use millrace_e2e::counts::{Expect, verify};
use millrace_e2e::wait;
use millrace_k8s::deployment::{Deployment, INPUT, OUTPUT, SET, name};
use millrace_k8s::load::Load;

use crate::life::started;

fn scale(deployment: &Deployment, replicas: u32) -> Result<()> {
    deployment.kubectl.run(&["scale", SET, &format!("--replicas={replicas}")]).map(drop)
}

fn gone(deployment: &Deployment, number: u32) -> Result<()> {
    deployment.kubectl.run(&["wait", "--for=delete", "pod", &name(number), "--timeout=90s"]).map(drop)
}

#[test]
fn a_third_pod_waits_for_a_node_and_one_pod_takes_over_all() -> Result<()> {
    let deployment = started(Deployment::new("scale")?)?;
    let load = Load::start(&deployment.kafka, INPUT);
    scale(&deployment, 3)?;
    wait::until("the third pod to find no node", wait::LONG, || {
        let Ok(pod) = deployment.kubectl.json(&["get", "pod", &name(2)]) else { return Ok(None) };
        let why = pod["status"]["conditions"][0]["message"].as_str().unwrap_or_default();
        Ok(why.contains("pod anti-affinity").then_some(()))
    })?;

    // A member that is away keeps its partitions until its session ends: not for two minutes here.
    deployment.set("session.timeout.ms", "6000")?;
    deployment.apply()?; // which also says two replicas again
    gone(&deployment, 2)?;
    deployment.rolled_out()?;
    scale(&deployment, 1)?;
    gone(&deployment, 1)?;
    deployment.runs(0, 4)?;

    let volume = deployment.volume(1)?;
    scale(&deployment, 2)?;
    deployment.rolled_out()?;
    for number in 0..2 {
        deployment.runs(number, 2)?;
    }
    ensure!(deployment.volume(1)? == volume, "the pod that came back has another volume");
    load.stop()?;
    deployment.group()?.caught_up()?;
    verify(&deployment.kafka, INPUT, OUTPUT, Expect::EveryCount).map(drop)
}

#[test]
fn a_drain_takes_one_pod_and_the_budget_keeps_the_other() -> Result<()> {
    let deployment = started(Deployment::alone("drain")?)?;
    let load = Load::start(&deployment.kafka, INPUT);
    let (kubectl, first, second) = (&deployment.kubectl, deployment.pod(0)?, deployment.pod(1)?);
    let status = deployment.status(0)?;
    let drain = |node, limit| ["drain", node, "--ignore-daemonsets", "--delete-emptydir-data", limit];

    kubectl.run(&drain(&second.node, "--timeout=90s"))?;
    let why = kubectl.refused(&drain(&first.node, "--timeout=3s"))?;
    let cleared = kubectl.run(&["uncordon", &first.node, &second.node]);
    ensure!(why.contains("disruption budget"), "{why}");
    ensure!(deployment.pod(0)? == first, "{first:?}, now {:?}", deployment.pod(0)?);
    cleared?;

    deployment.rolled_out()?;
    let back = deployment.runs(1, 2)?;
    ensure!(deployment.pod(1)?.volume == second.volume, "the drained pod has another volume");
    ensure!((back.rebalances, back.restored) == (1, 0), "the drained pod: {back:?}");
    ensure!(deployment.status(0)? == status, "the other pod: {status:?}, now {:?}", deployment.status(0)?);
    load.stop()?;
    deployment.group()?.caught_up()?;
    verify(&deployment.kafka, INPUT, OUTPUT, Expect::EveryCount).map(drop)
}
