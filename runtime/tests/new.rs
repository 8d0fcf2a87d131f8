//! A project written by `millrace new` does what its README says: it tests natively, builds as a
//! component, and the component passes `check` and can be described.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

const REPOSITORY: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/..");

/// Runs a command to its end, or says what it said.
fn run(command: &mut Command) -> String {
    let Output { status, stdout, stderr } = command.output().expect("runs");
    let (stdout, stderr) = (String::from_utf8_lossy(&stdout), String::from_utf8_lossy(&stderr));
    assert!(status.success(), "{command:?}: {status}\n{stdout}\n{stderr}");
    stdout.into_owned()
}

fn millrace(directory: &Path, arguments: &[&str]) -> String {
    run(Command::new(env!("CARGO_BIN_EXE_millrace")).args(arguments).current_dir(directory).env_clear())
}

/// Cargo as the README has it, but with a directory for what it builds that outlives the test: the
/// SDK's dependencies need not be compiled each time.
fn cargo(project: &Path, arguments: &[&str]) -> String {
    run(Command::new(env!("CARGO")).args(arguments).current_dir(project).env("CARGO_TARGET_DIR", target()))
}

fn target() -> PathBuf {
    Path::new(env!("CARGO_TARGET_TMPDIR")).join("new")
}

#[test]
fn the_project_tests_builds_and_is_sound() {
    let directory = tempfile::tempdir().expect("make a directory");
    millrace(directory.path(), &["new", "word-counts"]);
    let project = directory.path().join("word-counts");
    // The versions the workspace is tested with, so that nothing has to be downloaded for a test.
    fs::copy(format!("{REPOSITORY}/Cargo.lock"), project.join("Cargo.lock")).expect("copy the lock file");

    let tested = cargo(&project, &["test", "--release"]);
    assert!(tested.contains("test result: ok. 2 passed"), "{tested}");
    cargo(&project, &["build", "--release", "--target", "wasm32-wasip2"]);
    let module = target().join("wasm32-wasip2/release/word_counts.wasm");
    let module = module.to_str().expect("is UTF-8");

    let checked = millrace(&project, &["check", "--module", module]);
    for words in [
        "application      word-counts, at_least_once\n",
        "contract         millrace:streams@0.1.0\n",
        "  reads          lines\n",
        "  writes         word-counts-counts-repartition\n",
        "  writes         counts\n",
        "  store          counts: key-value, string to long, on disk, word-counts-counts-changelog, cached\n",
        "configuration and module are sound",
    ] {
        assert!(checked.contains(words), "{words} in\n{checked}");
    }
    let described = millrace(directory.path(), &["describe", module]);
    assert!(
        described.starts_with("Topologies:\n   Sub-topology: 0\n    Source: KSTREAM-SOURCE-0000000000"),
        "{described}"
    );
    assert_eq!(millrace(&project, &["describe", "--module", module]), described);
    assert!(millrace(&project, &["describe", module, "--format", "dot"]).starts_with("digraph"));
    assert!(millrace(&project, &["describe", module, "--format", "mermaid"]).contains("subgraph"));
}

#[test]
fn what_is_there_already_is_left_alone() {
    let directory = tempfile::tempdir().expect("make a directory");
    millrace(directory.path(), &["new", "once"]);
    let again =
        Command::new(env!("CARGO_BIN_EXE_millrace")).args(["new", "once"]).current_dir(directory.path()).output();
    let again = again.expect("runs");
    assert_eq!(again.status.code(), Some(1));
    let said = String::from_utf8_lossy(&again.stderr).into_owned();
    assert_eq!(said, "error: once exists and is not empty: choose another name, or empty it\n");
}
