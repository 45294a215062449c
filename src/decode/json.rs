//! JSON records: an object of numbers, an array of numbers, or an object with the vector under a configured field.
//!
//! The record is read once, straight into the row; no tree is built and no name is copied. Null, `NaN` and infinities
//! (as bare words, which some producers write, or as `1e400`) mean missing. Unknown names are ignored and counted;
//! an array or object in the place of a feature is refused, and so is a string or boolean where a number should be.
//!
//! There are two readers. The scanner takes the usual record, four times as fast, and gives up on every other; the
//! visitor, on serde_json, takes any record and says what is wrong with it. Their verdicts and values never differ
//! (`agree_tests.rs`), so which of them read a record can't be told from the outside.

mod layout;
pub(super) mod names;
mod non_finite;
mod number;
mod scan;
mod text;
mod time;
pub(super) mod visit;

use serde::de::DeserializeSeed;

use super::field::Field;
use super::{Config, Decoded, Decoder, Reject, check_size};
use names::{Level, Names};
pub(super) use non_finite::without_non_finite;
use scan::{Layouts, Scan};
use text::Cursor;
use visit::{Reading, Record};

/// Decoder of JSON records.
pub struct Json {
    names: Names,
    layouts: Layouts,
    bytes_max: usize,
    /// For each feature the reading in which it was last seen; tells duplicates without clearing a set.
    seen: Vec<u64>,
    /// Number of this reading.
    reading: u64,
    passthrough: Vec<u8>,
}

impl Json {
    /// Makes the decoder for `fields`, the features in the order of the schema.
    pub fn new(config: &Config, fields: &[Field]) -> Self {
        let names = Names::new(config, fields);
        Self {
            layouts: Layouts::new(&names),
            names,
            bytes_max: config.payload_bytes_max,
            seen: vec![0; fields.len()],
            reading: 0,
            passthrough: Vec::new(),
        }
    }

    /// Reads a usual record; none for any other, whether good or bad.
    fn scan(&mut self, payload: &[u8], values: &mut [f32]) -> Option<Decoded> {
        let text = std::str::from_utf8(payload).ok()?;
        self.reading += 1;
        self.passthrough.clear();
        let scan = Scan {
            names: &self.names,
            layouts: &mut self.layouts,
            seen: &mut self.seen,
            reading: self.reading,
            values,
            passthrough: &mut self.passthrough,
            cursor: Cursor::new(text),
            decoded: Decoded::default(),
            has_vector: false,
            has_words: false,
        };
        scan.run()
    }

    /// Reads any record, and refuses the bad ones.
    fn visit(&mut self, payload: &[u8], values: &mut [f32]) -> Result<Decoded, Reject> {
        let first = self.visit_once(payload, values);
        if !matches!(first, Ok(_) | Err(Reject::Malformed(_))) {
            return first;
        }
        // serde doesn't look into the strings that it ignores.
        if let Err(error) = std::str::from_utf8(payload) {
            return Err(Reject::InvalidUtf8 { at: error.valid_up_to() });
        }
        match first.is_err().then(|| without_non_finite(payload)).flatten() {
            Some(rewritten) => self.visit_once(&rewritten, values),
            None => first,
        }
    }

    fn visit_once(&mut self, payload: &[u8], values: &mut [f32]) -> Result<Decoded, Reject> {
        values.fill(f32::NAN);
        self.reading += 1;
        self.passthrough.clear();
        let mut state = Reading {
            names: &self.names,
            seen: &mut self.seen,
            reading: self.reading,
            values,
            passthrough: &mut self.passthrough,
            decoded: Decoded::default(),
            has_vector: false,
            reject: None,
            foreign: None,
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
        match self.scan(payload, values) {
            Some(decoded) => Ok(decoded),
            None => self.visit(payload, values),
        }
    }

    fn passthrough(&self) -> Option<&[u8]> {
        (!self.passthrough.is_empty()).then_some(&self.passthrough[..])
    }
}

#[cfg(test)]
#[path = "json_tests.rs"]
mod tests;

#[cfg(test)]
#[path = "json/agree_tests.rs"]
mod agree_tests;
