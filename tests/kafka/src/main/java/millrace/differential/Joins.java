package millrace.differential;

import static millrace.differential.Steps.key;
import static millrace.differential.Steps.materialized;
import static millrace.differential.Steps.named;
import static millrace.differential.Steps.text;
import static millrace.differential.Steps.textOrNull;
import static millrace.differential.Steps.value;

import com.fasterxml.jackson.databind.JsonNode;
import java.time.Duration;
import java.util.function.BiFunction;
import org.apache.kafka.common.utils.Bytes;
import org.apache.kafka.streams.kstream.GlobalKTable;
import org.apache.kafka.streams.kstream.JoinWindows;
import org.apache.kafka.streams.kstream.Joined;
import org.apache.kafka.streams.kstream.KStream;
import org.apache.kafka.streams.kstream.KTable;
import org.apache.kafka.streams.kstream.KeyValueMapper;
import org.apache.kafka.streams.kstream.Materialized;
import org.apache.kafka.streams.kstream.Named;
import org.apache.kafka.streams.kstream.StreamJoined;
import org.apache.kafka.streams.kstream.TableJoined;
import org.apache.kafka.streams.kstream.ValueJoiner;
import org.apache.kafka.streams.state.KeyValueStore;

/** Joins: {@code ours/joins.rs}, in Java. */
final class Joins {
    private Joins() {}

    @SuppressWarnings("unchecked")
    static KTable<Object, Object> tables(final Object one, final Object another, final JsonNode step) {
        final KTable<Object, Object> left = (KTable<Object, Object>) one;
        final KTable<Object, Object> right = (KTable<Object, Object>) another;
        final Named named = named(step);
        final Materialized<Object, Object, KeyValueStore<Bytes, byte[]>> store = materialized(step);
        final ValueJoiner<Object, Object, Object> joiner = joiner(step);
        return switch (text(step, "kind")) {
            case "inner" -> store == null
                ? (named == null ? left.join(right, joiner) : left.join(right, joiner, named))
                : (named == null ? left.join(right, joiner, store) : left.join(right, joiner, named, store));
            case "left" -> store == null
                ? (named == null ? left.leftJoin(right, joiner) : left.leftJoin(right, joiner, named))
                : (named == null ? left.leftJoin(right, joiner, store) : left.leftJoin(right, joiner, named, store));
            default -> store == null
                ? (named == null ? left.outerJoin(right, joiner) : left.outerJoin(right, joiner, named))
                : (named == null ? left.outerJoin(right, joiner, store) : left.outerJoin(right, joiner, named, store));
        };
    }

    @SuppressWarnings("unchecked")
    static KTable<Object, Object> onForeignKey(final Object one, final Object another, final JsonNode step) {
        final KTable<Object, Object> left = (KTable<Object, Object>) one;
        final KTable<Object, Object> right = (KTable<Object, Object>) another;
        final String selector = text(step, "selector");
        final String foreign = text(step, "foreign");
        final BiFunction<Object, Object, Object> refer = (k, v) -> Functions.selector(selector, foreign, k, v);
        final String name = textOrNull(step, "name");
        final TableJoined<Object, Object> named = name == null ? null : TableJoined.as(name);
        final Materialized<Object, Object, KeyValueStore<Bytes, byte[]>> store = materialized(step);
        final ValueJoiner<Object, Object, Object> joiner = joiner(step);
        if (text(step, "kind").equals("inner")) {
            return store == null
                ? (named == null ? left.join(right, refer, joiner) : left.join(right, refer, joiner, named))
                : named == null
                    ? left.join(right, refer, joiner, store)
                    : left.join(right, refer, joiner, named, store);
        }
        return store == null
            ? (named == null ? left.leftJoin(right, refer, joiner) : left.leftJoin(right, refer, joiner, named))
            : named == null
                ? left.leftJoin(right, refer, joiner, store)
                : left.leftJoin(right, refer, joiner, named, store);
    }

    @SuppressWarnings("unchecked")
    static KStream<Object, Object> streamWithTable(
            final KStream<Object, Object> left, final Object table, final JsonNode step) {
        final KTable<Object, Object> right = (KTable<Object, Object>) table;
        final String name = textOrNull(step, "name");
        final Joined<Object, Object, Object> serdes = Joined.with(key(step), value(step), null);
        final Joined<Object, Object, Object> with =
            step.path("grace").isNumber() ? serdes.withGracePeriod(ms(step.get("grace"))) : serdes;
        final Joined<Object, Object, Object> joined = name == null ? with : with.withName(name);
        return text(step, "kind").equals("inner")
            ? left.join(right, joiner(step), joined)
            : left.leftJoin(right, joiner(step), joined);
    }

    @SuppressWarnings("unchecked")
    static KStream<Object, Object> streamWithGlobal(
            final KStream<Object, Object> left, final Object table, final JsonNode step) {
        final GlobalKTable<Object, Object> right = (GlobalKTable<Object, Object>) table;
        final KeyValueMapper<Object, Object, Object> mapper = (k, v) -> Steps.select(step, k, v);
        final ValueJoiner<Object, Object, Object> joiner = joiner(step);
        final Named named = named(step);
        return text(step, "kind").equals("inner")
            ? (named == null ? left.join(right, mapper, joiner) : left.join(right, mapper, joiner, named))
            : (named == null ? left.leftJoin(right, mapper, joiner) : left.leftJoin(right, mapper, joiner, named));
    }

    static KStream<Object, Object> streams(
            final KStream<Object, Object> left, final KStream<Object, Object> right, final JsonNode step) {
        // One of the two may be negative, but not their sum, and neither may it be in between.
        final JsonNode larger =
            step.get("before").longValue() > step.get("after").longValue() ? step.get("before") : step.get("after");
        final JoinWindows windows = JoinWindows
            .ofTimeDifferenceAndGrace(ms(larger), ms(step.get("grace")))
            .before(ms(step.get("before")))
            .after(ms(step.get("after")));
        StreamJoined<Object, Object, Object> joined =
            StreamJoined.with(key(step), value(step), Values.serde(text(step, "otherValue")));
        final String name = textOrNull(step, "name");
        if (name != null) {
            joined = joined.withName(name);
        }
        final String stores = textOrNull(step, "stores");
        if (stores != null) {
            joined = joined.withStoreName(stores);
        }
        return switch (text(step, "kind")) {
            case "inner" -> left.join(right, joiner(step), windows, joined);
            case "left" -> left.leftJoin(right, joiner(step), windows, joined);
            default -> left.outerJoin(right, joiner(step), windows, joined);
        };
    }

    private static Duration ms(final JsonNode number) {
        return Duration.ofMillis(number.longValue());
    }

    private static ValueJoiner<Object, Object, Object> joiner(final JsonNode step) {
        final String name = text(step, "joiner");
        return (left, right) -> Functions.joiner(name, left, right);
    }
}
