//! `sat_topk`: the k largest of tanh(relu(a)), the default.
//!
//! MODEL 2.3: latents that saturate can't extrapolate, so outliers are not reconstructed (unbounded ones cost .017 to
//! .027 AUC on streams). tanh is monotone, so selection comes first.

use ndarray::ArrayViewMut2;

use super::autoencoder::Autoencoder;
use super::form::{Form, Pass, Stage, by_slope};
use super::gradient::Gradient;
use super::real::Real;
use super::select::keep_largest_of_rows;
use crate::wide::wide;

pub(super) struct SatTopk;

impl<F: Real> Form<F> for SatTopk {
    fn activate(&self, model: &Autoencoder<F>, latents: &mut ArrayViewMut2<'_, F>, _: Stage) {
        let width = latents.ncols();
        let rows = latents.as_slice_mut().expect("the buffer's first rows are contiguous");
        keep_largest_of_rows(rows, width, model.k);
        wide(
            #[inline(always)]
            || F::saturate(rows),
        );
    }

    fn backward(&self, pass: &Pass<'_, F>, at_latents: &mut ArrayViewMut2<'_, F>, _: &mut Gradient<F>) {
        by_slope(pass.latents, at_latents, |f| F::one() - f * f);
    }

    fn ignores_silent(&self) -> bool {
        true
    }
}

#[cfg(test)]
mod tests {
    use ndarray::array;

    use super::*;
    use crate::sae::{Kind, Shape};

    #[test]
    fn saturating_latents_stay_below_one() {
        let model = Autoencoder::<f32>::zeros(Kind::SatTopk, Shape { n_inputs: 1, n_latents: 3, k: 2 });
        let mut latents = array![[100.0_f32, 0.5, 0.1]];
        SatTopk.activate(&model, &mut latents.view_mut(), Stage::Scoring);
        let row = latents.row(0);
        assert!((row[0] - 1.0).abs() < 1e-6 && (row[1] - 0.5_f32.tanh()).abs() < 1e-6 && row[2] == 0.0, "{row:?}");
    }
}
