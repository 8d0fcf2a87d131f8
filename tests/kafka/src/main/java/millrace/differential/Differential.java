package millrace.differential;

import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.ObjectMapper;
import com.fasterxml.jackson.databind.node.ArrayNode;
import com.fasterxml.jackson.databind.node.ObjectNode;
import java.io.BufferedReader;
import java.io.BufferedWriter;
import java.io.IOException;
import java.lang.reflect.Field;
import java.nio.ByteBuffer;
import java.nio.file.Files;
import java.nio.file.Path;
import java.time.Duration;
import java.time.Instant;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.Comparator;
import java.util.HexFormat;
import java.util.List;
import java.util.Map;
import java.util.Properties;
import java.util.Set;
import java.util.TreeMap;
import java.util.TreeSet;
import java.util.stream.Stream;
import org.apache.kafka.common.header.Header;
import org.apache.kafka.common.header.Headers;
import org.apache.kafka.common.header.internals.RecordHeaders;
import org.apache.kafka.common.serialization.ByteArrayDeserializer;
import org.apache.kafka.common.serialization.ByteArraySerializer;
import org.apache.kafka.common.utils.Bytes;
import org.apache.kafka.streams.StreamsConfig;
import org.apache.kafka.streams.TestOutputTopic;
import org.apache.kafka.streams.Topology;
import org.apache.kafka.streams.TopologyTestDriver;
import org.apache.kafka.streams.kstream.Windowed;
import org.apache.kafka.streams.processor.StateStore;
import org.apache.kafka.streams.processor.internals.InternalTopologyBuilder;
import org.apache.kafka.streams.processor.internals.InternalTopologyBuilder.TopicsInfo;
import org.apache.kafka.streams.state.KeyValueIterator;
import org.apache.kafka.streams.state.KeyValueStore;
import org.apache.kafka.streams.state.SessionStore;
import org.apache.kafka.streams.state.TimestampedKeyValueStore;
import org.apache.kafka.streams.state.TimestampedWindowStore;
import org.apache.kafka.streams.state.VersionedBytesStore;
import org.apache.kafka.streams.state.WindowStore;
import org.apache.kafka.streams.state.internals.MeteredVersionedKeyValueStore;
import org.apache.kafka.streams.state.internals.SessionKeySchema;
import org.apache.kafka.streams.state.internals.TimeOrderedKeyValueBuffer;
import org.apache.kafka.streams.state.internals.WindowKeySchema;
import org.apache.kafka.streams.state.internals.WrappedStateStore;
import org.apache.kafka.streams.test.TestRecord;

/**
 * Kafka Streams' side of the differential tests (tests/differential): runs each case, a line of JSON, in
 * TopologyTestDriver, and writes what came of it as a line of JSON.
 *
 * <p>Usage: Differential CASES RESULTS
 */
public final class Differential {
    private static final ObjectMapper JSON = new ObjectMapper();
    private static final HexFormat HEX = HexFormat.of();
    /** The default of windowstore.changelog.additional.retention.ms. */
    private static final long ADDITIONAL_RETENTION_MS = Duration.ofDays(1).toMillis();
    /** Instead of no timestamp, which a producer would put in. */
    private static final long UNSTAMPED = -1;
    /** No headers and no timestamp, which the stores of joins have before each value on disk, not in their changelogs. */
    private static final int JOIN_PREFIX = 9;
    /** No headers, which those of foreign-key joins have before each timestamp, not in their changelogs. */
    private static final int SUBSCRIPTION_PREFIX = 1;

    /** Beyond the last timestamp of any case of versioned tables, in steps that hit each and between them. */
    private static final long LAST_TIME = 1_200;
    private static final long TIME_STEP = 10;

    private Differential() {}

    public static void main(final String[] args) throws IOException {
        if (args.length != 2) {
            throw new IllegalArgumentException("usage: Differential CASES RESULTS");
        }
        final Path states = Files.createTempDirectory("millrace-differential-");
        try (BufferedReader cases = Files.newBufferedReader(Path.of(args[0]));
             BufferedWriter results = Files.newBufferedWriter(Path.of(args[1]))) {
            for (String line = cases.readLine(); line != null; line = cases.readLine()) {
                results.write(JSON.writeValueAsString(result(JSON.readTree(line), states)));
                results.newLine();
            }
        } finally {
            delete(states);
        }
    }

    private static ObjectNode result(final JsonNode testCase, final Path states) {
        final ObjectNode result = JSON.createObjectNode();
        result.set("name", testCase.get("name"));
        try {
            final Topology topology = Cases.topology(testCase);
            result.put("describe", topology.describe().toString());
            try (TopologyTestDriver driver = driver(topology, testCase, states)) {
                for (final JsonNode event : testCase.get("events")) {
                    feed(driver, event);
                }
                result.set("internalTopics", internalTopics(topology));
                final ObjectNode topics = topics(driver);
                result.set("topics", topics);
                result.set("stores", stores(driver, topics));
            }
        } catch (final RuntimeException e) {
            result.put("error", causes(e));
        }
        return result;
    }

