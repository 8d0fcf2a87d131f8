//! Versioned tables on a real Kafka, in Millrace and in Kafka Streams by turns: across kills and lost disks, with prices that
//! come late and trades that wait for them.

use std::collections::BTreeMap;
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, ensure};
use millrace_e2e::app::App;
use millrace_e2e::group::Group;
use millrace_e2e::kafka::Kafka;
use millrace_e2e::records::{self, Found, Reader, Record};
use millrace_e2e::{http, setting, topics, wait};

const SECOND: i64 = 1_000;
const SYMBOLS: usize = 8;
const PARTITIONS: i32 = 2;
/// When trades are within a round, in seconds.
const TRADES: [i64; 3] = [5, 15, 25];

/// Of each symbol and time a number.
type Numbers = BTreeMap<(String, i64), i64>;

struct Market {
    kafka: Kafka,
    begin: i64,
    prices: Numbers,
    quoted: Numbers,
    settled: Numbers,
}

fn symbol(number: usize) -> String {
    format!("symbol-{number}")
}

fn record(symbol: &str, time: i64, value: i64) -> Record {
    Record { value: Some(value.to_be_bytes().to_vec()), ..Record::new(symbol, "") }.at(time)
}

fn numbers(found: &[Found]) -> Numbers {
    let number = |found: &Found| {
        let Record { key, value, timestamp, .. } = &found.record;
        let value = value.as_deref()?.try_into().ok()?;
        Some(((String::from_utf8(key.clone()?).ok()?, (*timestamp)?), i64::from_be_bytes(value)))
    };
    found.iter().filter_map(number).collect()
}

impl Market {
    fn time(&self, round: i64, second: i64) -> i64 {
        self.begin + (round * 100 + second) * SECOND
    }

    fn price(&self, symbol: &str, time: i64) -> Option<i64> {
        let before = self.prices.range((symbol.to_owned(), i64::MIN)..=(symbol.to_owned(), time));
        before.last().map(|(_, price)| *price)
    }

    /// Writes prices of a round, and waits until they are known.
    fn write_prices(&mut self, app: &App, round: i64, seconds: &[i64]) -> Result<()> {
        let mut written = Vec::new();
        for (number, &second) in (0..SYMBOLS).flat_map(|number| seconds.iter().map(move |second| (number, second))) {
            let (symbol, time) = (symbol(number), self.time(round, second));
            let price = i64::try_from(number)? + second + 1_000 * (round + 1);
            written.push(record(&symbol, time, price));
            self.prices.insert((symbol, time), price);
        }
        records::write(&self.kafka, "share-prices", &written)?;
        Group::new(&self.kafka, &app.id, "share-prices")?.caught_up()
    }

    /// Writes trades of a round, and waits until they are quoted.
    fn write_trades(&mut self, round: i64) -> Result<()> {
        let mut written = Vec::new();
        for (number, second) in (0..SYMBOLS).flat_map(|number| TRADES.map(|second| (number, second))) {
            let (symbol, time) = (symbol(number), self.time(round, second));
            written.push(record(&symbol, time, second));
            let price = self.price(&symbol, time).context("every symbol has a price")?;
            self.quoted.insert((symbol, time), second * price);
        }
        records::write(&self.kafka, "trades", &written)?;
        self.are("quoted", &self.quoted)
    }

    /// Lets the trades of a round be settled by the prices there are by now.
    fn settle(&mut self, round: i64) -> Result<()> {
        for partition in 0..PARTITIONS {
            records::write_to(&self.kafka, "trades", partition, &[record("nothing", self.time(round, 60), 0)])?;
        }
        for (number, second) in (0..SYMBOLS).flat_map(|number| TRADES.map(|second| (number, second))) {
            let (symbol, time) = (symbol(number), self.time(round, second));
            let price = self.price(&symbol, time).context("every symbol has a price")?;
            self.settled.insert((symbol, time), second * price);
        }
        self.are("settled", &self.settled)
    }

    fn are(&self, topic: &str, expected: &Numbers) -> Result<()> {
        let what = format!("{} numbers in {topic}", expected.len());
        Reader::new(&self.kafka, topic)?.until(&what, wait::LONG, |found| numbers(found) == *expected).map(drop)
    }

