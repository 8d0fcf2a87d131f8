//! Joins on a foreign key: orders with the customers they refer to. The topic `orders` has the order as its key, `customers`
//! the customer; they need not have as many partitions. A shipment follows its order and its customer: when either changes,
//! it is written again, and deleted when it has one of them no more.

use millrace::prelude::*;
use serde::{Deserialize, Serialize};

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Order {
    customer: String,
    item: String,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Customer {
    name: String,
    city: String,
}

pub(crate) fn topology(builder: &mut StreamsBuilder) {
    let orders =
        builder.table("orders", Consumed::with(StringSerde, JsonSerde::<Order>::new()), Materialized::default());
    let customers =
        builder.table("customers", Consumed::with(StringSerde, JsonSerde::<Customer>::new()), Materialized::default());

    // Orders of customers that are known, also once they get known.
    let shipments = orders.join_on_foreign_key_materialized(
        &customers,
        |_order, order| Some(order.customer.clone()),
        |order, customer| format!("{} to {} in {}", order.item, customer.name, customer.city),
        TableJoined::as_("shipments"),
        Materialized::as_("shipments").with_value_serde(StringSerde),
    );
    shipments.to_stream().to("shipments", Produced::default());

    // All orders: those of customers that nobody knows say so.
    orders
        .left_join_on_foreign_key(
            &customers,
            |_order, order| Some(order.customer.clone()),
            |order, customer| match customer {
                Some(customer) => format!("{} for {}", order.item, customer.name),
                None => format!("{} for nobody we know", order.item),
            },
            TableJoined::as_("checked"),
        )
        .to_stream()
        .to("checked-orders", Produced::with(StringSerde, StringSerde));
}

millrace::export!(topology);

#[cfg(test)]
mod tests {
    use millrace::{TestInputTopic, TestOutputTopic, TopologyTestDriver};

    use super::*;

    type Orders = TestInputTopic<String, Order>;
    type Texts = TestOutputTopic<String, String>;

    fn order(orders: &Orders, id: &str, customer: &str, item: &str) {
        orders.pipe_input(id, Order { customer: customer.to_owned(), item: item.to_owned() });
    }

    fn read(topic: &Texts) -> Vec<String> {
        let text = |(key, value): (Option<String>, Option<String>)| {
            format!("{}: {}", key.unwrap(), value.as_deref().unwrap_or("deleted"))
        };
        topic.read_key_values_to_list().into_iter().map(text).collect()
    }

    #[test]
    fn shipments_follow_orders_and_customers() {
        let mut builder = StreamsBuilder::new();
        topology(&mut builder);
        let driver = TopologyTestDriver::new(builder.build().unwrap()).unwrap();
        let orders = driver.create_input_topic("orders", StringSerde, JsonSerde::<Order>::new());
        let customers = driver.create_input_topic("customers", StringSerde, JsonSerde::<Customer>::new());
        let customer = |id: &str, name: &str, city: &str| {
            customers.pipe_input(id, Customer { name: name.to_owned(), city: city.to_owned() });
        };
        let shipments = driver.create_output_topic("shipments", StringSerde, StringSerde);
        let checked = driver.create_output_topic("checked-orders", StringSerde, StringSerde);

        order(&orders, "o1", "c1", "tea");
        order(&orders, "o2", "c1", "salt");
        assert!(shipments.is_empty());
        assert_eq!(read(&checked), ["o1: tea for nobody we know", "o2: salt for nobody we know"]);

        customer("c1", "Ada", "London");
        assert_eq!(read(&shipments), ["o1: tea to Ada in London", "o2: salt to Ada in London"]);
        assert_eq!(read(&checked), ["o1: tea for Ada", "o2: salt for Ada"]);

        customer("c1", "Ada", "Paris");
        assert_eq!(read(&shipments), ["o1: tea to Ada in Paris", "o2: salt to Ada in Paris"]);

        // One order goes to another customer, who is not known yet.
        order(&orders, "o1", "c2", "tea");
        assert_eq!(read(&shipments), ["o1: deleted"]);
        customer("c2", "Grace", "New York");
        assert_eq!(read(&shipments), ["o1: tea to Grace in New York"]);

        orders.pipe_nullable(Some("o2".to_owned()), None);
        assert_eq!(read(&shipments), ["o2: deleted"]);
        let kept = driver.get_key_value_store::<String, String>("shipments").unwrap();
        assert_eq!(kept.get(&"o1".to_owned()).as_deref(), Some("tea to Grace in New York"));
        assert_eq!(kept.get(&"o2".to_owned()), None);
    }
}
