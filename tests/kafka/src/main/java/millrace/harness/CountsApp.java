package millrace.harness;

import java.lang.management.ManagementFactory;
import java.time.Duration;
import java.util.Map;
import java.util.Properties;
import java.util.concurrent.ConcurrentHashMap;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.atomic.AtomicLong;
import org.apache.kafka.common.Metric;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.serialization.Serdes;
import org.apache.kafka.common.utils.Bytes;
import org.apache.kafka.streams.CloseOptions;
import org.apache.kafka.streams.KafkaStreams;
import org.apache.kafka.streams.StreamsBuilder;
import org.apache.kafka.streams.StreamsConfig;
import org.apache.kafka.streams.Topology;
import org.apache.kafka.streams.errors.StreamsUncaughtExceptionHandler;
import org.apache.kafka.streams.kstream.Consumed;
import org.apache.kafka.streams.kstream.EmitStrategy;
import org.apache.kafka.streams.kstream.Grouped;
import org.apache.kafka.streams.kstream.JoinWindows;
import org.apache.kafka.streams.kstream.Materialized;
import org.apache.kafka.streams.kstream.Produced;
import org.apache.kafka.streams.kstream.StreamJoined;
import org.apache.kafka.streams.kstream.TimeWindows;
import org.apache.kafka.streams.processor.StateRestoreListener;
import org.apache.kafka.streams.state.KeyValueStore;
import org.apache.kafka.streams.state.Stores;
import org.apache.kafka.streams.state.WindowStore;

/**
 * The peer: the reference topology, counts per key, in Kafka Streams.
 *
 * <p>Options (see {@link Opts}): bootstrap, application.id, input, output, state.dir, store (rocksdb|memory),
 * processing.guarantee, num.stream.threads, commit.interval.ms, statestore.cache.max.bytes, instance.id, leave.group
 * (1: leaves the group on close, which Kafka Streams does not do by itself), windows (counts in windows of a second),
 * closing (the same, each window once),
 * join (the input with the topic of that name and .other), expect (prints a line when that many
 * records are processed), describe (prints the topology and ends). Every option "streams.X" becomes the Streams setting
 * X, for example --streams.producer.linger.ms=0. Unset ones keep Kafka's defaults.
 *
 * <p>Prints lines "event=NAME k=v ...": RESTORE, STATE, RUNNING, PROCESSED, CLOSED. RUNNING with tasks=0 comes when the
 * group has nothing for this instance yet.
 */
public final class CountsApp {
    private static final long JVM_START = ManagementFactory.getRuntimeMXBean().getStartTime();

    private CountsApp() {
    }

    static Topology topology(Opts o) {
        if (o.flag("clicks")) return ClicksTopology.topology();
        if (o.flag("orders")) return OrdersTopology.topology();
        if (o.flag("trades")) return TradesTopology.topology();
        if (o.flag("windows")) return windows(o, EmitStrategy.onWindowUpdate());
        if (o.flag("closing")) return windows(o, EmitStrategy.onWindowClose());
        if (o.flag("join")) return join(o);
        StreamsBuilder builder = new StreamsBuilder();
        Materialized<String, Long, KeyValueStore<Bytes, byte[]>> store =
            o.get("store", "rocksdb").equals("memory")
                ? Materialized.<String, Long>as(Stores.inMemoryKeyValueStore("count-store"))
                : Materialized.<String, Long, KeyValueStore<Bytes, byte[]>>as("count-store");
        builder.stream(o.get("input", "input-topic"), Consumed.with(Serdes.String(), Serdes.String()))
            .groupByKey(Grouped.with(Serdes.String(), Serdes.String()))
            .count(store.withKeySerde(Serdes.String()).withValueSerde(Serdes.Long()))
            .toStream()
            .mapValues(count -> String.valueOf(count))
            .to(o.get("output", "counts-topic"), Produced.with(Serdes.String(), Serdes.String()));
        return builder.build();
    }

    /** The same in windows of a second, which are part of the output's keys. They are kept for longer than they can change. */
    private static Topology windows(Opts o, EmitStrategy emit) {
        StreamsBuilder builder = new StreamsBuilder();
        Duration second = Duration.ofSeconds(1);
        builder.stream(o.get("input"), Consumed.with(Serdes.String(), Serdes.String()))
            .groupByKey(Grouped.with(Serdes.String(), Serdes.String()))
            .windowedBy(TimeWindows.ofSizeAndGrace(second, second))
            .emitStrategy(emit)
            .count(Materialized.<String, Long, WindowStore<Bytes, byte[]>>as("count-store")
                .withRetention(Duration.ofMinutes(1)))
            .toStream((key, count) -> key.key() + "@" + key.window().start())
            .mapValues(count -> String.valueOf(count))
            .to(o.get("output"), Produced.with(Serdes.String(), Serdes.String()));
        return builder.build();
    }

