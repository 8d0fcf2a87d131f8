//! The reference topology: how often each key came, in the store `count-store` and on the topic
//! `counts-topic`. It owns only this logic.

use millrace::prelude::*;

fn topology(builder: &mut StreamsBuilder) {
    builder
        .stream("input-topic", Consumed::with(StringSerde, StringSerde))
        .group_by_key(Grouped::with(StringSerde, StringSerde))
        .count(Materialized::as_("count-store"))
        .to_stream()
        .map_values(|count| count.to_string())
        .to("counts-topic", Produced::with(StringSerde, StringSerde));
}

millrace::export!(topology);
