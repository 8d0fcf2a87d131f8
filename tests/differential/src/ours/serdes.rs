//! Owns the values as the SDK's types: mostly one type for all, read and written by the SDK's own
//! serdes; counts are `i64`, because the SDK says so.

use millrace::{Data, DoubleSerde, IntegerSerde, JsonSerde, LongSerde, Serde, SerdeError, StringSerde};

use crate::value::{Type, Value, Weighed};

/// The serde of one of the types.
#[derive(Debug, Clone, Copy)]
pub(super) struct Typed(pub(super) Type);

impl Serde for Typed {
    type Value = Value;

    fn serialize(&self, value: &Value, out: &mut Vec<u8>) -> Result<(), SerdeError> {
        match (self.0, value) {
            (Type::String, Value::String(value)) => StringSerde.serialize(value, out),
            (Type::Long, Value::Long(value)) => LongSerde.serialize(value, out),
            (Type::Integer, Value::Integer(value)) => IntegerSerde.serialize(value, out),
            (Type::Double, Value::Double(value)) => DoubleSerde.serialize(value, out),
            (Type::Json, Value::Json(value)) => JsonSerde::<Weighed>::new().serialize(value, out),
            (expected, value) => Err(SerdeError::new(format!("expected a {expected:?}, but there is {value:?}"))),
        }
    }

    fn deserialize(&self, bytes: &[u8]) -> Result<Value, SerdeError> {
        Ok(match self.0 {
            Type::String => Value::String(StringSerde.deserialize(bytes)?),
            Type::Long => Value::Long(LongSerde.deserialize(bytes)?),
            Type::Integer => Value::Integer(IntegerSerde.deserialize(bytes)?),
            Type::Double => Value::Double(DoubleSerde.deserialize(bytes)?),
            Type::Json => Value::Json(JsonSerde::<Weighed>::new().deserialize(bytes)?),
        })
    }

    fn format(&self) -> String {
        format!("{:?}", self.0).to_lowercase()
    }
}

/// What values are in the SDK's streams and tables.
pub(super) trait Cell: Data + Send + Sync {
    fn serde(ty: Type) -> impl Serde<Value = Self>;
    fn to_value(&self) -> Value;
    /// None: not a value of this type.
    fn from_value(value: Value) -> Option<Self>;
}

impl Cell for Value {
    fn serde(ty: Type) -> impl Serde<Value = Self> {
        Typed(ty)
    }

    fn to_value(&self) -> Value {
        self.clone()
    }

    fn from_value(value: Value) -> Option<Self> {
        Some(value)
    }
}

impl Cell for i64 {
    fn serde(_: Type) -> impl Serde<Value = Self> {
        LongSerde
    }

    fn to_value(&self) -> Value {
        Value::Long(*self)
    }

    fn from_value(value: Value) -> Option<Self> {
        match value {
            Value::Long(number) => Some(number),
            _ => None,
        }
    }
}
