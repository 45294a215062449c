//! `strayd compare`: the configured autoencoder beside a dense one, principal components and an ECOD-like count of tails.
//!
//! All read the same file in the same pipeline and the same order (docs/TUNING.md). Labels, if there are any, judge only.

use std::io::Write;
use std::path::PathBuf;

use clap::Args;
use ndarray::{Array2, Axis};
use serde::Serialize;

use super::evaluate::{Detector, Outcome, Protocol, Split, Task, evaluate, read_table};
use super::table::Table;
use super::{ConfigOptions, progress_bar};
use crate::config::Config;
use crate::model::{Model, Workspace};
use crate::sae::{Kind, Shape};
use crate::score::{Compression, Fidelity, Seen, ranking};

/// Share of the rows, those with the largest residuals, that explained variance leaves out.
const TRIM: f64 = 0.05;

/// Options of `strayd compare`.
#[derive(Debug, Args)]
pub struct Options {
    /// CSV file with a header, .gz or not
    file: PathBuf,
    /// Column that says which rows are anomalies [default: `label`, if there is one]
    #[arg(long)]
    label: Option<String>,
    /// Rows of history that the first model is trained on [default: a tenth of the rows, 256 to 2048]
    #[arg(long)]
    warmup: Option<usize>,
    /// What the history is
    #[arg(long, value_enum, default_value_t = Protocol::Prefix)]
    protocol: Protocol,
    /// Seed of the training
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// Prints one JSON document
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    config: ConfigOptions,
}

/// Everything that was compared.
#[derive(Debug, Serialize)]
struct Report {
    rows: usize,
    scored: usize,
    warmup: usize,
    protocol: Protocol,
    seed: u64,
    /// Number of highest rows whose overlap is told.
    overlap_rows: usize,
    methods: Vec<Method>,
}

/// One method, measured.
#[derive(Debug, Serialize)]
struct Method {
    name: &'static str,
    /// What a reconstruction keeps and costs; none for a method without one.
    #[serde(flatten)]
    copy: Option<Copied>,
    auc_roc: Option<f64>,
    auc_pr: Option<f64>,
    alerts: Option<usize>,
    alert_overlap: f64,
    score_spearman: Option<f64>,
    microseconds_a_row: f64,
    seconds_training: f64,
}

/// What a reconstruction keeps of a row, and what it costs to keep its code instead of the row.
#[derive(Clone, Copy, Debug, Serialize)]
struct Copied {
    explained_variance: f64,
    latents: usize,
    latents_active_mean: f64,
    floats_a_row: f64,
    bits_a_row: f64,
    compression_ratio: f64,
}

