//! What an operator asks a running instance over HTTP.

use std::fs;
use std::net::TcpListener;

use anyhow::{Context, Result, ensure};
use millrace_e2e::app::App;
use millrace_e2e::http;
use millrace_e2e::kafka::Kafka;
use millrace_e2e::records::{self, Record};
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
    let taken = TcpListener::bind("127.0.0.1:0").context("listen")?;
    let mut app = App::new(&Kafka::shared()?, "operate-taken")?;
    app.set("http.listen", &taken.local_addr()?.to_string());
    app.refused("a", &[&taken.local_addr()?.to_string(), "set http.listen", "in use"])?;
    Ok(())
}

/// Two instances on one port, each on the loopback address that its name is the end of.
fn app_of_two(test: &str) -> Result<App> {
    let mut app = App::new(&Kafka::shared()?, test)?;
    let port = TcpListener::bind("127.0.0.2:0").context("find a free port")?.local_addr()?.port();
    app.set("http.peers", &format!("127.0.0.{{instance}}:{port}"));
    for instance in INSTANCES {
        app.set_for(instance, "group.instance.id", instance);
        app.set_for(instance, "http.listen", &format!("127.0.0.{instance}:{port}"));
        app.leaves_on_stop(instance);
    }
    Ok(app)
}

const INSTANCES: [&str; 2] = ["2", "3"];

/// The number in a field of an answer.
fn number(body: &str, field: &str) -> Option<u64> {
    let (_, after) = body.split_once(&format!("\"{field}\":"))?;
    after.split(|c: char| !c.is_ascii_digit()).next()?.parse().ok()
}

fn count(address: &str, key: &str) -> Result<(u16, String)> {
    http::get(address, &format!("/v1/stores/count-store/keys/{key}"))
}

#[test]
fn a_query_to_the_wrong_instance_is_answered_by_the_right_one() -> Result<()> {
    let app = app_of_two("query")?;
    let mut first = app.run("2")?;
    let mut second = app.run("3")?;
    let addresses = [http::address(&first)?, http::address(&second)?];
    let keys: Vec<String> = (0..20).map(|number| format!("key-{number}")).collect();
    let records: Vec<_> = keys.iter().chain(&keys).map(|key| Record::new(key, "")).collect();
    app.write(&records)?;
    for key in &keys {
        for address in &addresses {
            wait::until("the count of each key at each instance", wait::LONG, || {
                let (code, body) = count(address, key)?;
                Ok((code == 200 && number(&body, "value") == Some(2)).then_some(()))
            })?;
        }
    }
    let tasks = |address: &str| http::get(address, "/v1/tasks").map(|(_, body)| body.matches("\"id\":\"0_").count());
    ensure!(
        tasks(&addresses[0])? == 2 && tasks(&addresses[1])? == 2,
        "both have some of the keys and ask for the rest"
    );
    let text = app.ask("2", &["tasks"])?;
    let of = |instance: &str| text.lines().filter(|line| line.starts_with(instance)).count();
    ensure!(of("2 ") == 2 && of("3 ") == 2 && text.matches("RUNNING").count() == 4, "all tasks, asked of one:\n{text}");
    let (code, body) = count(&addresses[0], "nobody")?;
    ensure!(code == 404 && body.contains("no key nobody"), "{code} {body}");
    let mut entries = 0;
    for partition in 0..4 {
        let path = format!("/v1/stores/count-store/entries?partition={partition}");
        entries += http::get(&addresses[1], &path)?.1.matches("\"timestamp_ms\"").count();
    }
    ensure!(entries == keys.len(), "{entries} entries in all partitions");
    first.stop()?;
    second.stop()
}

/// What a reader sees while there is work and instances come and go: late, perhaps, or nothing, but never a count that
/// is wrong or goes back.
#[test]
fn queries_through_rebalances_are_never_wrong() -> Result<()> {
    const ROUNDS: u64 = 60;
    let app = app_of_two("query-moves")?;
    let mut first = app.run("2")?;
    let address = http::address(&first)?;
    let mut second = None;
    let (mut seen, mut answers) = (0, 0);
    for round in 1..=ROUNDS {
        app.write(&[Record::new("a", ""), Record::new("b", ""), Record::new("c", ""), Record::new("d", "")])?;
        match round {
            20 => second = Some(app.start("3")?),
            40 => second.take().context("it was started")?.stop()?,
            _ => {}
        }
        for key in ["a", "b", "c", "d"] {
            let (code, body) = count(&address, key)?;
            ensure!([200, 404, 503].contains(&code), "{code} {body}");
            let Some(value) = number(&body, "value").filter(|_| code == 200) else { continue };
            answers += 1;
            ensure!(value <= round, "{key} was written {round} times: {body}");
            if key == "a" && body.contains("\"stale\":false") {
                ensure!(value >= seen, "it was {seen} before: {body}");
                seen = value;
            }
        }
    }
    wait::until("the last count", wait::LONG, || {
        Ok((number(&count(&address, "a")?.1, "value") == Some(ROUNDS)).then_some(()))
    })?;
    ensure!(answers > ROUNDS, "only {answers} of {} questions were answered", 4 * ROUNDS);
    first.stop()
}

