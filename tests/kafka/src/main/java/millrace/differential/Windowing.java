package millrace.differential;

import static millrace.differential.Steps.key;
import static millrace.differential.Steps.materialized;
import static millrace.differential.Steps.named;
import static millrace.differential.Steps.text;
import static millrace.differential.Steps.textOrNull;
import static millrace.differential.Steps.value;

import com.fasterxml.jackson.databind.JsonNode;
import java.time.Duration;
import java.time.Instant;
import org.apache.kafka.common.serialization.Serde;
import org.apache.kafka.common.utils.Bytes;
import org.apache.kafka.streams.kstream.Aggregator;
import org.apache.kafka.streams.kstream.EmitStrategy;
import org.apache.kafka.streams.kstream.Initializer;
import org.apache.kafka.streams.kstream.KGroupedStream;
import org.apache.kafka.streams.kstream.KStream;
import org.apache.kafka.streams.kstream.KTable;
import org.apache.kafka.streams.kstream.Materialized;
import org.apache.kafka.streams.kstream.Merger;
import org.apache.kafka.streams.kstream.Named;
import org.apache.kafka.streams.kstream.Produced;
import org.apache.kafka.streams.kstream.Reducer;
import org.apache.kafka.streams.kstream.SessionWindowedKStream;
import org.apache.kafka.streams.kstream.SessionWindows;
import org.apache.kafka.streams.kstream.SlidingWindows;
import org.apache.kafka.streams.kstream.Suppressed;
import org.apache.kafka.streams.kstream.TimeWindowedKStream;
import org.apache.kafka.streams.kstream.TimeWindows;
import org.apache.kafka.streams.kstream.UnlimitedWindows;
import org.apache.kafka.streams.kstream.Windowed;
import org.apache.kafka.streams.kstream.WindowedSerdes;
import org.apache.kafka.streams.state.KeyValueStore;
import org.apache.kafka.streams.state.SessionStore;
import org.apache.kafka.streams.state.WindowStore;

/** Aggregations in windows: {@code ours/windows.rs}, in Java. */
final class Windowing {
    /** A grouped stream in windows. One of the streams is null. */
    record Cut(
        TimeWindowedKStream<Object, Object> time,
        SessionWindowedKStream<Object, Object> session,
        JsonNode windows,
        JsonNode retention) {}

    /** A table of windows. */
    record WindowTable(KTable<Windowed<Object>, Object> table, JsonNode windows) {}

    private Windowing() {}

    static Cut cut(final KGroupedStream<Object, Object> grouped, final JsonNode step) {
        final JsonNode windows = step.get("windows");
        final Duration grace = ms(windows.path("grace"));
        final JsonNode retention = step.get("retention");
        final EmitStrategy emit = text(step, "emit").equals("windowClose")
            ? EmitStrategy.onWindowClose()
            : EmitStrategy.onWindowUpdate();
        return switch (text(windows, "kind")) {
            case "time" -> new Cut(
                grouped
                    .windowedBy(TimeWindows.ofSizeAndGrace(ms(windows.get("size")), grace)
                        .advanceBy(ms(windows.get("advance"))))
                    .emitStrategy(emit),
                null, windows, retention);
            case "unlimited" -> new Cut(
                grouped.windowedBy(UnlimitedWindows.of().startOn(Instant.ofEpochMilli(windows.get("start").longValue()))),
                null, windows, retention);
            case "sliding" -> new Cut(
                grouped.windowedBy(SlidingWindows.ofTimeDifferenceAndGrace(ms(windows.get("difference")), grace))
                    .emitStrategy(emit),
                null, windows, retention);
            default -> new Cut(
                null,
                grouped.windowedBy(SessionWindows.ofInactivityGapAndGrace(ms(windows.get("gap")), grace))
                    .emitStrategy(emit),
                windows, retention);
        };
    }

    static WindowTable aggregate(final Cut cut, final JsonNode step) {
        final Materialized<Object, Object, KeyValueStore<Bytes, byte[]>> store = materialized(step);
        if (store != null && !cut.retention.isNull()) {
            store.withRetention(ms(cut.retention));
        }
        return new WindowTable(cut.time != null ? inTime(cut.time, store, step) : inSessions(cut.session, store, step), cut.windows);
    }

    @SuppressWarnings("unchecked")
    private static KTable<Windowed<Object>, Object> inTime(
            final TimeWindowedKStream<Object, Object> from, final Materialized<?, ?, ?> any, final JsonNode step) {
        final Named named = named(step);
        final String combiner = textOrNull(step, "combiner");
        final Materialized<Object, Object, WindowStore<Bytes, byte[]>> store =
            (Materialized<Object, Object, WindowStore<Bytes, byte[]>>) any;
        switch (text(step, "op")) {
            case "count" -> {
                final Materialized<Object, Long, WindowStore<Bytes, byte[]>> counts =
                    (Materialized<Object, Long, WindowStore<Bytes, byte[]>>) any;
                final KTable<Windowed<Object>, Long> table = named == null
                    ? (store == null ? from.count() : from.count(counts))
                    : (store == null ? from.count(named) : from.count(named, counts));
                return (KTable<Windowed<Object>, Object>) (KTable<?, ?>) table;
            }
            case "reduce" -> {
                final Reducer<Object> reducer = (old, value) -> Functions.combiner(combiner, old, value);
                return store == null ? from.reduce(reducer)
                    : named == null ? from.reduce(reducer, store) : from.reduce(reducer, named, store);
            }
            default -> {
                final String to = text(step, "value");
                final Initializer<Object> zero = () -> Values.zero(to);
                final Aggregator<Object, Object, Object> add = (k, v, old) -> Functions.aggregator(combiner, to, v, old);
                return store == null ? from.aggregate(zero, add)
                    : named == null ? from.aggregate(zero, add, store) : from.aggregate(zero, add, named, store);
            }
        }
    }

