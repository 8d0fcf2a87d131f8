//! An application of one test: its own topics, application id, config files and state directories, so that all tests
//! can run side by side on one Kafka.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::atomic::{AtomicU32, Ordering};

use anyhow::{Context, Result};
use tempfile::TempDir;

use crate::group::Group;
use crate::kafka::Kafka;
use crate::peer::Peer;
use crate::process::Process;
use crate::records::{self, Found, Reader, Record};
use crate::{setting, topics, wait};

/// Also what the reference topology is called in the files of this project.
const STORE: &str = "count-store";

static NUMBER: AtomicU32 = AtomicU32::new(0);

pub struct App {
    pub kafka: Kafka,
    pub id: String,
    pub input: String,
    pub output: String,
    dir: TempDir,
    settings: BTreeMap<String, String>,
    /// What differs from instance to instance.
    own_settings: BTreeMap<String, BTreeMap<String, String>>,
    environment: BTreeMap<String, String>,
}

impl App {
    /// An application with an input and an output topic of 4 partitions.
    pub fn new(kafka: &Kafka, test: &str) -> Result<Self> {
        let app = Self::without_topics(kafka, test)?;
        topics::create(kafka, &app.input, 4, &[])?;
        topics::create(kafka, &app.output, 4, &[])?;
        Ok(app)
    }

    pub fn without_topics(kafka: &Kafka, test: &str) -> Result<Self> {
        let unique = format!("{test}-{}-{}", std::process::id(), NUMBER.fetch_add(1, Ordering::Relaxed));
        let mut app = Self {
            kafka: kafka.clone(),
            input: format!("{unique}.in"),
            output: format!("{unique}.out"),
            dir: TempDir::with_prefix("millrace-e2e.")?,
            settings: BTreeMap::new(),
            own_settings: BTreeMap::new(),
            environment: BTreeMap::new(),
            id: unique,
        };
        let module = setting::module("guest-counts")?;
        let id = app.id.clone();
        app.set("application.id", &id);
        app.set("module.source", &module.to_string_lossy());
        app.set("kafka.bootstrap.servers", &kafka.bootstrap);
        app.set("statestore.cache.max.bytes", "0");
        // Many run side by side.
        app.set("http.listen", "off");
        app.settings
            .insert("module.env".into(), "['COUNTS_INPUT', 'COUNTS_OUTPUT', 'COUNTS_STORE', 'COUNTS_MODE']".into());
        app.environment("COUNTS_INPUT", &app.input.clone());
        app.environment("COUNTS_OUTPUT", &app.output.clone());
        Ok(app)
    }

    /// Another input topic than its own, which others may share.
    pub fn read_from(&mut self, input: &str) {
        input.clone_into(&mut self.input);
        self.environment("COUNTS_INPUT", input);
    }

    /// A key of the config file.
    pub fn set(&mut self, key: &str, value: &str) {
        self.settings.insert(key.to_owned(), format!("'{value}'"));
    }

    /// The same for one instance only.
    pub fn set_for(&mut self, instance: &str, key: &str, value: &str) {
        self.own_settings.entry(instance.to_owned()).or_default().insert(key.to_owned(), format!("'{value}'"));
    }

    /// Its instances hand their partitions over when they stop. Without this they are static members, as pods are,
    /// which keep them for their return.
    pub fn leave_on_stop(&mut self) {
        self.settings.insert("group.leave.on.stop".into(), "true".into());
    }

    /// One instance does.
    pub fn leaves_on_stop(&mut self, instance: &str) {
        self.set_for(instance, "group.leave.on.stop", "true");
    }

    /// A variable the module reads.
    pub fn environment(&mut self, name: &str, value: &str) {
        self.environment.insert(name.to_owned(), value.to_owned());
    }

    #[must_use]
    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Where an instance keeps its state, as the config file says it.
    #[must_use]
    pub fn state_dir(&self, instance: &str) -> PathBuf {
        self.path(&format!("state-{instance}"))
    }

    #[must_use]
    pub fn changelog(&self) -> String {
        format!("{}-{STORE}-changelog", self.id)
    }

    /// Writes the config file of an instance.
    pub fn config(&self, instance: &str) -> Result<PathBuf> {
        let mut settings = self.settings.clone();
        settings.extend(self.own_settings.get(instance).cloned().unwrap_or_default());
        let names: Vec<_> = self.environment.keys().map(|name| format!("'{name}'")).collect();
        settings.insert("module.env".into(), format!("[{}]", names.join(", ")));
        let state_dir = format!("'{}'", self.state_dir(instance).display());
        settings.entry("state.dir".into()).or_insert(state_dir);
        if !settings.contains_key("group.leave.on.stop") {
            settings.entry("group.instance.id".into()).or_insert(format!("'{instance}'"));
        }
        let text: String = settings.iter().map(|(key, value)| format!("{key} = {value}\n")).collect();
        let path = self.path(&format!("{instance}.toml"));
        // Another process of the same test may be reading it.
        let new = self.path(&format!("{instance}.toml.{}", NUMBER.fetch_add(1, Ordering::Relaxed)));
        fs::write(&new, text).and_then(|()| fs::rename(&new, &path)).context("write the config file")?;
        Ok(path)
    }