#[test]
fn state_is_looked_into_while_the_application_runs_and_after() -> Result<()> {
    let app = App::new(&Kafka::shared()?, "state")?;
    let mut process = app.run("a")?;
    app.write(&[Record::new("foo", ""), Record::new("bar", ""), Record::new("foo", "")])?;
    app.group()?.caught_up()?;
    for running in [true, false] {
        if !running {
            process.stop()?;
        }
        let text = app.ask("a", &["state", "get", "count-store", "foo"])?;
        ensure!(text == "2\n", "running {running}: {text}");
        let text = app.ask("a", &["state", "scan", "count-store", "--prefix", "b", "--json"])?;
        ensure!(
            text.contains("\"key\":\"bar\"") && text.contains("\"value\":1") && text.lines().count() == 1,
            "{text}"
        );
        let text = app.ask("a", &["state", "dump"])?;
        ensure!(text.lines().count() == 2, "{text}");
        let text = app.ask("a", &["state", "ls"])?;
        ensure!(text.starts_with("TASK  STORE") && text.matches("count-store").count() == 4, "{text}");
        app.denied("a", &["state", "get", "count-store", "nobody"], &["there is no key nobody"])?;
        app.denied("a", &["state", "get", "sums", "foo"], &["there are: count-store"])?;
    }
    Ok(())
}

#[test]
fn an_application_is_reset_and_counts_anew() -> Result<()> {
    let mut app = App::new(&Kafka::shared()?, "reset")?;
    app.leave_on_stop();
    let mut process = app.run("a")?;
    app.write(&[Record::new("foo", ""), Record::new("bar", ""), Record::new("foo", "")])?;
    app.group()?.caught_up()?;
    let text = app.ask("a", &["lag"])?;
    ensure!(text.starts_with("TOPIC") && text.matches(&app.input).count() == 4, "{text}");
    let text = app.ask("a", &["lag", "--json"])?;
    ensure!(text.matches("\"lag\":0").count() == 4 && !text.contains("\"instance\":null"), "{text}");
    app.denied("a", &["reset", "--yes"], &["has members", "stop all instances first"])?;
    process.stop()?;

    // As an application's whose id only begins the same.
    let foreign = format!("{}-b-store-changelog", app.id);
    topics::create(&app.kafka, &foreign, 1, &[])?;
    let text = app.ask("a", &["reset", "--dry-run"])?;
    let planned = [format!("delete topic {}\n", app.changelog()), format!("leave topic {foreign}")];
    ensure!(planned.iter().all(|line| text.contains(line)) && text.ends_with("nothing was done\n"), "{text}");
    ensure!(app.tasks_on_disk("a")?.len() == 4, "a dry run deletes nothing");
    app.denied("a", &["reset"], &["say --yes"])?;
    app.ask("a", &["reset", "--yes"])?;
    ensure!(app.tasks_on_disk("a").is_err(), "the state is deleted");
    ensure!(topics::partition_count(&app.kafka, &app.changelog())?.is_none(), "so is the changelog");
    ensure!(topics::partition_count(&app.kafka, &foreign)? == Some(1), "another's is not");
    let text = app.ask("a", &["lag", "--json"])?;
    let lags = text.split("\"lag\":").skip(1).filter_map(|rest| rest.split([',', '}']).next()?.parse::<u64>().ok());
    ensure!(lags.sum::<u64>() == 3, "{text}");

    // Every record is counted again, from nothing.
    let before = app.outputs(3)?.len();
    process = app.run("a")?;
    let after = app.outputs(before + 3)?;
    let texts = after.iter().map(|found| found.record.text());
    let foo: Vec<String> = texts.filter(|(key, _)| key == "foo").map(|(_, count)| count).collect();
    ensure!(foo == ["1", "2", "1", "2"], "{foo:?}");
    process.stop()
}

