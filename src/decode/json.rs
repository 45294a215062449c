//! JSON records: an object of numbers, an array of numbers, or an object with the vector under a configured field.
//!
//! The record is read once, straight into the row; no tree is built and no name is copied. Null, `NaN` and infinities
//! (as bare words, which some producers write, or as `1e400`) mean missing. Unknown names are ignored and counted;
//! an array or object in the place of a feature is refused, and so is a string or boolean where a number should be.

use std::collections::HashMap;
use std::fmt;

use serde::de::{self, DeserializeSeed, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;

use super::field::{Field, Scalar};
use super::{Config, Decoded, Decoder, Reject, check_size};

/// Decoder of JSON records.
pub struct Json {
    names: Names,
    bytes_max: usize,
    /// For each feature the record in which it was last seen; tells duplicates without clearing a set.
    seen: Vec<u64>,
    record: u64,
    passthrough: Vec<u8>,
}

/// What the names of an object's fields mean.
struct Names {
    features: Vec<Field>,
    index: HashMap<String, usize>,
    field: Option<String>,
    time: Option<String>,
    passthrough: Vec<String>,
}

/// Meaning of one field.
#[derive(Clone, Copy)]
enum Role {
    Feature(usize),
    Vector,
    Time,
    Passthrough(usize),
    Unknown,
}

impl Json {
    /// Makes the decoder for `fields`, the features in the order of the schema.
    pub fn new(config: &Config, fields: &[Field]) -> Self {
        Self {
            names: Names {
                features: fields.to_vec(),
                index: fields.iter().enumerate().map(|(i, field)| (field.name.clone(), i)).collect(),
                field: config.field.clone(),
                time: config.time_field.clone(),
                passthrough: config.passthrough.clone(),
            },
            bytes_max: config.payload_bytes_max,
            seen: vec![0; fields.len()],
            record: 0,
            passthrough: Vec::new(),
        }
    }

    fn read(&mut self, payload: &[u8], values: &mut [f32]) -> Result<Decoded, Reject> {
        self.record += 1;
        self.passthrough.clear();
        let mut state = Reading {
            names: &self.names,
            seen: &mut self.seen,
            record: self.record,
            values,
            passthrough: &mut self.passthrough,
            decoded: Decoded::default(),
            has_vector: false,
            reject: None,
        };
        let mut reader = serde_json::Deserializer::from_slice(payload);
        let outcome = Record(&mut state, Level::Outer).deserialize(&mut reader).and_then(|()| reader.end());
        if let Some(reject) = state.reject {
            return Err(reject);
        }
        outcome.map_err(|error| Reject::Malformed(format!("not a JSON record: {error}")))?;
        if let (Some(field), false) = (&self.names.field, state.has_vector) {
            return Err(Reject::Malformed(format!("the record has no field `{field}` (decode.field)")));
        }
        let decoded = state.decoded;
        if !self.passthrough.is_empty() {
            self.passthrough.push(b'}');
        }
        Ok(decoded)
    }
}

impl Decoder for Json {
    fn decode(&mut self, payload: &[u8], values: &mut [f32]) -> Result<Decoded, Reject> {
        check_size(payload, self.bytes_max)?;
        let first = self.read(payload, values);
        let Err(Reject::Malformed(_)) = first else { return first };
        if let Err(error) = std::str::from_utf8(payload) {
            return Err(Reject::InvalidUtf8 { at: error.valid_up_to() });
        }
        match without_non_finite(payload) {
            Some(rewritten) => {
                values.fill(f32::NAN);
                self.read(&rewritten, values)
            }
            None => first,
        }
    }

    fn passthrough(&self) -> Option<&[u8]> {
        (!self.passthrough.is_empty()).then_some(&self.passthrough[..])
    }
}

/// One reading of one record.
struct Reading<'a> {
    names: &'a Names,
    seen: &'a mut [u64],
    record: u64,
    values: &'a mut [f32],
    passthrough: &'a mut Vec<u8>,
    decoded: Decoded,
    has_vector: bool,
    reject: Option<Reject>,
}

