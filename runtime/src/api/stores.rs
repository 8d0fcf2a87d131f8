//! `/v1/stores`: interactive queries, of committed state only. A question about what another instance has is passed on
//! to that one.

use axum::Json;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Path, Query, State};
use axum::http::{HeaderMap, Uri};
use axum::response::{IntoResponse, Response};
use millrace_engine::overlay;
use millrace_engine::record::TaskId;
use millrace_engine::topology::Layout;
use millrace_engine::versions::{self, LATEST};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::{IntoParams, ToSchema};

use super::Served;
use super::catalog::{Catalog, Known, Stores};
use super::refusal::Refusal;
use super::routing::Place;
use super::versions::version_as_of;
use crate::format::{Format, after_prefix, hex, show_key, unhex};

/// Where a global store is: filled, on every instance.
const GLOBAL: &str = "GLOBAL";
const PAGE_ENTRIES: usize = 100;
const PAGE_ENTRIES_MAX: usize = 1000;
/// Keys and values of one page, but for the last entry.
const PAGE_BYTES_MAX: usize = 1 << 20;
/// Entries looked at for one page, for the sake of those who wait for the task meanwhile.
const VISITS_MAX: usize = 20_000;

#[derive(Serialize, ToSchema)]
pub(super) struct StoreOverview {
    name: String,
    subtopology: u32,
    partitions: u32,
    /// `key-value`, `window`, `session` or `versioned`.
    layout: &'static str,
    /// What its keys and values are, in the module's words.
    key_format: String,
    value_format: String,
    /// On disk, not only in memory.
    persistent: bool,
    /// It has a changelog.
    logged: bool,
    /// Its updates are forwarded at commits, the last one of each key.
    cached: bool,
    /// Every instance has all of it.
    global: bool,
    /// What this instance has of it.
    tasks: Vec<StoreOfTask>,
}

#[derive(Serialize, ToSchema)]
struct StoreOfTask {
    task: String,
    state: &'static str,
    /// An estimate; null for a store in memory.
    entries: Option<u64>,
    /// On disk.
    file_bytes: Option<u64>,
    /// Not in files yet.
    memtable_bytes: Option<u64>,
}

/// All stores, and what this instance has of them.
#[utoipa::path(get, path = "/v1/stores", responses(
    (status = 200, description = "The stores", body = Vec<StoreOverview>),
    (status = 503, description = "Not yet: the instance is starting", body = Refusal),
))]
pub(super) async fn list(State(served): State<Served>) -> Result<Json<Vec<StoreOverview>>, Refusal> {
    let catalog = served.catalog()?;
    let here = served.status.tasks();
    let overview = |known: Known<'_>| StoreOverview {
        name: known.store.name.clone(),
        subtopology: known.subtopology,
        partitions: known.partitions,
        layout: layout(&known.store.layout),
        key_format: known.store.format.key.clone(),
        value_format: known.store.format.value.clone(),
        persistent: known.store.persistent,
        logged: known.store.logged,
        cached: known.store.cached,
        global: known.global,
        tasks: if known.global {
            vec![of_task(&catalog, &known, known.task(0), GLOBAL)]
        } else {
            let own = here.iter().filter(|(id, ..)| id.subtopology == known.subtopology);
            own.map(|(id, stage, _)| of_task(&catalog, &known, *id, stage.name())).collect()
        },
    };
    Ok(Json(catalog.all().map(overview).collect()))
}

fn of_task(catalog: &Catalog, known: &Known<'_>, id: TaskId, state: &'static str) -> StoreOfTask {
    let sizes = catalog.stores.sizes(id, &known.store.name);
    StoreOfTask {
        task: known.name(id),
        state,
        entries: sizes.map(|sizes| sizes.entries),
        file_bytes: sizes.map(|sizes| sizes.file_bytes),
        memtable_bytes: sizes.map(|sizes| sizes.memtable_bytes),
    }
}

pub(super) fn layout(layout: &Layout) -> &'static str {
    match layout {
        Layout::KeyValue => "key-value",
        Layout::Window(_) => "window",
        Layout::Session(_) => "session",
        Layout::Versioned(_) => "versioned",
    }
}

#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct OfKey {
    /// Where the key is, if not where Kafka's default partitioner puts it.
    partition: Option<u32>,
    /// Whether a standby may answer, or a task that is being restored. It may lack the latest commits.
    #[serde(default)]
    stale: bool,
    /// Of a versioned store: what the key had at this time, in milliseconds since the epoch, instead of what it has.
    as_of: Option<i64>,
}