#[test]
fn a_reset_can_go_to_another_place_than_the_beginning() -> Result<()> {
    let mut app = App::new(&Kafka::shared()?, "reset-to")?;
    app.leave_on_stop();
    let mut process = app.run("a")?;
    app.write(&[Record::new("foo", ""), Record::new("foo", ""), Record::new("foo", "")])?;
    app.group()?.caught_up()?;
    process.stop()?;
    let to = |options: &[&str]| -> Result<i64> {
        app.ask("a", &[&["reset", "--yes", "--json"], options].concat())?;
        app.group()?.progress()
    };
    for (options, expected) in [
        (&["--shift-by", "-1"][..], 2),
        (&["--shift-by", "7"], 3),
        (&["--to-earliest"], 0),
        (&["--to-latest"], 3),
        (&["--to-datetime", "2001-01-01T00:00:00"], 0),
        (&["--to-datetime", "2901-01-01T00:00:00+01:00"], 3),
    ] {
        let progress = to(options)?;
        ensure!(progress == expected, "{options:?} led to {progress}");
    }
    let output = app.call("a", &["reset", "--to-latest", "--shift-by", "1"])?;
    ensure!(output.status.code() == Some(2), "two places at once: {}", output.status);
    Ok(())
}

/// As pods do that were scaled down: they keep their places for their return.
#[test]
fn a_reset_takes_members_out_that_did_not_leave() -> Result<()> {
    let mut app = App::new(&Kafka::shared()?, "reset-force")?;
    // It would have to wait longer than any test.
    app.set("kafka.consumer.session.timeout.ms", "900000");
    app.set("kafka.consumer.max.poll.interval.ms", "900000");
    let mut first = app.run("a")?;
    let mut second = app.run("b")?;
    app.write(&[Record::new("foo", ""), Record::new("bar", "")])?;
    app.group()?.caught_up()?;
    first.stop()?;
    second.stop()?;
    app.denied("a", &["reset", "--yes"], &["has members (", "--force"])?;
    let text = app.ask("a", &["reset", "--force", "--dry-run"])?;
    ensure!(["take a out", "take b out"].iter().all(|line| text.contains(line)), "{text}");
    app.ask("a", &["reset", "--force", "--yes"])?;
    ensure!(app.group()?.progress()? == 0, "the offsets are at the beginning");
    ensure!(app.ask("a", &["lag"])?.matches("(nobody)").count() == 4);

    // One that has no name is waited for.
    let mut app = App::new(&Kafka::shared()?, "reset-force-dynamic")?;
    app.leave_on_stop();
    app.set("kafka.consumer.session.timeout.ms", "6000");
    let mut process = app.run("a")?;
    process.kill()?;
    app.ask("a", &["reset", "--force", "--yes"]).map(drop)
}

#[test]
fn a_store_that_is_not_what_its_changelog_says_is_found_out() -> Result<()> {
    let mut app = App::without_topics(&Kafka::shared()?, "verify")?;
    app.leave_on_stop();
    for topic in [&app.input, &app.output] {
        topics::create(&app.kafka, topic, 1, &[])?;
    }
    let mut process = app.run("a")?;
    let record = |key: &str| Record::new(key, "").at(1_000);
    app.write(&[record("foo"), record("bar"), record("foo")])?;
    app.group()?.caught_up()?;
    let text = app.ask("a", &["state", "verify", "--json"])?;
    ensure!(number(&text, "entries") == Some(2) && number(&text, "differing") == Some(0), "while it runs: {text}");
    let position = number(&text, "changelog_offset").context("a position")?;
    process.stop()?;
    app.ask("a", &["state", "verify", "count-store"])?;

    // Another history, which is long enough for the position that the store has.
    topics::delete(&app.kafka, &[&app.changelog()])?;
    wait::until("the changelog to be gone", wait::LONG, || {
        Ok(topics::partition_count(&app.kafka, &app.changelog())?.is_none().then_some(()))
    })?;
    topics::create(&app.kafka, &app.changelog(), 1, &[("cleanup.policy", "compact")])?;
    app.denied("a", &["state", "verify"], &["it is restored as a whole when its task starts"])?;
    let long = |key: &str, count: i64| Record { value: Some(count.to_be_bytes().into()), ..record(key) };
    let deleted = Record { value: None, ..record("gone") };
    let filling = (1..position).map(|_| deleted.clone());
    let history: Vec<Record> = [long("foo", 9)].into_iter().chain(filling).chain([long("new", 9)]).collect();
    records::write(&app.kafka, &app.changelog(), &history)?;
    let output = app.call("a", &["state", "verify", "--json"])?;
    let text = String::from_utf8_lossy(&output.stdout);
    ensure!(output.status.code() == Some(1), "{}: {text}", output.status);
    // What is written of `new` comes after the position, and does not count.
    ensure!(number(&text, "differing") == Some(2), "{text}");
    app.denied("a", &["state", "verify"], &["bar ", "1  (nothing)\n", "foo ", "2  9\n"])
}

