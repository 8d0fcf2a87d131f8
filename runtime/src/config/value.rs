//! Owns the types a key can have: reading them from TOML or text, their ranges, their names in
//! messages. Must not know which key is which.

use std::fmt;
use std::net::SocketAddr;

use super::{INSTANCE, OCI, UPLOADED};

/// What was written, before anybody knows what it should be.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Raw {
    /// From the environment or the command line, where everything is text.
    Plain(String),
    Text(String),
    Integer(i64),
    Flag(bool),
    List(Vec<Raw>),
    /// Something no key takes, by TOML's name for it.
    Other(&'static str),
}

/// What a key can be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// Part of a topic's name.
    Name,
    Topic,
    Path,
    /// A path, `uploaded`, or an artifact of an OCI registry.
    Module,
    Brokers,
    /// Where to listen, or `off`.
    Listen,
    /// A host and a port with `{instance}` in them.
    Peers,
    /// Where something is reached by HTTP.
    Url,
    /// Directives for the log.
    Filter,
    Choice(&'static [&'static str]),
    Number {
        min: i64,
        max: i64,
    },
    Bytes {
        min: i64,
        max: i64,
    },
    Flag,
    /// Names of environment variables.
    Names,
    /// Differences between topologies, as `store:counts`.
    Differences,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Value {
    Text(String),
    Number(i64),
    List(Vec<String>),
}

/// What a key takes, and what it was given instead.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Wrong {
    pub(super) wanted: String,
    pub(super) got: String,
}

impl Kind {
    pub(super) fn read(self, raw: &Raw) -> Result<Value, Wrong> {
        match (self, raw) {
            // Text is read the same wherever it stands, so that a value can move between file and environment.
            (_, Raw::Plain(text) | Raw::Text(text)) => self.parse(text).ok_or_else(|| self.wrong(raw)),
            (Self::Number { .. } | Self::Bytes { .. }, Raw::Integer(number)) => {
                self.in_range(*number).ok_or_else(|| self.wrong(raw))
            }
            (Self::Flag, Raw::Flag(flag)) => Ok(Value::Text(flag.to_string())),
            (Self::Names | Self::Differences, Raw::List(items)) => {
                let names = items.iter().map(|item| match item {
                    Raw::Text(name) if self.is_listed(name) => Ok(name.clone()),
                    _ => Err(self.wrong(item)),
                });
                names.collect::<Result<_, _>>().map(Value::List)
            }
            _ => Err(self.wrong(raw)),
        }
    }

    /// As the environment, the command line and the table of keys give it.
    pub(super) fn parse(self, text: &str) -> Option<Value> {
        let sound = match self {
            Self::Number { .. } => return self.in_range(text.trim().parse().ok()?),
            Self::Bytes { .. } => return self.in_range(bytes(text)?),
            Self::Names | Self::Differences => {
                let names = text.split(',').map(str::trim).filter(|name| !name.is_empty());
                let names: Vec<String> = names.map(str::to_owned).collect();
                return names.iter().all(|name| self.is_listed(name)).then_some(Value::List(names));
            }
            Self::Brokers => return brokers(text).map(Value::Text),
            Self::Flag => matches!(text, "true" | "false"),
            Self::Choice(options) => options.contains(&text),
            Self::Name => is_name(text, MAX_NAME),
            Self::Topic => is_name(text, MAX_TOPIC),
            Self::Path => !text.is_empty(),
            Self::Module => !text.is_empty() && text.strip_prefix(OCI).is_none_or(is_pinned),
            Self::Listen => text == OFF || text.parse::<SocketAddr>().is_ok(),
            Self::Peers => is_template(text),
            Self::Url => is_url(text),
            Self::Filter => is_filter(text),
        };
        sound.then(|| Value::Text(text.to_owned()))
    }

    fn is_listed(self, name: &str) -> bool {
        let kinds = ["store:", "input:", "internal-topic:", "subtopology:"];
        is_variable(name) && (self != Self::Differences || kinds.iter().any(|kind| name.starts_with(kind)))
    }

    fn in_range(self, number: i64) -> Option<Value> {
        match self {
            Self::Number { min, max } | Self::Bytes { min, max } if (min..=max).contains(&number) => {
                Some(Value::Number(number))
            }
            _ => None,
        }
    }

    fn wrong(self, raw: &Raw) -> Wrong {
        Wrong { wanted: self.to_string(), got: raw.to_string() }
    }
}

/// What a switch says that is no flag.
pub(super) const OFF: &str = "off";

/// `http://HOST…` or `https://HOST…`.
fn is_url(text: &str) -> bool {
    let host = text.strip_prefix("http://").or_else(|| text.strip_prefix("https://"));
    host.is_some_and(|host| !host.is_empty() && !host.starts_with(['/', ':']) && !text.contains(char::is_whitespace))
}

