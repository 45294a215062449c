//! From the bytes of a record to a row of feature values.
//!
//! A decoder writes into a row that is all missing (`NaN`) and says what it met on the way; what it refuses, it refuses
//! with a [`Reject`] that a person can act on. Decoders know names and formats, never Kafka. Adding a format is one
//! file and three lines here.

mod avro;
mod csv;
mod datum;
mod described;
#[cfg(test)]
mod described_tests;
mod field;
mod infer;
mod json;
mod message;
mod msgpack;
mod packed;
mod protobuf;
mod seen;
mod transcribe;
mod wire;

use serde::{Deserialize, Serialize};
use thiserror::Error;

pub use avro::Avro;
pub use csv::Csv;
pub use field::Field;
pub use infer::{Hints, Holds, InferError, Inferred, Observed, infer, transcribe};
pub use json::Json;
pub use msgpack::MessagePack;
pub use packed::Packed;
pub use protobuf::{Protobuf, compile as compile_protobuf};
pub use wire::{Written, WrittenIn, schema_of};

/// Wire format of the features topic.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Format {
    /// An object of values, an array of values, or an object with the vector under [`Config::field`].
    #[default]
    Json,
    /// Raw little-endian `f32`, four bytes a feature.
    Packed,
    /// One line of cells, in the order of [`Config::columns`].
    Csv,
    /// MessagePack, of the same shapes as JSON.
    Msgpack,
    /// Avro in the Confluent wire format, with the writer's schema from a schema registry.
    Avro,
    /// Protocol Buffers in the Confluent wire format, with the writer's schema from a schema registry.
    Protobuf,
}

impl Format {
    /// Its name in the configuration.
    pub fn name(self) -> &'static str {
        match self {
            Self::Json => "json",
            Self::Packed => "packed",
            Self::Csv => "csv",
            Self::Msgpack => "msgpack",
            Self::Avro => "avro",
            Self::Protobuf => "protobuf",
        }
    }

    /// Whether records are read by schemas of a schema registry.
    pub fn needs_registry(self) -> bool {
        matches!(self, Self::Avro | Self::Protobuf)
    }
}

/// How records are decoded.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Format of the records: [RECORDS.md](RECORDS.md#in-the-features-topic).
    pub format: Format,
    /// The field that holds the vector, an array or an object; none: the whole record. Not for packed and csv.
    pub field: Option<String>,
    /// The field that holds the event time, milliseconds since the epoch or RFC 3339; none: the Kafka timestamp. Wants
    /// a format with names.
    pub time_field: Option<String>,
    /// Fields copied to the anomaly unread. Wants a format with names.
    pub passthrough: Vec<String>,
    /// csv: names of the columns in their order; empty: the features in their order.
    pub columns: Vec<String>,
    /// csv: what stands between two cells, an ASCII character.
    pub delimiter: char,
    /// Bytes of the largest payload that is accepted; a larger one is rejected, which bounds memory.
    pub payload_bytes_max: usize,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            format: Format::Json,
            field: None,
            time_field: None,
            passthrough: Vec::new(),
            columns: Vec::new(),
            delimiter: ',',
            payload_bytes_max: 1 << 20,
        }
    }
}

/// What a decoder met in a record that it accepted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Decoded {
    /// Fields whose names are not features; ignored.
    pub n_unknown: u32,
    /// Event time that the record itself carries, milliseconds since the epoch.
    pub time_ms: Option<i64>,
}

