//! `strayd explain`: the anomaly record of one row or record, whatever its score, and why a record was or wasn't published.

mod record;

use std::io::Write;
use std::path::PathBuf;
use std::sync::Arc;

use anyhow::{Context, anyhow, bail};
use clap::Args;
use serde_json::Value;

use super::shown::{cleanse, escaped};
use super::table::{Table, texts_of_schema};
use super::{ConfigOptions, file_config};
use crate::app;
use crate::batch::{Batch, Carried};
use crate::config::Config;
use crate::model::Model;
use crate::pipeline::publish::Publisher;
use crate::record::{RecordId, Topics};
use crate::registry::load_labelled;
use crate::sink::{Channel, MemorySink, Sink};
use crate::telemetry::Metrics;
use crate::telemetry::health::Health;

/// Options of `strayd explain`.
#[derive(Debug, Args)]
#[command(group = clap::ArgGroup::new("which").required(true).args(["row", "record"]))]
pub struct Options {
    /// CSV file with a header, .gz or not (with --row)
    file: Option<PathBuf>,
    /// Directory of the model, as `strayd train` or the registry wrote it [with --record: the version that scored it, as
    /// far as the scores topic tells, else the current one]
    #[arg(long, conflicts_with = "version")]
    model: Option<PathBuf>,
    /// Version of the registry to judge a record by
    #[arg(long, requires = "record")]
    version: Option<u64>,
    /// Row of the file, counted from 0
    #[arg(long, requires_all = ["file", "model"])]
    row: Option<usize>,
    /// Record of a topic; brokers and format come from the configuration
    #[arg(long, value_name = "TOPIC/PARTITION/OFFSET")]
    record: Option<String>,
    /// Column of the file that is no feature
    #[arg(long)]
    label: Option<String>,
    /// Prints one JSON document instead of text
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    config: ConfigOptions,
}

/// Explains one row or record.
pub fn run(options: &Options) -> anyhow::Result<()> {
    let document = match (&options.record, options.row) {
        (Some(record), _) => record::explain(options, record)?,
        (None, Some(row)) => of_file(options, row)?,
        (None, None) => bail!("--row or --record is needed"),
    };
    if options.json {
        writeln!(std::io::stdout(), "{}", escaped(&document.to_string()))?;
    } else {
        print_record(document, &mut std::io::stdout().lock())?;
    }
    Ok(())
}

/// The anomaly record of a row of a file, as the daemon would publish it.
fn of_file(options: &Options, row: usize) -> anyhow::Result<Value> {
    let directory = options.model.as_ref().ok_or_else(|| anyhow!("--row wants --model"))?;
    let model = load_labelled(directory)?;
    let file = options.file.as_ref().ok_or_else(|| anyhow!("--row wants a file"))?;
    let table = Table::read(file, options.label.as_deref(), &texts_of_schema(&model.schema))?;
    table.check(&model)?;
    let payload = table.payloads().into_iter().nth(row);
    let payload = payload.with_context(|| format!("--row {row}: {} has {} rows", file.display(), table.rows.len()))?;
    let mut raw = file_config(&options.config.load_for_file()?, table.format());
    raw.input.topic = Topics::one(file.file_name().map_or_else(|| "file".into(), |name| name.to_string_lossy()));
    record_of(&Config::check(raw)?, &model, RecordId { partition: 0.into(), offset: row as i64 }, &payload)
}

/// The anomaly record as the daemon would publish it.
///
/// Errors: the record can't be decoded, or holds too little to be scored.
pub fn record_of(config: &Config, model: &Model, id: RecordId, payload: &[u8]) -> anyhow::Result<Value> {
    let shared = app::shared(config, Arc::new(Metrics::new()), Health::new(1));
    let mut decoder = shared.decoder(model);
    let mut batch = Batch::new(1, model.n_features());
    let decoded = decoder.decode(payload, batch.slot())?;
    let carried = Carried { passthrough: decoder.passthrough(), ..Carried::default() };
    batch.push(id, decoded.time_ms.unwrap_or(0), carried);
    let sink = Arc::new(MemorySink::default());
    let publisher = Publisher::new(&shared, 0, Arc::clone(&sink) as Arc<dyn Sink>);
    crate::pipeline::lane::explain(&shared, model, &batch, None, &publisher)?;
    let sent = sink.take().into_iter().find(|sent| sent.channel == Channel::Anomalies);
    let sent = sent.context("the record has too few observed values to be scored")?;
    Ok(serde_json::from_slice(&sent.value)?)
}

