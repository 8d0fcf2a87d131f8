//! One run from the first process to the verdict. The only place that puts the parts together.

use std::thread::{self, Scope, ScopedJoinHandle};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use millrace_e2e::app::App;
use millrace_e2e::kafka::OwnKafka;
use millrace_e2e::{topics, wait};

use crate::brokers::Brokers;
use crate::disk::{self, Disk};
use crate::fault::{Faults, Means, scale_ins};
use crate::instance::Instance;
use crate::journal::Journal;
use crate::network::{self, Network};
use crate::verdict::judge;
use crate::watch::Stall;
use crate::{Guarantee, Options, load, report, watch};

const PARTITIONS: u8 = 6;
/// Past the last fault: a minute is the longest that a client waits for an answer (`socket.timeout.ms`), then it tries again.
const DRAIN_LIMIT: Duration = Duration::from_secs(180);

/// What went on while it ran.
pub(crate) struct Course {
    pub(crate) written: u64,
    pub(crate) stall: Stall,
    pub(crate) restored: u64,
    pub(crate) rebuilt: u64,
    /// From the last record written to the last one committed.
    pub(crate) drain: Duration,
}

/// Runs it all; true: it passed.
pub(crate) fn run(options: &Options, seed: u64, journal: &Journal) -> Result<bool> {
    let (mut network, names) = (open_network(journal), names(options.instances));
    let mut join = |name: &str| network.as_mut().map(|network| network.join(name)).transpose();
    let broker_member = join("brokers")?;
    let members = names.iter().map(|name| join(name)).collect::<Result<Vec<_>>>()?;

    let data = options.logs.join("kafka");
    let mut kafka = OwnKafka::cluster(options.brokers.into(), &data)?;
    if let Some(member) = &broker_member {
        kafka.move_to(&member.namespace, &member.address);
    }
    kafka.start()?;
    let app = application(&kafka, options.guarantee, &names)?;
    let disks = mount_disks(&app, &names, journal);
    let means = Means {
        networks: broker_member.is_some(),
        disks: disks.iter().all(Option::is_some),
        brokers: options.brokers.into(),
    };

    let mut instances = Vec::new();
    for ((name, member), disk) in names.iter().zip(&members).zip(disks) {
        instances.push(Instance::start(name, &app, journal, &options.logs, member.as_ref(), disk)?);
    }
    instances.iter().try_for_each(Instance::is_running)?;
    let brokers = Brokers { kafka: &kafka, member: broker_member.as_ref(), journal };
    let course = go_through(options, means, &app, &mut instances, &brokers, seed, journal)?;
    if journal.is_interrupted() {
        bail!("interrupted");
    }
    let verdict = judge(&app, options.guarantee, course.written, journal)?;
    let passed = report::tell(options, seed, &course, &verdict, journal);
    drop(instances);
    kafka.stop()?;
    if passed {
        // Nobody will look at them.
        std::fs::remove_dir_all(&data).context("remove the data of the brokers")?;
    }
    Ok(passed)
}

fn names(count: u8) -> Vec<String> {
    (b'a'..).take(count.into()).map(|letter| char::from(letter).to_string()).collect()
}

fn open_network(journal: &Journal) -> Option<Network> {
    let network = network::sweep().and_then(|()| Network::new());
    network.inspect_err(|error| journal.say(&format!("no network is cut, for that takes root: {error:#}"))).ok()
}

fn mount_disks(app: &App, names: &[String], journal: &Journal) -> Vec<Option<Disk>> {
    let mount = |name: &String| Disk::mount(&app.state_dir(name));
    let unable = |error: &anyhow::Error| journal.say(&format!("no disk is filled, for that takes root: {error:#}"));
    if let Err(error) = disk::sweep() {
        journal.say(&format!("disks of a killed run may be left: {error:#}"));
    }
    names.iter().map(|name| mount(name).inspect_err(unable).ok()).collect()
}

