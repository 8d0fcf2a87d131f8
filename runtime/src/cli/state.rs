//! `millrace state`: looks into a state directory, while the application runs or not. Must not know how the stores came
//! to be what they are.

use std::collections::BTreeMap;
use std::io::{BufWriter, ErrorKind, Write as _};

use anyhow::{Context, bail};
use millrace_engine::overlay;
use millrace_engine::ports::Positions;
use millrace_engine::record::Offset;
use millrace_engine::topology::{Layout, Store};
use millrace_engine::versions;
use serde_json::{Value, json};

use super::progress::{bar, bar_beside_output};
use super::table::{known, size, table};
use super::{ConfigArgs, LogArgs, print};
use crate::app::Application;
use crate::config::Config;
use crate::format::{Format, after_prefix, show_key};
use crate::store::{DatabaseId, Inspection, Snapshot};

#[derive(Debug, clap::Subcommand)]
pub(super) enum StateCommand {
    /// List the stores of every task: entries (an estimate), size, how far in the changelog
    Ls {
        #[command(flatten)]
        common: Common,
    },
    /// Print the value of a key
    Get {
        #[command(flatten)]
        common: Common,
        store: String,
        /// As the store's format has it: text, a number, JSON, or bytes as 0x00ff
        key: String,
    },
    /// Print entries in the order of their keys, task by task
    Scan {
        #[command(flatten)]
        common: Common,
        store: String,
        #[command(flatten)]
        range: Range,
    },
    /// Compare the stores with their changelogs; exit code 1 if they differ
    Verify(super::verify::VerifyArgs),
    /// Print all entries of all stores, or of one, as JSON, one entry a line
    Dump {
        #[command(flatten)]
        config: ConfigArgs,
        store: Option<String>,
    },
}

#[derive(Debug, clap::Args)]
pub(super) struct Common {
    #[command(flatten)]
    config: ConfigArgs,
    /// Print JSON, for machines
    #[arg(long)]
    json: bool,
}

#[derive(Debug, clap::Args)]
pub(super) struct Range {
    /// Keys that begin so
    #[arg(long, conflicts_with_all = ["from", "to"])]
    prefix: Option<String>,
    /// The first key
    #[arg(long)]
    from: Option<String>,
    /// The first key after the range
    #[arg(long)]
    to: Option<String>,
    /// From the last key to the first
    #[arg(long)]
    reverse: bool,
    /// Only this task, as 0_1, or `global`
    #[arg(long)]
    task: Option<String>,
    /// Most entries of each task
    #[arg(long, default_value_t = 100)]
    limit: usize,
}

pub(super) fn run(log: &LogArgs, command: &StateCommand) -> anyhow::Result<()> {
    match command {
        StateCommand::Ls { common } => ls(&State::open(log, &common.config)?, common.json),
        StateCommand::Get { common, store, key } => get(&State::open(log, &common.config)?, store, key, common.json),
        StateCommand::Scan { common, store, range } => {
            scan(&State::open(log, &common.config)?, store, range, common.json)
        }
        StateCommand::Verify(args) => super::verify::run(log, args),
        StateCommand::Dump { config, store } => dump(&State::open(log, config)?, store.as_deref()),
    }
}

/// A state directory, and what is known of its stores.
pub(super) struct State {
    inspection: Inspection,
    databases: Vec<DatabaseId>,
    known: BTreeMap<String, Store>,
}

/// How a store is shown.
pub(super) struct Shown {
    layout: Layout,
    key: Format,
    value: Format,
}

impl Shown {
    fn read_key(&self, text: &str) -> anyhow::Result<Vec<u8>> {
        self.key.read(text).map_err(anyhow::Error::msg)
    }

    pub(super) fn key(&self, key: &[u8]) -> Value {
        show_key(&self.layout, self.key, key)
    }

    pub(super) fn value(&self, value: &[u8]) -> Value {
        self.value.show(value)
    }

    /// Whether an entry is gone by age, though it was not deleted yet.
    pub(super) fn is_over(&self, key: &[u8], stored: &[u8], observed: Option<i64>) -> bool {
        self.layout.expiry().is_some_and(|expiry| expiry.is_over(key, stored, observed))
    }

    pub(super) fn is_versioned(&self) -> bool {
        matches!(self.layout, Layout::Versioned(_))
    }

