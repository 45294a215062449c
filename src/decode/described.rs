//! What the formats that name their fields have in common: any serde deserialiser is read straight into the row.
//!
//! The meaning of names is that of JSON records, and so are the reasons of a rejection; beyond that, a feature's name with
//! dots is a path through inner records.

use serde::de::{DeserializeSeed, Deserializer};

use super::field::Field;
use super::json::names::{Level, Names};
use super::json::visit::{Foreign, Reading, Record};
use super::transcribe::ToJson;
use super::{Config, Decoded, Reject};

/// Reads records of one schema's features.
pub(super) struct Described {
    names: Names,
    seen: Vec<u64>,
    reading: u64,
    passthrough: Vec<u8>,
    text: Vec<u8>,
    format: &'static str,
}

impl Described {
    /// A reader for `fields`, the features in the order of the schema.
    pub(super) fn new(config: &Config, fields: &[Field]) -> Self {
        Self {
            names: Names::new(config, fields).with_inner_records(),
            seen: vec![0; fields.len()],
            reading: 0,
            passthrough: Vec::new(),
            text: Vec::new(),
            format: config.format.name(),
        }
    }

    /// Reads a record whose time field has `time_units` in a millisecond.
    ///
    /// Errors: a [`Reject`], after which `values` holds rubbish.
    pub(super) fn read<'de, D: Deserializer<'de>>(
        &mut self,
        deserializer: D,
        time_units: i64,
        values: &mut [f32],
    ) -> Result<Decoded, Reject> {
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
            foreign: Some(Foreign { text: &mut self.text, time_units }),
        };
        let outcome = Record(&mut state, Level::Outer).deserialize(deserializer);
        if let Some(reject) = state.reject {
            return Err(reject);
        }
        outcome.map_err(|error| malformed(self.format, &error))?;
        if let (Some(field), false) = (&self.names.field, state.has_vector) {
            return Err(Reject::Malformed(format!("the record has no field `{field}` (decode.field)")));
        }
        let decoded = state.decoded;
        if !self.passthrough.is_empty() {
            self.passthrough.push(b'}');
        }
        Ok(decoded)
    }

    /// The passthrough fields of the last accepted record.
    pub(super) fn passthrough(&self) -> Option<&[u8]> {
        (!self.passthrough.is_empty()).then_some(&self.passthrough[..])
    }

    /// Refuses a record that goes on after its end.
    pub(super) fn check_end(&self, n_more: usize) -> Result<(), Reject> {
        match n_more {
            0 => Ok(()),
            n => Err(Reject::Malformed(format!("not a {} record: {n} bytes follow its end", self.format))),
        }
    }
}

/// A record as JSON text.
///
/// Errors: it does not follow the format.
pub(super) fn to_json<'de, D: Deserializer<'de>>(format: &str, deserializer: D) -> Result<Vec<u8>, Reject> {
    let mut text = Vec::new();
    ToJson(&mut text).deserialize(deserializer).map_err(|error| malformed(format, &error))?;
    Ok(text)
}

/// The rejection of bytes that do not follow the format.
pub(super) fn malformed(format: &str, error: &dyn std::fmt::Display) -> Reject {
    Reject::Malformed(format!("not a {format} record: {error}"))
}
