package millrace.differential;

import static millrace.differential.Steps.materialized;
import static millrace.differential.Steps.named;
import static millrace.differential.Steps.text;

import com.fasterxml.jackson.databind.JsonNode;
import java.time.Duration;
import java.time.Instant;
import org.apache.kafka.common.utils.Bytes;
import org.apache.kafka.streams.kstream.Aggregator;
import org.apache.kafka.streams.kstream.CogroupedKStream;
import org.apache.kafka.streams.kstream.Initializer;
import org.apache.kafka.streams.kstream.KGroupedStream;
import org.apache.kafka.streams.kstream.KTable;
import org.apache.kafka.streams.kstream.Materialized;
import org.apache.kafka.streams.kstream.Merger;
import org.apache.kafka.streams.kstream.Named;
import org.apache.kafka.streams.kstream.SessionWindows;
import org.apache.kafka.streams.kstream.SlidingWindows;
import org.apache.kafka.streams.kstream.TimeWindowedCogroupedKStream;
import org.apache.kafka.streams.kstream.TimeWindows;
import org.apache.kafka.streams.kstream.UnlimitedWindows;
import org.apache.kafka.streams.kstream.Windowed;
import org.apache.kafka.streams.state.KeyValueStore;
import org.apache.kafka.streams.state.SessionStore;
import org.apache.kafka.streams.state.WindowStore;

/** Cogrouped aggregations: {@code ours/cogroups.rs}, in Java. */
final class Cogroups {
    private Cogroups() {}

    /** A table, or a table of windows. */
    @SuppressWarnings("unchecked")
    static Object aggregate(
            final KGroupedStream<Object, Object> one, final KGroupedStream<Object, Object> other, final JsonNode step) {
        final CogroupedKStream<Object, Object> both =
            one.<Object>cogroup(aggregator(step, "combiner")).cogroup(other, aggregator(step, "otherCombiner"));
        final String to = text(step, "value");
        final Initializer<Object> zero = () -> Values.zero(to);
        final Named named = named(step);
        final Materialized<Object, Object, KeyValueStore<Bytes, byte[]>> store = materialized(step);
        final JsonNode windows = step.get("windows");
        if (windows.isNull()) {
            return named == null ? both.aggregate(zero, store) : both.aggregate(zero, named, store);
        }
        if (!step.get("retention").isNull()) {
            store.withRetention(ms(step.get("retention")));
        }
        final Materialized<?, ?, ?> any = store;
        final Duration grace = ms(windows.path("grace"));
        if (text(windows, "kind").equals("session")) {
            final Materialized<Object, Object, SessionStore<Bytes, byte[]>> sessions =
                (Materialized<Object, Object, SessionStore<Bytes, byte[]>>) any;
            final String combiner = text(step, "combiner");
            final Merger<Object, Object> merger = (k, left, right) -> Functions.combiner(combiner, left, right);
            final var cut = both.windowedBy(SessionWindows.ofInactivityGapAndGrace(ms(windows.get("gap")), grace));
            final KTable<Windowed<Object>, Object> table = named == null
                ? cut.aggregate(zero, merger, sessions)
                : cut.aggregate(zero, merger, named, sessions);
            return new Windowing.WindowTable(table, windows);
        }
        final TimeWindowedCogroupedKStream<Object, Object> cut = switch (text(windows, "kind")) {
            case "time" -> both.windowedBy(
                TimeWindows.ofSizeAndGrace(ms(windows.get("size")), grace).advanceBy(ms(windows.get("advance"))));
            case "unlimited" -> both.windowedBy(
                UnlimitedWindows.of().startOn(Instant.ofEpochMilli(windows.get("start").longValue())));
            default -> both.windowedBy(SlidingWindows.ofTimeDifferenceAndGrace(ms(windows.get("difference")), grace));
        };
        final Materialized<Object, Object, WindowStore<Bytes, byte[]>> kept =
            (Materialized<Object, Object, WindowStore<Bytes, byte[]>>) any;
        final KTable<Windowed<Object>, Object> table =
            named == null ? cut.aggregate(zero, kept) : cut.aggregate(zero, named, kept);
        return new Windowing.WindowTable(table, windows);
    }

    private static Aggregator<Object, Object, Object> aggregator(final JsonNode step, final String combiner) {
        final String name = text(step, combiner);
        final String to = text(step, "value");
        return (k, v, old) -> Functions.aggregator(name, to, v, old);
    }

    private static Duration ms(final JsonNode number) {
        return Duration.ofMillis(number.longValue());
    }
}