    fn entry(&self, task: DatabaseId, store: &str, key: &[u8], stored: &[u8]) -> Value {
        if let Some((key, version)) =
            Some(key).filter(|_| self.is_versioned()).and_then(|key| versions::read(key, stored))
        {
            return json!({
                "task": task.to_string(),
                "store": store,
                "key": self.key.show(key),
                "value": version.value.map(|value| self.value(value)),
                "timestamp_ms": version.valid_from,
                "valid_to_ms": Some(version.valid_to).filter(|&time| time != versions::LATEST),
            });
        }
        let (timestamp, value) = overlay::parse(stored).unwrap_or((0, stored));
        json!({
            "task": task.to_string(),
            "store": store,
            "key": self.key(key),
            "value": self.value(value),
            "timestamp_ms": timestamp,
        })
    }
}

impl State {
    fn open(log: &LogArgs, config: &ConfigArgs) -> anyhow::Result<Self> {
        Self::of(&log.load(config)?)
    }

    pub(super) fn of(config: &Config) -> anyhow::Result<Self> {
        let inspection = Inspection::of(&config.state_dir, &config.application_id)?;
        let databases = inspection.databases()?;
        Ok(Self { inspection, databases, known: stores(config) })
    }

    pub(super) fn shown(&self, store: &str) -> Shown {
        let known = self.known.get(store);
        Shown {
            layout: known.map_or(Layout::KeyValue, |store| store.layout.clone()),
            key: known.map_or(Format::Bytes, |store| Format::named(&store.format.key)),
            value: known.map_or(Format::Bytes, |store| Format::named(&store.format.value)),
        }
    }

    pub(super) fn snapshots(&self) -> impl Iterator<Item = anyhow::Result<(DatabaseId, Snapshot)>> {
        self.databases.iter().map(|&database| {
            let opened = self.inspection.open(database).with_context(|| match database {
                DatabaseId::Task(task) => format!("read the state of task {task}"),
                DatabaseId::Global => "read the global stores".to_owned(),
            });
            Ok((database, opened?))
        })
    }

    /// Those of one store; it is an error if no task has it.
    pub(super) fn of_store(&self, store: &str) -> anyhow::Result<Vec<(DatabaseId, Snapshot)>> {
        let all: Vec<(DatabaseId, Snapshot)> = self.snapshots().collect::<Result<_, _>>()?;
        let mut names: Vec<String> = all.iter().flat_map(|(_, snapshot)| snapshot.stores().to_vec()).collect();
        names.sort_unstable();
        names.dedup();
        let of_store: Vec<_> = all.into_iter().filter(|(_, snapshot)| snapshot.store(store).is_some()).collect();
        if of_store.is_empty() {
            bail!("no task has a store {store} on disk; there are: {}", names.join(", "));
        }
        Ok(of_store)
    }

    fn database(&self, name: &str) -> anyhow::Result<DatabaseId> {
        let names = || self.databases.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
        let found = self.databases.iter().find(|database| database.to_string() == name);
        found.copied().with_context(|| format!("there is no task {name} on disk; there are: {}", names()))
    }
}

/// What the module says of its stores. Without the module there is still something to see.
fn stores(config: &Config) -> BTreeMap<String, Store> {
    match Application::load(config) {
        Ok(application) => {
            let stores = application.topology().stores.iter();
            stores.map(|store| (store.name.clone(), store.clone())).collect()
        }
        Err(error) => {
            tracing::warn!("keys and values are shown as bytes, for the module can't say what they are: {error:#}");
            BTreeMap::new()
        }
    }
}

fn ls(state: &State, as_json: bool) -> anyhow::Result<()> {
    let (mut rows, mut objects) = (Vec::new(), Vec::new());
    for opened in state.snapshots() {
        let (task, snapshot) = opened?;
        let positions = snapshot.positions()?;
        for (index, store) in snapshot.stores().iter().enumerate() {
            let sizes = snapshot.sizes(index)?;
            let position = changelog_position(&positions, store);
            rows.push(vec![
                task.to_string(),
                store.clone(),
                sizes.entries.to_string(),
                size(sizes.file_bytes + sizes.memtable_bytes),
                known(position),
            ]);
            objects.push(json!({
                "task": task.to_string(),
                "store": store,
                "entries": sizes.entries,
                "file_bytes": sizes.file_bytes,
                "memtable_bytes": sizes.memtable_bytes,
                "changelog_offset": position.map(|offset| offset.0),
                "inputs": inputs(&positions),
                "stream_time_ms": positions.stream_time,
            }));
        }
    }
    if as_json {
        return print(&format!("{}\n", Value::from(objects)));
    }
    print(&table(&["TASK", "STORE", "ENTRIES", "SIZE", "CHANGELOG OFFSET"], &rows))
}

pub(super) fn changelog_position(positions: &Positions, store: &str) -> Option<Offset> {
    positions.changelogs.iter().find(|(name, _)| name == store).map(|(_, offset)| *offset)
}

