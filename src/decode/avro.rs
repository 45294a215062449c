//! Avro records in the Confluent wire format, read by the schema that they were written by
//! (<https://avro.apache.org/docs/1.12.0/specification/>).
//!
//! A record of the features, an array of numbers, or a record with the vector under a configured field. Fields are found
//! by name, so a writer may add fields, which are ignored and counted, and take some away, which are missing then; a
//! reader's defaults are not asked for. A union with null is its value or missing. Decimals are numbers.

use std::io::Read;

use apache_avro::reader::datum::GenericDatumReader;
use apache_avro::schema::ResolvedSchema;
use apache_avro::{Schema, types, util};
use serde_json::Value;

use super::datum::{Datum, spelt_out};
use super::described::{Described, malformed, to_json};
use super::field::Field;
use super::wire::{Plans, Written, WrittenIn};
use super::{Config, Decoded, Decoder, Format, Reject, check_size};

/// Items of one array at most: a few bytes could claim billions of them, and have room made for them.
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
        util::max_allocation_bytes(ITEMS_MAX * size_of::<types::Value>());
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
        let schema = Schema::parse(&tree).map_err(|error| unreadable(&error))?;
        let names = ResolvedSchema::new(&schema).map_err(|error| unreadable(&error))?;
        let schema = spelt_out(&schema, names.get_names()).map_err(|error| unreadable(&error))?;
        Ok(Self { schema, time_units: time_field.map_or(1, |name| time_units(&tree, name)) })
    }

    /// The value of a record, and how many bytes follow it.
    ///
    /// Errors: the bytes are no record of the schema.
    fn value(&self, record: &[u8]) -> Result<(types::Value, usize), Reject> {
        let malformed = |error: &dyn std::fmt::Display| malformed(Format::Avro.name(), error);
        // No name is left to be looked up.
        let names = ResolvedSchema::new_with_schemata(Vec::new()).map_err(|error| malformed(&error))?;
        let reader = GenericDatumReader::builder(&self.schema).resolved_writer_schemata(names).build();
        let mut bytes = Bytes { rest: record, has_ended: false };
        let value = reader.and_then(|reader| reader.read_value(&mut bytes));
        if bytes.has_ended {
            return Err(malformed(&"it ends too soon"));
        }
        Ok((value.map_err(|error| malformed(&error))?, bytes.rest.len()))
    }
}

/// The bytes of a record. The library takes their end for a null here and there, and goes on with as many as an array
/// claims to have; another error it takes for one.
struct Bytes<'p> {
    rest: &'p [u8],
    has_ended: bool,
}

impl Read for Bytes<'_> {
    fn read(&mut self, into: &mut [u8]) -> std::io::Result<usize> {
        self.has_ended |= into.len() > self.rest.len();
        if self.has_ended {
            return Err(std::io::ErrorKind::InvalidData.into());
        }
        self.rest.read(into)
    }
}

impl Decoder for Avro {
    fn decode(&mut self, payload: &[u8], values: &mut [f32]) -> Result<Decoded, Reject> {
        check_size(payload, self.bytes_max)?;
        let (plan, record) = self.plans.find(payload)?;
        let (value, n_left) = plan.value(record)?;
        self.reader.check_end(n_left)?;
        self.reader.read(Datum { schema: &plan.schema, value: &value }, plan.time_units, values)
    }

    fn passthrough(&self) -> Option<&[u8]> {
        self.reader.passthrough()
    }

    fn transcribe(&mut self, payload: &[u8]) -> Result<Vec<u8>, Reject> {
        let (plan, record) = self.plans.find(payload)?;
        let (value, _) = plan.value(record)?;
        to_json(Format::Avro.name(), Datum { schema: &plan.schema, value: &value })
    }

    fn learn(&mut self, id: u32, schema: &Written) {
        self.plans.insert(id, Plan::new(schema, self.time_field.as_deref()));
    }
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
