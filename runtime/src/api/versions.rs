//! Owns the look into the past of a versioned store, as committed. Must not know who asks.

use millrace_engine::ports::Error;
use millrace_engine::record::TaskId;
use millrace_engine::topology::Layout;
use millrace_engine::versions::{self, LATEST};

use super::catalog::Stores;
use super::stores::{Entry, entry};
use crate::format::Format;

/// The version of a key that was valid at a time.
pub(super) fn version_as_of(
    stores: &dyn Stores,
    task: TaskId,
    store: &str,
    layout: &Layout,
    formats: (Format, Format),
    key: &[u8],
    time: i64,
) -> Result<Option<Entry>, Error> {
    let latest = versions::row_key(key, LATEST);
    let found = stores.get(task, store, &latest)?;
    if let Some(stored) = found
        && versions::read(&latest, &stored).is_some_and(|(_, version)| version.valid_from <= time)
    {
        return Ok(entry(layout, formats, &latest, &stored));
    }
    let retention_ms = layout.expiry().map_or(0, |expiry| expiry.retention_ms);
    let begin = stores.observed(task, store)?.map(|observed| observed.saturating_sub(retention_ms));
    if begin.is_some_and(|begin| time < begin) {
        return Ok(None);
    }
    let (from, to) = (versions::row_key(key, i64::MIN), versions::row_key(key, time.saturating_add(1)));
    let mut found = None;
    stores.scan(task, store, (Some(&from), Some(&to)), true, &mut |row, stored| {
        if row.len() != from.len() {
            return true;
        }
        let valid = versions::read(row, stored).is_some_and(|(_, version)| time < version.valid_to);
        found = if valid { entry(layout, formats, row, stored) } else { None };
        false
    })?;
    Ok(found)
}
