//! `topk`: the k largest of relu(a), unbounded.
//!
//! MODEL 2.3; Makhzani & Frey's k-sparse autoencoder with a relu, dead latents revived by the auxiliary loss of Gao et
//! al. For reading dictionaries: outliers are reconstructed, too.

use ndarray::ArrayViewMut2;

use super::autoencoder::Autoencoder;
use super::form::{Form, Pass, Stage, by_slope, each_row};
use super::gradient::Gradient;
use super::real::Real;
use super::select::keep_largest;

pub(super) struct Topk;

impl<F: Real> Form<F> for Topk {
    fn activate(&self, model: &Autoencoder<F>, latents: &mut ArrayViewMut2<'_, F>, _: Stage) {
        each_row(latents, |row| keep_largest(row, model.k));
    }

    fn backward(&self, pass: &Pass<'_, F>, at_latents: &mut ArrayViewMut2<'_, F>, _: &mut Gradient<F>) {
        by_slope(pass.latents, at_latents, |_| F::one());
    }

    fn ignores_silent(&self) -> bool {
        true
    }

    fn revives(&self) -> bool {
        true
    }
}