/// Kafka allows 249 characters in a topic's name; a store's name and `-changelog` must find room.
const MAX_NAME: usize = 150;
const MAX_TOPIC: usize = 249;

fn is_name(text: &str, longest: usize) -> bool {
    let legal = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
    (1..=longest).contains(&text.len()) && text.chars().all(legal) && text != "." && text != ".."
}

fn is_variable(name: &str) -> bool {
    !name.is_empty() && !name.contains(['=', '\0', ','])
}

/// `registry/repository@sha256:…`, with or without a tag, which the digest overrules. A registry is told from the first
/// part of a repository as docker does it.
fn is_pinned(artifact: &str) -> bool {
    let Some((name, digest)) = artifact.split_once("@sha256:") else { return false };
    let Some((registry, repository)) = name.split_once('/') else { return false };
    let hexadecimal = digest.len() == 64 && digest.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
    hexadecimal && (registry.contains(['.', ':']) || registry == "localhost") && !repository.is_empty()
}

fn is_template(text: &str) -> bool {
    let legal = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_' | '[' | ']');
    let filled = text.replace(INSTANCE, "a");
    let port = |port: &str| port.parse::<u16>().is_ok_and(|port| port > 0);
    filled != text && filled.rsplit_once(':').is_some_and(|(host, at)| host.chars().all(legal) && port(at))
}

/// `target=level` directives and at most plain levels. A misspelt level would otherwise pass as
/// the name of a target and switch everything else off.
fn is_filter(text: &str) -> bool {
    let level = |word: &str| ["off", "error", "warn", "info", "debug", "trace"].contains(&word);
    text.split(',').all(|directive| match directive.trim().split_once('=') {
        Some((target, word)) => !target.is_empty() && level(word),
        None => level(directive.trim()),
    })
}

/// `1048576`, `1024KiB`, `1 MiB`. Decimal units too: `1MB` is a million.
fn bytes(text: &str) -> Option<i64> {
    let text = text.trim();
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let factor: i64 = match unit.trim() {
        "" | "B" => 1,
        "KiB" => 1 << 10,
        "MiB" => 1 << 20,
        "GiB" => 1 << 30,
        "kB" | "KB" => 1_000,
        "MB" => 1_000_000,
        "GB" => 1_000_000_000,
        _ => return None,
    };
    number.parse::<i64>().ok()?.checked_mul(factor)
}

/// Adds the default port where none is given.
fn brokers(text: &str) -> Option<String> {
    let servers: Option<Vec<String>> = text.split(',').map(|server| broker(server.trim())).collect();
    servers.map(|servers| servers.join(","))
}

fn broker(server: &str) -> Option<String> {
    let (scheme, address) = match server.split_once("://") {
        Some((scheme, address)) => (format!("{scheme}://"), address),
        None => (String::new(), server),
    };
    // Only brackets tell the colons of an IPv6 address from the one before the port.
    let host_end = match address.strip_prefix('[') {
        Some(rest) => rest.find(']')? + 2,
        None => address.find(':').unwrap_or(address.len()),
    };
    let (host, rest) = address.split_at(host_end);
    let port = match rest.strip_prefix(':') {
        Some(port) => port.parse::<u16>().ok().filter(|&port| port > 0)?,
        None if rest.is_empty() => 9092,
        None => return None,
    };
    let sound = !host.is_empty() && !host.contains(|c: char| c.is_whitespace() || c == '/');
    sound.then(|| format!("{scheme}{host}:{port}"))
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Name => write!(f, "1 to {MAX_NAME} of the characters a-z A-Z 0-9 . _ -"),
            Self::Topic => write!(f, "the name of a topic"),
            Self::Path => write!(f, "a path"),
            Self::Module => write!(f, "a path, `{UPLOADED}`, or `{OCI}REGISTRY/REPOSITORY@sha256:DIGEST`"),
            Self::Brokers => write!(f, "`host` or `host:port`, comma-separated"),
            Self::Peers => write!(f, "a host and a port with `{{instance}}` in them, as `{{instance}}.counts:8642`"),
            Self::Url => write!(f, "an address, as `http://host:4318`"),
            Self::Listen => write!(f, "an address and a port, as `0.0.0.0:8642`, or `{OFF}`"),
            Self::Filter => {
                write!(f, "a level (off, error, warn, info, debug, trace) and `target=level`, comma-separated")
            }
            Self::Choice(options) => write!(f, "{}", options.join(" or ")),
            Self::Number { min, max } => write!(f, "an integer from {min} to {max}"),
            Self::Bytes { min, max } => {
                write!(f, "a size from {} to {}, as `64MiB` or in bytes", Size(*min), Size(*max))
            }
            Self::Flag => write!(f, "true or false"),
            Self::Names => write!(f, "a list of names of environment variables"),
            Self::Differences => {
                write!(
                    f,
                    "a list of differences, each `store:`, `input:`, `internal-topic:` or `subtopology:` and a name"
                )
            }
        }
    }
}

