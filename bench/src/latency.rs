//! How long a record takes from when it was due to when its output can be read, at a rate that is no burden. The open loop
//! and the clock of one process: no time of a broker and no time at which a record was really sent is in it.

use std::fmt;
use std::str;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use millrace_e2e::app::App;
use millrace_e2e::counts::verify;
use rdkafka::Message;
use serde_json::json;

use crate::bench::Bench;
use crate::machine::{Clocks, Memory};
use crate::outputs::Outputs;
use crate::report::{Figure, Measurement};
use crate::scenario::Scenario;
use crate::side::Side;
use crate::statistics::percentile;
use crate::steady::Steady;

const RECORDS_PER_S: u32 = 2_000;
const KEYS: u64 = 1_000;
/// How long after the last record was due its output may come.
const LIMIT: Duration = Duration::from_secs(60);

/// Milliseconds, of all records after the first seconds, in which code is compiled and connections are made.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Latency {
    p50: f64,
    p99: f64,
    max: f64,
    cpu_cores: f64,
    peak_rss_mb: f64,
    /// Of a hundred records, those that the sender was late with.
    late_percent: f64,
    other_cores: f64,
}

impl Measurement for Latency {
    const FIGURES: &[Figure<Self>] = &[
        ("p50_ms", |m| m.p50),
        ("p99_ms", |m| m.p99),
        ("max_ms", |m| m.max),
        ("cpu_cores", |m| m.cpu_cores),
        ("peak_rss_mb", |m| m.peak_rss_mb),
        ("late_percent", |m| m.late_percent),
        ("other_cores", |m| m.other_cores),
    ];
    const COMPARED: &[(&str, &str)] =
        &[("p50", "p50_ms"), ("p99", "p99_ms"), ("max", "max_ms"), ("cpu", "cpu_cores"), ("rss", "peak_rss_mb")];
}

impl fmt::Display for Latency {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { p50, p99, max, cpu_cores, late_percent, other_cores, .. } = self;
        write!(
            f,
            "p50 {p50:.1} ms, p99 {p99:.1} ms, max {max:.1} ms, {cpu_cores:.2} cores, sender late with {late_percent:.1}%, \
             other load {other_cores:.2} cores"
        )
    }
}

impl Bench {
    pub(crate) fn measure_latency(&self, scenario: &Scenario) -> Result<()> {
        let (warm_up, measured) = if self.sizes.quick { (5, 10) } else { (10, 30) };
        let facts = vec![
            ("records_per_s", json!(RECORDS_PER_S)),
            ("seconds", json!(measured)),
            ("keys", json!(KEYS)),
            ("value_size", json!(self.sizes.value_size)),
        ];
        let load = Steady {
            records_per_s: RECORDS_PER_S,
            seconds: warm_up + measured,
            keys: KEYS,
            value_size: self.sizes.value_size,
        };
        let first = u64::from(RECORDS_PER_S * warm_up);
        self.compare(scenario, &facts, |side| self.latency(scenario, side, &load, first))
    }

    /// `first` is the first record that counts.
    fn latency(&self, scenario: &Scenario, side: Side, load: &Steady, first: u64) -> Result<Latency> {
        let mut app = App::new(&self.kafka, "bench-latency")?;
        let outputs = Outputs::from_beginning(&self.kafka, &app.output)?;
        let mut process = self.instance(scenario, side).start(&mut app)?;
        process.line(side.running())?;
        let pid = process.pid();

        let begin = Instant::now() + Duration::from_millis(100);
        let sender = {
            let (load, kafka, topic) = (*load, self.kafka.clone(), app.input.clone());
            thread::spawn(move || load.send(&kafka, &topic, begin))
        };
        let mut meter = Meter::new(load, begin);
        let end = load.due(begin, load.count()) + LIMIT;
        let mut before = None;
        while meter.missing > 0 {
            ensure!(Instant::now() < end, "{} records have no output; its log:\n{}", meter.missing, process.tail());
            if before.is_none() && Instant::now() >= load.due(begin, first) {
                before = Some(Clocks::read(&[pid])?);
            }
            let Some(message) = outputs.next(Duration::from_millis(20))? else { continue };
            meter.add(&message, Instant::now())?;
        }
        let used = Clocks::read(&[pid])?.since(&before.context("it took no time")?);
        let late = sender.join().expect("the sender does not panic")?;
        let memory = Memory::of(pid)?;
        process.stop()?;
        verify(&self.kafka, &app.input, &app.output, scenario.expect)?;
        self.forget(&app)?;

        let took = meter.sorted_ms(first)?;
        let at = |percent| percentile(&took, percent).context("nothing was measured");
        Ok(Latency {
            p50: at(50)?,
            p99: at(99)?,
            max: at(100)?,
            cpu_cores: used.app_cpu_s / used.seconds,
            peak_rss_mb: memory.peak,
            late_percent: late as f64 / load.count() as f64 * 100.0,
            other_cores: used.other_cores,
        })
    }
}

/// Of each record, how long it took.
struct Meter<'a> {
    load: &'a Steady,
    begin: Instant,
    took: Vec<Option<Duration>>,
    missing: u64,
}

impl<'a> Meter<'a> {
    fn new(load: &'a Steady, begin: Instant) -> Self {
        let missing = load.count();
        Self { load, begin, took: vec![None; usize::try_from(missing).unwrap_or_default()], missing }
    }

    fn add(&mut self, output: &impl Message, now: Instant) -> Result<()> {
        let number = |bytes: &[u8], skip| -> Result<u64> { Ok(str::from_utf8(&bytes[skip..])?.parse()?) };
        let key = number(output.key().context("an output without key")?, "key-".len())?;
        let count = number(output.payload().context("a null output")?, 0)?;
        let record = self.load.record(key, count).with_context(|| format!("key {key} counts {count}"))?;
        let took = &mut self.took[usize::try_from(record)?];
        if took.is_none() {
            *took = Some(now.saturating_duration_since(self.load.due(self.begin, record)));
            self.missing -= 1;
        }
        Ok(())
    }

    fn sorted_ms(&self, first: u64) -> Result<Vec<f64>> {
        let took = self.took[usize::try_from(first)?..].iter().flatten();
        let mut took: Vec<_> = took.map(|took| took.as_secs_f64() * 1e3).collect();
        took.sort_by(f64::total_cmp);
        Ok(took)
    }
}
