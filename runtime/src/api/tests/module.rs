//! Changes over HTTP: who may, what comes through, and what is refused before it is looked at.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use serde_json::json;

use super::{facts, json, send, start, status};
use crate::api::{Denied, Facts, ModuleChange, ModuleOverview, ModuleVersion, Modules, Server, Terms};

const MOST: usize = 1000;

/// Versions in memory, by their sizes.
#[derive(Default)]
pub(super) struct Shelf(Mutex<Vec<(usize, Terms, Option<String>)>>);

impl Modules for Shelf {
    fn known(&self) -> ModuleOverview {
        let pushed = self.0.lock().unwrap();
        let version = |(index, (bytes, _, note)): (usize, &(usize, Terms, Option<String>))| ModuleVersion {
            version: index as u64 + 1,
            digest: "d".to_owned(),
            bytes: *bytes as u64,
            contract: "0.1.0".to_owned(),
            pushed_at_ms: 5,
            note: note.clone(),
            rolled_back: None,
        };
        let versions = pushed.iter().enumerate().map(version).collect();
        ModuleOverview { source: "uploaded".to_owned(), active: None, versions, instances: Vec::new() }
    }

    fn most_bytes(&self) -> usize {
        MOST
    }

    fn push(&self, component: &[u8], terms: Terms, note: Option<String>) -> Result<ModuleChange, Denied> {
        let mut pushed = self.0.lock().unwrap();
        pushed.push((component.len(), terms, note));
        Ok(ModuleChange { version: pushed.len() as u64, done: "it is active".to_owned(), differences: Vec::new() })
    }

    fn activate(&self, version: u64, _: Terms) -> Result<ModuleChange, Denied> {
        Err(Denied::Absent(format!("there is no version {version}")))
    }

    fn roll_back(&self, reason: String) -> Result<ModuleChange, Denied> {
        Err(Denied::Conflict(format!("nothing to go back to because of {reason}")))
    }
}

/// A server whose changes need the token in a file.
struct Guarded {
    server: Server,
    shelf: Arc<Shelf>,
    file: PathBuf,
    _directory: tempfile::TempDir,
}

fn guarded() -> Guarded {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("token");
    std::fs::write(&file, "s3cret\n").unwrap();
    let shelf = Arc::new(Shelf::default());
    let server = start(Facts { token: Some(file.clone()), modules: Arc::clone(&shelf) as _, ..facts(&status()) });
    Guarded { server, shelf, file, _directory: directory }
}

const RIGHT: &str = "Authorization: Bearer s3cret\r\n";

#[test]
fn a_change_needs_the_token_that_is_in_the_file_now() {
    let guarded = guarded();
    let push = |headers: &str| send(&guarded.server, "PUT /v1/module", headers, b"wasm");
    for (headers, challenge) in [
        ("", "www-authenticate: Bearer realm=\"millrace\"\r\n"),
        ("Authorization: Bearer s3cre\r\n", "error=\"invalid_token\""),
        ("Authorization: Bearer s3crets\r\n", "error=\"invalid_token\""),
        ("Authorization: Basic s3cret\r\n", "error=\"invalid_token\""),
        ("Authorization: s3cret\r\n", "error=\"invalid_token\""),
    ] {
        let (code, head, body) = push(headers);
        assert_eq!((code, head.contains(challenge)), (401, true), "{headers}: {head}");
        assert!(json(&body)["error"].as_str().unwrap().contains("http.token.file"), "{body}");
    }
    assert_eq!(push(RIGHT).0, 200);
    std::fs::write(&guarded.file, "another").unwrap();
    assert_eq!((push(RIGHT).0, push("Authorization: bearer another\r\n").0), (401, 200));
    // What can't be a token lets nobody in.
    for text in ["", "\n", "two words"] {
        std::fs::write(&guarded.file, text).unwrap();
        let codes =
            ["Authorization: Bearer \r\n", "Authorization: Bearer two words\r\n", ""].map(|header| push(header).0);
        assert_eq!(codes, [500, 500, 500], "{text:?}");
    }
    // Who sends a lot is told, too.
    let large = vec![0; 4 << 20];
    assert_eq!(send(&guarded.server, "PUT /v1/module", "", &large).0, 500);
    std::fs::write(&guarded.file, "another").unwrap();
    assert_eq!(send(&guarded.server, "PUT /v1/module", RIGHT, &large).0, 401);
    assert_eq!(guarded.shelf.0.lock().unwrap().len(), 2);
    guarded.server.stop();
}

