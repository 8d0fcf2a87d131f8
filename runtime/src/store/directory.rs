//! Owns an application's state directory: its lock, the directories of its tasks, how a task's
//! database is opened, rebuilt and cleaned up. Must not know which tasks this process owns.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use std::time::{Duration, Instant};

use millrace_engine::ports::Error;
use millrace_engine::record::TaskId;
use millrace_engine::task::StoreSpec;
use tracing::{info, warn};

use super::ahead::Ahead;
use super::aside;
use super::error::from_io;
use super::lock::Lock;
use super::resources::Resources;
use super::rocks::{Identity, Rocks};
use super::task::{TaskDatabase, View};

/// Holds the process id, as `kafka-streams-process-metadata` does for Kafka Streams.
const PROCESS_ID: &str = "process-id";

/// Whose database it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum DatabaseId {
    Task(TaskId),
    /// That of all global stores.
    Global,
}

impl fmt::Display for DatabaseId {
    /// The name of its directory.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Task(task) => task.fmt(f),
            Self::Global => f.write_str("global"),
        }
    }
}

/// The databases that are open, for those who read them. Cloning shares.
#[derive(Clone, Default)]
pub struct Views(Arc<Mutex<BTreeMap<TaskId, View>>>);

impl Views {
    /// That of a task; one that was closed meanwhile says so when it is read.
    #[must_use]
    pub fn of(&self, task: TaskId) -> Option<View> {
        self.lock().get(&task).cloned()
    }

