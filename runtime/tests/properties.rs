//! Holds the list of properties that are passed through to what librdkafka itself knows.

use millrace_runtime::config::{PROPERTIES, Scope};
use rdkafka::ClientConfig;

/// What librdkafka says to a property, whatever its value may be.
fn answer(name: &str) -> String {
    let made = ClientConfig::new().set(name, "1").create_native_config();
    made.map_or_else(|error| error.to_string(), |_| "taken".to_owned())
}

#[test]
fn librdkafka_knows_every_property() {
    for (name, _) in PROPERTIES {
        assert!(!answer(name).contains("No such configuration property"), "{name}");
    }
    assert!(answer("fetch.min.byte").contains("No such configuration property"), "{}", answer("fetch.min.byte"));
}

#[test]
fn the_scopes_are_those_of_its_manual() {
    let scope = |name: &str| PROPERTIES.iter().find(|(known, _)| *known == name).map(|(_, scope)| *scope);
    assert_eq!(scope("request.timeout.ms"), Some(Scope::Producer));
    assert_eq!(scope("socket.timeout.ms"), Some(Scope::All));
    assert_eq!(scope("retry.backoff.ms"), Some(Scope::All));
    assert_eq!(scope("fetch.min.bytes"), Some(Scope::Consumer));
    assert_eq!(scope("group.id"), None, "Millrace owns it");
}