impl Reading<'_> {
    /// Remembers why the record is refused, and makes the error that stops serde.
    fn refuse<E: de::Error>(&mut self, reject: Reject) -> E {
        let error = E::custom(&reject);
        self.reject = Some(reject);
        error
    }

    fn refuse_type<E: de::Error>(&mut self, place: &Place, got: &'static str) -> E {
        let (field, i) = match *place {
            Place::Feature(i) => (self.names.features[i].name.clone(), i),
            Place::Position(i) => (format!("[{i}]"), i),
        };
        let expected = self.names.features[i].expected();
        self.refuse(Reject::WrongType { field, got, expected })
    }

    fn keep<'de, A: MapAccess<'de>>(&mut self, i: usize, map: &mut A) -> Result<(), A::Error> {
        let raw: &RawValue = map.next_value()?;
        let name = serde_json::to_string(&self.names.passthrough[i]).map_err(de::Error::custom)?;
        self.passthrough.push(if self.passthrough.is_empty() { b'{' } else { b',' });
        self.passthrough.extend_from_slice(name.as_bytes());
        self.passthrough.push(b':');
        self.passthrough.extend_from_slice(raw.get().as_bytes());
        Ok(())
    }

    fn time<'de, A: MapAccess<'de>>(&mut self, map: &mut A) -> Result<(), A::Error> {
        let raw: &RawValue = map.next_value()?;
        match event_time(raw.get()) {
            Ok(time_ms) => self.decoded.time_ms = time_ms,
            Err(message) => {
                let field = self.names.time.clone().unwrap_or_default();
                return Err(self.refuse(Reject::BadTime { field, message }));
            }
        }
        Ok(())
    }
}

/// Reads an event time: whole or fractional milliseconds since the epoch, RFC 3339, or null for none.
fn event_time(raw: &str) -> Result<Option<i64>, String> {
    if raw == "null" {
        return Ok(None);
    }
    if let Ok(text) = serde_json::from_str::<String>(raw) {
        let time: jiff::Timestamp = text.parse().map_err(|_| format!("`{text}` is not RFC 3339"))?;
        return Ok(Some(time.as_millisecond()));
    }
    let millis: f64 = raw.parse().map_err(|_| "expected milliseconds or RFC 3339".to_owned())?;
    if !(0.0..=253_402_300_799_999.0).contains(&millis) {
        return Err(format!("{raw} ms is outside the years 1970 to 9999"));
    }
    Ok(Some(millis as i64))
}

/// Whether the record itself or the vector inside it is read.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Level {
    Outer,
    Vector,
}

/// Seed for a whole record, or for the vector inside it.
struct Record<'r, 'a>(&'r mut Reading<'a>, Level);

impl<'de> DeserializeSeed<'de> for Record<'_, '_> {
    type Value = ();

    fn deserialize<D: de::Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Record<'_, '_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object or an array of numbers")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        let Self(state, level) = self;
        let mut hint = 0;
        while let Some(role) = map.next_key_seed(Key { names: state.names, level, hint })? {
            match role {
                Role::Feature(i) => {
                    hint = i + 1;
                    if std::mem::replace(&mut state.seen[i], state.record) == state.record {
                        let name = state.names.features[i].name.clone();
                        return Err(state.refuse(Reject::DuplicateName(name)));
                    }
                    map.next_value_seed(Single { state, place: Place::Feature(i), out: i })?;
                }
                Role::Vector if state.has_vector => {
                    let name = state.names.field.clone().unwrap_or_default();
                    return Err(state.refuse(Reject::DuplicateName(name)));
                }
                Role::Vector => {
                    state.has_vector = true;
                    map.next_value_seed(Record(state, Level::Vector))?;
                }
                Role::Time => state.time(&mut map)?,
                Role::Passthrough(i) => state.keep(i, &mut map)?,
                Role::Unknown => {
                    state.decoded.n_unknown += 1;
                    map.next_value::<IgnoredAny>()?;
                }
            }
        }
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<(), A::Error> {
        let Self(state, level) = self;
        if level == Level::Outer && state.names.field.is_some() {
            let message = "the record is an array, decode.field asks for an object".to_owned();
            return Err(state.refuse(Reject::Malformed(message)));
        }
        let expected = state.values.len();
        for i in 0..expected {
            let seed = Single { state, place: Place::Position(i), out: i };
            if seq.next_element_seed(seed)?.is_none() {
                return Err(state.refuse(Reject::WrongLength { got: i, expected }));
            }
        }
        let mut n_more = 0;
        while seq.next_element::<IgnoredAny>()?.is_some() {
            n_more += 1;
        }
        if n_more > 0 {
            return Err(state.refuse(Reject::WrongLength { got: expected + n_more, expected }));
        }
        Ok(())
    }
}

/// Seed for a field's name: looks it up without copying it, the expected next feature first.
struct Key<'a> {
    names: &'a Names,
    level: Level,
    hint: usize,
}