#[derive(Serialize, ToSchema)]
pub(super) struct Entry {
    /// By the store's format: text, a number, JSON, or bytes as `0x…`. Of a window or a session an object of `key`,
    /// `start` and `end`.
    key: Value,
    value: Value,
    /// That of the record it stems from. A version is valid from then on.
    timestamp_ms: i64,
    /// Of a versioned store: until when the version was valid. Without it, it still is.
    #[serde(skip_serializing_if = "Option::is_none")]
    valid_to_ms: Option<i64>,
}

#[derive(Serialize, ToSchema)]
pub(super) struct Found {
    store: String,
    task: String,
    /// The task does not run here: the latest commits may be missing.
    stale: bool,
    #[serde(flatten)]
    entry: Entry,
}

/// The value of a key, as of the last commit.
#[utoipa::path(get, path = "/v1/stores/{store}/keys/{key}",
    params(("store" = String, Path), ("key" = String, Path, description = "As the store's format has it"), OfKey),
    responses(
        (status = 200, description = "The entry", body = Found),
        (status = 400, description = "The key or a parameter makes no sense", body = Refusal),
        (status = 404, description = "There is no such store, partition or key", body = Refusal),
        (status = 421, description = "Another instance has it, and can't be reached from here", body = Refusal),
        (status = 503, description = "Nobody has it at the moment", body = Refusal),
    )
)]
pub(super) async fn get(
    State(served): State<Served>,
    Path((store, key)): Path<(String, String)>,
    query: Result<Query<OfKey>, QueryRejection>,
    uri: Uri,
    headers: HeaderMap,
) -> Result<Response, Refusal> {
    let Query(OfKey { partition, stale, as_of }) = query?;
    let catalog = served.catalog()?;
    let known = known(&catalog, &store)?;
    if matches!(known.store.layout, Layout::Window(_) | Layout::Session(_)) {
        return Err(Refusal::wrong(format!(
            "a key of store {store} has an entry for each window: ask /v1/stores/{store}/entries?key={key}"
        )));
    }
    let versioned = matches!(known.store.layout, Layout::Versioned(_));
    if as_of.is_some() && !versioned {
        return Err(Refusal::wrong(format!("store {store} keeps no versions: ask without as_of")));
    }
    let bytes = known.key.read(&key).map_err(Refusal::wrong)?;
    let task = match partition {
        Some(partition) => checked(&known, partition)?,
        None => known.task_of(&bytes),
    };
    let stale = match served.place_of(&known, task, stale)? {
        Place::Here { stale } => stale,
        Place::Elsewhere => return served.pass_on(task, &uri, &headers).await,
    };
    let (formats, name) = ((known.key, known.value), store.clone());
    let asked = bytes.clone();
    let layout = known.store.layout.clone();
    let found = served.read(move |stores| {
        if versioned {
            return version_as_of(stores, task, &name, &layout, formats, &asked, as_of.unwrap_or(LATEST));
        }
        let found = stores.get(task, &name, &asked)?;
        Ok(found.and_then(|found| entry(&Layout::KeyValue, formats, &asked, &found)))
    });
    let Some(entry) = found.await? else {
        let task = known.name(task);
        let then = as_of.map_or_else(String::new, |time| format!(" as of {time}"));
        return Err(Refusal::absent(format!("there is no key {key} in task {task} of store {store}{then}")));
    };
    Ok(Json(Found { store, task: known.name(task), stale, entry }).into_response())
}

#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct OfRange {
    /// Only entries of this key: those of its windows or sessions, or its versions.
    key: Option<String>,
    /// Keys that begin so; of strings and bytes.
    prefix: Option<String>,
    /// The first key, in the order of the bytes.
    from: Option<String>,
    /// The first key after the range.
    to: Option<String>,
    /// Only this partition. Without it the pages go through all of them, one after the other.
    partition: Option<u32>,
    /// Of a versioned store: only versions that were valid at this time or later, in milliseconds since the epoch.
    valid_from: Option<i64>,
    /// Of a versioned store: only versions that were valid at this time or earlier.
    valid_to: Option<i64>,
    #[serde(default)]
    reverse: bool,
    /// Most entries of the page, at most 1000; else 100.
    #[param(minimum = 1, maximum = 1000)]
    limit: Option<usize>,
    /// `next` of the page before.
    #[param(pattern = r"^[0-9]+\.(0x([0-9a-f]{2})*)?$")]
    after: Option<String>,
    /// Whether a standby may answer, or a task that is being restored. It may lack the latest commits.
    #[serde(default)]
    stale: bool,
}

#[derive(Serialize, ToSchema)]
pub(super) struct Page {
    store: String,
    task: String,
    /// The task does not run here: the latest commits may be missing.
    stale: bool,
    /// May be empty although there are more pages.
    entries: Vec<Entry>,
    /// To be passed as `after` for the next page; null: there is none.
    next: Option<String>,
}

