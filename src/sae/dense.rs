//! `dense`: the traditional autoencoder, whose latents are those of any other layer.
//!
//! MODEL 2.3. No latent is held at zero; what keeps it from copying its input is a bottleneck, weight decay and input
//! masking. The code's activation is that of the hidden layers.

use ndarray::ArrayViewMut2;

use super::autoencoder::Autoencoder;
use super::form::{Form, Pass, Stage, each_row};
use super::gradient::Gradient;
use super::real::Real;

pub(super) struct Dense;

impl<F: Real> Form<F> for Dense {
    fn activate(&self, model: &Autoencoder<F>, latents: &mut ArrayViewMut2<'_, F>, _: Stage) {
        each_row(latents, |row| model.activation.apply(row));
    }

    fn backward(&self, pass: &Pass<'_, F>, at_latents: &mut ArrayViewMut2<'_, F>, _: &mut Gradient<F>) {
        pass.model.activation.backward(pass.pre, pass.latents, at_latents);
    }

    fn needs_pre(&self) -> bool {
        true
    }
}
