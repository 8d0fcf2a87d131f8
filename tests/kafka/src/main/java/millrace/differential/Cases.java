package millrace.differential;

import static millrace.differential.Values.serde;

import com.fasterxml.jackson.databind.JsonNode;
import java.util.ArrayList;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import org.apache.kafka.common.serialization.Serde;
import org.apache.kafka.common.utils.Bytes;
import org.apache.kafka.streams.KeyValue;
import org.apache.kafka.streams.StreamsBuilder;
import org.apache.kafka.streams.Topology;
import org.apache.kafka.streams.kstream.Branched;
import org.apache.kafka.streams.kstream.BranchedKStream;
import org.apache.kafka.streams.kstream.Consumed;
import org.apache.kafka.streams.kstream.Grouped;
import org.apache.kafka.streams.kstream.KGroupedStream;
import org.apache.kafka.streams.kstream.KStream;
import org.apache.kafka.streams.kstream.KTable;
import org.apache.kafka.streams.kstream.Materialized;
import org.apache.kafka.streams.kstream.Named;
import org.apache.kafka.streams.kstream.Predicate;
import org.apache.kafka.streams.kstream.Produced;
import org.apache.kafka.streams.kstream.Repartitioned;
import org.apache.kafka.streams.processor.PunctuationType;
import org.apache.kafka.streams.processor.RecordContext;
import org.apache.kafka.streams.processor.TopicNameExtractor;
import org.apache.kafka.streams.processor.api.ProcessorSupplier;
import org.apache.kafka.streams.state.KeyValueBytesStoreSupplier;
import org.apache.kafka.streams.state.KeyValueStore;
import org.apache.kafka.streams.state.StoreBuilder;
import org.apache.kafka.streams.state.Stores;

/** Builds the topology of a case: {@code case.rs} says what the steps mean. */
final class Cases {
    private final StreamsBuilder builder = new StreamsBuilder();
    /** Of each step, what the DSL answered: a stream, a grouped stream, a table, or the streams of a split. */
    private final List<Object> results = new ArrayList<>();

    private Cases() {}

    static Topology topology(final JsonNode testCase) {
        final Cases cases = new Cases();
        for (final JsonNode step : testCase.get("steps")) {
            cases.results.add(cases.build(step));
        }
        return cases.builder.build();
    }

    private Object build(final JsonNode step) {
        return switch (text(step, "op")) {
            case "stream" -> builder.stream(texts(step.get("topics")), consumed(step));
            case "table" -> table(step);
            case "toTable" -> toTable(step);
            case "groupBy", "groupByKey" -> group(step);
            case "count", "reduce", "aggregate" -> aggregate(step);
            case "tableFilter", "tableFilterNot", "tableMapValues", "toStream" -> onTable(step);
            case "split" -> split(step);
            case "branch" -> ((List<?>) results.get(step.get("from").intValue())).get(step.get("index").intValue());
            case "stamp", "tally" -> process(step);
            case "to", "forEach" -> end(step);
            default -> onStream(step);
        };
    }

    private KTable<Object, Object> table(final JsonNode step) {
        final Materialized<Object, Object, KeyValueStore<Bytes, byte[]>> store = materialized(step);
        return store == null
            ? builder.table(text(step, "topic"), consumed(step))
            : builder.table(text(step, "topic"), consumed(step), store);
    }

