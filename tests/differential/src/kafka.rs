//! Owns Kafka Streams' side: one JVM for all cases, its outcomes kept in the target directory
//! for as long as neither the cases nor the classes change.

use std::collections::hash_map::DefaultHasher;
use std::fs;
use std::hash::{Hash, Hasher};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};

use crate::case::Case;
use crate::outcome::Outcome;

/// The class path of the Maven project in `tests/kafka`, compiled; `./mill test` sets it.
const CLASS_PATH: &str = "MILLRACE_TEST_CLASSPATH";

/// The outcome of each case, in their order; from an earlier run if nothing has changed since.
pub fn outcomes(cases: &[Case]) -> Result<Vec<Outcome>> {
    let lines = lines(cases)?;
    let kept = folder()?.join(format!("{:016x}.results", fingerprint(&class_path()?, &lines)?));
    if !kept.exists() {
        // Renamed into place when whole: an interrupted run leaves nothing that looks like results.
        let results = run(&lines)?;
        fs::rename(&results, &kept).with_context(|| format!("put {} in place", kept.display()))?;
    }
    read(cases, &kept)
}

/// The same, for cases that nobody will ask for again.
pub fn fresh_outcomes(cases: &[Case]) -> Result<Vec<Outcome>> {
    let results = run(&lines(cases)?)?;
    let outcomes = read(cases, &results);
    fs::remove_file(&results).with_context(|| format!("remove {}", results.display()))?;
    outcomes
}

fn class_path() -> Result<String> {
    std::env::var(CLASS_PATH).with_context(|| {
        format!(
            "{CLASS_PATH} is not set: run this through `./mill test`, or set it to the jars and classes of tests/kafka"
        )
    })
}

fn lines(cases: &[Case]) -> Result<String> {
    let mut lines = String::new();
    for case in cases {
        lines.push_str(&serde_json::to_string(case).context("write a case as JSON")?);
        lines.push('\n');
    }
    Ok(lines)
}

/// Answers the file with the results.
fn run(lines: &str) -> Result<PathBuf> {
    let folder = folder()?;
    fs::create_dir_all(&folder).with_context(|| format!("create {}", folder.display()))?;
    let unique = std::process::id();
    let cases = folder.join(format!("{unique}.cases"));
    let results = folder.join(format!("{unique}.partial"));
    fs::write(&cases, lines).with_context(|| format!("write {}", cases.display()))?;
    let output = Command::new("java")
        .args(["-Dorg.slf4j.simpleLogger.defaultLogLevel=off", "-XX:TieredStopAtLevel=1", "-cp", &class_path()?])
        .arg("millrace.differential.Differential")
        .args([&cases, &results])
        .output()
        .context("start java, which must be on the PATH, version 17 or later")?;
    if !output.status.success() {
        bail!("Differential.java failed on {}:\n{}", cases.display(), String::from_utf8_lossy(&output.stderr));
    }
    fs::remove_file(&cases).with_context(|| format!("remove {}", cases.display()))?;
    Ok(results)
}

fn read(cases: &[Case], results: &Path) -> Result<Vec<Outcome>> {
    let text = fs::read_to_string(results).with_context(|| format!("read {}", results.display()))?;
    let outcomes: Vec<Outcome> =
        text.lines().map(serde_json::from_str).collect::<Result<_, _>>().with_context(|| {
            format!("{} is not what Differential.java writes: delete it and run again", results.display())
        })?;
    ensure!(
        outcomes.iter().map(|outcome| &outcome.name).eq(cases.iter().map(|case| &case.name)),
        "{} does not answer the cases it was asked: delete it and run again",
        results.display()
    );
    Ok(outcomes)
}

/// In Cargo's target directory, found from the test that runs in it.
fn folder() -> Result<PathBuf> {
    let program = std::env::current_exe().context("find the running test")?;
    let target = program.ancestors().nth(3).context("the test runs in <target>/<profile>/deps")?;
    Ok(target.join("differential"))
}

/// Changes with the cases, with the jars' names (they hold the version) and with our classes' bytes.
fn fingerprint(class_path: &str, lines: &str) -> Result<u64> {
    let mut hasher = DefaultHasher::new();
    lines.hash(&mut hasher);
    for entry in class_path.split(':') {
        if let Some(jars) = entry.strip_suffix("/*") {
            list(Path::new(jars))?.iter().map(|jar| jar.file_name()).for_each(|name| name.hash(&mut hasher));
            continue;
        }
        let classes = Path::new(entry).join("millrace/differential");
        for file in if classes.is_dir() { list(&classes)? } else { Vec::new() } {
            fs::read(&file).with_context(|| format!("read {}", file.display()))?.hash(&mut hasher);
        }
    }
    Ok(hasher.finish())
}

fn list(folder: &Path) -> Result<Vec<PathBuf>> {
    let mut files = fs::read_dir(folder)
        .and_then(|files| files.map(|file| file.map(|file| file.path())).collect::<Result<Vec<_>, _>>())
        .with_context(|| format!("list {}", folder.display()))?;
    files.sort();
    Ok(files)
}