#[test]
fn a_paused_instance_processes_nothing_until_it_is_resumed() -> Result<()> {
    let mut app = App::new(&Kafka::shared()?, "pause")?;
    let token = app.path("token");
    fs::write(&token, "sesame\n")?;
    app.set("http.listen", "127.0.0.1:0");
    app.set("http.token.file", &token.to_string_lossy());
    let mut process = app.run("a")?;
    let address = http::address(&process)?;
    app.write(&[Record::new("a", "")])?;
    app.counts(&[("a", 1)])?;
    let (code, _) = http::post(&address, "/v1/pause", "wrong")?;
    ensure!(code == 401, "{code}");
    let (code, body) = http::post(&address, "/v1/pause", "sesame")?;
    ensure!(code == 200 && body.contains("\"paused\":true"), "{code} {body}");
    let (code, why) = http::get(&address, "/readyz")?;
    ensure!(code == 503 && why.contains("paused"), "{code} {why}");
    process.line(&["what is read follows an operator", "paused=true"])?;
    app.write(&[Record::new("a", ""), Record::new("b", "")])?;
    // It has had more than a second for what takes a few milliseconds.
    let metrics = || http::get(&address, "/metrics").map(|(_, text)| text);
    let until = sum(&metrics()?, "millrace_uptime_seconds") + 1.5;
    let text = wait::until("time to pass", wait::LONG, || {
        Ok(Some(metrics()?).filter(|text| sum(text, "millrace_uptime_seconds") > until))
    })?;
    ensure!(sum(&text, "millrace_process_records_total{") == 1.0 && sum(&text, "millrace_paused") == 1.0, "{text}");
    ensure!(sum(&text, "millrace_tasks{state=\"RUNNING\"}") == 4.0, "it is a member with all its tasks: {text}");
    let (code, body) = http::post(&address, "/v1/resume", "sesame")?;
    ensure!(code == 200 && body.contains("\"paused\":false"), "{code} {body}");
    app.counts(&[("a", 2), ("b", 1)])?;
    ensure!(http::get(&address, "/readyz")?.0 == 200);
    process.stop()
}

/// As in Kafka Streams, whose paused instances leave standbys and restores alone, too.
#[test]
fn a_paused_instance_leaves_its_standbys_alone() -> Result<()> {
    let mut app = App::new(&Kafka::shared()?, "pause-standby")?;
    let token = app.path("token");
    fs::write(&token, "sesame\n")?;
    app.leave_on_stop();
    app.set("num.standby.replicas", "1");
    app.set("http.listen", "127.0.0.1:0");
    app.set("http.token.file", &token.to_string_lossy());
    let mut first = app.run("a")?;
    let mut second = app.run("b")?;
    second.nth_line(&["standby caught up"], 2, wait::LONG)?;
    let (owner, address) = (http::address(&first)?, http::address(&second)?);
    ensure!(http::post(&address, "/v1/pause", "sesame")?.0 == 200);
    let keys: Vec<String> = (0..20).map(|number| format!("key-{number}")).collect();
    app.write(&keys.iter().map(|key| Record::new(key, "")).collect::<Vec<_>>())?;
    let metric = |address: &str, name: &str| http::get(address, "/metrics").map(|(_, text)| sum(&text, name));
    let written = || metric(&owner, "millrace_changelog_records_total");
    wait::until("the owner of the tasks to write what a standby could read", wait::LONG, || {
        Ok((written()? > 0.0).then_some(()))
    })?;
    // It has had more than a second for what takes a few milliseconds.
    let until = metric(&address, "millrace_uptime_seconds")? + 1.5;
    wait::until("time to pass", wait::LONG, || {
        Ok(Some(()).filter(|()| metric(&address, "millrace_uptime_seconds").is_ok_and(|uptime| uptime > until)))
    })?;
    let read = metric(&address, "millrace_restore_records_total{")?;
    ensure!(read == 0.0, "{read} records were read");
    ensure!(http::post(&address, "/v1/resume", "sesame")?.0 == 200);
    wait::until("the standbys to have read all that was written", wait::LONG, || {
        Ok((metric(&address, "millrace_restore_records_total{")? >= written()?).then_some(()))
    })?;
    first.stop()?;
    second.stop()
}
