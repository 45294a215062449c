//! The first model, from a history that may hold anomalies.
//!
//! MODEL 3.2, with two additions. (1) A trial on everything, then the worst 20 % are dropped; the trial leaves the worst
//! 20 % of each batch out, or it learns a small cluster of anomalies by heart. (2) Refit the scaler, train on the rest,
//! readmit every row with log score ≤ med + 3·(q90−med)/1.2816 of the kept holdout. (3) Refit the scaler and train
//! afresh. (4) Readmit and train on, three times: what the model has not learnt of the ordinary rows' outskirts would
//! make a tail twenty times the target alert rate. Held-out rows are never trained on. It reads no labels.

use std::sync::Arc;

use ndarray::{Array2, ArrayView2, Axis};

use super::calibrate::{Material, Standardised, calibrate, each_batch, three_deviations};
use super::config::Config;
use super::curve::Recorder;
use super::holdout::is_holdout;
use super::learn::{Plan, TrainingRows, learn, rng};
use super::{Fitted, OnProgress, Rows, Selection, Stage, TrainError};
use crate::model::Span;
use crate::preprocess::{Preprocessor, Schema};
use crate::sae::{Autoencoder, start};
use crate::threshold::Calibration;
use crate::turn::give_way;

/// Fewest rows that a model is made of.
pub(super) const ROWS_MIN: usize = 32;
/// Times that rows are admitted anew and learnt after the last full training.
const SETTLE_ROUNDS: u64 = 3;

/// Fits a first model of `schema` on `rows`.
///
/// # Errors
/// When there are too few rows, they don't fit the schema, the caller stops it, or it does not converge.
pub fn fit(
    schema: Arc<Schema>,
    rows: &Rows,
    config: &Config,
    seed: u64,
    progress: OnProgress<'_>,
) -> Result<Fitted, TrainError> {
    let (n_rows, n_features) = rows.values.dim();
    if n_features != schema.n_features() {
        return Err(TrainError::Width { got: n_features, expected: schema.n_features() });
    }
    let usable = usable(rows.values.view());
    let held: Vec<bool> = rows.ids.iter().map(|id| is_holdout(*id)).collect();
    let n_usable = usable.iter().filter(|usable| **usable).count();
    if n_usable < ROWS_MIN {
        return Err(TrainError::TooFewRows { got: n_usable, needed: ROWS_MIN });
    }
    let mut recorder = Recorder::default();
    let progress: OnProgress<'_> = &mut |report| {
        recorder.hear(&report);
        progress(report)
    };
    let steps = config.steps_for(n_rows);
    let settle = (steps / 4).max(1);
    let steps_total = config.trial_steps + 2 * steps + SETTLE_ROUNDS * settle;
    let of_shares: Vec<usize> = (0..n_rows).filter(|&i| usable[i] && !held[i]).collect();
    let all = rows.values.select(Axis(0), &of_shares);
    let mut course =
        Course { schema: &schema, all, rows, held: &held, config, seed, steps_done: 0, steps_total, progress };

    let trial = course.pass(Stage::Trial, config.trial_steps, &usable, None)?;
    let kept = drop_worst(&trial.log_scores(rows), &usable, config.drop_share);
    let clean = course.pass(Stage::Clean, steps, &kept, None)?;
    let mut admitted = readmit(&clean.log_scores(rows), &kept, &held);
    let mut last = course.pass(Stage::Fresh, steps, &admitted, None)?;
    for _ in 0..SETTLE_ROUNDS {
        admitted = readmit(&last.log_scores(rows), &admitted, &held);
        last = course.pass(Stage::Settle, settle, &admitted, Some(last))?;
    }

    let n_train = (0..n_rows).filter(|&i| admitted[i] && !held[i]).count();
    let learnt = Span::around((0..n_rows).filter(|&i| admitted[i] && !held[i]).map(|i| rows.ids[i]));
    let selection = Selection::of_history(admitted);
    let material = Material { rows, selection: &selection, members: &config.members, parent: None };
    let mut fitted = calibrate(schema, last.preprocessor, last.autoencoder, material);
    fitted.report.n_train = n_train;
    fitted.report.n_steps = steps_total;
    fitted.report.loss = last.loss;
    fitted.lineage.seed = seed;
    fitted.lineage.curves = recorder.curves();
    fitted.lineage.n_rows_train = n_train as u64;
    fitted.lineage.learnt = learnt;
    fitted.lineage.config = serde_json::to_value(config).expect("a configuration of plain values is always JSON");
    Ok(fitted)
}

/// Trains weights afresh, with a scaler of their own, on those of `rows` that a champion `admitted`; then on, as at the
/// end of a first fit.
pub(super) fn afresh(
    schema: &Schema,
    rows: &Rows,
    admitted: &[bool],
    config: &Config,
    seed: u64,
    progress: OnProgress<'_>,
) -> Result<Pass, TrainError> {
    let (usable, n_rows) = (usable(rows.values.view()), rows.len());
    let held: Vec<bool> = rows.ids.iter().map(|id| is_holdout(*id)).collect();
    let of_shares: Vec<usize> = (0..n_rows).filter(|&i| usable[i] && !held[i]).collect();
    let all = rows.values.select(Axis(0), &of_shares);
    let kept: Vec<bool> = admitted.iter().zip(usable).map(|(admitted, usable)| *admitted && usable).collect();
    let steps = config.steps_for(n_rows);
    let settle = (steps / 4).max(1);
    let steps_total = steps + settle;
    let mut course = Course { schema, all, rows, held: &held, config, seed, steps_done: 0, steps_total, progress };
    let fresh = course.pass(Stage::Fresh, steps, &kept, None)?;
    course.pass(Stage::Settle, settle, &kept, Some(fresh))
}