    pub(super) fn put(&self, task: TaskId, view: View) {
        self.lock().insert(task, view);
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<TaskId, View>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// `<state.dir>/<application.id>`, locked for this process as long as it lives.
pub struct StateDirectory {
    path: PathBuf,
    application_id: String,
    /// Since when a task's directory has been without an owner, as far as this process has seen.
    unowned: Mutex<BTreeMap<TaskId, Instant>>,
    /// Tasks may be opened side by side, but not while others are deleted.
    deleting: RwLock<()>,
    views: Views,
    /// Before the lock, which is held until they are closed.
    ahead: Ahead<TaskDatabase>,
    _lock: Lock,
}

impl StateDirectory {
    /// Creates the directory if need be and locks it.
    pub fn open(state_dir: &Path, application_id: &str) -> Result<Self, Error> {
        // The id becomes a path: it must not lead out of the state directory.
        let legal = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
        if application_id.is_empty() || !application_id.chars().all(legal) || application_id.chars().all(|c| c == '.') {
            return Err(Error::Fatal(format!(
                "open state directory: {application_id:?} can't be a directory's name; set application.id to letters, \
                 digits, `.`, `_` and `-`"
            )));
        }
        let path = state_dir.join(application_id);
        fs::create_dir_all(&path).map_err(|e| from_io("create state directory", &path, &e))?;
        let lock = Lock::take(&path)?;
        Ok(Self {
            path,
            application_id: application_id.to_owned(),
            unowned: Mutex::default(),
            deleting: RwLock::default(),
            views: Views::default(),
            ahead: Ahead::none(),
            _lock: lock,
        })
    }

    /// What is open here, now and later.
    #[must_use]
    pub fn views(&self) -> Views {
        self.views.clone()
    }

    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    pub(super) fn application_id(&self) -> &str {
        &self.application_id
    }

    /// A name that is this directory's alone, for an instance that was given none: made up at the first
    /// start and kept.
    pub fn process_id(&self) -> Result<String, Error> {
        let path = self.path.join(PROCESS_ID);
        match fs::read_to_string(&path) {
            Ok(text) if uuid::Uuid::try_parse(text.trim()).is_ok() => return Ok(text.trim().to_owned()),
            Ok(_) => warn!(path = %path.display(), "the process id can't be read: making up another"),
            Err(e) if e.kind() == io::ErrorKind::NotFound => {}
            Err(e) => return Err(from_io("read the process id", &path, &e)),
        }
        let id = uuid::Uuid::new_v4().to_string();
        fs::write(&path, &id).map_err(|e| from_io("keep the process id", &path, &e))?;
        Ok(id)
    }

    /// Opens or creates the database of a task with the stores of its subtopology. One that can't
    /// be trusted is set aside and made anew, empty, if changelogs can fill it again.
    pub fn open_task(&self, task: TaskId, stores: &[StoreSpec], resources: &Resources) -> Result<TaskDatabase, Error> {
        if !stores.iter().any(|store| store.persistent) {
            return Ok(self.opened(task, TaskDatabase::new(None, stores, resources)));
        }
        // Held until it is open: what is being deleted is waited for.
        let _deleting = self.deleting.read().unwrap_or_else(PoisonError::into_inner);
        self.unowned.lock().unwrap_or_else(PoisonError::into_inner).remove(&task);
        if let Some(database) = self.ahead.take(task, stores) {
            return Ok(self.opened(task, database));
        }
        let open = || open_database(&self.path, &self.application_id, task, stores, resources);
        let database = match open() {
            Err(Error::Corrupt(why)) => {
                self.set_aside(task, stores, &why)?;
                open()?
            }
            opened => opened?,
        };
        Ok(self.opened(task, database))
    }

    /// Begins to open the databases that lie here, of tasks that have stores, for [`Self::open_task`] to find them open. What
    /// nobody has asked for by the first [`Self::clean`] is closed.
    pub fn open_ahead(
        &mut self,
        stores: impl Fn(TaskId) -> Option<Vec<StoreSpec>>,
        resources: &Resources,
    ) -> Result<(), Error> {
        let known = self.tasks()?.into_iter().filter_map(|task| Some((task, stores(task)?)));
        let persistent = known.filter(|(_, stores)| stores.iter().any(|store| store.persistent)).collect();
        let (path, application_id, resources) = (self.path.clone(), self.application_id.clone(), resources.clone());
        let open = move |task, stores: &[StoreSpec]| open_database(&path, &application_id, task, stores, &resources);
        self.ahead.begin(persistent, open).map_err(|e| from_io("start threads that open databases", &self.path, &e))
    }

    fn opened(&self, task: TaskId, database: TaskDatabase) -> TaskDatabase {
        self.views.put(task, database.view());
        database
    }

    /// Moves the database of a task aside because of `why`, so that the next [`Self::open_task`]
    /// makes an empty one to be restored from the changelogs. The task's database is closed.
    pub fn set_aside(&self, task: TaskId, stores: &[StoreSpec], why: &str) -> Result<(), Error> {
        let path = self.database_path(task);
        if let Some(store) = stores.iter().find(|s| is_irreplaceable(s)) {
            return Err(Error::Fatal(format!(
                "{why}; store `{}` has no changelog to rebuild it from: put back a copy of {}, or move that directory \
                 away to start the store empty",
                store.name,
                path.display()
            )));
        }
        if !path.exists() {
            // All its stores are in memory, and gone with the task.
            return Ok(());
        }
        let aside = aside::set_aside(&path)?;
        warn!(%task, aside = %aside.display(), why, "the task's database can't be trusted: set aside, state is rebuilt from the changelogs");
        Ok(())
    }

    /// Tasks that have a database here, whoever worked on them.
    pub fn tasks(&self) -> Result<Vec<TaskId>, Error> {
        tasks_in(&self.path)
    }

    /// Deletes the databases of tasks that are not in `keep` and have not been for `delay`, counted
    /// from the first call that saw them so, and says which. A task that an unlogged store makes
    /// irreplaceable belongs in `keep` too. Foreign files are left, and so is their directory.
    pub fn clean(&self, keep: &BTreeSet<TaskId>, delay: Duration, now: Instant) -> Result<Vec<TaskId>, Error> {
        let _deleting = self.deleting.write().unwrap_or_else(PoisonError::into_inner);
        self.ahead.keep(|task| keep.contains(task));
        let mut unowned = self.unowned.lock().unwrap_or_else(PoisonError::into_inner);
        unowned.retain(|task, _| !keep.contains(task));
        let mut deleted = Vec::new();
        for task in self.tasks()?.into_iter().filter(|task| !keep.contains(task)) {
            let since = *unowned.entry(task).or_insert(now);
            if now.saturating_duration_since(since) >= delay {
                self.delete_task(task)?;
                unowned.remove(&task);
                info!(%task, "deleted the state of a task that has run elsewhere for state.cleanup.delay.ms");
                deleted.push(task);
            }
        }
        Ok(deleted)
    }

    /// Deletes all of it. Nothing of it is open: this process has its lock.
    pub fn delete(self) -> Result<(), Error> {
        fs::remove_dir_all(&self.path).map_err(|e| from_io("delete the state directory", &self.path, &e))
    }

    fn delete_task(&self, task: TaskId) -> Result<(), Error> {
        let path = self.database_path(task);
        Rocks::destroy(&path)?;
        let directory = self.task_path(task);
        aside::delete_copies(&directory)?;
        for emptied in [path, directory] {
            match fs::remove_dir(&emptied) {
                Ok(()) => {}
                Err(e) if matches!(e.kind(), io::ErrorKind::NotFound | io::ErrorKind::DirectoryNotEmpty) => {}
                Err(e) => return Err(from_io("delete", &emptied, &e)),
            }
        }
        Ok(())
    }

    fn task_path(&self, task: TaskId) -> PathBuf {
        self.path.join(task.to_string())
    }

    fn database_path(&self, task: TaskId) -> PathBuf {
        database_path(&self.path, DatabaseId::Task(task))
    }
}

/// Opens or creates the database of a task, which has a persistent store.
fn open_database(
    application: &Path,
    application_id: &str,
    task: TaskId,
    stores: &[StoreSpec],
    resources: &Resources,
) -> Result<TaskDatabase, Error> {
    let path = database_path(application, DatabaseId::Task(task));
    fs::create_dir_all(&path).map_err(|e| from_io("create the task's directory", &path, &e))?;
    greet_kafka_streams(&path, stores)?;
    let persistent: Vec<&StoreSpec> = stores.iter().filter(|store| store.persistent).collect();
    let identity = Identity { application_id, database: DatabaseId::Task(task) };
    let unlogged = stores.iter().any(is_irreplaceable);
    let rocks = Rocks::open(&path, &identity, &persistent, unlogged, resources)?;
    Ok(TaskDatabase::new(Some(rocks), stores, resources))
}

pub(super) fn database_path(application: &Path, database: DatabaseId) -> PathBuf {
    application.join(database.to_string()).join("rocksdb")
}

/// Tasks that have a database in an application's directory.
pub(super) fn tasks_in(application: &Path) -> Result<Vec<TaskId>, Error> {
    let mut tasks = Vec::new();
    for entry in fs::read_dir(application).map_err(|e| from_io("read state directory", application, &e))? {
        let entry = entry.map_err(|e| from_io("read state directory", application, &e))?;
        if let Some(task) = entry.file_name().to_str().and_then(parse_task)
            && database_path(application, DatabaseId::Task(task)).join("CURRENT").exists()
        {
            tasks.push(task);
        }
    }
    tasks.sort_unstable();
    Ok(tasks)
}

/// No changelog can bring it back.
pub(super) fn is_irreplaceable(store: &StoreSpec) -> bool {
    store.persistent && store.changelog.is_none()
}

fn parse_task(name: &str) -> Option<TaskId> {
    let (subtopology, partition) = name.split_once('_')?;
    let task = TaskId { subtopology: subtopology.parse().ok()?, partition: partition.parse().ok()? };
    // `00_1` and `+0_1` parse too, but are nobody's directory.
    (task.to_string() == name).then_some(task)
}

/// Says what becomes of state that Kafka Streams left, the first time Millrace opens the task.
/// Its folders stay: the changelogs hold the same, and Kafka Streams may come back to them.
fn greet_kafka_streams(path: &Path, stores: &[StoreSpec]) -> Result<(), Error> {
    if path.join("CURRENT").exists() {
        return Ok(());
    }
    let left: Vec<&StoreSpec> = stores.iter().filter(|s| s.persistent && path.join(&s.name).is_dir()).collect();
    if let Some(store) = left.iter().find(|s| is_irreplaceable(s)) {
        return Err(Error::Fatal(format!(
            "open {}: Kafka Streams left store `{}` there, which has no changelog to be restored from and which only \
             Kafka Streams can read; move the directory away to start the store empty",
            path.display(),
            store.name
        )));
    }
    for store in left {
        info!(store = store.name, path = %path.display(), "Kafka Streams left a copy of the store: it stays, Millrace restores its own from the changelog");
    }
    Ok(())
}
