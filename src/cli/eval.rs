//! `strayd eval`: replays a labelled file through the pipeline that `run` uses, and measures what is found.
//!
//! Prequential: every row is scored before anything learns from it.

mod quality;

use std::path::PathBuf;
use std::time::Instant;

use anyhow::{Context, bail};
use clap::{Args, ValueEnum};
use serde::{Deserialize, Serialize};

use super::local::Local;
use super::table::{Table, texts_of_wishes};
use super::{ConfigOptions, progress_bar};
use crate::pipeline::trainer::Ticked;
use crate::sink::Channel;

/// Options of `strayd eval`.
#[derive(Debug, Args)]
pub struct Options {
    /// CSV file with a header, .gz or not
    file: PathBuf,
    /// Column that says which rows are anomalies: 0 is normal, anything else is not
    #[arg(long, default_value = "label")]
    label: String,
    /// Rows of history that the first model is trained on [default: a tenth of the rows, 256 to 2048]
    #[arg(long)]
    warmup: Option<usize>,
    /// What the history is
    #[arg(long, value_enum, default_value_t = Protocol::Prefix)]
    protocol: Protocol,
    /// Seed of the training
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// Trains no model after the first
    #[arg(long)]
    no_retrain: bool,
    /// Prints one JSON document
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    config: ConfigOptions,
}

/// What the history is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Serialize)]
#[serde(rename_all = "snake_case")]
enum Protocol {
    /// The first rows, whatever their labels; they are not scored. What a daemon meets
    Prefix,
    /// The first rows labelled 0; then all rows are scored. The literature's clean start
    Normal,
}

/// What was measured.
#[derive(Debug, Serialize)]
struct Report {
    rows: usize,
    scored: usize,
    auc_roc: Option<f64>,
    auc_pr: Option<f64>,
    target_alert_rate: f64,
    alert_rate: f64,
    precision: f64,
    recall: f64,
    f1: f64,
    rows_per_second: f64,
    models_promoted: u64,
    seed: u64,
    protocol: Protocol,
    warmup: usize,
}

/// What is read back of a published score.
#[derive(Deserialize)]
struct ScoredRow {
    source: Source,
    score: Score,
}

#[derive(Deserialize)]
struct Source {
    offset: usize,
}

#[derive(Deserialize)]
struct Score {
    z: f64,
    ratio: f64,
}

/// Evaluates a file.
pub fn run(options: &Options) -> anyhow::Result<()> {
    let mut config = options.config.clone();
    config.overrides.push(("training.seed".into(), options.seed.to_string()));
    if options.no_retrain {
        config.overrides.push(("training.enabled".into(), "false".into()));
    }
    let config = config.load_for_file()?;
    let texts = texts_of_wishes(&config.schema.features);
    let table = Table::read(&options.file, Some(&options.label), &texts)?;
    let n_rows = table.rows.len();
    let warmup = options.warmup.unwrap_or((n_rows / 10).clamp(256, 2048)).min(n_rows / 2);
    let (history, rows) = split(&table, options.protocol, warmup)?;

    let mut local = Local::new(&config, "file", &table, &history, &rows)?;
    let mut models_promoted = 0;
    match local.train()? {
        Ticked::Promoted(_) => models_promoted += 1,
        Ticked::Nothing => {}
        Ticked::Waiting(reason) | Ticked::Failed(reason) => bail!("no model could be trained: {reason}"),
    }
    let bar = progress_bar(rows.len() as u64, "scoring");
    let (mut scores, mut labels, mut alerts) = (Vec::new(), Vec::new(), Vec::new());
    let began = Instant::now();
    loop {
        let read = local.step(&mut |channel, value| {
            if channel == Channel::Scores {
                let row: ScoredRow = serde_json::from_slice(value).context("a published score")?;
                scores.push(row.score.z);
                alerts.push(row.score.ratio > 1.0);
                labels.push(table.labels[rows[row.source.offset - history.len()]]);
            }
            Ok(())
        })?;
        let Some(n) = read else { break };
        bar.inc(n as u64);
        models_promoted += u64::from(matches!(local.train()?, Ticked::Promoted(_)));
    }
    bar.finish_and_clear();
    let seconds = began.elapsed().as_secs_f64();
    let found = quality::at_threshold(&alerts, &labels);
    let report = Report {
        rows: n_rows,
        scored: scores.len(),
        auc_roc: quality::auc_roc(&scores, &labels),
        auc_pr: quality::auc_pr(&scores, &labels),
        target_alert_rate: config.threshold.target_alert_rate(),
        alert_rate: found.alert_rate,
        precision: found.precision,
        recall: found.recall,
        f1: found.f1,
        rows_per_second: rows.len() as f64 / seconds.max(1e-9),
        models_promoted,
        seed: options.seed,
        protocol: options.protocol,
        warmup: history.len(),
    };
    if options.json {
        println!("{}", serde_json::to_string(&report)?);
    } else {
        print_report(&report);
    }
    Ok(())
}

/// Row numbers of the history and of what is scored.
fn split(table: &Table, protocol: Protocol, warmup: usize) -> anyhow::Result<(Vec<usize>, Vec<usize>)> {
    let n_rows = table.rows.len();
    match protocol {
        Protocol::Prefix => Ok(((0..warmup).collect(), (warmup..n_rows).collect())),
        Protocol::Normal => {
            let normal: Vec<usize> = (0..n_rows).filter(|&row| !table.labels[row]).take(warmup).collect();
            if normal.len() < warmup {
                bail!("--warmup {warmup}: only {} rows are labelled 0", normal.len());
            }
            Ok((normal, (0..n_rows).collect()))
        }
    }
}

fn print_report(report: &Report) {
    let or_dash = |value: Option<f64>| value.map_or_else(|| "-".to_owned(), |value| format!("{value:.4}"));
    println!("rows        {} ({} scored, {} of history)", report.rows, report.scored, report.warmup);
    println!("AUC-ROC     {}", or_dash(report.auc_roc));
    println!("AUC-PR      {}", or_dash(report.auc_pr));
    println!("alerts      {:.5} of the rows (target {:.5})", report.alert_rate, report.target_alert_rate);
    println!("precision   {:.3}   recall {:.3}   F1 {:.3}", report.precision, report.recall, report.f1);
    println!("models      {} promoted", report.models_promoted);
    println!("speed       {:.0} rows/s, training included", report.rows_per_second);
}
