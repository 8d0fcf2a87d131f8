//! The way to the collector: a queue, and a thread that sends what is in it. Nobody waits for it: what does not fit is
//! dropped and counted. Must not know what spans are about.

use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::Context;
use serde_json::{Value, json};

use super::span::{Attribute, Span};

/// Spans that wait, and of one message: a few hundred kilobytes.
const QUEUE: usize = 4_096;
const BATCH: usize = 512;
/// How long spans are collected for a message.
const INTERVAL: Duration = Duration::from_secs(1);
/// How long a collector may take.
const TIMEOUT: Duration = Duration::from_secs(5);

enum Message {
    Span(Span),
    Stop,
}

pub(super) struct Export {
    queue: SyncSender<Message>,
    shared: Arc<Shared>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

#[derive(Debug, Default)]
struct Shared {
    dropped: AtomicU64,
    /// What there is is sent, unless the collector fails, and no more.
    ends: AtomicBool,
}

impl fmt::Debug for Export {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Export").field("shared", &self.shared).finish_non_exhaustive()
    }
}

impl Export {
    pub(super) fn start(endpoint: &str, application_id: &str, instance: &str) -> anyhow::Result<Self> {
        let url = format!("{}/v1/traces", endpoint.trim_end_matches('/'));
        let doing = || format!("export traces to {url}, as otlp.endpoint says");
        let client = reqwest::Client::builder().timeout(TIMEOUT).build().with_context(doing)?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().with_context(doing)?;
        let (queue, spans) = sync_channel(QUEUE);
        let shared = Arc::<Shared>::default();
        let resource = [
            ("service.name", application_id),
            ("service.instance.id", instance),
            ("service.version", env!("CARGO_PKG_VERSION")),
        ];
        let resource = resource.map(|(name, value)| attribute(name, &Attribute::Text(value.to_owned())));
        let resource = json!({ "attributes": resource });
        let sender = Sender { url: url.clone(), client, runtime, resource, shared: Arc::clone(&shared), fails: false };
        let thread = std::thread::Builder::new().name("traces".to_owned());
        let thread = thread.spawn(move || sender.run(&spans)).with_context(doing)?;
        Ok(Self { queue, shared, thread: Mutex::new(Some(thread)) })
    }

    pub(super) fn take(&self, span: Span) {
        if self.queue.try_send(Message::Span(span)).is_err() {
            self.shared.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Sends what there is, and ends.
    pub(super) fn stop(&self) {
        let thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner).take();
        self.shared.ends.store(true, Ordering::Relaxed);
        // Without room for it the thread is awake.
        let _ = self.queue.try_send(Message::Stop);
        if let Some(thread) = thread
            && thread.join().is_err()
        {
            tracing::error!("the thread of traces panicked; its message is above");
        }
    }
}

struct Sender {
    url: String,
    client: reqwest::Client,
    runtime: tokio::runtime::Runtime,
    resource: Value,
    shared: Arc<Shared>,
    /// The last message was not taken.
    fails: bool,
}

impl Sender {
    fn run(mut self, spans: &Receiver<Message>) {
        let mut goes_on = true;
        while goes_on {
            let mut batch = Vec::new();
            let mut due = None;
            while goes_on && batch.len() < BATCH {
                // The first span sets the time.
                let wait = due.map_or(INTERVAL, |due: Instant| due.saturating_duration_since(Instant::now()));
                match spans.recv_timeout(wait) {
                    Ok(Message::Span(span)) => {
                        batch.push(span);
                        due.get_or_insert_with(|| Instant::now() + INTERVAL);
                    }
                    Ok(Message::Stop) | Err(RecvTimeoutError::Disconnected) => goes_on = false,
                    Err(RecvTimeoutError::Timeout) => {
                        goes_on = !self.shared.ends.load(Ordering::Relaxed);
                        break;
                    }
                }
            }
            if !batch.is_empty() {
                self.send(&batch);
                goes_on &= !(self.fails && self.shared.ends.load(Ordering::Relaxed));
            }
        }
    }

    fn send(&mut self, batch: &[Span]) {
        let spans: Vec<Value> = batch.iter().map(span).collect();
        let scope = json!({ "scope": { "name": "millrace" }, "spans": spans });
        let body = json!({ "resourceSpans": [{ "resource": self.resource, "scopeSpans": [scope] }] });
        let request = self.client.post(&self.url).header("content-type", "application/json").body(body.to_string());
        // Its clock is the runtime's, also where it is made.
        let answered = self.runtime.block_on(async { request.send().await });
        let answered = answered.and_then(reqwest::Response::error_for_status);
        let failed = std::mem::replace(&mut self.fails, answered.is_err());
        match answered {
            Ok(_) if failed => {
                let dropped = self.shared.dropped.swap(0, Ordering::Relaxed);
                tracing::info!(url = self.url, dropped, "traces are exported again");
            }
            Ok(_) => {}
            Err(error) => {
                self.shared.dropped.fetch_add(batch.len() as u64, Ordering::Relaxed);
                if !failed {
                    let error = error.without_url();
                    tracing::warn!(url = self.url, %error, "traces can't be exported; spans are dropped until they can");
                }
            }
        }
    }
}

/// OTLP's JSON: ids in hexadecimal, numbers of 64 bits as text.
fn span(span: &Span) -> Value {
    let nanos = |time: SystemTime| time.duration_since(UNIX_EPOCH).unwrap_or_default().as_nanos().to_string();
    let attributes: Vec<Value> = span.attributes.iter().map(|(name, value)| attribute(name, value)).collect();
    json!({
        "traceId": span.trace.to_string(),
        "spanId": span.id.to_string(),
        "parentSpanId": span.parent.map(|parent| parent.to_string()).unwrap_or_default(),
        "name": span.name,
        "kind": span.kind as u8,
        "startTimeUnixNano": nanos(span.began),
        "endTimeUnixNano": nanos(span.ended),
        "attributes": attributes,
    })
}

fn attribute(name: &str, value: &Attribute) -> Value {
    let value = match value {
        Attribute::Text(text) => json!({ "stringValue": text }),
        Attribute::Count(count) => json!({ "intValue": count.to_string() }),
    };
    json!({ "key": name, "value": value })
}