/// A page of entries of one partition, in the order of the keys, as of the last commit before it was asked for.
#[utoipa::path(get, path = "/v1/stores/{store}/entries", params(("store" = String, Path), OfRange), responses(
    (status = 200, description = "A page", body = Page),
    (status = 400, description = "A parameter makes no sense", body = Refusal),
    (status = 404, description = "There is no such store, or no such partition", body = Refusal),
    (status = 421, description = "Another instance has it, and can't be reached from here", body = Refusal),
    (status = 503, description = "Nobody has it at the moment", body = Refusal),
))]
pub(super) async fn scan(
    State(served): State<Served>,
    Path(store): Path<String>,
    query: Result<Query<OfRange>, QueryRejection>,
    uri: Uri,
    headers: HeaderMap,
) -> Result<Response, Refusal> {
    let Query(query) = query?;
    let catalog = served.catalog()?;
    let known = known(&catalog, &store)?;
    let plan = Scan::of(&known, &query)?;
    let task = plan.task;
    let stale = match served.place_of(&known, task, query.stale)? {
        Place::Here { stale } => stale,
        Place::Elsewhere => return served.pass_on(task, &uri, &headers).await,
    };
    let formats = (known.key, known.value);
    let (layout, partitions) = (known.store.layout.clone(), known.partitions);
    let name = store.clone();
    let (entries, next) = served.read(move |stores| plan.run(stores, &name, &layout, formats)).await?;
    let further = task.partition + 1;
    let all = query.partition.is_none() && query.key.is_none();
    let next = next.or_else(|| (all && further < partitions).then_some(Cursor { partition: further, key: None }));
    let next = next.map(|cursor| cursor.to_string());
    Ok(Json(Page { store, task: known.name(task), stale, entries, next }).into_response())
}

fn known<'a>(catalog: &'a Catalog, store: &str) -> Result<Known<'a>, Refusal> {
    catalog.store(store).ok_or_else(|| {
        let names: Vec<&str> = catalog.all().map(|known| known.store.name.as_str()).collect();
        Refusal::absent(format!("there is no store {store}; the topology has: {}", names.join(", ")))
    })
}

fn checked(known: &Known<'_>, partition: u32) -> Result<TaskId, Refusal> {
    if partition < known.partitions {
        return Ok(known.task(partition));
    }
    Err(Refusal::wrong(format!(
        "store {} has partitions 0 to {}",
        known.store.name,
        known.partitions.saturating_sub(1)
    )))
}

/// `None`: what is there is a deletion.
pub(super) fn entry(
    layout: &Layout,
    (key_format, value_format): (Format, Format),
    key: &[u8],
    stored: &[u8],
) -> Option<Entry> {
    if let (Layout::Versioned(_), Some((key, version))) = (layout, versions::read(key, stored)) {
        let valid_to_ms = Some(version.valid_to).filter(|&time| time != LATEST);
        let (key, value) = (key_format.show(key), value_format.show(version.value?));
        return Some(Entry { key, value, timestamp_ms: version.valid_from, valid_to_ms });
    }
    let (timestamp_ms, value) = overlay::parse(stored).unwrap_or((0, stored));
    let (key, value) = (show_key(layout, key_format, key), value_format.show(value));
    Some(Entry { key, value, timestamp_ms, valid_to_ms: None })
}

/// Where the next page begins: after a key of a partition, or with its first one.
struct Cursor {
    partition: u32,
    key: Option<Vec<u8>>,
}

impl Cursor {
    fn read(text: &str) -> Option<Self> {
        let (partition, key) = text.split_once('.')?;
        let key = if key.is_empty() { None } else { Some(unhex(key)?) };
        Some(Self { partition: partition.parse().ok()?, key })
    }
}

impl std::fmt::Display for Cursor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}.{}", self.partition, self.key.as_deref().map(hex).unwrap_or_default())
    }
}

/// What one page is to have.
struct Scan {
    task: TaskId,
    from: Option<Vec<u8>>,
    to: Option<Vec<u8>>,
    /// Of windowed and versioned stores: only entries of this key.
    key: Option<Vec<u8>>,
    /// Only versions that were valid at some time of this range, its ends included.
    valid: (i64, i64),
    reverse: bool,
    limit: usize,
}

