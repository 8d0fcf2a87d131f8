//! Owns what is wrong with a configuration and how it is said. Must not know how it was found.

use std::fmt;
use std::path::{Path, PathBuf};

/// Where a setting was made.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Origin {
    Default,
    /// The file and the line, from 1.
    File(PathBuf, usize),
    Variable(String),
    /// The option of the command line.
    Option(&'static str),
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => write!(f, "default"),
            Self::File(path, line) => write!(f, "{}:{line}", path.display()),
            Self::Variable(name) => write!(f, "environment variable {name}"),
            Self::Option(name) => write!(f, "option {name}"),
        }
    }
}

/// One thing that is wrong.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Problem {
    /// `None`: something is missing.
    pub(super) origin: Option<Origin>,
    pub(super) message: String,
}

impl Problem {
    pub(super) fn at(origin: &Origin, message: impl Into<String>) -> Self {
        Self { origin: Some(origin.clone()), message: message.into() }
    }

    pub(super) fn missing(message: impl Into<String>) -> Self {
        Self { origin: None, message: message.into() }
    }
}

/// Everything that is wrong with a configuration, a line each.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Invalid {
    lines: Vec<String>,
}

impl Invalid {
    pub(super) fn new(file: &Path, mut problems: Vec<Problem>) -> Self {
        problems.sort();
        problems.dedup();
        let lines = problems.into_iter().map(|problem| match problem.origin {
            Some(origin) => format!("{origin}: {}", problem.message),
            None => format!("{}: {}", file.display(), problem.message),
        });
        Self { lines: lines.collect() }
    }

    #[must_use]
    pub fn lines(&self) -> &[String] {
        &self.lines
    }
}

impl fmt::Display for Invalid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.lines.join("\n"))
    }
}

impl std::error::Error for Invalid {}

/// The candidate that was most likely meant, if any is as close as `closeness` (0 to 1).
pub(super) fn nearest<'a>(
    given: &str,
    candidates: impl IntoIterator<Item = &'a str>,
    closeness: f64,
) -> Option<&'a str> {
    let scored = candidates.into_iter().map(|name| (strsim::normalized_damerau_levenshtein(given, name), name));
    let (score, name) = scored.max_by(|one, other| one.0.total_cmp(&other.0))?;
    (score >= closeness).then_some(name)
}

/// Two of five letters wrong: worth a suggestion.
pub(super) const SIMILAR: f64 = 0.6;
/// One of five: meant without doubt.
pub(super) const SAME: f64 = 0.8;
