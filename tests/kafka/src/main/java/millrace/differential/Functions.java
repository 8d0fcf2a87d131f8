package millrace.differential;

import static millrace.differential.Values.convert;
import static millrace.differential.Values.text;
import static millrace.differential.Values.weight;

import java.util.ArrayList;
import java.util.Collections;
import java.util.List;
import millrace.differential.Values.Weighed;

/** The functions that cases name: {@code functions.rs}, in Java. */
final class Functions {
    private Functions() {}

    static boolean predicate(final String name, final Object key, final Object value) {
        return switch (name) {
            case "evenValue" -> weight(value) % 2 == 0;
            case "largeValue" -> weight(value) >= 5;
            case "presentValue" -> value != null;
            case "evenKey" -> weight(key) % 2 == 0;
            case "presentKey" -> key != null;
            case "always" -> true;
            case "never" -> false;
            default -> throw unknown("predicate", name);
        };
    }

    static Object mapper(final String name, final String to, final Object key, final Object value) {
        return switch (name) {
            case "convert" -> convert(to, value);
            case "same" -> value;
            case "dropOdd" -> weight(value) % 2 == 0 ? value : null;
            case "mark" -> value == null ? null : text(value) + "!";
            case "describe" -> text(key) + "=" + text(value);
            default -> throw unknown("mapper", name);
        };
    }

    static Object selector(final String name, final String to, final Object key, final Object value) {
        return switch (name) {
            case "ofValue" -> convert(to, value);
            case "ofKey" -> convert(to, key);
            case "firstWord" -> convert(to, text(value).split(" ", -1)[0]);
            case "dropOdd" -> weight(value) % 2 == 0 ? convert(to, value) : null;
            case "constant" -> convert(to, "all");
            default -> throw unknown("selector", name);
        };
    }

    static List<Object> expander(final String name, final Object value) {
        switch (name) {
            case "words" -> {
                final List<Object> words = new ArrayList<>();
                for (final String word : text(value).split(" ", -1)) {
                    if (!word.isEmpty()) {
                        words.add(word);
                    }
                }
                return words;
            }
            case "twice" -> {
                return Collections.nCopies(2, value);
            }
            case "ifEven" -> {
                return weight(value) % 2 == 0 ? Collections.nCopies(1, value) : List.of();
            }
            default -> throw unknown("expander", name);
        }
    }

    static Object combiner(final String name, final Object old, final Object value) {
        switch (name) {
            case "add" -> {
                return add(old, value);
            }
            case "latest" -> {
                return value;
            }
            case "heaviest" -> {
                return weight(value) >= weight(old) ? value : old;
            }
            case "addDropLarge" -> {
                final Object sum = add(old, value);
                return weight(sum) < 12 ? sum : null;
            }
            default -> throw unknown("combiner", name);
        }
    }

    static Object joiner(final String name, final Object left, final Object right) {
        return switch (name) {
            case "pair" -> text(left) + "&" + text(right);
            case "heavier" -> text(weight(right) > weight(left) ? right : left);
            default -> throw unknown("joiner", name);
        };
    }

    static Object remover(final String name, final Object aggregate, final Object old) {
        return switch (name) {
            case "subtract" -> subtract(aggregate, old);
            case "keep" -> aggregate;
            default -> throw unknown("remover", name);
        };
    }

    static Object aggregator(final String name, final String to, final Object value, final Object aggregate) {
        return combiner(name, aggregate, convert(to, value));
    }

    static long extractor(final String name, final long timestamp, final long partitionTime, final Object value) {
        return switch (name) {
            case "later" -> timestamp + 100;
            case "highest" -> Math.max(timestamp, partitionTime);
            case "dropOdd" -> weight(value) % 2 == 0 ? timestamp : -1;
            default -> throw unknown("extractor", name);
        };
    }

    static String topicByWeight(final String prefix, final Object value) {
        return prefix + (weight(value) % 2 == 0 ? "-even" : "-odd");
    }

    private static Object add(final Object old, final Object value) {
        if (old instanceof String text) {
            return text + "+" + value;
        } else if (old instanceof Long number) {
            return number + (Long) value;
        } else if (old instanceof Integer number) {
            return number + (Integer) value;
        } else if (old instanceof Double number) {
            return number + (Double) value;
        }
        return new Weighed(((Weighed) value).text(), ((Weighed) old).weight() + ((Weighed) value).weight());
    }

    private static Object subtract(final Object aggregate, final Object old) {
        if (aggregate instanceof String text) {
            return text + "-" + old;
        } else if (aggregate instanceof Long number) {
            return number - (Long) old;
        } else if (aggregate instanceof Integer number) {
            return number - (Integer) old;
        } else if (aggregate instanceof Double number) {
            return number - (Double) old;
        }
        return new Weighed(((Weighed) old).text(), ((Weighed) aggregate).weight() - ((Weighed) old).weight());
    }

    private static IllegalArgumentException unknown(final String kind, final String name) {
        return new IllegalArgumentException("no " + kind + " `" + name + "` in Functions.java");
    }
}
