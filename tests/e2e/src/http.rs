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
    let agent = ureq::Agent::new_with_config(ureq::Agent::config_builder().http_status_as_error(false).build());
    let mut answer = agent.get(format!("http://{address}{path}")).call().with_context(|| format!("ask for {path}"))?;
    let body = answer.body_mut().read_to_string().context("read the answer")?;
    Ok((answer.status().as_u16(), body))
}