/// Bytes in the largest unit that divides them.
pub(super) struct Size(pub(super) i64);

impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let units = [(1 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB")];
        match units.iter().find(|(unit, _)| self.0 != 0 && self.0 % unit == 0) {
            Some((unit, name)) => write!(f, "{}{name}", self.0 / unit),
            None => write!(f, "{}", self.0),
        }
    }
}

impl fmt::Display for Raw {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Plain(text) => write!(f, "`{text}`"),
            Self::Text(text) => write!(f, "the string \"{text}\""),
            Self::Integer(number) => write!(f, "{number}"),
            Self::Flag(flag) => write!(f, "{flag}"),
            Self::List(_) => write!(f, "a list"),
            Self::Other(name) => write!(f, "a {name}"),
        }
    }
}

impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Text(text) => write!(f, "{text}"),
            Self::Number(number) => write!(f, "{number}"),
            Self::List(items) => write!(f, "{}", items.join(",")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(kind: Kind, input: &str, expected: &str) {
        let found = kind.parse(input).map_or_else(|| "refused".to_owned(), |value| value.to_string());
        assert_eq!(found, expected, "{input}");
    }

    #[test]
    fn brokers_get_a_port_and_sizes_a_unit() {
        check(Kind::Brokers, "kafka", "kafka:9092");
        check(Kind::Brokers, "a, b:19092", "a:9092,b:19092");
        check(Kind::Brokers, "[::1]", "[::1]:9092");
        check(Kind::Brokers, "[::1]:1", "[::1]:1");
        check(Kind::Brokers, "SASL_SSL://x.servicebus.windows.net:9093", "SASL_SSL://x.servicebus.windows.net:9093");
        for bad in ["", "a,", ":9092", "a:0", "a:99999", "a:b", "::1", "a b", "[::1", "[::1]x"] {
            check(Kind::Brokers, bad, "refused");
        }
        let size = Kind::Bytes { min: 0, max: 10_000_000_000 };
        check(size, "10MiB", "10485760");
        check(size, "10 MB", "10000000");
        check(size, "512", "512");
        for bad in ["", "MiB", "-1", "1.5MiB", "1TiB", "99999999999GiB", "1mib"] {
            check(size, bad, "refused");
        }
    }

    #[test]
    fn an_address_to_listen_on_has_a_port() {
        check(Kind::Listen, "off", "off");
        check(Kind::Listen, "127.0.0.1:0", "127.0.0.1:0");
        check(Kind::Listen, "[::]:8642", "[::]:8642");
        for bad in ["", "8642", ":8642", "localhost:8642", "0.0.0.0", "OFF"] {
            check(Kind::Listen, bad, "refused");
        }
    }

    #[test]
    fn an_artifact_is_pinned_by_its_digest() {
        let digest = "sha256:".to_owned() + &"0a".repeat(32);
        for good in ["counts.wasm", "uploaded", "oci", "oci:/x"] {
            check(Kind::Module, good, good);
        }
        for name in ["registry.example/counts", "localhost/counts", "[::1]:5000/a/b", "registry.example/a/counts:1.2"] {
            let good = format!("oci://{name}@{digest}");
            check(Kind::Module, &good, &good);
        }
        for bad in [
            "",
            "oci://",
            "oci://registry.example/a/counts",
            "oci://registry.example/a/counts:1.2",
            "oci://registry.example/a@sha256:12",
        ] {
            check(Kind::Module, bad, "refused");
        }
        for name in ["counts", "team/counts", "registry.example", "registry.example/"] {
            check(Kind::Module, &format!("oci://{name}@{digest}"), "refused");
        }
    }

    #[test]
    fn instances_have_a_place_in_the_address_of_peers() {
        check(Kind::Url, "http://collector:4318", "http://collector:4318");
        for bad in ["collector:4318", "http://", "http://:4318", "grpc://collector:4317", "http://a b"] {
            check(Kind::Url, bad, "refused");
        }
        check(Kind::Peers, "{instance}.counts.default.svc:8642", "{instance}.counts.default.svc:8642");
        for bad in ["counts:8642", "{instance}", "{instance}:x", "http://{instance}:1", "{pod}:8642"] {
            check(Kind::Peers, bad, "refused");
        }
    }

    #[test]
    fn a_misspelt_level_is_no_target() {
        check(Kind::Filter, "info,millrace_runtime::sink=debug", "info,millrace_runtime::sink=debug");
        for bad in ["", "inof", "info,", "=debug", "x=loud"] {
            check(Kind::Filter, bad, "refused");
        }
    }
}
