//! Owns one task's RocksDB: a column family per persistent store and the default one for the
//! positions. Must not know where the directory comes from, nor stores that live in memory.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use millrace_engine::ports::{Error, Positions, Row, StoreIndex, Write};
use millrace_engine::task::StoreSpec;
use rocksdb::{
    ColumnFamily, ColumnFamilyDescriptor, DB, LogLevel, Options, ReadOptions, ReadTier, WriteBatch, WriteOptions,
    properties,
};

use super::ageing::Ageing;
use super::blocks::{BlockReads, Blocks};
use super::directory::{DatabaseId, is_irreplaceable};
use super::error::from_rocksdb;
use super::positions::{self, FILLED_KEY, IDENTITY_KEY, VERSION, VERSION_KEY};
use super::resources::Resources;

/// Keys looked up in one call of RocksDB, which pins the block of each until it is copied.
const GET_CHUNK: usize = 256;

/// Whose database it is: written at creation and compared at every opening.
pub(super) struct Identity<'a> {
    pub(super) application_id: &'a str,
    pub(super) database: DatabaseId,
}

pub(super) struct Rocks {
    path: PathBuf,
    db: DB,
    /// Column families of the persistent stores, in their order.
    families: Vec<String>,
    /// Of each of them, what its compactions delete.
    ageing: Vec<Option<Ageing>>,
    blocks: BlockReads,
    /// All families that there are, and what the compactions of each delete as long as the database is open.
    all: BTreeMap<String, Option<Ageing>>,
    /// Some store has no changelog.
    unlogged: bool,
    write_options: WriteOptions,
}

/// How large a store is, as far as RocksDB knows without looking at its entries.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Sizes {
    /// An estimate: keys that were written again, or deleted, may count until a compaction.
    pub entries: u64,
    /// On disk.
    pub file_bytes: u64,
    /// Not on disk yet but in the write-ahead log.
    pub memtable_bytes: u64,
}

/// Before the name of a store in that of its family.
const FAMILY: &str = "store/";

fn family(store: &str) -> String {
    format!("{FAMILY}{store}")
}

fn store_of(family: &str) -> &str {
    family.strip_prefix(FAMILY).unwrap_or(family)
}

/// What a family is opened or made with.
fn family_options(resources: &Resources, ageing: Option<&Ageing>) -> Options {
    let mut options = resources.family_options();
    if let Some(ageing) = ageing {
        ageing.delete_in_compactions(&mut options);
    }
    options
}

impl Rocks {
    /// Opens or creates the database at `path` with a family for each of `stores`. Families of
    /// stores that are no longer in the topology stay as they are.
    pub(super) fn open(
        path: &Path,
        identity: &Identity<'_>,
        stores: &[&StoreSpec],
        unlogged: bool,
        resources: &Resources,
    ) -> Result<Self, Error> {
        let options = resources.database_options();
        let listed = if path.join("CURRENT").exists() {
            DB::list_cf(&options, path).map_err(|e| from_rocksdb("list the stores", path, &e))?
        } else {
            Vec::new()
        };
        let mut all: BTreeMap<String, Option<Ageing>> = listed.into_iter().map(|name| (name, None)).collect();
        all.insert(rocksdb::DEFAULT_COLUMN_FAMILY_NAME.to_owned(), None);
        all.extend(stores.iter().map(|store| (family(&store.name), store.expiry.map(Ageing::new))));
        let descriptors = all
            .iter()
            .map(|(name, ageing)| ColumnFamilyDescriptor::new(name, family_options(resources, ageing.as_ref())));
        let db = DB::open_cf_descriptors(&options, path, descriptors)
            .map_err(|e| from_rocksdb("open the task's database", path, &e))?;
        let write_options = resources.write_options(unlogged);
        let (families, ageing) = (Vec::new(), Vec::new());
        let blocks = BlockReads::default();
        let mut rocks = Self { path: path.to_owned(), db, families, ageing, blocks, all, unlogged, write_options };
        rocks.check_identity(identity)?;
        rocks.keep(stores)?;
        Ok(rocks)
    }

