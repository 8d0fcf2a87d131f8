//! `millrace test`: runs records through a module without a broker, and compares what it writes and keeps with what a case
//! file expects.

mod case;
mod diff;
mod driver;
mod script;

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use serde_json::{Value, json};

use super::describe::bare_config;
use super::{LogArgs, print};
use crate::app::Application;
use case::{Bad, Case};
use diff::{Row, diff};
use driver::{Driver, Record};
use script::{Input, Script, Step};

#[derive(Debug, clap::Args)]
pub(super) struct TestArgs {
    /// The WebAssembly component
    component: PathBuf,
    /// Case files, or directories of them (docs/testing.md)
    #[arg(required = true, value_name = "CASE")]
    cases: Vec<PathBuf>,
    /// Print JSON, for machines
    #[arg(long)]
    json: bool,
}

/// Case files that can't be run, a line each. Nothing was run then.
#[derive(Debug)]
pub(super) struct BadCases(Vec<Bad>);

impl fmt::Display for BadCases {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let lines: Vec<String> = self.0.iter().map(ToString::to_string).collect();
        f.write_str(&lines.join("\n"))
    }
}

impl std::error::Error for BadCases {}

pub(super) fn run(log: &LogArgs, args: &TestArgs) -> anyhow::Result<()> {
    // What the module prints is for those who ask for more.
    log.start("warn")?;
    let module = args.component.display().to_string();
    let bytes = std::fs::read(&args.component).with_context(|| format!("read module {module}"))?;
    let mut bad = Vec::new();
    let mut cases = Vec::new();
    for path in files(&args.cases)? {
        match Case::read(&path) {
            Ok(case) => cases.push(case),
            Err(wrong) => bad.push(wrong),
        }
    }
    // What a module is may depend on what it reads from its environment.
    let mut applications = BTreeMap::new();
    for case in &cases {
        if !applications.contains_key(&case.env) {
            let mut config = bare_config(&args.component)?;
            config.module.env = case.env.clone().into_iter().collect();
            let application = Application::of(&bytes, &module, &config, None)?;
            application.check_offered()?;
            applications.insert(&case.env, application);
        }
    }
    let mut scripts = Vec::new();
    for case in &cases {
        let application = &applications[&case.env];
        match Script::of(case, application) {
            Ok(script) => scripts.push((case, application, script)),
            Err((line, error)) => bad.push(Bad { path: case.path.clone(), line, message: format!("{error:#}") }),
        }
    }
    if !bad.is_empty() {
        return Err(BadCases(bad).into());
    }
    let mut failed = 0;
    let mut objects = Vec::new();
    for (case, application, script) in &scripts {
        let failure = Play::new(application, script).and_then(|play| play.run()).err();
        failed += usize::from(failure.is_some());
        if args.json {
            objects.push(object(case, failure.as_ref()));
        } else {
            print(&text(case, failure.as_ref()))?;
        }
    }
    if args.json {
        print(&format!("{}\n", Value::from(objects)))?;
    } else {
        print(&format!("{} passed, {failed} failed\n", scripts.len() - failed))?;
    }
    if failed > 0 { bail!("{failed} of {} cases failed", scripts.len()) } else { Ok(()) }
}

/// Directories stand for the case files in them.
fn files(paths: &[PathBuf]) -> anyhow::Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for path in paths {
        if !path.is_dir() {
            files.push(path.clone());
            continue;
        }
        let entries = std::fs::read_dir(path).and_then(Iterator::collect::<Result<Vec<_>, _>>);
        let entries = entries.with_context(|| format!("list {}", path.display()))?;
        let mut own: Vec<PathBuf> = entries.iter().map(std::fs::DirEntry::path).collect();
        own.retain(|path| path.extension().is_some_and(|extension| extension == "toml"));
        if own.is_empty() {
            bail!("there is no case file (*.toml) in {}", path.display());
        }
        own.sort();
        files.extend(own);
    }
    Ok(files)
}

/// Where a case failed, and why.
struct Failure {
    /// Position in the case, or after it; `None`: before the first step.
    step: Option<usize>,
    /// What was looked at, and how it differs.
    problems: Vec<(String, String)>,
}

/// A case that is being run.
struct Play<'a> {
    script: &'a Script,
    driver: Driver,
    /// Written and not compared yet.
    written: BTreeMap<String, Vec<Record>>,
}

impl<'a> Play<'a> {
    fn new(application: &Application, script: &'a Script) -> Result<Self, Failure> {
        let driver = Driver::new(application, &script.partitioning, script.counts.clone(), script.start_ms);
        let driver = driver.map_err(|error| Failure::of(None, &error))?;
        Ok(Self { script, driver, written: BTreeMap::new() })
    }

