//! Owns the regular expressions of sources: which topics a pattern takes in.
//!
//! `regex-lite` takes time linear in pattern and name, so a hostile pattern can't stall the host;
//! the price is that look-around and back-references, which Java has, are refused.

use regex_lite::{Regex, RegexBuilder};

/// A pattern that lists even a few hundred topics stays far below.
const MAX_PATTERN_LEN: usize = 16 * 1024;
/// Compiled, in bytes: bounds both memory and the time one match takes.
const MAX_PROGRAM_SIZE: usize = 256 * 1024;
const MAX_NESTING: u32 = 50;

#[derive(Debug, Clone)]
pub(super) struct Pattern(Regex);

impl Pattern {
    /// The error says what is wrong with it.
    pub(super) fn new(pattern: &str) -> Result<Self, String> {
        if pattern.len() > MAX_PATTERN_LEN {
            return Err(format!("it is longer than {MAX_PATTERN_LEN} bytes"));
        }
        // Alone first: an unbalanced pattern could become valid inside the group.
        compile(pattern)?;
        compile(&format!("^(?:{pattern})$")).map(Self)
    }

    /// Whether it matches the whole name, as Kafka Streams asks of it.
    pub(super) fn takes_in(&self, topic: &str) -> bool {
        self.0.is_match(topic)
    }
}

fn compile(pattern: &str) -> Result<Regex, String> {
    RegexBuilder::new(pattern)
        .size_limit(MAX_PROGRAM_SIZE)
        .nest_limit(MAX_NESTING)
        .build()
        .map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pattern_matches_whole_names() {
        let pattern = Pattern::new("orders-.*|a|ab").unwrap();
        assert!(pattern.takes_in("orders-eu"));
        assert!(pattern.takes_in("ab"));
        assert!(!pattern.takes_in("old-orders-eu"));
        assert!(!pattern.takes_in("abc"));
    }

    #[test]
    fn patterns_the_host_cannot_use_are_refused() {
        for pattern in
            ["(", "a)(b", "a(?=b)", r"(a)\1", "a{1000}{1000}{1000}", &"(".repeat(10_000), &"a".repeat(100_000)]
        {
            assert!(Pattern::new(pattern).is_err(), "{}", &pattern[..pattern.len().min(30)]);
        }
    }
}