impl Scan {
    fn of(known: &Known<'_>, query: &OfRange) -> Result<Self, Refusal> {
        let read = |text: &Option<String>| text.as_deref().map(|text| known.key.read(text)).transpose();
        let key = read(&query.key).map_err(Refusal::wrong)?;
        let prefix = read(&query.prefix).map_err(Refusal::wrong)?.or_else(|| key.clone());
        let (mut from, mut to) = (read(&query.from).map_err(Refusal::wrong)?, read(&query.to).map_err(Refusal::wrong)?);
        if let Some(prefix) = prefix {
            // The narrower of both.
            to = [to, after_prefix(&prefix)].into_iter().flatten().min();
            from = from.max(Some(prefix));
        }
        let limit = query.limit.unwrap_or(PAGE_ENTRIES);
        if !(1..=PAGE_ENTRIES_MAX).contains(&limit) {
            return Err(Refusal::wrong(format!("limit must be from 1 to {PAGE_ENTRIES_MAX}")));
        }
        if (query.valid_from.or(query.valid_to)).is_some() && !matches!(known.store.layout, Layout::Versioned(_)) {
            let store = &known.store.name;
            return Err(Refusal::wrong(format!(
                "store {store} keeps no versions: ask without valid_from and valid_to"
            )));
        }
        let valid = (query.valid_from.unwrap_or(i64::MIN), query.valid_to.unwrap_or(i64::MAX));
        let mut scan = Self { task: known.task(0), from, to, key, valid, reverse: query.reverse, limit };
        if let Some(key) = &scan.key {
            scan.task = known.task_of(key);
        }
        if let Some(partition) = query.partition {
            scan.task = checked(known, partition)?;
        }
        if let Some(after) = &query.after {
            let wrong = || Refusal::wrong("after must be what `next` of the page before was");
            let cursor = Cursor::read(after).ok_or_else(wrong)?;
            scan.task = checked(known, cursor.partition)?;
            scan.skip(cursor.key);
        }
        Ok(scan)
    }

    /// Begins after this key.
    fn skip(&mut self, key: Option<Vec<u8>>) {
        let Some(mut key) = key else { return };
        if self.reverse {
            self.to = Some(key);
        } else {
            key.push(0);
            self.from = Some(key);
        }
    }

    /// Whether a version was valid when that is asked for.
    fn is_valid(&self, layout: &Layout, key: &[u8], stored: &[u8]) -> bool {
        let (from, to) = self.valid;
        let version = Some(layout).filter(|layout| matches!(layout, Layout::Versioned(_)));
        version.and_then(|_| versions::read(key, stored)).is_none_or(|(_, version)| {
            version.valid_from <= to && (from < version.valid_to || version.valid_to == LATEST)
        })
    }

    fn run(
        &self,
        stores: &dyn Stores,
        store: &str,
        layout: &Layout,
        formats: (Format, Format),
    ) -> Result<(Vec<Entry>, Option<Cursor>), millrace_engine::ports::Error> {
        let (mut entries, mut bytes, mut visits) = (Vec::new(), 0, 0);
        let mut last = None;
        let expiry = layout.expiry();
        let observed = expiry.map(|_| stores.observed(self.task, store)).transpose()?.flatten();
        let is_over = |key: &[u8], stored: &[u8]| expiry.is_some_and(|expiry| expiry.is_over(key, stored, observed));
        stores.scan(
            self.task,
            store,
            (self.from.as_deref(), self.to.as_deref()),
            self.reverse,
            &mut |key, value| {
                // There is one more: the page ends before it.
                if entries.len() == self.limit || bytes >= PAGE_BYTES_MAX || visits == VISITS_MAX {
                    return false;
                }
                visits += 1;
                let wanted = self.key.as_deref().is_none_or(|wanted| is_of(layout, key, wanted))
                    && !is_over(key, value)
                    && self.is_valid(layout, key, value);
                if let Some(entry) = Some(()).filter(|()| wanted).and_then(|()| entry(layout, formats, key, value)) {
                    bytes += key.len() + value.len();
                    entries.push(entry);
                }
                last = Some(key.to_vec());
                true
            },
        )?;
        let full = entries.len() == self.limit || bytes >= PAGE_BYTES_MAX || visits == VISITS_MAX;
        let next = last.filter(|_| full).map(|key| Cursor { partition: self.task.partition, key: Some(key) });
        Ok((entries, next))
    }
}

/// Whether an entry is one of a key, and not of one that only begins the same.
fn is_of(layout: &Layout, key: &[u8], wanted: &[u8]) -> bool {
    let suffix = match layout {
        Layout::KeyValue => 0,
        Layout::Versioned(_) => versions::TIME_BYTES,
        Layout::Window(_) => 12,
        Layout::Session(_) => 16,
    };
    key.len() == wanted.len() + suffix && key.starts_with(wanted)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cursor_is_read_as_it_was_written() {
        for cursor in ["3.", "0.0x00ff"] {
            assert_eq!(Cursor::read(cursor).map(|cursor| cursor.to_string()).as_deref(), Some(cursor));
        }
        for wrong in ["", "3", "x.", "0.ff", "-1."] {
            assert!(Cursor::read(wrong).is_none(), "{wrong}");
        }
    }
}
