//! Trains a candidate on the older rows and measures it on the newer ones.
//!
//! The split is by time with a gap, since neighbours resemble each other. Corrupted copies of the validation rows are
//! made once, so that every candidate meets the same ones. Labels, if there are any, are those of the validation rows
//! only.

use std::ops::ControlFlow;
use std::sync::Arc;

use ndarray::{Array2, ArrayView2, s};
use rand::seq::{IndexedRandom, index};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::{Measured, Trial};
use crate::model::{Model, Workspace};
use crate::preprocess::{Kind, Preprocessor, Schema};
use crate::score::ranking::{auc_pr, auc_roc};
use crate::score::{Fidelity, Seen};
use crate::train::{Config, Rows, TrainError, fit};

/// Share of the rows, the newest, that are validated on.
const VALIDATION: f64 = 0.2;
/// Rows between training and validation: a batch.
const GAP: usize = 64;
/// Fewest validation rows: a rank correlation of fewer is noise.
const ROWS_MIN: usize = 64;
/// Most rows that are looked at, the newest: beyond them a first model takes more steps than `steps` says.
const ROWS_MAX: usize = 16_000;
/// Fewest training rows of a low rung.
const TRAIN_MIN: usize = 1024;
/// Share of the validation rows, those with the largest residuals, that explained variance and loss leave out: as much as
/// a first training leaves out, since the newest rows may hold as many anomalies as the others (the last fifth of cardio
/// is nearly half anomalous, and with .05 left out most candidates seemed to explain nothing).
const TRIM: f64 = 0.2;
/// Share of a row's values that come from another row in a swapped copy.
const SWAPPED: f64 = 0.3;
/// By how many standard deviations one value of a shifted copy is off.
const SHIFT: f64 = 3.0;

/// Rows to train on and rows to measure by.
pub struct Bench {
    schema: Arc<Schema>,
    train: Rows,
    validation: Array2<f32>,
    swapped: Array2<f32>,
    shifted: Array2<f32>,
    labels: Option<Vec<bool>>,
    n_inputs: usize,
}

impl Bench {
    /// Splits `rows`, in time order, and corrupts copies of the newer part; `labels` are true for an anomaly and may be
    /// empty. Labels of one kind only among the validation rows are as good as none.
    ///
    /// # Errors
    /// When there are too few rows.
    pub fn new(schema: Arc<Schema>, rows: &Rows, labels: &[bool], seed: u64) -> Result<Self, TrainError> {
        let from = rows.len().saturating_sub(ROWS_MAX);
        let n_rows = rows.len() - from;
        let n_validation = (VALIDATION * n_rows as f64) as usize;
        let n_train = n_rows.saturating_sub(n_validation + GAP);
        let needed = (ROWS_MIN as f64 / VALIDATION) as usize;
        if n_validation < ROWS_MIN {
            return Err(TrainError::TooFewRows { got: rows.len(), needed });
        }
        let values = rows.values.slice(s![from.., ..]);
        let train = Rows::new(values.slice(s![..n_train, ..]).to_owned(), rows.ids[from..from + n_train].to_vec());
        let newer = n_rows - n_validation;
        let validation = values.slice(s![newer.., ..]).to_owned();
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let labels = labels.get(from + newer..).filter(|labels| labels.contains(&true) && labels.contains(&false));
        Ok(Self {
            swapped: swapped(validation.view(), &mut rng),
            shifted: shifted(&schema, train.values.view(), validation.view(), &mut rng),
            labels: labels.map(<[bool]>::to_vec),
            n_inputs: Preprocessor::fit(&schema, train.values.view(), train.values.view()).n_inputs(),
            schema,
            train,
            validation,
        })
    }

    /// Number of inputs of the autoencoder.
    pub fn n_inputs(&self) -> usize {
        self.n_inputs
    }

    /// Rows that are trained on, and rows that are measured by.
    pub fn n_rows(&self) -> (usize, usize) {
        (self.train.len(), self.validation.nrows())
    }

    /// Whether labels can judge.
    pub fn has_labels(&self) -> bool {
        self.labels.is_some()
    }

