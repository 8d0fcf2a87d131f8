//! Owns what the topic of versions says once its records are read, and the format of these. Must not know Kafka.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// Written into every record; a higher one is of a later millrace, which may mean something else by it.
const FORMAT: u32 = 1;

const VERSION: &str = "version/";
const INSTANCE: &str = "instance/";
const ACTIVE: &str = "active";

/// A component that was pushed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Version {
    pub number: u64,
    /// SHA-256 of the component, in hexadecimal.
    pub digest: String,
    pub size: u64,
    /// What the keys of its chunks begin with.
    pub upload: String,
    /// Offsets of its chunks, in order.
    pub chunks: Vec<i64>,
    pub contract: String,
    pub pushed_at_ms: i64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub note: Option<String>,
    /// Why it was taken back, if it was.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rolled_back: Option<String>,
}

/// Which version is to run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Activation {
    /// Counts the changes, so that each is told from the one before, also if it names the same version.
    pub change: u64,
    pub version: u64,
    /// The one before it, which a rollback goes back to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub previous: Option<u64>,
    pub reason: Reason,
    pub at_ms: i64,
    /// It is to run on so many tasks only, the first ones, and the one before on all others.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub canary: Option<u32>,
    /// Differences of the topology that were accepted.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub allow: Vec<String>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Reason {
    Pushed,
    Activated,
    /// It has run on some tasks, and is to run on all.
    Promoted,
    /// By hand, or because of what the text says.
    RolledBack(String),
}

/// What an instance runs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Instance {
    pub version: u64,
    /// The one that it runs on some tasks.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub canary: Option<u64>,
    pub change: u64,
    pub since_ms: i64,
    /// How long its tasks stood still to take it up; none at a start.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pause_us: Option<u64>,
    /// Why it does not run the active one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub problem: Option<String>,
}

#[derive(Serialize, Deserialize)]
struct Stored<T> {
    format: u32,
    #[serde(flatten)]
    content: T,
}

/// Why a record of the topic can't be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Unreadable {
    #[error("it was written by a later millrace (format {0}): run that one here, too")]
    Later(u64),
    #[error("it is no record of millrace's: {0}")]
    Foreign(String),
}

/// All that the first partition says.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Catalogue {
    pub versions: BTreeMap<u64, Version>,
    pub active: Option<Activation>,
    pub instances: BTreeMap<String, Instance>,
}

impl Catalogue {
    /// Takes a record in; one without a value takes back what its key says.
    pub fn apply(&mut self, key: &str, value: Option<&[u8]>) -> Result<(), Unreadable> {
        if let Some(number) = key.strip_prefix(VERSION).and_then(|number| number.parse().ok()) {
            match value {
                Some(value) => self.versions.insert(number, read(value)?),
                None => self.versions.remove(&number),
            };
        } else if let Some(name) = key.strip_prefix(INSTANCE) {
            match value {
                Some(value) => self.instances.insert(name.to_owned(), read(value)?),
                None => self.instances.remove(name),
            };
        } else if key == ACTIVE {
            self.active = value.map(read).transpose()?;
        } else {
            return Err(Unreadable::Foreign(format!("nothing is known by the key {key:?}")));
        }
        Ok(())
    }

    /// The version that is to run, and what says so.
    #[must_use]
    pub fn active(&self) -> Option<(&Version, &Activation)> {
        let active = self.active.as_ref()?;
        Some((self.versions.get(&active.version)?, active))
    }

    /// The number of the next version.
    #[must_use]
    pub fn next_number(&self) -> u64 {
        self.versions.keys().next_back().map_or(1, |last| last + 1)
    }

    /// The changes that put `previous` in the place of the active version, because of `reason`.
    #[must_use]
    pub fn roll_back(&self, previous: u64, reason: String, at_ms: i64) -> Vec<(String, Option<Vec<u8>>)> {
        let bad = self.active.as_ref().and_then(|active| self.versions.get(&active.version));
        let bad = bad.map(|version| Version { rolled_back: Some(reason.clone()), ..version.clone() }.record());
        let activation = self.activation(previous, Reason::RolledBack(reason), Vec::new(), at_ms);
        // Back from there is nowhere to go: it was left for a reason.
        let activation = Activation { previous: None, ..activation };
        bad.into_iter().chain([activation.record()]).map(|(key, value)| (key, Some(value))).collect()
    }

    /// The next activation.
    #[must_use]
    pub fn activation(&self, version: u64, reason: Reason, allow: Vec<String>, at_ms: i64) -> Activation {
        Activation {
            change: self.active.as_ref().map_or(1, |before| before.change + 1),
            version,
            previous: self.active.as_ref().and_then(Activation::settled).filter(|&before| before != version),
            reason,
            at_ms,
            canary: None,
            allow,
        }
    }

    /// The change that has the active version run on all tasks.
    #[must_use]
    pub fn promotion(&self, reason: Reason, at_ms: i64) -> Option<Activation> {
        let active = self.active.as_ref().filter(|active| active.canary.is_some())?;
        Some(Activation { change: active.change + 1, reason, at_ms, canary: None, ..active.clone() })
    }
}

impl Version {
    #[must_use]
    pub fn record(&self) -> (String, Vec<u8>) {
        (Self::key(self.number), write(self))
    }

