//! Instances that come, go and come back, under both group protocols: each count once and in order, what stays does
//! not stop, and who returns under its name finds its tasks and restores nothing.

use anyhow::{Result, ensure};
use millrace_e2e::app::App;
use millrace_e2e::counts::{Expect, Load, verify};
use millrace_e2e::kafka::Kafka;
use millrace_e2e::process::Process;
use millrace_e2e::records::Record;
use millrace_e2e::wait;
use rdkafka::mocking::MockCluster;
use rdkafka::types::{RDKafkaApiKey, RDKafkaRespErr};

const LOAD: Load = Load { records: 50_000, keys: 2_000, value_size: 20, seed: 11 };

fn app(name: &str, protocol: &str) -> Result<App> {
    let mut app = App::new(&Kafka::shared()?, name)?;
    app.set("processing.guarantee", "exactly_once_v2");
    app.set("group.protocol", protocol);
    Ok(app)
}

/// Waits until each has that many tasks, and all are running.
fn share(instances: &[&Process], tasks: usize) -> Result<()> {
    let running = format!("state=RUNNING tasks={tasks}");
    for instance in instances {
        wait::until(&format!("{tasks} tasks on each"), wait::LONG, || {
            let lines = instance.lines();
            let last = lines.iter().rev().find(|line| line.text.contains("state=RUNNING"));
            Ok(last.is_some_and(|line| line.text.ends_with(&running)).then_some(()))
        })?;
    }
    Ok(())
}

/// One, then two, then one again, with records coming in all the time.
fn out_and_in(name: &str, protocol: &str) -> Result<()> {
    let mut app = app(name, protocol)?;
    app.leave_on_stop();
    let group = app.group()?;
    let mut first = app.run("a")?;
    LOAD.write(&app.kafka, &app.input)?;
    let mut second = app.start("b")?;
    share(&[&first, &second], 2)?;
    LOAD.write(&app.kafka, &app.input)?;
    second.stop()?;
    LOAD.write(&app.kafka, &app.input)?;
    share(&[&first], 4)?;
    group.caught_up()?;
    first.stop()?;
    verify(&app.kafka, &app.input, &app.output, Expect::EveryCount).map(drop)
}

#[test]
fn scale_out_and_in() -> Result<()> {
    out_and_in("scale", "classic")
}

#[test]
fn scale_out_and_in_with_the_consumer_protocol() -> Result<()> {
    out_and_in("scale-848", "consumer")
}

/// Each of two static members is stopped and started: it has its tasks again, restores nothing, and the other one
/// is not disturbed.
fn rolling(name: &str, protocol: &str) -> Result<()> {
    let app = app(name, protocol)?;
    let group = app.group()?;
    let mut instances = [app.run("a")?, app.run("b")?];
    share(&[&instances[0], &instances[1]], 2)?;
    LOAD.write(&app.kafka, &app.input)?;
    group.caught_up()?;
    for (turn, name) in ["a", "b"].into_iter().enumerate() {
        let before = instances.each_ref().map(|instance| instance.count(&["partitions revoked"]));
        instances[turn].stop()?;
        LOAD.write(&app.kafka, &app.input)?;
        instances[turn] = app.run(name)?;
        share(&[&instances[turn]], 2)?;
        group.caught_up()?;
        let restored = instances[turn].restored();
        ensure!(restored == 0, "{name} restored {restored}:\n{}", instances[turn].tail());
        let other = &instances[1 - turn];
        ensure!(other.count(&["partitions revoked"]) == before[1 - turn], "a rebalance:\n{}", other.tail());
    }
    instances.iter_mut().try_for_each(Process::stop)?;
    verify(&app.kafka, &app.input, &app.output, Expect::EveryCount).map(drop)
}

#[test]
fn rolling_restart() -> Result<()> {
    rolling("rolling", "classic")
}

#[test]
fn rolling_restart_with_the_consumer_protocol() -> Result<()> {
    rolling("rolling-848", "consumer")
}

/// Two processes have one name. They fence each other, and one of them gives up, saying why; the other has everything.
#[test]
fn one_name_for_two() -> Result<()> {
    let mut app = app("one-name", "classic")?;
    app.set_for("b", "group.instance.id", "a");
    let group = app.group()?;
    let mut first = app.run("a")?;
    LOAD.write(&app.kafka, &app.input)?;
    let mut second = app.start("b")?;
    let ended = wait::until("one of them to give up", wait::LONG, || {
        Ok(match (first.is_running()?, second.is_running()?) {
            (true, true) => None,
            (first, _) => Some(if first { "b" } else { "a" }),
        })
    })?;
    let (ended, other) = if ended == "a" { (&first, &mut second) } else { (&second, &mut first) };
    ended.line(&["give every instance its own"])?;
    LOAD.write(&app.kafka, &app.input)?;
    group.caught_up()?;
    ensure!(other.is_running()?, "both ended");
    other.stop()?;
    verify(&app.kafka, &app.input, &app.output, Expect::EveryCount).map(drop)
}

/// An assignment can't be taken up: a partition has no leader for longer than that is asked again. It is given back, and
/// the next one is taken up. A real broker can't be made to say so at the right moment.
#[test]
fn assigned_what_has_no_leader() -> Result<()> {
    let leaderless = [RDKafkaRespErr::RD_KAFKA_RESP_ERR_NOT_LEADER_FOR_PARTITION; 1_000];
    let mut started = Vec::new();
    for protocol in ["classic", "consumer"] {
        let broker = MockCluster::new(1)?;
        let mut app = App::without_topics(&Kafka { bootstrap: broker.bootstrap_servers() }, protocol)?;
        for topic in [&app.input, &app.output, &app.changelog()] {
            broker.create_topic(topic, 4, 1)?;
        }
        app.set("group.protocol", protocol);
        app.leave_on_stop();
        if protocol == "classic" {
            // A member that leaves is waited for by such a broker, as one that vanished.
            app.set("kafka.consumer.session.timeout.ms", "3000");
            app.set("kafka.consumer.heartbeat.interval.ms", "500");
        }
        broker.request_errors(RDKafkaApiKey::ListOffsets, &leaderless);
        let instance = app.start("a")?;
        started.push((broker, app, instance));
    }
    for (broker, app, mut instance) in started {
        // Once is not enough: what is given back has to come again, and fails again.
        instance.nth_line(&["joining the group again"], 2, wait::LONG)?;
        broker.clear_request_errors(RDKafkaApiKey::ListOffsets);
        instance.line(&["state=RUNNING tasks=4"])?;
        app.write(&[Record::new("foo", "bar")])?;
        app.counts(&[("foo", 1)])?;
        instance.stop()?;
    }
    Ok(())
}
