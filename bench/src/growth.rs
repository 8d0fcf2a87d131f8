//! How cost grows: one measure of a load or of the configuration at a time takes its values, while the others stay.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result};
use serde_json::{Value, json};

use crate::bench::{Bench, Sizes};
use crate::drain::Drained;
use crate::load::{Keys, Records};
use crate::plot::{self, Line, Panel};
use crate::report::{self, Figure, Measurement, key, rounded};
use crate::scenario::Scenario;
use crate::side::Side;

/// What one run is made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Point {
    value_size: u64,
    keys: u64,
    partitions: u64,
    threads: u64,
}

/// Those that stay.
const USUAL: Point = Point { value_size: 100, keys: 100_000, partitions: 4, threads: 1 };

struct Axis {
    name: &'static str,
    title: &'static str,
    values: &'static [u64],
    place: fn(&mut Point) -> &mut u64,
}

const AXES: &[Axis] = &[
    Axis {
        name: "value-size",
        title: "bytes of a value",
        values: &[10, 100, 1_000, 10_000, 100_000],
        place: |point| &mut point.value_size,
    },
    Axis {
        name: "keys",
        title: "keys",
        values: &[10, 1_000, 100_000, 1_000_000, 10_000_000],
        place: |point| &mut point.keys,
    },
    Axis {
        name: "partitions",
        title: "partitions",
        values: &[1, 4, 16, 64, 256],
        place: |point| &mut point.partitions,
    },
    Axis { name: "threads", title: "worker threads", values: &[1, 2, 4], place: |point| &mut point.threads },
];

/// The most bytes of values in a load: large values are fewer.
const MOST_BYTES: u64 = 1_000_000_000;

/// What is drawn of a side: a title, and its value in what was measured.
const DRAWN: [Figure<Drained>; 2] =
    [("records/s", |m| m.records_per_s), ("CPU-µs per record", |m| m.cpu_s_per_million)];

impl Point {
    /// Each key once, then more of them at random.
    fn records(self, sizes: &Sizes) -> Result<Records> {
        let most = if sizes.quick { MOST_BYTES / 10 } else { MOST_BYTES } / self.value_size;
        let mut load = sizes.load(sizes.records(1_000_000, 100_000).min(most), self.keys.min(most));
        load.value_size = usize::try_from(self.value_size)?;
        Ok(Records {
            load,
            keys: Keys::Uniform,
            filled: true,
            pairs: false,
            partitions: i32::try_from(self.partitions)?,
        })
    }
}

type Results = Vec<(Side, Drained)>;

impl Bench {
    /// Prints a line for each point; with a folder to keep them in, writes them there with their plots.
    pub(crate) fn measure_growth(&self, scenario: &Scenario) -> Result<()> {
        println!("\n{}: {}\n", scenario.name, scenario.about);
        let mut measured: Vec<(Point, Results)> = Vec::new();
        let mut lines = String::new();
        for axis in AXES {
            let most = if axis.name == "keys" { self.sizes.keys(1_000_000, 100_000) } else { u64::MAX };
            let mut points = Vec::new();
            for &value in axis.values.iter().filter(|&&value| value <= most) {
                let mut point = USUAL;
                *(axis.place)(&mut point) = value;
                let known = measured.iter().find(|(of, _)| *of == point).map(|(_, results)| results.clone());
                let results = match known {
                    Some(results) => results,
                    None => self.grown(scenario, point).with_context(|| format!("{} {value}", axis.name))?,
                };
                let line = line(axis, value, &point, &results);
                println!("{line}");
                lines += &format!("{line}\n");
                measured.push((point, results.clone()));
                points.push((value, results));
            }
            if let Some(folder) = &self.plots {
                draw(folder, axis, &points)?;
            }
        }
        if let Some(folder) = &self.plots {
            fs::write(folder.join("growth.jsonl"), lines).context("write the points")?;
        }
        Ok(())
    }

    fn grown(&self, scenario: &Scenario, point: Point) -> Result<Results> {
        let records = point.records(&self.sizes)?;
        let input = self.inputs.topic(&records)?;
        let threads = point.threads.to_string();
        let run = |side| self.drain(scenario, side, &input, &records, &[("num.stream.threads", &threads)]);
        let results = self.alternate(scenario, run)?;
        self.inputs.forget(&input)?;
        Ok(results)
    }
}

fn median(results: &Results, side: Side, of: fn(&Drained) -> f64) -> Option<f64> {
    report::spread(results, side, of).map(|spread| spread.median)
}

const SIDES: [(Side, plotters::style::RGBColor); 2] =
    [(Side::Millrace, plot::BLUE), (Side::KafkaStreams, plot::ORANGE)];

fn line(axis: &Axis, value: u64, point: &Point, results: &Results) -> Value {
    let Point { value_size, keys, partitions, threads } = point;
    let mut line = json!({
        "scenario": "growth", "axis": axis.name, "at": value,
        "value_size": value_size, "keys": keys, "partitions": partitions, "threads": threads,
    });
    for (side, _) in SIDES {
        for (name, of) in Drained::FIGURES {
            if let Some(median) = median(results, side, *of) {
                line[key(side)][name] = rounded(median);
            }
        }
    }
    line
}

fn draw(folder: &Path, axis: &Axis, points: &[(u64, Results)]) -> Result<()> {
    fs::create_dir_all(folder).with_context(|| format!("create {}", folder.display()))?;
    let lines = |of: fn(&Drained) -> f64| {
        let of_side = |(side, color)| {
            let points = points.iter().filter_map(|(value, results)| Some((*value as f64, median(results, side, of)?)));
            Line { name: Side::to_string(&side), color, points: points.collect() }
        };
        SIDES.into_iter().map(of_side).filter(|line| !line.points.is_empty()).collect()
    };
    let panels = DRAWN.map(|(title, of)| Panel { title: title.to_owned(), lines: lines(of) });
    plot::draw(&folder.join(format!("growth-{}.svg", axis.name)), axis.title, &panels)
}
