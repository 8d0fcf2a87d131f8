//! Windows that overlap, and a processor: how warm it was in the last five minutes, where it gets warm fast, and which sensors
//! are silent. The topic `temperatures` has the sensor as its key. Numbers are JSON.

use std::time::Duration;

use millrace::prelude::*;

const MINUTE: Duration = Duration::from_secs(60);
const SILENT_MS: i64 = 5 * 60_000;

fn numbers() -> JsonSerde<f64> {
    JsonSerde::new()
}

/// The window of a result is its timestamp: what counts further down is the sensor.
fn sensor(key: Option<&Windowed<String>>) -> Option<String> {
    key.map(|windowed| windowed.key.clone())
}

pub(crate) fn topology(builder: &mut StreamsBuilder) {
    let temperatures = builder.stream("temperatures", Consumed::with(StringSerde, numbers()));
    let by_sensor = temperatures.group_by_key(Grouped::default());

    // Hopping windows: the average of five minutes, each minute, once that can't change any more.
    by_sensor
        .windowed_by(TimeWindows::of_size_with_no_grace(5 * MINUTE).advance_by(MINUTE))
        .emit_strategy(EmitStrategy::OnWindowClose)
        .aggregate(
            || (0.0, 0),
            |_sensor, degrees, (sum, count)| (sum + degrees, count + 1),
            Materialized::as_("sums").with_value_serde(JsonSerde::<(f64, u32)>::new()),
        )
        .to_stream()
        .map_values(|(sum, count)| sum / f64::from(*count))
        .to("averages", Produced::default().with_value_serde(numbers()));

    // Sliding windows: wherever the lowest and the highest of ten seconds are five degrees apart.
    by_sensor
        .windowed_by(SlidingWindows::of_time_difference_and_grace(MINUTE / 6, MINUTE))
        .aggregate(
            || (f64::MAX, f64::MIN),
            |_sensor, degrees, (lowest, highest)| (degrees.min(lowest), degrees.max(highest)),
            Materialized::as_("ranges").with_value_serde(JsonSerde::<(f64, f64)>::new()),
        )
        .to_stream()
        .map_values(|(lowest, highest)| highest - lowest)
        .filter(|_, range| range.is_some_and(|range| *range >= 5.0))
        .select_key(|key, _| sensor(key))
        .to("jumps", Produced::with(StringSerde, numbers()));

    // The Processor API: a store, and a punctuation by the clock.
    builder.add_state_store(Stores::key_value_store("heard", StringSerde, LongSerde));
    temperatures.process(|| Watch, &["heard"]).to("silent", Produced::with(StringSerde, StringSerde));
}

/// Tells once of each sensor that has said nothing for five minutes.
struct Watch;

impl Processor<String, f64, String, String> for Watch {
    fn init(&mut self, context: &mut ProcessorContext<'_, String, String>) -> ProcessResult {
        context.schedule(MINUTE, PunctuationType::WallClockTime)?;
        Ok(())
    }

    fn process(
        &mut self,
        context: &mut ProcessorContext<'_, String, String>,
        record: Record<String, f64>,
    ) -> ProcessResult {
        let Some(sensor) = record.key else { return Ok(()) };
        let now = context.current_system_time_ms();
        context.key_value_store::<String, i64>("heard")?.put(&sensor, now)
    }

    fn punctuate(
        &mut self,
        context: &mut ProcessorContext<'_, String, String>,
        _schedule: Schedule,
        timestamp: i64,
    ) -> ProcessResult {
        let mut store = context.key_value_store::<String, i64>("heard")?;
        let heard: Vec<(String, i64)> = store.all().collect::<Result<_, _>>()?;
        for (sensor, _) in heard.into_iter().filter(|(_, at)| timestamp - at >= SILENT_MS) {
            context.key_value_store::<String, i64>("heard")?.delete(&sensor)?;
            let told = format!("silent for {} s", SILENT_MS / 1_000);
            context.forward(Record::new(Some(sensor), Some(told), timestamp));
        }
        Ok(())
    }
}

millrace::export!(topology);

#[cfg(test)]
mod tests {
    use millrace::TopologyTestDriver;

    use super::*;

    #[test]
    fn averages_jumps_and_silence() {
        let mut builder = StreamsBuilder::new();
        topology(&mut builder);
        let driver = TopologyTestDriver::new(builder.build().unwrap()).unwrap();
        let temperatures = driver.create_input_topic("temperatures", StringSerde, numbers());
        let windows = TimeWindowedSerde::new(StringSerde, 300_000);
        let averages = driver.create_output_topic("averages", windows, numbers());
        let jumps = driver.create_output_topic("jumps", StringSerde, numbers());
        let silent = driver.create_output_topic("silent", StringSerde, StringSerde);

        temperatures.pipe_input_at("attic", 20.0, 0);
        temperatures.pipe_input_at("attic", 22.0, 60_000);
        temperatures.pipe_input_at("attic", 27.5, 65_000);
        assert!(averages.is_empty(), "no window is closed");
        assert_eq!(jumps.read_lines(), ["attic:5.5"]);

        temperatures.pipe_input_at("cellar", 10.0, 360_000);
        let closed = ["[attic@0/300000]:23.166666666666668", "[attic@60000/360000]:24.75"];
        assert_eq!(averages.read_lines(), closed);

        driver.advance_wall_clock_time(4 * MINUTE);
        temperatures.pipe_input_at("cellar", 10.0, 400_000);
        driver.advance_wall_clock_time(MINUTE);
        assert_eq!(silent.read_lines(), ["attic:silent for 300 s"]);
        driver.advance_wall_clock_time(MINUTE);
        assert!(silent.is_empty(), "it is told once");
    }
}
