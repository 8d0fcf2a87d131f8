//! Global stores on a real Kafka: filled before anything is processed, by every instance; followed; read on where a
//! killed instance was; filled anew where that can't be.

use std::collections::BTreeMap;

use anyhow::{Context, Result, ensure};
use millrace_e2e::app::App;
use millrace_e2e::http;
use millrace_e2e::kafka::Kafka;
use millrace_e2e::process::{Process, field};
use millrace_e2e::records::{self, Reader, Record};
use millrace_e2e::{setting, topics, wait};

const PRODUCTS: usize = 300;
/// Of `prices`. The streams that are joined with it have more.
const PARTITIONS: i32 = 3;
const FILLED: &[&str] = &["the global stores are filled", "records="];

fn price(product: usize, price: usize) -> Record {
    Record::new(&format!("product-{product}"), &price.to_string())
}

/// How many records an instance read before it processed anything.
fn filled(process: &Process) -> Result<usize> {
    let line = process.line(FILLED)?;
    Ok(field(&line.text, "records").context("a count of records")?.parse()?)
}

/// The receipt for a purchase of each of these products.
fn buy(kafka: &Kafka, customer: &str, products: &[usize]) -> Result<Vec<String>> {
    let purchases: Vec<Record> =
        products.iter().map(|product| Record::new(customer, &format!("product-{product}"))).collect();
    records::write(kafka, "purchases", &purchases)?;
    let own = |found: &[records::Found]| {
        let texts = found.iter().map(|found| found.record.text());
        texts.filter(|(key, _)| key == customer).map(|(_, receipt)| receipt).collect::<Vec<_>>()
    };
    let receipts = Reader::new(kafka, "receipts")?;
    let found =
        receipts.until(&format!("receipts for {customer}"), wait::LONG, |found| own(found).len() >= products.len())?;
    Ok(own(&found))
}

/// Waits until an instance has a price, or none.
fn has_price(process: &Process, product: usize, expected: Option<usize>) -> Result<()> {
    let (address, path) = (http::address(process)?, format!("/v1/stores/prices/keys/product-{product}"));
    wait::until(&format!("the price {expected:?} of product-{product}"), wait::LONG, || {
        let (status, text) = http::get(&address, &path)?;
        let there = match expected {
            Some(price) => status == 200 && text.contains(&format!("\"value\":{price}")) && text.contains("global"),
            None => status == 404,
        };
        Ok(there.then_some(()))
    })
}

fn application(kafka: &Kafka) -> Result<App> {
    let mut app = App::without_topics(kafka, "globals")?;
    app.set("module.source", &setting::module("example-billing")?.to_string_lossy());
    app.set("commit.interval.ms", "100");
    app.set("processing.guarantee", "exactly_once_v2");
    app.set("faults.policy", "skip");
    app.set("http.listen", "127.0.0.1:0");
    app.leave_on_stop();
    app.set("kafka.consumer.session.timeout.ms", "6000");
    app.input = "purchases".into();
    app.output = "receipts".into();
    Ok(app)
}

fn create_prices(kafka: &Kafka, prices: &[Record]) -> Result<()> {
    topics::create(kafka, "prices", PARTITIONS, &[("cleanup.policy", "compact")])?;
    records::write(kafka, "prices", prices)
}

/// Another topic of that name has nothing of what is on disk.
fn is_filled_anew(kafka: &Kafka, app: &App) -> Result<()> {
    topics::delete(kafka, &["prices"])?;
    wait::until("the topic to be gone", wait::LONG, || {
        Ok(topics::partition_count(kafka, "prices")?.is_none().then_some(()))
    })?;
    create_prices(kafka, &[price(1, 11)])?;
    let mut process = app.run("a")?;
    process.line(&["they are filled anew"])?;
    has_price(&process, 1, Some(11))?;
    has_price(&process, 3, None)?;
    process.stop()
}

#[test]
fn every_instance_has_all_of_a_global_table() -> Result<()> {
    let kafka = Kafka::shared()?;
    let mut app = application(&kafka)?;
    for topic in ["purchases", "payments", "receipts", "owed"] {
        topics::create(&kafka, topic, 4, &[])?;
    }
    app.set("startup.deadline.ms", "500");
    app.refused("early", &["topics are missing", "prices"])?;
    app.set("startup.deadline.ms", "60000");

    create_prices(&kafka, &(0..PRODUCTS).map(|product| price(product, product)).collect::<Vec<_>>())?;
    let mut first = app.run("a")?;
    let mut second = app.run("b")?;
    for process in [&first, &second] {
        ensure!(filled(process)? == PRODUCTS, "an instance lacks prices:\n{}", process.tail());
    }

    // Customers are in all partitions of their topics, products in all of theirs.
    for customer in ["ann", "bob", "cid", "dan", "eve", "fay"] {
        let receipts = buy(&kafka, customer, &[0, 1, 2, 3, 4, PRODUCTS])?;
        let mut right: Vec<String> = (0..5).map(|product| format!("product-{product} at {product}")).collect();
        right.push(format!("product-{PRODUCTS} has no price"));
        ensure!(receipts == right, "{customer} got {receipts:?}");
    }
    records::write(&kafka, "payments", &[Record::new("ann", "5")])?;
    let owed = |found: &[records::Found]| {
        found
            .iter()
            .map(|found| found.record.text())
            .collect::<BTreeMap<_, _>>()
            .get("ann")
            .is_some_and(|owed| owed == "5")
    };
    Reader::new(&kafka, "owed")?.until("what ann owes", wait::LONG, owed)?;

    // Updates, a deletion, and one that is no number.
    let update =
        [price(7, 700), Record { value: None, ..price(8, 0) }, Record::new("product-9", "cheap"), price(10, 1000)];
    records::write(&kafka, "prices", &update)?;
    for process in [&first, &second] {
        has_price(process, 10, Some(1000))?;
        has_price(process, 7, Some(700))?;
        has_price(process, 8, None)?;
        has_price(process, 9, Some(9))?;
        process.line(&["fault=Deserialization", "prices", "product-9"])?;
    }
    let receipts = buy(&kafka, "gus", &[7, 8])?;
    ensure!(receipts == ["product-7 at 700", "product-8 has no price"], "gus got {receipts:?}");

    // Who was killed reads on where it was.
    first.kill()?;
    let missed: Vec<Record> = (0..10).map(|product| price(product, 5000 + product)).collect();
    records::write(&kafka, "prices", &missed)?;
    let mut first = app.run("a")?;
    let read = filled(&first)?;
    ensure!(read == missed.len(), "{read} records were read after a kill, not {}:\n{}", missed.len(), first.tail());
    has_price(&first, 3, Some(5003))?;
    has_price(&first, 200, Some(200))?;
    let (_, metrics) = http::get(&http::address(&first)?, "/metrics")?;
    let counted =
        metrics.lines().find_map(|line| line.strip_prefix("millrace_global_store_records_total{store=\"prices\"} "));
    ensure!(counted.is_some_and(|count| count.parse() == Ok(10.0)), "{metrics}");
    let shown = app.ask("a", &["state", "get", "prices", "product-3"])?;
    ensure!(shown.trim() == "5003", "{shown}");
    first.stop()?;
    second.stop()?;
    is_filled_anew(&kafka, &app)
}
