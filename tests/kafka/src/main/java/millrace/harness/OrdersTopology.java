package millrace.harness;

import com.fasterxml.jackson.core.JsonProcessingException;
import com.fasterxml.jackson.databind.ObjectMapper;
import org.apache.kafka.common.serialization.Serdes;
import org.apache.kafka.common.utils.Bytes;
import org.apache.kafka.streams.StreamsBuilder;
import org.apache.kafka.streams.Topology;
import org.apache.kafka.streams.kstream.Consumed;
import org.apache.kafka.streams.kstream.KTable;
import org.apache.kafka.streams.kstream.Materialized;
import org.apache.kafka.streams.kstream.Produced;
import org.apache.kafka.streams.kstream.TableJoined;
import org.apache.kafka.streams.state.KeyValueStore;

/** What {@code examples/orders} is, in Kafka Streams. Its JSON stays text, of which only fields are read. */
final class OrdersTopology {
    private static final ObjectMapper JSON = new ObjectMapper();

    private OrdersTopology() {
    }

    static Topology topology() {
        StreamsBuilder builder = new StreamsBuilder();
        KTable<String, String> orders = builder.table("orders", Consumed.with(Serdes.String(), Serdes.String()));
        KTable<String, String> customers = builder.table("customers", Consumed.with(Serdes.String(), Serdes.String()));

        orders.join(customers, order -> field(order, "customer"),
                (order, customer) ->
                    field(order, "item") + " to " + field(customer, "name") + " in " + field(customer, "city"),
                TableJoined.as("shipments"),
                Materialized.<String, String, KeyValueStore<Bytes, byte[]>>as("shipments")
                    .withKeySerde(Serdes.String()).withValueSerde(Serdes.String()))
            .toStream()
            .to("shipments", Produced.with(Serdes.String(), Serdes.String()));

        orders.leftJoin(customers, order -> field(order, "customer"),
                (order, customer) ->
                    field(order, "item") + " for " + (customer == null ? "nobody we know" : field(customer, "name")),
                TableJoined.as("checked"))
            .toStream()
            .to("checked-orders", Produced.with(Serdes.String(), Serdes.String()));
        return builder.build();
    }

    private static String field(String json, String name) {
        try {
            return JSON.readTree(json).get(name).textValue();
        } catch (JsonProcessingException e) {
            throw new IllegalArgumentException(json, e);
        }
    }
}
