//! Owns the library of functions that cases name. `Functions.java` has the same ones: a change
//! here without one there is a difference in every case that uses the function.

use crate::value::{Type, Value, Weighed, convert, text, weight};

/// A nullable key or value.
pub type Nullable = Option<Value>;

pub const PREDICATES: &[&str] =
    &["evenValue", "largeValue", "presentValue", "evenKey", "presentKey", "always", "never"];

/// For `filter` and `split`, on streams and tables.
#[must_use]
pub fn predicate(name: &str, key: Option<&Value>, value: Option<&Value>) -> bool {
    match name {
        "evenValue" => weight(value) % 2 == 0,
        "largeValue" => weight(value) >= 5,
        "presentValue" => value.is_some(),
        "evenKey" => weight(key) % 2 == 0,
        "presentKey" => key.is_some(),
        "always" => true,
        "never" => false,
        _ => unknown("predicate", name),
    }
}

/// `dropOdd` and `same` answer the type they were given, `mark` and `describe` a string.
pub const MAPPERS: &[&str] = &["convert", "same", "dropOdd", "mark", "describe"];

/// From a record to a value of type `to`.
#[must_use]
pub fn mapper(name: &str, to: Type, key: Option<&Value>, value: Option<&Value>) -> Nullable {
    match name {
        "convert" => convert(to, value),
        "same" => value.cloned(),
        "dropOdd" => value.filter(|_| weight(value) % 2 == 0).cloned(),
        "mark" => value.map(|_| Value::String(format!("{}!", text(value)))),
        "describe" => Some(Value::String(format!("{}={}", text(key), text(value)))),
        _ => unknown("mapper", name),
    }
}

pub const SELECTORS: &[&str] = &["ofValue", "ofKey", "firstWord", "dropOdd", "constant"];

/// From a record to a key of type `to`.
#[must_use]
pub fn selector(name: &str, to: Type, key: Option<&Value>, value: Option<&Value>) -> Nullable {
    match name {
        "ofValue" => convert(to, value),
        "ofKey" => convert(to, key),
        "firstWord" => {
            let text = text(value);
            let word = text.split(' ').next().unwrap_or_default();
            convert(to, Some(&Value::String(word.to_owned())))
        }
        "dropOdd" => {
            if weight(value) % 2 == 0 {
                convert(to, value)
            } else {
                None
            }
        }
        "constant" => convert(to, Some(&Value::String("all".to_owned()))),
        _ => unknown("selector", name),
    }
}

/// `words` answers strings, the others the type they were given.
pub const EXPANDERS: &[&str] = &["words", "twice", "ifEven"];

/// From a value to any number of them.
#[must_use]
pub fn expander(name: &str, value: Option<&Value>) -> Vec<Nullable> {
    match name {
        "words" => {
            let words = text(value);
            words.split(' ').filter(|word| !word.is_empty()).map(|word| Some(Value::String(word.to_owned()))).collect()
        }
        "twice" => vec![value.cloned(), value.cloned()],
        "ifEven" => {
            if weight(value) % 2 == 0 {
                vec![value.cloned()]
            } else {
                Vec::new()
            }
        }
        _ => unknown("expander", name),
    }
}

pub const COMBINERS: &[&str] = &["add", "latest", "heaviest", "addDropLarge"];

/// For `reduce`, and after a conversion for `aggregate`. Both values have the same type.
#[must_use]
pub fn combiner(name: &str, old: &Value, new: &Value) -> Nullable {
    match name {
        "add" => Some(add(old, new)),
        "latest" => Some(new.clone()),
        "heaviest" => Some(if weight(Some(new)) >= weight(Some(old)) { new.clone() } else { old.clone() }),
        "addDropLarge" => Some(add(old, new)).filter(|sum| weight(Some(sum)) < 12),
        _ => unknown("combiner", name),
    }
}

pub const JOINERS: &[&str] = &["pair", "heavier"];

/// For joins: a string of both values, of which either may be missing.
#[must_use]
pub fn joiner(name: &str, left: Option<&Value>, right: Option<&Value>) -> Value {
    match name {
        "pair" => Value::String(format!("{}&{}", text(left), text(right))),
        "heavier" => Value::String(text(if weight(right) > weight(left) { right } else { left })),
        _ => unknown("joiner", name),
    }
}

pub const REMOVERS: &[&str] = &["subtract", "keep"];

/// For the subtractors of a grouped table; the same types as for `combiner`.
#[must_use]
pub fn remover(name: &str, aggregate: &Value, old: &Value) -> Nullable {
    match name {
        "subtract" => Some(subtract(aggregate, old)),
        "keep" => Some(aggregate.clone()),
        _ => unknown("remover", name),
    }
}

/// The aggregator of `aggregate`, which starts at `Value::zero`.
#[must_use]
pub fn aggregator(name: &str, to: Type, value: &Value, aggregate: &Value) -> Nullable {
    let value = convert(to, Some(value)).expect("a value that is there stays there");
    combiner(name, aggregate, &value)
}

pub const EXTRACTORS: &[&str] = &["later", "highest", "dropOdd"];

/// The timestamp of a record of a source; a negative one drops it. `partition_time` is the highest
/// seen before in the partition, negative if there is none.
#[must_use]
pub fn extractor(name: &str, timestamp: i64, partition_time: i64, value: Option<&Value>) -> i64 {
    match name {
        "later" => timestamp + 100,
        "highest" => timestamp.max(partition_time),
        "dropOdd" => {
            if weight(value) % 2 == 0 {
                timestamp
            } else {
                -1
            }
        }
        _ => unknown("extractor", name),
    }
}

/// For `to` by record.
#[must_use]
pub fn topic_by_weight(prefix: &str, value: Option<&Value>) -> String {
    format!("{prefix}-{}", if weight(value) % 2 == 0 { "even" } else { "odd" })
}

fn add(old: &Value, new: &Value) -> Value {
    match (old, new) {
        (Value::String(old), Value::String(new)) => Value::String(format!("{old}+{new}")),
        (Value::Long(old), Value::Long(new)) => Value::Long(old.wrapping_add(*new)),
        (Value::Integer(old), Value::Integer(new)) => Value::Integer(old.wrapping_add(*new)),
        (Value::Double(old), Value::Double(new)) => Value::Double(old + new),
        (Value::Json(old), Value::Json(new)) => {
            Value::Json(Weighed { text: new.text.clone(), weight: old.weight.wrapping_add(new.weight) })
        }
        _ => panic!("a combiner takes two values of one type, not {old:?} and {new:?}"),
    }
}

fn subtract(aggregate: &Value, old: &Value) -> Value {
    match (aggregate, old) {
        (Value::String(aggregate), Value::String(old)) => Value::String(format!("{aggregate}-{old}")),
        (Value::Long(aggregate), Value::Long(old)) => Value::Long(aggregate.wrapping_sub(*old)),
        (Value::Integer(aggregate), Value::Integer(old)) => Value::Integer(aggregate.wrapping_sub(*old)),
        (Value::Double(aggregate), Value::Double(old)) => Value::Double(aggregate - old),
        (Value::Json(aggregate), Value::Json(old)) => {
            Value::Json(Weighed { text: old.text.clone(), weight: aggregate.weight.wrapping_sub(old.weight) })
        }
        _ => panic!("a remover takes two values of one type, not {aggregate:?} and {old:?}"),
    }
}

fn unknown(kind: &str, name: &str) -> ! {
    panic!("no {kind} `{name}` in functions.rs")
}
