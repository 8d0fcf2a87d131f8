//! What a test asks an instance over HTTP.

use anyhow::{Context, Result};

use crate::process::Process;

/// Where an instance serves, as it says in its log.
pub fn address(process: &Process) -> Result<String> {
    let line = process.line(&["serving HTTP"])?.text;
    let (_, after) = line.split_once("address=").context("no address in the line")?;
    Ok(after.split_whitespace().next().unwrap_or_default().to_owned())
}

/// Status and body of an answer, whatever the status.
pub fn get(address: &str, path: &str) -> Result<(u16, String)> {
    Client::new(address).get(path)
}

/// The same for a component that is pushed, with a token.
pub fn put(address: &str, path: &str, token: &str, component: &[u8]) -> Result<(u16, String)> {
    let request = agent().put(format!("http://{address}{path}")).header("Authorization", format!("Bearer {token}"));
    read(request.send(component).with_context(|| format!("send to {path}"))?)
}

/// The same for a change that needs no more than its path says.
pub fn post(address: &str, path: &str, token: &str) -> Result<(u16, String)> {
    let request = agent().post(format!("http://{address}{path}")).header("Authorization", format!("Bearer {token}"));
    read(request.send_empty().with_context(|| format!("send to {path}"))?)
}

/// Asks one instance again and again, over a connection that it keeps.
pub struct Client {
    agent: ureq::Agent,
    address: String,
}

impl Client {
    #[must_use]
    pub fn new(address: &str) -> Self {
        Self { agent: agent(), address: address.to_owned() }
    }

    pub fn get(&self, path: &str) -> Result<(u16, String)> {
        let answer = self.agent.get(format!("http://{}{path}", self.address)).call();
        read(answer.with_context(|| format!("ask for {path}"))?)
    }
}

fn agent() -> ureq::Agent {
    ureq::Agent::new_with_config(ureq::Agent::config_builder().http_status_as_error(false).build())
}

fn read(mut answer: ureq::http::Response<ureq::Body>) -> Result<(u16, String)> {
    let body = answer.body_mut().read_to_string().context("read the answer")?;
    Ok((answer.status().as_u16(), body))
}
