//! Counts the words of the lines in `{{name}}-lines`, and sends every new count to `{{name}}-counts`.

use millrace::prelude::*;

fn topology(builder: &mut StreamsBuilder) {
    builder
        .stream("{{name}}-lines", Consumed::with(StringSerde, StringSerde))
        .flat_map_values(|line| words(line))
        .group_by(|_, word| word.cloned(), Grouped::with(StringSerde, StringSerde))
        .count(Materialized::as_("counts"))
        .to_stream()
        .to("{{name}}-counts", Produced::with(StringSerde, LongSerde));
}

fn words(line: &str) -> Vec<String> {
    line.split(|c: char| !c.is_alphanumeric()).filter(|word| !word.is_empty()).map(str::to_lowercase).collect()
}

millrace::export!(topology);