    fn run(mut self) -> Result<(), Failure> {
        for (index, step) in self.script.steps.iter().enumerate() {
            self.act(step).map_err(|error| Failure::of(Some(index), &error))?;
            let problems = self.compare(step).map_err(|error| Failure::of(Some(index), &error))?;
            if !problems.is_empty() {
                return Err(Failure { step: Some(index), problems });
            }
        }
        // Who compares outputs compares all of them.
        if self.script.steps.iter().all(|step| step.output.is_none()) {
            return Ok(());
        }
        let problems = self.compare_output(&BTreeMap::new());
        if problems.is_empty() { Ok(()) } else { Err(Failure { step: Some(self.script.steps.len()), problems }) }
    }

    fn act(&mut self, step: &Step) -> anyhow::Result<()> {
        if let Some(ms) = step.advance_ms {
            self.driver.advance(ms)?;
            self.keep();
        }
        for Input { topic, record, timestamp, partition } in &step.input {
            let timestamp = timestamp.unwrap_or(self.driver.now_ms());
            let partition = partition.unwrap_or_else(|| self.driver.partition_of(topic, record.key.as_deref()));
            self.driver.pipe(topic, &Record { timestamp, partition, ..record.clone() })?;
            self.keep();
        }
        Ok(())
    }

    fn keep(&mut self) {
        for (topic, records) in self.driver.take_written() {
            self.written.entry(topic).or_default().extend(records);
        }
    }

    fn compare(&mut self, step: &Step) -> anyhow::Result<Vec<(String, String)>> {
        let mut problems = step.output.as_ref().map_or_else(Vec::new, |expected| self.compare_output(expected));
        for (store, expected) in &step.stores {
            let held = self.script.held(store, &self.driver.entries(store)?);
            problems.extend(diff(expected, &held).map(|difference| (format!("store {store}"), difference)));
        }
        Ok(problems)
    }

    fn compare_output(&mut self, expected: &BTreeMap<String, Vec<Row>>) -> Vec<(String, String)> {
        let written = std::mem::take(&mut self.written);
        let others = written.keys().filter(|topic| !self.script.is_internal(topic) && !expected.contains_key(*topic));
        let mut problems = Vec::new();
        for topic in expected.keys().chain(others) {
            let records = written.get(topic).map_or(&[][..], Vec::as_slice);
            let found: Vec<Row> = records.iter().map(|record| self.script.found(topic, record)).collect();
            let expected = expected.get(topic).map_or(&[][..], Vec::as_slice);
            problems.extend(diff(expected, &found).map(|difference| (format!("output to {topic}"), difference)));
        }
        problems
    }
}

impl Failure {
    fn of(step: Option<usize>, error: &anyhow::Error) -> Self {
        Self { step, problems: vec![("the module failed".to_owned(), format!("{error:#}\n"))] }
    }

    /// As `cases/counts.toml:12: step 2, one more`.
    fn place(&self, case: &Case) -> String {
        let path = case.path.display();
        match self.step {
            None => format!("{path}: at the start"),
            Some(index) => match (case.steps.get(index), case.lines.get(index)) {
                (Some(step), Some(line)) => {
                    let name = step.get_ref().name.as_ref().map_or_else(String::new, |name| format!(", {name}"));
                    format!("{path}:{line}: step {}{name}", index + 1)
                }
                _ => format!("{path}: after the last step"),
            },
        }
    }
}

fn text(case: &Case, failure: Option<&Failure>) -> String {
    let Some(failure) = failure else { return format!("ok      {}\n", case.path.display()) };
    let mut text = format!("FAILED  {}\n", failure.place(case));
    for (what, difference) in &failure.problems {
        let legend = if difference.starts_with(['-', '+', ' ']) { " differs (- expected, + found)" } else { "" };
        text += &format!("  {what}{legend}:\n");
        difference.lines().for_each(|line| text += &format!("    {line}\n"));
    }
    text
}

fn object(case: &Case, failure: Option<&Failure>) -> Value {
    let problem = |(what, difference): &(String, String)| json!({ "what": what, "difference": difference });
    let failure = failure.map(|failure| {
        json!({
            "place": failure.place(case),
            "step": failure.step.filter(|step| *step < case.steps.len()).map(|step| step + 1),
            "problems": failure.problems.iter().map(problem).collect::<Vec<_>>(),
        })
    });
    json!({ "case": path_of(&case.path), "passed": failure.is_none(), "failure": failure })
}

fn path_of(path: &Path) -> String {
    path.display().to_string()
}
