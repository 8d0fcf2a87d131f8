//! Owns the bytes of values in Kafka, written here without the SDK, so that the SDK's serdes
//! are judged too.

use crate::value::{Type, Value, Weighed};

#[must_use]
pub fn write(value: &Value) -> Vec<u8> {
    match value {
        Value::String(text) => text.clone().into_bytes(),
        Value::Long(number) => number.to_be_bytes().to_vec(),
        Value::Integer(number) => number.to_be_bytes().to_vec(),
        Value::Double(number) => number.to_bits().to_be_bytes().to_vec(),
        Value::Json(weighed) => serde_json::to_vec(weighed).expect("a struct of a string and a number is JSON"),
    }
}

/// For reports. None: not bytes of that type.
#[must_use]
pub fn read(ty: Type, bytes: &[u8]) -> Option<Value> {
    Some(match ty {
        Type::String => Value::String(std::str::from_utf8(bytes).ok()?.to_owned()),
        Type::Long => Value::Long(i64::from_be_bytes(bytes.try_into().ok()?)),
        Type::Integer => Value::Integer(i32::from_be_bytes(bytes.try_into().ok()?)),
        Type::Double => Value::Double(f64::from_bits(u64::from_be_bytes(bytes.try_into().ok()?))),
        Type::Json => Value::Json(serde_json::from_slice::<Weighed>(bytes).ok()?),
    })
}