    #[must_use]
    pub fn key(number: u64) -> String {
        format!("{VERSION}{number}")
    }
}

impl Activation {
    /// The version that runs on all tasks but those of a canary.
    #[must_use]
    pub fn settled(&self) -> Option<u64> {
        if self.canary.is_some() { self.previous } else { Some(self.version) }
    }

    #[must_use]
    pub fn record(&self) -> (String, Vec<u8>) {
        (ACTIVE.to_owned(), write(self))
    }
}

impl Instance {
    #[must_use]
    pub fn record(&self, name: &str) -> (String, Vec<u8>) {
        (Self::key(name), write(self))
    }

    #[must_use]
    pub fn key(name: &str) -> String {
        format!("{INSTANCE}{name}")
    }
}

fn write<T: Serialize>(content: &T) -> Vec<u8> {
    serde_json::to_vec(&Stored { format: FORMAT, content }).expect("numbers, texts and lists have a form in JSON")
}

fn read<T: for<'a> Deserialize<'a>>(value: &[u8]) -> Result<T, Unreadable> {
    let foreign = |error: serde_json::Error| Unreadable::Foreign(error.to_string());
    let json: serde_json::Value = serde_json::from_slice(value).map_err(foreign)?;
    match json["format"].as_u64() {
        Some(format) if format > u64::from(FORMAT) => return Err(Unreadable::Later(format)),
        Some(_) => {}
        None => return Err(Unreadable::Foreign("it has no format".to_owned())),
    }
    serde_json::from_value::<Stored<T>>(json).map(|stored| stored.content).map_err(foreign)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn version(number: u64) -> Version {
        Version {
            number,
            digest: "d".to_owned(),
            size: 3,
            upload: "u".to_owned(),
            chunks: vec![4, 7],
            contract: "0.1.0".to_owned(),
            pushed_at_ms: 5,
            note: None,
            rolled_back: None,
        }
    }

    /// Persisted bytes are for ever.
    #[test]
    fn format_1_is_as_released() {
        let (key, value) = version(3).record();
        let text = r#"{"format":1,"number":3,"digest":"d","size":3,"upload":"u","chunks":[4,7],"contract":"0.1.0","pushed_at_ms":5}"#;
        assert_eq!((key.as_str(), String::from_utf8(value).unwrap().as_str()), ("version/3", text));
        let reason = Reason::RolledBack("it failed".to_owned());
        let active =
            Activation { change: 2, version: 3, previous: Some(1), reason, at_ms: 9, canary: None, allow: Vec::new() };
        let text = r#"{"format":1,"change":2,"version":3,"previous":1,"reason":{"rolled-back":"it failed"},"at_ms":9}"#;
        assert_eq!(String::from_utf8(active.record().1).unwrap(), text);
        let instance =
            Instance { version: 3, canary: None, change: 2, since_ms: 9, pause_us: Some(1500), problem: None };
        let text = r#"{"format":1,"version":3,"change":2,"since_ms":9,"pause_us":1500}"#;
        assert_eq!(String::from_utf8(instance.record("a").1).unwrap(), text);
    }

    #[test]
    fn what_is_written_is_read_and_taken_back() {
        let mut catalogue = Catalogue::default();
        let mut put = |(key, value): (String, Vec<u8>)| catalogue.apply(&key, Some(&value)).unwrap();
        (1..=3).for_each(|number| put(version(number).record()));
        let active = Activation {
            change: 1,
            version: 2,
            previous: Some(1),
            reason: Reason::Pushed,
            at_ms: 0,
            canary: None,
            allow: vec!["store:a".to_owned()],
        };
        put(active.record());
        assert_eq!((catalogue.active(), catalogue.next_number()), (Some((&version(2), &active)), 4));
        let next = catalogue.activation(3, Reason::Activated, Vec::new(), 1);
        assert_eq!((next.change, next.previous), (2, Some(2)));
        catalogue.active = Some(Activation { canary: Some(1), ..next });
        let over = catalogue.activation(1, Reason::Activated, Vec::new(), 1);
        assert_eq!((over.previous, over.canary), (Some(2), None), "the canary was never what ran");
        let promoted = catalogue.promotion(Reason::Promoted, 5).unwrap();
        assert_eq!((promoted.version, promoted.previous, promoted.change, promoted.canary), (3, Some(2), 3, None));
        catalogue.active = Some(active);
        catalogue.apply("version/2", None).unwrap();
        assert_eq!(catalogue.active(), None, "the active one has vanished");
    }

    #[test]
    fn what_others_wrote_is_told_apart() {
        let mut catalogue = Catalogue::default();
        let later = catalogue.apply("active", Some(br#"{"format":2,"anything":1}"#));
        assert_eq!(later, Err(Unreadable::Later(2)));
        for (key, value) in [("else", "{}"), ("active", "{"), ("active", "{}"), ("version/1", r#"{"format":1}"#)] {
            let read = catalogue.apply(key, Some(value.as_bytes()));
            assert!(matches!(read, Err(Unreadable::Foreign(_))), "{key} {value}: {read:?}");
        }
        assert_eq!(catalogue, Catalogue::default());
    }
}
