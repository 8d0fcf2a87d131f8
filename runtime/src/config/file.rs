//! Flattens a TOML file to dotted keys, each with its line. Must not know which keys exist.

use std::path::Path;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::problem::{Origin, Problem};
use super::value::Raw;

/// A setting somebody made.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Given {
    pub(super) key: String,
    pub(super) raw: Raw,
    pub(super) origin: Origin,
}

/// The settings of a file in the order of its lines, or what is no TOML in it.
pub(super) fn settings(path: &Path, text: &str) -> Result<Vec<Given>, Vec<Problem>> {
    let (root, errors) = DeTable::parse_recoverable(text);
    let at = |offset: usize| Origin::File(path.to_owned(), line(text, offset));
    if !errors.is_empty() {
        // The library's own rendering quotes the line, and a password may stand in it.
        let say = |error: &toml::de::Error| {
            let duplicate = if error.message() == "duplicate key" { DUPLICATE } else { "" };
            let message = format!("not valid TOML: {}{duplicate}", error.message());
            Problem::at(&at(error.span().map_or(0, |span| span.start)), message)
        };
        return Err(errors.iter().map(say).collect());
    }
    let mut found = Vec::new();
    flatten(root.get_ref(), "", &at, &mut found);
    found.sort_by(|one, other| one.origin.cmp(&other.origin));
    Ok(found)
}

const DUPLICATE: &str = " (`a.b = 1` and `[a]` don't mix either: write all keys of a table in one way)";

fn flatten(table: &DeTable<'_>, prefix: &str, at: &dyn Fn(usize) -> Origin, found: &mut Vec<Given>) {
    for (name, value) in table {
        let key = if prefix.is_empty() { name.get_ref().to_string() } else { format!("{prefix}.{}", name.get_ref()) };
        match value.get_ref() {
            DeValue::Table(inner) => flatten(inner, &key, at, found),
            other => found.push(Given { key, raw: raw(other), origin: at(name.span().start) }),
        }
    }
}

fn raw(value: &DeValue<'_>) -> Raw {
    match value {
        DeValue::String(text) => Raw::Text(text.to_string()),
        DeValue::Integer(number) => match i64::from_str_radix(number.as_str(), number.radix()) {
            Ok(number) => Raw::Integer(number),
            Err(_) => Raw::Other("number of more than 64 bits"),
        },
        DeValue::Boolean(flag) => Raw::Flag(*flag),
        DeValue::Float(_) => Raw::Other("fraction"),
        DeValue::Datetime(_) => Raw::Other("date"),
        DeValue::Array(items) => Raw::List(items.iter().map(Spanned::get_ref).map(raw).collect()),
        DeValue::Table(_) => Raw::Other("table"),
    }
}

fn line(text: &str, offset: usize) -> usize {
    text.as_bytes().iter().take(offset).filter(|&&byte| byte == b'\n').count() + 1
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, expected: &[(&str, Raw, usize)]) {
        let path = Path::new("f.toml");
        let expected: Vec<Given> = expected
            .iter()
            .map(|(key, raw, line)| Given {
                key: (*key).to_owned(),
                raw: raw.clone(),
                origin: Origin::File(path.to_owned(), *line),
            })
            .collect();
        assert_eq!(settings(path, text), Ok(expected));
    }

    #[test]
    fn dotted_nested_and_quoted_are_the_same() {
        let text = |text: &str| Raw::Text(text.to_owned());
        check("a.b = \"x\"", &[("a.b", text("x"), 1)]);
        check("\n[a]\nb = \"x\"", &[("a.b", text("x"), 3)]);
        check("\"a.b\" = \"x\"", &[("a.b", text("x"), 1)]);
        check("a = { b = 'x', c = 0x10 }", &[("a.b", text("x"), 1), ("a.c", Raw::Integer(16), 1)]);
        check("z = 1\na = [true]", &[("z", Raw::Integer(1), 1), ("a", Raw::List(vec![Raw::Flag(true)]), 2)]);
    }

    #[test]
    fn what_is_no_toml_is_named_by_line_without_its_text() {
        let found = settings(Path::new("f.toml"), "a = 1\nsasl.password = geheim\"\nb = \n").expect_err("is no TOML");
        let lines: Vec<String> =
            found.iter().map(|p| format!("{}: {}", p.origin.clone().expect("has a line"), p.message)).collect();
        assert!(lines.iter().any(|line| line.starts_with("f.toml:2: not valid TOML: ")), "{lines:?}");
        assert!(lines.iter().any(|line| line.starts_with("f.toml:3: not valid TOML: ")), "{lines:?}");
        assert!(!lines.join("").contains("geheim"), "{lines:?}");
    }
}
