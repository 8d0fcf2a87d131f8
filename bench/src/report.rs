//! Prints what was measured: a table for people and a line of JSON for programs.

use serde_json::{Value, json};

use crate::scenario::{Bound, Goal, Scenario, To};
use crate::side::Side;
use crate::statistics::Spread;

/// A row of a table: its name, and where it is in what was measured. What was not measured is no number.
pub(crate) type Figure<M> = (&'static str, fn(&M) -> f64);

/// What is printed of one kind of run.
pub(crate) trait Measurement: Sized + 'static {
    const FIGURES: &[Figure<Self>];
    /// Of the figures, those of which Millrace to Kafka Streams is a ratio worth naming, after the name of the ratio.
    const COMPARED: &[(&str, &str)];
}

/// What a scenario was run with, by name.
pub(crate) type Facts = Vec<(&'static str, Value)>;

const SIDES: [Side; 3] = [Side::Millrace, Side::KafkaStreams, Side::PassThrough];

pub(crate) fn print<M: Measurement>(scenario: &Scenario, facts: &Facts, results: &[(Side, M)]) {
    let sides: Vec<_> = SIDES.into_iter().filter(|side| results.iter().any(|(of, _)| of == side)).collect();
    let runs = results.len() / sides.len().max(1);
    println!("\n{}: {}", scenario.name, scenario.about);
    let text: Vec<_> = facts.iter().map(|(name, value)| format!("{name} {value}")).collect();
    println!("{}; min / median / max of {runs} runs, each verified\n", text.join(", "));

    let mut line = json!({ "scenario": scenario.name, "runs": runs });
    for (name, value) in facts {
        line[name] = value.clone();
    }
    let medians = |figure: &str, side| {
        let (_, of) = M::FIGURES.iter().find(|(name, _)| *name == figure)?;
        spread(results, side, *of).map(|spread| spread.median)
    };
    let mut rows = vec![heading(&sides)];
    for (name, of) in M::FIGURES {
        let mut row = vec![(*name).to_owned()];
        for &side in &sides {
            let spread = spread(results, side, *of);
            row.push(spread.as_ref().map(cell).unwrap_or_default());
            if let Some(spread) = spread {
                line[key(side)][name] = rounded(spread.median);
            }
        }
        let ratio = M::COMPARED.iter().find(|(_, figure)| figure == name).and_then(|(ratio, figure)| {
            let value = medians(figure, Side::Millrace)? / medians(figure, Side::KafkaStreams)?;
            line["ratio"][ratio] = rounded(value);
            Some(format!("{value:.2}"))
        });
        row.push(ratio.unwrap_or_default());
        let goals = scenario.goals.iter().filter(|goal| goal.figure == *name);
        let reached: Vec<_> = goals.filter_map(|goal| reach(goal, medians)).collect();
        row.push(reached.iter().map(|(text, _)| text.clone()).collect::<Vec<_>>().join("; "));
        for (_, value) in reached {
            match &mut line["goals"] {
                Value::Array(goals) => goals.push(value),
                none => *none = json!([value]),
            }
        }
        rows.push(row);
    }
    print_table(&rows);
    println!("\n{line}");
}

fn heading(sides: &[Side]) -> Vec<String> {
    let mut heading = vec![String::new()];
    heading.extend(sides.iter().map(ToString::to_string));
    heading.extend(["ratio".to_owned(), "goal".to_owned()]);
    heading
}

/// As Markdown, the columns as wide as what is in them.
fn print_table(rows: &[Vec<String>]) {
    let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or_default();
    for (index, row) in rows.iter().enumerate() {
        for (column, cell) in row.iter().enumerate() {
            let width = width(column);
            if column == 0 { print!("| {cell:<width$} |") } else { print!(" {cell:>width$} |") }
        }
        println!();
        if index == 0 {
            (0..row.len()).for_each(|column| {
                let dashes = "-".repeat(width(column) + 1);
                if column == 0 { print!("|{dashes}-|") } else { print!("{dashes}:|") }
            });
            println!();
        }
    }
}

/// What became of a goal, in words and for programs, if all it takes was measured.
fn reach(goal: &Goal, median: impl Fn(&str, Side) -> Option<f64>) -> Option<(String, Value)> {
    let mine = median(goal.figure, Side::Millrace)?;
    let (reached, of) = match goal.to {
        To::KafkaStreams => (mine / median(goal.figure, Side::KafkaStreams)?, "kafka_streams"),
        To::PassThrough => (mine / median(goal.figure, Side::PassThrough)?, "passthrough"),
        To::Figure(figure) => (mine / median(figure, Side::Millrace)?, figure),
        To::Nothing => (mine, ""),
    };
    let (sign, met, bound) = match goal.bound {
        Bound::AtLeast(bound) => (">=", reached >= bound, bound),
        Bound::AtMost(bound) => ("<=", reached <= bound, bound),
    };
    let unit = match goal.to {
        To::KafkaStreams => "x",
        To::PassThrough => "x pass-through",
        To::Figure(figure) => &format!("x {figure}"),
        To::Nothing => "",
    };
    let verdict = if met { "met" } else { "missed" };
    let text = format!("{sign} {bound} {unit}").trim_end().to_owned();
    let value = json!({
        "figure": goal.figure, "to": of, "goal": format!("{sign} {bound}"), "reached": rounded(reached), "met": met,
    });
    Some((format!("{text}: {verdict}, {reached:.2}"), value))
}

/// Of one side.
pub(crate) fn spread<M>(results: &[(Side, M)], side: Side, of: fn(&M) -> f64) -> Option<Spread> {
    let values = results.iter().filter(|(of_side, _)| *of_side == side).map(|(_, m)| of(m));
    Spread::of(values.filter(|value| !value.is_nan()).collect())
}

pub(crate) fn key(side: Side) -> &'static str {
    match side {
        Side::Millrace => "millrace",
        Side::KafkaStreams => "kafka_streams",
        Side::PassThrough => "passthrough",
    }
}

fn cell(spread: &Spread) -> String {
    let digits = if spread.max >= 100.0 { 0 } else { 2 };
    format!("{:.digits$} / {:.digits$} / {:.digits$}", spread.min, spread.median, spread.max)
}

pub(crate) fn rounded(value: f64) -> Value {
    json!((value * 1000.0).round() / 1000.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn verdict(goal: &Goal, mine: f64, theirs: Option<f64>) -> Option<String> {
        let median = |_: &str, side| if side == Side::Millrace { Some(mine) } else { theirs };
        reach(goal, median).map(|(text, _)| text)
    }

    #[test]
    fn goals_are_met_or_missed() {
        let faster = Goal { figure: "records_per_s", bound: Bound::AtLeast(4.0), to: To::KafkaStreams };
        assert_eq!(verdict(&faster, 400.0, Some(100.0)).as_deref(), Some(">= 4 x: met, 4.00"));
        assert_eq!(verdict(&faster, 390.0, Some(100.0)).as_deref(), Some(">= 4 x: missed, 3.90"));
        assert_eq!(verdict(&faster, 400.0, None), None, "nothing to compare with is no verdict");
        let smaller = Goal { figure: "peak_rss_mb", bound: Bound::AtMost(0.2), to: To::KafkaStreams };
        assert_eq!(verdict(&smaller, 50.0, Some(100.0)).as_deref(), Some("<= 0.2 x: missed, 0.50"));
        let soon = Goal { figure: "start_to_output_s", bound: Bound::AtMost(0.4), to: To::Nothing };
        assert_eq!(verdict(&soon, 0.3, None).as_deref(), Some("<= 0.4: met, 0.30"));
    }
}
