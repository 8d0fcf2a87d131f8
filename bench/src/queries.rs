//! What questions over HTTP cost: the same input drained without and with clients that ask for keys as fast as they are
//! answered, then the same clients alone. They and the broker share the machine with what is measured.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use millrace_e2e::app::App;
use millrace_e2e::counts::next;
use millrace_e2e::http::{self, Client};
use millrace_e2e::topics;
use serde_json::json;

use crate::bench::{Bench, facts};
use crate::drain::{last_record, verified};
use crate::load::Records;
use crate::report::{Figure, Measurement};
use crate::scenario::Scenario;
use crate::side::Side;
use crate::statistics::percentile;

/// Each with a connection of its own, on which it asks for the next key when it has the answer for the last.
const CLIENTS: u64 = 8;

/// Records per second without questions and with them; answers per second and their latency while records are processed,
/// and at rest.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Asked {
    unasked_records_per_s: f64,
    records_per_s: f64,
    meanwhile: Answers,
    at_rest: Answers,
}

#[derive(Clone, Copy, Debug)]
struct Answers {
    per_s: f64,
    p50_ms: f64,
    p99_ms: f64,
}

impl Measurement for Asked {
    const FIGURES: &[Figure<Self>] = &[
        ("unasked_records_per_s", |m| m.unasked_records_per_s),
        ("records_per_s", |m| m.records_per_s),
        ("kept", |m| m.records_per_s / m.unasked_records_per_s),
        ("answers_per_s", |m| m.meanwhile.per_s),
        ("answers_p50_ms", |m| m.meanwhile.p50_ms),
        ("answers_p99_ms", |m| m.meanwhile.p99_ms),
        ("answers_at_rest_per_s", |m| m.at_rest.per_s),
        ("answers_at_rest_p50_ms", |m| m.at_rest.p50_ms),
        ("answers_at_rest_p99_ms", |m| m.at_rest.p99_ms),
    ];
    const COMPARED: &[(&str, &str)] = &[];
}

impl fmt::Display for Asked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{:.0} records/s, then {:.0} with {}; at rest {}",
            self.unasked_records_per_s, self.records_per_s, self.meanwhile, self.at_rest
        )
    }
}

impl fmt::Display for Answers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:.0} answers/s, p50 {:.2} ms, p99 {:.2} ms", self.per_s, self.p50_ms, self.p99_ms)
    }
}

impl Bench {
    pub(crate) fn measure_queries(&self, scenario: &Scenario) -> Result<()> {
        let records = self.sizes.drained();
        let input = self.inputs.topic(&records)?;
        let mut facts = facts(&records);
        facts.push(("clients", json!(CLIENTS)));
        self.compare(scenario, &facts, |side| self.asked(scenario, side, &input, &records))
    }

    fn asked(&self, scenario: &Scenario, side: Side, input: &str, records: &Records) -> Result<Asked> {
        let unasked = self.drain(scenario, side, input, records, &[])?;
        let mut app = App::without_topics(&self.kafka, "bench")?;
        app.read_from(input);
        topics::create(&self.kafka, &app.output, records.partitions, &[])?;
        app.set("http.listen", "127.0.0.1:0");
        let mut process = self.instance(scenario, side).start(&mut app)?;
        let running = process.line(side.running())?.at;
        let address = http::address(&process)?;
        let clients = Clients::start(&address, records.load.keys);
        let done = last_record(&app, scenario, side, &mut process, records.count())?;
        let meanwhile = clients.stop()?;
        let clients = Clients::start(&address, records.load.keys);
        thread::sleep(Duration::from_secs(if self.sizes.quick { 2 } else { 10 }));
        let at_rest = clients.stop()?;
        verified(&app, scenario, side, &mut process, records.count())?;
        self.forget(&app)?;
        let records_per_s = records.count() as f64 / (done - running).as_secs_f64();
        Ok(Asked { unasked_records_per_s: unasked.records_per_s, records_per_s, meanwhile, at_rest })
    }
}

/// Who asks.
struct Clients {
    began: Instant,
    enough: Arc<AtomicBool>,
    threads: Vec<JoinHandle<Result<Vec<f64>>>>,
}

impl Clients {
    fn start(address: &str, keys: u64) -> Self {
        let enough = Arc::new(AtomicBool::new(false));
        let threads = (1..=CLIENTS).map(|seed| {
            let (address, enough) = (address.to_owned(), Arc::clone(&enough));
            thread::spawn(move || ask(&address, keys, seed, &enough))
        });
        Self { began: Instant::now(), threads: threads.collect(), enough }
    }

    fn stop(self) -> Result<Answers> {
        let seconds = self.began.elapsed().as_secs_f64();
        self.enough.store(true, Ordering::Relaxed);
        let mut took = Vec::new();
        for thread in self.threads {
            took.extend(thread.join().expect("a client does not panic")?);
        }
        took.sort_by(f64::total_cmp);
        let at = |percent| percentile(&took, percent).context("nothing was answered");
        Ok(Answers { per_s: took.len() as f64 / seconds, p50_ms: at(50)?, p99_ms: at(99)? })
    }
}

/// Asks for keys by chance, and says how many milliseconds each answer took.
fn ask(address: &str, keys: u64, seed: u64, enough: &AtomicBool) -> Result<Vec<f64>> {
    let (client, mut seed, mut took) = (Client::new(address), seed, Vec::new());
    while !enough.load(Ordering::Relaxed) {
        let path = format!("/v1/stores/count-store/keys/key-{:08}", next(&mut seed) % keys);
        let asked = Instant::now();
        let (code, body) = client.get(&path)?;
        took.push(asked.elapsed().as_secs_f64() * 1e3);
        // The first record of a key may not have been processed yet.
        ensure!(matches!(code, 200 | 404), "{path}: {code} {body}");
    }
    Ok(took)
}
