//! `strayd eval`: replays a labelled file through the pipeline that `run` uses, and measures what is found.

use std::path::PathBuf;

use clap::Args;
use serde::Serialize;

use super::evaluate::{Detector, Protocol, Split, Task, evaluate, read_table};
use super::{ConfigOptions, progress_bar};
use crate::score::ranking;

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

/// Evaluates a file.
pub fn run(options: &Options) -> anyhow::Result<()> {
    let mut config = options.config.clone().with("training.seed", &options.seed.to_string());
    if options.no_retrain {
        config = config.with("training.enabled", "false");
    }
    let config = config.load_for_file()?;
    let table = read_table(&options.file, Some(&options.label), &config)?;
    let split = Split::new(&table, options.protocol, options.warmup)?;
    let bar = progress_bar(split.rows.len() as u64, "scoring");
    let task = Task { config: &config, table: &table, split: &split, detector: Detector::Configured };
    let outcome = evaluate(task, &mut |_, places| {
        bar.set_position(places.end as u64);
        Ok(())
    })?;
    bar.finish_and_clear();
    let labels = outcome.labels(&table, &split);
    let found = ranking::at_threshold(&outcome.alerts, &labels);
    let seconds = (outcome.scoring + outcome.training).as_secs_f64();
    let report = Report {
        rows: table.rows.len(),
        scored: outcome.scores.len(),
        auc_roc: ranking::auc_roc(&outcome.scores, &labels),
        auc_pr: ranking::auc_pr(&outcome.scores, &labels),
        target_alert_rate: config.threshold.target_alert_rate(),
        alert_rate: found.alert_rate,
        precision: found.precision,
        recall: found.recall,
        f1: found.f1,
        rows_per_second: split.rows.len() as f64 / seconds.max(1e-9),
        models_promoted: outcome.models_promoted,
        seed: options.seed,
        protocol: options.protocol,
        warmup: split.history.len(),
    };
    if options.json {
        println!("{}", serde_json::to_string(&report)?);
    } else {
        print_report(&report);
    }
    Ok(())
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
