//! What is refused before anything runs, and describing.

use std::path::{Path, PathBuf};

use millrace_engine::topology::Layout;

use super::super::CodeCache;
use super::*;

/// Every occurrence of `from` in the component replaced by `to`, which is as long.
fn patched(from: &str, to: &str) -> Vec<u8> {
    assert_eq!(from.len(), to.len());
    let mut bytes = hostile().to_vec();
    let places: Vec<usize> =
        (0..bytes.len() - from.len()).filter(|&n| bytes[n..].starts_with(from.as_bytes())).collect();
    assert!(!places.is_empty(), "{from} is nowhere in the component");
    for place in places {
        bytes[place..place + to.len()].copy_from_slice(to.as_bytes());
    }
    bytes
}

fn refused(bytes: &[u8], parts: &[&str]) -> ModuleError {
    let error = Module::load(bytes, settings(&[]), None).unwrap_err();
    let message = error.to_string();
    for part in parts {
        assert!(message.contains(part), "{part:?} is missing in: {message}");
    }
    error
}

#[test]
fn what_is_no_component_is_refused() {
    let core = [0, b'a', b's', b'm', 1, 0, 0, 0];
    refused(&core, &["core WebAssembly module", "wasm32-wasip2"]);
    refused(b"", &["is empty"]);
    refused(b"#!/bin/sh", &["not a WebAssembly component"]);
    refused(&[0, b'a', b's', b'm', 9, 0, 0, 0], &["a version of WebAssembly"]);
    refused(b"\0as", &["ends after 3 bytes"]);
}

#[test]
fn a_truncated_component_is_refused() {
    let whole = hostile();
    for length in [9, 1000, whole.len() / 2, whole.len() - 1] {
        let error = refused(&whole[..length], &["truncated or damaged", "again"]);
        assert!(matches!(error, ModuleError::Damaged(_)), "{length}: {error}");
    }
}

#[test]
fn another_version_of_the_contract_is_named() {
    let bytes = patched("@0.1.0", "@0.2.0");
    let error = refused(&bytes, &["version 0.2.0", "has 0.1.0", "SDK"]);
    assert!(matches!(error, ModuleError::Version { .. }));
}

#[test]
fn another_world_is_named() {
    let empty = [0, b'a', b's', b'm', 0x0d, 0, 1, 0];
    refused(&empty, &["exports nothing", "millrace:streams/module@0.1.0"]);
    let other = patched("millrace:streams/", "somebody:streams/");
    refused(&other, &["exports somebody:streams/module@0.1.0", "not a topology"]);
}

#[test]
fn imports_that_nobody_offers_are_named() {
    let bytes = patched("wasi:cli/", "wasi:xyz/");
    let error = refused(&bytes, &["wasi:xyz/environment", "wasi:xyz/stdout", "does not offer"]);
    assert!(matches!(error, ModuleError::Imports(_)));
}

#[test]
fn a_function_the_contract_lacks_is_named() {
    refused(&patched("partition-count", "partition-colour"[..15].as_ref()), &["partition-colou"]);
}

#[test]
fn describes_its_graph() {
    let topology = module(&[]).describe().unwrap();
    assert_eq!(topology.sources[0].topics, ["in"]);
    assert_eq!(topology.processors[0].stores, ["store"]);
    assert_eq!(topology.sinks[0].topic.as_deref(), Some("out"));
    assert_eq!((&topology.stores[0].layout, topology.stores[0].format.key.as_str()), (&Layout::KeyValue, "string"));
    assert_eq!(module(&[]).digest().len(), 64);
}

#[test]
fn a_describe_that_fails_is_cut_off_and_named() {
    let check = |attack: &str, kind: Option<FaultKind>, part: &str| {
        let error = module(&[("HOSTILE_DESCRIBE", attack)]).describe().unwrap_err();
        let message = error.to_string();
        assert!(message.contains(part), "{part:?} is missing in: {message}");
        let found = if let ModuleError::Faulty(fault) = error { Some(fault.kind) } else { None };
        assert_eq!(found, kind, "{attack}");
    };
    check("err", None, "no topology today");
    check("panic", Some(FaultKind::Trap), "the record is cursed");
    check("loop", Some(FaultKind::Timeout), "longer than the 1000 ms");
    check("allocate", Some(FaultKind::Memory), "33554432 allowed");
    check("recurse", Some(FaultKind::Trap), "call stack exhausted");
}

#[test]
fn the_word_count_describes_itself() {
    let module = Module::load(&component("guest-wordcount"), settings(&[]), None).unwrap();
    let topology = module.describe().unwrap();
    assert_eq!(topology.sources[0].topics, ["input-topic"]);
    assert_eq!(topology.stores[0].name, "count-store");
}

#[test]
fn compiled_code_is_kept_and_nothing_else_is_run() {
    let (ours, others) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let cache = CodeCache::open(ours.path()).unwrap();
    let load = |cache: &CodeCache| Module::load(&hostile(), settings(&[]), Some(cache)).unwrap();
    let module = load(&cache);
    let (engine, digest) = (super::super::engine::engine().unwrap(), module.digest().to_owned());
    assert!(cache.load(&engine, &digest).is_some());
    assert_eq!(load(&cache).describe().unwrap(), module.describe().unwrap());

    let files = |directory: &Path| -> Vec<PathBuf> {
        let paths = std::fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path());
        paths.filter(|path| path.extension().is_some_and(|suffix| suffix == "cwasm")).collect()
    };
    let file = files(ours.path()).pop().unwrap();
    let sound = std::fs::read(&file).unwrap();
    let refused = |bytes: &[u8]| {
        std::fs::write(&file, bytes).unwrap();
        assert!(cache.load(&engine, &digest).is_none());
        // It is compiled, and the file put right.
        assert_eq!(load(&cache).digest(), digest);
        assert!(cache.load(&engine, &digest).is_some());
    };
    refused(b"");
    refused(&sound[..sound.len() / 2]);
    let mut flipped = sound.clone();
    flipped[sound.len() / 2] ^= 1;
    refused(&flipped);
    // Made by somebody else, or of another module.
    load(&CodeCache::open(others.path()).unwrap());
    refused(&std::fs::read(files(others.path()).pop().unwrap()).unwrap());
    let renamed = file.to_string_lossy().replace(&digest, &"0".repeat(64));
    std::fs::copy(&file, renamed).unwrap();
    assert!(cache.load(&engine, &"0".repeat(64)).is_none());
    // Where nothing can be kept, nothing is.
    assert!(CodeCache::open(&file.join("below")).is_none());
}
