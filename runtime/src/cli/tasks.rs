//! `millrace tasks`: what all instances of a running application do, asked over HTTP of one of them.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use anyhow::{Context, bail};
use serde_json::Value;

use super::state::plain;
use super::table::{known, table};
use super::{ConfigArgs, LogArgs, print};
use crate::config::Config;

/// Longer than the server takes, whatever it has to ask.
const TIMEOUT: Duration = Duration::from_secs(15);

#[derive(Debug, clap::Args)]
pub(super) struct TasksArgs {
    #[command(flatten)]
    config: ConfigArgs,
    /// Of an instance, as localhost:8642 [default: http.listen of the configuration]
    address: Option<String>,
    /// Print JSON, for machines
    #[arg(long)]
    json: bool,
}

pub(super) fn run(log: &LogArgs, args: &TasksArgs) -> anyhow::Result<()> {
    let address = match &args.address {
        Some(address) => {
            log.start("info")?;
            address.clone()
        }
        None => listened_on(&log.load(&args.config)?)?,
    };
    let answer = ask(&address)?;
    if args.json {
        return print(&format!("{answer}\n"));
    }
    let instances = answer["instances"].as_array().map_or(&[][..], Vec::as_slice);
    print(&text(instances))?;
    for silent in instances.iter().filter(|instance| !instance["error"].is_null()) {
        tracing::warn!("instance {} was not reached: {}", plain(&silent["instance"]), plain(&silent["error"]));
    }
    let members = answer["members"].as_u64().unwrap_or(0);
    let others = members.saturating_sub(instances.len() as u64);
    if others > 0 {
        tracing::warn!("{others} more members of the group have no group.instance.id by which they could be asked");
    }
    Ok(())
}

/// Where an instance on this machine is reached.
fn listened_on(config: &Config) -> anyhow::Result<String> {
    let Some(listen) = config.http.listen else { bail!("http.listen is off: name the address of an instance") };
    if listen.port() == 0 {
        bail!("http.listen leaves the port open: name the address of an instance, which its log has");
    }
    let ip = if listen.ip().is_unspecified() { IpAddr::V4(Ipv4Addr::LOCALHOST) } else { listen.ip() };
    Ok(SocketAddr::new(ip, listen.port()).to_string())
}

fn ask(address: &str) -> anyhow::Result<Value> {
    let base = if address.contains("://") { address.to_owned() } else { format!("http://{address}") };
    let url = format!("{}/v1/instances", base.trim_end_matches('/'));
    let config = ureq::Agent::config_builder().timeout_global(Some(TIMEOUT)).http_status_as_error(false).build();
    let answer = ureq::Agent::new_with_config(config).get(&url).call();
    let mut answer = answer.with_context(|| format!("ask {url}; is an instance running there?"))?;
    let body = answer.body_mut().read_to_string().with_context(|| format!("read the answer of {url}"))?;
    let parsed: Value =
        serde_json::from_str(&body).with_context(|| format!("{url} answered with {}: no JSON", answer.status()))?;
    if !answer.status().is_success() {
        bail!("{url} answered with {}: {}", answer.status(), plain(&parsed["error"]));
    }
    Ok(parsed)
}

fn text(instances: &[Value]) -> String {
    let mut rows = Vec::new();
    for instance in instances {
        for task in instance["told"]["tasks"].as_array().into_iter().flatten() {
            let inputs = task["inputs"].as_array().map_or(&[][..], Vec::as_slice);
            let lags: Option<u64> = inputs.iter().map(|input| input["lag"].as_u64()).sum();
            let partitions = inputs.iter().map(|input| format!("{}-{}", plain(&input["topic"]), input["partition"]));
            rows.push(vec![
                plain(&instance["instance"]),
                plain(&task["id"]),
                plain(&task["state"]),
                known(task["records"].as_u64()),
                known(lags.filter(|_| !inputs.is_empty())),
                known(task["restored_records"].as_u64()),
                known(task["remaining_records"].as_u64()),
                partitions.collect::<Vec<_>>().join(" "),
            ]);
        }
    }
    let heading = ["INSTANCE", "TASK", "STATE", "RECORDS", "LAG", "RESTORED", "TO RESTORE", "PARTITIONS"];
    table(&heading, &rows)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_task_is_a_row() {
        let input = |partition: u32, lag: Option<u64>| json!({ "topic": "in", "partition": partition, "lag": lag });
        let task = |id: &str, state: &str, inputs: Vec<Value>, left: Option<u64>| json!({ "id": id, "state": state, "records": 3, "restored_records": 5, "remaining_records": left, "inputs": inputs });
        let running = task("0_0", "RUNNING", vec![input(0, Some(2)), input(1, Some(3))], None);
        let restoring = task("0_1", "RESTORING", vec![input(1, None)], Some(7));
        let told = json!({ "instance": "pod-1", "told": { "tasks": [running, restoring] }, "error": null });
        let silent = json!({ "instance": "pod-2", "told": null, "error": "no answer" });
        let expected = "\
INSTANCE  TASK  STATE      RECORDS  LAG  RESTORED  TO RESTORE  PARTITIONS
pod-1     0_0   RUNNING          3    5         5           -  in-0 in-1
pod-1     0_1   RESTORING        3    -         5           7  in-1
";
        assert_eq!(text(&[told, silent]), expected);
    }
}
