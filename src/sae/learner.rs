//! One training step after another: forward, backward, Adam, over buffers that are reused.
//!
//! It does not choose rows, rates or the number of steps; `train` does.

use super::adam::Adam;
use super::autoencoder::{Autoencoder, Forward};
use super::config::DecoderNorm;
use super::gradient::{Backward, Example, Gradient};
use super::real::Real;

/// A loss or gradient was not finite; the step was left out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("loss or gradient is not finite")]
pub struct NotFinite;

/// The state of a training: moments and buffers.
#[derive(Clone, Debug)]
pub struct Learner<F = f32> {
    adam: Adam<F>,
    gradient: Gradient<F>,
    forward: Forward<F>,
    backward: Backward<F>,
    norm: DecoderNorm,
}

impl<F: Real> Learner<F> {
    /// Starts with zero moments.
    pub fn new(model: &Autoencoder<F>, norm: DecoderNorm) -> Self {
        Self {
            adam: Adam::new(model),
            gradient: Gradient::zeros(model),
            forward: Forward::default(),
            backward: Backward::default(),
            norm,
        }
    }

    /// Loss and gradient at `batch`, without a step.
    ///
    /// The loss is per observed value: for standardised rows about the share of variance not explained.
    pub fn gradient(&mut self, model: &Autoencoder<F>, batch: &Example<'_, F>) -> (f64, &Gradient<F>) {
        model.forward(batch.x, batch.input_mask, &mut self.forward);
        let loss = self.backward.run(model, batch, &self.forward, &mut self.gradient);
        (loss, &self.gradient)
    }

    /// Mean squared residual of each row of `batch`, `[rows]`, as the encoder sees it, without a step.
    pub fn row_losses(&mut self, model: &Autoencoder<F>, batch: &Example<'_, F>, losses: &mut Vec<f64>) {
        model.forward(batch.x, batch.input_mask, &mut self.forward);
        losses.clear();
        for ((recons, x), mask) in self.forward.recons().rows().into_iter().zip(batch.x.rows()).zip(batch.mask.rows()) {
            let square = |((r, x), m): ((&F, &F), &F)| ((*r - *x) * *m).wide().powi(2);
            let sum: f64 = recons.iter().zip(x).zip(mask).map(square).sum();
            losses.push(sum / mask.sum().wide().max(1.0));
        }
    }

    /// Takes one step of size `lr` and returns the loss before it.
    ///
    /// # Errors
    /// When loss or gradient are not finite; the model is then unchanged.
    pub fn step(&mut self, model: &mut Autoencoder<F>, batch: &Example<'_, F>, lr: f64) -> Result<f64, NotFinite> {
        let (loss, _) = self.gradient(model, batch);
        let taken = loss.is_finite() && self.adam.step(model, &mut self.gradient, lr, self.norm);
        if taken { Ok(loss) } else { Err(NotFinite) }
    }
}
