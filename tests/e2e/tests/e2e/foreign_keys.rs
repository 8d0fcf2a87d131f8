//! Joins on foreign keys on a real Kafka, in Millrace and in Kafka Streams by turns: across kills and lost disks, between
//! tables with different numbers of partitions.

use std::collections::BTreeMap;

use anyhow::{Result, ensure};
use millrace_e2e::app::App;
use millrace_e2e::kafka::Kafka;
use millrace_e2e::records::{self, Found, Reader, Record, compacted};
use millrace_e2e::{setting, topics, wait};

const SHIPMENTS: &str = "shipments";
const CHECKED: &str = "checked-orders";
const ORDERS: usize = 150;
const CUSTOMERS: usize = 20;

/// What both tables are to be.
#[derive(Default)]
struct Tables {
    /// Of each order, the customer and the item.
    orders: BTreeMap<String, (String, String)>,
    /// Of each customer, the name and the city.
    customers: BTreeMap<String, (String, String)>,
}

/// Sets or deletes a row; the names are those of its fields.
fn change(
    table: &mut BTreeMap<String, (String, String)>,
    key: String,
    names: (&str, &str),
    row: Option<(String, String)>,
) -> Record {
    let json = |(one, other): &(String, String)| format!("{{\"{}\":\"{one}\",\"{}\":\"{other}\"}}", names.0, names.1);
    let record = Record { value: row.as_ref().map(|row| json(row).into_bytes()), ..Record::new(&key, "") };
    match row {
        Some(row) => table.insert(key, row),
        None => table.remove(&key),
    };
    record
}

impl Tables {
    /// Writes a round of changes: at first most rows come; later some change, some refer to another customer, some go.
    fn write(&mut self, kafka: &Kafka, round: usize) -> Result<()> {
        let customers =
            (0..CUSTOMERS).filter(|number| round == 0 || (number + round).is_multiple_of(3)).map(|number| {
                let row = !(number + round).is_multiple_of(7);
                let row = row.then(|| (format!("name-{number}-{round}"), format!("city-{}", number % 4)));
                change(&mut self.customers, format!("customer-{number}"), ("name", "city"), row)
            });
        let customers: Vec<Record> = customers.collect();
        let orders = (0..ORDERS).filter(|number| round == 0 || (number + round).is_multiple_of(4)).map(|number| {
            let row = !(number + round).is_multiple_of(11);
            // Some of the customers are not known.
            let customer = (number * 7 + round) % (CUSTOMERS + 5);
            let row = row.then(|| (format!("customer-{customer}"), format!("item-{number}-{}", round / 2)));
            change(&mut self.orders, format!("order-{number}"), ("customer", "item"), row)
        });
        let orders: Vec<Record> = orders.collect();
        records::write(kafka, "customers", &customers)?;
        records::write(kafka, "orders", &orders)
    }

    fn shipments(&self) -> BTreeMap<String, String> {
        let shipment = |(order, (customer, item)): (&String, &(String, String))| {
            let (name, city) = self.customers.get(customer)?;
            Some((order.clone(), format!("{item} to {name} in {city}")))
        };
        self.orders.iter().filter_map(shipment).collect()
    }

    fn checked(&self) -> BTreeMap<String, String> {
        let checked = |(order, (customer, item)): (&String, &(String, String))| {
            let name = self.customers.get(customer).map_or("nobody we know", |(name, _)| name);
            (order.clone(), format!("{item} for {name}"))
        };
        self.orders.iter().map(checked).collect()
    }

    /// Waits until both joins are right.
    fn joined(&self, kafka: &Kafka) -> Result<()> {
        for (topic, expected) in [(SHIPMENTS, self.shipments()), (CHECKED, self.checked())] {
            let right = |found: &[Found]| last(found.to_vec()) == expected;
            Reader::new(kafka, topic)?.until(&format!("{} rows", expected.len()), wait::LONG, right)?;
        }
        Ok(())
    }
}

/// The last value of each key, without those that were deleted.
fn last(found: Vec<Found>) -> BTreeMap<String, String> {
    compacted(found).values().map(Record::text).collect()
}

fn application(kafka: &Kafka, id: &str) -> Result<App> {
    let mut app = App::without_topics(kafka, id)?;
    app.set("module.source", &setting::module("example-orders")?.to_string_lossy());
    app.set("commit.interval.ms", "200");
    // Who stops hands over at once, and who was killed is not waited for long.
    app.leave_on_stop();
    app.set("kafka.consumer.session.timeout.ms", "6000");
    app.input = "orders".into();
    app.output = SHIPMENTS.into();
    Ok(app)
}

#[test]
fn joins_on_foreign_keys_change_hands_and_survive_kills_and_lost_disks() -> Result<()> {
    let kafka = Kafka::shared()?;
    for (topic, partitions) in [("orders", 4), ("customers", 3), (SHIPMENTS, 4), (CHECKED, 2)] {
        topics::create(&kafka, topic, partitions, &[])?;
    }
    let app = application(&kafka, "foreign-keys")?;
    let mut tables = Tables::default();

    tables.write(&kafka, 0)?;
    let mut java = app.peer()?.option("orders", "true").start()?;
    tables.joined(&kafka)?;
    java.stop()?;

    // Carried on in place, and killed while it does.
    tables.write(&kafka, 1)?;
    let mut millrace = app.run("a")?;
    tables.joined(&kafka)?;
    tables.write(&kafka, 2)?;
    millrace.kill()?;
    let mut millrace = app.run("a")?;
    tables.joined(&kafka)?;
    millrace.stop()?;

    // On two other disks.
    tables.write(&kafka, 3)?;
    app.remove_state("a")?;
    let mut both = [app.run("a")?, app.start("b")?];
    tables.joined(&kafka)?;
    tables.write(&kafka, 4)?;
    tables.joined(&kafka)?;
    both.iter_mut().try_for_each(|instance| instance.stop())?;

    // Handed back.
    tables.write(&kafka, 5)?;
    let mut java = app.peer()?.option("orders", "true").start()?;
    tables.joined(&kafka)?;
    java.stop()?;

    let found = records::read(&kafka, SHIPMENTS)?;
    ensure!(last(found) == tables.shipments(), "what came at the end has changed it");
    Ok(())
}
