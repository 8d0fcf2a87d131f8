//! `/metrics`, for Prometheus: every name with its help and its unit. The words are Kafka Streams', the units
//! Prometheus'. What is counted is in the status of the process; here it is only read.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use axum::extract::State as Extract;
use axum::http::header::CONTENT_TYPE;
use axum::response::IntoResponse;
use millrace_engine::record::TaskId;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::text::encode;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric, MetricEncoder};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::registry::{Registry, Unit};

use super::Served;
use super::catalog::{Blocks, Catalog, Catalogs, Known, Sizes};
use crate::status::{GlobalStatus, Stage, State, Status, TaskStatus};

const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Counter,
    Gauge,
}
use Kind::{Counter, Gauge};

/// A metric with one value per set of labels.
struct Metric {
    name: &'static str,
    kind: Kind,
    unit: Option<Unit>,
    help: &'static str,
}

const fn metric(name: &'static str, kind: Kind, unit: Option<Unit>, help: &'static str) -> Metric {
    Metric { name, kind, unit, help }
}

/// Of the process.
const STATE: Metric = metric("state", Gauge, None, "1 for the state the instance is in, 0 for the others");
const PAUSED: Metric = metric("paused", Gauge, None, "1 if an operator has paused the instance");
const THREADS: Metric = metric("alive_stream_threads", Gauge, None, "Worker threads");
const UPTIME: Metric = metric("uptime", Gauge, Some(Unit::Seconds), "Time since the process started");
const REBALANCES: Metric = metric("rebalances", Counter, None, "Assignments that the group has made");
const MODULE: Metric = metric("module", Gauge, None, "1 for the module that tasks are made of");
const SWAPS: Metric =
    metric("module_swaps", Counter, None, "Times that tasks went on with another version of the module");
const SWAP_PAUSE: Metric =
    metric("module_swap_pause", Gauge, Some(Unit::Seconds), "How long the tasks stood still for the last swap");
const TASKS: Metric = metric("tasks", Gauge, None, "Tasks of the instance, by state");
const FAILED_COMMITS: Metric =
    metric("commit_failures", Counter, None, "Commits that did not come to their end, and are repeated or given up");
const CHANGELOG: Metric = metric("changelog_records", Counter, None, "Records written to changelogs");
const PROCESS_LATENCY: &str = "process_latency";
const COMMIT_LATENCY: &str = "commit_latency";

/// Of each partition a task reads.
const LAG: Metric = metric("records_lag", Gauge, None, "Records of a partition that were not processed yet");
/// Of each kind of fault.
const FAULTS: Metric =
    metric("faults", Counter, None, "Records that the module failed on, by the kind of failure, whatever the policy");

/// Of each global store.
type OfGlobal = (Metric, fn(&GlobalStatus) -> u64);

const OF_GLOBALS: [OfGlobal; 2] = [
    (
        metric("global_store_records", Counter, None, "Records of its topic that were read for a global store"),
        |status| status.records(),
    ),
    (
        metric(
            "global_store_remaining_records",
            Gauge,
            None,
            "Records of its topic that a global store lacks, at most",
        ),
        |status| status.remaining(),
    ),
];

/// Of each store of a task that is on disk.
type OfStore = (Metric, fn(Sizes) -> u64);

const OF_STORES: [OfStore; 3] = [
    (metric("store_entries", Gauge, None, "Entries of a store: an estimate of RocksDB"), |sizes| sizes.entries),
    (metric("store_file", Gauge, Some(Unit::Bytes), "Files of a store"), |sizes| sizes.file_bytes),
    (metric("store_memtable", Gauge, Some(Unit::Bytes), "What of a store is in no file yet"), |sizes| {
        sizes.memtable_bytes
    }),
];

/// Of each task that has something on disk.
type OfDisk = (Metric, fn(Blocks) -> u64);

const OF_DISKS: [OfDisk; 2] = [
    (metric("block_cache_hits", Counter, None, "Blocks of stores that were read from RocksDB's cache"), |blocks| {
        blocks.hits
    }),
    (metric("block_cache_misses", Counter, None, "Blocks of stores that were read from files"), |blocks| blocks.misses),
];

/// What every task has.
type OfTask = (Metric, fn(&TaskStatus) -> Option<f64>);

#[expect(clippy::cast_precision_loss, reason = "a metric is a float to Prometheus")]
const fn float(number: u64) -> f64 {
    number as f64
}

