//! What Apache Kafka's `StreamsSmokeTest` judges: the topology of its client, with the same names of stores. It owns only
//! this logic.

use std::time::Duration;

use millrace::prelude::*;

/// The driver's records are two days old, and brokers must not delete what their changelogs have of them.
const CHANGELOG_RETENTION: (&str, &str) = ("retention.ms", "432000000");
/// The end of the driver's records.
const END: i32 = i32::MAX;

const SECOND: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(3_600);
const DAY: Duration = Duration::from_secs(86_400);

fn topology(builder: &mut StreamsBuilder) {
    let source = builder.stream("data", Consumed::with(StringSerde, IntegerSerde));
    without_flush(&source).to("echo", Produced::with(StringSerde, IntegerSerde));
    let data = source.filter(|_, value| value != Some(&END));
    print(&data);
    let grouped = data.group_by_key(Grouped::with(StringSerde, IntegerSerde));

    let min = grouped.windowed_by(TimeWindows::of_size_and_grace(DAY, MINUTE)).aggregate(
        || i32::MAX,
        |_, value, lowest| lowest.min(*value),
        named("uwin-min").with_value_serde(IntegerSerde).with_retention(25 * HOUR),
    );
    streamify(&min, "min-raw");
    streamify(&min.suppress(Suppressed::until_window_closes(BufferConfig::unbounded())), "min-suppressed");
    unwindowed(&min).to("min", Produced::with(StringSerde, IntegerSerde));

    let sums = grouped.windowed_by(TimeWindows::of_size_and_grace(2 * SECOND, 30 * SECOND).advance_by(SECOND)).reduce(
        |sum, value| sum.wrapping_add(*value),
        Materialized::default().with_logging_enabled([CHANGELOG_RETENTION]),
    );
    streamify(&sums, "sws-raw");
    streamify(&sums.suppress(Suppressed::until_window_closes(BufferConfig::unbounded())), "sws-suppressed");

    let min = table(builder, "min", IntegerSerde, Materialized::as_("minStoreName"));

    let days = || grouped.windowed_by(TimeWindows::of_size_with_no_grace(2 * DAY));
    let max = days().aggregate(
        || i32::MIN,
        |_, value, highest| highest.max(*value),
        named("uwin-max").with_value_serde(IntegerSerde),
    );
    unwindowed(&max).to("max", Produced::with(StringSerde, IntegerSerde));
    let max = table(builder, "max", IntegerSerde, Materialized::as_("maxStoreName"));

    let sum =
        days().aggregate(|| 0, |_, value, sum| sum + i64::from(*value), named("win-sum").with_value_serde(LongSerde));
    unwindowed(&sum).to("sum", Produced::with(StringSerde, LongSerde));
    let sum = table(builder, "sum", LongSerde, Materialized::default());

    let count = days().count(named("uwin-cnt"));
    unwindowed(&count).to("cnt", Produced::with(StringSerde, LongSerde));
    let count = table(builder, "cnt", LongSerde, Materialized::as_("cntStoreName"));

    let difference = max.join(&min, |max, min| max - min).to_stream();
    without_flush(&difference).to("dif", Produced::with(StringSerde, IntegerSerde));
    #[expect(clippy::cast_precision_loss, reason = "Kafka's client does the same")]
    let average = sum.join(&count, |sum, count| *sum as f64 / *count as f64).to_stream();
    without_flush(&average).to("avg", Produced::with(StringSerde, DoubleSerde));

    count
        .group_by(|_, count| (Some(count.to_string()), Some(1)), Grouped::with(StringSerde, LongSerde))
        .aggregate(
            || 0,
            |_, value, sum: i64| sum + value,
            |_, value, sum| sum - value,
            Materialized::as_("cntByCnt").with_key_serde(StringSerde).with_value_serde(LongSerde).in_memory(),
        )
        .to_stream()
        .to("tagg", Produced::with(StringSerde, LongSerde));
}

fn named<V>(store: &str) -> Materialized<String, V> {
    Materialized::as_(store).with_logging_enabled([CHANGELOG_RETENTION])
}

fn table<V: millrace::Data>(
    builder: &mut StreamsBuilder,
    topic: &str,
    values: impl Serde<Value = V>,
    materialized: Materialized<String, V>,
) -> KTable<String, V> {
    let table = builder.table(topic, Consumed::with(StringSerde, values), materialized);
    print(&table.to_stream());
    table
}

/// Records of the key by which the driver has all windows close.
fn without_flush<V: millrace::Data>(stream: &KStream<String, V>) -> KStream<String, V> {
    stream.filter_not(|key, _| key.is_some_and(|key| key == "flush"))
}

fn unwindowed<V: millrace::Data>(table: &KTable<Windowed<String>, V>) -> KStream<String, V> {
    without_flush(&table.to_stream().select_key(|key, _| key.map(|windowed| windowed.key.clone())))
}

/// Writes windows under keys that are text, as Kafka's `Windowed` prints itself.
fn streamify(table: &KTable<Windowed<String>, i32>, topic: &str) {
    table
        .to_stream()
        .filter_not(|key, _| key.is_some_and(|windowed| windowed.key == "flush"))
        .map(|key, value| {
            let text = |Windowed { key, window }: &Windowed<String>| format!("[{key}@{}/{}]", window.start, window.end);
            (key.map(text), value.copied())
        })
        .to(topic, Produced::with(StringSerde, IntegerSerde));
}

/// Stands where Kafka's client prints its progress: it takes a number of those that generated names count up.
fn print<V: millrace::Data>(stream: &KStream<String, V>) {
    stream.foreach(|_, _| {});
}

millrace::export!(topology);