    /// `millrace` with the config of an instance. Its environment is what this test says and no more.
    pub fn command(&self, subcommand: &str, instance: &str) -> Result<Command> {
        let mut command = Command::new(setting::millrace()?);
        command.env_clear().envs(&self.environment);
        command.arg(subcommand).arg("-c").arg(self.config(instance)?);
        Ok(command)
    }

    /// Runs a command of `millrace` to its end: its arguments, then the config of an instance.
    pub fn call(&self, instance: &str, arguments: &[&str]) -> Result<Output> {
        let mut command = Command::new(setting::millrace()?);
        command.env_clear().envs(&self.environment).args(arguments).arg("-c").arg(self.config(instance)?);
        command.output().with_context(|| format!("run millrace {arguments:?}"))
    }

    /// The same, which has to succeed; gives back what it printed.
    pub fn ask(&self, instance: &str, arguments: &[&str]) -> Result<String> {
        let output = self.call(instance, arguments)?;
        let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        anyhow::ensure!(output.status.success(), "millrace {arguments:?} ended with {}:\n{out}{err}", output.status);
        Ok(out.into_owned())
    }

    /// The same, which has to fail with all of these words.
    pub fn denied(&self, instance: &str, arguments: &[&str], words: &[&str]) -> Result<()> {
        let output = self.call(instance, arguments)?;
        let text = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        anyhow::ensure!(!output.status.success(), "millrace {arguments:?} succeeded:\n{text}");
        for word in words {
            anyhow::ensure!(text.contains(word), "no word of \"{word}\" from millrace {arguments:?}:\n{text}");
        }
        Ok(())
    }

    /// Starts an instance.
    pub fn start(&self, instance: &str) -> Result<Process> {
        Process::start(&format!("millrace {} {instance}", self.id), &mut self.command("run", instance)?)
    }

    /// Starts an instance and waits until it processes.
    pub fn run(&self, instance: &str) -> Result<Process> {
        let process = self.start(instance)?;
        process.line(&["state=RUNNING"])?;
        Ok(process)
    }

    /// Starts an instance that must refuse to go on, and returns its log, which has all of these words.
    pub fn refused(&self, instance: &str, words: &[&str]) -> Result<String> {
        let mut process = self.start(instance)?;
        let status = process.ended(wait::LONG)?;
        let text = process.text();
        anyhow::ensure!(!status.success(), "it ended with success; its log:\n{text}");
        for word in words {
            anyhow::ensure!(text.contains(word), "no word of \"{word}\" in its log:\n{text}");
        }
        Ok(text)
    }

    /// The same application in Kafka Streams: every update emitted, commits often, leaves its group at the end.
    pub fn peer(&self) -> Result<Peer> {
        Ok(self
            .plain_peer()?
            .option("statestore.cache.max.bytes", "0")
            .option("commit.interval.ms", "500")
            .option("leave.group", "1"))
    }

    /// The same application in Kafka Streams, with its own defaults.
    pub fn plain_peer(&self) -> Result<Peer> {
        Peer::new(&self.kafka, &self.id, &self.input, &self.output, &self.state_dir("java"))
    }

    pub fn write(&self, records: &[Record]) -> Result<()> {
        records::write(&self.kafka, &self.input, records)
    }

    /// Waits until the output has that many records.
    pub fn outputs(&self, count: usize) -> Result<Vec<Found>> {
        Reader::new(&self.kafka, &self.output)?
            .until(&format!("{count} outputs"), wait::LONG, |found| found.len() >= count)
    }

    /// Waits until the last output of each of these keys is as given.
    pub fn counts(&self, expected: &[(&str, u64)]) -> Result<()> {
        let matches = |found: &[Found]| {
            let last: BTreeMap<_, _> = found.iter().map(|found| found.record.text()).collect();
            expected.iter().all(|(key, count)| last.get(*key) == Some(&count.to_string()))
        };
        Reader::new(&self.kafka, &self.output)?.until(&format!("{expected:?}"), wait::LONG, matches).map(drop)
    }

    pub fn group(&self) -> Result<Group> {
        Group::new(&self.kafka, &self.id, &self.input)
    }

    /// Folders of tasks that an instance has on disk.
    pub fn tasks_on_disk(&self, instance: &str) -> Result<Vec<String>> {
        let dir = self.state_dir(instance).join(&self.id);
        let mut names = Vec::new();
        for entry in fs::read_dir(&dir).with_context(|| format!("list {}", dir.display()))? {
            let name = entry?.file_name().to_string_lossy().into_owned();
            if name.split('_').all(|part| !part.is_empty() && part.bytes().all(|b| b.is_ascii_digit())) {
                names.push(name);
            }
        }
        names.sort();
        Ok(names)
    }

    pub fn remove_state(&self, instance: &str) -> Result<()> {
        fs::remove_dir_all(self.state_dir(instance)).context("remove the state directory")
    }
}

/// All files below a folder.
pub fn files(dir: &Path) -> Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for entry in fs::read_dir(dir).with_context(|| format!("list {}", dir.display()))? {
        let path = entry?.path();
        if path.is_dir() {
            files.extend(self::files(&path)?);
        } else {
            files.push(path);
        }
    }
    Ok(files)
}