    private static TopologyTestDriver driver(final Topology topology, final JsonNode testCase, final Path states) {
        final Properties config = new Properties();
        config.put(StreamsConfig.APPLICATION_ID_CONFIG, "app");
        config.put(StreamsConfig.STATE_DIR_CONFIG, states.resolve(testCase.get("name").textValue()).toString());
        config.put(StreamsConfig.DEFAULT_KEY_SERDE_CLASS_CONFIG, "org.apache.kafka.common.serialization.Serdes$StringSerde");
        config.put(StreamsConfig.DEFAULT_VALUE_SERDE_CLASS_CONFIG, "org.apache.kafka.common.serialization.Serdes$StringSerde");
        config.put(StreamsConfig.STATESTORE_CACHE_MAX_BYTES_CONFIG, testCase.get("caching").booleanValue() ? 1 << 20 : 0);
        return new TopologyTestDriver(topology, config, Instant.ofEpochMilli(testCase.get("startMs").longValue()));
    }

    private static void feed(final TopologyTestDriver driver, final JsonNode event) {
        if (event.get("event").textValue().equals("advanceWallClock")) {
            driver.advanceWallClockTime(Duration.ofMillis(event.get("ms").longValue()));
            return;
        }
        final Headers headers = new RecordHeaders();
        for (final JsonNode header : event.get("headers")) {
            headers.add(header.get("key").textValue(), bytes(header.get("value")));
        }
        driver.createInputTopic(event.get("topic").textValue(), new ByteArraySerializer(), new ByteArraySerializer())
            .pipeInput(new TestRecord<>(
                bytes(event.get("key")), bytes(event.get("value")), headers, event.get("timestamp").longValue()));
    }

    /** Of each topic of the application's own, the settings it is created with. Which they are is nobody's to ask. */
    private static ObjectNode internalTopics(final Topology topology) {
        final ObjectNode topics = JSON.createObjectNode();
        final InternalTopologyBuilder builder;
        try {
            final Field field = Topology.class.getDeclaredField("internalTopologyBuilder");
            field.setAccessible(true);
            builder = (InternalTopologyBuilder) field.get(topology);
        } catch (final ReflectiveOperationException e) {
            throw new IllegalStateException(e);
        }
        for (final TopicsInfo info : builder.subtopologyToTopicsInfo().values()) {
            Stream.of(info.repartitionSourceTopics, info.stateChangelogTopics).flatMap(found -> found.values().stream())
                .forEach(topic -> topic.properties(Map.of(), ADDITIONAL_RETENTION_MS)
                    .forEach(topics.withObjectProperty(topic.name())::put));
        }
        return topics;
    }

    /** Of each topic that was written, changelogs too, the records in order. */
    private static ObjectNode topics(final TopologyTestDriver driver) {
        final ObjectNode topics = JSON.createObjectNode();
        for (final String name : new TreeSet<>(driver.producedTopicNames())) {
            final ArrayNode records = topics.putArray(name);
            final TestOutputTopic<byte[], byte[]> topic =
                driver.createOutputTopic(name, new ByteArrayDeserializer(), new ByteArrayDeserializer());
            for (final TestRecord<byte[], byte[]> record : topic.readRecordsToList()) {
                final ObjectNode node = records.addObject();
                node.put("key", hex(record.key())).put("value", hex(record.value()))
                    .put("timestamp", record.timestamp() == null ? UNSTAMPED : record.timestamp());
                final ArrayNode headers = node.putArray("headers");
                for (final Header header : record.headers()) {
                    headers.addObject().put("key", header.key()).put("value", hex(header.value()));
                }
            }
        }
        return topics;
    }

    /** Of each store, the entries in the order of their changelogs' keys; a timestamp where the store has them. */
    private static ObjectNode stores(final TopologyTestDriver driver, final ObjectNode topics) {
        final ObjectNode stores = JSON.createObjectNode();
        for (final Map.Entry<String, StateStore> store : new TreeMap<>(driver.getAllStateStores()).entrySet()) {
            final ArrayNode entries = stores.putArray(store.getKey());
            // The buffer of a suppression shows nothing of what it has.
            if (store.getValue() instanceof TimeOrderedKeyValueBuffer) {
                continue;
            }
            if (store.getValue() instanceof MeteredVersionedKeyValueStore<?, ?> versioned) {
                versions(versioned.wrapped(), topics.path("app-" + store.getKey() + "-changelog"), entries);
                continue;
            }
            final boolean subscriptions = isOfForeignKeyJoin(store.getKey());
            final boolean timestamped = subscriptions || !isOfJoin(store.getKey())
                && (store.getValue() instanceof TimestampedKeyValueStore || store.getValue() instanceof TimestampedWindowStore);
            final int prefix = subscriptions ? SUBSCRIPTION_PREFIX
                : isOfJoin(store.getKey()) && store.getValue() instanceof WindowStore ? JOIN_PREFIX : 0;
            final StateStore bytes = isOfJoin(store.getKey()) ? innermost(store.getValue()) : bytesStore(store.getValue());
            entries(bytes).forEach(entry -> {
                final byte[] value = Arrays.copyOfRange(entry.getValue(), prefix, entry.getValue().length);
                final ObjectNode node = entries.addObject().put("key", hex(entry.getKey().get()));
                if (timestamped) {
                    final ByteBuffer buffer = ByteBuffer.wrap(value);
                    node.put("timestamp", buffer.getLong());
                    node.put("value", HEX.formatHex(value, buffer.position(), value.length));
                } else {
                    node.putNull("timestamp").put("value", hex(value));
                }
            });
        }
        return stores;
    }