#[test]
fn without_a_token_nothing_can_be_changed() {
    let server = start(facts(&status()));
    for request in ["PUT /v1/module", "POST /v1/module/activate?version=1", "POST /v1/module/rollback"] {
        let (code, _, body) = send(&server, request, RIGHT, b"");
        assert!(code == 403 && body.contains("set http.token.file"), "{request}: {code} {body}");
    }
    server.stop();
}

#[test]
fn a_push_comes_through_with_what_was_asked_for() {
    let guarded = guarded();
    let request = "PUT /v1/module?allow=store:a,%20input:b&canary=2&note=by%20city";
    let (code, _, body) = send(&guarded.server, request, RIGHT, &[7; MOST]);
    assert_eq!((code, json(&body)), (200, json!({"version": 1, "done": "it is active", "differences": []})));
    let terms = Terms { allow: vec!["store:a".to_owned(), "input:b".to_owned()], canary: Some(2) };
    assert_eq!(*guarded.shelf.0.lock().unwrap(), [(MOST, terms, Some("by city".to_owned()))]);
    let shown = json(&send(&guarded.server, "GET /v1/module", "", b"").2);
    assert_eq!((&shown["source"], &shown["versions"][0]["bytes"]), (&json!("uploaded"), &json!(MOST)));
    for (request, code, word) in [
        ("PUT /v1/module?canary=0", 400, "1 or more"),
        ("PUT /v1/module?canary=some", 400, "canary"),
        ("POST /v1/module/activate", 400, "version"),
        ("POST /v1/module/activate?version=7", 404, "no version 7"),
        ("POST /v1/module/rollback?reason=it%20fails", 409, "because of it fails"),
    ] {
        let (found, _, body) = send(&guarded.server, request, RIGHT, b"");
        assert!(found == code && body.contains(word), "{request}: {found} {body}");
    }
    guarded.server.stop();
}

/// Said before it is read if its length is announced, and where the limit is reached if it is not.
#[test]
fn a_component_that_is_too_large_is_refused() {
    let guarded = guarded();
    let announced = format!("{RIGHT}Content-Length: {}\r\n", MOST + 1);
    let (code, _, body) = send(&guarded.server, "PUT /v1/module", &announced, b"");
    assert!(code == 413 && body.contains("keep data in topics"), "{code} {body}");

    let mut stream = TcpStream::connect(guarded.server.address()).unwrap();
    write!(stream, "PUT /v1/module HTTP/1.1\r\nHost: here\r\n{RIGHT}Transfer-Encoding: chunked\r\n\r\n").unwrap();
    // It is never ended: the answer comes at the limit.
    for _ in 0..=MOST / 100 {
        write!(stream, "64\r\n{}\r\n", "x".repeat(100)).unwrap();
    }
    let mut answer = [0; 12];
    stream.read_exact(&mut answer).unwrap();
    assert_eq!(&answer, b"HTTP/1.1 413");
    assert!(guarded.shelf.0.lock().unwrap().is_empty());
    guarded.server.stop();
}

/// Only one component is held at a time, and one that stops coming lets the next one in.
#[test]
fn of_two_changes_at_once_one_has_to_come_again() {
    let guarded = guarded();
    let mut slow = TcpStream::connect(guarded.server.address()).unwrap();
    write!(slow, "PUT /v1/module HTTP/1.1\r\nHost: here\r\n{RIGHT}Content-Length: 4\r\nExpect: 100-continue\r\n\r\n")
        .unwrap();
    let mut answer = [0; 25];
    slow.read_exact(&mut answer).unwrap();
    assert_eq!(&answer, b"HTTP/1.1 100 Continue\r\n\r\n");
    let (code, head, body) = send(&guarded.server, "POST /v1/module/rollback", RIGHT, b"");
    assert!(code == 503 && body.contains("another change") && head.contains("retry-after"), "{code} {head} {body}");
    drop(slow);
    let again = std::iter::repeat_with(|| send(&guarded.server, "PUT /v1/module", RIGHT, b"wasm").0);
    assert_eq!(again.into_iter().find(|code| *code != 503), Some(200));
    guarded.server.stop();
}
