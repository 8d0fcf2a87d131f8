//! Which records' traces are taken up, what becomes of their headers, and what a collector on loopback is sent.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::routing::post;
use axum::{Json, Router};
use millrace_engine::record::{Header, TaskId, TopicPartition};
use serde_json::Value;

use super::Traces;

const TASK: TaskId = TaskId { subtopology: 0, partition: 1 };
const PARENT: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

type Taken = Arc<Mutex<Vec<Value>>>;

/// A collector that is not well at first.
async fn collect(State(taken): State<Taken>, headers: HeaderMap, Json(body): Json<Value>) -> StatusCode {
    assert_eq!(headers["content-type"], "application/json");
    let mut taken = taken.lock().unwrap();
    taken.push(body);
    if taken.len() == 1 { StatusCode::SERVICE_UNAVAILABLE } else { StatusCode::OK }
}

fn collector() -> (String, Taken, tokio::runtime::Runtime) {
    crate::tls::choose_provider();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let listener = runtime.block_on(tokio::net::TcpListener::bind("127.0.0.1:0")).unwrap();
    let (address, taken) = (listener.local_addr().unwrap(), Taken::default());
    let router = Router::new().route("/v1/traces", post(collect)).with_state(Arc::clone(&taken));
    runtime.spawn(async move { axum::serve(listener, router).await });
    (format!("http://{address}/"), taken, runtime)
}

fn header(key: &str, value: &str) -> Header {
    Header { index: 0, key: key.to_owned(), value: Some(value.as_bytes().to_vec()) }
}

fn text(header: &Header) -> &str {
    std::str::from_utf8(header.value.as_deref().unwrap()).unwrap()
}

fn spans(message: &Value) -> &Vec<Value> {
    message["resourceSpans"][0]["scopeSpans"][0]["spans"].as_array().unwrap()
}

#[test]
fn spans_are_sent_and_a_record_s_takes_its_parent_s_place_in_the_header() {
    let (endpoint, taken, _runtime) = collector();
    let traces = Traces::to(&endpoint, "app", "a").unwrap();
    // The first message fails, the second one says that this is over.
    for messages in 1..=2 {
        traces.ended("commit", Duration::from_millis(5), [("millrace.tasks", 3)]);
        while taken.lock().unwrap().len() < messages {
            std::thread::sleep(Duration::from_millis(1));
        }
    }
    let partition = TopicPartition::new("in", 1);
    let mut headers = [header("a", "b"), header("traceparent", PARENT)];
    let span = traces.fetched(&mut headers, TASK, &partition, 7).unwrap();
    let becomes = text(&headers[1]).to_owned();
    let mut given_up = [header("traceparent", PARENT)];
    drop(traces.fetched(&mut given_up, TASK, &partition, 8).unwrap());
    span.processed();
    traces.stop();
    traces.stop();

    let taken = taken.lock().unwrap();
    assert_eq!(taken.len(), 3, "{taken:?}");
    let resource = taken[0]["resourceSpans"][0]["resource"]["attributes"].to_string();
    assert!(resource.contains(r#"{"key":"service.name","value":{"stringValue":"app"}}"#), "{resource}");
    let commit = &spans(&taken[0])[0];
    let took = |end: &str| commit[end].as_str().unwrap().parse::<i64>().unwrap();
    assert_eq!(took("endTimeUnixNano") - took("startTimeUnixNano"), 5_000_000);
    assert_eq!((commit["name"].as_str(), commit["parentSpanId"].as_str()), (Some("commit"), Some("")));
    assert_eq!(commit["attributes"][0].to_string(), r#"{"key":"millrace.tasks","value":{"intValue":"3"}}"#);
    let [process] = &spans(&taken[2])[..] else { panic!("{taken:?}") };
    let id = process["spanId"].as_str().unwrap();
    assert_eq!(becomes, format!("00-0af7651916cd43dd8448eb211c80319c-{id}-01"));
    let said = ["name", "traceId", "parentSpanId"].map(|name| process[name].as_str().unwrap());
    assert_eq!(said, ["process 0_1", "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"]);
    assert_eq!((process["kind"].as_u64(), text(&headers[0])), (Some(5), "b"));
}

#[test]
fn what_is_not_sampled_or_no_trace_stays_as_it_is() {
    let (endpoint, taken, _runtime) = collector();
    let on = Traces::to(&endpoint, "app", "a").unwrap();
    let untouched = |traces: &Traces, value: &str| {
        let mut headers = [header("traceparent", value)];
        assert!(traces.fetched(&mut headers, TASK, &TopicPartition::new("in", 1), 7).is_none(), "{value}");
        assert_eq!(text(&headers[0]), value);
    };
    untouched(&Traces::default(), PARENT);
    for other in [
        "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00",
        "00-00000000000000000000000000000000-b7ad6b7169203331-01",
        "00-0af7651916cd43dd8448eb211c80319c-0000000000000000-01",
        "00-0AF7651916CD43DD8448EB211C80319C-b7ad6b7169203331-01",
        "00-0af7651916cd43dd8448eb211c80319c-b7ad6b71-01",
        "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01-more",
        "ff-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
        "of another kind",
        "",
    ] {
        untouched(&on, other);
    }
    let mut later = [header("traceparent", &format!("cc{}-more", &PARENT[2..]))];
    assert!(on.fetched(&mut later, TASK, &TopicPartition::new("in", 1), 7).is_some());
    assert!(on.fetched(&mut [header("a", "b")], TASK, &TopicPartition::new("in", 1), 7).is_none());
    on.stop();
    assert!(taken.lock().unwrap().is_empty());
}
