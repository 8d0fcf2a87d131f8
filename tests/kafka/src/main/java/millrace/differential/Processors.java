package millrace.differential;

import static millrace.differential.Values.weight;

import java.nio.charset.StandardCharsets;
import java.time.Duration;
import java.util.ArrayList;
import java.util.List;
import org.apache.kafka.common.header.Headers;
import org.apache.kafka.common.header.internals.RecordHeaders;
import org.apache.kafka.streams.KeyValue;
import org.apache.kafka.streams.processor.PunctuationType;
import org.apache.kafka.streams.processor.api.ContextualProcessor;
import org.apache.kafka.streams.processor.api.ProcessorContext;
import org.apache.kafka.streams.processor.api.Record;
import org.apache.kafka.streams.state.KeyValueIterator;
import org.apache.kafka.streams.state.KeyValueStore;

/** The fixed processors of the Processor API: {@code processors.rs}, in Java. */
final class Processors {
    private Processors() {}

    /** Adds a header that says where the record is from and what time it is; odd values come twice. */
    static final class Stamp extends ContextualProcessor<Object, Object, Object, Object> {
        @Override
        public void process(final Record<Object, Object> record) {
            // Within a punctuation there is metadata, but of no topic.
            final String from = context().recordMetadata()
                .filter(meta -> meta.topic() != null)
                .map(meta -> meta.topic() + "-" + meta.partition() + "@" + meta.offset())
                .orElse("nowhere");
            final String times = context().currentStreamTimeMs() + "/" + context().currentSystemTimeMs();
            final Headers headers = new RecordHeaders(record.headers());
            headers.add("from", from.getBytes(StandardCharsets.UTF_8));
            headers.add("times", times.getBytes(StandardCharsets.UTF_8));
            context().forward(record.withHeaders(headers));
            if (weight(record.value()) % 2 != 0) {
                context().forward(record.withTimestamp(record.timestamp() + 1000));
            }
        }
    }

    /** Sums the weights of each key in a store, and forwards the sums at every punctuation. */
    static final class Tally extends ContextualProcessor<Object, Object, Object, Object> {
        private final String storeName;
        private final PunctuationType clock;
        private final long intervalMs;
        private KeyValueStore<Object, Long> store;

        /** No clock: no punctuation. */
        Tally(final String storeName, final PunctuationType clock, final long intervalMs) {
            this.storeName = storeName;
            this.clock = clock;
            this.intervalMs = intervalMs;
        }

        @Override
        public void init(final ProcessorContext<Object, Object> context) {
            super.init(context);
            store = context.getStateStore(storeName);
            if (clock != null) {
                context.schedule(Duration.ofMillis(intervalMs), clock, this::punctuate);
            }
        }

        @Override
        public void process(final Record<Object, Object> record) {
            if (record.key() == null) {
                context().forward(record.withValue(null));
            } else if (record.value() == null) {
                store.delete(record.key());
                context().forward(record.withValue(null));
            } else {
                final Long old = store.get(record.key());
                final long sum = (old == null ? 0 : old) + weight(record.value());
                store.put(record.key(), sum);
                context().forward(record.withValue(sum));
            }
        }

        private void punctuate(final long timestamp) {
            context().forward(new Record<>(null, timestamp, timestamp));
            final List<KeyValue<Object, Long>> entries = new ArrayList<>();
            try (KeyValueIterator<Object, Long> all = store.all()) {
                all.forEachRemaining(entries::add);
            }
            for (final KeyValue<Object, Long> entry : entries) {
                context().forward(new Record<>(entry.key, entry.value, timestamp));
                if (entry.value >= 10) {
                    store.delete(entry.key);
                }
            }
        }
    }
}
