//! Early stopping: a fifth of the rows says when more steps no longer help, and which weights were best.
//!
//! MODEL 2.10. The loss is the trimmed mean over rows that no step learns from, with nothing hidden and nothing dropped;
//! the mean would follow the anomalies among them. Off by default: the number of steps is measured.

use ndarray::{Array2, Axis};

use super::learn::TrainingRows;
use crate::sae::{Autoencoder, Config, Example, Learner};

/// One row of this many is held out.
const HELD_OUT: usize = 5;
/// Share of the rows, those with the largest losses, that the mean leaves out.
const TRIM: f64 = 0.01;
/// What counts as an improvement, as a share of the best loss.
const IMPROVEMENT_MIN: f64 = 1e-3;

/// Rows that are not learnt from, and the best weights so far.
pub(super) struct Validation {
    x: Array2<f32>,
    mask: Array2<f32>,
    column_weight: Vec<f32>,
    sample_weight: Vec<f32>,
    best: Option<(f64, Autoencoder<f32>)>,
    misses: u64,
    every: u64,
    patience: u64,
}

impl Validation {
    /// Splits the rows: which are learnt from, and the others with their judge; no judge unless it is wanted.
    pub(super) fn split(rows: &TrainingRows<'_>, config: &Config) -> (Vec<usize>, Option<Self>) {
        let n_rows = rows.x.nrows();
        if !config.early_stopping || n_rows < 2 * HELD_OUT {
            return ((0..n_rows).collect(), None);
        }
        let (held, learnt): (Vec<usize>, Vec<usize>) = (0..n_rows).partition(|i| i % HELD_OUT == 0);
        let validation = Self {
            x: rows.x.select(Axis(0), &held),
            mask: rows.mask.select(Axis(0), &held),
            column_weight: rows.column_weights(),
            sample_weight: vec![1.0; held.len()],
            best: None,
            misses: 0,
            every: config.validate_every,
            patience: config.patience,
        };
        (learnt, Some(validation))
    }

    /// Looks at the weights after `steps_done` steps; false when it is time to stop.
    pub(super) fn goes_on(&mut self, steps_done: u64, model: &Autoencoder<f32>, learner: &mut Learner<f32>) -> bool {
        if !steps_done.is_multiple_of(self.every) {
            return true;
        }
        let batch = Example {
            x: self.x.view(),
            mask: self.mask.view(),
            input_mask: self.mask.view(),
            sample_weight: &self.sample_weight,
            column_weight: &self.column_weight,
            hidden_scale: &[],
        };
        let mut losses = Vec::new();
        learner.row_losses(model, &batch, &mut losses);
        self.judge(trimmed_mean(losses), model)
    }

    fn judge(&mut self, loss: f64, model: &Autoencoder<f32>) -> bool {
        let improved = match &self.best {
            Some((best, _)) => loss < best * (1.0 - IMPROVEMENT_MIN),
            None => loss.is_finite(),
        };
        if improved {
            self.best = Some((loss, model.clone()));
            self.misses = 0;
        } else {
            self.misses += 1;
        }
        self.misses < self.patience
    }

    /// The best weights that were seen, if any were looked at.
    pub(super) fn into_best(self) -> Option<Autoencoder<f32>> {
        self.best.map(|(_, model)| model)
    }
}

/// Mean of the losses without the largest hundredth.
fn trimmed_mean(mut losses: Vec<f64>) -> f64 {
    losses.sort_by(f64::total_cmp);
    let n_kept = losses.len() - (TRIM * losses.len() as f64).ceil() as usize;
    losses[..n_kept].iter().sum::<f64>() / n_kept.max(1) as f64
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sae::{Kind, Shape};

    #[test]
    fn the_worst_hundredth_does_not_count() {
        let mut losses = vec![1.0; 99];
        losses.push(1e9);
        assert_eq!(trimmed_mean(losses), 1.0);
    }

    #[test]
    fn patience_ends_and_the_best_weights_come_back() {
        let config = Config { early_stopping: true, patience: 2, ..Config::default() };
        let x = Array2::zeros((20, 2));
        let rows = TrainingRows { x: x.view(), mask: x.view(), column_weight: &[] };
        let (learnt, validation) = Validation::split(&rows, &config);
        assert_eq!((learnt.len(), learnt[0]), (16, 1), "every fifth row is held out");
        let mut validation = validation.unwrap();
        let model = |k| Autoencoder::zeros(Kind::Topk, Shape { n_inputs: 2, n_latents: 4, k });
        assert!(validation.judge(1.0, &model(1)));
        assert!(validation.judge(0.5, &model(2)));
        assert!(validation.judge(0.4999, &model(3)), "too small an improvement");
        assert!(!validation.judge(f64::NAN, &model(4)));
        assert_eq!(validation.into_best().unwrap().k, 2);
        assert!(Validation::split(&rows, &Config::default()).1.is_none(), "off by default");
    }
}
