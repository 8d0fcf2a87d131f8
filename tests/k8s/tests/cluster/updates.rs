//! Rolling updates while records come in.

use std::fs;

use anyhow::{Context, Result, ensure};
use millrace_e2e::counts::{Expect, verify};
use millrace_e2e::wait;
use millrace_k8s::deployment::{Deployment, INPUT, OUTPUT, name};
use millrace_k8s::load::Load;
use millrace_k8s::setting;

use crate::life::started;

/// Both pods were replaced, and each kept its volume and its tasks.
fn rolled(deployment: &Deployment, update: impl FnOnce() -> Result<()>) -> Result<()> {
    let before = [deployment.pod(0)?, deployment.pod(1)?];
    update()?;
    deployment.apply()?;
    deployment.rolled_out()?;
    for (number, before) in (0..).zip(&before) {
        let (status, after) = (deployment.runs(number, 2)?, deployment.pod(number)?);
        ensure!(after.uid != before.uid, "pod {number} was not replaced");
        ensure!(after.volume == before.volume, "{before:?}, then {after:?}");
        ensure!((status.rebalances, status.restored) == (1, 0), "pod {number}: {status:?}");
    }
    Ok(())
}

/// A configuration that is refused ends one pod, and the one that mends it reaches that pod by itself.
fn refused_and_mended(deployment: &Deployment) -> Result<()> {
    let first = deployment.pod(0)?;
    deployment.set("no.such.key", "1")?;
    deployment.apply()?;
    wait::until("the second pod to be refused", wait::LONG, || {
        let Ok(pod) = deployment.kubectl.json(&["get", "pod", &name(1)]) else { return Ok(None) };
        let container = &pod["status"]["containerStatuses"][0];
        let ended = |state: &str| container[state]["terminated"]["exitCode"] == 2;
        Ok((ended("state") || ended("lastState")).then_some(()))
    })?;
    deployment.edit("base/counts.toml", |text| text.replace("no.such.key = 1\n", ""))?;
    deployment.apply()?;
    deployment.rolled_out()?;
    deployment.runs(1, 2)?;
    ensure!(deployment.pod(0)? == first, "the other pod: {first:?}, now {:?}", deployment.pod(0)?);
    Ok(())
}

#[test]
fn a_new_configuration_and_a_new_image_lose_and_repeat_nothing() -> Result<()> {
    let deployment = started(Deployment::new("update")?)?;
    let load = Load::start(&deployment.kafka, INPUT);
    refused_and_mended(&deployment)?;
    rolled(&deployment, || deployment.set("commit.interval.ms", "500"))?;
    rolled(&deployment, || {
        deployment.provide("0.1.1")?;
        deployment.set_tag("0.1.0", "0.1.1")
    })?;
    for number in 0..2 {
        let pod = deployment.pod(number)?;
        ensure!(pod.image.ends_with(":0.1.1"), "{pod:?}");
    }
    load.stop()?;
    deployment.group()?.caught_up()?;
    verify(&deployment.kafka, INPUT, OUTPUT, Expect::EveryCount)?;

    let pods = [deployment.pod(0)?, deployment.pod(1)?];
    deployment.apply()?;
    deployment.rolled_out()?;
    let again = [deployment.pod(0)?, deployment.pod(1)?];
    ensure!(again == pods, "the same applied once more replaced {pods:?} by {again:?}");
    Ok(())
}

/// As in the guide. The new version is the same component with one more section, which makes it another one.
#[test]
fn a_pushed_module_is_taken_up_by_running_pods() -> Result<()> {
    let deployment = started(Deployment::new("push")?)?;
    let kubectl = &deployment.kubectl;
    // The configuration still says otherwise, so that no pod has to wait for a first version.
    let uploaded = "MILLRACE_MODULE_SOURCE=uploaded";
    let push = ["exec", "-i", &name(0), "--", "env", uploaded, "millrace", "module", "push"];
    kubectl.run(&[&push[..], &["/opt/millrace/guest_wordcount.wasm"]].concat())?;
    rolled(&deployment, || deployment.set("module.source", "\"uploaded\""))?;

    let load = Load::start(&deployment.kafka, INPUT);
    let before = [deployment.pod(0)?, deployment.pod(1)?];
    let component = [&fs::read(setting::module()?)?[..], b"\0\x03\x01v2"].concat();
    let said = kubectl.feed(&[&push[..], &["-", "--note", "another section"]].concat(), &component)?;
    wait::until("both pods to run version 2", wait::LONG, || {
        let list = kubectl.run(&["exec", &name(0), "--", "millrace", "module", "list"])?;
        let runs = |number| list.contains(&format!("instance {}: version 2", name(number)));
        Ok((runs(0) && runs(1)).then_some(()))
    })
    .with_context(|| said)?;
    for (number, before) in (0..).zip(&before) {
        ensure!(deployment.pod(number)? == *before, "pod {number} was replaced or started again");
        let status = deployment.status(number)?;
        ensure!((status.rebalances, status.restored) == (1, 0), "pod {number}: {status:?}");
    }
    load.stop()?;
    deployment.group()?.caught_up()?;
    verify(&deployment.kafka, INPUT, OUTPUT, Expect::EveryCount).map(drop)
}
