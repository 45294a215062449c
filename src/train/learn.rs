//! The steps of one training: batches in shuffled epochs, input masking, the course of the learning rate.
//!
//! MODEL 2.8: linear decay over the last 30 % of steps to 5 %. A step that is not finite is left out and halves the
//! rate; the third gives up (MODEL 2.6). It neither scales rows nor chooses them.

use ndarray::{Array2, ArrayView2, Axis};
use rand::seq::SliceRandom;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::holdout::mix;
use super::{OnProgress, Progress, Stage, TrainError};
use crate::sae::{Autoencoder, Config, Example, Learner};

/// Steps that may be not finite before the training is given up.
const NOT_FINITE_MAX: u32 = 3;
/// Steps before rows are left out of batches: first the losses must mean something.
const TRIM_FROM: u64 = 10;
/// Steps between two reports of progress.
const REPORT_EVERY: u64 = 10;

/// One training.
#[derive(Clone, Copy, Debug)]
pub(super) struct Plan {
    /// The part of the training.
    pub stage: Stage,
    /// Steps of this part.
    pub steps: u64,
    /// Steps of the parts before.
    pub steps_before: u64,
    /// Steps of all parts.
    pub steps_total: u64,
    /// Learning rate before the decay.
    pub lr: f64,
    /// Share of each batch, the rows with the largest loss, that is not learnt from once the first steps are taken.
    pub trim: f64,
}

/// Randomness for one purpose: streams of different purposes are independent (MODEL 3.9).
pub(super) fn rng(seed: u64, purpose: u64) -> ChaCha8Rng {
    ChaCha8Rng::seed_from_u64(mix(mix(seed) ^ purpose))
}

/// Trains `model` on standardised rows `x` under `mask`, both `[rows, n_inputs]`; returns the last loss.
///
/// # Errors
/// When the caller stops it or the loss is not finite three times.
pub(super) fn learn(
    model: &mut Autoencoder<f32>,
    (x, mask): (ArrayView2<'_, f32>, ArrayView2<'_, f32>),
    config: &Config,
    plan: Plan,
    rng: &mut impl Rng,
    progress: OnProgress<'_>,
) -> Result<f64, TrainError> {
    let n_rows = config.batch_rows.min(x.nrows());
    let mut learner = Learner::new(model, config.decoder_norm);
    let mut batches = Batches::new(x.nrows(), n_rows, x.ncols(), config.input_masking);
    let mut sample_weight = vec![1.0; n_rows];
    let mut losses = Vec::new();
    let (mut loss, mut scale, mut attempts) = (f64::NAN, 1.0, 0);
    for step in 0..plan.steps {
        batches.next(x, mask, rng);
        if plan.trim > 0.0 && step >= TRIM_FROM {
            sample_weight.fill(1.0);
            learner.row_losses(model, &batches.example(&sample_weight), &mut losses);
            leave_out_worst(&losses, plan.trim, &mut sample_weight);
        }
        let batch = batches.example(&sample_weight);
        match learner.step(model, &batch, scale * plan.rate(step)) {
            Ok(of_step) => loss = of_step,
            Err(_) => {
                attempts += 1;
                scale /= 2.0;
                if attempts == NOT_FINITE_MAX {
                    return Err(TrainError::NotFinite { attempts, step });
                }
            }
        }
        let steps_done = plan.steps_before + step + 1;
        if steps_done.is_multiple_of(REPORT_EVERY) || step + 1 == plan.steps {
            let report = Progress { stage: plan.stage, steps_done, steps_total: plan.steps_total, loss };
            if progress(report).is_break() {
                return Err(TrainError::Stopped);
            }
        }
    }
    Ok(loss)
}

impl Plan {
    /// Learning rate of a step: constant, then linear to 5 % over the last 30 %.
    fn rate(&self, step: u64) -> f64 {
        let left = 1.0 - step as f64 / self.steps as f64;
        self.lr * (left / 0.3).clamp(0.05, 1.0)
    }
}

/// Sets the weight of the rows with the largest losses to 0, at most `share` of them.
fn leave_out_worst(losses: &[f64], share: f64, sample_weight: &mut [f32]) {
    let n_kept = losses.len() - (share * losses.len() as f64) as usize;
    let mut sorted = losses.to_vec();
    let limit = *sorted.select_nth_unstable_by(n_kept.max(1) - 1, f64::total_cmp).1;
    for (weight, loss) in sample_weight.iter_mut().zip(losses) {
        *weight = f32::from(u8::from(*loss <= limit));
    }
}

/// Batches of rows in shuffled epochs.
struct Batches {
    order: Vec<usize>,
    at: usize,
    x: Array2<f32>,
    mask: Array2<f32>,
    input_mask: Array2<f32>,
    /// An input is hidden when 32 random bits are below this.
    hidden_below: u32,
}

impl Batches {
    fn new(n_total: usize, n_rows: usize, n_inputs: usize, masking: f64) -> Self {
        let zeros = || Array2::zeros((n_rows, n_inputs));
        let hidden_below = (masking * f64::from(u32::MAX)) as u32;
        let order: Vec<usize> = (0..n_total).collect();
        Self { at: order.len(), order, x: zeros(), mask: zeros(), input_mask: zeros(), hidden_below }
    }

    fn example<'a>(&'a self, sample_weight: &'a [f32]) -> Example<'a, f32> {
        Example { x: self.x.view(), mask: self.mask.view(), input_mask: self.input_mask.view(), sample_weight }
    }

    fn next(&mut self, x: ArrayView2<'_, f32>, mask: ArrayView2<'_, f32>, rng: &mut impl Rng) {
        for row in 0..self.x.nrows() {
            if self.at == self.order.len() {
                self.order.shuffle(rng);
                self.at = 0;
            }
            let from = self.order[self.at];
            self.at += 1;
            self.x.row_mut(row).assign(&x.index_axis(Axis(0), from));
            self.mask.row_mut(row).assign(&mask.index_axis(Axis(0), from));
        }
        let hidden_below = self.hidden_below;
        self.input_mask.zip_mut_with(&self.mask, |input, &m| {
            *input = if rng.next_u32() < hidden_below { 0.0 } else { m };
        });
    }
}