    /// Trains and measures. Fewer steps see fewer rows, the newest, so that a low rung is cheap.
    ///
    /// # Errors
    /// When there is no model.
    pub fn measure(&self, trial: Trial<'_>) -> Result<Measured, TrainError> {
        let config = shortened(trial.config, trial.share);
        let n_rows = ((trial.share * self.train.len() as f64) as usize).max(TRAIN_MIN).min(self.train.len());
        let from = self.train.len() - n_rows;
        let newest = Rows::new(self.train.values.slice(s![from.., ..]).to_owned(), self.train.ids[from..].to_vec());
        let go_on = &mut |_| ControlFlow::Continue(());
        let model = fit(Arc::clone(&self.schema), &newest, &config, trial.seed, go_on)?.into_model(1, 0);

        let mut workspace = Workspace::new();
        let scores = scores(&model, self.validation.view(), &mut workspace);
        let mut fidelity = Fidelity::default();
        let (x, mask) = (workspace.x(), workspace.mask());
        fidelity.add(Seen { x, mask, recons: workspace.recons(), latents: workspace.latents() });
        let mut against = |corrupted: &Array2<f32>| {
            let corrupted = self::scores(&model, corrupted.view(), &mut workspace);
            let labels: Vec<bool> = scores.iter().map(|_| false).chain(corrupted.iter().map(|_| true)).collect();
            auc_roc(&[&scores[..], &corrupted].concat(), &labels).expect("there are rows of both kinds")
        };
        Ok(Measured {
            explained_variance: fidelity.explained_variance(TRIM),
            latents_active_mean: fidelity.latents_active_mean(),
            latents_dead_ratio: fidelity.latents_dead_ratio(),
            loss: fidelity.loss(TRIM),
            auc_swapped: against(&self.swapped),
            auc_shifted: against(&self.shifted),
            average_precision: self.labels.as_ref().and_then(|labels| auc_pr(&scores, labels)),
            scores,
        })
    }
}

/// Scores of raw rows; one that can't be scored is the least odd of all.
fn scores(model: &Model, raw: ArrayView2<'_, f32>, workspace: &mut Workspace) -> Vec<f64> {
    model.score(raw, workspace);
    workspace.z().iter().map(|z| if z.is_nan() { f64::NEG_INFINITY } else { *z }).collect()
}

/// The configuration with a share of its steps.
fn shortened(config: &Config, share: f64) -> Config {
    let part = |steps: u64| ((share * steps as f64).round() as u64).max(1);
    Config { trial_steps: part(config.trial_steps), steps: part(config.steps), ..config.clone() }
}

/// Rows some of whose values come from another row: each value is usual, together they are not.
fn swapped(rows: ArrayView2<'_, f32>, rng: &mut impl Rng) -> Array2<f32> {
    let (n_rows, n_features) = rows.dim();
    let n_swapped = ((SWAPPED * n_features as f64).round() as usize).max(1);
    let mut corrupted = rows.to_owned();
    for mut row in corrupted.rows_mut() {
        let other = rng.random_range(0..n_rows);
        index::sample(rng, n_features, n_swapped).iter().for_each(|j| row[j] = rows[[other, j]]);
    }
    corrupted
}

/// Rows with one value off by some standard deviations of the training rows; categories aren't shifted where anything
/// else can be.
fn shifted(schema: &Schema, train: ArrayView2<'_, f32>, rows: ArrayView2<'_, f32>, rng: &mut impl Rng) -> Array2<f32> {
    let is_category = |j: &usize| matches!(schema.features()[*j].kind, Kind::Categorical { .. });
    let all = || 0..rows.ncols();
    let mut shiftable: Vec<usize> = all().filter(|j| !is_category(j)).collect();
    if shiftable.is_empty() {
        shiftable = all().collect();
    }
    let deviation = |j: usize| {
        let finite = || train.column(j).into_iter().map(|value| f64::from(*value)).filter(|value| value.is_finite());
        let n = finite().count().max(1) as f64;
        let mean = finite().sum::<f64>() / n;
        (finite().map(|value| (value - mean).powi(2)).sum::<f64>() / n).sqrt()
    };
    let deviations: Vec<f64> = all().map(deviation).collect();
    let mut corrupted = rows.to_owned();
    for mut row in corrupted.rows_mut() {
        let j = *shiftable.choose(rng).expect("a schema has features");
        let sign = if rng.random_bool(0.5) { 1.0 } else { -1.0 };
        row[j] += (sign * SHIFT * deviations[j]) as f32;
    }
    corrupted
}

#[cfg(test)]
mod tests {
    use rand_distr::StandardNormal;

    use super::*;
    use crate::record::RecordId;
    use crate::sae;
    use crate::train::tune::search;

