//! Windows on a real Kafka, in Millrace and in Kafka Streams by turns: across kills and lost disks, with their keys and
//! partitions in topics, and with changelogs that age.

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, ensure};
use millrace_e2e::app::App;
use millrace_e2e::kafka::Kafka;
use millrace_e2e::records::{self, Found, Record, compacted};
use millrace_e2e::{setting, topics};

const SECOND: i64 = 1_000;
const MINUTE: i64 = 60 * SECOND;
const USERS: i64 = 40;
/// How often a user clicks in a session, once a second; then the next one does.
const SESSION: i64 = 7;
/// A fifth of them is no whole number of sessions or minutes, nor are two, three or four.
const CLICKS: i64 = 2_525;
const PER_MINUTE: &str = "clicks-per-minute";
const PER_CLOSED_MINUTE: &str = "clicks-per-closed-minute";
const PER_SESSION: &str = "clicks-per-session";
/// How long a minute takes late clicks after its end.
const GRACE: i64 = 5 * SECOND;

fn user(number: i64) -> String {
    format!("user-{}", number / SESSION % USERS)
}

/// When clicks are, in milliseconds. Not long ago: brokers delete what a changelog of windows has of days ago.
struct Times {
    /// The start of a minute.
    begin: i64,
}

impl Times {
    fn new() -> Result<Self> {
        let now = i64::try_from(SystemTime::now().duration_since(UNIX_EPOCH)?.as_millis())?;
        Ok(Self { begin: (now - CLICKS * SECOND) / MINUTE * MINUTE })
    }

    fn of(&self, number: i64) -> i64 {
        self.begin + number * SECOND
    }

    /// The minute's start.
    fn minute(&self, number: i64) -> Vec<i64> {
        vec![self.of(number) / MINUTE * MINUTE]
    }

    /// The session's end and start.
    fn session(&self, number: i64) -> Vec<i64> {
        let first = number / SESSION * SESSION;
        vec![self.of((first + SESSION).min(CLICKS) - 1), self.of(first)]
    }
}

/// A user and the times of a window, as many as its key has behind the user.
type Key = (String, Vec<i64>);

fn key<const TIMES: usize>(record: &Record) -> Result<Key> {
    let key = record.key.as_deref().context("a key")?;
    let split = key.len().checked_sub(TIMES * 8).context("a windowed key ends in its times")?;
    let (user, times) = key.split_at(split);
    let (times, _) = times.as_chunks::<8>();
    Ok((String::from_utf8(user.to_vec())?, times.iter().copied().map(i64::from_be_bytes).collect()))
}

/// The last count of each window, without those that were deleted.
fn counts<const TIMES: usize>(found: Vec<Found>) -> Result<BTreeMap<Key, u64>> {
    compacted(found).values().map(|record| Ok((key::<TIMES>(record)?, record.text().1.parse()?))).collect()
}

fn expected(key: impl Fn(i64) -> Vec<i64>) -> BTreeMap<Key, u64> {
    let mut expected = BTreeMap::new();
    for number in 0..CLICKS {
        *expected.entry((user(number), key(number))).or_default() += 1;
    }
    expected
}

/// Says where they differ.
fn same<K: Ord + Debug, V: PartialEq + Debug>(
    what: &str,
    found: &BTreeMap<K, V>,
    right: &BTreeMap<K, V>,
) -> Result<()> {
    let missing: Vec<_> = right.iter().filter(|(key, value)| found.get(key) != Some(value)).collect();
    let wrong: Vec<_> = found.iter().filter(|(key, value)| right.get(key) != Some(value)).collect();
    ensure!(missing.is_empty() && wrong.is_empty(), "{what}: {wrong:?}\nnot\n{missing:?}");
    Ok(())
}

fn application(kafka: &Kafka, id: &str) -> Result<App> {
    let mut app = App::without_topics(kafka, id)?;
    app.set("module.source", &setting::module("example-clicks")?.to_string_lossy());
    app.set("commit.interval.ms", "200");
    // Who stops hands over at once, and who was killed is not waited for long.
    app.leave_on_stop();
    app.set("kafka.consumer.session.timeout.ms", "6000");
    app.input = "clicks".into();
    app.output = PER_MINUTE.into();
    Ok(app)
}

/// Changelogs that Millrace makes are those that Kafka Streams made.
fn same_changelogs(kafka: &Kafka, theirs: &App) -> Result<()> {
    let ours = application(kafka, "windows-alone")?;
    let mut millrace = ours.run("a")?;
    millrace.stop()?;
    for store in [PER_MINUTE, PER_SESSION, "users", "closed-minutes-store"] {
        let config = |app: &App| topics::config(kafka, &format!("{}-{store}-changelog", app.id));
        let (ours, theirs) = (config(&ours)?, config(theirs)?);
        same(store, &ours, &theirs)?;
    }
    Ok(())
}