/// Compares.
pub fn run(options: &Options) -> anyhow::Result<()> {
    let config = options.config.clone().with("training.seed", &options.seed.to_string()).load_for_file()?;
    let table = read_table(&options.file, options.label.as_deref(), &config)?;
    let split = Split::new(&table, options.protocol, options.warmup)?;
    let detectors = [
        ("strayd", Detector::Configured),
        (config.model.sae.kind.as_str(), Detector::Alone),
        ("dense", Detector::Baseline(Kind::Dense)),
        ("pca", Detector::Baseline(Kind::Pca)),
        ("ecod", Detector::Ecod),
    ];
    // What is configured is no baseline of itself.
    let is_new = |(i, (name, _)): (usize, &(&str, Detector))| !detectors[..i].iter().any(|(other, _)| other == name);
    let indices: Vec<usize> = detectors.iter().enumerate().filter(|at| is_new(*at)).map(|(i, _)| i).collect();
    let detectors: Vec<(&'static str, Detector)> = indices.into_iter().map(|i| detectors[i]).collect();

    let bar = progress_bar((detectors.len() * split.rows.len()) as u64, "comparing");
    let mut measured = Vec::new();
    for (name, detector) in detectors {
        let task = Task { config: &config, table: &table, split: &split, detector };
        measured.push((name, measure(task, &mut |n| bar.inc(n))?));
    }
    bar.finish_and_clear();
    let report = report(options, &config, &table, &split, &measured);
    let mut out = std::io::stdout().lock();
    if options.json {
        writeln!(out, "{}", serde_json::to_string(&report)?)?;
    } else {
        print_report(&mut out, &report)?;
    }
    Ok(())
}

/// Replays the table and looks at what each batch's model made of it.
fn measure(task: Task<'_>, progress: &mut dyn FnMut(u64)) -> anyhow::Result<(Outcome, Option<Copied>)> {
    let mut raw: Option<Array2<f32>> = None;
    let (mut workspace, mut fidelity, mut shape) = (Workspace::new(), Fidelity::default(), None);
    let outcome = evaluate(task, &mut |model: Option<&Model>, places| {
        progress(places.len() as u64);
        let Some(model) = model else { return Ok(()) };
        let raw = match &raw {
            Some(raw) => raw,
            None => raw.insert(task.table.values(&model.schema)?),
        };
        let batch = raw.select(Axis(0), &task.split.rows[places]);
        model.score(batch.view(), &mut workspace);
        let (x, mask) = (workspace.x(), workspace.mask());
        fidelity.add(Seen { x, mask, recons: workspace.recons(), latents: workspace.latents() });
        // Principal components are found anew in each round, and may then be others in number.
        let of_model = model.autoencoder.shape();
        shape = Some(shape.filter(|shape: &Shape| shape.n_latents > of_model.n_latents).unwrap_or(of_model));
        Ok(())
    })?;
    let copied = shape.map(|shape| {
        let n_active = fidelity.latents_active_mean();
        let cost = Compression::new(shape.n_inputs, shape.n_latents, n_active);
        // Where nearly all latents are active their numbers aren't worth writing.
        let bits = cost.bits_sparse.min(32.0 * shape.n_latents as f64);
        Copied {
            explained_variance: fidelity.explained_variance(TRIM),
            latents: shape.n_latents,
            latents_active_mean: n_active,
            floats_a_row: bits / 32.0,
            bits_a_row: bits,
            compression_ratio: cost.bits_dense / bits.max(1.0),
        }
    });
    Ok((outcome, copied))
}

fn report(
    options: &Options,
    config: &Config,
    table: &Table,
    split: &Split,
    measured: &[(&'static str, (Outcome, Option<Copied>))],
) -> Report {
    let ours = &measured[0].1.0;
    let n_alerts = ours.alerts.iter().filter(|alert| **alert).count();
    let n_wanted = (config.threshold.target_alert_rate() * ours.scores.len() as f64).ceil() as usize;
    let overlap_rows = if n_alerts > 0 { n_alerts } else { n_wanted };
    let methods = measured.iter().map(|(name, (outcome, copy))| {
        let areas = outcome.areas(table, split);
        let (theirs, same_of_ours) = common(outcome, ours);
        Method {
            name,
            copy: *copy,
            auc_roc: areas.map(|areas| areas.0),
            auc_pr: areas.map(|areas| areas.1),
            alerts: (!outcome.alerts.is_empty()).then(|| outcome.alerts.iter().filter(|alert| **alert).count()),
            alert_overlap: ranking::top_overlap(&theirs, &same_of_ours, overlap_rows),
            score_spearman: ranking::spearman(&theirs, &same_of_ours),
            microseconds_a_row: outcome.scoring.as_secs_f64() * 1e6 / outcome.scores.len().max(1) as f64,
            seconds_training: outcome.training.as_secs_f64(),
        }
    });
    Report {
        rows: table.rows.len(),
        scored: ours.scores.len(),
        warmup: split.history.len(),
        protocol: split.protocol,
        seed: options.seed,
        overlap_rows,
        methods: methods.collect(),
    }
}

/// Scores of the rows that both have scored.
fn common(a: &Outcome, b: &Outcome) -> (Vec<f64>, Vec<f64>) {
    let of_b = |place: &usize| b.scored.binary_search(place).ok();
    let both = a.scored.iter().enumerate().filter_map(|(i, place)| Some((a.scores[i], b.scores[of_b(place)?])));
    both.unzip()
}

fn print_report(out: &mut impl Write, report: &Report) -> std::io::Result<()> {
    writeln!(
        out,
        "{} rows: {} of history ({:?}), {} scored; seed {}",
        report.rows, report.warmup, report.protocol, report.scored, report.seed
    )?;
    writeln!(
        out,
        "\n{:10} {:>8} {:>8} {:>10} {:>8} {:>8} {:>8} {:>8} {:>9} {:>9}",
        "", "EV", "active", "floats/row", "AUC-ROC", "AUC-PR", "alerts", "overlap", "Spearman", "µs/row"
    )?;
    let text =
        |value: Option<f64>, digits: usize| value.map_or_else(|| "-".into(), |value| format!("{value:.digits$}"));
    for method in &report.methods {
        let copy = method.copy;
        writeln!(
            out,
            "{:10} {:>8} {:>8} {:>10} {:>8} {:>8} {:>8} {:>8.3} {:>9} {:>9.1}",
            method.name,
            text(copy.map(|copy| copy.explained_variance), 3),
            text(copy.map(|copy| copy.latents_active_mean), 1),
            text(copy.map(|copy| copy.floats_a_row), 1),
            text(method.auc_roc, 3),
            text(method.auc_pr, 3),
            method.alerts.map_or_else(|| "-".to_owned(), |n| n.to_string()),
            method.alert_overlap,
            text(method.score_spearman, 3),
            method.microseconds_a_row,
        )?;
    }
    writeln!(
        out,
        "\nEV: share of the variance that is explained on rows not yet learnt, without the worst {:.0} %.",
        100.0 * TRIM
    )?;
    writeln!(out, "overlap, Spearman: with strayd, of the {} highest rows and of all scores.", report.overlap_rows)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_rows_that_both_have_scored_are_compared() {
        let outcome = |scored: &[usize], scores: &[f64]| Outcome {
            scored: scored.to_vec(),
            scores: scores.to_vec(),
            ..Outcome::default()
        };
        let (a, b) = (outcome(&[0, 1, 3], &[0.5, 0.6, 0.7]), outcome(&[1, 2, 3], &[10.0, 20.0, 30.0]));
        assert_eq!(common(&a, &b), (vec![0.6, 0.7], vec![10.0, 30.0]));
    }
}
