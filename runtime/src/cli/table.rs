//! Tables for people: columns as wide as they have to be, numbers to the right.

use std::fmt::Write as _;

const UNKNOWN: &str = "-";

/// A heading and its rows. A column but the first is one of numbers if all its cells are.
pub(super) fn table(heading: &[&str], rows: &[Vec<String>]) -> String {
    let columns = heading.len();
    let cell = |row: &[String], column: usize| row.get(column).cloned().unwrap_or_default();
    let width = |column: usize| {
        let cells = rows.iter().map(|row| cell(row, column).chars().count());
        cells.chain([heading[column].chars().count()]).max().unwrap_or(0)
    };
    // A task, as 0_1, is none.
    let is_number =
        |text: &str| text == UNKNOWN || text.starts_with(|c: char| c.is_ascii_digit()) && !text.contains('_');
    let widths: Vec<usize> = (0..columns).map(width).collect();
    let right: Vec<bool> =
        (0..columns).map(|column| column > 0 && rows.iter().all(|row| is_number(&cell(row, column)))).collect();
    let mut text = String::new();
    let heading: Vec<String> = heading.iter().map(|&name| name.to_owned()).collect();
    for row in std::iter::once(&heading).chain(rows) {
        let mut line = String::new();
        for column in 0..columns {
            let (cell, width) = (cell(row, column), widths[column]);
            let _ = if right[column] { write!(line, "{cell:>width$}  ") } else { write!(line, "{cell:width$}  ") };
        }
        let _ = writeln!(text, "{}", line.trim_end());
    }
    text
}

/// What nobody knows is no number; a column of numbers may have it.
pub(super) fn known(number: Option<impl ToString>) -> String {
    number.map_or_else(|| UNKNOWN.to_owned(), |number| number.to_string())
}

/// Bytes in a unit in which they can be read.
pub(super) fn size(bytes: u64) -> String {
    let units = [(1_u64 << 40, "TiB"), (1 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB")];
    match units.iter().find(|(unit, _)| bytes >= *unit) {
        Some((unit, name)) => format!("{}.{} {name}", bytes / unit, bytes % unit * 10 / unit),
        None => format!("{bytes} B"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_as_wide_as_their_cells_and_numbers_to_the_right() {
        let rows = [["0_0", "count-store", "7"], ["0_10", "s", "1234"]].map(|row| row.map(str::to_owned).to_vec());
        let expected = "\
TASK  STORE        ENTRIES
0_0   count-store        7
0_10  s               1234
";
        assert_eq!(table(&["TASK", "STORE", "ENTRIES"], &rows), expected);
        assert_eq!(table(&["A", "B"], &[]), "A  B\n");
    }

    #[test]
    fn sizes_have_one_digit_after_the_point() {
        for (bytes, text) in [(0, "0 B"), (1023, "1023 B"), (1536, "1.5 KiB"), (5 << 30, "5.0 GiB")] {
            assert_eq!(size(bytes), text);
        }
    }
}