    /// Its stores are these from now on, in the open database: see [`Database::set_stores`].
    ///
    /// [`Database::set_stores`]: millrace_engine::ports::Database::set_stores
    pub(super) fn set_stores(&mut self, stores: &[&StoreSpec], resources: &Resources) -> Result<bool, Error> {
        let ages_alike = |store: &&StoreSpec| {
            let known = self.all.get(&family(&store.name));
            known.is_none_or(|ageing| ageing.as_ref().map(Ageing::expiry) == store.expiry)
        };
        // How it is written, and what compactions delete, is decided when it is opened.
        if (stores.iter().any(|store| is_irreplaceable(store)) && !self.unlogged) || !stores.iter().all(ages_alike) {
            return Ok(false);
        }
        for store in stores {
            let name = family(&store.name);
            if !self.all.contains_key(&name) {
                let ageing = store.expiry.map(Ageing::new);
                let options = family_options(resources, ageing.as_ref());
                self.db.create_cf(&name, &options).map_err(|e| self.failed("add a store", &e))?;
                self.all.insert(name, ageing);
            }
        }
        self.keep(stores)?;
        Ok(true)
    }

    /// Takes up stores whose families there are.
    fn keep(&mut self, stores: &[&StoreSpec]) -> Result<(), Error> {
        self.families = stores.iter().map(|store| family(&store.name)).collect();
        self.ageing = self.families.iter().map(|name| self.all.get(name).cloned().flatten()).collect();
        let positions = self.positions()?;
        let others = positions.changelogs.iter().filter(|(name, _)| stores.iter().all(|store| store.name != *name));
        let mut batch = WriteBatch::default();
        others.for_each(|(name, _)| batch.delete(positions::changelog_key(name)));
        if !batch.is_empty() {
            self.commit(batch, "forget how far a store is that has gone")?;
        }
        for (store, ageing) in self.families.iter().zip(&self.ageing) {
            if let (Some(ageing), Some(time)) = (ageing, positions.observed(store_of(store))) {
                ageing.observe(time);
            }
        }
        self.age()
    }

    /// Opens the database at `path` to be read only, as it is now, whether a process has it open or not; what RocksDB
    /// needs beside it goes to `scratch`. Says which stores there are.
    pub(super) fn inspect(path: &Path, scratch: &Path) -> Result<(Self, Vec<String>), Error> {
        let mut options = Options::default();
        // What is read stays open: the process that writes may delete files at any time.
        options.set_max_open_files(-1);
        options.set_log_level(LogLevel::Warn);
        let all = DB::list_cf(&options, path).map_err(|e| from_rocksdb("list the stores", path, &e))?;
        let names: Vec<String> = all.iter().filter_map(|name| name.strip_prefix(FAMILY)).map(str::to_owned).collect();
        let families = names.iter().map(|store| family(store)).collect();
        let descriptors = all.into_iter().map(|name| ColumnFamilyDescriptor::new(name, Options::default()));
        let db = DB::open_cf_descriptors_as_secondary(&options, path, scratch, descriptors)
            .map_err(|e| from_rocksdb("open the task's database for reading", path, &e))?;
        // Nothing is written, and nothing compacted.
        let (ageing, blocks, all) = (Vec::new(), BlockReads::default(), BTreeMap::new());
        let write_options = WriteOptions::default();
        let rocks = Self { path: path.to_owned(), db, families, ageing, blocks, all, unlogged: false, write_options };
        if let Some(version) = rocks.version()? {
            rocks.check_version(version)?;
        }
        Ok((rocks, names))
    }

    /// Deletes the database at `path` and nothing else that may lie beside it.
    pub(super) fn destroy(path: &Path) -> Result<(), Error> {
        DB::destroy(&Options::default(), path).map_err(|e| from_rocksdb("delete the task's database", path, &e))
    }

    fn check_identity(&self, identity: &Identity<'_>) -> Result<(), Error> {
        let ours = format!("{}/{}", identity.application_id, identity.database);
        let read = |key| self.db.get(key).map_err(|e| self.failed("read the format", &e));
        let Some(version) = self.version()? else { return self.stamp(&ours) };
        self.check_version(version)?;
        let stored = read(IDENTITY_KEY)?.unwrap_or_default();
        if stored != ours.as_bytes() {
            return Err(Error::Fatal(format!(
                "open {}: it belongs to {}, not to {ours}; give the application its own state.dir, or move the \
                 directory away if it was copied here",
                self.path.display(),
                String::from_utf8_lossy(&stored)
            )));
        }
        Ok(())
    }

    /// `None`: it is a new one.
    fn version(&self) -> Result<Option<u32>, Error> {
        let stored = self.db.get(VERSION_KEY).map_err(|e| self.failed("read the format", &e))?;
        let number = |version: Vec<u8>| {
            let bytes = <[u8; 4]>::try_from(version.as_slice());
            bytes.map(u32::from_be_bytes).map_err(|_| self.corrupt("the format version is not a number"))
        };
        stored.map(number).transpose()
    }

