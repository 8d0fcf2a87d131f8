//! Owns the values that run through the generated topologies, and their formats in Kafka.
//! `Values.java` does the same on the other side.

use serde::{Deserialize, Serialize};

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Type {
    String,
    Long,
    Integer,
    Double,
    Json,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum Value {
    String(String),
    Long(i64),
    Integer(i32),
    Double(f64),
    Json(Weighed),
}

/// The one shape of JSON: its fields in this order, no white space.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Weighed {
    pub text: String,
    pub weight: i64,
}

impl Value {
    #[must_use]
    pub fn zero(ty: Type) -> Self {
        match ty {
            Type::String => Self::String(String::new()),
            Type::Long => Self::Long(0),
            Type::Integer => Self::Integer(0),
            Type::Double => Self::Double(0.0),
            Type::Json => Self::Json(Weighed::default()),
        }
    }

    #[must_use]
    pub fn ty(&self) -> Type {
        match self {
            Self::String(_) => Type::String,
            Self::Long(_) => Type::Long,
            Self::Integer(_) => Type::Integer,
            Self::Double(_) => Type::Double,
            Self::Json(_) => Type::Json,
        }
    }
}

/// Every value as a number, for predicates and sums.
#[must_use]
#[expect(
    clippy::cast_possible_truncation,
    reason = "Java's cast from double to long, which this repeats, saturates too"
)]
pub fn weight(value: Option<&Value>) -> i64 {
    match value {
        None => 0,
        Some(Value::String(text)) => i64::try_from(text.len()).unwrap_or(i64::MAX),
        Some(Value::Long(number)) => *number,
        Some(Value::Integer(number)) => i64::from(*number),
        Some(Value::Double(number)) => *number as i64,
        Some(Value::Json(weighed)) => weighed.weight,
    }
}

/// Every value as a text. Doubles go through their weight, because Java prints fractions in its own way.
#[must_use]
pub fn text(value: Option<&Value>) -> String {
    match value {
        None => "~".to_owned(),
        Some(Value::String(text)) => text.clone(),
        Some(Value::Long(number)) => number.to_string(),
        Some(Value::Integer(number)) => number.to_string(),
        Some(Value::Double(_)) => format!("{}d", weight(value)),
        Some(Value::Json(weighed)) => format!("{}#{}", weighed.text, weighed.weight),
    }
}

/// Null stays null.
#[must_use]
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_precision_loss,
    reason = "Java's casts, which these repeat, wrap and round in the same way"
)]
pub fn convert(to: Type, value: Option<&Value>) -> Option<Value> {
    value?;
    Some(match to {
        Type::String => Value::String(text(value)),
        Type::Long => Value::Long(weight(value)),
        Type::Integer => Value::Integer(weight(value) as i32),
        Type::Double => Value::Double(weight(value) as f64 / 2.0),
        Type::Json => Value::Json(Weighed { text: text(value), weight: weight(value) }),
    })
}
