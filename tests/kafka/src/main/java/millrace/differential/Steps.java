package millrace.differential;

import static millrace.differential.Values.serde;

import com.fasterxml.jackson.databind.JsonNode;
import java.time.Duration;
import java.util.ArrayList;
import java.util.List;
import org.apache.kafka.common.serialization.Serde;
import org.apache.kafka.common.utils.Bytes;
import org.apache.kafka.streams.KeyValue;
import org.apache.kafka.streams.kstream.Consumed;
import org.apache.kafka.streams.kstream.Materialized;
import org.apache.kafka.streams.kstream.Named;
import org.apache.kafka.streams.kstream.Predicate;
import org.apache.kafka.streams.state.KeyValueBytesStoreSupplier;
import org.apache.kafka.streams.state.KeyValueStore;
import org.apache.kafka.streams.state.SessionBytesStoreSupplier;
import org.apache.kafka.streams.state.StoreBuilder;
import org.apache.kafka.streams.state.Stores;
import org.apache.kafka.streams.state.WindowBytesStoreSupplier;

/** Reads the steps of a case: names, types, functions, stores. {@code case.rs} has the same fields. */
final class Steps {
    private Steps() {}

    static Materialized<Object, Object, KeyValueStore<Bytes, byte[]>> materialized(final JsonNode step) {
        final JsonNode store = step.path("store");
        if (store.isMissingNode() || store.isNull()) {
            return null;
        }
        final String name = textOrNull(store, "name");
        if (store.path("history").isNumber()) {
            final Duration history = Duration.ofMillis(store.get("history").longValue());
            final Materialized<Object, Object, KeyValueStore<Bytes, byte[]>> versioned =
                Materialized.as(Stores.persistentVersionedKeyValueStore(name, history));
            versioned.withKeySerde(key(step));
            return step.has("value") ? versioned.withValueSerde(value(step)) : versioned;
        }
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

    static Consumed<Object, Object> consumed(final JsonNode step) {
        Consumed<Object, Object> consumed = Consumed.with(key(step), value(step));
        final String extractor = textOrNull(step, "extractor");
        if (extractor != null) {
            consumed = consumed.withTimestampExtractor((record, partitionTime) ->
                Functions.extractor(extractor, record.timestamp(), partitionTime, record.value()));
        }
        final String name = textOrNull(step, "name");
        return name == null ? consumed : consumed.withName(name);
    }

    static Predicate<Object, Object> predicate(final JsonNode node) {
        final String name = text(node, "predicate");
        return (k, v) -> Functions.predicate(name, k, v);
    }

    static Object select(final JsonNode step, final Object key, final Object value) {
        return Functions.selector(text(step, "selector"), text(step, "key"), key, value);
    }

    static Object map(final JsonNode step, final Object key, final Object value) {
        return Functions.mapper(text(step, "mapper"), text(step, "value"), key, value);
    }

    static List<KeyValue<Object, Object>> expandPairs(final JsonNode step, final Object key, final Object value) {
        final List<KeyValue<Object, Object>> pairs = new ArrayList<>();
        for (final Object item : Functions.expander(text(step, "expander"), value)) {
            pairs.add(KeyValue.pair(select(step, key, item), item));
        }
        return pairs;
    }

    static Serde<Object> key(final JsonNode step) {
        return serde(text(step, "key"));
    }

    static Serde<Object> value(final JsonNode step) {
        return serde(text(step, "value"));
    }

    static Named named(final JsonNode step) {
        final String name = textOrNull(step, "name");
        return name == null ? null : Named.as(name);
    }

    static List<String> texts(final JsonNode array) {
        final List<String> texts = new ArrayList<>();
        array.forEach(item -> texts.add(item.textValue()));
        return texts;
    }

    static String text(final JsonNode node, final String field) {
        final String text = textOrNull(node, field);
        if (text == null) {
            throw new IllegalArgumentException("no text `" + field + "` in " + node);
        }
        return text;
    }

    static String textOrNull(final JsonNode node, final String field) {
        return node.path(field).textValue();
    }

    static StoreBuilder<?> windowStore(final JsonNode step) {
        final JsonNode store = step.get("store");
        final Duration retention = Duration.ofMillis(step.get("retention").longValue());
        final Duration size = Duration.ofMillis(step.get("size").longValue());
        final boolean duplicates = step.get("duplicates").booleanValue();
        final WindowBytesStoreSupplier supplier = store.get("persistent").booleanValue()
            ? Stores.persistentWindowStore(text(store, "name"), retention, size, duplicates)
            : Stores.inMemoryWindowStore(text(store, "name"), retention, size, duplicates);
        return logged(store, Stores.windowStoreBuilder(supplier, key(step), serde("long")));
    }

    static StoreBuilder<?> sessionStore(final JsonNode step) {
        final JsonNode store = step.get("store");
        final Duration retention = Duration.ofMillis(step.get("retention").longValue());
        final SessionBytesStoreSupplier supplier = store.get("persistent").booleanValue()
            ? Stores.persistentSessionStore(text(store, "name"), retention)
            : Stores.inMemorySessionStore(text(store, "name"), retention);
        return logged(store, Stores.sessionStoreBuilder(supplier, key(step), serde("long")));
    }

    private static StoreBuilder<?> logged(final JsonNode store, final StoreBuilder<?> builder) {
        return store.get("logged").booleanValue() ? builder : builder.withLoggingDisabled();
    }

    static StoreBuilder<?> storeBuilder(final JsonNode store, final String keyType) {
        final String name = text(store, "name");
        final KeyValueBytesStoreSupplier supplier = store.get("persistent").booleanValue()
            ? Stores.persistentKeyValueStore(name)
            : Stores.inMemoryKeyValueStore(name);
        final StoreBuilder<?> builder = Stores.keyValueStoreBuilder(supplier, serde(keyType), serde("long"));
        final StoreBuilder<?> logged = logged(store, builder);
        return store.get("cached").booleanValue() ? logged.withCachingEnabled() : logged.withCachingDisabled();
    }
}
