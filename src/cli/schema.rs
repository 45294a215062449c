//! `strayd schema`: the JSON Schemas of the records that strayd writes, and of the feedback that it reads.

use clap::{Args, ValueEnum};

/// Options of `strayd schema`.
#[derive(Debug, Args)]
pub struct Options {
    /// The record
    #[arg(value_enum)]
    name: Name,
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
    let schema = match options.name {
        Name::Anomaly => include_str!("../../docs/schema/anomaly.json"),
        Name::Score => include_str!("../../docs/schema/score.json"),
        Name::Feedback => include_str!("../../docs/schema/feedback.json"),
        Name::Incident => include_str!("../../docs/schema/incident.json"),
    };
    print!("{schema}");
    Ok(())
}
