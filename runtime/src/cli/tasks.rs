//! `millrace tasks`: what all instances of a running application do, asked over HTTP of one of them.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, bail};
use reqwest::{Client, Url};
use serde_json::Value;

use super::state::plain;
use super::table::{known, table};
use super::{ConfigArgs, LogArgs, print};
use crate::config::{Config, INSTANCE};
use crate::tls::{self, Pem, Refused, Trust};

/// Longer than the server takes, whatever it has to ask.
const TIMEOUT: Duration = Duration::from_secs(15);

#[derive(Debug, clap::Args)]
pub(super) struct TasksArgs {
    #[command(flatten)]
    config: ConfigArgs,
    /// Of an instance, as localhost:8642 or https://counts-0.counts:8642 [default: http.listen of the configuration]
    #[arg(value_parser = |address: &str| url(address, "http").map(|_| address.to_owned()))]
    address: Option<String>,
    /// Trust the authorities in this file, as PEM, and no others [default: http.tls.ca.file, else the system's]
    #[arg(long, value_name = "FILE")]
    ca: Option<PathBuf>,
    /// Print JSON, for machines
    #[arg(long)]
    json: bool,
}

/// Where an instance is asked.
struct Place {
    url: Url,
    /// The address that the name in the URL stands for, if it is known.
    at: Option<SocketAddr>,
    ca: Option<PathBuf>,
}

pub(super) fn run(log: &LogArgs, args: &TasksArgs) -> anyhow::Result<()> {
    let mut place = match &args.address {
        Some(address) => {
            log.start("info")?;
            let scheme = if args.ca.is_some() { "https" } else { "http" };
            Place { url: url(address, scheme).map_err(anyhow::Error::msg)?, at: None, ca: None }
        }
        None => listened_on(&log.load(&args.config)?)?,
    };
    place.ca = args.ca.clone().or(place.ca);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().context("ask an instance")?;
    let answer = runtime.block_on(ask(&place))?;
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

fn url(address: &str, scheme: &str) -> Result<Url, String> {
    let text = if address.contains("://") { address.to_owned() } else { format!("{scheme}://{address}") };
    let why = match Url::parse(&text) {
        Ok(url) if matches!(url.scheme(), "http" | "https") => return Ok(url),
        Ok(url) => format!("{} is not asked", url.scheme()),
        Err(error) => error.to_string(),
    };
    Err(format!("{why}; an address is a host and a port, as localhost:8642, or a URL, as https://counts-0.counts:8642"))
}

/// Where an instance on this machine is reached.
fn listened_on(config: &Config) -> anyhow::Result<Place> {
    let Some(listen) = config.http.listen else { bail!("http.listen is off: name the address of an instance") };
    if listen.port() == 0 {
        bail!("http.listen leaves the port open: name the address of an instance, which its log has");
    }
    let ip = if listen.ip().is_unspecified() { IpAddr::V4(Ipv4Addr::LOCALHOST) } else { listen.ip() };
    let at = SocketAddr::new(ip, listen.port());
    let (address, scheme, ca) = match &config.http.tls {
        // Its certificate is for the name by which others reach it.
        Some(tls) => (own_name(config, at), "https", tls.authorities.clone()),
        None => (at.to_string(), "http", None),
    };
    Ok(Place { url: url(&address, scheme).map_err(anyhow::Error::msg)?, at: Some(at), ca })
}

fn own_name(config: &Config, at: SocketAddr) -> String {
    let template = config.http.peers.as_ref().and_then(|peers| peers.rsplit_once(':'));
    match (template, &config.instance_id) {
        (Some((host, _)), Some(own)) => format!("{}:{}", host.replace(INSTANCE, own), at.port()),
        _ => at.to_string(),
    }
}

async fn ask(place: &Place) -> anyhow::Result<Value> {
    let url = format!("{}/v1/instances", place.url.as_str().trim_end_matches('/'));
    let client = client(place)?;
    let answer = client.get(&url).send().await;
    let answer = answer.map_err(|error| {
        let hint = hint(&error);
        anyhow::Error::from(error.without_url()).context(format!("ask {url}; {hint}"))
    })?;
    let status = answer.status();
    let body = answer.bytes().await.with_context(|| format!("read the answer of {url}"))?;
    let parsed: Value =
        serde_json::from_slice(&body).with_context(|| format!("{url} answered with {status}: no JSON"))?;
    if !status.is_success() {
        bail!("{url} answered with {status}: {}", plain(&parsed["error"]));
    }
    Ok(parsed)
}

fn client(place: &Place) -> anyhow::Result<Client> {
    let ca = place.ca.as_deref().map(Pem::read).transpose().context("read the authorities to be trusted")?;
    let trust = match &ca {
        _ if place.url.scheme() == "http" => Trust::Nobody,
        Some(ca) => Trust::Only(ca),
        None => Trust::System,
    };
    let tls = tls::client(&trust).context("read the authorities to be trusted")?;
    let mut client = Client::builder().no_proxy().timeout(TIMEOUT).tls_backend_preconfigured(tls);
    if let (Some(name), Some(at)) = (place.url.domain(), place.at) {
        client = client.resolve(name, at);
    }
    client.build().context("make a client")
}

/// What may be wrong.
fn hint(error: &reqwest::Error) -> &'static str {
    match tls::refused(error) {
        Some(Refused::Certificate(_)) => {
            "name the instance as its certificate does, and the authority of the certificate with --ca"
        }
        Some(Refused::Other) => "does it serve TLS there? if not, say http://",
        None if error.is_connect() => "is an instance running there?",
        None if error.is_timeout() => "is it an instance that runs there?",
        None => "does it serve TLS there? then say https://",
    }
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
    fn an_address_is_a_host_and_a_port_or_a_url() {
        let shown = |address: &str| url(address, "https").map(|url| url.to_string());
        for (address, expected) in [
            ("localhost:8642", "https://localhost:8642/"),
            ("[::1]:8642", "https://[::1]:8642/"),
            ("http://counts-0.counts:8642", "http://counts-0.counts:8642/"),
            ("https://proxy/counts", "https://proxy/counts"),
        ] {
            assert_eq!(shown(address).as_deref(), Ok(expected));
        }
        for wrong in ["", "local host:8642", "localhost:86420", ":8642", "ftp://localhost:8642", "http://"] {
            let why = shown(wrong).expect_err(wrong);
            assert!(why.contains("as localhost:8642"), "{wrong}: {why}");
        }
    }

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
