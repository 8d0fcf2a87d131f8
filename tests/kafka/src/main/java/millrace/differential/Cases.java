package millrace.differential;

import static millrace.differential.Steps.consumed;
import static millrace.differential.Steps.expandPairs;
import static millrace.differential.Steps.key;
import static millrace.differential.Steps.map;
import static millrace.differential.Steps.materialized;
import static millrace.differential.Steps.named;
import static millrace.differential.Steps.predicate;
import static millrace.differential.Steps.select;
import static millrace.differential.Steps.storeBuilder;
import static millrace.differential.Steps.text;
import static millrace.differential.Steps.textOrNull;
import static millrace.differential.Steps.texts;
import static millrace.differential.Steps.value;

import com.fasterxml.jackson.databind.JsonNode;
import java.util.ArrayList;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import org.apache.kafka.common.utils.Bytes;
import org.apache.kafka.streams.KeyValue;
import org.apache.kafka.streams.StreamsBuilder;
import org.apache.kafka.streams.Topology;
import org.apache.kafka.streams.kstream.Aggregator;
import org.apache.kafka.streams.kstream.Branched;
import org.apache.kafka.streams.kstream.BranchedKStream;
import org.apache.kafka.streams.kstream.GlobalKTable;
import org.apache.kafka.streams.kstream.Grouped;
import org.apache.kafka.streams.kstream.Initializer;
import org.apache.kafka.streams.kstream.KGroupedStream;
import org.apache.kafka.streams.kstream.KGroupedTable;
import org.apache.kafka.streams.kstream.KStream;
import org.apache.kafka.streams.kstream.KTable;
import org.apache.kafka.streams.kstream.Materialized;
import org.apache.kafka.streams.kstream.Named;
import org.apache.kafka.streams.kstream.Predicate;
import org.apache.kafka.streams.kstream.Produced;
import org.apache.kafka.streams.kstream.Reducer;
import org.apache.kafka.streams.kstream.Repartitioned;
import org.apache.kafka.streams.kstream.ValueTransformerWithKeySupplier;
import org.apache.kafka.streams.processor.PunctuationType;
import org.apache.kafka.streams.processor.RecordContext;
import org.apache.kafka.streams.processor.TopicNameExtractor;
import org.apache.kafka.streams.processor.api.ProcessorSupplier;
import org.apache.kafka.streams.state.KeyValueStore;
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
            case "globalTable" -> globalTable(step);
            case "toTable" -> toTable(step);
            case "groupBy", "groupByKey" -> group(step);
            case "windowedBy" -> Windowing.cut(grouped(step), step);
            case "cogroup" -> Cogroups.aggregate(grouped(step), other(step), step);
            case "unwindow" -> Windowing.unwindow((Windowing.WindowTable) from(step));
            case "count", "reduce", "aggregate" -> from(step) instanceof Windowing.Cut cut
                ? Windowing.aggregate(cut, step)
                : aggregate(step);
            case "tableGroupBy" -> groupTable(step);
            case "tableCount", "tableReduce", "tableAggregate" -> aggregateTable(step);
            case "tableFilter", "tableFilterNot", "tableMapValues", "toStream" -> onTable(step);
            case "tableTransformValues" -> transformTable(step);
            case "tableJoin" -> Joins.tables(from(step), results.get(step.get("other").intValue()), step);
            case "foreignKeyJoin" ->
                Joins.onForeignKey(from(step), results.get(step.get("other").intValue()), step);
            case "streamTableJoin" -> Joins.streamWithTable(
                stream(step, "from"), results.get(step.get("other").intValue()), step);
            case "globalJoin" -> Joins.streamWithGlobal(
                stream(step, "from"), results.get(step.get("other").intValue()), step);
            case "streamJoin" -> Joins.streams(stream(step, "from"), stream(step, "other"), step);
            case "suppress" -> Windowing.suppress(from(step), step);
            case "split" -> split(step);
            case "branch" -> ((List<?>) results.get(step.get("from").intValue())).get(step.get("index").intValue());
            case "stamp", "tally" -> process(step);
            case "stampValues" -> named(step) == null
                ? stream(step, "from").processValues(Processors.StampValues::new)
                : stream(step, "from").processValues(Processors.StampValues::new, named(step));
            case "minutes", "visits" -> processTimes(step);
            case "to", "forEach" -> end(step);
            case "windowedTo" -> {
                Windowing.write((Windowing.WindowTable) from(step), step);
                yield null;
            }
            default -> onStream(step);
        };
    }

    private KTable<Object, Object> table(final JsonNode step) {
        final Materialized<Object, Object, KeyValueStore<Bytes, byte[]>> store = materialized(step);
        return store == null
            ? builder.table(text(step, "topic"), consumed(step))
            : builder.table(text(step, "topic"), consumed(step), store);
    }

    private GlobalKTable<Object, Object> globalTable(final JsonNode step) {
        final Materialized<Object, Object, KeyValueStore<Bytes, byte[]>> store = materialized(step);
        return store == null
            ? builder.globalTable(text(step, "topic"), consumed(step))
            : builder.globalTable(text(step, "topic"), consumed(step), store);
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

    private KStream<Object, Object> processTimes(final JsonNode step) {
        final Named named = named(step);
        final String store = text(step.get("store"), "name");
        builder.addStateStore(text(step, "op").equals("minutes") ? Steps.windowStore(step) : Steps.sessionStore(step));
        final ProcessorSupplier<Object, Object, Object, Object> processor = text(step, "op").equals("minutes")
            ? () -> new Processors.Minutes(store, step.get("size").longValue(), step.get("duplicates").booleanValue())
            : () -> new Processors.Visits(store, step.get("gap").longValue());
        final KStream<Object, Object> from = stream(step, "from");
        return named == null ? from.process(processor, store) : from.process(processor, named, store);
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
        final KGroupedStream<Object, Object> from = grouped(step);
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
    private KGroupedTable<Object, Object> groupTable(final JsonNode step) {
        final KTable<Object, Object> from = (KTable<Object, Object>) results.get(step.get("from").intValue());
        final Grouped<Object, Object> with = Grouped.with(key(step), value(step));
        final String topic = textOrNull(step, "topic");
        return from.groupBy(
            (k, v) -> KeyValue.pair(select(step, k, v), map(step, k, v)), topic == null ? with : with.withName(topic));
    }

    @SuppressWarnings("unchecked")
    private Object aggregateTable(final JsonNode step) {
        final KGroupedTable<Object, Object> from =
            (KGroupedTable<Object, Object>) results.get(step.get("from").intValue());
        final Named named = named(step);
        final Materialized<Object, Object, KeyValueStore<Bytes, byte[]>> store = materialized(step);
        final String adder = textOrNull(step, "adder");
        final String subtractor = textOrNull(step, "subtractor");
        switch (text(step, "op")) {
            case "tableCount" -> {
                final Materialized<Object, Long, KeyValueStore<Bytes, byte[]>> counts =
                    (Materialized<Object, Long, KeyValueStore<Bytes, byte[]>>) (Materialized<?, ?, ?>) store;
                return named == null
                    ? (store == null ? from.count() : from.count(counts))
                    : (store == null ? from.count(named) : from.count(named, counts));
            }
            case "tableReduce" -> {
                final Reducer<Object> add = (old, value) -> Functions.combiner(adder, old, value);
                final Reducer<Object> subtract = (old, value) -> Functions.remover(subtractor, old, value);
                return store == null
                    ? from.reduce(add, subtract)
                    : named == null ? from.reduce(add, subtract, store) : from.reduce(add, subtract, named, store);
            }
            default -> {
                final String to = text(step, "value");
                final Initializer<Object> zero = () -> Values.zero(to);
                final Aggregator<Object, Object, Object> add = (k, v, old) -> Functions.aggregator(adder, to, v, old);
                final Aggregator<Object, Object, Object> subtract =
                    (k, v, old) -> Functions.remover(subtractor, old, Values.convert(to, v));
                return store == null
                    ? from.aggregate(zero, add, subtract)
                    : named == null
                        ? from.aggregate(zero, add, subtract, store)
                        : from.aggregate(zero, add, subtract, named, store);
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

    @SuppressWarnings("unchecked")
    private Object transformTable(final JsonNode step) {
        final KTable<Object, Object> from = (KTable<Object, Object>) results.get(step.get("from").intValue());
        final Named named = named(step);
        final Materialized<Object, Object, KeyValueStore<Bytes, byte[]>> store = materialized(step);
        final String calls = textOrNull(step, "calls");
        final String[] stores = calls == null ? new String[0] : new String[] {calls};
        if (calls != null) {
            builder.addStateStore(Stores.keyValueStoreBuilder(
                Stores.persistentKeyValueStore(calls), key(step), Values.serde("long")));
        }
        final ValueTransformerWithKeySupplier<Object, Object, Object> transformer =
            () -> new Processors.Transformer((k, v) -> map(step, k, v), calls);
        return named == null
            ? (store == null
                ? from.transformValues(transformer, stores)
                : from.transformValues(transformer, store, stores))
            : (store == null
                ? from.transformValues(transformer, named, stores)
                : from.transformValues(transformer, store, named, stores));
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

    private Object from(final JsonNode step) {
        return results.get(step.get("from").intValue());
    }

    @SuppressWarnings("unchecked")
    private KGroupedStream<Object, Object> grouped(final JsonNode step) {
        return (KGroupedStream<Object, Object>) from(step);
    }

    @SuppressWarnings("unchecked")
    private KGroupedStream<Object, Object> other(final JsonNode step) {
        return (KGroupedStream<Object, Object>) results.get(step.get("other").intValue());
    }

    @SuppressWarnings("unchecked")
    private KStream<Object, Object> stream(final JsonNode step, final String field) {
        return (KStream<Object, Object>) results.get(step.get(field).intValue());
    }
}
