//! `strayd threshold`: replays scores through a family of thresholds, or synthetic scenarios through all of them.

pub mod replay;
pub mod scenarios;

use std::io::Write;
use std::path::PathBuf;

use anyhow::{Context, bail};
use clap::Args;
use serde::Serialize;

use super::table::Table;
use super::{ConfigOptions, progress_bar};
use crate::threshold::{Calibration, Config, Kind, Target, Verdict};
use replay::{Outcome, judge, measure};
use scenarios::{N_WARMUP, Scenario, Truth};

/// Options of `strayd threshold`.
#[derive(Debug, Args)]
#[command(
    after_help = "A file needs one column of scores, such as `strayd score` gives (score.raw), in the order of time. \
                        Its first rows calibrate the threshold, as held-out rows do for a model; the others are judged.\n\n\
                        --scenarios prints, for each scenario and family: false alerts per ordinary record in units of the \
                        target | share of windows of 20,000 records within a factor of 2 of it | factor of the worst one | \
                        recall of the anomalies."
)]
pub struct Options {
    /// CSV file with a header, .gz or not
    #[arg(required_unless_present = "scenarios", conflicts_with = "scenarios")]
    file: Option<PathBuf>,
    /// Column of the raw scores: above 0, higher is odder
    #[arg(long, default_value = "score")]
    column: String,
    /// Column that says which rows are anomalous: recall is measured, and rate and windows count ordinary rows alone
    #[arg(long)]
    label: Option<String>,
    /// First rows, which calibrate
    #[arg(long, default_value_t = 2000)]
    warmup: usize,
    /// Family, instead of the configured one: adaptive_pot, fixed, quantile, spot, conformal
    #[arg(long, value_parser = kind)]
    kind: Option<Kind>,
    /// Target alert rate, instead of the configured one
    #[arg(long, value_name = "RATE")]
    target: Option<f64>,
    /// Replays the synthetic scenarios through every family, instead of a file
    #[arg(long)]
    scenarios: bool,
    /// Streams of each scenario
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u64).range(1..=100))]
    seeds: u64,
    /// Prints one JSON document
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    config: ConfigOptions,
}

fn kind(text: &str) -> Result<Kind, String> {
    let names = || Kind::ALL.map(Kind::as_str).join(", ");
    Kind::ALL.into_iter().find(|kind| kind.as_str() == text).ok_or_else(|| format!("expected one of {}", names()))
}

/// Replays a file or the scenarios.
pub fn run(options: &Options) -> anyhow::Result<()> {
    let mut config = options.config.load_for_file()?.threshold.clone();
    config.kind = options.kind.unwrap_or(config.kind);
    config.target_alert_rate = options.target.unwrap_or(config.target_alert_rate);
    if let Err(problems) = config.check() {
        bail!("the threshold: {}", problems.join("; "));
    }
    let mut out = std::io::BufWriter::new(std::io::stdout().lock());
    match &options.file {
        Some(file) => replay_file(&mut out, file, &config, options)?,
        None => replay_scenarios(&mut out, &config, options)?,
    }
    out.flush()?;
    Ok(())
}

/// An alert on a row of a file.
#[derive(Serialize)]
struct Alert {
    /// Row after the header, from 1.
    row: usize,
    score: f64,
    threshold: f64,
    p_value: f64,
    shifted: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    anomalous: Option<bool>,
}

fn replay_file(out: &mut impl Write, file: &std::path::Path, config: &Config, options: &Options) -> anyhow::Result<()> {
    let name = file.display();
    let table = Table::read(file, options.label.as_deref(), &[])?;
    let at = table.names.iter().position(|name| *name == options.column).with_context(|| {
        format!("{name}: there is no column `{}`; there are {}", options.column, table.names.join(", "))
    })?;
    let n_warmup = options.warmup;
    if table.rows.len() <= n_warmup {
        bail!("{name} has {} rows, and the first {n_warmup} calibrate (--warmup)", table.rows.len());
    }
    let scores: Vec<f64> = table.rows.iter().map(|row| f64::from(row[at])).collect();
    if let Some(row) = scores.iter().position(|score| *score < 0.0) {
        bail!("{name}: row {}: a score is {}, it must be at least 0", row + 1, scores[row]);
    }
    let log_scores: Vec<f64> = scores.iter().map(|score| Calibration::log(*score)).collect();
    let (calibration, verdicts) = judge(config, &log_scores, n_warmup);
    let labels = table.labels.get(n_warmup..).unwrap_or_default();
    let of = |row: usize| if labels.get(row).copied().unwrap_or(false) { Truth::Anomalous } else { Truth::Ordinary };
    let truth: Vec<Truth> = (0..verdicts.len()).map(of).collect();
    let outcome = measure(&verdicts, &truth, config.target_alert_rate);
    let alert = |(i, verdict): (usize, &Verdict)| Alert {
        row: n_warmup + i + 1,
        score: scores[n_warmup + i],
        threshold: calibration.raw(verdict.z_at_alert),
        p_value: verdict.p_value,
        shifted: verdict.shifted,
        anomalous: labels.get(i).copied(),
    };
    let alerts = verdicts.iter().enumerate().filter(|(_, verdict)| verdict.anomalous || verdict.shifted).map(alert);
    if options.json {
        let alerts: Vec<Alert> = alerts.collect();
        let document = serde_json::json!({ "threshold": config, "outcome": outcome, "alerts": alerts });
        writeln!(out, "{document}")?;
        return Ok(());
    }
    for alert in alerts {
        let label = alert.anomalous.map_or("", |anomalous| if anomalous { "  anomalous" } else { "  ordinary" });
        let shift = if alert.shifted { "  the scores have shifted for good" } else { "" };
        let (score, limit, p) = (alert.score, alert.threshold, alert.p_value);
        writeln!(out, "row {:<9} score {score:<11.5} threshold {limit:<11.5} p {p:.1e}{label}{shift}", alert.row)?;
    }
    print_outcome(out, &outcome, config)?;
    Ok(())
}