#[test]
fn windows_change_hands_and_survive_kills_and_lost_disks() -> Result<()> {
    let kafka = Kafka::shared()?;
    for topic in ["clicks", "users", PER_MINUTE, PER_CLOSED_MINUTE, PER_SESSION, "visits"] {
        topics::create(&kafka, topic, 4, &[])?;
    }
    let app = application(&kafka, "windows")?;
    let group = app.group()?;
    let times = Times::new()?;
    records::write(&kafka, "users", &[Record::new("user-7", "Ada").at(times.of(0))])?;
    let click = |number| Record::new(&user(number), "page").at(times.of(number));
    let clicks: Vec<Record> = (0..CLICKS).map(click).collect();
    // Each begins within a minute and a session of the one before.
    let parts: Vec<&[Record]> = clicks.chunks(clicks.len() / 5).collect();

    app.write(parts[0])?;
    let mut java = app.peer()?.option("clicks", "true").start()?;
    group.caught_up()?;
    java.stop()?;

    // Carried on in place, and killed while it does.
    app.write(parts[1])?;
    let mut millrace = app.run("a")?;
    app.outputs(parts[0].len() + 1)?;
    app.write(parts[2])?;
    millrace.kill()?;
    let mut millrace = app.run("a")?;
    group.caught_up()?;
    millrace.stop()?;

    // On another disk.
    app.write(parts[3])?;
    app.remove_state("a")?;
    let mut millrace = app.run("a")?;
    group.caught_up()?;
    millrace.stop()?;

    // Handed back.
    app.write(parts[4])?;
    let mut java = app.peer()?.option("clicks", "true").start()?;
    group.caught_up()?;
    java.stop()?;

    let per_minute = records::read(&kafka, PER_MINUTE)?;
    same(PER_MINUTE, &counts::<1>(per_minute.clone())?, &expected(|number| times.minute(number)))?;
    let per_session = counts::<2>(records::read(&kafka, PER_SESSION)?)?;
    same(PER_SESSION, &per_session, &expected(|number| times.session(number)))?;

    // Where a user's clicks are, there are the counts: Kafka Streams partitions by the key without its window.
    let place = |found: &Found| (found.record.text().0, found.partition);
    let places: BTreeMap<String, i32> = records::read(&kafka, "clicks")?.iter().map(place).collect();
    for found in &per_minute {
        let (user, _) = key::<1>(&found.record)?;
        let (clicks, counts) = (places[&user], found.partition);
        ensure!(clicks == counts, "{user} clicks in {clicks}, and is counted in {counts}");
    }

    // What waited for its minute to close has changed hands, too.
    let mut last = BTreeMap::new();
    for number in 0..CLICKS {
        last.insert(places[&user(number)], times.of(number));
    }
    let mut closed = expected(|number| times.minute(number));
    closed.retain(|(user, start), _| start[0] + MINUTE + GRACE <= last[&places[user]]);
    same(PER_CLOSED_MINUTE, &counts::<1>(records::read(&kafka, PER_CLOSED_MINUTE)?)?, &closed)?;

    let visits = records::read(&kafka, "visits")?;
    ensure!(visits.iter().any(|found| found.record.text().1 == "Ada visits page"), "nobody has met the table");
    same_changelogs(&kafka, &app)
}

/// The time of the last look at closed windows is with the group's offsets, where both sides find it.
#[test]
fn closed_windows_go_on_once_whoever_has_them() -> Result<()> {
    let mut app = App::new(&Kafka::shared()?, "closing")?;
    app.environment("COUNTS_MODE", "closing");
    app.leave_on_stop();
    let (group, times) = (app.group()?, Times::new()?);
    let write = |numbers: &[i64]| {
        let records: Vec<_> = numbers.iter().map(|number| Record::new("a", "x").at(times.of(*number))).collect();
        app.write(&records)
    };
    // With a grace period of a second, a window is closed two seconds after its start.
    write(&[0, 0, 2])?;
    let mut millrace = app.run("a")?;
    app.outputs(1)?;
    group.caught_up()?;
    millrace.stop()?;

    write(&[3, 4])?;
    let mut millrace = app.run("a")?;
    app.outputs(2)?;
    group.caught_up()?;
    millrace.stop()?;

    // Kafka Streams looks once a second.
    write(&[5])?;
    let mut java = app.peer()?.option("closing", "true").start()?;
    app.outputs(3)?;
    group.caught_up()?;
    java.stop()?;

    // On another disk.
    write(&[7])?;
    app.remove_state("a")?;
    let mut millrace = app.run("a")?;
    let found = app.outputs(5)?;
    group.caught_up()?;
    millrace.stop()?;
    // They are in several partitions.
    let mut found: Vec<(String, String)> = found.iter().map(|found| found.record.text()).collect();
    found.sort_unstable();
    let closed = [(0, "2"), (2, "1"), (3, "1"), (4, "1"), (5, "1")];
    let closed = closed.map(|(number, count)| (format!("a@{}", times.of(number)), count.to_owned()));
    ensure!(found == closed, "{found:?}, not {closed:?}");
    ensure!(records::read(&app.kafka, &app.output)?.len() == closed.len(), "a window has gone on twice");
    Ok(())
}
