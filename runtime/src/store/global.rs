//! Owns the database of the global stores: how it is opened, and when it begins anew. Must not know how it is filled.

use std::fmt::Write as _;
use std::fs;

use millrace_engine::ports::Error;
use millrace_engine::record::TaskId;
use millrace_engine::task::StoreSpec;
use millrace_engine::topology::FilledStore;
use tracing::{info, warn};

use super::aside;
use super::directory::{DatabaseId, StateDirectory, database_path};
use super::error::from_io;
use super::resources::Resources;
use super::rocks::{Identity, Rocks};
use super::task::TaskDatabase;

impl StateDirectory {
    /// Opens or creates the database of the global stores, which are those of `stores`, in the same order. One that was
    /// filled otherwise than they are to be, or that can't be trusted, makes place for an empty one, and so does each that
    /// is to be `emptied`: their topics have all there is.
    pub fn open_global(
        &self,
        globals: &[FilledStore],
        stores: &[StoreSpec],
        emptied: bool,
        resources: &Resources,
    ) -> Result<TaskDatabase, Error> {
        let rocks = if stores.iter().any(|store| store.persistent) {
            Some(self.open_filled(globals, stores, emptied, resources)?)
        } else {
            None
        };
        let database = TaskDatabase::new(rocks, stores, resources);
        for FilledStore { id, .. } in globals {
            self.views().put(TaskId { subtopology: *id, partition: 0 }, database.view());
        }
        Ok(database)
    }

    fn open_filled(
        &self,
        globals: &[FilledStore],
        stores: &[StoreSpec],
        emptied: bool,
        resources: &Resources,
    ) -> Result<Rocks, Error> {
        let path = database_path(self.path(), DatabaseId::Global);
        fs::create_dir_all(&path).map_err(|e| from_io("create the directory of global stores", &path, &e))?;
        if emptied {
            Rocks::destroy(&path)?;
        }
        let persistent: Vec<&StoreSpec> = stores.iter().filter(|store| store.persistent).collect();
        let identity = Identity { application_id: self.application_id(), database: DatabaseId::Global };
        // Their topics can fill them again, so they count as logged.
        let open = || Rocks::open(&path, &identity, &persistent, false, resources);
        let rocks = match open() {
            Err(Error::Corrupt(why)) => {
                let aside = aside::set_aside(&path)?;
                warn!(aside = %aside.display(), why, "the database of the global stores can't be trusted: set aside, they are filled anew");
                open()?
            }
            opened => opened?,
        };
        let sources = sources(globals);
        if rocks.is_filled_from(&sources)? {
            return Ok(rocks);
        }
        info!("global stores have changed: they are filled anew");
        drop(rocks);
        Rocks::destroy(&path)?;
        let rocks = open()?;
        rocks.is_filled_from(&sources)?;
        Ok(rocks)
    }
}

/// What decides about the content of global stores, as far as the topology says it.
fn sources(globals: &[FilledStore]) -> String {
    let mut text = String::new();
    for FilledStore { filled, store, .. } in globals {
        let format = &store.format;
        let _ = writeln!(text, "{} from {}: {} to {}", store.name, filled.topic, format.key, format.value);
    }
    text
}