/// Prints it for people.
fn print_record(mut record: Value, out: &mut impl Write) -> std::io::Result<()> {
    cleanse(&mut record);
    let text = |value: &Value| value.as_f64().map_or_else(|| "-".into(), |value| format!("{value:.4}"));
    if let Some(outcome) = record["outcome"].as_object() {
        let said = |key: &str| outcome[key].as_str().unwrap_or_default();
        writeln!(out, "{}\n{}", said("text"), said("view"))?;
        if record["score"].is_null() {
            return Ok(());
        }
        writeln!(out)?;
    }
    writeln!(out, "{}", record["summary"].as_str().unwrap_or_default())?;
    let score = &record["score"];
    writeln!(out, "score {} of the threshold, p = {}", text(&score["ratio"]), score["p_value"])?;
    writeln!(out, "\n{:<28} {:>12} {:>12} {:>9} {:>7}", "feature", "actual", "expected", "residual", "share")?;
    let word = |value: &Value| match value {
        Value::String(word) => word.clone(),
        Value::Bool(value) => value.to_string(),
        number => text(number),
    };
    for feature in record["features"].as_array().into_iter().flatten() {
        let name = feature["name"].as_str().unwrap_or_default();
        let [actual, expected] = [word(&feature["actual"]), word(&feature["expected"])];
        let sigma = feature["residual_z"].as_f64().unwrap_or_default();
        let share = 100.0 * feature["contribution"].as_f64().unwrap_or_default();
        writeln!(out, "{name:<28} {actual:>12} {expected:>12} {sigma:>7.1} σ {share:>5.1} %")?;
    }
    writeln!(
        out,
        "{:<28} {:>44.1} %",
        "all other features",
        100.0 * record["unexplained"].as_f64().unwrap_or_default()
    )?;
    let patterns = record["patterns"].as_array().map_or(&[][..], Vec::as_slice);
    if !patterns.is_empty() {
        writeln!(out, "\n{:<28} {:>12} {:>12} {:>9} {:>7}", "pattern", "activation", "usual", "99 %", "share")?;
    }
    for pattern in patterns {
        let name = format!("{} {}", pattern["latent"], pattern["name"].as_str().unwrap_or_default());
        let [activation, usual, p99] = ["activation", "usual", "p99"].map(|field| text(&pattern[field]));
        let share = 100.0 * pattern["contribution"].as_f64().unwrap_or_default();
        let role = pattern["role"].as_str().unwrap_or_default();
        writeln!(out, "{name:<28} {activation:>12} {usual:>12} {p99:>9} {share:>5.1} %  {role}")?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_record_says_moves_no_terminal() {
        let record = serde_json::json!({
            "summary": "\u{1b}]2;a\u{7}", "score": {"ratio": 2.0, "p_value": 0.1},
            "features": [{"name": "\u{1b}[2Jb", "actual": "\u{9b}c", "expected": 1.0}],
            "patterns": [{"latent": 1, "name": "\u{1b}[3Jd", "role": "stronger"}],
        });
        let mut out = Vec::new();
        print_record(record, &mut out).expect("memory can be written");
        let text = String::from_utf8(out).expect("text");
        assert!(["␛]2;a␇", "␛[2Jb", "\u{fffd}c", "␛[3Jd"].iter().all(|part| text.contains(part)), "{text}");
        assert!(!text.chars().any(|letter| letter.is_control() && letter != '\n'), "{text:?}");
    }
}
