package millrace.differential;

import static millrace.differential.Values.weight;

import java.nio.charset.StandardCharsets;
import java.time.Duration;
import java.util.ArrayList;
import java.util.Collections;
import java.util.List;
import java.util.function.BiFunction;
import java.util.function.Function;
import org.apache.kafka.common.header.Headers;
import org.apache.kafka.common.header.internals.RecordHeaders;
import org.apache.kafka.streams.KeyValue;
import org.apache.kafka.streams.kstream.ValueTransformerWithKey;
import org.apache.kafka.streams.kstream.Windowed;
import org.apache.kafka.streams.kstream.internals.SessionWindow;
import org.apache.kafka.streams.processor.PunctuationType;
import org.apache.kafka.streams.processor.api.ContextualFixedKeyProcessor;
import org.apache.kafka.streams.processor.api.ContextualProcessor;
import org.apache.kafka.streams.processor.api.FixedKeyRecord;
import org.apache.kafka.streams.processor.api.ProcessingContext;
import org.apache.kafka.streams.processor.api.ProcessorContext;
import org.apache.kafka.streams.processor.api.Record;
import org.apache.kafka.streams.state.KeyValueIterator;
import org.apache.kafka.streams.state.KeyValueStore;
import org.apache.kafka.streams.state.SessionStore;
import org.apache.kafka.streams.state.WindowStore;

/** The fixed processors of the Processor API: {@code processors.rs}, in Java. */
final class Processors {
    private Processors() {}

    /** Adds a header that says where the record is from and what time it is; odd values come twice. */
    static final class Stamp extends ContextualProcessor<Object, Object, Object, Object> {
        @Override
        public void process(final Record<Object, Object> record) {
            context().forward(record.withHeaders(stamped(record.headers(), context())));
            if (weight(record.value()) % 2 != 0) {
                context().forward(record.withTimestamp(record.timestamp() + 1000));
            }
        }
    }

    /** The same, with the keys as they are. */
    static final class StampValues extends ContextualFixedKeyProcessor<Object, Object, Object> {
        @Override
        public void process(final FixedKeyRecord<Object, Object> record) {
            context().forward(record.withHeaders(stamped(record.headers(), context())));
            if (weight(record.value()) % 2 != 0) {
                context().forward(record.withTimestamp(record.timestamp() + 1000));
            }
        }
    }

    private static Headers stamped(final Headers headers, final ProcessingContext context) {
        // Within a punctuation there is metadata, but of no topic.
        final String from = context.recordMetadata()
            .filter(meta -> meta.topic() != null)
            .map(meta -> meta.topic() + "-" + meta.partition() + "@" + meta.offset())
            .orElse("nowhere");
        final String times = context.currentStreamTimeMs() + "/" + context.currentSystemTimeMs();
        final Headers stamped = new RecordHeaders(headers);
        stamped.add("from", from.getBytes(StandardCharsets.UTF_8));
        stamped.add("times", times.getBytes(StandardCharsets.UTF_8));
        return stamped;
    }

    /** Makes values with a function, and counts its calls for each key in a store, if that has a name. */
    static final class Transformer implements ValueTransformerWithKey<Object, Object, Object> {
        private final BiFunction<Object, Object, Object> mapper;
        private final String storeName;
        private KeyValueStore<Object, Long> calls;

        Transformer(final BiFunction<Object, Object, Object> mapper, final String storeName) {
            this.mapper = mapper;
            this.storeName = storeName;
        }

        @Override
        public void init(final org.apache.kafka.streams.processor.ProcessorContext context) {
            calls = storeName == null ? null : context.getStateStore(storeName);
        }

        @Override
        public Object transform(final Object key, final Object value) {
            final Object made = mapper.apply(key, value);
            if (calls == null) {
                return made;
            }
            final Long old = calls.get(key);
            final long count = (old == null ? 0 : old) + 1;
            calls.put(key, count);
            return count + " " + Values.text(made);
        }

