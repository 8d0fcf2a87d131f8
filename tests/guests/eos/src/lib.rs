//! What Apache Kafka's `StreamsEosTest` judges: the topology of its client, `process-complex`, with the same names of
//! stores. It owns only this logic.

use millrace::prelude::*;

fn topology(builder: &mut StreamsBuilder) {
    let data = builder.stream("data", Consumed::with(StringSerde, IntegerSerde));
    data.to("echo", Produced::default());
    print(&data);
    let by_key = data.group_by_key(Grouped::default());
    by_key
        .aggregate(|| i32::MAX, |_, value, lowest| lowest.min(*value), Materialized::with(StringSerde, IntegerSerde))
        .to_stream()
        .to("min", Produced::with(StringSerde, IntegerSerde));
    by_key
        .aggregate(|| 0, |_, value, sum| sum + i64::from(*value), Materialized::with(StringSerde, LongSerde))
        .to_stream()
        .to("sum", Produced::with(StringSerde, LongSerde));

    data.to("repartition", Produced::default());
    let repartitioned = builder.stream("repartition", Consumed::with(StringSerde, IntegerSerde));
    print(&repartitioned);
    let by_key = repartitioned.group_by_key(Grouped::default());
    by_key
        .aggregate(|| i32::MIN, |_, value, highest| highest.max(*value), Materialized::with(StringSerde, IntegerSerde))
        .to_stream()
        .to("max", Produced::with(StringSerde, IntegerSerde));
    by_key.count(Materialized::default()).to_stream().to("cnt", Produced::with(StringSerde, LongSerde));
}

/// Stands where Kafka's client prints its progress: it takes a number of those that generated names count up.
fn print(stream: &KStream<String, i32>) {
    stream.foreach(|_, _| {});
}

millrace::export!(topology);
