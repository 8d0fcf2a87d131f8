//! The reference topology: how often each key came, in the store `count-store` and on the topic
//! `counts-topic`. It owns only this logic.

use millrace::prelude::*;

pub(crate) fn topology(builder: &mut StreamsBuilder) {
    builder
        .stream("input-topic", Consumed::with(StringSerde, StringSerde))
        .group_by_key(Grouped::with(StringSerde, StringSerde))
        .count(Materialized::as_("count-store"))
        .to_stream()
        .map_values(|count| count.to_string())
        .to("counts-topic", Produced::with(StringSerde, StringSerde));
}

millrace::export!(topology);

#[cfg(test)]
mod tests {
    use millrace::TopologyTestDriver;

    use super::*;

    #[test]
    fn counts_the_five_records() {
        let mut builder = StreamsBuilder::new();
        topology(&mut builder);
        let driver = TopologyTestDriver::new(builder.build().unwrap()).unwrap();
        let input = driver.create_input_topic("input-topic", StringSerde, StringSerde);
        for record in "foo:bar hello:world hello:universe foo:baz john:doe".split(' ') {
            let (key, value) = record.split_once(':').unwrap();
            input.pipe_input(key, value);
        }
        let counts = driver.create_output_topic("counts-topic", StringSerde, StringSerde).read_key_values_to_map();
        let expected = [("foo", "2"), ("hello", "2"), ("john", "1")];
        assert_eq!(counts, expected.map(|(key, count)| (key.to_owned(), Some(count.to_owned()))).into());
    }
}
