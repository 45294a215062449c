//! One training step after another: forward, backward, Adam, over buffers that are reused.
//!
//! It does not choose rows, rates or the number of steps; `train` does.

use super::adam::Adam;
use super::autoencoder::{Autoencoder, Forward};
use super::config::Method;
use super::gradient::{Aim, Backward, Example, Gradient};
use super::lanes::slice;
use super::real::Real;
use crate::wide::wide;

/// Latents below this don't fire.
const FIRES_ABOVE: f64 = 1e-6;

/// A loss or gradient was not finite; the step was left out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("loss or gradient is not finite")]
pub struct NotFinite;

/// How far one step goes.
#[derive(Clone, Copy, Debug)]
pub struct Pace {
    /// Learning rate.
    pub lr: f64,
    /// Share of the L1 penalty that is in force, 0 to 1.
    pub l1_share: f64,
}

/// The state of a training: moments, firing counters and buffers.
#[derive(Clone, Debug)]
pub struct Learner<F = f32> {
    adam: Adam<F>,
    gradient: Gradient<F>,
    forward: Forward<F>,
    backward: Backward<F>,
    method: Method,
    since_fired: Vec<u64>,
    /// Row of the batch, from 1, at which each latent last fired, 0 where it didn't; `[n_latents]`.
    fired_at: Vec<u32>,
    dead: Vec<bool>,
}

impl<F: Real> Learner<F> {
    /// Starts with zero moments, and every latent as if it had just fired.
    pub fn new(model: &Autoencoder<F>, method: Method) -> Self {
        Self {
            adam: Adam::new(model),
            gradient: Gradient::zeros(model),
            forward: Forward::default(),
            backward: Backward::default(),
            method,
            since_fired: vec![0; model.b_enc.len()],
            fired_at: vec![0; model.b_enc.len()],
            dead: vec![false; model.b_enc.len()],
        }
    }

    /// Goes on from these numbers of training rows since each latent fired, `[n_latents]`.
    pub fn counting_from(mut self, since_fired: Vec<u64>) -> Self {
        assert_eq!(since_fired.len(), self.since_fired.len(), "since_fired must be [n_latents]");
        self.since_fired = since_fired;
        self
    }

    /// Training rows since each latent fired, `[n_latents]`.
    pub fn since_fired(&self) -> &[u64] {
        &self.since_fired
    }

    /// The last pass over a batch.
    pub fn forward(&self) -> &Forward<F> {
        &self.forward
    }

    /// Loss and gradient at `batch` with all of every penalty, without a step.
    ///
    /// The loss is per observed value: for standardised rows about the share of variance not explained.
    pub fn gradient(&mut self, model: &Autoencoder<F>, batch: &Example<'_, F>) -> (f64, &Gradient<F>) {
        let loss = self.pass(model, batch, 1.0);
        (loss, &self.gradient)
    }

    /// Mean squared residual of each row of `batch`, `[rows]`, as the encoder sees it, without a step.
    pub fn row_losses(&mut self, model: &Autoencoder<F>, batch: &Example<'_, F>, losses: &mut Vec<f64>) {
        model.forward_training(batch, false, &mut self.forward);
        losses.clear();
        for ((recons, x), mask) in self.forward.recons().rows().into_iter().zip(batch.x.rows()).zip(batch.mask.rows()) {
            let columns = mask.iter().zip(batch.column_weight);
            let (mut sum, mut weight) = (0.0, 0.0);
            for ((&r, &x), (&m, &c)) in recons.iter().zip(x).zip(columns) {
                sum += c.wide() * ((r - x) * m).wide().powi(2);
                weight += (m * c).wide();
            }
            losses.push(sum / weight.max(1.0));
        }
    }

    /// Takes one step and returns the loss before it.
    ///
    /// # Errors
    /// When loss or gradient are not finite; the model is then unchanged.
    pub fn step(&mut self, model: &mut Autoencoder<F>, batch: &Example<'_, F>, pace: Pace) -> Result<f64, NotFinite> {
        let loss = self.pass(model, batch, pace.l1_share);
        let taken = loss.is_finite() && self.adam.step(model, &mut self.gradient, pace.lr, &self.method);
        if !taken {
            return Err(NotFinite);
        }
        if model.kind.form::<F>().revives() {
            self.count_firing(batch.sample_weight);
        }
        model.kind.form().learnt(model, self.forward.latents());
        Ok(loss)
    }

    fn pass(&mut self, model: &Autoencoder<F>, batch: &Example<'_, F>, l1_share: f64) -> f64 {
        let form = model.kind.form::<F>();
        let revives = form.revives() && self.method.objective.aux > 0.0;
        for (dead, since) in self.dead.iter_mut().zip(&self.since_fired) {
            *dead = revives && *since >= self.method.objective.dead_rows;
        }
        model.forward_training(batch, revives || form.needs_pre(), &mut self.forward);
        let Method { ref objective, tied, .. } = self.method;
        let aim = Aim { objective, l1_share, tied, dead: &self.dead };
        self.backward.run(model, batch, &self.forward, aim, &mut self.gradient)
    }

    /// Counts the rows that are learnt from; those of weight 0 are not.
    fn count_firing(&mut self, sample_weight: &[F]) {
        let fires = F::of(FIRES_ABOVE);
        let latents = self.forward.latents();
        let fired_at = &mut self.fired_at;
        fired_at.fill(0);
        let mut n_counted = 0;
        wide(
            #[inline(always)]
            || {
                let rows = slice(&latents).chunks_exact(fired_at.len().max(1)).zip(sample_weight);
                for (latents, _) in rows.filter(|(_, weight)| **weight > F::zero()) {
                    n_counted += 1;
                    for (at, &f) in fired_at.iter_mut().zip(latents) {
                        *at = if f > fires { n_counted } else { *at };
                    }
                }
            },
        );
        for (since, &at) in self.since_fired.iter_mut().zip(&self.fired_at) {
            *since = if at > 0 { 0 } else { *since } + u64::from(n_counted - at);
        }
    }
}

#[cfg(test)]
mod tests {
    use ndarray::{Array2, array};

    use super::*;
    use crate::sae::{Config, Kind, Shape};

    #[test]
    fn rows_since_a_latent_fired_are_counted_without_those_of_no_weight() {
        let model = Autoencoder::<f32>::zeros(Kind::Topk, Shape { n_inputs: 1, n_latents: 3, k: 1 });
        let model = Autoencoder { w_enc: array![[1.0, -1.0, 0.0]], ..model };
        let mut learner = Learner::new(&model, Config::default().method()).counting_from(vec![5, 5, 5]);
        let (x, ones) = (array![[2.0], [-2.0], [-2.0], [-2.0]], Array2::ones((4, 1)));
        model.forward(x.view(), ones.view(), &mut learner.forward);
        learner.count_firing(&[1.0, 1.0, 0.0, 1.0]);
        assert_eq!(learner.since_fired(), [2, 0, 8]);
    }
}
