//! Owns the record of what shape of topology the state of a directory was made by. Must not know what else is there.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, Write};
use std::path::Path;

use millrace_engine::topology::{Part, Shape, StoreShape};
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

impl Recorded {
    #[must_use]
    pub fn of(shape: &Shape, digest: &str) -> Self {
        let store = |(name, store): (&String, &StoreShape)| {
            let StoreShape { layout, format, persistent, cached, changelog } = store.clone();
            (name.clone(), RecordedStore { layout, format, persistent, cached, changelog })
        };
        let part = |(&id, part): (&u32, &Part)| {
            let stores = part.stores.iter().map(store).collect();
            (id, RecordedPart { inputs: part.inputs.clone(), outputs: part.outputs.clone(), stores })
        };
        let subtopologies = shape.subtopologies.iter().map(part).collect();
        Self { format: FORMAT, digest: digest.to_owned(), subtopologies, repartitions: shape.repartitions.clone() }
    }

    #[must_use]
    pub fn shape(self) -> Shape {
        let store = |(name, store): (String, RecordedStore)| {
            let RecordedStore { layout, format, persistent, cached, changelog } = store;
            (name, StoreShape { layout, format, persistent, cached, changelog })
        };
        let part = |(id, part): (u32, RecordedPart)| {
            let stores = part.stores.into_iter().map(store).collect();
            (id, Part { inputs: part.inputs, outputs: part.outputs, stores })
        };
        let subtopologies = self.subtopologies.into_iter().map(part).collect();
        Shape { subtopologies, repartitions: self.repartitions }
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
