//! Owns the record of what shape of topology the state of a directory was made by. Must not know what else is there.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, Write};
use std::path::Path;

use millrace_engine::topology::{GlobalShape, Part, Shape, StoreShape};
use serde::{Deserialize, Serialize};

const FILE: &str = "topology.json";
const FORMAT: u32 = 1;

/// What stands in the file.
#[derive(Debug, Serialize, Deserialize)]
pub struct Recorded {
    format: u32,
    /// Of the module.
    pub digest: String,
    subtopologies: BTreeMap<u32, RecordedPart>,
    repartitions: BTreeMap<String, Option<u32>>,
    /// Those of before there were any say nothing of them.
    #[serde(default)]
    globals: BTreeMap<String, RecordedGlobal>,
}

#[derive(Debug, Serialize, Deserialize)]
struct RecordedGlobal {
    topic: String,
    #[serde(flatten)]
    store: RecordedStore,
}

#[derive(Debug, Serialize, Deserialize)]
struct RecordedPart {
    inputs: BTreeSet<String>,
    outputs: BTreeSet<String>,
    stores: BTreeMap<String, RecordedStore>,
}

#[derive(Debug, Serialize, Deserialize)]
struct RecordedStore {
    layout: String,
    format: String,
    persistent: bool,
    cached: bool,
    changelog: Option<String>,
}

impl From<&StoreShape> for RecordedStore {
    fn from(shape: &StoreShape) -> Self {
        let StoreShape { layout, format, persistent, cached, changelog } = shape.clone();
        Self { layout, format, persistent, cached, changelog }
    }
}

impl From<RecordedStore> for StoreShape {
    fn from(recorded: RecordedStore) -> Self {
        let RecordedStore { layout, format, persistent, cached, changelog } = recorded;
        Self { layout, format, persistent, cached, changelog }
    }
}

impl Recorded {
    #[must_use]
    pub fn of(shape: &Shape, digest: &str) -> Self {
        let store = |(name, store): (&String, &StoreShape)| (name.clone(), store.into());
        let part = |(&id, part): (&u32, &Part)| {
            let stores = part.stores.iter().map(store).collect();
            (id, RecordedPart { inputs: part.inputs.clone(), outputs: part.outputs.clone(), stores })
        };
        let subtopologies = shape.subtopologies.iter().map(part).collect();
        let global = |(name, global): (&String, &GlobalShape)| {
            (name.clone(), RecordedGlobal { topic: global.topic.clone(), store: (&global.store).into() })
        };
        let globals = shape.globals.iter().map(global).collect();
        let repartitions = shape.repartitions.clone();
        Self { format: FORMAT, digest: digest.to_owned(), subtopologies, repartitions, globals }
    }

    #[must_use]
    pub fn shape(self) -> Shape {
        let store = |(name, store): (String, RecordedStore)| (name, store.into());
        let part = |(id, part): (u32, RecordedPart)| {
            let stores = part.stores.into_iter().map(store).collect();
            (id, Part { inputs: part.inputs, outputs: part.outputs, stores })
        };
        let subtopologies = self.subtopologies.into_iter().map(part).collect();
        let global =
            |(name, RecordedGlobal { topic, store })| (name, GlobalShape { topic, store: StoreShape::from(store) });
        let globals = self.globals.into_iter().map(global).collect();
        Shape { subtopologies, repartitions: self.repartitions, globals }
    }

    /// What is recorded in a directory. One that can't be read, or was written by a later millrace, says nothing.
    pub fn read(directory: &Path) -> Option<Self> {
        let path = directory.join(FILE);
        let text = match std::fs::read(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return None,
            Err(error) => {
                tracing::warn!(path = %path.display(), %error, "what topology the state is of can't be read: not compared");
                return None;
            }
        };
        match serde_json::from_slice::<Self>(&text) {
            Ok(recorded) if recorded.format == FORMAT => Some(recorded),
            Ok(Self { format, .. }) => {
                tracing::warn!(path = %path.display(), format, "written by a later millrace: not compared");
                None
            }
            Err(error) => {
                tracing::warn!(path = %path.display(), %error, "what topology the state is of can't be read: not compared");
                None
            }
        }
    }

    /// Puts it in place of what was recorded before, all or nothing.
    pub fn write(&self, directory: &Path) -> io::Result<()> {
        let text = serde_json::to_vec_pretty(self).map_err(io::Error::other)?;
        let mut file = tempfile::NamedTempFile::new_in(directory)?;
        file.write_all(&text)?;
        file.persist(directory.join(FILE)).map_err(|error| error.error)?;
        Ok(())
    }
}