    private KStream<Object, Object> onStream(final JsonNode step) {
        final KStream<Object, Object> from = stream(step, "from");
        final Named named = named(step);
        switch (text(step, "op")) {
            case "filter" -> {
                return named == null ? from.filter(predicate(step)) : from.filter(predicate(step), named);
            }
            case "filterNot" -> {
                return named == null ? from.filterNot(predicate(step)) : from.filterNot(predicate(step), named);
            }
            case "map" -> {
                return named == null
                    ? from.map((k, v) -> KeyValue.pair(select(step, k, v), map(step, k, v)))
                    : from.map((k, v) -> KeyValue.pair(select(step, k, v), map(step, k, v)), named);
            }
            case "mapValues" -> {
                return named == null
                    ? from.mapValues((k, v) -> map(step, k, v))
                    : from.mapValues((k, v) -> map(step, k, v), named);
            }
            case "flatMap" -> {
                return named == null
                    ? from.flatMap((k, v) -> expandPairs(step, k, v))
                    : from.flatMap((k, v) -> expandPairs(step, k, v), named);
            }
            case "flatMapValues" -> {
                return named == null
                    ? from.flatMapValues(v -> Functions.expander(text(step, "expander"), v))
                    : from.flatMapValues(v -> Functions.expander(text(step, "expander"), v), named);
            }
            case "selectKey" -> {
                return named == null
                    ? from.selectKey((k, v) -> select(step, k, v))
                    : from.selectKey((k, v) -> select(step, k, v), named);
            }
            case "peek" -> {
                return named == null ? from.peek((k, v) -> { }) : from.peek((k, v) -> { }, named);
            }
            case "merge" -> {
                final KStream<Object, Object> other = stream(step, "other");
                return named == null ? from.merge(other) : from.merge(other, named);
            }
            case "repartition" -> {
                final Repartitioned<Object, Object> repartitioned = Repartitioned.with(key(step), value(step));
                final String topic = textOrNull(step, "topic");
                return from.repartition(topic == null ? repartitioned : repartitioned.withName(topic));
            }
            default -> throw new IllegalArgumentException("no operator " + text(step, "op"));
        }
    }

    private List<KStream<Object, Object>> split(final JsonNode step) {
        final KStream<Object, Object> from = stream(step, "from");
        final Named named = named(step);
        final Map<Integer, KStream<Object, Object>> branches = new HashMap<>();
        BranchedKStream<Object, Object> split = named == null ? from.split() : from.split(named);
        int count = 0;
        for (final JsonNode branch : step.get("branches")) {
            final int index = count++;
            final String name = textOrNull(branch, "name");
            final Branched<Object, Object> branched = name == null
                ? Branched.withConsumer(stream -> branches.put(index, stream))
                : Branched.withConsumer(stream -> branches.put(index, stream), name);
            split = split.branch(predicate(branch), branched);
        }
        if (text(step, "default").equals("none")) {
            split.noDefaultBranch();
        } else {
            final int index = count;
            split.defaultBranch(Branched.withConsumer(stream -> branches.put(index, stream)));
        }
        return branches.entrySet().stream().sorted(Map.Entry.comparingByKey()).map(Map.Entry::getValue).toList();
    }

    private KStream<Object, Object> process(final JsonNode step) {
        final KStream<Object, Object> from = stream(step, "from");
        final Named named = named(step);
        if (text(step, "op").equals("stamp")) {
            final ProcessorSupplier<Object, Object, Object, Object> stamp = Processors.Stamp::new;
            return named == null ? from.process(stamp) : from.process(stamp, named);
        }
        final JsonNode punctuation = step.get("punctuation");
        final PunctuationType clock = punctuation.isNull() ? null
            : text(punctuation, "clock").equals("streamTime") ? PunctuationType.STREAM_TIME : PunctuationType.WALL_CLOCK_TIME;
        final long intervalMs = punctuation.path("intervalMs").longValue();
        final String store = text(step.get("store"), "name");
        builder.addStateStore(storeBuilder(step.get("store"), text(step, "key")));
        final ProcessorSupplier<Object, Object, Object, Object> tally =
            () -> new Processors.Tally(store, clock, intervalMs);
        return named == null ? from.process(tally, store) : from.process(tally, named, store);
    }

    private static StoreBuilder<?> storeBuilder(final JsonNode store, final String keyType) {
        final String name = text(store, "name");
        final KeyValueBytesStoreSupplier supplier = store.get("persistent").booleanValue()
            ? Stores.persistentKeyValueStore(name)
            : Stores.inMemoryKeyValueStore(name);
        final StoreBuilder<?> builder = Stores.keyValueStoreBuilder(supplier, serde(keyType), serde("long"));
        final StoreBuilder<?> logged = store.get("logged").booleanValue() ? builder : builder.withLoggingDisabled();
        return store.get("cached").booleanValue() ? logged.withCachingEnabled() : logged.withCachingDisabled();
    }

