//! Replays a table through the pipeline that `run` uses, and keeps what was said of each row: what `eval`, `compare` and
//! the quality bench measure by.
//!
//! Prequential: every row is scored before anything learns from it. Labels choose the history of one protocol and judge
//! afterwards; nothing else sees them.

use std::ops::Range;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use clap::ValueEnum;
use serde::{Deserialize, Serialize};

use super::local::{Local, ROWS_MAX};
use super::table::{Table, texts_of_wishes};
use crate::config::{Config, RawConfig};
use crate::model::Model;
use crate::pipeline::trainer::Ticked;
use crate::sae::{self, DecoderNorm, Kind};
use crate::score::{ECOD_WINDOW, Ecod, ranking};
use crate::sink::Channel;

/// What the history is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, ValueEnum, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Protocol {
    /// The first rows, whatever their labels; they are not scored. What a daemon meets
    Prefix,
    /// The first rows labelled 0; then all rows are scored. The literature's clean start
    Normal,
}

/// Which rows are history and which are scored, by their numbers in the table.
#[derive(Clone, Debug)]
pub struct Split {
    /// What the history is.
    pub protocol: Protocol,
    /// Rows that the first model is trained on.
    pub history: Vec<usize>,
    /// Rows that are scored, in this order.
    pub rows: Vec<usize>,
}

/// What scores the rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Detector {
    /// The configured model.
    Configured,
    /// The configured autoencoder alone, without the members beside it.
    Alone,
    /// Another kind of autoencoder, alone, in the same pipeline and at that kind's default sizes.
    Baseline(Kind),
    /// Tails of each feature over a window of the newest rows; no model at all.
    Ecod,
}

/// One replay.
#[derive(Clone, Copy, Debug)]
pub struct Task<'a> {
    /// The configuration, `training.seed` included.
    pub config: &'a Config,
    /// The table.
    pub table: &'a Table,
    /// Which rows are history and which are scored.
    pub split: &'a Split,
    /// What scores them.
    pub detector: Detector,
}

/// What was said of the rows.
#[derive(Clone, Debug, Default)]
pub struct Outcome {
    /// Rows that got a score, by their places in [`Split::rows`], ascending.
    pub scored: Vec<usize>,
    /// Their scores; a larger one is odder. Only their order means something across detectors.
    pub scores: Vec<f64>,
    /// Whether each of them was an anomaly; empty for a detector without a threshold.
    pub alerts: Vec<bool>,
    /// Models that were promoted, the first included.
    pub models_promoted: u64,
    /// Time spent on scoring: for a model that is decoding, scoring and publishing.
    pub scoring: Duration,
    /// Time spent on training.
    pub training: Duration,
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

impl Split {
    /// Splits a table; without `warmup` a tenth of the rows, 256 to 2048, are history, and never more than half.
    ///
    /// Errors: [`Protocol::Normal`] without labels, or without enough rows labelled 0.
    pub fn new(table: &Table, protocol: Protocol, warmup: Option<usize>) -> anyhow::Result<Self> {
        let n_rows = table.rows.len();
        let warmup = warmup.unwrap_or((n_rows / 10).clamp(256, 2048)).min(n_rows / 2);
        let (history, rows) = match protocol {
            Protocol::Prefix => ((0..warmup).collect(), (warmup..n_rows).collect()),
            Protocol::Normal if table.labels.is_empty() => bail!("--protocol normal needs labels"),
            Protocol::Normal => {
                let normal: Vec<usize> = (0..n_rows).filter(|&row| !table.labels[row]).take(warmup).collect();
                if normal.len() < warmup {
                    bail!("--warmup {warmup}: only {} rows are labelled 0", normal.len());
                }
                (normal, (0..n_rows).collect())
            }
        };
        Ok(Self { protocol, history, rows })
    }
}

impl Outcome {
    /// Labels of the scored rows; empty without labels.
    pub fn labels(&self, table: &Table, split: &Split) -> Vec<bool> {
        let label = |&place: &usize| table.labels.get(split.rows[place]).copied();
        self.scored.iter().filter_map(label).collect()
    }

