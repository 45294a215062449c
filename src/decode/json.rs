//! JSON records: an object of numbers, an array of numbers, or an object with the vector under a configured field.
//!
//! The record is read once, straight into the row; no tree is built and no name is copied. Null, `NaN` and infinities
//! (as bare words, which some producers write, or as `1e400`) mean missing. Unknown names are ignored and counted;
//! an array or object in the place of a feature is refused, and so is a string or boolean where a number should be.

mod names;
mod non_finite;
mod time;
mod visit;

use serde::de::DeserializeSeed;

use super::field::Field;
use super::{Config, Decoded, Decoder, Reject, check_size};
use names::{Level, Names};
pub(super) use non_finite::without_non_finite;
use visit::{Reading, Record};

/// Decoder of JSON records.
pub struct Json {
    names: Names,
    bytes_max: usize,
    /// For each feature the record in which it was last seen; tells duplicates without clearing a set.
    seen: Vec<u64>,
    record: u64,
    passthrough: Vec<u8>,
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

#[cfg(test)]
#[path = "json_tests.rs"]
mod tests;