fn print_outcome(out: &mut impl Write, outcome: &Outcome, config: &Config) -> std::io::Result<()> {
    let (n, n_false, q) = (outcome.n_ordinary, outcome.n_false_alerts, config.target_alert_rate);
    let shifts = if outcome.n_shifts == 1 { "1 shift".into() } else { format!("{} shifts", outcome.n_shifts) };
    writeln!(out, "\n{}: {} alerts, {shifts}", config.kind.as_str(), outcome.n_alerts)?;
    writeln!(out, "{n_false} of {n} ordinary rows alerted: {:.2} of the target {q:e}", outcome.rate)?;
    match (outcome.windows_within_2x, outcome.worst_factor) {
        (Some(share), Some(worst)) => writeln!(
            out,
            "{:.0} % of the windows of 20,000 rows are within a factor of 2; the worst is off by {worst:.1}",
            100.0 * share
        )?,
        _ => writeln!(out, "fewer than 20,000 rows were judged: too few for a rate over time")?,
    }
    outcome.recall.map_or(Ok(()), |recall| writeln!(out, "{:.1} % of the anomalous rows alerted", 100.0 * recall))
}

/// The families of the table.
fn families(config: &Config) -> [(&'static str, Config); 8] {
    let of = |kind| Config { kind, ..config.clone() };
    [
        ("adaptive_pot", of(Kind::AdaptivePot)),
        ("  window 5000", Config { calibration_window: 5000, ..of(Kind::AdaptivePot) }),
        ("  false_positive", Config { target: Target::FalsePositive, ..of(Kind::AdaptivePot) }),
        ("fixed", of(Kind::Fixed)),
        ("quantile", Config { window: 0, ..of(Kind::Quantile) }),
        ("  window 20000", Config { window: 20_000, ..of(Kind::Quantile) }),
        ("spot", of(Kind::Spot)),
        ("conformal", of(Kind::Conformal)),
    ]
}

/// One cell of the table: means over the seeds, and the worst window of all.
#[derive(Serialize)]
struct Cell {
    scenario: &'static str,
    family: &'static str,
    rate: f64,
    windows_within_2x: f64,
    worst_factor: f64,
    recall: Option<f64>,
    shifts: f64,
}

fn cell(scenario: Scenario, (family, config): &(&'static str, Config), seeds: u64) -> Cell {
    let outcomes: Vec<Outcome> = (0..seeds)
        .map(|seed| {
            let stream = scenario.stream(seed);
            let (_, verdicts) = judge(config, &stream.log_scores, N_WARMUP);
            measure(&verdicts, &stream.truth[N_WARMUP..], config.target_alert_rate)
        })
        .collect();
    let mean = |of: &dyn Fn(&Outcome) -> f64| outcomes.iter().map(of).sum::<f64>() / outcomes.len() as f64;
    let has_anomalies = outcomes.iter().all(|outcome| outcome.recall.is_some());
    Cell {
        scenario: scenario.as_str(),
        family,
        rate: mean(&|outcome| outcome.rate),
        windows_within_2x: mean(&|outcome| outcome.windows_within_2x.unwrap_or(0.0)),
        worst_factor: outcomes.iter().filter_map(|outcome| outcome.worst_factor).fold(1.0, f64::max),
        recall: has_anomalies.then(|| mean(&|outcome| outcome.recall.unwrap_or(0.0))),
        shifts: mean(&|outcome| outcome.n_shifts as f64),
    }
}

fn replay_scenarios(out: &mut impl Write, config: &Config, options: &Options) -> anyhow::Result<()> {
    let families: Vec<(&'static str, Config)> = families(config)
        .into_iter()
        .filter(|(_, family)| options.kind.is_none_or(|kind| kind == family.kind))
        .collect();
    let bar = progress_bar((Scenario::ALL.len() * families.len()) as u64, "replaying");
    let mut cells = Vec::new();
    for scenario in Scenario::ALL {
        for family in &families {
            cells.push(cell(scenario, family, options.seeds));
            bar.inc(1);
        }
    }
    bar.finish_and_clear();
    if options.json {
        writeln!(
            out,
            "{}",
            serde_json::json!({ "seeds": options.seeds, "target": config.target_alert_rate, "cells": cells })
        )?;
        return Ok(());
    }
    writeln!(out, "| scenario | {} |", families.iter().map(|(name, _)| name.trim()).collect::<Vec<_>>().join(" | "))?;
    writeln!(out, "|---{}|", "|---".repeat(families.len()))?;
    for row in cells.chunks(families.len()) {
        let texts: Vec<String> = row.iter().map(text).collect();
        writeln!(out, "| {} | {} |", row[0].scenario, texts.join(" | "))?;
    }
    Ok(())
}

fn text(cell: &Cell) -> String {
    let recall = cell.recall.map_or_else(String::new, |recall| format!("/{recall:.2}"));
    let shifts = if cell.shifts > 0.0 { format!(" ({:.1} shifts)", cell.shifts) } else { String::new() };
    format!("{:.2}/{:.2}/{:.1}{recall}{shifts}", cell.rate, cell.windows_within_2x, cell.worst_factor)
}
