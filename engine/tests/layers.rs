//! Owns the layers of ARCHITECTURE.md as a test: which module may name what. Must not know what the modules do.
//!
//! It reads every path in the sources (those in `use` trees and those written out), so comments and strings may name
//! anything. Tests and the simulation are free to use files and the environment.

use std::fs;
use std::path::{Path, PathBuf};

/// What a module must not name, and why.
struct Rule {
    /// Paths that begin so, at a `::`.
    paths: &'static [&'static str],
    why: &'static str,
}

const ENGINE: Rule = Rule {
    paths: &[
        "rdkafka",
        "rdkafka_sys",
        "rocksdb",
        "wasmtime",
        "wasmtime_wasi",
        "tokio",
        "std::thread",
        "std::fs",
        "std::net",
        "std::env",
        "std::process",
        "std::time::Instant",
        "std::time::SystemTime",
    ],
    why: "the engine decides and does no I/O: take it through a trait in ports",
};

/// Foreign crates and what of ours is kept apart: path, the modules of the runtime at home with it, why.
const HOMES: &[(&[&str], &[&str], &str)] = &[
    (
        &["rdkafka", "rdkafka_sys"],
        &["kafka", "source", "sink", "module", "global", "config"],
        "Kafka's client has one home: go through kafka, source, sink, module or global",
    ),
    (&["rocksdb"], &["store"], "RocksDB has one home: go through store"),
    (&["wasmtime", "wasmtime_wasi"], &["guest"], "wasmtime has one home: go through guest"),
    (
        &["axum", "tower_http", "hyper_util", "utoipa", "utoipa_axum", "hyper_rustls", "tokio_rustls"],
        &["api"],
        "HTTP has one home: go through api",
    ),
    (&["oci_client", "docker_credential"], &["registry"], "OCI registries have one home: go through registry"),
    (
        &["reqwest"],
        &["registry", "traces", "cli"],
        "whoever is asked over HTTP is asked by registry, traces or a command",
    ),
    (&["rustls", "rustls_platform_verifier"], &["tls"], "certificates have one home: go through tls"),
    (&["crate::registry"], &["registry", "app"], "adapters don't import each other"),
    (&["crate::source"], &["source", "app"], "adapters don't import each other"),
    (&["crate::global"], &["global", "app"], "adapters don't import each other"),
    (&["crate::guest"], &["guest", "app", "cli"], "adapters don't import each other"),
    (&["crate::store"], &["store", "app", "cli"], "adapters don't import each other"),
    (&["crate::module"], &["module", "app", "cli"], "adapters don't import each other"),
    (&["crate::sink"], &["sink", "app"], "adapters don't import each other"),
    (&["crate::api"], &["api", "app"], "adapters don't import each other"),
    (
        &["std::env::var", "std::env::vars", "std::env::var_os"],
        &["config"],
        "only config reads the environment: make it a key of the configuration",
    ),
];

/// The code without comments and without what is in strings.
fn code(source: &str) -> String {
    let mut code = String::with_capacity(source.len());
    let mut rest = source;
    while let Some(next) = rest.chars().next() {
        let raw_hashes = rest.strip_prefix('r').map(|after| after.len() - after.trim_start_matches('#').len());
        let raw = raw_hashes.filter(|hashes| rest[1 + hashes..].starts_with('"'));
        let word_before = code.ends_with(|c: char| c.is_alphanumeric() || c == '_');
        let skip = if rest.starts_with("//") {
            rest.find('\n').unwrap_or(rest.len())
        } else if rest.starts_with("/*") {
            rest.find("*/").map_or(rest.len(), |end| end + 2)
        } else if let Some(hashes) = raw.filter(|_| !word_before) {
            let end = format!("\"{}", "#".repeat(hashes));
            rest[2 + hashes..].find(&end).map_or(rest.len(), |at| 2 + hashes + at + end.len())
        } else if next == '"' {
            quoted(rest)
        } else if rest.starts_with("'\"'") || rest.starts_with("'\\\"'") {
            rest[1..].find('\'').map_or(rest.len(), |end| end + 2)
        } else {
            code.push(next);
            rest = &rest[next.len_utf8()..];
            continue;
        };
        code.push(' ');
        rest = &rest[skip..];
    }
    code
}

/// Length of the string literal at the beginning.
fn quoted(text: &str) -> usize {
    let mut escaped = false;
    for (at, c) in text.char_indices().skip(1) {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            '"' => return at + 1,
            _ => {}
        }
    }
    text.len()
}

/// All paths of at least one segment; `use` trees are spread out.
fn paths(source: &str) -> Vec<String> {
    let code = code(source);
    let mut paths = Vec::new();
    for statement in code.split(';') {
        let words = statement.replace("r#", "");
        let use_at = words.rfind("use ").filter(|&at| {
            let before = words[..at].trim_end();
            before.is_empty() || before.ends_with(['}', '{', ')', ']']) || before.ends_with("pub")
        });
        match use_at {
            Some(at) => {
                written_out(&words[..at], &mut paths);
                spread("", &words[at + 4..], &mut paths);
            }
            None => written_out(&words, &mut paths),
        }
    }
    paths
}

