//! Counts the words of the lines in `lines`, and sends every new count to `counts`.

use millrace::prelude::*;

fn topology(builder: &mut StreamsBuilder) {
    builder
        .stream("lines", Consumed::with(StringSerde, StringSerde))
        .flat_map_values(|line| words(line))
        .group_by(
            |_, word| word.cloned(),
            Grouped::with(StringSerde, StringSerde),
        )
        .count(Materialized::as_("counts"))
        .to_stream()
        .to("counts", Produced::with(StringSerde, LongSerde));
}

fn words(line: &str) -> Vec<String> {
    line.split(|c: char| !c.is_alphanumeric())
        .filter(|word| !word.is_empty())
        .map(str::to_lowercase)
        .collect()
}

millrace::export!(topology);

#[cfg(test)]
mod tests {
    use millrace::TopologyTestDriver;

    use super::*;

    fn driver() -> TopologyTestDriver {
        let mut builder = StreamsBuilder::new();
        topology(&mut builder);
        TopologyTestDriver::new(builder.build().unwrap()).unwrap()
    }

    #[test]
    fn every_word_is_counted() {
        let driver = driver();
        let lines = driver.create_input_topic("lines", StringSerde, StringSerde);
        lines.pipe_input("any key", "Round and round,");
        lines.pipe_input("another", "and round");

        let counts = driver.create_output_topic("counts", StringSerde, LongSerde);
        let expected = [
            ("round", 1),
            ("and", 1),
            ("round", 2),
            ("and", 2),
            ("round", 3),
        ];
        assert_eq!(
            counts.read_key_values_to_list(),
            expected.map(|(word, count)| (Some(word.to_owned()), Some(count)))
        );
        assert_eq!(
            driver
                .get_key_value_store("counts")
                .unwrap()
                .get(&"round".to_owned()),
            Some(3_i64)
        );
    }

    #[test]
    fn nothing_is_made_of_nothing() {
        let driver = driver();
        driver
            .create_input_topic("lines", StringSerde, StringSerde)
            .pipe_input("key", " - ");
        assert!(
            driver
                .create_output_topic("counts", StringSerde, LongSerde)
                .is_empty()
        );
    }
}