    @SuppressWarnings("unchecked")
    private static KTable<Windowed<Object>, Object> inSessions(
            final SessionWindowedKStream<Object, Object> from, final Materialized<?, ?, ?> any, final JsonNode step) {
        final Named named = named(step);
        final String combiner = textOrNull(step, "combiner");
        final Materialized<Object, Object, SessionStore<Bytes, byte[]>> store =
            (Materialized<Object, Object, SessionStore<Bytes, byte[]>>) any;
        switch (text(step, "op")) {
            case "count" -> {
                final Materialized<Object, Long, SessionStore<Bytes, byte[]>> counts =
                    (Materialized<Object, Long, SessionStore<Bytes, byte[]>>) any;
                final KTable<Windowed<Object>, Long> table = named == null
                    ? (store == null ? from.count() : from.count(counts))
                    : (store == null ? from.count(named) : from.count(named, counts));
                return (KTable<Windowed<Object>, Object>) (KTable<?, ?>) table;
            }
            case "reduce" -> {
                final Reducer<Object> reducer = (old, value) -> Functions.combiner(combiner, old, value);
                return store == null ? from.reduce(reducer)
                    : named == null ? from.reduce(reducer, store) : from.reduce(reducer, named, store);
            }
            default -> {
                final String to = text(step, "value");
                final Initializer<Object> zero = () -> Values.zero(to);
                final Aggregator<Object, Object, Object> add = (k, v, old) -> Functions.aggregator(combiner, to, v, old);
                final Merger<Object, Object> merger = (k, one, other) -> Functions.combiner(combiner, one, other);
                return store == null ? from.aggregate(zero, add, merger)
                    : named == null
                        ? from.aggregate(zero, add, merger, store)
                        : from.aggregate(zero, add, merger, named, store);
            }
        }
    }

    /** A table, or a table of windows. */
    @SuppressWarnings("unchecked")
    static Object suppress(final Object from, final JsonNode step) {
        return from instanceof WindowTable windows
            ? new WindowTable(windows.table.suppress(windowed(step)), windows.windows)
            : ((KTable<Object, Object>) from).suppress(limited(step));
    }

    private static Suppressed<? super Windowed<Object>> windowed(final JsonNode step) {
        if (!step.get("limit").isNull()) {
            return limited(step);
        }
        final Suppressed<Windowed<?>> closed = Suppressed.untilWindowCloses(Suppressed.BufferConfig.unbounded());
        final String name = textOrNull(step, "name");
        return name == null ? closed : closed.withName(name);
    }

    private static <K> Suppressed<K> limited(final JsonNode step) {
        final JsonNode records = step.get("maxRecords");
        final JsonNode bytes = step.get("maxBytes");
        Suppressed.EagerBufferConfig buffer = Suppressed.BufferConfig.unbounded().emitEarlyWhenFull();
        if (!records.isNull()) {
            buffer = buffer.withMaxRecords(records.longValue());
        }
        if (!bytes.isNull()) {
            buffer = buffer.withMaxBytes(bytes.longValue());
        }
        final Suppressed<K> limited = Suppressed.untilTimeLimit(ms(step.get("limit")), buffer);
        final String name = textOrNull(step, "name");
        return name == null ? limited : limited.withName(name);
    }

    static void write(final WindowTable from, final JsonNode step) {
        from.table.toStream().to(text(step, "topic"), Produced.with(serde(from.windows, key(step)), value(step)));
    }

    private static Serde<Windowed<Object>> serde(final JsonNode windows, final Serde<Object> key) {
        return switch (text(windows, "kind")) {
            case "session" -> new WindowedSerdes.SessionWindowedSerde<>(key);
            case "time" -> new WindowedSerdes.TimeWindowedSerde<>(key, windows.get("size").longValue());
            case "sliding" -> new WindowedSerdes.TimeWindowedSerde<>(key, windows.get("difference").longValue());
            default -> new WindowedSerdes.TimeWindowedSerde<>(key, Long.MAX_VALUE);
        };
    }

    static KStream<Object, Object> unwindow(final WindowTable from) {
        return from.table.toStream((k, v) ->
            Values.text(k.key()) + "@" + k.window().start() + "/" + k.window().end());
    }

    private static Duration ms(final JsonNode number) {
        return Duration.ofMillis(number.longValue());
    }
}
