//! One measured restore: a changelog that is there already is read back by an application that has no disk. Its records are
//! written by a producer of our own, in the form in which both sides write them.

use std::fmt;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use millrace_e2e::app::App;
use millrace_e2e::process::{Process, field};
use millrace_e2e::records::{self, Record, Writer};
use millrace_e2e::topics;
use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer};
use rdkafka::producer::BaseRecord;
use rdkafka::{Offset, TopicPartitionList};

use crate::bench::Bench;
use crate::machine::{Clocks, Memory};
use crate::report::{Figure, Measurement};
use crate::scenario::Scenario;
use crate::side::Side;

const LIMIT: Duration = Duration::from_secs(600);
/// The count that each key has in the changelog.
const COUNT: u64 = 7;
/// Keys that are asked for after the restore.
const SAMPLE: u64 = 1_000;

#[derive(Clone, Copy, Debug)]
pub(crate) struct Restored {
    records_per_s: f64,
    running_s: f64,
    cpu_s_per_million: f64,
    peak_rss_mb: f64,
    other_cores: f64,
}

impl Measurement for Restored {
    const FIGURES: &[Figure<Self>] = &[
        ("restored_per_s", |m| m.records_per_s),
        ("start_to_running_s", |m| m.running_s),
        ("cpu_s_per_million", |m| m.cpu_s_per_million),
        ("peak_rss_mb", |m| m.peak_rss_mb),
        ("other_cores", |m| m.other_cores),
    ];
    const COMPARED: &[(&str, &str)] = &[
        ("records_per_s", "restored_per_s"),
        ("running", "start_to_running_s"),
        ("cpu", "cpu_s_per_million"),
        ("rss", "peak_rss_mb"),
    ];
}

impl fmt::Display for Restored {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { records_per_s, running_s, cpu_s_per_million, peak_rss_mb, .. } = self;
        write!(
            f,
            "{records_per_s:.0} records/s restored, running after {running_s:.2} s, {cpu_s_per_million:.1} CPU-s per \
             million, {peak_rss_mb:.0} MB"
        )
    }
}

impl Bench {
    pub(crate) fn restore(&self, scenario: &Scenario, side: Side, keys: u64) -> Result<Restored> {
        let mut app = App::new(&self.kafka, "bench-restore")?;
        topics::create(&self.kafka, &app.changelog(), 4, &[("cleanup.policy", "compact")])?;
        let writer = Writer::new(&self.kafka)?;
        let topic = app.changelog();
        for key in 0..keys {
            let key = format!("key-{key:08}");
            writer.send(BaseRecord::<[u8], [u8]>::to(&topic).key(key.as_bytes()).payload(&COUNT.to_be_bytes()))?;
        }
        writer.finish()?;
        let sample: Vec<_> = (0..SAMPLE.min(keys)).map(|key| Record::new(&format!("key-{key:08}"), "")).collect();
        // What the state came of, as far as the group is concerned.
        app.write(&sample)?;
        commit_end(&app)?;

        let before = Clocks::read(&[])?;
        let mut process = self.instance(scenario, side).start(&mut app)?;
        let running = process.line_within(side.running(), LIMIT)?.at;
        let used = Clocks::read(&[process.pid()])?.since(&before);
        let memory = Memory::of(process.pid())?;
        let (restored, seconds) = restored(&process, side)?;
        ensure!(restored == keys, "{restored} records were restored, not {keys}");

        app.write(&sample)?;
        let outputs = app.outputs(sample.len())?;
        let next = (COUNT + 1).to_string();
        let wrong = outputs.iter().filter(|output| output.record.value.as_deref() != Some(next.as_bytes())).count();
        ensure!(wrong == 0, "{wrong} of {} counts are not {next}: {:?}", outputs.len(), outputs[0]);
        process.stop()?;
        ensure!(records::read(&self.kafka, &app.output)?.len() == sample.len(), "there is more output than was due");
        self.forget(&app)?;
        Ok(Restored {
            records_per_s: restored as f64 / seconds,
            running_s: (running - process.started).as_secs_f64(),
            cpu_s_per_million: used.app_cpu_s / restored as f64 * 1e6,
            peak_rss_mb: memory.peak,
            other_cores: used.other_cores,
        })
    }
}

/// Says for the group that all input there is was processed.
fn commit_end(app: &App) -> Result<()> {
    let consumer: BaseConsumer = app.kafka.client().set("group.id", &app.id).create().context("create a consumer")?;
    let mut list = TopicPartitionList::new();
    for partition in 0..4 {
        let (_, end) = consumer.fetch_watermarks(&app.input, partition, Duration::from_secs(30))?;
        list.add_partition_offset(&app.input, partition, Offset::Offset(end))?;
    }
    consumer.commit(&list, CommitMode::Sync).context("commit offsets for the group")
}

/// How many records, and how long it took from the begin of the first store to the end of the last.
fn restored(process: &Process, side: Side) -> Result<(u64, f64)> {
    let mut records = 0;
    let mut span: Option<(Instant, Instant)> = None;
    let is_one = |text: &str| side.restored().iter().all(|word| text.contains(word));
    for line in process.lines().iter().filter(|line| is_one(&line.text)) {
        let number = |name| -> Result<u64> {
            let text = field(&line.text, name).with_context(|| format!("no {name} in {}", line.text))?;
            text.parse().with_context(|| format!("{name} is no number in {}", line.text))
        };
        records += number("records")?;
        let began = line.at - Duration::from_millis(number("ms")?);
        span = Some(span.map_or((began, line.at), |(first, last)| (first.min(began), last.max(line.at))));
    }
    let (first, last) = span.context("nothing was restored")?;
    Ok((records, (last - first).as_secs_f64()))
}
