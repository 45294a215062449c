//! The first model, from a history that may hold anomalies.
//!
//! MODEL 3.2: (1) a trial on everything, which leaves the worst 20 % of each batch out lest it learn a cluster of
//! anomalies, then drop the worst 20 %; (2) refit the scaler, train on the rest, readmit every row
//! with log score ≤ med + 3·(q90−med)/1.2816 of the kept holdout; (3) refit the scaler and train afresh. Held-out rows
//! are never trained on. It reads no labels and keeps nothing between calls.

use std::sync::Arc;

use ndarray::{Array2, ArrayView2, Axis};

use super::calibrate::{Standardised, calibrate};
use super::config::Config;
use super::holdout::is_holdout;
use super::learn::{Plan, learn, rng};
use super::{Fitted, OnProgress, Rows, Stage, TrainError};
use crate::preprocess::{Preprocessor, Schema};
use crate::sae::{Autoencoder, Forward, geometric_median, tied};
use crate::score::mean_squared_residuals;
use crate::threshold::Calibration;

/// Fewest rows that a model is made of.
const ROWS_MIN: usize = 32;
/// Rows that the start of b_dec is taken from.
const MEDIAN_ROWS: usize = 4096;

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
    let steps = config.steps_for(n_rows);
    let steps_total = config.trial_steps + 2 * steps;
    let lr = config.sae.lr;
    let mut pass = |stage, steps, steps_before, kept: &[bool], trim| {
        let train: Vec<usize> = (0..n_rows).filter(|&i| kept[i] && !held[i]).collect();
        let plan = Plan { stage, steps, steps_before, steps_total, lr, trim };
        train_on(rows, &train, config, plan, seed, progress)
    };

    let trial = pass(Stage::Trial, config.trial_steps, 0, &usable, config.drop_share)?;
    let kept = drop_worst(&trial.log_scores(rows), &usable, config.drop_share);
    let clean = pass(Stage::Clean, steps, config.trial_steps, &kept, 0.0)?;
    let admitted = readmit(&clean.log_scores(rows), &kept, &held);
    let last = pass(Stage::Fresh, steps, config.trial_steps + steps, &admitted, 0.0)?;

    let n_train = (0..n_rows).filter(|&i| admitted[i] && !held[i]).count();
    let mut fitted = calibrate(schema, last.preprocessor, last.autoencoder, rows, &admitted, &vec![true; n_rows]);
    fitted.report.n_train = n_train;
    fitted.report.n_steps = steps_total;
    fitted.report.loss = last.loss;
    fitted.lineage.seed = seed;
    fitted.lineage.n_rows_train = n_train as u64;
    fitted.lineage.config = serde_json::to_value(config).expect("a configuration of plain values is always JSON");
    Ok(fitted)
}

/// Scaler and weights of one pass.
struct Pass {
    preprocessor: Preprocessor,
    autoencoder: Autoencoder<f32>,
    loss: f64,
}

impl Pass {
    /// Log score of every row, NaN where too little is observed.
    fn log_scores(&self, rows: &Rows) -> Vec<f64> {
        let (mut forward, mut raw, mut scores) = (Forward::default(), Vec::new(), Vec::with_capacity(rows.len()));
        for chunk in rows.values.axis_chunks_iter(Axis(0), 1024) {
            let rows = Standardised::new(&self.preprocessor, chunk);
            self.autoencoder.forward(rows.x.view(), rows.mask.view(), &mut forward);
            mean_squared_residuals(rows.x.view(), forward.recons(), rows.mask.view(), &mut raw);
            scores.extend(raw.iter().map(|raw| Calibration::log(*raw)));
        }
        scores
    }
}

/// Fits scaler and weights on the rows `train`.
fn train_on(
    rows: &Rows,
    train: &[usize],
    config: &Config,
    plan: Plan,
    seed: u64,
    progress: OnProgress<'_>,
) -> Result<Pass, TrainError> {
    if train.len() < ROWS_MIN / 2 {
        return Err(TrainError::TooFewRows { got: train.len(), needed: ROWS_MIN });
    }
    let raw: Array2<f32> = rows.values.select(Axis(0), train);
    let preprocessor = Preprocessor::fit(raw.view());
    let standardised = Standardised::new(&preprocessor, raw.view());
    let mut rng = rng(seed, plan.stage as u64);
    let stride = train.len().div_ceil(MEDIAN_ROWS);
    let b_dec = geometric_median(standardised.x.slice(ndarray::s![..;stride, ..]));
    let shape = config.sae.shape(preprocessor.n_inputs());
    let mut autoencoder = tied(config.sae.kind, shape, b_dec, &mut rng);
    let pair = (standardised.x.view(), standardised.mask.view());
    let loss = learn(&mut autoencoder, pair, &config.sae, plan, &mut rng, progress)?;
    Ok(Pass { preprocessor, autoencoder, loss })
}

/// Whether at least half of each row is observed.
fn usable(values: ArrayView2<'_, f32>) -> Vec<bool> {
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

/// Admits every row that is ordinary by the kept holdout's scores.
fn readmit(scores: &[f64], kept: &[bool], held: &[bool]) -> Vec<bool> {
    let of_kept = |only_held: bool| {
        let rows = (0..scores.len()).filter(|&i| kept[i] && (held[i] || !only_held));
        let mut sorted: Vec<f64> = rows.map(|i| scores[i]).collect();
        sorted.sort_by(f64::total_cmp);
        sorted
    };
    let holdout = of_kept(true);
    let sorted = if holdout.len() < 10 { of_kept(false) } else { holdout };
    let at = |share: f64| sorted[((sorted.len() as f64 * share) as usize).min(sorted.len() - 1)];
    let limit = at(0.5) + 3.0 * (at(0.9) - at(0.5)) / 1.2816;
    scores.iter().map(|score| *score <= limit).collect()
}