    /// Rows of four features that follow one factor; each twentieth of the newer ones breaks with it and is labelled.
    fn rows(n_rows: usize) -> (Arc<Schema>, Rows, Vec<bool>) {
        let mut rng = ChaCha8Rng::seed_from_u64(3);
        let labels: Vec<bool> = (0..n_rows).map(|i| i % 20 == 7 && i > n_rows / 2).collect();
        let mut values = Array2::zeros((n_rows, 4));
        for (mut row, label) in values.rows_mut().into_iter().zip(&labels) {
            let factor: f32 = rng.sample(StandardNormal);
            for (j, value) in row.iter_mut().enumerate() {
                let sign = if *label && j == 3 { -1.0 } else { 1.0 };
                *value = sign * factor * (j + 1) as f32 + 0.1 * rng.sample::<f32, _>(StandardNormal);
            }
        }
        let ids = (0..n_rows as i64).map(|offset| RecordId { partition: 0.into(), offset }).collect();
        (Arc::new(Schema::new(["a", "b", "c", "d"]).unwrap()), Rows::new(values, ids), labels)
    }

    fn bench(with_labels: bool) -> Bench {
        let (schema, rows, labels) = rows(1500);
        Bench::new(schema, &rows, if with_labels { &labels } else { &[] }, 0).unwrap()
    }

    /// Few steps, since what is proven here is not how well it trains.
    fn quick() -> Config {
        Config { trial_steps: 30, steps: 60, ..Config::default() }
    }

    #[test]
    fn the_newest_fifth_validates_behind_a_gap() {
        let bench = bench(true);
        assert_eq!(bench.n_rows(), (1500 - 300 - GAP, 300));
        assert_eq!(bench.labels.as_ref().map(Vec::len), Some(300));
        assert_eq!((bench.n_inputs(), bench.has_labels()), (4, true));
        let (schema, rows, labels) = rows(1500);
        let all_normal = vec![false; labels.len()];
        assert!(!Bench::new(schema.clone(), &rows, &all_normal, 0).unwrap().has_labels());
        let few = Rows::new(rows.values.slice(s![..100, ..]).to_owned(), rows.ids[..100].to_vec());
        assert!(matches!(Bench::new(schema, &few, &[], 0), Err(TrainError::TooFewRows { got: 100, needed: 320 })));
    }

    #[test]
    fn corruption_keeps_what_it_says() {
        let bench = bench(false);
        for (row, swapped) in bench.validation.rows().into_iter().zip(bench.swapped.rows()) {
            assert!(row.iter().zip(swapped).filter(|(a, b)| a != b).count() <= 1, "three tenths of four are one");
        }
        for (row, shifted) in bench.validation.rows().into_iter().zip(bench.shifted.rows()) {
            assert_eq!(row.iter().zip(shifted).filter(|(a, b)| a != b).count(), 1);
        }
        assert_ne!(bench.swapped, bench.validation);
    }

    #[test]
    fn a_model_tells_corrupted_rows_and_the_same_seed_measures_the_same() {
        let (bench, config) = (bench(true), quick());
        let trial = Trial { config: &config, share: 1.0, seed: 1 };
        let measured = bench.measure(trial).unwrap();
        assert_eq!(measured, bench.measure(trial).unwrap());
        let Measured { auc_shifted, auc_swapped, explained_variance, .. } = measured;
        assert!(auc_shifted > 0.9 && auc_swapped > 0.7, "{auc_shifted} {auc_swapped}");
        let precision = measured.average_precision.unwrap();
        assert!(precision > 0.1, "{precision}: chance is a twentieth, and many of the breaks are small");
        assert!(explained_variance > 0.5 && measured.scores.len() == 300, "{explained_variance}");
    }

    #[test]
    fn a_planted_better_configuration_is_found_on_rows() {
        let bench = bench(true);
        // The default here is a poor one: a learning rate that moves nothing.
        let poor = Config { sae: sae::Config { lr: 1e-7, ..Default::default() }, ..quick() };
        let outcome = search(&poor, vec![quick()], bench.n_inputs(), 0, &mut |trial| bench.measure(trial)).unwrap();
        assert_eq!(outcome.chosen, Some(0), "{outcome:?}");
        let again = search(&poor, vec![quick()], bench.n_inputs(), 0, &mut |trial| bench.measure(trial)).unwrap();
        assert_eq!(format!("{outcome:?}"), format!("{again:?}"));
    }
}
