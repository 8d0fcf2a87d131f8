package millrace.harness;

import java.io.FileInputStream;
import java.io.IOException;
import java.io.InputStream;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.Properties;

/**
 * Broker CLUSTER-ID SERVER.PROPERTIES: formats the node's storage when it is new, then runs Kafka itself. Both in one
 * JVM, since starting a second one for the formatting costs as much as starting the broker.
 */
public final class Broker {
    private Broker() {
    }

    public static void main(String[] args) throws IOException {
        String cluster = args[0];
        String file = args[1];
        Properties settings = new Properties();
        try (InputStream in = new FileInputStream(file)) {
            settings.load(in);
        }
        if (!Files.exists(Path.of(settings.getProperty("log.dirs"), "meta.properties"))) {
            int status = kafka.tools.StorageTool.execute(new String[] {"format", "-t", cluster, "-c", file}, System.out);
            if (status != 0) System.exit(status);
        }
        kafka.Kafka.main(new String[] {file});
    }
}
