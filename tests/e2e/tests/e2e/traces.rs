//! A record's trace goes through the application, and a collector is told of it, and of what an operator asks about.

use std::io::{BufRead, BufReader, Write};
use std::net::TcpListener;
use std::sync::{Arc, Mutex};
use std::thread;

use anyhow::{Context, Result, ensure};
use millrace_e2e::app::App;
use millrace_e2e::kafka::Kafka;
use millrace_e2e::records::Record;

/// Takes spans over HTTP for as long as the process of the tests lives, and keeps what it was sent.
fn collector() -> Result<(String, Arc<Mutex<String>>)> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let endpoint = format!("http://{}", listener.local_addr()?);
    let taken = Arc::<Mutex<String>>::default();
    let takes = Arc::clone(&taken);
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let takes = Arc::clone(&takes);
            thread::spawn(move || {
                let mut stream = BufReader::new(stream);
                while let Some(body) = body(&mut stream) {
                    takes.lock().expect("no thread panics with it").push_str(&body);
                    if stream.get_mut().write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").is_err() {
                        return;
                    }
                }
            });
        }
    });
    Ok((endpoint, taken))
}

/// That of the next request.
fn body(stream: &mut impl BufRead) -> Option<String> {
    let (mut length, mut line) = (0, String::new());
    loop {
        line.clear();
        stream.read_line(&mut line).ok().filter(|read| *read > 0)?;
        let lower = line.to_ascii_lowercase();
        if let Some(value) = lower.strip_prefix("content-length:") {
            length = value.trim().parse().ok()?;
        }
        if lower.trim().is_empty() {
            break;
        }
    }
    let mut body = vec![0; length];
    stream.read_exact(&mut body).ok()?;
    String::from_utf8(body).ok()
}

const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";
const PARENT: &str = "b7ad6b7169203331";

fn traceparent(record: &Record) -> Result<String> {
    let header = record.headers.iter().find(|(name, _)| name == "traceparent").context("no traceparent")?;
    Ok(String::from_utf8_lossy(header.1.as_deref().unwrap_or_default()).into_owned())
}

#[test]
fn a_record_s_trace_goes_through() -> Result<()> {
    let mut app = App::new(&Kafka::shared()?, "traces")?;
    let (endpoint, taken) = collector()?;
    app.set("otlp.endpoint", &endpoint);
    let mut instance = app.run("a")?;
    let sampled = format!("00-{TRACE}-{PARENT}-01");
    let unsampled = format!("00-{TRACE}-{PARENT}-00");
    app.write(&[
        Record::new("sampled", "1").header("traceparent", Some(sampled.as_bytes())),
        Record::new("unsampled", "1").header("traceparent", Some(unsampled.as_bytes())),
        Record::new("without", "1"),
    ])?;
    let outputs = app.outputs(3)?;
    let of = |key: &str| {
        let found = outputs.iter().find(|found| found.record.key.as_deref() == Some(key.as_bytes()));
        found.map(|found| &found.record).with_context(|| format!("no output of {key}"))
    };
    ensure!(traceparent(of("unsampled")?)? == unsampled && of("without")?.headers.is_empty(), "{outputs:?}");
    let names = traceparent(of("sampled")?)?;
    let span = names.strip_prefix(&format!("00-{TRACE}-")).and_then(|rest| rest.strip_suffix("-01"));
    let span = span.with_context(|| format!("{names} is of another trace"))?;
    ensure!(span != PARENT, "the output names the input's parent");
    // What is left is exported at the end.
    instance.stop()?;

    let taken = taken.lock().expect("no thread panics with it");
    let process = taken.split(r#"{"attributes""#).find(|part| part.contains(&format!(r#""spanId":"{span}""#)));
    let process = process.with_context(|| format!("no span {span} in {taken}"))?;
    for words in
        [format!(r#""parentSpanId":"{PARENT}""#), format!(r#""traceId":"{TRACE}""#), r#""name":"process 0_"#.into()]
    {
        ensure!(process.contains(&words), "no {words} in {process}");
    }
    ensure!(taken.matches(r#""name":"process "#).count() == 1, "others are traced, too: {taken}");
    for name in ["rebalance", "restore 0_", "commit"] {
        ensure!(taken.contains(&format!(r#""name":"{name}"#)), "no span {name} in {taken}");
    }
    ensure!(taken.contains(&format!(r#"{{"key":"service.name","value":{{"stringValue":"{}"}}}}"#, app.id)), "{taken}");
    Ok(())
}