fn inputs(positions: &Positions) -> Vec<Value> {
    let input = positions.inputs.iter();
    input.map(|(at, offset)| json!({ "topic": &*at.topic, "partition": at.partition, "offset": offset.0 })).collect()
}

fn get(state: &State, store: &str, key: &str, as_json: bool) -> anyhow::Result<()> {
    let of_store = state.of_store(store)?;
    let shown = state.shown(store);
    let mut bytes = shown.read_key(key)?;
    if shown.is_versioned() {
        bytes = versions::row_key(&bytes, versions::LATEST);
    }
    let mut found = Vec::new();
    for (task, snapshot) in &of_store {
        if let Some(index) = snapshot.store(store)
            && let Some(stored) = snapshot.get(index, &bytes)?
        {
            found.push(shown.entry(*task, store, &bytes, &stored));
        }
    }
    if shown.is_versioned() {
        // The latest version may be a deletion.
        found.retain(|entry| !entry["value"].is_null());
    }
    if found.is_empty() {
        let tasks: Vec<String> = of_store.iter().map(|(task, _)| task.to_string()).collect();
        bail!("there is no key {key} in store {store} of tasks {}", tasks.join(", "));
    }
    let text =
        found.iter().map(|entry| if as_json { format!("{entry}\n") } else { format!("{}\n", plain(&entry["value"])) });
    print(&text.collect::<String>())
}

fn scan(state: &State, store: &str, range: &Range, as_json: bool) -> anyhow::Result<()> {
    let of_store = state.of_store(store)?;
    let shown = state.shown(store);
    let read = |text: &Option<String>| text.as_deref().map(|text| shown.read_key(text)).transpose();
    let (from, to) = match read(&range.prefix)? {
        Some(prefix) => (Some(prefix.clone()), after_prefix(&prefix)),
        None => (read(&range.from)?, read(&range.to)?),
    };
    let only = range.task.as_deref().map(|name| state.database(name)).transpose()?;
    let mut entries = Vec::new();
    for (task, snapshot) in of_store.iter().filter(|(task, _)| only.is_none_or(|only| only == *task)) {
        let Some(index) = snapshot.store(store) else { continue };
        let mut left = range.limit;
        let bar = bar(
            &format!("{task} {store}"),
            snapshot.sizes(index)?.entries.min(u64::try_from(left).unwrap_or(u64::MAX)),
        );
        let observed = snapshot.positions()?.observed(store);
        snapshot.scan(index, (from.as_deref(), to.as_deref()), range.reverse, &mut |key, stored| {
            if shown.is_over(key, stored, observed) {
                return true;
            }
            if left > 0 {
                entries.push(shown.entry(*task, store, key, stored));
                bar.inc(1);
            }
            left = left.saturating_sub(1);
            left > 0
        })?;
        bar.finish_and_clear();
    }
    if as_json {
        return print(&entries.iter().map(|entry| format!("{entry}\n")).collect::<String>());
    }
    let mut cells = vec!["task", "key", "value", "timestamp_ms"];
    let mut titles = vec!["TASK", "KEY", "VALUE", "TIMESTAMP"];
    if shown.is_versioned() {
        cells.push("valid_to_ms");
        titles.push("VALID TO");
    }
    let row = |entry: &Value| cells.iter().map(|cell| plain(&entry[cell])).collect();
    print(&table(&titles, &entries.iter().map(row).collect::<Vec<_>>()))
}

/// As large as the state is: written as it is read.
fn dump(state: &State, only: Option<&str>) -> anyhow::Result<()> {
    if let Some(store) = only {
        state.of_store(store)?;
    }
    let mut out = BufWriter::new(std::io::stdout().lock());
    for opened in state.snapshots() {
        let (task, snapshot) = opened?;
        let stores = snapshot.stores().iter().enumerate();
        for (index, store) in stores.filter(|(_, store)| only.is_none_or(|only| only == store.as_str())) {
            let shown = state.shown(store);
            let observed = snapshot.positions()?.observed(store);
            let bar = bar_beside_output(&format!("{task} {store}"), snapshot.sizes(index)?.entries);
            let mut written = Ok(());
            snapshot.scan(index, (None, None), false, &mut |key, stored| {
                if shown.is_over(key, stored, observed) {
                    return true;
                }
                bar.inc(1);
                written = writeln!(out, "{}", shown.entry(task, store, key, stored));
                written.is_ok()
            })?;
            bar.finish_and_clear();
            match written.and_then(|()| out.flush()) {
                // A reader that has seen enough (`head`) is no failure.
                Err(error) if error.kind() == ErrorKind::BrokenPipe => return Ok(()),
                written => written.context("print")?,
            }
        }
    }
    Ok(())
}

/// Text without quotes.
pub(super) fn plain(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}
