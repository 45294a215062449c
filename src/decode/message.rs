//! A Protobuf message as a serde deserialiser, so that it is read as any other format with names.

use std::borrow::Cow;

use prost_reflect::{DynamicMessage, FieldDescriptor, Kind, MapKey, ReflectMessage, Value};
use serde::de::value::{Error, MapDeserializer, SeqDeserializer};
use serde::de::{Deserializer, IntoDeserializer, Visitor};

/// A message.
#[derive(Clone, Copy)]
pub(super) struct Message<'a>(pub(super) &'a DynamicMessage);

/// A value of a field; none where the field isn't set.
struct Single<'a> {
    value: Option<Cow<'a, Value>>,
    kind: Kind,
}

impl<'a> Single<'a> {
    /// The field of `message`: one without presence is its default where the writer has left it out.
    fn of(message: &'a DynamicMessage, field: &FieldDescriptor) -> Self {
        let is_there = !field.supports_presence() || message.has_field(field);
        Self { value: is_there.then(|| message.get_field(field)), kind: field.kind() }
    }
}

impl Message<'_> {
    /// Milliseconds of a `google.protobuf.Timestamp`, if it is one.
    fn millis(self) -> Option<i64> {
        let number = |name: &str| match self.0.get_field_by_name(name).as_deref() {
            Some(Value::I64(value)) => *value,
            Some(Value::I32(value)) => i64::from(*value),
            _ => 0,
        };
        let is_time = self.0.descriptor().full_name() == "google.protobuf.Timestamp";
        is_time.then(|| number("seconds").saturating_mul(1000).saturating_add(number("nanos") / 1_000_000))
    }

    /// What a wrapper of `google/protobuf/wrappers.proto` holds, if it is one.
    fn wrapped(&self) -> Option<Single<'_>> {
        let descriptor = self.0.descriptor();
        let is_wrapper = descriptor.full_name().starts_with("google.protobuf.") && descriptor.name().ends_with("Value");
        let field = descriptor.get_field_by_name("value").filter(|_| is_wrapper)?;
        Some(Single::of(self.0, &field))
    }
}

impl<'de> Deserializer<'de> for Message<'_> {
    type Error = Error;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        if let Some(millis) = self.millis() {
            return visitor.visit_i64(millis);
        }
        if let Some(wrapped) = self.wrapped() {
            return wrapped.deserialize_any(visitor);
        }
        let descriptor = self.0.descriptor();
        let fields: Vec<FieldDescriptor> = descriptor.fields().collect();
        let named = fields.iter().map(|field| (field.name(), Single::of(self.0, field)));
        MapDeserializer::<_, Error>::new(named).deserialize_any(visitor)
    }

    serde::forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf option unit unit_struct
        newtype_struct seq tuple tuple_struct map struct enum identifier ignored_any
    }
}

impl IntoDeserializer<'_, Error> for Single<'_> {
    type Deserializer = Self;

    fn into_deserializer(self) -> Self {
        self
    }
}

impl<'de> Deserializer<'de> for Single<'_> {
    type Error = Error;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        let Some(value) = &self.value else { return visitor.visit_unit() };
        match &**value {
            Value::Bool(value) => visitor.visit_bool(*value),
            Value::I32(value) => visitor.visit_i32(*value),
            Value::I64(value) => visitor.visit_i64(*value),
            Value::U32(value) => visitor.visit_u32(*value),
            Value::U64(value) => visitor.visit_u64(*value),
            Value::F32(value) => visitor.visit_f32(*value),
            Value::F64(value) => visitor.visit_f64(*value),
            Value::String(text) => visitor.visit_str(text),
            Value::Bytes(bytes) => visitor.visit_bytes(bytes),
            Value::EnumNumber(number) => match self.kind.as_enum().and_then(|symbols| symbols.get_value(*number)) {
                Some(symbol) => visitor.visit_str(symbol.name()),
                None => visitor.visit_i32(*number),
            },
            Value::Message(message) => Message(message).deserialize_any(visitor),
            Value::List(items) => {
                let item = |value| Single { value: Some(Cow::Borrowed(value)), kind: self.kind.clone() };
                SeqDeserializer::<_, Error>::new(items.iter().map(item)).deserialize_any(visitor)
            }
            Value::Map(entries) => {
                let kind = self.kind.as_message().map(|entry| entry.map_entry_value_field().kind());
                let kind = kind.unwrap_or(Kind::Bool);
                let entry = |(key, value): (&MapKey, _)| {
                    (name(key), Single { value: Some(Cow::Borrowed(value)), kind: kind.clone() })
                };
                MapDeserializer::<_, Error>::new(entries.iter().map(entry)).deserialize_any(visitor)
            }
        }
    }

    serde::forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf option unit unit_struct
        newtype_struct seq tuple tuple_struct map struct enum identifier ignored_any
    }
}

/// The key of an entry as a field's name.
fn name(key: &MapKey) -> String {
    match key {
        MapKey::Bool(key) => key.to_string(),
        MapKey::I32(key) => key.to_string(),
        MapKey::I64(key) => key.to_string(),
        MapKey::U32(key) => key.to_string(),
        MapKey::U64(key) => key.to_string(),
        MapKey::String(key) => key.clone(),
    }
}