    fn check_version(&self, version: u32) -> Result<(), Error> {
        if version <= VERSION {
            return Ok(());
        }
        Err(Error::Fatal(format!(
            "open {}: its format is {version}, this millrace knows formats up to {VERSION}; run the newer \
             millrace that wrote it, or move the directory away to restore from the changelogs",
            self.path.display()
        )))
    }

    /// Marks a new database; on disk before anything else is, so that positions never stand
    /// without the format they are written in.
    fn stamp(&self, identity: &str) -> Result<(), Error> {
        if self.positions()? != Positions::default() {
            return Err(self.corrupt("it has positions but no format version"));
        }
        let mut batch = WriteBatch::default();
        batch.put(VERSION_KEY, VERSION.to_be_bytes());
        batch.put(IDENTITY_KEY, identity);
        self.db.write_opt(batch, &self.write_options).map_err(|e| self.failed("write the format", &e))?;
        self.db.flush().map_err(|e| self.failed("write the format", &e))
    }

    /// Whether it was filled from there; a new one will have been.
    pub(super) fn is_filled_from(&self, sources: &str) -> Result<bool, Error> {
        let stored = self.db.get(FILLED_KEY).map_err(|e| self.failed("read what fills the stores", &e))?;
        match stored {
            Some(stored) => Ok(stored == sources.as_bytes()),
            None => {
                let mut batch = WriteBatch::default();
                batch.put(FILLED_KEY, sources);
                self.commit(batch, "write what fills the stores").map(|()| true)
            }
        }
    }

    fn failed(&self, action: &str, error: &rocksdb::Error) -> Error {
        from_rocksdb(action, &self.path, error)
    }

    fn corrupt(&self, why: &str) -> Error {
        Error::Corrupt(format!("read {}: {why}", self.path.display()))
    }

    fn family(&self, store: StoreIndex) -> &ColumnFamily {
        self.db.cf_handle(&self.families[store]).expect("every family of `families` was opened with the database")
    }

    pub(super) fn get(
        &self,
        store: StoreIndex,
        keys: &[&[u8]],
        found: &mut dyn FnMut(usize, &[u8]),
    ) -> Result<(), Error> {
        let family = self.family(store);
        self.blocks.during(|| {
            for (chunk_index, chunk) in keys.chunks(GET_CHUNK).enumerate() {
                let values = self.db.batched_multi_get_cf(family, chunk.iter().copied(), true);
                for (index, value) in values.into_iter().enumerate() {
                    if let Some(value) = value.map_err(|e| self.failed("read a store", &e))? {
                        found(chunk_index * GET_CHUNK + index, &value);
                    }
                }
            }
            Ok(())
        })
    }

    pub(super) fn scan(
        &self,
        store: StoreIndex,
        (from, to): (Option<&[u8]>, Option<&[u8]>),
        reverse: bool,
        visit: &mut dyn FnMut(&[u8], &[u8]) -> bool,
    ) -> Result<(), Error> {
        if let (Some(from), Some(to)) = (from, to)
            && from >= to
        {
            return Ok(());
        }
        let mut options = ReadOptions::default();
        if let Some(from) = from {
            options.set_iterate_lower_bound(from);
        }
        if let Some(to) = to {
            options.set_iterate_upper_bound(to);
        }
        self.blocks.during(|| {
            let mut rows = self.db.raw_iterator_cf_opt(self.family(store), options);
            if reverse {
                rows.seek_to_last()
            } else {
                rows.seek_to_first()
            }
            while let Some((key, value)) = rows.item() {
                if !visit(key, value) {
                    return Ok(());
                }
                if reverse { rows.prev() } else { rows.next() }
            }
            rows.status().map_err(|e| self.failed("scan a store", &e))
        })
    }

