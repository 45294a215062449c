//! The steps of one training: batches in shuffled epochs, input masking, the course of the learning rate.
//!
//! MODEL 2.8: by default linear decay over the last 30 % of steps to 5 %. A step that is not finite is left out and halves
//! the rate; the third gives up (MODEL 2.6). It neither scales rows nor chooses them.

use ndarray::{Array1, Array2, ArrayView2, Axis};
use rand::seq::SliceRandom;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::holdout::mix;
use super::validation::Validation;
use super::{OnProgress, Progress, Stage, TrainError};
use crate::sae::{Autoencoder, Config, Example, Kind, Learner, Method, Pace, StartError, pca};
use crate::turn::give_way;

/// Steps that may be not finite before the training is given up.
const NOT_FINITE_MAX: u32 = 3;
/// Steps before rows are left out of batches: first the losses must mean something.
const TRIM_FROM: u64 = 10;
/// Steps between two reports of progress.
const REPORT_EVERY: u64 = 10;
/// Share of the steps over which the L1 penalty rises to its full weight (MODEL 2.4).
const L1_WARMUP: f64 = 0.1;

/// What is learnt from.
#[derive(Clone, Copy, Debug)]
pub(super) struct TrainingRows<'a> {
    /// Standardised values, `[rows, n_inputs]`.
    pub x: ArrayView2<'a, f32>,
    /// 1 observed, 0 missing, `[rows, n_inputs]`.
    pub mask: ArrayView2<'a, f32>,
    /// Weight of each input in the loss, `[n_inputs]`; empty: 1 each.
    pub column_weight: &'a [f32],
}

impl TrainingRows<'_> {
    /// The weights, written out.
    pub(super) fn column_weights(&self) -> Vec<f32> {
        if self.column_weight.is_empty() { vec![1.0; self.x.ncols()] } else { self.column_weight.to_vec() }
    }
}

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

/// Trains `model` on `rows`; returns the last loss.
///
/// # Errors
/// When the caller stops it or the loss is not finite three times.
pub(super) fn learn(
    model: &mut Autoencoder<f32>,
    rows: TrainingRows<'_>,
    config: &Config,
    plan: Plan,
    rng: &mut impl Rng,
    progress: OnProgress<'_>,
) -> Result<f64, TrainError> {
    if model.kind == Kind::Pca {
        return solve(model, rows, config, plan, progress);
    }
    let (order, mut validation) = Validation::split(&rows, config);
    let n_rows = config.batch_rows.min(order.len());
    let mut learner = Learner::new(model, method(config, order.len()));
    let units: Vec<usize> = model.hidden.iter().map(|layer| layer.bias.len()).collect();
    let mut batches = Batches::new(order, &rows, &units, config);
    let mut sample_weight = vec![1.0; n_rows];
    let mut losses = Vec::new();
    let (mut loss, mut scale, mut attempts) = (f64::NAN, 1.0, 0);
    for step in 0..plan.steps {
        batches.next(rows, rng);
        if plan.trim > 0.0 && step >= TRIM_FROM {
            sample_weight.fill(1.0);
            learner.row_losses(model, &batches.example(&sample_weight), &mut losses);
            leave_out_worst(&losses, plan.trim, &mut sample_weight);
        }
        let batch = batches.example(&sample_weight);
        let pace = Pace { lr: scale * plan.rate(step, config), l1_share: plan.warmth(step, L1_WARMUP) };
        match learner.step(model, &batch, pace) {
            Ok(of_step) => loss = of_step,
            Err(_) => {
                attempts += 1;
                scale /= 2.0;
                if attempts == NOT_FINITE_MAX {
                    return Err(TrainError::NotFinite { attempts, step });
                }
            }
        }
        plan.report(step + 1, loss, progress)?;
        give_way();
        if validation.as_mut().is_some_and(|judge| !judge.goes_on(step + 1, model, &mut learner)) {
            break;
        }
    }
    if let Some(best) = validation.and_then(Validation::into_best) {
        *model = best;
    }
    Ok(loss)
}

/// Computes principal components, which need no steps, and returns their loss.
fn solve(
    model: &mut Autoencoder<f32>,
    rows: TrainingRows<'_>,
    config: &Config,
    plan: Plan,
    progress: OnProgress<'_>,
) -> Result<f64, TrainError> {
    let failed = |error: ndarray_linalg::error::LinalgError| StartError::Components(error.to_string());
    let (sample_weight, column_weight) = (vec![1.0; rows.x.nrows()], rows.column_weights());
    let (x, mask) = (rows.x, rows.mask);
    *model = weighted_pca((x, mask), &column_weight, config.pca_variance).map_err(failed)?;
    let whole = Example {
        x,
        mask,
        input_mask: mask,
        sample_weight: &sample_weight,
        column_weight: &column_weight,
        hidden_scale: &[],
    };
    let mut losses = Vec::new();
    Learner::new(model, config.method()).row_losses(model, &whole, &mut losses);
    let loss = losses.iter().sum::<f64>() / losses.len().max(1) as f64;
    plan.report(plan.steps, loss, progress)?;
    Ok(loss)
}

/// Principal components of what the score weighs: x·√c, and back. `weights` are `[n_inputs]`.
fn weighted_pca(
    (x, mask): (ArrayView2<'_, f32>, ArrayView2<'_, f32>),
    weights: &[f32],
    share: f64,
) -> Result<Autoencoder<f32>, ndarray_linalg::error::LinalgError> {
    let roots: Array1<f32> = weights.iter().map(|weight| weight.sqrt()).collect();
    let mut model = pca((&x * &roots).view(), mask, share)?;
    model.w_enc *= &roots.view().insert_axis(Axis(1));
    model.w_dec /= &roots;
    model.b_dec /= &roots;
    Ok(model)
}

