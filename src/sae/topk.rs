//! `topk`: the k largest of relu(a), unbounded.
//!
//! MODEL 2.3; Makhzani & Frey's k-sparse autoencoder with a relu, dead latents revived by the auxiliary loss of Gao et
//! al. For reading dictionaries: outliers are reconstructed, too.

use ndarray::ArrayViewMut2;

use super::autoencoder::Autoencoder;
use super::form::{Form, Pass, Stage, by_slope};
use super::gradient::Gradient;
use super::real::Real;
use super::select::keep_largest_of_rows;

pub(super) struct Topk;

impl<F: Real> Form<F> for Topk {
    fn activate(&self, model: &Autoencoder<F>, latents: &mut ArrayViewMut2<'_, F>, _: Stage) {
        let width = latents.ncols();
        keep_largest_of_rows(latents.as_slice_mut().expect("the buffer's first rows are contiguous"), width, model.k);
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
