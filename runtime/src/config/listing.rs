//! Prints configuration: what is in force, and the reference of all keys. Must not know how it
//! was read.

use std::fmt::Write as _;

use super::Config;
use super::keys::{Fallback, KEYS, Key};
use super::value::Kind;

/// Every key in force, where it came from, and no secret.
#[must_use]
pub fn effective(config: &Config) -> String {
    let width = config.settings.iter().map(|setting| setting.key.len()).max().unwrap_or(0);
    let value = |value: &Option<String>| value.clone().unwrap_or_else(|| "-".to_owned());
    let values = config.settings.iter().map(|setting| value(&setting.value).len()).max().unwrap_or(0).min(60);
    let mut text = String::new();
    for setting in &config.settings {
        let value = value(&setting.value);
        let _ = writeln!(text, "{:width$}  {value:values$}  {}", setting.key, setting.origin);
    }
    text
}

/// `docs/configuration.md`.
#[must_use]
pub fn reference() -> String {
    let mut text = String::from(INTRODUCTION);
    text.push_str("| key | value | default | what it is for |\n|---|---|---|---|\n");
    for key in KEYS {
        let _ = writeln!(text, "| `{}` | {} | {} | {} |", key.name, values(key.kind), default(key), key.doc);
    }
    text.push_str(CLIENTS);
    text
}

fn values(kind: Kind) -> String {
    match kind {
        Kind::Choice(options) => options.iter().map(|option| format!("`{option}`")).collect::<Vec<_>>().join(", "),
        other => other.to_string(),
    }
}

fn default(key: &Key) -> String {
    match key.fallback {
        Fallback::Required => "required".to_owned(),
        Fallback::Unset | Fallback::Is("") => "none".to_owned(),
        Fallback::Is(text) => format!("`{text}`"),
        Fallback::ByGuarantee(one, other) => format!("`{one}`; `{other}` under `exactly_once_v2`"),
    }
}

const INTRODUCTION: &str = "\
# Configuration

<!-- Printed by `millrace config --reference`; a test holds this file to it. -->

One TOML file, named by `-c FILE`, else by the environment variable `MILLRACE_CONFIG`, else `millrace.toml`.
`processing.guarantee = \"…\"` and `guarantee = \"…\"` under `[processing]` are the same key. Names and meanings are Kafka
Streams' where it has them.

Every key can be overridden by an environment variable: `MILLRACE_` and the key in capitals, dots as underscores
(`MILLRACE_COMMIT_INTERVAL_MS`). A list is written with commas there, and an empty variable counts as not set.
`KAFKA_BROKER` gives `kafka.bootstrap.servers`. Options of the command line go before the environment, the environment
before the file. `millrace config` prints what is in force and where it came from, with secrets redacted.

A key nobody knows is an error, as is a value out of range; all errors are reported at once, and the command ends with
exit code 2. So is a variable that differs from one of a key by a slip of the pen; other variables that begin with
`MILLRACE_` are ignored with a warning, for the scripts of a deployment may have some of their own.

Sizes are bytes, or text with a unit: `KiB`, `MiB`, `GiB` (1024) or `kB`, `MB`, `GB` (1000).

";

const CLIENTS: &str = "
## Properties of the Kafka clients

What stands below `kafka.` is passed to librdkafka under its own name, to all clients that have the property; what stands
below `kafka.consumer.`, `kafka.producer.` or `kafka.admin.` to one kind of client, and goes before the common one:

```toml
[kafka]
security.protocol = \"SASL_SSL\"
sasl.mechanism = \"PLAIN\"
sasl.username = \"$ConnectionString\"
# sasl.password: by MILLRACE_KAFKA_SASL_PASSWORD, from a secret

[kafka.producer]
linger.ms = 5
```

The names are those of librdkafka's
[CONFIGURATION.md](https://github.com/confluentinc/librdkafka/blob/v2.12.1/CONFIGURATION.md). Some of them Millrace sets itself,
because what it promises hangs on them: group, offsets, assignment, isolation, idempotence, transactions, acknowledgements
and the partitioner. Setting one of those is an error that names the key to use instead.
";
