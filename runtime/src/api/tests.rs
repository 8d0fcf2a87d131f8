//! The server as a client sees it, with a status that a test writes.

mod module;
mod queries;

use std::collections::BTreeSet;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::path::Path;
use std::sync::Arc;

use millrace_engine::ports::FaultKind;
use millrace_engine::record::{Offset, TaskId, TopicPartition};

use super::{Catalogs, Facts, Server};
use crate::status::{Identity, Stage, State, Status, Worker};

const TASK: TaskId = TaskId { subtopology: 0, partition: 1 };

fn status() -> Arc<Status> {
    Arc::new(Status::new(Identity {
        application_id: "counts-app".to_owned(),
        instance: "pod-1".to_owned(),
        threads: 2,
    }))
}

fn serve(status: &Arc<Status>) -> Server {
    serve_facts(status, Arc::default(), None)
}

fn serve_facts(status: &Arc<Status>, catalogs: Arc<Catalogs>, peers: Option<String>) -> Server {
    let facts = facts(status);
    start(Facts { peers, catalogs, ..facts })
}

fn facts(status: &Arc<Status>) -> Facts {
    let (status, modules) = (Arc::clone(status), Arc::new(module::Shelf::default()));
    Facts { status, acceptable_lag: 10, peers: None, tls: None, token: None, modules, catalogs: Arc::default() }
}

fn start(facts: Facts) -> Server {
    Server::start(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)), facts).expect("listens")
}

/// Status and body of an answer.
fn ask(server: &Server, request: &str) -> (u16, String) {
    let (code, _, body) = send(server, request, "", b"");
    (code, body)
}

/// Status, headers and body of an answer. `headers` are lines with their ends.
fn send(server: &Server, request: &str, headers: &str, body: &[u8]) -> (u16, String, String) {
    let mut stream = TcpStream::connect(server.address()).expect("connects");
    let length =
        if headers.contains("Content-Length") { String::new() } else { format!("Content-Length: {}\r\n", body.len()) };
    let head = format!("{request} HTTP/1.1\r\nHost: here\r\nConnection: close\r\n{length}{headers}\r\n");
    stream.write_all(&[head.as_bytes(), body].concat()).expect("asks");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("answers");
    let (head, body) = answer.split_once("\r\n\r\n").expect("a head and a body");
    let code = head.split(' ').nth(1).and_then(|code| code.parse().ok()).expect("a status code");
    (code, head.to_owned(), body.to_owned())
}

fn json(text: &str) -> serde_json::Value {
    serde_json::from_str(text).unwrap_or_else(|error| panic!("{error}: {text}"))
}

#[test]
fn probes_say_why_not() {
    let status = status();
    let server = serve(&status);
    assert_eq!(ask(&server, "GET /healthz"), (200, "ok\n".to_owned()));
    assert_eq!(ask(&server, "GET /readyz"), (503, "waiting for brokers and source topics\n".to_owned()));
    status.place(State::Running, &[(TASK, Stage::Running(0))].into());
    assert_eq!(ask(&server, "GET /readyz"), (200, "ready\n".to_owned()));
    server.stop();
}

#[test]
fn metrics_have_names_units_and_values() {
    let status = status();
    status.place(State::Running, &[(TASK, Stage::Running(1))].into());
    let task = status.task(TASK);
    task.processed(3, 30, 1);
    task.looked_up(5, 2);
    task.failed(FaultKind::Trap);
    let input = TopicPartition::new("in", 1);
    task.position(&input, Offset(3));
    task.end(&input, Offset(10));
    status.workers.commit_latency.get_or_create(&Worker { worker: 1 }).observe(0.002);
    let server = serve(&status);
    let (code, text) = ask(&server, "GET /metrics");
    assert_eq!(code, 200);
    for line in [
        "# TYPE millrace_process_records counter",
        "# UNIT millrace_process_bytes bytes",
        "millrace_process_records_total{task=\"0_1\"} 3.0",
        "millrace_process_bytes_total{task=\"0_1\"} 30.0",
        "millrace_records_lag{task=\"0_1\",topic=\"in\",partition=\"1\"} 7.0",
        "millrace_store_cache_hits_total{task=\"0_1\"} 5.0",
        "millrace_store_cache_misses_total{task=\"0_1\"} 2.0",
        "millrace_faults_total{task=\"0_1\",fault=\"trap\"} 1.0",
        "millrace_state{state=\"RUNNING\"} 1.0",
        "millrace_state{state=\"CREATED\"} 0.0",
        "millrace_paused 0.0",
        "millrace_tasks{state=\"RUNNING\"} 1.0",
        "millrace_alive_stream_threads 2.0",
        "millrace_commit_latency_seconds_bucket{le=\"0.003\",worker=\"1\"} 1",
        "# EOF",
    ] {
        assert!(text.lines().any(|found| found == line), "no line {line} in\n{text}");
    }
    server.stop();
}