    /** Two streams that have each key once: 1 for what has met its like. */
    private static Topology join(Opts o) {
        StreamsBuilder builder = new StreamsBuilder();
        Consumed<String, String> texts = Consumed.with(Serdes.String(), Serdes.String());
        builder.stream(o.get("input"), texts)
            .join(
                builder.stream(o.get("input") + ".other", texts),
                (one, other) -> one.equals(other) ? "1" : "0",
                JoinWindows.ofTimeDifferenceWithNoGrace(Duration.ofSeconds(60)),
                StreamJoined.with(Serdes.String(), Serdes.String(), Serdes.String()))
            .to(o.get("output"), Produced.with(Serdes.String(), Serdes.String()));
        return builder.build();
    }

    static Properties settings(Opts o) {
        Properties p = new Properties();
        p.put(StreamsConfig.APPLICATION_ID_CONFIG, o.get("application.id", "counts-app"));
        p.put(StreamsConfig.BOOTSTRAP_SERVERS_CONFIG, o.get("bootstrap", "127.0.0.1:9092"));
        for (String name : new String[] {
            "state.dir", "processing.guarantee", "num.stream.threads", "commit.interval.ms",
            "statestore.cache.max.bytes"}) {
            String v = o.get(name);
            if (v != null) p.put(name, v);
        }
        String instance = o.get("instance.id");
        if (instance != null) p.put(StreamsConfig.mainConsumerPrefix("group.instance.id"), instance);
        p.putAll(o.below("streams."));
        return p;
    }

    private static void say(String event, String fields) {
        long now = System.currentTimeMillis();
        System.out.println("event=" + event + " " + fields + " ms_since_jvm_start=" + (now - JVM_START) + " epoch_ms=" + now);
        System.out.flush();
    }

    private static double processed(KafkaStreams streams) {
        double sum = 0;
        for (Metric m : streams.metrics().values()) {
            if (m.metricName().name().equals("process-total") && m.metricName().group().equals("stream-thread-metrics")) {
                sum += ((Number) m.metricValue()).doubleValue();
            }
        }
        return sum;
    }

    public static void main(String[] args) throws InterruptedException {
        Opts o = new Opts(args);
        Properties settings = settings(o);
        Topology topology = topology(o);
        if (o.flag("describe")) {
            System.out.println(topology.describe());
            return;
        }
        System.out.println("settings " + settings);
        KafkaStreams streams = new KafkaStreams(topology, settings);

        Map<String, Long> began = new ConcurrentHashMap<>();
        AtomicLong restored = new AtomicLong();
        AtomicLong firstRestore = new AtomicLong();
        AtomicLong lastRestore = new AtomicLong();
        streams.setGlobalStateRestoreListener(new StateRestoreListener() {
            @Override
            public void onRestoreStart(TopicPartition tp, String store, long start, long end) {
                began.put(tp + "/" + store, System.currentTimeMillis());
                firstRestore.compareAndSet(0, System.currentTimeMillis());
            }

            @Override
            public void onBatchRestored(TopicPartition tp, String store, long end, long n) {
            }

            @Override
            public void onRestoreEnd(TopicPartition tp, String store, long total) {
                restored.addAndGet(total);
                lastRestore.set(System.currentTimeMillis());
                say("RESTORE", "partition=" + tp + " store=" + store + " records=" + total
                    + " ms=" + (System.currentTimeMillis() - began.get(tp + "/" + store)));
            }
        });
        streams.setUncaughtExceptionHandler(e -> {
            System.out.println("event=ERROR " + e);
            e.printStackTrace();
            return StreamsUncaughtExceptionHandler.StreamThreadExceptionResponse.SHUTDOWN_CLIENT;
        });
        streams.setStateListener((now, before) -> {
            if (now == KafkaStreams.State.RUNNING) {
                long ms = lastRestore.get() - firstRestore.get();
                int tasks = streams.metadataForLocalThreads().stream().mapToInt(t -> t.activeTasks().size()).sum();
                say("RUNNING", "tasks=" + tasks + " restored_records=" + restored.get() + " restore_ms=" + ms);
            } else {
                say("STATE", "from=" + before + " to=" + now);
            }
        });

        CountDownLatch done = new CountDownLatch(1);
        Runtime.getRuntime().addShutdownHook(new Thread(() -> {
            long t = System.currentTimeMillis();
            double n = processed(streams);
            CloseOptions how = CloseOptions.groupMembershipOperation(o.flag("leave.group")
                ? CloseOptions.GroupMembershipOperation.LEAVE_GROUP
                : CloseOptions.GroupMembershipOperation.REMAIN_IN_GROUP);
            boolean clean = streams.close(how.withTimeout(Duration.ofSeconds(60)));
            say("CLOSED", "clean=" + clean + " processed=" + (long) n + " close_ms=" + (System.currentTimeMillis() - t));
            done.countDown();
        }, "close"));
        streams.start();

        long expect = o.num("expect", 0);
        while (!done.await(50, TimeUnit.MILLISECONDS)) {
            if (expect > 0 && processed(streams) >= expect) {
                say("PROCESSED", "records=" + expect);
                expect = 0;
            }
            KafkaStreams.State s = streams.state();
            if (s == KafkaStreams.State.ERROR || s == KafkaStreams.State.NOT_RUNNING) {
                System.exit(s == KafkaStreams.State.ERROR ? 1 : 0);
            }
        }
    }
}
