package millrace.differential;

import com.fasterxml.jackson.annotation.JsonPropertyOrder;
import com.fasterxml.jackson.databind.ObjectMapper;
import java.io.IOException;
import java.io.UncheckedIOException;
import java.nio.charset.StandardCharsets;
import org.apache.kafka.common.serialization.Serde;
import org.apache.kafka.common.serialization.Serdes;

/** The values that run through generated topologies: {@code value.rs}, in Java. */
final class Values {
    /** The one shape of JSON. */
    @JsonPropertyOrder({"text", "weight"})
    record Weighed(String text, long weight) {}

    private static final ObjectMapper JSON = new ObjectMapper();

    private Values() {}

    @SuppressWarnings("unchecked")
    static Serde<Object> serde(final String type) {
        final Serde<?> serde = switch (type) {
            case "string" -> Serdes.String();
            case "long" -> Serdes.Long();
            case "integer" -> Serdes.Integer();
            case "double" -> Serdes.Double();
            case "json" -> Serdes.serdeFrom(
                (topic, value) -> writeJson((Weighed) value), (topic, bytes) -> (Object) readJson(bytes));
            default -> throw new IllegalArgumentException("no type " + type);
        };
        return (Serde<Object>) serde;
    }

    static Object zero(final String type) {
        return switch (type) {
            case "string" -> "";
            case "long" -> 0L;
            case "integer" -> 0;
            case "double" -> 0.0;
            case "json" -> new Weighed("", 0);
            default -> throw new IllegalArgumentException("no type " + type);
        };
    }

    static long weight(final Object value) {
        if (value == null) {
            return 0;
        } else if (value instanceof String text) {
            return text.getBytes(StandardCharsets.UTF_8).length;
        } else if (value instanceof Weighed weighed) {
            return weighed.weight();
        }
        return ((Number) value).longValue();
    }

    static String text(final Object value) {
        if (value == null) {
            return "~";
        } else if (value instanceof Double) {
            return weight(value) + "d";
        } else if (value instanceof Weighed weighed) {
            return weighed.text() + "#" + weighed.weight();
        }
        return value.toString();
    }

    static Object convert(final String to, final Object value) {
        if (value == null) {
            return null;
        }
        return switch (to) {
            case "string" -> text(value);
            case "long" -> weight(value);
            case "integer" -> (int) weight(value);
            case "double" -> weight(value) / 2.0;
            case "json" -> new Weighed(text(value), weight(value));
            default -> throw new IllegalArgumentException("no type " + to);
        };
    }

    private static byte[] writeJson(final Weighed value) {
        try {
            return value == null ? null : JSON.writeValueAsBytes(value);
        } catch (final IOException e) {
            throw new UncheckedIOException(e);
        }
    }

    private static Weighed readJson(final byte[] bytes) {
        try {
            return bytes == null ? null : JSON.readValue(bytes, Weighed.class);
        } catch (final IOException e) {
            throw new UncheckedIOException(e);
        }
    }
}
