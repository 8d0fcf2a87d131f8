//! Cases for a module, run without a broker.

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, ensure};
use millrace_e2e::setting;

/// Exit code, and what was printed: to standard output, and to the other one.
fn test(module: &str, cases: &[&Path], options: &[&str]) -> Result<(Option<i32>, String, String)> {
    let mut command = Command::new(setting::millrace()?);
    command.env_clear().arg("test").args(options).arg(setting::module(module)?).args(cases);
    let output = command.output().context("run millrace test")?;
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    Ok((output.status.code(), text(&output.stdout), text(&output.stderr)))
}

/// A case of the given text, which ends with this exit code and in these words.
fn check(module: &str, case: &str, code: i32, words: &[&str]) -> Result<()> {
    let directory = tempfile::tempdir()?;
    let path = directory.path().join("case.toml");
    fs::write(&path, case)?;
    let (found, out, err) = test(module, &[&path], &[])?;
    ensure!(found == Some(code), "{found:?}, not {code}:\n{out}{err}");
    for word in words {
        ensure!(out.contains(word) || err.contains(word), "no word of \"{word}\":\n{out}{err}");
    }
    Ok(())
}

#[test]
fn the_reference_passes_its_case() -> Result<()> {
    let cases = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../guest-wordcount/cases");
    let (code, out, err) = test("guest-wordcount", &[&cases], &[])?;
    ensure!(code == Some(0) && out.ends_with("counts.toml\n1 passed, 0 failed\n"), "{code:?}\n{out}{err}");
    let (code, out, _) = test("guest-wordcount", &[&cases], &["--json"])?;
    ensure!(code == Some(0) && out.contains("\"passed\":true"), "{code:?} {out}");
    Ok(())
}

#[test]
fn a_global_table_is_filled_before_what_follows() -> Result<()> {
    let cases = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples/billing/cases");
    let (code, out, err) = test("example-billing", &[&cases], &[])?;
    ensure!(code == Some(0) && out.ends_with("billing.toml\n1 passed, 0 failed\n"), "{code:?}\n{out}{err}");
    Ok(())
}

#[test]
fn a_versioned_table_is_asked_for_the_past() -> Result<()> {
    let cases = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples/trades/cases");
    let (code, out, err) = test("example-trades", &[&cases], &[])?;
    ensure!(code == Some(0) && out.ends_with("trades.toml\n1 passed, 0 failed\n"), "{code:?}\n{out}{err}");
    Ok(())
}

#[test]
fn examples_do_what_their_cases_say() -> Result<()> {
    for name in ["sensors", "support"] {
        let cases = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("../../examples/{name}/cases"));
        let (code, out, err) = test(&format!("example-{name}"), &[&cases], &[])?;
        ensure!(code == Some(0) && out.ends_with("1 passed, 0 failed\n"), "{code:?}\n{out}{err}");
    }
    Ok(())
}

#[test]
fn what_differs_is_shown_with_its_file_and_step() -> Result<()> {
    let case = "\
[[step]]
input = [{ key = 'a', value = '' }]

[[step]]
name = 'twice'
input = [{ key = 'a', value = '' }, { key = 'b', value = '' }]
output = [{ key = 'a', value = '1' }, { key = 'a', value = '3' }, { key = 'b', value = '1' }]
stores.count-store = { a = 2, b = 7, c = 1 }
";
    let output = "  output to counts-topic differs (- expected, + found):
      \"a\" = \"1\"
    - \"a\" = \"3\"
    + \"a\" = \"2\"
      \"b\" = \"1\"
";
    let store = "    - \"b\" = 7\n    - \"c\" = 1\n    + \"b\" = 1\n";
    check("guest-wordcount", case, 1, &["case.toml:4: step 2, twice\n", output, store, "error: 1 of 1 cases failed"])?;
    // What no step names is a difference, too.
    let case = "[[step]]\noutput = []\n[[step]]\ninput = [{ key = 'a', value = '' }]\n";
    check("guest-wordcount", case, 1, &["after the last step", "+ \"a\" = \"1\""])
}

#[test]
fn what_else_a_record_has_is_compared_if_it_is_named() -> Result<()> {
    let case = "\
partitions = 4
start = 2026-11-23T15:00:00Z

[[step]]
input = [
    { key = 'a', value = '', headers = { trace = 'x' } },
    { key = 'b', value = '', timestamp = 7, partition = 3 },
]
output = [
    { key = 'a', value = '1', timestamp = 2026-11-23T15:00:00Z, headers = { trace = 'x' } },
    { key = 'b', value = '1', timestamp = 7 },
]
stores.count-store = [{ key = 'a', value = 1 }, { key = 'b', value = 1, timestamp = 7 }]
";
    check("guest-wordcount", case, 0, &["1 passed"])?;
    check(
        "guest-wordcount",
        &case.replace("timestamp = 7 },\n]\nst", "timestamp = 8 },\n]\nst"),
        1,
        &["timestamp 8", "timestamp 7"],
    )
}

#[test]
fn the_clock_is_the_case_s() -> Result<()> {
    let case = "\
start = 1000

[[step]]
input = [{ value = 'schedule 60000' }]
output = [{ value = '0' }]

[[step]]
advance = '59s'
output = []

[[step]]
advance = 1000
output = [{ value = 'schedule 0 at 61000' }]
";
    check("guest-hostile", case, 0, &["1 passed"])
}

#[test]
fn a_module_that_fails_fails_the_case() -> Result<()> {
    let case = "\
env = { COUNTS_MODE = 'faults' }
[[step]]
input = [{ key = 'a', value = 'err' }]
stores.count-store = {}
";
    check("guest-counts", case, 1, &["case.toml:2: step 1", "the module failed", "refused"])
}

#[test]
fn a_bad_case_is_named_and_nothing_is_run() -> Result<()> {
    let wrong = |case: &str, words: &[&str]| check("guest-wordcount", case, 2, words);
    wrong("[[step]]\noutputs = []\n", &["case.toml:2: unknown field `outputs`"])?;
    wrong(
        "[[step]]\ninput = [{ topic = 'x' }]\noutput = []\n",
        &["case.toml:1: the topology does not read topic x; it reads input-topic"],
    )?;
    wrong("[[step]]\noutput = [{ topic = 'x' }]\n", &["does not write topic x; it writes counts-topic"])?;
    wrong("[[step]]\nstores.sums = {}\n", &["stores.sums: there is no such store; there are: count-store"])?;
    wrong("[[step]]\nstores.count-store = { a = 'x' }\n", &["stores.count-store: `\"x\"` is no long"])?;
    wrong("[[step]]\ninput = [{ key = 1 }]\noutput = []\n", &["key for input-topic: `1` is no string"])?;
    wrong("topics.x = {}\n[[step]]\noutput = []\n", &["topics.x: the topology neither reads nor writes it"])?;
    wrong(
        "topics.input-topic.key = 'avro'\n[[step]]\noutput = []\n",
        &["`avro` is no format; there are string, long"],
    )?;
    let (code, _, err) = test("guest-wordcount", &[Path::new("/nowhere.toml")], &[])?;
    ensure!(code == Some(2) && err.contains("/nowhere.toml: No such file"), "{code:?} {err}");
    Ok(())
}
