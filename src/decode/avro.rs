//! Avro records in the Confluent wire format, read by the schema that they were written by
//! (<https://avro.apache.org/docs/1.12.0/specification/>).
//!
//! A record of the features, an array of numbers, or a record with the vector under a configured field. Fields are found
//! by name, so a writer may add fields, which are ignored and counted, and take some away, which are missing then; a
//! reader's defaults are not asked for. A union with null is its value or missing. Decimals are numbers.

use serde_avro_fast::Schema;
use serde_avro_fast::de::read::SliceRead;
use serde_avro_fast::de::{DeserializerConfig, DeserializerState};
use serde_json::Value;

use super::described::{Described, to_json};
use super::field::Field;
use super::wire::{Plans, Written, WrittenIn};
use super::{Config, Decoded, Decoder, Format, Reject, check_size};

/// Items of one array at most: nulls take no bytes, and so a few bytes could claim billions of them.
const ITEMS_MAX: usize = 1 << 20;

/// Decoder of Avro records.
pub struct Avro {
    reader: Described,
    bytes_max: usize,
    time_field: Option<String>,
    plans: Plans<Plan>,
}

/// What is known of one writer's schema.
struct Plan {
    schema: Schema,
    /// Units of the time field in a millisecond.
    time_units: i64,
}

impl Avro {
    /// Makes the decoder for `fields`, the features in the order of the schema.
    pub fn new(config: &Config, fields: &[Field]) -> Self {
        Self {
            reader: Described::new(config, fields),
            bytes_max: config.payload_bytes_max,
            time_field: config.time_field.clone(),
            plans: Plans::new(),
        }
    }
}

impl Plan {
    fn new(written: &Written, time_field: Option<&str>) -> Result<Self, String> {
        if written.kind != WrittenIn::Avro {
            return Err("it is no Avro schema, and decode.format is `avro`".to_owned());
        }
        let unreadable = |error: &dyn std::fmt::Display| format!("it can't be read by: {error}");
        let mut tree: Value = serde_json::from_str(&written.text).or_else(|error| match written.text.trim() {
            // The name of a type alone may come without quotes.
            name if name.chars().all(|letter| letter.is_ascii_alphanumeric()) => Ok(Value::from(name)),
            _ => Err(unreadable(&error)),
        })?;
        inline(&mut tree, &written.references).map_err(|error| unreadable(&error))?;
        let schema: Schema = tree.to_string().parse().map_err(|error| unreadable(&error))?;
        Ok(Self { schema, time_units: time_field.map_or(1, |name| time_units(&tree, name)) })
    }

    fn state<'s, 'p>(&'s self, record: &'p [u8]) -> DeserializerState<'s, SliceRead<'p>> {
        let mut config = DeserializerConfig::new(&self.schema);
        config.max_seq_size = ITEMS_MAX;
        DeserializerState::with_config(SliceRead::new(record), config)
    }
}

impl Decoder for Avro {
    fn decode(&mut self, payload: &[u8], values: &mut [f32]) -> Result<Decoded, Reject> {
        check_size(payload, self.bytes_max)?;
        let (plan, record) = self.plans.find(payload)?;
        let mut state = plan.state(record);
        let decoded = self.reader.read(state.deserializer(), plan.time_units, values)?;
        self.reader.check_end(n_left(state))?;
        Ok(decoded)
    }

    fn passthrough(&self) -> Option<&[u8]> {
        self.reader.passthrough()
    }

    fn transcribe(&mut self, payload: &[u8]) -> Result<Vec<u8>, Reject> {
        let (plan, record) = self.plans.find(payload)?;
        to_json(Format::Avro.name(), plan.state(record).deserializer())
    }

    fn learn(&mut self, id: u32, schema: &Written) {
        self.plans.insert(id, Plan::new(schema, self.time_field.as_deref()));
    }
}

/// Bytes that were not read.
fn n_left(state: DeserializerState<'_, SliceRead<'_>>) -> usize {
    use std::io::BufRead;
    state.into_reader().fill_buf().map_or(0, <[u8]>::len)
}

/// Puts schemas that are referred to by name in the place of the first use of their name.
fn inline(tree: &mut Value, references: &[(String, String)]) -> Result<(), serde_json::Error> {
    let mut open: Vec<(String, Value)> = Vec::new();
    for (name, text) in references {
        open.push((name.clone(), serde_json::from_str(text)?));
    }
    put(tree, &mut open);
    Ok(())
}

fn put(node: &mut Value, open: &mut Vec<(String, Value)>) {
    match node {
        Value::String(name) => {
            if let Some(at) = open.iter().position(|(known, _)| known == name) {
                let (_, mut schema) = open.remove(at);
                put(&mut schema, open);
                *node = schema;
            }
        }
        Value::Array(branches) => branches.iter_mut().for_each(|branch| put(branch, open)),
        Value::Object(object) => {
            for key in ["type", "items", "values"] {
                if let Some(inner) = object.get_mut(key) {
                    put(inner, open);
                }
            }
            for field in object.get_mut("fields").and_then(Value::as_array_mut).into_iter().flatten() {
                if let Some(inner) = field.get_mut("type") {
                    put(inner, open);
                }
            }
        }
        _ => {}
    }
}

/// Units of the field `name` in a millisecond, by its logical type.
fn time_units(tree: &Value, name: &str) -> i64 {
    let fields = tree["fields"].as_array();
    let field = fields.and_then(|fields| fields.iter().find(|field| field["name"] == name));
    let Some(of) = field.map(|field| &field["type"]) else { return 1 };
    let branches = of.as_array().map_or(std::slice::from_ref(of), Vec::as_slice);
    let logical = branches.iter().find_map(|branch| branch["logicalType"].as_str()).unwrap_or_default();
    match logical.trim_start_matches("local-") {
        "timestamp-micros" => 1_000,
        "timestamp-nanos" => 1_000_000,
        _ => 1,
    }
}

#[cfg(test)]
#[path = "avro_tests.rs"]
mod tests;
