//! Reads settings from environment variables, and the variables a module is granted. Nothing else
//! in the runtime reads the environment.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::PathBuf;

use super::WorkloadIdentity;
use super::clients::{self, Target, UNDER_KAFKA};
use super::file::Given;
use super::keys::{BOOTSTRAP_SERVERS, KEYS, PREFIX, variable};
use super::problem::{Origin, Problem, SAME, nearest};
use super::properties::PROPERTIES;
use super::value::Raw;

/// The variables of a process.
#[derive(Clone, Default)]
pub struct Environment {
    variables: BTreeMap<String, OsString>,
}

/// What the environment says, and what is odd about it.
#[derive(Debug, Default)]
pub(super) struct Reading {
    pub(super) settings: Vec<Given>,
    pub(super) problems: Vec<Problem>,
    pub(super) warnings: Vec<String>,
}

/// The short form of `kafka.bootstrap.servers`; a `MILLRACE_` variable goes before it.
pub(super) const KAFKA_BROKER: &str = "KAFKA_BROKER";
/// Set by Azure's webhook, with the names that Azure's own libraries read.
const AZURE_CLIENT_ID: &str = "AZURE_CLIENT_ID";
const AZURE_TENANT_ID: &str = "AZURE_TENANT_ID";
const AZURE_AUTHORITY_HOST: &str = "AZURE_AUTHORITY_HOST";
const AZURE_FEDERATED_TOKEN_FILE: &str = "AZURE_FEDERATED_TOKEN_FILE";
const CONFIG: &str = "MILLRACE_CONFIG";
/// What the project's own tests are told by.
const OF_TESTS: &str = "TEST_";

impl Environment {
    /// That of this process.
    #[must_use]
    pub fn read() -> Self {
        let named = std::env::vars_os().filter_map(|(name, value)| Some((name.into_string().ok()?, value)));
        Self { variables: named.collect() }
    }

    pub fn of<'a>(variables: impl IntoIterator<Item = (&'a str, &'a str)>) -> Self {
        let owned = variables.into_iter().map(|(name, value)| (name.to_owned(), value.into()));
        Self { variables: owned.collect() }
    }

    /// The configuration file, where the command line names none.
    #[must_use]
    pub fn config_file(&self) -> PathBuf {
        self.variables.get(CONFIG).map_or_else(|| PathBuf::from("millrace.toml"), PathBuf::from)
    }

    /// `None`: it is not set, or is no text.
    pub(super) fn get(&self, name: &str) -> Option<String> {
        self.variables.get(name)?.to_str().map(str::to_owned)
    }

    /// Without a token file there is none, whatever else is set: other programs read the other variables, too.
    pub(super) fn workload_identity(&self, warnings: &mut Vec<String>) -> Option<WorkloadIdentity> {
        let get = |name: &str| self.get(name).filter(|value| !value.is_empty());
        let token_file = get(AZURE_FEDERATED_TOKEN_FILE)?;
        let mut need = |name: &str| {
            let value = get(name);
            if value.is_none() {
                warnings.push(format!(
                    "{AZURE_FEDERATED_TOKEN_FILE} is set and {name} is not, so there is no workload identity: annotate the \
                     service account with azure.workload.identity/client-id, and make the pod anew"
                ));
            }
            value
        };
        let (client_id, tenant_id) = (need(AZURE_CLIENT_ID), need(AZURE_TENANT_ID));
        let authority = need(AZURE_AUTHORITY_HOST);
        Some(WorkloadIdentity {
            client_id: client_id?,
            tenant_id: tenant_id?,
            authority: authority?,
            token_file: token_file.into(),
        })
    }

    /// An empty variable counts as not set: that is how a deployment takes one back.
    pub(super) fn settings(&self) -> Reading {
        let mut reading = Reading::default();
        if let Some(broker) = self.variables.get(KAFKA_BROKER) {
            reading.take(KAFKA_BROKER, Some(BOOTSTRAP_SERVERS.to_owned()), broker);
        }
        for (name, value) in &self.variables {
            let Some(rest) = name.strip_prefix(PREFIX) else { continue };
            if name == CONFIG || rest.starts_with(OF_TESTS) || is_service_link(rest) {
                continue;
            }
            reading.take(name, key_of(name, rest), value);
        }
        reading
    }
}

impl Reading {
    fn take(&mut self, name: &str, key: Option<String>, value: &OsString) {
        let origin = Origin::Variable(name.to_owned());
        let Some(key) = key else { return self.stray(name, &origin) };
        match value.to_str() {
            Some("") => {}
            Some(text) => self.settings.push(Given { key, raw: Raw::Plain(text.to_owned()), origin }),
            None => self.problems.push(Problem::at(&origin, "is not UTF-8")),
        }
    }

    /// A slip of the pen is refused, for it would go unnoticed; other programs may use the prefix.
    fn stray(&mut self, name: &str, origin: &Origin) {
        let all = [Target::Common].into_iter().chain(Target::ALL);
        let properties = all.flat_map(|target| PROPERTIES.iter().map(move |(property, _)| target.key(property)));
        let names: Vec<String> = KEYS.iter().map(|key| key.name.to_owned()).chain(properties).collect();
        // Without the prefix all have: it would make everything similar.
        let given = name.trim_start_matches(PREFIX).to_lowercase().replace('_', ".");
        match nearest(&given, names.iter().map(String::as_str), SAME) {
            Some(near) => {
                self.problems.push(Problem::at(origin, format!("overrides no key; did you mean {}?", variable(near))));
            }
            None => self.warnings.push(format!("{origin} overrides no key and is ignored")),
        }
    }
}

/// The key a variable stands for. Some properties have underscores of their own, so a variable is
/// recognized by the name it would have, not taken apart.
fn key_of(name: &str, rest: &str) -> Option<String> {
    if let Some(key) = KEYS.iter().find(|key| key.variable() == name) {
        return Some(key.name.to_owned());
    }
    let under_kafka = variable(UNDER_KAFKA);
    let rest = rest.strip_prefix(under_kafka.strip_prefix(PREFIX)?)?;
    let (target, property) = Target::ALL
        .into_iter()
        .find_map(|target| Some((target, rest.strip_prefix(&target.name().to_uppercase())?.strip_prefix('_')?)))
        .unwrap_or((Target::Common, rest));
    let known = clients::names().find(|known| known.to_uppercase().replace('.', "_") == property)?;
    Some(target.key(known))
}

/// Kubernetes sets `MILLRACE_PORT_8080_TCP_ADDR` and the like where a service is called `millrace`.
fn is_service_link(rest: &str) -> bool {
    let address =
        |rest: &str| rest.split_once("PORT_").is_some_and(|(_, port)| port.starts_with(|c: char| c.is_ascii_digit()));
    rest == "PORT"
        || rest.ends_with("_PORT")
        || rest.contains("SERVICE_HOST")
        || rest.contains("SERVICE_PORT")
        || address(rest)
}