    private KGroupedStream<Object, Object> group(final JsonNode step) {
        final KStream<Object, Object> from = stream(step, "from");
        final Grouped<Object, Object> with = Grouped.with(key(step), value(step));
        final String topic = textOrNull(step, "topic");
        final Grouped<Object, Object> grouped = topic == null ? with : with.withName(topic);
        return text(step, "op").equals("groupBy")
            ? from.groupBy((k, v) -> select(step, k, v), grouped)
            : from.groupByKey(grouped);
    }

    @SuppressWarnings("unchecked")
    private Object aggregate(final JsonNode step) {
        final KGroupedStream<Object, Object> from =
            (KGroupedStream<Object, Object>) results.get(step.get("from").intValue());
        final Named named = named(step);
        final Materialized<Object, Object, KeyValueStore<Bytes, byte[]>> store = materialized(step);
        final String combiner = textOrNull(step, "combiner");
        switch (text(step, "op")) {
            case "count" -> {
                final Materialized<Object, Long, KeyValueStore<Bytes, byte[]>> counts = (Materialized<Object, Long, KeyValueStore<Bytes, byte[]>>) (Materialized<?, ?, ?>) store;
                final KTable<Object, Long> table = named == null
                    ? (store == null ? from.count() : from.count(counts))
                    : (store == null ? from.count(named) : from.count(named, counts));
                return table;
            }
            case "reduce" -> {
                if (store == null) {
                    return from.reduce((old, value) -> Functions.combiner(combiner, old, value));
                }
                return named == null
                    ? from.reduce((old, value) -> Functions.combiner(combiner, old, value), store)
                    : from.reduce((old, value) -> Functions.combiner(combiner, old, value), named, store);
            }
            default -> {
                final String to = text(step, "value");
                if (store == null) {
                    return from.aggregate(() -> Values.zero(to), (k, v, old) -> Functions.aggregator(combiner, to, v, old));
                }
                return named == null
                    ? from.aggregate(() -> Values.zero(to), (k, v, old) -> Functions.aggregator(combiner, to, v, old), store)
                    : from.aggregate(
                        () -> Values.zero(to), (k, v, old) -> Functions.aggregator(combiner, to, v, old), named, store);
            }
        }
    }

    @SuppressWarnings("unchecked")
    private Object onTable(final JsonNode step) {
        final KTable<Object, Object> from = (KTable<Object, Object>) results.get(step.get("from").intValue());
        final Named named = named(step);
        final Materialized<Object, Object, KeyValueStore<Bytes, byte[]>> store = materialized(step);
        switch (text(step, "op")) {
            case "tableFilter" -> {
                final Predicate<Object, Object> predicate = predicate(step);
                return named == null
                    ? (store == null ? from.filter(predicate) : from.filter(predicate, store))
                    : (store == null ? from.filter(predicate, named) : from.filter(predicate, named, store));
            }
            case "tableFilterNot" -> {
                final Predicate<Object, Object> predicate = predicate(step);
                return named == null
                    ? (store == null ? from.filterNot(predicate) : from.filterNot(predicate, store))
                    : (store == null ? from.filterNot(predicate, named) : from.filterNot(predicate, named, store));
            }
            case "tableMapValues" -> {
                return named == null
                    ? (store == null
                        ? from.mapValues((k, v) -> map(step, k, v))
                        : from.mapValues((k, v) -> map(step, k, v), store))
                    : (store == null
                        ? from.mapValues((k, v) -> map(step, k, v), named)
                        : from.mapValues((k, v) -> map(step, k, v), named, store));
            }
            default -> {
                return named == null ? from.toStream() : from.toStream(named);
            }
        }
    }

    private Object end(final JsonNode step) {
        final KStream<Object, Object> from = stream(step, "from");
        final Named named = named(step);
        if (text(step, "op").equals("forEach")) {
            if (named == null) {
                from.foreach((k, v) -> { });
            } else {
                from.foreach((k, v) -> { }, named);
            }
            return null;
        }
        final Produced<Object, Object> with = Produced.with(key(step), value(step));
        final String name = textOrNull(step, "name");
        final Produced<Object, Object> produced = name == null ? with : with.withName(name);
        final JsonNode topic = step.get("topic");
        if (topic.has("named")) {
            from.to(text(topic, "named"), produced);
        } else {
            from.to(new ByWeight(text(topic, "byWeight")), produced);
        }
        return null;
    }