        @Override
        public void close() {
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

    /** One entry after the other. */
    private static <K, V> String told(final KeyValueIterator<K, V> entries, final Function<K, String> tell, final boolean sorts) {
        final List<String> told = new ArrayList<>();
        try (entries) {
            entries.forEachRemaining(entry -> told.add(tell.apply(entry.key) + "=" + entry.value));
        }
        if (sorts) {
            Collections.sort(told);
        }
        return String.join(" ", told);
    }

    private static String windowed(final Windowed<Object> key) {
        return Values.text(key.key()) + "@" + key.window().start() + "/" + key.window().end();
    }

    /** Sums the weights of each key in windows, and tells what the store has around the record. */
    static final class Minutes extends ContextualProcessor<Object, Object, Object, Object> {
        private final String storeName;
        private final long size;
        private final boolean duplicates;
        private WindowStore<Object, Long> store;

        Minutes(final String storeName, final long size, final boolean duplicates) {
            this.storeName = storeName;
            this.size = size;
            this.duplicates = duplicates;
        }

        @Override
        public void init(final ProcessorContext<Object, Object> context) {
            super.init(context);
            store = context.getStateStore(storeName);
        }

        @Override
        public void process(final Record<Object, Object> record) {
            final Object key = record.key();
            if (key == null) {
                context().forward(record.withValue(null));
                return;
            }
            final long start = record.timestamp() - record.timestamp() % size;
            if (record.value() == null) {
                store.put(key, null, start);
            } else {
                final Long old = duplicates ? null : store.fetch(key, start);
                store.put(key, (old == null ? 0 : old) + weight(record.value()), start);
            }
            final long from = start - 3 * size;
            final long to = start + size;
            context().forward(record.withValue(String.join("|",
                told(store.fetch(key, from, to), time -> time.toString(), false),
                told(store.backwardFetch(key, from, to), time -> time.toString(), false),
                told(store.fetch(key, null, from, to), Processors::windowed, true),
                told(store.fetch(null, key, from, to), Processors::windowed, true),
                told(store.fetchAll(from, to), Processors::windowed, true),
                told(store.all(), Processors::windowed, true))));
        }
    }

    /** Sums the weights of each key in sessions, and tells which those are. */
    static final class Visits extends ContextualProcessor<Object, Object, Object, Object> {
        private final String storeName;
        private final long gap;
        private SessionStore<Object, Long> store;

        Visits(final String storeName, final long gap) {
            this.storeName = storeName;
            this.gap = gap;
        }

        @Override
        public void init(final ProcessorContext<Object, Object> context) {
            super.init(context);
            store = context.getStateStore(storeName);
        }

        @Override
        public void process(final Record<Object, Object> record) {
            final Object key = record.key();
            if (key == null) {
                context().forward(record.withValue(null));
                return;
            }
            final long time = record.timestamp();
            final List<KeyValue<Windowed<Object>, Long>> near = new ArrayList<>();
            try (KeyValueIterator<Windowed<Object>, Long> found = store.findSessions(key, time - gap, time + gap)) {
                found.forEachRemaining(near::add);
            }
            long start = time;
            long end = time;
            long sum = weight(record.value());
            for (final KeyValue<Windowed<Object>, Long> session : near) {
                store.remove(session.key);
                start = Math.min(start, session.key.window().start());
                end = Math.max(end, session.key.window().end());
                sum += session.value;
            }
            if (record.value() != null) {
                store.put(new Windowed<>(key, new SessionWindow(start, end)), sum);
            }
            final Long found = store.fetchSession(key, start, end);
            context().forward(record.withValue(String.join("|",
                found == null ? "~" : found.toString(),
                told(store.fetch(key), Processors::windowed, false),
                told(store.backwardFindSessions(key, time - 3 * gap, time), Processors::windowed, false),
                told(store.findSessions(key, null, time - gap, time + gap), Processors::windowed, true),
                told(store.fetch(null, key), Processors::windowed, true))));
        }
    }
}