fn spread(prefix: &str, tree: &str, paths: &mut Vec<String>) {
    let tree = tree.trim();
    if let Some((head, group)) = tree.split_once('{') {
        let (mut depth, mut begin) = (0, 0);
        let group = group.trim_end().strip_suffix('}').unwrap_or(group);
        let prefix = format!("{prefix}{}", head.trim());
        for (at, c) in group.char_indices() {
            match c {
                '{' => depth += 1,
                '}' => depth -= 1,
                ',' if depth == 0 => {
                    spread(&prefix, &group[begin..at], paths);
                    begin = at + 1;
                }
                _ => {}
            }
        }
        spread(&prefix, &group[begin..], paths);
    } else if !tree.is_empty() {
        let path = tree.split(" as ").next().unwrap_or(tree);
        paths.push(format!("{prefix}{}", path.trim()).trim_start_matches("::").to_owned());
    }
}

fn written_out(code: &str, paths: &mut Vec<String>) {
    let in_path = |c: char| c.is_alphanumeric() || c == '_' || c == ':';
    let words = code.split(|c| !in_path(c)).filter(|word| word.contains("::"));
    paths.extend(words.map(|word| word.trim_matches(':').to_owned()));
}

fn begins(path: &str, with: &str) -> bool {
    path.strip_prefix(with).is_some_and(|rest| rest.is_empty() || rest.starts_with("::"))
}

/// What of the source a module must not name.
fn violations(module: &str, source: &str, engine: bool) -> Vec<String> {
    let mut found = Vec::new();
    for path in paths(source) {
        if engine {
            let forbidden = ENGINE.paths.iter().any(|forbidden| begins(&path, forbidden));
            found.extend(forbidden.then(|| format!("{module} names {path}: {}", ENGINE.why)));
            continue;
        }
        for (named, homes, why) in HOMES {
            let at_home = homes.iter().any(|home| {
                let rest = module.strip_prefix(home);
                rest.is_some_and(|rest| rest.is_empty() || rest.starts_with(['/', '.', '_']))
            });
            if !at_home && named.iter().any(|named| begins(&path, named)) {
                found.push(format!("{module} names {path}: {why}"));
            }
        }
    }
    found
}

fn sources(directory: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(directory).unwrap_or_else(|error| panic!("read {}: {error}", directory.display())) {
        let path = entry.expect("read directory").path();
        if path.is_dir() {
            sources(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
}

/// Of a crate: the path below `src`, and the text.
fn modules(krate: &str) -> Vec<(String, String)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(krate).join("src");
    let mut files = Vec::new();
    sources(&root, &mut files);
    let modules = files.iter().map(|file| {
        let module = file.strip_prefix(&root).expect("it was found there").display().to_string().replace('\\', "/");
        (module, fs::read_to_string(file).unwrap_or_else(|error| panic!("read {}: {error}", file.display())))
    });
    let free = |module: &str| module.split('/').any(|part| matches!(part, "tests" | "tests.rs" | "sim"));
    let modules: Vec<_> = modules.filter(|(module, _)| !free(module)).collect();
    assert!(modules.len() > 5, "no sources of {krate} in {}", root.display());
    modules
}

#[test]
fn every_module_keeps_to_its_layer() {
    let mut found = Vec::new();
    for (krate, engine) in [("engine", true), ("runtime", false)] {
        for (module, source) in modules(krate) {
            found.extend(violations(&module, &source, engine).into_iter().map(|text| format!("{krate}/src/{text}")));
        }
    }
    assert!(found.is_empty(), "\n{}\n", found.join("\n"));
}

#[test]
fn what_breaks_a_layer_is_found() {
    let check = |module: &str, source: &str, engine: bool, expected: &[&str]| {
        let found = violations(module, source, engine);
        let named: Vec<_> = found.iter().map(|text| text.split(" names ").nth(1).unwrap_or("")).collect();
        let named: Vec<_> = named.iter().map(|text| text.split(": ").next().unwrap_or("")).collect();
        assert_eq!(named, expected, "{module}: {source}");
    };
    check(
        "task/mod.rs",
        "use std::{collections::{BTreeMap, BTreeSet}, fs, time::{Duration, Instant}};",
        true,
        &["std::fs", "std::time::Instant"],
    );
    check(
        "task/mod.rs",
        "fn f() { std::thread::sleep(d); } use rocksdb as db;",
        true,
        &["std::thread::sleep", "rocksdb"],
    );
    check(
        "task/mod.rs",
        "// use std::fs;\n/* tokio::spawn */ let a = \"std::fs::read \\\" std::fs::a\"; r#\"std::net::a\"#",
        true,
        &[],
    );
    check("task/mod.rs", "let quote = '\"'; std::fs::read(p); let other = '\"';", true, &["std::fs::read"]);
    check(
        "task/mod.rs",
        "pub(crate) use tokio::sync; use std::time::Duration; use crate::std_fs::x;",
        true,
        &["tokio::sync"],
    );
    let both = "use rdkafka::ClientConfig; use crate::sink::Sink;";
    check("worker/mod.rs", both, false, &["rdkafka::ClientConfig", "crate::sink::Sink"]);
    check(
        "sink/mod.rs",
        "use rdkafka::ClientConfig; use crate::{source::Source, kafka};",
        false,
        &["crate::source::Source"],
    );
    check("kafka/embedded.rs", "use rdkafka::mocking::MockCluster;", false, &[]);
    check("cli/dev.rs", "use rdkafka::mocking::MockCluster;", false, &["rdkafka::mocking::MockCluster"]);
    check("app.rs", "use crate::source::Source; std::env::var(name)", false, &["std::env::var"]);
    check("config/mod.rs", "std::env::vars()", false, &[]);
    check(
        "guest/host.rs",
        "use wasmtime::Store; #[derive(X)] pub(crate) use crate::store::Y;",
        false,
        &["crate::store::Y"],
    );
}
