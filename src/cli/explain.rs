//! `strayd explain`: the anomaly record of one row or record, whatever its score.

use std::io::Write;
use std::path::PathBuf;
use std::sync::Arc;

use anyhow::{Context, anyhow, bail};
use clap::Args;

use super::table::{Table, texts_of_schema};
use super::{ConfigOptions, file_config};
use crate::app;
use crate::batch::{Batch, Carried};
use crate::config::Config;
use crate::decode;
use crate::history::{History, Range, TopicHistory};
use crate::model::{Model, features};
use crate::pipeline::publish::Publisher;
use crate::record::RecordId;
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
    /// Directory of the model, as `strayd train` or the registry wrote it
    #[arg(long)]
    model: PathBuf,
    /// Row of the file, counted from 0
    #[arg(long, requires = "file")]
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
    let model = Arc::new(load_labelled(&options.model)?);
    let (config, id, payload, time_ms) = match (&options.record, options.row) {
        (Some(record), _) => of_topic(options, record)?,
        (None, Some(row)) => of_file(options, row, &model)?,
        (None, None) => bail!("--row or --record is needed"),
    };
    let record = record_of(&config, &model, id, time_ms, &payload)?;
    if options.json {
        writeln!(std::io::stdout(), "{record}")?;
    } else {
        print_record(&serde_json::from_str(&record)?, &mut std::io::stdout().lock())?;
    }
    Ok(())
}

type Found = (Config, RecordId, Vec<u8>, i64);

fn of_file(options: &Options, row: usize, model: &Model) -> anyhow::Result<Found> {
    let file = options.file.as_ref().ok_or_else(|| anyhow!("--row wants a file"))?;
    let table = Table::read(file, options.label.as_deref(), &texts_of_schema(&model.schema))?;
    table.check(model)?;
    let payload = table.payloads().into_iter().nth(row);
    let payload = payload.with_context(|| format!("--row {row}: {} has {} rows", file.display(), table.rows.len()))?;
    let mut raw = file_config(&options.config.load_for_file()?, table.format());
    raw.input.topic = file.file_name().map_or_else(|| "file".into(), |name| name.to_string_lossy().into_owned());
    Ok((Config::check(raw)?, RecordId { partition: 0, offset: row as i64 }, payload, 0))
}

fn of_topic(options: &Options, record: &str) -> anyhow::Result<Found> {
    let parts: Vec<&str> = record.rsplitn(3, '/').collect();
    let [offset, partition, topic] = parts[..] else {
        bail!("--record {record}: expected TOPIC/PARTITION/OFFSET");
    };
    let number =
        |what: &str, text: &str| text.parse::<i64>().with_context(|| format!("--record {record}: {what} `{text}`"));
    let (partition, offset) = (number("partition", partition)? as i32, number("offset", offset)?);
    let mut config = options.config.clone();
    config.overrides.push(("input.topic".into(), topic.into()));
    let config = config.load()?;
    let mut history = TopicHistory::new(&config.kafka, topic, config.history.read_timeout).map_err(|e| anyhow!(e))?;
    let mut found = None;
    let range = Range { partition, start: offset, end: offset + 1 };
    let read = history.read(&[range], &mut |past| found = Some((past.payload.map(<[u8]>::to_vec), past.time_ms)));
    read.map_err(|reason| anyhow!("{record}: {reason}"))?;
    match found {
        None => bail!("{record}: there is no such record; retention may have removed it"),
        Some((None, _)) => bail!("{record}: it is a tombstone"),
        Some((Some(payload), time_ms)) => Ok((config, RecordId { partition, offset }, payload, time_ms)),
    }
}

/// The anomaly record as the daemon would publish it.
fn record_of(
    config: &Config,
    model: &Arc<Model>,
    id: RecordId,
    time_ms: i64,
    payload: &[u8],
) -> anyhow::Result<String> {
    let mut decoder = decode::build(&config.decode, &features::fields(&model.schema));
    let mut batch = Batch::new(1, model.n_features());
    let decoded = decoder.decode(payload, batch.slot())?;
    let carried = Carried { passthrough: decoder.passthrough(), ..Carried::default() };
    batch.push(id, decoded.time_ms.unwrap_or(time_ms), carried);
    let sink = Arc::new(MemorySink::default());
    let shared = app::shared(config, Arc::new(Metrics::new()), Health::new(1));
    let publisher = Publisher::new(&shared, 0, Arc::clone(&sink) as Arc<dyn Sink>);
    crate::pipeline::lane::explain(&shared, model, &batch, &publisher)?;
    let sent = sink.take().into_iter().find(|sent| sent.channel == Channel::Anomalies);
    let sent = sent.context("the record has too few observed values to be scored")?;
    Ok(String::from_utf8(sent.value)?)
}

fn print_record(record: &serde_json::Value, out: &mut impl Write) -> std::io::Result<()> {
    let text = |value: &serde_json::Value| value.as_f64().map_or_else(|| "-".into(), |value| format!("{value:.4}"));
    writeln!(out, "{}", record["summary"].as_str().unwrap_or_default())?;
    let score = &record["score"];
    writeln!(out, "score {} of the threshold, p = {}", text(&score["ratio"]), score["p_value"])?;
    writeln!(out, "\n{:<28} {:>12} {:>12} {:>9} {:>7}", "feature", "actual", "expected", "residual", "share")?;
    let word = |value: &serde_json::Value| match value {
        serde_json::Value::String(word) => word.clone(),
        serde_json::Value::Bool(value) => value.to_string(),
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