#[test]
fn tasks_are_told_with_what_is_not_known_as_null() {
    let status = status();
    status.place(State::Rebalancing, &[(TASK, Stage::Restoring)].into());
    status.task(TASK).position(&TopicPartition::new("in", 1), Offset(3));
    let server = serve(&status);
    let found = json(&ask(&server, "GET /v1/tasks").1);
    assert_eq!((&found["application_id"], &found["instance"]), (&"counts-app".into(), &"pod-1".into()));
    let task = &found["tasks"][0];
    assert_eq!((&task["id"], &task["state"]), (&"0_1".into(), &"RESTORING".into()));
    assert!(task["worker"].is_null() && task["remaining_records"].is_null(), "{task}");
    let input = serde_json::json!({ "topic": "in", "partition": 1, "position": 3, "end": null, "lag": null });
    assert_eq!(task["inputs"], serde_json::json!([input]));
    server.stop();
}

#[test]
fn lines_of_the_module_are_turned_page_by_page() {
    let status = status();
    for number in 1..=3 {
        status.guest_log.add(TASK, "abc", "stderr", &format!("line {number}"));
    }
    let server = serve(&status);
    let log = json(&ask(&server, "GET /v1/logs?before=3&limit=1").1);
    let line = &log["lines"][0];
    assert_eq!((&log["instance"], &log["oldest"], &log["newest"]), (&"pod-1".into(), &1.into(), &3.into()));
    assert_eq!((&line["number"], &line["task"], &line["stream"]), (&2.into(), &"0_1".into(), &"stderr".into()));
    assert_eq!((&line["text"], &line["module"]), (&"line 2".into(), &"abc".into()));
    for wrong in ["limit=0", "limit=501", "after=x"] {
        assert_eq!(ask(&server, &format!("GET /v1/logs?{wrong}")).0, 400, "{wrong}");
    }
    server.stop();
}

/// What the description says is there, and what is not there is refused in the same form.
#[test]
fn every_path_of_the_description_answers() {
    let server = serve(&status());
    let description = json(&ask(&server, "GET /v1/openapi.json").1);
    let paths = description["paths"].as_object().expect("paths");
    assert!(paths.len() >= 4, "{paths:?}");
    for (path, operations) in paths {
        let asked = path.replace("{store}", "counts").replace("{key}", "a");
        for (method, operation) in operations.as_object().expect("operations") {
            let (code, body) = ask(&server, &format!("{} {asked}", method.to_uppercase()));
            assert!(operation["responses"][code.to_string()].is_object(), "{method} {path}: {code} {body}");
            // Whatever changes something is kept behind the token.
            assert_eq!(method != "get", operation["security"].is_array(), "{method} {path}");
            assert_eq!(method != "get", code == 403, "{method} {path}: {code} {body}");
        }
    }
    let (code, body) = ask(&server, "GET /nothing");
    assert_eq!((code, json(&body)["error"].is_string()), (404, true));
    let (code, body) = ask(&server, "POST /v1/tasks");
    assert_eq!((code, json(&body)["error"].is_string()), (405, true));
    server.stop();
}

/// The names of all metrics as they are served.
fn served() -> BTreeSet<String> {
    let status = status();
    // As a worker does when it starts.
    drop(status.workers.process_latency.get_or_create(&Worker { worker: 0 }));
    drop(status.workers.commit_latency.get_or_create(&Worker { worker: 0 }));
    let server = serve(&status);
    let (_, text) = ask(&server, "GET /metrics");
    server.stop();
    let counter = |name: &str, kind: &str| format!("{name}{}", if kind == "counter" { "_total" } else { "" });
    let types = text.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split_once(' '));
    types.map(|(name, kind)| counter(name, kind)).collect()
}

fn document(name: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs").join(name);
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("read {}: {error}", path.display()))
}

/// `docs/operations.md` explains every metric, and none that does not exist.
#[test]
fn every_metric_is_in_the_documentation() {
    let documentation = document("operations.md");
    let rows = documentation.lines().filter_map(|line| line.strip_prefix("| `millrace_")?.split('`').next());
    let documented: BTreeSet<String> = rows.map(|name| format!("millrace_{name}")).collect();
    assert_eq!(served(), documented);
}

#[test]
fn the_dashboard_and_the_alerts_ask_for_metrics_that_exist() {
    let served = served();
    json(&document("monitoring/grafana.json"));
    for name in ["monitoring/grafana.json", "monitoring/alerts.yaml"] {
        let text = document(name);
        let words = text.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
        let asked: BTreeSet<&str> = words.filter(|word| word.starts_with("millrace_")).collect();
        assert!(asked.len() > 5, "{asked:?}");
        for metric in asked {
            let of_histogram = ["_bucket", "_sum", "_count"].iter().find_map(|suffix| metric.strip_suffix(suffix));
            assert!(served.contains(of_histogram.unwrap_or(metric)), "{name} asks for {metric}");
        }
    }
}
