package millrace.harness;

import java.util.HashMap;
import java.util.Map;

/** Options: "--name value", "--name=value", or "--name" alone for a flag. */
final class Opts {
    private final Map<String, String> given = new HashMap<>();

    Opts(String[] args) {
        for (int i = 0; i < args.length; i++) {
            String a = args[i];
            if (!a.startsWith("--")) {
                throw new IllegalArgumentException("expected --name, found " + a);
            }
            int eq = a.indexOf('=');
            if (eq > 0) {
                given.put(a.substring(2, eq), a.substring(eq + 1));
            } else if (i + 1 < args.length && !args[i + 1].startsWith("--")) {
                given.put(a.substring(2), args[++i]);
            } else {
                given.put(a.substring(2), "true");
            }
        }
    }

    String get(String name) {
        String v = given.get(name);
        return v == null || v.isEmpty() ? null : v;
    }

    String get(String name, String otherwise) {
        String v = get(name);
        return v == null ? otherwise : v;
    }

    /** All options that begin so, without that beginning. */
    Map<String, String> below(String prefix) {
        Map<String, String> found = new HashMap<>();
        given.forEach((name, value) -> {
            if (name.startsWith(prefix)) found.put(name.substring(prefix.length()), value);
        });
        return found;
    }

    long num(String name, long otherwise) {
        String v = get(name);
        return v == null ? otherwise : Long.parseLong(v);
    }

    boolean flag(String name) {
        String v = get(name);
        return v != null && !v.equals("false") && !v.equals("0");
    }
}
