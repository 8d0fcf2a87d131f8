//! A global table and cogroup: what each purchase costs, and what each customer owes. The topics `purchases` and `payments`
//! have the customer as their key, and as many partitions. `prices` has the product as its key, and as many partitions as
//! it likes: every instance has all of it. Numbers are JSON.

use millrace::prelude::*;

fn numbers() -> JsonSerde<i64> {
    JsonSerde::new()
}

pub(crate) fn topology(builder: &mut StreamsBuilder) {
    let prices = builder.global_table("prices", Consumed::with(StringSerde, numbers()), Materialized::as_("prices"));
    let purchases = builder.stream("purchases", Consumed::with(StringSerde, StringSerde));
    let payments = builder.stream("payments", Consumed::with(StringSerde, numbers()));

    // Of every purchase, also of one for a product that has no price.
    purchases
        .left_join_global_table(
            &prices,
            |_customer, product| Some(product.clone()),
            |product, price| match price {
                Some(price) => format!("{product} at {price}"),
                None => format!("{product} has no price"),
            },
        )
        .to("receipts", Produced::with(StringSerde, StringSerde));

    // What is bought is owed until it is paid.
    let bought = purchases
        .join_global_table(&prices, |_customer, product| Some(product.clone()), |_product, price| *price)
        .group_by_key(Grouped::with(StringSerde, numbers()));
    let paid = payments.group_by_key(Grouped::default());
    bought
        .cogroup(|_customer, price, owed| owed + price)
        .cogroup(&paid, |_customer, amount, owed| owed - amount)
        .aggregate(|| 0, Materialized::as_("owed").with_key_serde(StringSerde).with_value_serde(numbers()))
        .to_stream()
        .to("owed", Produced::default());
}

millrace::export!(topology);

#[cfg(test)]
mod tests {
    use millrace::TopologyTestDriver;

    use super::*;

    #[test]
    fn purchases_meet_prices_and_payments() {
        let mut builder = StreamsBuilder::new();
        topology(&mut builder);
        let driver = TopologyTestDriver::new(builder.build().unwrap()).unwrap();
        let prices = driver.create_input_topic("prices", StringSerde, numbers());
        let purchases = driver.create_input_topic("purchases", StringSerde, StringSerde);
        let payments = driver.create_input_topic("payments", StringSerde, numbers());
        prices.pipe_input("tea", 5);
        purchases.pipe_input("ann", "tea");
        purchases.pipe_input("ann", "coffee");
        prices.pipe_input("tea", 7);
        purchases.pipe_input("bob", "tea");
        payments.pipe_input("ann", 4);
        let receipts = driver.create_output_topic("receipts", StringSerde, StringSerde).read_key_values_to_list();
        let receipts: Vec<String> = receipts.into_iter().filter_map(|(_, receipt)| receipt).collect();
        assert_eq!(receipts, ["tea at 5", "coffee has no price", "tea at 7"]);
        let owed = driver.create_output_topic("owed", StringSerde, numbers()).read_key_values_to_list();
        let owed: Vec<(String, i64)> = owed.into_iter().filter_map(|(key, owed)| Some((key?, owed?))).collect();
        assert_eq!(owed, [("ann", 5), ("bob", 7), ("ann", 1)].map(|(customer, owed)| (customer.to_owned(), owed)));
        assert_eq!(driver.get_key_value_store("prices").unwrap().get(&"tea".to_owned()), Some(7_i64));
    }
}