    /** What a versioned store has of each key of its changelog at times all over the cases'. */
    private static void versions(final VersionedBytesStore store, final JsonNode changelog, final ArrayNode entries) {
        final Set<Bytes> keys = new TreeSet<>();
        changelog.forEach(record -> keys.add(Bytes.wrap(bytes(record.get("key")))));
        for (final Bytes key : keys) {
            for (long time = 0; time <= LAST_TIME; time += TIME_STEP) {
                final byte[] found = store.get(key, time);
                if (found != null) {
                    final byte[] asked = ByteBuffer.allocate(key.get().length + Long.BYTES).put(key.get()).putLong(time).array();
                    final ByteBuffer value = ByteBuffer.wrap(found);
                    entries.addObject().put("key", hex(asked)).put("timestamp", value.getLong())
                        .put("value", HEX.formatHex(found, value.position(), found.length));
                }
            }
        }
    }

    /** The stores of joins of streams keep no timestamps beside the values. */
    private static boolean isOfJoin(final String store) {
        return store.matches("KSTREAM-(JOIN|OUTER).*|.*-join-store");
    }

    private static boolean isOfForeignKeyJoin(final String store) {
        return store.matches("KTABLE-FK-JOIN-SUBSCRIPTION-STATE-STORE-.*|.*-subscription-store");
    }

    /** In the order of their keys. Where a key comes several times, they are told apart by their order. */
    @SuppressWarnings("unchecked")
    private static List<Map.Entry<Bytes, byte[]>> entries(final StateStore store) {
        final List<Map.Entry<Bytes, byte[]>> entries = new ArrayList<>();
        if (store instanceof WindowStore) {
            try (KeyValueIterator<Windowed<Bytes>, byte[]> all = ((WindowStore<Bytes, byte[]>) store).all()) {
                all.forEachRemaining(entry -> entries.add(Map.entry(WindowKeySchema.toStoreKeyBinary(entry.key, 0), entry.value)));
            }
        } else if (store instanceof SessionStore) {
            try (KeyValueIterator<Windowed<Bytes>, byte[]> all = ((SessionStore<Bytes, byte[]>) store).fetch(null, null)) {
                all.forEachRemaining(entry -> entries.add(Map.entry(SessionKeySchema.toBinary(entry.key), entry.value)));
            }
        } else {
            try (KeyValueIterator<Bytes, byte[]> all = ((KeyValueStore<Bytes, byte[]>) store).all()) {
                all.forEachRemaining(entry -> entries.add(Map.entry(entry.key, entry.value)));
            }
        }
        entries.sort(Map.Entry.comparingByKey());
        return entries;
    }

    /** Those of joins have no caches, and lists of values that only the store at the bottom has as they are. */
    private static StateStore innermost(final StateStore store) {
        StateStore inner = store;
        while (inner instanceof WrappedStateStore<?, ?, ?> outer
            && (outer.wrapped() instanceof WindowStore || outer.wrapped() instanceof KeyValueStore)) {
            inner = outer.wrapped();
        }
        return inner;
    }

    /**
     * The store below the one that knows the types, which is the one that has the bytes. Caches of windows hold entries
     * that are gone by age; each record is committed, so what is below them has all there is.
     */
    private static StateStore bytesStore(final StateStore store) {
        StateStore bytes = ((WrappedStateStore<?, ?, ?>) store).wrapped();
        while (bytes instanceof WrappedStateStore<?, ?, ?> outer
            && (outer.wrapped() instanceof WindowStore || outer.wrapped() instanceof SessionStore)) {
            bytes = outer.wrapped();
        }
        return bytes;
    }

    private static String hex(final byte[] bytes) {
        return bytes == null ? null : HEX.formatHex(bytes);
    }

    private static byte[] bytes(final JsonNode hex) {
        return hex.isNull() ? null : HEX.parseHex(hex.textValue());
    }

    private static String causes(final Throwable error) {
        final StringBuilder text = new StringBuilder();
        for (Throwable cause = error; cause != null; cause = cause.getCause()) {
            text.append(text.isEmpty() ? "" : ": ").append(cause);
        }
        return text.toString();
    }

    private static void delete(final Path folder) throws IOException {
        final List<Path> paths;
        try (Stream<Path> walk = Files.walk(folder)) {
            paths = walk.sorted(Comparator.reverseOrder()).toList();
        }
        for (final Path path : paths) {
            Files.delete(path);
        }
    }
}