/// Counts, with time-outs on both sides of which faults last.
fn application(kafka: &OwnKafka, guarantee: Guarantee, names: &[String]) -> Result<App> {
    let mut app = App::without_topics(&kafka.kafka(), "soak")?;
    topics::create(&app.kafka, &app.input, PARTITIONS.into(), &[])?;
    topics::create(&app.kafka, &app.output, PARTITIONS.into(), &[])?;
    app.set("processing.guarantee", &guarantee.to_string());
    app.set("kafka.consumer.session.timeout.ms", "6000");
    app.set("kafka.consumer.heartbeat.interval.ms", "1500");
    // Small, so that flushes and compactions happen under faults, too.
    app.set("rocksdb.write.buffer.bytes", "2MiB");
    // What a disk once had it keeps, so that whatever is restored from nothing is a flaw.
    app.set("state.cleanup.delay.ms", "86400000");
    for (number, name) in names.iter().enumerate() {
        // Every third is a dynamic member, the others are static.
        if number % 3 == 2 {
            app.leaves_on_stop(name);
        }
        if number == 0 {
            app.set_for(name, "num.stream.threads", "2");
        }
    }
    Ok(app)
}

fn go_through(
    options: &Options,
    means: Means,
    app: &App,
    instances: &mut [Instance<'_>],
    brokers: &Brokers<'_>,
    seed: u64,
    journal: &Journal,
) -> Result<Course> {
    let (kafka, length) = (&app.kafka, options.length());
    let scale_ins = scale_ins(seed, length, instances.len());
    thread::scope(|scope| {
        let watch = part(scope, journal, || watch::follow(kafka, &app.output, PARTITIONS.into(), journal));
        let load = part(scope, journal, move || load::write(kafka, &app.input, seed, length, journal));
        let broker_faults = part(scope, journal, move || brokers.live(Faults::of_brokers(seed, means), length));
        let lives: Vec<_> = instances
            .iter_mut()
            .enumerate()
            .map(|(number, instance)| {
                let faults = Faults::of_instance(seed, number, means);
                let stops = scale_ins.iter().filter(|scale_in| scale_in.survivor != number).copied().collect();
                part(scope, journal, move || instance.live(faults, stops, length))
            })
            .collect();

        ended(broker_faults, journal);
        let written = ended(load, journal);
        let drain = drained(app, journal)?;
        journal.end();
        lives.into_iter().for_each(|life| ended(life, journal));
        let stall = ended(watch, journal);
        Ok((written, stall, drain))
    })
    .map(|(written, stall, drain)| Course {
        written,
        stall,
        drain,
        restored: instances.iter().map(|instance| instance.restored).sum(),
        rebuilt: instances.iter().map(|instance| instance.rebuilt).sum(),
    })
}

/// A part of the run on a thread of its own. If it fails, the run is over.
fn part<'scope, T: Default + Send + 'scope>(
    scope: &'scope Scope<'scope, '_>,
    journal: &'scope Journal,
    work: impl FnOnce() -> Result<T> + Send + 'scope,
) -> ScopedJoinHandle<'scope, T> {
    scope.spawn(move || {
        work().unwrap_or_else(|error| {
            journal.flaw(&format!("{error:#}"));
            journal.end();
            T::default()
        })
    })
}

fn ended<T: Default>(part: ScopedJoinHandle<'_, T>, journal: &Journal) -> T {
    part.join().unwrap_or_else(|_| {
        journal.flaw("a part of the run panicked; its message is above");
        T::default()
    })
}

/// Waits until everything written is committed.
fn drained(app: &App, journal: &Journal) -> Result<Duration> {
    if journal.is_over() {
        return Ok(Duration::ZERO);
    }
    let began = Instant::now();
    journal.say("the faults are over, and everything is written");
    let group = app.group()?;
    let end = group.end()?;
    let mut committed = Vec::new();
    let drained = wait::until("everything to be committed", DRAIN_LIMIT, || {
        // A coordinator that is just loading does not answer, and is asked again.
        committed = group.committed().unwrap_or_default();
        let progress: i64 = committed.iter().filter_map(|(offset, _)| *offset).sum();
        Ok((progress >= end || journal.is_over()).then_some(()))
    });
    if let Err(error) = drained {
        let offsets: Vec<_> = committed.iter().map(|(offset, _)| offset.unwrap_or_default()).collect();
        journal.flaw(&format!("{error:#}: {offsets:?} of {end} records in all"));
    }
    Ok(began.elapsed())
}