const OF_TASKS: [OfTask; 12] = [
    (metric("process_records", Counter, None, "Records that were processed"), |task| {
        Some(float(task.progress().records))
    }),
    (metric("process", Counter, Some(Unit::Bytes), "Keys, values and headers that were processed"), |task| {
        Some(float(task.progress().bytes))
    }),
    (metric("punctuate", Counter, None, "Punctuations that were made"), |task| {
        Some(float(task.progress().punctuations))
    }),
    (metric("dropped_records", Counter, None, "Records that were left out; the log says why"), |task| {
        Some(float(task.progress().dropped))
    }),
    (metric("store_cache_hits", Counter, None, "Keys of stores that were looked up and found in memory"), |task| {
        Some(float(task.progress().lookup_hits))
    }),
    (metric("store_cache_misses", Counter, None, "Keys of stores that were looked up in the database"), |task| {
        Some(float(task.progress().lookup_misses))
    }),
    (metric("stream_time", Gauge, Some(Unit::Seconds), "Highest timestamp that was processed"), |task| {
        Some(task.progress().stream_time_ms? as f64 / 1000.0)
    }),
    (
        metric("restore_records", Counter, None, "Records read from changelogs, for a task to run or for a standby"),
        |task| Some(float(task.restored().records)),
    ),
    (
        metric("restore_remaining_records", Gauge, None, "Records of changelogs that the stores still lack, at most"),
        |task| task.restored().remaining.map(float),
    ),
    (metric("guest_calls", Counter, None, "Calls of the module"), |task| Some(float(task.guest.calls()))),
    (metric("guest_cpu", Counter, Some(Unit::Seconds), "Processor time of these calls, host calls included"), |task| {
        Some(task.guest.cpu().as_secs_f64())
    }),
    (metric("guest_memory", Gauge, Some(Unit::Bytes), "Memory of the instance of the module"), |task| {
        Some(float(task.guest.memory_bytes()))
    }),
];

/// All metrics of the process.
pub(super) struct Metrics(Registry);

impl Metrics {
    pub(super) fn new(status: &Arc<Status>, catalogs: &Arc<Catalogs>) -> Self {
        let mut registry = Registry::with_prefix("millrace");
        let seconds = || Unit::Seconds;
        let workers = &status.workers;
        registry.register_with_unit(
            PROCESS_LATENCY,
            "Time of one batch in a worker",
            seconds(),
            workers.process_latency.clone(),
        );
        registry.register_with_unit(
            COMMIT_LATENCY,
            "Time of one commit of a worker",
            seconds(),
            workers.commit_latency.clone(),
        );
        registry.register_collector(Box::new(Reader { status: Arc::clone(status), catalogs: Arc::clone(catalogs) }));
        Self(registry)
    }

    fn text(&self) -> Result<String, fmt::Error> {
        let mut text = String::new();
        encode(&mut text, &self.0)?;
        Ok(text)
    }
}

/// The metrics, in the text format of OpenMetrics.
#[utoipa::path(get, path = "/metrics", responses(
    (status = 200, description = "All metrics", body = String, content_type = "application/openmetrics-text"),
))]
pub(super) async fn show(Extract(served): Extract<Served>) -> impl IntoResponse {
    // Writing to a string does not fail.
    ([(CONTENT_TYPE, OPEN_METRICS)], served.metrics.text().unwrap_or_default())
}

/// Reads the status, and how large stores are, at each scrape.
struct Reader {
    status: Arc<Status>,
    catalogs: Arc<Catalogs>,
}

impl fmt::Debug for Reader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reader").finish_non_exhaustive()
    }
}