/// Why a record can't be scored. Its payload goes to the dead-letter topic with this as the reason.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum Reject {
    /// The payload has no bytes (a tombstone has no payload at all, and is skipped).
    #[error("the payload is empty")]
    Empty,
    /// The payload is larger than `decode.payload_bytes_max`.
    #[error("the payload has {bytes} bytes, decode.payload_bytes_max is {bytes_max}")]
    TooLarge {
        /// Size of the payload.
        bytes: usize,
        /// The configured limit.
        bytes_max: usize,
    },
    /// The bytes are not UTF-8.
    #[error("the payload is not UTF-8 (first bad byte at {at})")]
    InvalidUtf8 {
        /// Position of the first bad byte.
        at: usize,
    },
    /// The bytes do not follow the format.
    #[error("{0}")]
    Malformed(String),
    /// A vector with the wrong number of values.
    #[error("the vector has {got} values, the schema has {expected}")]
    WrongLength {
        /// Number of values found, or a lower bound when reading stopped early.
        got: usize,
        /// Number of features in the schema.
        expected: usize,
    },
    /// Something that is no value of the feature.
    #[error("`{field}` is {got}, expected {expected}")]
    WrongType {
        /// Name or position of the field.
        field: String,
        /// What was found.
        got: &'static str,
        /// What the feature takes.
        expected: &'static str,
    },
    /// A feature that stands twice in one record: which of the two is meant can't be known.
    #[error("`{0}` stands twice in the record")]
    DuplicateName(String),
    /// An event time that can't be read.
    #[error("`{field}` is not an event time: {message}")]
    BadTime {
        /// The configured time field.
        field: String,
        /// What is wrong with it.
        message: String,
    },
    /// The schema registry does not know the record's schema, or it can't be read by.
    #[error("the record is written by schema {id}: {message}")]
    UnknownSchema {
        /// Id of the schema in the registry.
        id: u32,
        /// What is wrong with it.
        message: String,
    },
    /// The decoder lacks a schema. This is no verdict: the record is to be decoded again when the decoder has it
    /// ([`Decoder::learn`]).
    #[error("schema {0} is needed and has not come yet")]
    NeedSchema(u32),
}

impl Reject {
    /// Every reason, as in the metric's label and the dead letter's header.
    pub const REASONS: [&str; 9] = [
        "empty",
        "too_large",
        "invalid_utf8",
        "malformed",
        "wrong_length",
        "wrong_type",
        "duplicate_name",
        "bad_time",
        "unknown_schema",
    ];

    /// The reason in one word.
    pub fn reason(&self) -> &'static str {
        Self::REASONS[match self {
            Self::Empty => 0,
            Self::TooLarge { .. } => 1,
            Self::InvalidUtf8 { .. } => 2,
            Self::Malformed(_) => 3,
            Self::WrongLength { .. } => 4,
            Self::WrongType { .. } => 5,
            Self::DuplicateName(_) => 6,
            Self::BadTime { .. } => 7,
            Self::UnknownSchema { .. } | Self::NeedSchema(_) => 8,
        }]
    }
}

/// Turns payloads into rows of one schema's features.
pub trait Decoder: Send {
    /// Writes the record's values to `values` `[n_features]`, which the caller has filled with `NaN`.
    ///
    /// Errors: a [`Reject`], after which `values` holds rubbish.
    fn decode(&mut self, payload: &[u8], values: &mut [f32]) -> Result<Decoded, Reject>;

    /// The configured passthrough fields of the last accepted record as a JSON object, if it had any.
    fn passthrough(&self) -> Option<&[u8]>;

    /// The record as JSON text, for [`infer`]; as it is where the format is `json` or `packed`.
    ///
    /// Errors: a [`Reject`], as `decode` gives it.
    fn transcribe(&mut self, payload: &[u8]) -> Result<Vec<u8>, Reject> {
        Ok(payload.to_vec())
    }

    /// Takes the schema that a [`Reject::NeedSchema`] asked for; nothing where the format has no schemas.
    fn learn(&mut self, _id: u32, _schema: &Written) {}
}

/// Makes the decoder for `fields`, the features in the order of the schema.
pub fn build(config: &Config, fields: &[Field]) -> Box<dyn Decoder> {
    match config.format {
        Format::Json => Box::new(Json::new(config, fields)),
        Format::Packed => Box::new(Packed::new(config, fields)),
        Format::Csv => Box::new(Csv::new(config, fields)),
        Format::Msgpack => Box::new(MessagePack::new(config, fields)),
        Format::Avro => Box::new(Avro::new(config, fields)),
        Format::Protobuf => Box::new(Protobuf::new(config, fields)),
    }
}

/// Refuses payloads that no format accepts.
fn check_size(payload: &[u8], bytes_max: usize) -> Result<(), Reject> {
    match payload.len() {
        0 => Err(Reject::Empty),
        bytes if bytes > bytes_max => Err(Reject::TooLarge { bytes, bytes_max }),
        _ => Ok(()),
    }
}

/// A finite `f64` as `f32`; what is too large for `f32` becomes its largest value, so that it is scored, not missing.
fn narrow(value: f64) -> f32 {
    if value.is_finite() { value.clamp(f64::from(f32::MIN), f64::from(f32::MAX)) as f32 } else { f32::NAN }
}