/// How the learner works on `n_rows`: a latent is not dead before it has had an epoch to fire.
fn method(config: &Config, n_rows: usize) -> Method {
    let mut method = config.method();
    method.objective.dead_rows = method.objective.dead_rows.max(n_rows as u64);
    method
}

impl Plan {
    /// Learning rate of a step: rises, is constant, and falls linearly to the floor.
    fn rate(&self, step: u64, config: &Config) -> f64 {
        let left = 1.0 - step as f64 / self.steps as f64;
        let falling = if config.lr_decay > 0.0 { left / config.lr_decay } else { 1.0 };
        self.lr * falling.clamp(config.lr_floor, 1.0) * self.warmth(step, config.lr_warmup)
    }

    /// How much of what is warmed up over the first `share` of the steps is in force, above 0 to 1.
    fn warmth(&self, step: u64, share: f64) -> f64 {
        let n_steps = share * self.steps as f64;
        if n_steps > 0.0 { ((step + 1) as f64 / n_steps).min(1.0) } else { 1.0 }
    }

    /// Tells the caller after every tenth step and the last.
    fn report(&self, steps_done: u64, loss: f64, progress: OnProgress<'_>) -> Result<(), TrainError> {
        let last = steps_done == self.steps;
        let steps_done = self.steps_before + steps_done;
        if steps_done.is_multiple_of(REPORT_EVERY) || last {
            let report = Progress { stage: self.stage, steps_done, steps_total: self.steps_total, loss };
            if progress(report).is_break() {
                return Err(TrainError::Stopped);
            }
        }
        Ok(())
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
    /// Random numbers, one for each input.
    words: Vec<u32>,
    column_weight: Vec<f32>,
    /// An input is hidden when 32 random bits are below this.
    hidden_below: u32,
    /// Dropout of each hidden layer, `[rows, n_units]`; no layers when there is none.
    hidden_scale: Vec<Array2<f32>>,
    dropout: f64,
}

impl Batches {
    /// Batches of the rows in `order`; `units` are the sizes of the hidden layers.
    fn new(order: Vec<usize>, rows: &TrainingRows<'_>, units: &[usize], config: &Config) -> Self {
        let n_rows = config.batch_rows.min(order.len());
        let zeros = |n_columns: usize| Array2::zeros((n_rows, n_columns));
        let n_inputs = rows.x.ncols();
        let dropped = if config.dropout > 0.0 { units } else { &[] };
        Self {
            at: order.len(),
            order,
            x: zeros(n_inputs),
            mask: zeros(n_inputs),
            input_mask: zeros(n_inputs),
            words: vec![0; n_rows * n_inputs],
            column_weight: rows.column_weights(),
            hidden_below: (config.input_masking * f64::from(u32::MAX)) as u32,
            hidden_scale: dropped.iter().map(|n_units| zeros(*n_units)).collect(),
            dropout: config.dropout,
        }
    }

    fn example<'a>(&'a self, sample_weight: &'a [f32]) -> Example<'a, f32> {
        Example {
            x: self.x.view(),
            mask: self.mask.view(),
            input_mask: self.input_mask.view(),
            sample_weight,
            column_weight: &self.column_weight,
            hidden_scale: &self.hidden_scale,
        }
    }

    fn next(&mut self, rows: TrainingRows<'_>, rng: &mut impl Rng) {
        for row in 0..self.x.nrows() {
            if self.at == self.order.len() {
                self.order.shuffle(rng);
                self.at = 0;
            }
            let from = self.order[self.at];
            self.at += 1;
            self.x.row_mut(row).assign(&rows.x.index_axis(Axis(0), from));
            self.mask.row_mut(row).assign(&rows.mask.index_axis(Axis(0), from));
        }
        rng.fill(&mut self.words[..]);
        let hidden_below = self.hidden_below;
        let entries = self.input_mask.iter_mut().zip(&self.mask).zip(&self.words);
        entries.for_each(|((input, &m), &word)| *input = if word < hidden_below { 0.0 } else { m });
        let kept = 1.0 - self.dropout;
        for scale in &mut self.hidden_scale {
            scale.mapv_inplace(|_| if rng.random_bool(kept) { (1.0 / kept) as f32 } else { 0.0 });
        }
    }
}

#[cfg(test)]
mod tests {
    use ndarray::array;

    use super::*;
    use crate::sae::Forward;

    #[test]
    fn components_follow_what_the_score_weighs() {
        // Variances 4 and 1, weighed a tenth and whole: one component must be the second input.
        let (x, mask) = (array![[2.0, 1.0], [-2.0, 1.0], [2.0, -1.0], [-2.0, -1.0]], Array2::ones((4, 2)));
        let recons = |weights: &[f32]| {
            let model = weighted_pca((x.view(), mask.view()), weights, 0.5).expect("it converges");
            let mut forward = Forward::default();
            model.forward(x.view(), mask.view(), &mut forward);
            forward.recons().mapv(|v| (v * 1e4).round() / 1e4)
        };
        assert_eq!(recons(&[0.1, 1.0]), array![[0.0, 1.0], [0.0, 1.0], [0.0, -1.0], [0.0, -1.0]]);
        assert_eq!(recons(&[1.0, 1.0]), array![[2.0, 0.0], [-2.0, 0.0], [2.0, 0.0], [-2.0, 0.0]]);
    }
}