    /// Several ranges by one iterator: to make one takes longer than to find a place with it.
    pub(super) fn scan_each(
        &self,
        store: StoreIndex,
        ranges: &[(&[u8], &[u8])],
        visit: &mut dyn FnMut(usize, Option<Row<'_>>) -> bool,
    ) -> Result<(), Error> {
        self.blocks.during(|| {
            let mut rows = self.db.raw_iterator_cf(self.family(store));
            for (index, &(from, to)) in ranges.iter().enumerate() {
                rows.seek(from);
                while let Some((key, value)) = rows.item().filter(|(key, _)| *key < to)
                    && visit(index, Some((key, value)))
                {
                    rows.next();
                }
                rows.status().map_err(|e| self.failed("scan a store", &e))?;
                if !visit(index, None) {
                    break;
                }
            }
            Ok(())
        })
    }

    pub(super) fn blocks(&self) -> Blocks {
        self.blocks.so_far()
    }

    pub(super) fn sizes(&self, store: StoreIndex) -> Result<Sizes, Error> {
        let ask = |property| {
            let value = self.db.property_int_value_cf(self.family(store), property);
            value.map(Option::unwrap_or_default).map_err(|e| self.failed("ask for the size of a store", &e))
        };
        Ok(Sizes {
            entries: ask(properties::ESTIMATE_NUM_KEYS)?,
            file_bytes: ask(properties::TOTAL_SST_FILES_SIZE)?,
            memtable_bytes: ask(properties::SIZE_ALL_MEM_TABLES)?,
        })
    }

    /// One atomic write of entries and positions.
    pub(super) fn write(&self, mut write: Write<'_>) -> Result<(), Error> {
        let families: Vec<&ColumnFamily> = (0..self.families.len()).map(|store| self.family(store)).collect();
        let mut batch = WriteBatch::default();
        for &(store, key, value) in &write.entries {
            match value {
                Some(value) => batch.put_cf(families[store], key, value),
                None => batch.delete_cf(families[store], key),
            }
        }
        for (store, time) in &mut write.positions.observed {
            let known = self.families.iter().position(|family| store_of(family) == store);
            if let Some(ageing) = known.and_then(|store| self.ageing[store].as_ref()) {
                *time = ageing.observe(*time);
            }
        }
        for (key, value) in positions::encode(&write.positions) {
            batch.put(key, value);
        }
        self.commit(batch, "write a commit")?;
        if write.positions.observed.is_empty() { Ok(()) } else { self.age() }
    }

    /// The latest time that a store whose entries age has observed.
    pub(super) fn observed(&self, store: StoreIndex) -> Option<i64> {
        self.ageing[store].as_ref()?.observed()
    }

    /// Has compactions delete what is gone by age: as of what is on disk, where the write-ahead log is off. A crash
    /// takes the stores back there, and then what was not gone by then has to be there.
    fn age(&self) -> Result<(), Error> {
        let mut options = ReadOptions::default();
        options.set_read_tier(ReadTier::Persisted);
        for (family, ageing) in self.families.iter().zip(&self.ageing) {
            let Some(ageing) = ageing else { continue };
            let key = positions::observed_key(store_of(family));
            let observed = self.db.get_opt(key, &options).map_err(|e| self.failed("read the positions", &e))?;
            if let Some(observed) = observed.and_then(|bytes| <[u8; 8]>::try_from(bytes).ok()) {
                ageing.delete_as_of(i64::from_be_bytes(observed));
            }
        }
        Ok(())
    }

    #[cfg(test)]
    pub(super) fn compact(&self) {
        for store in 0..self.families.len() {
            self.db.compact_range_cf(self.family(store), None::<&[u8]>, None::<&[u8]>);
        }
    }

    fn commit(&self, batch: WriteBatch, action: &str) -> Result<(), Error> {
        self.db.write_opt(batch, &self.write_options).map_err(|e| self.failed(action, &e))
    }

    pub(super) fn positions(&self) -> Result<Positions, Error> {
        let mut positions = Positions::default();
        let mut rows = self.db.raw_iterator();
        rows.seek_to_first();
        while let Some((key, value)) = rows.item() {
            if !positions::decode(&mut positions, key, value) {
                return Err(self.corrupt("an entry of the positions is in no format this millrace knows"));
            }
            rows.next();
        }
        rows.status().map_err(|e| self.failed("read the positions", &e))?;
        Ok(positions)
    }

    /// Empties a store and forgets its position, in one atomic write.
    pub(super) fn clear(&self, store: StoreIndex, name: &str) -> Result<(), Error> {
        let family = self.family(store);
        let mut batch = WriteBatch::default();
        let mut rows = self.db.raw_iterator_cf(family);
        rows.seek_to_last();
        if let Some(last) = rows.key() {
            // The end of a range is not in it, and there is no key after all others to name.
            batch.delete_range_cf(family, b"".as_slice(), last);
            batch.delete_cf(family, last);
        }
        rows.status().map_err(|e| self.failed("clear a store", &e))?;
        batch.delete(positions::changelog_key(name));
        batch.delete(positions::observed_key(name));
        self.commit(batch, "clear a store")
    }

    pub(super) fn forget_inputs(&self) -> Result<(), Error> {
        let mut batch = WriteBatch::default();
        let (first, end) = positions::INPUT_KEYS;
        batch.delete_range(first, end);
        self.commit(batch, "forget the input positions")
    }
}