impl<'de> DeserializeSeed<'de> for Key<'_> {
    type Value = Role;

    fn deserialize<D: de::Deserializer<'de>>(self, deserializer: D) -> Result<Role, D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl Visitor<'_> for Key<'_> {
    type Value = Role;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a field name")
    }

    fn visit_str<E: de::Error>(self, name: &str) -> Result<Role, E> {
        let names = self.names;
        let holds_features = self.level == Level::Vector || names.field.is_none();
        if holds_features {
            if names.features.get(self.hint).is_some_and(|next| next.name == name) {
                return Ok(Role::Feature(self.hint));
            }
            if let Some(&i) = names.index.get(name) {
                return Ok(Role::Feature(i));
            }
        }
        if self.level == Level::Vector {
            return Ok(Role::Unknown);
        }
        if names.field.as_deref() == Some(name) {
            return Ok(Role::Vector);
        }
        if names.time.as_deref() == Some(name) {
            return Ok(Role::Time);
        }
        let carried = names.passthrough.iter().position(|p| p == name);
        Ok(carried.map_or(Role::Unknown, Role::Passthrough))
    }
}

/// Where a value stands in the record.
#[derive(Clone, Copy)]
enum Place {
    Feature(usize),
    Position(usize),
}

/// Seed for one feature's value.
struct Single<'r, 'a> {
    state: &'r mut Reading<'a>,
    place: Place,
    out: usize,
}

impl Single<'_, '_> {
    fn put<E: de::Error>(self, scalar: Scalar<'_>) -> Result<(), E> {
        match self.state.names.features[self.out].read(scalar) {
            Ok(value) => self.state.values[self.out] = value,
            Err(got) => return Err(self.state.refuse_type(&self.place, got)),
        }
        Ok(())
    }
}

impl<'de> DeserializeSeed<'de> for Single<'_, '_> {
    type Value = ();

    fn deserialize<D: de::Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Single<'_, '_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a single value or null")
    }

    fn visit_f64<E: de::Error>(self, value: f64) -> Result<(), E> {
        self.put(Scalar::Float(value))
    }

    fn visit_i64<E: de::Error>(self, value: i64) -> Result<(), E> {
        self.put(Scalar::Signed(value))
    }

    fn visit_u64<E: de::Error>(self, value: u64) -> Result<(), E> {
        self.put(Scalar::Unsigned(value))
    }

    fn visit_unit<E: de::Error>(self) -> Result<(), E> {
        Ok(())
    }

    fn visit_bool<E: de::Error>(self, value: bool) -> Result<(), E> {
        self.put(Scalar::Boolean(value))
    }

    fn visit_str<E: de::Error>(self, value: &str) -> Result<(), E> {
        self.put(Scalar::Text(value))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, _: A) -> Result<(), A::Error> {
        Err(self.state.refuse_type(&self.place, "an array"))
    }

    fn visit_map<A: MapAccess<'de>>(self, _: A) -> Result<(), A::Error> {
        Err(self.state.refuse_type(&self.place, "an object"))
    }
}

/// Rewrites the non-finite numbers outside strings (`NaN`, `Infinity`, `-Infinity`, `1e400`) to `null`.
///
/// Returns none when there is nothing to rewrite. Only records that failed to parse come here.
pub(super) fn without_non_finite(payload: &[u8]) -> Option<Vec<u8>> {
    let mut out = Vec::with_capacity(payload.len());
    let (mut at, mut changed) = (0, false);
    while at < payload.len() {
        let rest = &payload[at..];
        let n = match rest[0] {
            b'"' => string_length(rest),
            b'-' | b'+' | b'0'..=b'9' | b'a'..=b'z' | b'A'..=b'Z' => word_length(rest),
            _ => 1,
        };
        let token = &rest[..n];
        if is_non_finite(token) {
            out.extend_from_slice(b"null");
            changed = true;
        } else {
            out.extend_from_slice(token);
        }
        at += n;
    }
    changed.then_some(out)
}

fn string_length(rest: &[u8]) -> usize {
    let mut at = 1;
    while at < rest.len() {
        match rest[at] {
            b'\\' => at += 2,
            b'"' => return at + 1,
            _ => at += 1,
        }
    }
    rest.len()
}

fn word_length(rest: &[u8]) -> usize {
    let ends = |b: &u8| !(b.is_ascii_alphanumeric() || matches!(b, b'-' | b'+' | b'.'));
    rest.iter().position(ends).unwrap_or(rest.len())
}

fn is_non_finite(token: &[u8]) -> bool {
    match token {
        b"NaN" | b"Infinity" | b"-Infinity" => true,
        [b'-' | b'0'..=b'9', ..] => {
            let text = std::str::from_utf8(token).unwrap_or_default();
            text.parse::<f64>().is_ok_and(f64::is_infinite) && !text.contains(['n', 'N'])
        }
        _ => false,
    }
}

#[cfg(test)]
#[path = "json_tests.rs"]
mod tests;