    private KTable<Object, Object> toTable(final JsonNode step) {
        final KStream<Object, Object> from = stream(step, "from");
        final Named named = named(step);
        final Materialized<Object, Object, KeyValueStore<Bytes, byte[]>> store = materialized(step);
        return named == null
            ? (store == null ? from.toTable() : from.toTable(store))
            : (store == null ? from.toTable(named) : from.toTable(named, store));
    }

    /** Prints, in {@code describe}, what Millrace prints, which does not know the extractor. */
    private record ByWeight(String prefix) implements TopicNameExtractor<Object, Object> {
        @Override
        public String extract(final Object key, final Object value, final RecordContext context) {
            return Functions.topicByWeight(prefix, value);
        }

        @Override
        public String toString() {
            return "module";
        }
    }

    private static Materialized<Object, Object, KeyValueStore<Bytes, byte[]>> materialized(final JsonNode step) {
        final JsonNode store = step.path("store");
        if (store.isMissingNode() || store.isNull()) {
            return null;
        }
        final String name = textOrNull(store, "name");
        final Materialized<Object, Object, KeyValueStore<Bytes, byte[]>> named =
            name == null ? Materialized.with(null, null) : Materialized.as(name);
        final Materialized<Object, Object, KeyValueStore<Bytes, byte[]>> materialized = named
            .withKeySerde(key(step))
            .withStoreType(store.get("persistent").booleanValue()
                ? Materialized.StoreType.ROCKS_DB
                : Materialized.StoreType.IN_MEMORY);
        if (step.has("value")) {
            materialized.withValueSerde(value(step));
        }
        if (!store.get("logged").booleanValue()) {
            materialized.withLoggingDisabled();
        }
        return store.get("cached").booleanValue()
            ? materialized.withCachingEnabled()
            : materialized.withCachingDisabled();
    }

    @SuppressWarnings("unchecked")
    private KStream<Object, Object> stream(final JsonNode step, final String field) {
        return (KStream<Object, Object>) results.get(step.get(field).intValue());
    }

    private static Consumed<Object, Object> consumed(final JsonNode step) {
        Consumed<Object, Object> consumed = Consumed.with(key(step), value(step));
        final String extractor = textOrNull(step, "extractor");
        if (extractor != null) {
            consumed = consumed.withTimestampExtractor((record, partitionTime) ->
                Functions.extractor(extractor, record.timestamp(), partitionTime, record.value()));
        }
        final String name = textOrNull(step, "name");
        return name == null ? consumed : consumed.withName(name);
    }

    private static Predicate<Object, Object> predicate(final JsonNode node) {
        final String name = text(node, "predicate");
        return (k, v) -> Functions.predicate(name, k, v);
    }

    private static Object select(final JsonNode step, final Object key, final Object value) {
        return Functions.selector(text(step, "selector"), text(step, "key"), key, value);
    }

    private static Object map(final JsonNode step, final Object key, final Object value) {
        return Functions.mapper(text(step, "mapper"), text(step, "value"), key, value);
    }

    private static List<KeyValue<Object, Object>> expandPairs(final JsonNode step, final Object key, final Object value) {
        final List<KeyValue<Object, Object>> pairs = new ArrayList<>();
        for (final Object item : Functions.expander(text(step, "expander"), value)) {
            pairs.add(KeyValue.pair(select(step, key, item), item));
        }
        return pairs;
    }

    private static Serde<Object> key(final JsonNode step) {
        return serde(text(step, "key"));
    }

    private static Serde<Object> value(final JsonNode step) {
        return serde(text(step, "value"));
    }

    private static Named named(final JsonNode step) {
        final String name = textOrNull(step, "name");
        return name == null ? null : Named.as(name);
    }

    private static List<String> texts(final JsonNode array) {
        final List<String> texts = new ArrayList<>();
        array.forEach(item -> texts.add(item.textValue()));
        return texts;
    }

    private static String text(final JsonNode node, final String field) {
        final String text = textOrNull(node, field);
        if (text == null) {
            throw new IllegalArgumentException("no text `" + field + "` in " + node);
        }
        return text;
    }

    private static String textOrNull(final JsonNode node, final String field) {
        return node.path(field).textValue();
    }
}
