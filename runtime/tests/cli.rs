//! The binary from outside: what it prints, where, and how it ends.

use std::path::Path;
use std::process::{Command, Output};

/// Runs it in `directory` with `variables` as its only environment.
fn millrace(directory: &Path, arguments: &[&str], variables: &[(&str, &str)]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_millrace"));
    command.args(arguments).current_dir(directory).env_clear().envs(variables.iter().copied());
    command.output().expect("runs")
}

fn out(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn err(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

const CONFIG: &str = "application.id = 'a'\nmodule.source = 'm.wasm'\nkafka.bootstrap.servers = 'k'\n";

#[test]
fn a_wrong_configuration_is_exit_code_2_and_a_line_for_each_fault() {
    let directory = tempfile::tempdir().expect("make a directory");
    std::fs::write(directory.path().join("f.toml"), format!("{CONFIG}colour = 1\nnum.stream.threads = 0\n"))
        .expect("write");
    let found = millrace(directory.path(), &["config", "-c", "f.toml"], &[]);
    assert_eq!((found.status.code(), out(&found).as_str()), (Some(2), ""));
    let lines: Vec<String> = err(&found).lines().map(str::to_owned).collect();
    assert_eq!(lines.len(), 2, "{lines:?}");
    assert!(lines[0].starts_with("error: f.toml:4: unknown key `colour`"), "{lines:?}");
    assert!(lines[1].starts_with("error: f.toml:5: `num.stream.threads` must be"), "{lines:?}");
}

#[test]
fn a_wrong_command_line_is_exit_code_2() {
    let here = Path::new(".");
    for arguments in [&["bogus"][..], &["config", "--bogus"], &["config", "--log-format", "xml"], &[]] {
        let found = millrace(here, arguments, &[]);
        assert_eq!(found.status.code(), Some(2), "{arguments:?}: {}", err(&found));
    }
    let version = millrace(here, &["--version"], &[]);
    assert_eq!(version.status.code(), Some(0));
    assert!(out(&version).starts_with("millrace 0."));
}

#[test]
fn the_file_is_named_by_option_by_variable_or_by_itself() {
    let directory = tempfile::tempdir().expect("make a directory");
    let application = |arguments: &[&str], variables: &[(&str, &str)]| {
        let found = millrace(directory.path(), arguments, variables);
        out(&found)
            .lines()
            .next()
            .map_or_else(|| err(&found), |line| line.split_whitespace().nth(1).unwrap_or("").to_owned())
    };
    let missing = application(&["config"], &[]);
    assert!(missing.starts_with("error: millrace.toml: cannot be read: No such file"), "{missing}");
    for name in ["millrace", "variable", "option"] {
        let text = CONFIG.replace("'a'", &format!("'{name}'"));
        std::fs::write(directory.path().join(format!("{name}.toml")), text).expect("write");
    }
    let variable = [("MILLRACE_CONFIG", "variable.toml")];
    assert_eq!(application(&["config"], &[]), "millrace");
    assert_eq!(application(&["config"], &variable), "variable");
    assert_eq!(application(&["config", "-c", "option.toml"], &variable), "option");
}

#[test]
fn warnings_go_to_the_log_in_the_format_asked_for() {
    let directory = tempfile::tempdir().expect("make a directory");
    std::fs::write(directory.path().join("millrace.toml"), CONFIG).expect("write");
    let found = millrace(directory.path(), &["config", "--log-format", "json"], &[("MILLRACE_SOMETHING_ELSE", "1")]);
    assert_eq!(found.status.code(), Some(0));
    assert!(out(&found).starts_with("application.id"), "{}", out(&found));
    let log = err(&found);
    assert!(log.starts_with('{') && log.contains("MILLRACE_SOMETHING_ELSE overrides no key"), "{log}");
}

#[test]
fn a_module_that_is_none_is_refused_with_its_name_and_the_remedy() {
    let directory = tempfile::tempdir().expect("make a directory");
    std::fs::write(directory.path().join("millrace.toml"), CONFIG).expect("write");
    let refused = |bytes: Option<&[u8]>, command: &[&str]| {
        if let Some(bytes) = bytes {
            std::fs::write(directory.path().join("m.wasm"), bytes).expect("write");
        }
        let found = millrace(directory.path(), command, &[]);
        assert_eq!((found.status.code(), out(&found).as_str()), (Some(1), ""), "{}", err(&found));
        err(&found)
    };
    let missing =
        "error: read module m.wasm; set module.source, or MILLRACE_MODULE_SOURCE, to the built .wasm: No such file";
    let core = "error: load module m.wasm: it is a core WebAssembly module, not a component; build it for the target wasm32-wasip2";
    for command in [&["check"][..], &["describe"], &["describe", "m.wasm"]] {
        let said = refused(None, command);
        assert!(said.starts_with(missing), "{said}");
    }
    for command in [&["check"][..], &["describe"], &["describe", "m.wasm"]] {
        let said = refused(Some(b"\0asm\x01\0\0\0"), command);
        assert!(said.starts_with(core), "{said}");
    }
}

#[test]
fn describe_takes_a_configuration_or_a_module() {
    let found = millrace(Path::new("."), &["describe", "-c", "f.toml", "m.wasm"], &[]);
    assert_eq!(found.status.code(), Some(2));
}

#[test]
fn shells_complete_and_manuals_name_every_command() {
    let directory = tempfile::tempdir().expect("make a directory");
    for shell in ["bash", "zsh", "fish"] {
        let found = millrace(directory.path(), &["completions", shell], &[]);
        assert!(found.status.success() && out(&found).contains("state"), "{shell}: {}", err(&found));
    }
    let found = millrace(directory.path(), &["man", "."], &[]);
    assert!(found.status.success(), "{}", err(&found));
    for page in ["millrace.1", "millrace-run.1", "millrace-state-get.1"] {
        let text = std::fs::read_to_string(directory.path().join(page)).expect(page);
        assert!(text.contains(".SH SYNOPSIS"), "{page}");
    }
    let found = millrace(directory.path(), &["man", "nowhere"], &[]);
    assert!(!found.status.success() && err(&found).contains("nowhere"), "{}", err(&found));
}