/// Scaler and weights after one pass.
pub(super) struct Pass {
    pub(super) preprocessor: Preprocessor,
    pub(super) autoencoder: Autoencoder<f32>,
    pub(super) loss: f64,
}

impl Pass {
    /// Log score of every row, NaN where too little is observed.
    pub(super) fn log_scores(&self, rows: &Rows) -> Vec<f64> {
        let mut scores = Vec::with_capacity(rows.len());
        each_batch(&self.preprocessor, &self.autoencoder, rows.values.view(), |_, batch| {
            scores.extend(batch.raw.iter().map(|raw| Calibration::log(*raw)));
        });
        scores
    }
}

/// The passes of one fit over the same rows.
struct Course<'a> {
    schema: &'a Schema,
    /// Usable raw rows that are not held out, `[rows, n_features]`: what shares are taken from.
    all: Array2<f32>,
    rows: &'a Rows,
    held: &'a [bool],
    config: &'a Config,
    seed: u64,
    steps_done: u64,
    steps_total: u64,
    progress: OnProgress<'a>,
}

impl Course<'_> {
    /// Trains on the kept rows that are not held out: afresh with a scaler of their own, or on from `last`.
    fn pass(&mut self, stage: Stage, steps: u64, kept: &[bool], last: Option<Pass>) -> Result<Pass, TrainError> {
        let train: Vec<usize> = (0..kept.len()).filter(|&i| kept[i] && !self.held[i]).collect();
        if train.len() < ROWS_MIN / 2 {
            return Err(TrainError::TooFewRows { got: train.len(), needed: ROWS_MIN });
        }
        give_way();
        let raw: Array2<f32> = self.rows.values.select(Axis(0), &train);
        give_way();
        let mut rng = rng(self.seed, stage as u64);
        let (lr, trim) = match stage {
            Stage::Trial => (self.config.sae.lr, self.config.drop_share),
            Stage::Clean => (self.config.sae.lr, 0.0),
            Stage::Fresh => (self.config.sae.lr, self.config.trim),
            Stage::Settle | Stage::Round => (self.config.round_lr, self.config.trim),
        };
        let (preprocessor, mut autoencoder, standardised) = match last {
            Some(last) => {
                let standardised = Standardised::new(&last.preprocessor, raw.view());
                (last.preprocessor, last.autoencoder, standardised)
            }
            None => {
                let preprocessor = Preprocessor::fit(self.schema, raw.view(), self.all.view());
                let standardised = Standardised::new(&preprocessor, raw.view());
                let (x, mask) = (standardised.x.view(), standardised.mask.view());
                let autoencoder = start(&self.config.sae, x, mask, &mut rng)?;
                (preprocessor, autoencoder, standardised)
            }
        };
        let plan = Plan { stage, steps, steps_before: self.steps_done, steps_total: self.steps_total, lr, trim };
        let training = TrainingRows {
            x: standardised.x.view(),
            mask: standardised.mask.view(),
            column_weight: preprocessor.column_weights(),
        };
        let loss = learn(&mut autoencoder, training, &self.config.sae, plan, &mut rng, self.progress)?;
        self.steps_done += steps;
        Ok(Pass { preprocessor, autoencoder, loss })
    }
}

/// Whether at least half of each row is observed.
pub(super) fn usable(values: ArrayView2<'_, f32>) -> Vec<bool> {
    let observed = |row: ndarray::ArrayView1<'_, f32>| row.iter().filter(|value| value.is_finite()).count();
    values.rows().into_iter().map(|row| 2 * observed(row) >= row.len()).collect()
}

/// Keeps the usable rows below the worst `share` of scores.
fn drop_worst(scores: &[f64], usable: &[bool], share: f64) -> Vec<bool> {
    let mut sorted: Vec<f64> =
        scores.iter().zip(usable).filter(|(_, usable)| **usable).map(|(score, _)| *score).collect();
    sorted.sort_by(f64::total_cmp);
    let n_kept = ((sorted.len() as f64 * (1.0 - share)).ceil() as usize).clamp(1, sorted.len());
    let limit = sorted[n_kept - 1];
    scores.iter().zip(usable).map(|(score, usable)| *usable && *score <= limit).collect()
}

/// Admits every row up to three upper deviations above the median of the kept holdout's scores (of all kept rows' where
/// that is tiny). Moving this limit outward until it stands still cost .11 AUC on KDD, where services are rare modes.
pub(super) fn readmit(scores: &[f64], kept: &[bool], held: &[bool]) -> Vec<bool> {
    let of_kept = |only_held: bool| {
        let rows = (0..scores.len()).filter(|&i| kept[i] && (held[i] || !only_held));
        let mut sorted: Vec<f64> = rows.map(|i| scores[i]).collect();
        sorted.sort_by(f64::total_cmp);
        sorted
    };
    let holdout = of_kept(true);
    give_way();
    let sorted = if holdout.len() < 10 { of_kept(false) } else { holdout };
    let limit = three_deviations(&sorted);
    scores.iter().map(|score| *score <= limit).collect()
}
