//! Owns what names may be and how internal topics are called. Must not know the graph's shape.

use std::fmt;

use super::error::TopologyError;

/// Kafka's limit on topic names; stores and nodes get the same, as theirs end up in topic names,
/// file names and metrics.
pub(super) const MAX_NAME_LEN: usize = 249;

/// Topics the brokers write themselves and refuse to let others write.
const RESERVED_TOPICS: [&str; 4] =
    ["__consumer_offsets", "__transaction_state", "__share_group_state", "__cluster_metadata"];

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BadName {
    Empty,
    TooLong,
    Dots,
    IllegalCharacter(char),
}

impl fmt::Display for BadName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Empty => f.write_str("is empty: give it a name"),
            Self::TooLong => write!(f, "is longer than {MAX_NAME_LEN} characters: shorten it"),
            Self::Dots => f.write_str("is nothing but dots: give it a name"),
            Self::IllegalCharacter(c) => {
                write!(f, "has the character {c:?}: use ASCII letters, digits, '.', '_' and '-'")
            }
        }
    }
}

/// Topics, stores and applications: Kafka's rules for topic names.
pub(super) fn check_topic_name(kind: &'static str, name: &str) -> Result<(), TopologyError> {
    let legal = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
    let problem = if name.is_empty() {
        BadName::Empty
    } else if name.len() > MAX_NAME_LEN {
        BadName::TooLong
    } else if name == "." || name == ".." {
        BadName::Dots
    } else if let Some(c) = name.chars().find(|&c| !legal(c)) {
        BadName::IllegalCharacter(c)
    } else {
        return Ok(());
    };
    Err(TopologyError::Name { kind, name: shorten(name), problem })
}

/// Nodes: anything that can be printed on one line, as in Kafka Streams' Processor API.
pub(super) fn check_node_name(name: &str) -> Result<(), TopologyError> {
    let problem = if name.is_empty() {
        BadName::Empty
    } else if name.len() > MAX_NAME_LEN {
        BadName::TooLong
    } else if let Some(c) = name.chars().find(|c| c.is_control()) {
        BadName::IllegalCharacter(c)
    } else {
        return Ok(());
    };
    Err(TopologyError::Name { kind: "node", name: shorten(name), problem })
}

pub(super) fn is_reserved(topic: &str) -> bool {
    RESERVED_TOPICS.contains(&topic)
}

/// Quoted, on one line and short enough for a message, whatever a module made it.
pub(super) fn shorten(name: &str) -> String {
    const SHOWN: usize = 60;
    let mut quoted = format!("{:?}", name.chars().take(SHOWN).collect::<String>());
    if name.chars().nth(SHOWN).is_some() {
        quoted.push('…');
    }
    quoted
}

pub(super) fn internal_topic(application_id: &str, name: &str) -> String {
    format!("{application_id}-{name}")
}

pub(super) fn changelog_topic(application_id: &str, store: &str) -> String {
    format!("{application_id}-{store}-changelog")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(name: &str, expected: Option<BadName>) {
        let found = match check_topic_name("topic", name) {
            Ok(()) => None,
            Err(TopologyError::Name { problem, .. }) => Some(problem),
            Err(other) => panic!("{other}"),
        };
        assert_eq!(found, expected, "{name:?}");
    }

    #[test]
    fn topic_names_follow_kafkas_rules() {
        check("counts-topic", None);
        check("a.b_c-D9", None);
        check("...", None);
        check(&"x".repeat(249), None);
        check(&"x".repeat(250), Some(BadName::TooLong));
        check("", Some(BadName::Empty));
        check(".", Some(BadName::Dots));
        check("..", Some(BadName::Dots));
        check("a b", Some(BadName::IllegalCharacter(' ')));
        check("a/b", Some(BadName::IllegalCharacter('/')));
        check("a\0", Some(BadName::IllegalCharacter('\0')));
        check("größe", Some(BadName::IllegalCharacter('ö')));
    }

    #[test]
    fn node_names_are_one_printable_line() {
        check_node_name("My Processor (ä)").unwrap();
        check_node_name("").unwrap_err();
        check_node_name("a\nb").unwrap_err();
        check_node_name(&"x".repeat(250)).unwrap_err();
    }

    #[test]
    fn a_name_in_a_message_is_short_and_on_one_line() {
        let message = check_topic_name("store", &"\n".repeat(1_000_000)).unwrap_err().to_string();
        assert!(message.len() < 300, "{}", message.len());
        assert!(!message.contains('\n'));
    }
}
