//! What an operator asks a running instance over HTTP.

use anyhow::{Context, Result, ensure};
use millrace_e2e::app::App;
use millrace_e2e::http;
use millrace_e2e::kafka::Kafka;
use millrace_e2e::records::Record;
use millrace_e2e::{topics, wait};

#[test]
fn an_instance_tells_its_health_its_metrics_and_its_tasks() -> Result<()> {
    let mut app = App::without_topics(&Kafka::shared()?, "operate")?;
    app.set("http.listen", "127.0.0.1:0");
    let mut process = app.start("a")?;
    let address = http::address(&process)?;
    // Its topics are not there yet: it lives, and can't be relied upon.
    ensure!(http::get(&address, "/healthz")?.0 == 200);
    let (code, why) = http::get(&address, "/readyz")?;
    ensure!(code == 503 && why.contains("waiting for brokers and source topics"), "{code} {why}");

    for topic in [&app.input, &app.output] {
        topics::create(&app.kafka, topic, 4, &[])?;
    }
    wait::until("the instance to be ready", wait::LONG, || {
        Ok((http::get(&address, "/readyz")?.0 == 200).then_some(()))
    })?;
    app.write(&[Record::new("a", "1"), Record::new("b", "1"), Record::new("a", "2")])?;
    app.counts(&[("a", 2), ("b", 1)])?;
    let metrics = wait::until("all to be counted, and no lag", wait::LONG, || {
        let (_, text) = http::get(&address, "/metrics")?;
        let done = sum(&text, "millrace_process_records_total{") == 3.0
            && sum(&text, "millrace_records_lag{") == 0.0
            && sum(&text, "millrace_commit_latency_seconds_count{") > 0.0;
        Ok(done.then_some(text))
    })?;
    ensure!(sum(&metrics, "millrace_tasks{state=\"RUNNING\"}") == 4.0, "{metrics}");
    for name in ["millrace_guest_calls_total{", "millrace_guest_cpu_seconds_total{", "millrace_guest_memory_bytes{"] {
        ensure!(sum(&metrics, name) > 0.0, "{name} in\n{metrics}");
    }
    ensure!(sum(&metrics, "millrace_changelog_records_total") >= 2.0, "{metrics}");

    let (code, tasks) = http::get(&address, "/v1/tasks")?;
    ensure!(code == 200 && tasks.matches("\"state\":\"RUNNING\"").count() == 5, "{tasks}");
    process.stop()
}

/// Of all lines that begin so.
fn sum(text: &str, name: &str) -> f64 {
    let values = text.lines().filter(|line| line.starts_with(name)).filter_map(|line| line.split(' ').next_back());
    values.filter_map(|value| value.parse::<f64>().ok()).sum()
}

#[test]
fn an_address_that_is_taken_is_named_with_the_remedy() -> Result<()> {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").context("listen")?;
    let mut app = App::new(&Kafka::shared()?, "operate-taken")?;
    app.set("http.listen", &taken.local_addr()?.to_string());
    app.refused("a", &[&taken.local_addr()?.to_string(), "set http.listen", "in use"])?;
    Ok(())
}