type Labels = Vec<(&'static str, String)>;

impl Collector for Reader {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let status = &self.status;
        let tasks = status.tasks();
        let one = |value: u64| [(Labels::new(), float(value))];
        let state = status.state();
        let states = State::ALL.map(|each| (vec![("state", each.name().to_owned())], float(u64::from(each == state))));
        write(&mut encoder, &STATE, states)?;
        write(&mut encoder, &PAUSED, one(u64::from(status.is_paused())))?;
        let stages = Stage::NAMES.map(|name| {
            let count = tasks.iter().filter(|(_, stage, _)| stage.name() == name).count();
            (vec![("state", name.to_owned())], float(count as u64))
        });
        write(&mut encoder, &TASKS, stages)?;
        write(&mut encoder, &THREADS, one(status.identity.threads as u64))?;
        write(&mut encoder, &UPTIME, [(Labels::new(), status.uptime().as_secs_f64())])?;
        write(&mut encoder, &REBALANCES, one(status.rebalances()))?;
        write(&mut encoder, &MODULE, [(vec![("digest", status.module())], 1.0)])?;
        write(&mut encoder, &SWAPS, one(status.swaps()))?;
        write(&mut encoder, &SWAP_PAUSE, [(Labels::new(), status.swap_pause().as_secs_f64())])?;
        write(&mut encoder, &FAILED_COMMITS, one(status.workers.failed_commits.load(Ordering::Relaxed)))?;
        write(&mut encoder, &CHANGELOG, one(status.workers.changelog_records.load(Ordering::Relaxed)))?;
        for (metric, value) in &OF_TASKS {
            let values = tasks.iter().filter_map(|(id, _, task)| Some((vec![("task", id.to_string())], value(task)?)));
            write(&mut encoder, metric, values)?;
        }
        let lags = tasks.iter().flat_map(|(id, _, task)| {
            let inputs = task.inputs().into_iter();
            inputs.filter_map(move |(at, progress)| {
                let labels = vec![
                    ("task", id.to_string()),
                    ("topic", at.topic.to_string()),
                    ("partition", at.partition.to_string()),
                ];
                Some((labels, float(progress.lag()?)))
            })
        });
        write(&mut encoder, &LAG, lags)?;
        let faults = tasks.iter().flat_map(|(id, _, task)| {
            let faults = task.faults().into_iter();
            faults.map(move |(kind, count)| (vec![("task", id.to_string()), ("fault", kind.to_owned())], float(count)))
        });
        write(&mut encoder, &FAULTS, faults)?;
        let catalog = self.catalogs.get();
        let sizes: Vec<(String, &str, Sizes)> = catalog.as_ref().map_or_else(Vec::new, |catalog| {
            let of_task = |id: TaskId| {
                let stores = catalog.of_tasks().filter(move |known| known.subtopology == id.subtopology);
                stores.filter_map(move |known| size(catalog, &known, id))
            };
            let of_globals = catalog.globals().filter_map(|known| size(catalog, &known, known.task(0)));
            tasks.iter().flat_map(|(id, ..)| of_task(*id)).chain(of_globals).collect()
        });
        for (metric, value) in &OF_STORES {
            let labels = |task: &String, store: &str| vec![("task", task.clone()), ("store", store.to_owned())];
            let values = sizes.iter().map(|(task, store, sizes)| (labels(task, store), float(value(*sizes))));
            write(&mut encoder, metric, values)?;
        }
        let globals = status.globals();
        for (metric, value) in &OF_GLOBALS {
            let values = globals.iter().map(|(store, status)| (vec![("store", store.clone())], float(value(status))));
            write(&mut encoder, metric, values)?;
        }
        for (metric, value) in &OF_DISKS {
            let values = tasks.iter().filter_map(|(id, ..)| {
                let blocks = catalog.as_ref()?.stores.blocks(*id)?;
                Some((vec![("task", id.to_string())], float(value(blocks))))
            });
            write(&mut encoder, metric, values)?;
        }
        Ok(())
    }
}

/// The name of the task, that of the store, and how large it is there.
fn size<'a>(catalog: &Catalog, known: &Known<'a>, id: TaskId) -> Option<(String, &'a str, Sizes)> {
    Some((known.name(id), known.store.name.as_str(), catalog.stores.sizes(id, &known.store.name)?))
}

fn write(
    encoder: &mut DescriptorEncoder<'_>,
    metric: &Metric,
    values: impl IntoIterator<Item = (Labels, f64)>,
) -> fmt::Result {
    let kind = match metric.kind {
        Counter => MetricType::Counter,
        Gauge => MetricType::Gauge,
    };
    let mut family = encoder.encode_descriptor(metric.name, metric.help, metric.unit.as_ref(), kind)?;
    for (labels, value) in values {
        // Of the process as a whole: braces without a label are none.
        if labels.is_empty() {
            return number(metric.kind, value, family);
        }
        number(metric.kind, value, family.encode_family(&labels)?)?;
    }
    Ok(())
}

fn number(kind: Kind, value: f64, encoder: MetricEncoder<'_>) -> fmt::Result {
    match kind {
        Counter => ConstCounter::new(value).encode(encoder),
        Gauge => ConstGauge::new(value).encode(encoder),
    }
}
