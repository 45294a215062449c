//! The bytes of an anomaly record: JSON, or Avro or Protobuf in the Confluent wire format.
//!
//! JSON is the record; the others are made of it by schemas that hold the same fields (`docs/schema/anomaly.avsc` and
//! `anomaly.proto`). Three things differ: times are times, numbers are doubles as JSON would be read, and what is passed
//! through is text that nobody has looked into. The registry's id of the schema is known before the first record.

mod avro;
mod protobuf;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::anomaly::Anomaly;
use crate::decode::{Written, WrittenIn};

/// How anomalies are written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Format {
    /// JSON.
    #[default]
    Json,
    /// Avro in the Confluent wire format.
    Avro,
    /// Protocol Buffers in the Confluent wire format.
    Protobuf,
}

impl Format {
    /// Its name in the configuration.
    pub fn name(self) -> &'static str {
        match self {
            Self::Json => "json",
            Self::Avro => "avro",
            Self::Protobuf => "protobuf",
        }
    }

    /// The published schema; none where the format needs no registry.
    pub fn schema(self) -> Option<Written> {
        let (kind, text) = match self {
            Self::Json => return None,
            Self::Avro => (WrittenIn::Avro, avro::TEXT),
            Self::Protobuf => (WrittenIn::Protobuf, protobuf::TEXT),
        };
        Some(Written { kind, text: text.to_owned(), references: Vec::new() })
    }
}

/// Writes anomalies in one format.
#[derive(Clone, Copy, Debug, Default)]
pub struct Encoder {
    format: Format,
    id: u32,
}

impl Encoder {
    /// Writes by the published schema of `format`, which the schema registry knows as `id`. The default writes JSON.
    pub fn new(format: Format, id: u32) -> Self {
        Self { format, id }
    }

    /// Whether it writes JSON.
    pub fn is_json(&self) -> bool {
        self.format == Format::Json
    }

    /// What the header `content-type` says of it.
    pub fn content_type(&self) -> &'static [u8] {
        match self.format {
            Format::Json => b"application/json",
            Format::Avro => b"application/avro",
            Format::Protobuf => b"application/protobuf",
        }
    }

    /// Writes `anomaly` in the place of what `value` holds.
    pub fn write(&self, anomaly: &Anomaly<'_>, value: &mut Vec<u8>) {
        value.clear();
        if self.format == Format::Json {
            return json(anomaly, value);
        }
        let document = document(anomaly, value);
        value.clear();
        value.push(0);
        value.extend(self.id.to_be_bytes());
        match self.format {
            Format::Json => {}
            Format::Avro => avro::write(&document, value),
            Format::Protobuf => protobuf::write(document, value),
        }
    }
}

fn json(anomaly: &Anomaly<'_>, text: &mut Vec<u8>) {
    serde_json::to_writer(text, anomaly).expect("the record has string keys only");
}

/// The record as its schemas know it. By way of the text: so every number is the one that a reader of the JSON finds.
fn document(anomaly: &Anomaly<'_>, text: &mut Vec<u8>) -> Value {
    json(&Anomaly { passthrough: None, ..*anomaly }, text);
    let mut document: Value = serde_json::from_slice(text).expect("JSON that was written a moment ago");
    if let Some(passthrough) = anomaly.passthrough {
        document["passthrough"] = Value::from(passthrough.get());
    }
    document
}

#[cfg(test)]
#[path = "tests.rs"]
mod tests;