    /// AUC-ROC and AUC-PR; none without labels of both kinds.
    pub fn areas(&self, table: &Table, split: &Split) -> Option<(f64, f64)> {
        let labels = self.labels(table, split);
        Some((ranking::auc_roc(&self.scores, &labels)?, ranking::auc_pr(&self.scores, &labels)?))
    }
}

/// Hears of a batch after it was scored and before anything learns from it: the model that scored it, none for a
/// detector without one, and the places of its rows in [`Split::rows`].
pub type OnBatch<'a> = &'a mut dyn FnMut(Option<&Model>, Range<usize>) -> anyhow::Result<()>;

/// Replays a table.
///
/// Errors: no model can be trained, or `on_batch` fails.
pub fn evaluate(task: Task<'_>, on_batch: OnBatch<'_>) -> anyhow::Result<Outcome> {
    match task.detector {
        Detector::Configured => replay(task, on_batch),
        Detector::Ecod => count_tails(task, on_batch),
        Detector::Alone => {
            let config = alone((**task.config).clone())?;
            replay(Task { config: &config, ..task }, on_batch)
        }
        Detector::Baseline(kind) => {
            let config = with_kind(task.config, kind)?;
            replay(Task { config: &config, ..task }, on_batch)
        }
    }
}

/// The table's pipeline with a lane and a trainer.
fn replay(task: Task<'_>, on_batch: OnBatch<'_>) -> anyhow::Result<Outcome> {
    let Task { config, table, split, .. } = task;
    let mut local = Local::new(config, "file", table, &split.history, &split.rows)?;
    let mut outcome = Outcome::default();
    let began = Instant::now();
    match local.train()? {
        Ticked::Promoted(_) => outcome.models_promoted += 1,
        Ticked::Nothing | Ticked::Stayed(_) | Ticked::RolledBack(_) => {}
        Ticked::Waiting(reason) | Ticked::Failed(reason) => bail!("no model could be trained: {reason}"),
    }
    outcome.training += began.elapsed();
    let (n_history, mut n_done) = (split.history.len(), 0);
    loop {
        let began = Instant::now();
        let read = local.step(&mut |channel, value| {
            if channel == Channel::Scores {
                let row: ScoredRow = serde_json::from_slice(value).context("a published score")?;
                outcome.scored.push(row.source.offset - n_history);
                outcome.scores.push(row.score.z);
                outcome.alerts.push(row.score.ratio > 1.0);
            }
            Ok(())
        })?;
        outcome.scoring += began.elapsed();
        let Some(n) = read else { return Ok(outcome) };
        on_batch(local.shared.cell.load().as_deref(), n_done..n_done + n)?;
        n_done += n;
        let began = Instant::now();
        outcome.models_promoted += u64::from(matches!(local.train()?, Ticked::Promoted(_)));
        outcome.training += began.elapsed();
    }
}

/// The baseline without a model, fed in batches of the same size.
fn count_tails(task: Task<'_>, on_batch: OnBatch<'_>) -> anyhow::Result<Outcome> {
    let Task { table, split, .. } = task;
    let rows = |places: &[usize]| places.iter().map(|&row| &*table.rows[row]).collect::<Vec<&[f32]>>();
    let mut outcome = Outcome::default();
    let mut ecod = Ecod::new(table.names.len(), ECOD_WINDOW);
    let mut learn = |ecod: &mut Ecod, batch: &[usize]| {
        let began = Instant::now();
        ecod.learn(rows(batch));
        outcome.training += began.elapsed();
    };
    learn(&mut ecod, &split.history);
    for (i, batch) in split.rows.chunks(ROWS_MAX).enumerate() {
        let first = i * ROWS_MAX;
        let began = Instant::now();
        let scores = rows(batch).into_iter().map(|row| ecod.score(row));
        let of_batch = scores.enumerate().filter(|(_, score)| !score.is_nan());
        for (place, score) in of_batch {
            outcome.scored.push(first + place);
            outcome.scores.push(score);
        }
        outcome.scoring += began.elapsed();
        on_batch(None, first..first + batch.len())?;
        learn(&mut ecod, batch);
    }
    Ok(outcome)
}

/// The configuration with another kind of autoencoder that scores alone, whose sizes, activation and norms are that kind's defaults.
fn with_kind(config: &Config, kind: Kind) -> anyhow::Result<Config> {
    let mut raw: RawConfig = (**config).clone();
    raw.model.sae = sae::Config {
        kind,
        n_latents: None,
        k: None,
        hidden: Vec::new(),
        activation: None,
        tied: false,
        decoder_norm: DecoderNorm::default(),
        weight_decay: None,
        ..raw.model.sae
    };
    alone(raw)
}

/// The configuration with an autoencoder that scores alone.
fn alone(mut raw: RawConfig) -> anyhow::Result<Config> {
    raw.model.members.memory_rows = 0;
    Ok(Config::check(raw)?)
}

/// Reads a table with the labels of a column: of `label`, or, if none is named, of the column `label` if there is one.
///
/// Errors: the file can't be read, or has no column of the name that was given.
pub fn read_table(path: &Path, label: Option<&str>, config: &Config) -> anyhow::Result<Table> {
    const USUAL: &str = "label";
    let label = match label {
        None if Table::columns(path)?.iter().any(|name| name == USUAL) => Some(USUAL),
        label => label,
    };
    Table::read(path, label, &texts_of_wishes(&config.schema.features))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table(labels: &[bool]) -> Table {
        let rows: String = labels.iter().enumerate().map(|(i, label)| format!("{i},{label}\n")).collect();
        Table::parse(format!("a,label\n{rows}").as_bytes(), Some("label"), &[]).unwrap()
    }

    #[test]
    fn the_prefix_is_not_scored_and_the_clean_start_is() {
        let table = table(&[true, false, false, true, false, false]);
        let prefix = Split::new(&table, Protocol::Prefix, Some(2)).unwrap();
        assert_eq!((prefix.history, prefix.rows), (vec![0, 1], vec![2, 3, 4, 5]));
        let normal = Split::new(&table, Protocol::Normal, Some(3)).unwrap();
        assert_eq!((normal.history, normal.rows), (vec![1, 2, 4], vec![0, 1, 2, 3, 4, 5]));
        let halved = Split::new(&table, Protocol::Prefix, None).unwrap();
        assert_eq!(halved.history.len(), 3, "at most half the rows are history");
    }

    #[test]
    fn too_few_normal_rows_are_refused() {
        let error = Split::new(&table(&[true, true, true, false]), Protocol::Normal, Some(2)).unwrap_err();
        assert_eq!(error.to_string(), "--warmup 2: only 1 rows are labelled 0");
        let mut unlabelled = table(&[false; 4]);
        unlabelled.labels.clear();
        assert!(Split::new(&unlabelled, Protocol::Normal, None).is_err());
    }

    #[test]
    fn baselines_have_sizes_of_their_own() {
        let mut raw = RawConfig::default();
        raw.input.topic = "t".into();
        (raw.model.sae.k, raw.model.sae.lr) = (Some(3), 1e-3);
        let dense = with_kind(&Config::check(raw).unwrap(), Kind::Dense).unwrap();
        assert_eq!((dense.model.sae.kind, dense.model.sae.k, dense.model.sae.lr), (Kind::Dense, None, 1e-3));
    }

    #[test]
    fn each_row_is_scored_before_it_is_learnt() {
        // One value for the whole history, another for ever after: odd once, and ordinary when it has been learnt.
        let mut table = table(&[false; 2 * ROWS_MAX + 64]);
        table.rows.iter_mut().enumerate().for_each(|(i, row)| row[0] = if i < 64 { 1.0 } else { 2.0 });
        let mut raw = RawConfig::default();
        raw.input.topic = "t".into();
        let (config, split) = (Config::check(raw).unwrap(), Split::new(&table, Protocol::Prefix, Some(64)).unwrap());
        let mut heard = Vec::new();
        let task = Task { config: &config, table: &table, split: &split, detector: Detector::Ecod };
        let outcome = evaluate(task, &mut |model, places| {
            heard.push((model.is_some(), places));
            Ok(())
        })
        .unwrap();
        assert_eq!(heard, [(false, 0..ROWS_MAX), (false, ROWS_MAX..2 * ROWS_MAX)]);
        assert_eq!(outcome.scored.len(), 2 * ROWS_MAX);
        assert!(outcome.scores[..ROWS_MAX].iter().all(|score| (score - 65.0_f64.ln()).abs() < 1e-9));
        assert!(outcome.scores[ROWS_MAX] < 1.0, "{}", outcome.scores[ROWS_MAX]);
        assert_eq!(outcome.areas(&table, &split), None);
    }
}
