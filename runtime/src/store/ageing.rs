//! Owns the deletion of entries that are gone by age: RocksDB's compactions leave them out. Must not know what a
//! store has observed beyond what it is told.

use std::ffi::CStr;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use millrace_engine::expiry::Expiry;
use rocksdb::Options;
use rocksdb::compaction_filter::{CompactionFilter, Decision};
use rocksdb::compaction_filter_factory::{CompactionFilterContext, CompactionFilterFactory};

/// Stands for nothing observed: nothing is gone by then.
const NOTHING: i64 = i64::MIN;

/// The age of one store's entries.
#[derive(Clone)]
pub(super) struct Ageing {
    expiry: Expiry,
    /// What the database says.
    observed: Arc<AtomicI64>,
    /// What compactions go by.
    deleted: Arc<AtomicI64>,
}

impl Ageing {
    pub(super) fn new(expiry: Expiry) -> Self {
        let nothing = || Arc::new(AtomicI64::new(NOTHING));
        Self { expiry, observed: nothing(), deleted: nothing() }
    }

    pub(super) fn expiry(&self) -> Expiry {
        self.expiry
    }

    /// The store has observed a time; the latest it has is the answer.
    pub(super) fn observe(&self, time: i64) -> i64 {
        self.observed.fetch_max(time, Ordering::Relaxed).max(time)
    }

    /// The latest time that the store has observed.
    pub(super) fn observed(&self) -> Option<i64> {
        Some(self.observed.load(Ordering::Relaxed)).filter(|&time| time != NOTHING)
    }

    /// What is gone when the store has observed this time may be deleted.
    pub(super) fn delete_as_of(&self, time: i64) {
        self.deleted.fetch_max(time, Ordering::Relaxed);
    }

    pub(super) fn delete_in_compactions(&self, options: &mut Options) {
        options.set_compaction_filter_factory(self.clone());
    }
}

/// One compaction.
pub(super) struct Compaction {
    expiry: Expiry,
    observed: Option<i64>,
}

const NAME: &CStr = c"millrace.ageing";

impl CompactionFilterFactory for Ageing {
    type Filter = Compaction;

    fn create(&mut self, _context: CompactionFilterContext) -> Compaction {
        let observed = Some(self.deleted.load(Ordering::Relaxed)).filter(|&time| time != NOTHING);
        Compaction { expiry: self.expiry, observed }
    }

    fn name(&self) -> &CStr {
        NAME
    }
}

impl CompactionFilter for Compaction {
    fn filter(&mut self, _level: u32, key: &[u8], stored: &[u8]) -> Decision {
        if self.expiry.is_over(key, stored, self.observed) { Decision::Remove } else { Decision::Keep }
    }

    fn name(&self) -> &CStr {
        NAME
    }
}
