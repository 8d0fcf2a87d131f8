package millrace.harness;

import java.time.Duration;
import org.apache.kafka.common.serialization.Serdes;
import org.apache.kafka.streams.StreamsBuilder;
import org.apache.kafka.streams.Topology;
import org.apache.kafka.streams.kstream.Consumed;
import org.apache.kafka.streams.kstream.Joined;
import org.apache.kafka.streams.kstream.KGroupedStream;
import org.apache.kafka.streams.kstream.KStream;
import org.apache.kafka.streams.kstream.KTable;
import org.apache.kafka.streams.kstream.Materialized;
import org.apache.kafka.streams.kstream.Produced;
import org.apache.kafka.streams.kstream.SessionWindows;
import org.apache.kafka.streams.kstream.Suppressed;
import org.apache.kafka.streams.kstream.Suppressed.BufferConfig;
import org.apache.kafka.streams.kstream.TimeWindows;
import org.apache.kafka.streams.kstream.Windowed;

/** What {@code examples/clicks} is, in Kafka Streams. */
final class ClicksTopology {
    private ClicksTopology() {
    }

    static Topology topology() {
        StreamsBuilder builder = new StreamsBuilder();
        KStream<String, String> clicks = builder.stream("clicks", Consumed.with(Serdes.String(), Serdes.String()));
        KTable<String, String> users =
            builder.table("users", Consumed.with(Serdes.String(), Serdes.String()), Materialized.as("users"));
        KGroupedStream<String, String> byUser = clicks.groupByKey();

        KTable<Windowed<String>, Long> perMinute =
            byUser.windowedBy(TimeWindows.ofSizeAndGrace(Duration.ofSeconds(60), Duration.ofSeconds(5)))
                .count(Materialized.as("clicks-per-minute"));
        perMinute.toStream()
            .mapValues(ClicksTopology::text)
            .to("clicks-per-minute", Produced.valueSerde(Serdes.String()));
        perMinute.suppress(Suppressed.untilWindowCloses(BufferConfig.unbounded()).withName("closed-minutes"))
            .toStream()
            .mapValues(ClicksTopology::text)
            .to("clicks-per-closed-minute", Produced.valueSerde(Serdes.String()));

        byUser.windowedBy(SessionWindows.ofInactivityGapAndGrace(Duration.ofSeconds(30), Duration.ofSeconds(5)))
            .count(Materialized.as("clicks-per-session"))
            .toStream()
            .mapValues(ClicksTopology::text)
            .to("clicks-per-session", Produced.valueSerde(Serdes.String()));

        clicks.leftJoin(users, (page, name) -> (name == null ? "somebody" : name) + " visits " + page,
                Joined.with(Serdes.String(), Serdes.String(), Serdes.String()))
            .to("visits", Produced.with(Serdes.String(), Serdes.String()));
        return builder.build();
    }

    private static String text(Long count) {
        return count == null ? null : count.toString();
    }
}
