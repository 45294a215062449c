//! `strayd schema`: the JSON Schemas of the records that strayd writes, and of the feedback that it reads; of anomalies also the
//! schemas in Avro and Protobuf.

use anyhow::bail;
use clap::{Args, ValueEnum};

use crate::sink::Format;

/// Options of `strayd schema`.
#[derive(Debug, Args)]
pub struct Options {
    /// The record
    #[arg(value_enum)]
    name: Name,
    /// Language of the schema: avro and protobuf are for anomalies, as output.format
    #[arg(long, value_enum, default_value = "json")]
    format: Language,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Language {
    /// JSON Schema
    Json,
    /// Avro
    Avro,
    /// Protocol Buffers
    Protobuf,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Name {
    /// A record of the anomalies topic
    Anomaly,
    /// A record of the scores topic
    Score,
    /// A record of the incidents topic
    Incident,
    /// A record of the feedback topic
    Feedback,
}

/// Prints a schema.
pub fn run(options: &Options) -> anyhow::Result<()> {
    let format = match options.format {
        Language::Json => Format::Json,
        Language::Avro => Format::Avro,
        Language::Protobuf => Format::Protobuf,
    };
    if let Some(schema) = format.schema() {
        if !matches!(options.name, Name::Anomaly) {
            bail!("--format {}: only anomalies are written so; the other records are JSON", format.name());
        }
        print!("{}", schema.text);
        return Ok(());
    }
    let schema = match options.name {
        Name::Anomaly => include_str!("../../docs/schema/anomaly.json"),
        Name::Score => include_str!("../../docs/schema/score.json"),
        Name::Feedback => include_str!("../../docs/schema/feedback.json"),
        Name::Incident => include_str!("../../docs/schema/incident.json"),
    };
    print!("{schema}");
    Ok(())
}
