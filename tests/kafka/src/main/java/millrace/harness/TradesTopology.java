package millrace.harness;

import java.time.Duration;
import org.apache.kafka.common.serialization.Serdes;
import org.apache.kafka.streams.StreamsBuilder;
import org.apache.kafka.streams.Topology;
import org.apache.kafka.streams.kstream.Consumed;
import org.apache.kafka.streams.kstream.Joined;
import org.apache.kafka.streams.kstream.KStream;
import org.apache.kafka.streams.kstream.KTable;
import org.apache.kafka.streams.kstream.Materialized;
import org.apache.kafka.streams.kstream.Produced;
import org.apache.kafka.streams.state.Stores;

/** What {@code examples/trades} is, in Kafka Streams. */
final class TradesTopology {
    private TradesTopology() {
    }

    static Topology topology() {
        StreamsBuilder builder = new StreamsBuilder();
        KTable<String, Long> prices = builder.table("share-prices", Consumed.with(Serdes.String(), Serdes.Long()),
            Materialized.<String, Long>as(Stores.persistentVersionedKeyValueStore("prices", Duration.ofHours(1)))
                .withKeySerde(Serdes.String()).withValueSerde(Serdes.Long()));
        KStream<String, Long> trades = builder.stream("trades", Consumed.with(Serdes.String(), Serdes.Long()));
        Joined<String, Long, Long> joined = Joined.with(Serdes.String(), Serdes.Long(), Serdes.Long());

        trades.join(prices, (quantity, price) -> quantity * price, joined.withName("quoted"))
            .to("quoted", Produced.with(Serdes.String(), Serdes.Long()));
        trades.join(prices, (quantity, price) -> quantity * price,
                joined.withName("settled").withGracePeriod(Duration.ofSeconds(30)))
            .to("settled", Produced.with(Serdes.String(), Serdes.Long()));
        return builder.build();
    }
}
