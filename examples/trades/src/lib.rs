//! A versioned table: what trades are worth at the prices of their time. The topics `share-prices` and `trades` have the symbol as
//! their key, numbers as their values, and as many partitions. A price holds from its record's timestamp on. Trades are
//! quoted at once, by what is known of their time; they are settled thirty seconds later, also by prices that came late.

use std::time::Duration;

use millrace::prelude::*;

pub(crate) fn topology(builder: &mut StreamsBuilder) {
    let history = Duration::from_secs(60 * 60);
    let prices = builder.table(
        "share-prices",
        Consumed::with(StringSerde, LongSerde),
        Materialized::versioned("prices", history),
    );
    let trades = builder.stream("trades", Consumed::with(StringSerde, LongSerde));

    trades
        .join_table(&prices, |quantity, price| quantity * price, Joined::as_("quoted"))
        .to("quoted", Produced::with(StringSerde, LongSerde));
    trades
        .join_table(
            &prices,
            |quantity, price| quantity * price,
            Joined::as_("settled").with_grace_period(Duration::from_secs(30)),
        )
        .to("settled", Produced::with(StringSerde, LongSerde));
}

millrace::export!(topology);

#[cfg(test)]
mod tests {
    use millrace::{TestOutputTopic, TestRecord, TopologyTestDriver};

    use super::*;

    fn values(topic: &TestOutputTopic<String, i64>) -> Vec<i64> {
        topic.read_key_values_to_list().into_iter().filter_map(|(_, value)| value).collect()
    }

    #[test]
    fn trades_are_worth_what_prices_were_at_their_time() {
        let mut builder = StreamsBuilder::new();
        topology(&mut builder);
        let driver = TopologyTestDriver::new(builder.build().unwrap()).unwrap();
        let prices = driver.create_input_topic("share-prices", StringSerde, LongSerde);
        let trades = driver.create_input_topic("trades", StringSerde, LongSerde);
        let quoted = driver.create_output_topic("quoted", StringSerde, LongSerde);
        let settled = driver.create_output_topic("settled", StringSerde, LongSerde);
        let at = |second: i64, value| TestRecord::new(Some("tea".to_owned()), Some(value), second * 1_000);

        prices.pipe_records(vec![at(0, 5), at(20, 7)]);
        trades.pipe_records(vec![at(10, 100), at(25, 100)]);
        assert_eq!(values(&quoted), [500, 700]);
        // Late, but in time for the trades to be settled by it.
        prices.pipe_records(vec![at(9, 6)]);
        trades.pipe_records(vec![at(55, 1)]);
        assert_eq!(values(&settled), [600, 700]);

        let store = driver.get_versioned_store::<String, i64>("prices").unwrap();
        let then = store.get_as_of(&"tea".to_owned(), 12_000).unwrap();
        assert_eq!((then.value, then.valid_from, then.valid_to), (6, 9_000, Some(20_000)));
        assert_eq!(store.get(&"tea".to_owned()).unwrap().valid_to, None);
    }
}
