//! Rolling updates while records come in.

use anyhow::{Result, ensure};
use millrace_e2e::counts::{Expect, verify};
use millrace_k8s::deployment::{Deployment, INPUT, OUTPUT};
use millrace_k8s::load::Load;

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

#[test]
fn a_new_configuration_and_a_new_image_lose_and_repeat_nothing() -> Result<()> {
    let deployment = started(Deployment::new("update")?)?;
    let load = Load::start(&deployment.kafka, INPUT);
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
