//! Compares rows that are expected with those that there are, and shows the difference. Must not know what they are of.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use serde_json::Value;

/// A record or an entry.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Row {
    pub(super) key: Value,
    pub(super) value: Value,
    /// What else there is; of an expected row only what is to be compared.
    pub(super) rest: BTreeMap<&'static str, Value>,
}

impl Row {
    fn is_met_by(&self, found: &Self) -> bool {
        let rest = self.rest.iter().all(|(name, value)| found.rest.get(name) == Some(value));
        rest && self.key == found.key && self.value == found.value
    }

    fn text(&self, names: &BTreeSet<&str>) -> String {
        let mut text = format!("{} = {}", self.key, self.value);
        for (name, value) in self.rest.iter().filter(|(name, _)| names.contains(*name)) {
            let _ = write!(text, ", {name} {value}");
        }
        text
    }
}

/// One line for each row: `-` is missing, `+` is there instead. `None`: they agree.
pub(super) fn diff(expected: &[Row], found: &[Row]) -> Option<String> {
    let names: BTreeSet<&str> = expected.iter().flat_map(|row| row.rest.keys().copied()).collect();
    let common = longest_common(expected, found);
    if common.len() == expected.len() && common.len() == found.len() {
        return None;
    }
    let (mut next_expected, mut next_found) = (0, 0);
    let mut text = String::new();
    for (at_expected, at_found) in common.into_iter().chain([(expected.len(), found.len())]) {
        for row in &expected[next_expected..at_expected] {
            let _ = writeln!(text, "- {}", row.text(&names));
        }
        for row in &found[next_found..at_found] {
            let _ = writeln!(text, "+ {}", row.text(&names));
        }
        if let Some(row) = found.get(at_found) {
            let _ = writeln!(text, "  {}", row.text(&names));
        }
        (next_expected, next_found) = (at_expected + 1, at_found + 1);
    }
    Some(text)
}

/// The positions of the longest sequence of rows that is in both.
fn longest_common(expected: &[Row], found: &[Row]) -> Vec<(usize, usize)> {
    let pairs = || expected.iter().zip(found);
    let head = pairs().take_while(|(expected, found)| expected.is_met_by(found)).count();
    let (expected, found) = (&expected[head..], &found[head..]);
    // Of each pair of tails, how long it is.
    let width = found.len() + 1;
    let mut lengths = vec![0_usize; (expected.len() + 1) * width];
    for (e, row) in expected.iter().enumerate().rev() {
        for (f, other) in found.iter().enumerate().rev() {
            lengths[e * width + f] = if row.is_met_by(other) {
                lengths[(e + 1) * width + f + 1] + 1
            } else {
                lengths[(e + 1) * width + f].max(lengths[e * width + f + 1])
            };
        }
    }
    let mut common: Vec<_> = (0..head).map(|at| (at, at)).collect();
    let (mut e, mut f) = (0, 0);
    while e < expected.len() && f < found.len() {
        if expected[e].is_met_by(&found[f]) {
            common.push((head + e, head + f));
            (e, f) = (e + 1, f + 1);
        } else if lengths[(e + 1) * width + f] >= lengths[e * width + f + 1] {
            e += 1;
        } else {
            f += 1;
        }
    }
    common
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn rows(text: &str) -> Vec<Row> {
        let row = |word: &str| {
            let (key, value) = word.split_once(':').expect("is a pair");
            Row { key: json!(key), value: json!(value), rest: [("timestamp", json!(7))].into() }
        };
        text.split_whitespace().map(row).collect()
    }

    fn check(expected: &str, found: &str, lines: Option<&str>) {
        let mut expected = rows(expected);
        expected.iter_mut().for_each(|row| row.rest.clear());
        assert_eq!(diff(&expected, &rows(found)).as_deref(), lines);
    }

    #[test]
    fn what_differs_is_shown_among_what_does_not() {
        check("", "", None);
        check("a:1 b:1", "a:1 b:1", None);
        check("a:1", "", Some("- \"a\" = \"1\"\n"));
        check("", "a:1", Some("+ \"a\" = \"1\"\n"));
        check(
            "a:1 b:1 c:1",
            "a:1 b:2 c:1",
            Some("  \"a\" = \"1\"\n- \"b\" = \"1\"\n+ \"b\" = \"2\"\n  \"c\" = \"1\"\n"),
        );
        check("b:1", "a:1 b:1", Some("+ \"a\" = \"1\"\n  \"b\" = \"1\"\n"));
    }

    #[test]
    fn what_is_not_expected_to_be_anything_is_not_compared() {
        let (mut expected, found) = (rows("a:1"), rows("a:1"));
        assert_eq!(diff(&expected, &found), None);
        expected[0].rest.insert("timestamp", json!(8));
        let text = "- \"a\" = \"1\", timestamp 8\n+ \"a\" = \"1\", timestamp 7\n";
        assert_eq!(diff(&expected, &found).as_deref(), Some(text));
    }
}
