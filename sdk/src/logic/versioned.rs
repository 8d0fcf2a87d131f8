//! Owns the way of updates into a versioned store: every one of them is put, and goes on with whether it came late. Must not
//! know where they come from.

use std::collections::HashMap;
use std::rc::Rc;

use super::keyed::TableStore;
use crate::contract::{Cursor, Failure, Fault, empty_entries, index, push};
use crate::host::{LATEST, NOT_PUT};
use crate::rows::{Col, Cut, Data, Updates};
use crate::run::Run;

/// Puts the new values of updates into a store. What comes of it are those that its history goes back to; with the latest
/// values before them as old ones, if that is wanted.
pub(super) fn put_versions<K: Data, V: Data>(
    store: &TableStore<K, V>,
    updates: Updates<K, V>,
    wants_old: bool,
    run: &mut Run<'_>,
) -> Result<Updates<K, V>, Failure> {
    let mut entries = empty_entries();
    let writer = updates.keys.writer(&store.keys);
    for row in 0..updates.len() {
        let value = updates.new.get(row).map(|value| |out: &mut Vec<u8>| store.values.serialize(value, out));
        writer
            .write(row, &mut entries.keys)
            .and_then(|()| push(&mut entries.values, value))
            .map_err(|error| run.failure(Fault::Serialization, &updates.meta, row, error))?;
    }
    entries.timestamps.clone_from(&updates.meta.timestamps);
    let handle = run.host.open(&store.name)?;
    let stored = if wants_old { Some(run.host.get(handle, &entries.keys)?.values) } else { None };
    let valid_to = run.host.put_versions(handle, &entries)?;
    let mut old = updates.old.clone();
    if let Some(stored) = stored {
        let mut before = Vec::with_capacity(valid_to.len());
        // Of each key, the row of this batch that made its latest version.
        let mut latest: HashMap<&[u8], usize> = HashMap::new();
        let (mut next_key, mut next_value) = (Cursor::default(), Cursor::default());
        for (row, &valid_to) in valid_to.iter().enumerate() {
            let key = next_key.next(&entries.keys).unwrap_or_default();
            let value = next_value.next(&stored);
            before.push(match latest.get(key) {
                Some(&earlier) => updates.new.get(earlier).cloned(),
                None => value.map(|bytes| store.values.deserialize(bytes)).transpose().map_err(|error| {
                    let message = format!("store {} has a value that can't be read: {error}", store.name);
                    run.failure(Fault::Processing, &updates.meta, row, message)
                })?,
            });
            if valid_to == LATEST {
                latest.insert(key, row);
            }
        }
        old = Some(Col::new(before));
    }
    let late = valid_to.iter().any(|&valid_to| valid_to != LATEST);
    let late = late.then(|| Rc::new(valid_to.iter().map(|&valid_to| valid_to != LATEST).collect()));
    let put = Updates { old, late, ..updates };
    let kept: Vec<u32> = (0..valid_to.len()).filter(|&row| valid_to[row] != NOT_PUT).map(index).collect();
    if kept.len() == valid_to.len() {
        return Ok(put);
    }
    run.dropped("older than the store's history", valid_to.len() - kept.len());
    Ok(put.cut(&Rc::new(kept)))
}

/// Handles rows one after the other, where what one of them makes depends on whether the one before it came late.
pub(super) fn one_by_one<R: Cut>(rows: &R, mut handle: impl FnMut(&R) -> Result<(), Failure>) -> Result<(), Failure> {
    if rows.len() == 1 {
        return handle(rows);
    }
    (0..rows.len()).try_for_each(|row| handle(&rows.cut(&Rc::new(vec![index(row)]))))
}