    /// What is asked for of the past is what was so.
    fn has_history(&self, address: &str, round: i64) -> Result<()> {
        for (number, second) in (0..SYMBOLS).flat_map(|number| [0, 11, 19, 70].map(|second| (number, second))) {
            let (symbol, time) = (symbol(number), self.time(round, second));
            let (status, text) = http::get(address, &format!("/v1/stores/prices/keys/{symbol}?as_of={time}"))?;
            let price = self.price(&symbol, time).context("every symbol has a price")?;
            ensure!(status == 200 && text.contains(&format!("\"value\":{price},")), "{symbol} as of {second}: {text}");
        }
        let (status, text) = http::get(address, &format!("/v1/stores/prices/entries?key={}", symbol(0)))?;
        let versions = self.prices.keys().filter(|(known, _)| *known == symbol(0)).count();
        let found = text.matches("\"value\":").count();
        ensure!(status == 200 && found == versions, "{versions} versions: {text}");
        let (status, _) = http::get(address, &format!("/v1/stores/prices/keys/{}?as_of=1", symbol(0)))?;
        ensure!(status == 404, "there was no price at the epoch");
        Ok(())
    }
}

fn application(kafka: &Kafka) -> Result<App> {
    let mut app = App::without_topics(kafka, "versioned")?;
    app.set("module.source", &setting::module("example-trades")?.to_string_lossy());
    app.set("commit.interval.ms", "100");
    app.set("http.listen", "127.0.0.1:0");
    // Who stops hands over at once, and who was killed is not waited for long.
    app.leave_on_stop();
    app.set("kafka.consumer.session.timeout.ms", "6000");
    app.input = "share-prices".into();
    app.output = "quoted".into();
    Ok(app)
}

#[test]
fn versioned_tables_change_hands_and_survive_kills_and_lost_disks() -> Result<()> {
    let kafka = Kafka::shared()?;
    for topic in ["share-prices", "trades", "quoted", "settled"] {
        topics::create(&kafka, topic, PARTITIONS, &[])?;
    }
    let app = application(&kafka)?;
    let now = i64::try_from(SystemTime::now().duration_since(UNIX_EPOCH)?.as_millis())?;
    let (prices, quoted, settled) = (Numbers::new(), Numbers::new(), Numbers::new());
    let mut market = Market { kafka, begin: now - 1_000 * SECOND, prices, quoted, settled };

    let mut java = app.peer()?.option("trades", "true").start()?;
    market.write_prices(&app, 0, &[0, 20, 10])?;
    market.write_trades(0)?;
    market.write_prices(&app, 0, &[12])?;
    market.settle(0)?;
    market.write_prices(&app, 1, &[0, 20, 10])?;
    market.write_trades(1)?;
    java.stop()?;

    // Carried on in place, with trades that wait, and killed while it does.
    let mut millrace = app.run("a")?;
    market.write_prices(&app, 1, &[12])?;
    millrace.kill()?;
    let mut millrace = app.run("a")?;
    market.settle(1)?;
    market.write_prices(&app, 2, &[0, 20, 10])?;
    market.write_trades(2)?;
    millrace.stop()?;

    // On another disk.
    app.remove_state("a")?;
    let mut millrace = app.run("a")?;
    market.write_prices(&app, 2, &[12])?;
    market.settle(2)?;
    for round in 0..3 {
        market.has_history(&http::address(&millrace)?, round)?;
    }
    let shown = app.ask("a", &["state", "get", "prices", &symbol(3)])?;
    let price = market.price(&symbol(3), i64::MAX).context("every symbol has a price")?;
    ensure!(shown == format!("{price}\n"), "{shown}, not {price}");
    let shown = app.ask("a", &["state", "scan", "prices", "--json"])?;
    let (all, now) = (shown.lines().count(), shown.matches("\"valid_to_ms\":null").count());
    ensure!(all == market.prices.len() && now == SYMBOLS, "{all} versions, {now} of them valid:\n{shown}");
    app.denied("a", &["state", "verify", "prices"], &["store prices keeps versions"])?;
    millrace.stop()?;

    // Handed back. Nothing is late any more: Kafka Streams misreads the keys of a buffer that it restores, and takes the time
    // to be far ahead.
    let mut java = app.peer()?.option("trades", "true").start()?;
    market.write_prices(&app, 3, &[0, 20, 10, 12])?;
    market.write_trades(3)?;
    market.settle(3)?;
    java.stop()?;
    Ok(())
}
