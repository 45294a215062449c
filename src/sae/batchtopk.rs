//! `batchtopk`: training keeps the ⌊kB⌋ largest of a batch's relu(a); scoring keeps what exceeds a learnt threshold.
//!
//! MODEL 2.3; Bussmann et al., BatchTopK. Records may then use more or fewer latents than k. The threshold follows the
//! least activation that training kept. Not for detection: odd records recruit more latents and are reconstructed.

use ndarray::{ArrayView2, ArrayViewMut2};

use super::autoencoder::Autoencoder;
use super::form::{Form, Pass, Stage, by_slope, each_row};
use super::gradient::Gradient;
use super::real::Real;
use super::select::keep_largest;

/// What of the threshold a batch leaves as it was: it averages over about a hundred batches.
const KEPT: f64 = 0.99;

pub(super) struct BatchTopk;

impl<F: Real> Form<F> for BatchTopk {
    fn activate(&self, model: &Autoencoder<F>, latents: &mut ArrayViewMut2<'_, F>, stage: Stage) {
        match stage {
            Stage::Training => {
                let n_kept = model.k * latents.nrows();
                let batch = latents.as_slice_mut().expect("the buffer's first rows are contiguous");
                keep_largest(batch, n_kept);
            }
            Stage::Scoring => {
                let limit = F::of(model.topk_threshold.max(0.0));
                each_row(latents, |row| {
                    for a in row {
                        *a = if *a > limit { *a } else { F::zero() };
                    }
                });
            }
        }
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

    fn learnt(&self, model: &mut Autoencoder<F>, latents: ArrayView2<'_, F>) {
        let positive = latents.iter().filter(|f| **f > F::zero()).map(|f| f.wide());
        let Some(least) = positive.min_by(f64::total_cmp) else { return };
        let threshold = &mut model.topk_threshold;
        *threshold = if *threshold == 0.0 { least } else { KEPT * *threshold + (1.0 - KEPT) * least };
    }
}

#[cfg(test)]
mod tests {
    use ndarray::array;

    use super::*;
    use crate::sae::{Kind, Shape};

    #[test]
    fn rows_of_a_batch_share_their_latents_and_the_threshold_follows() {
        let mut model = Autoencoder::<f64>::zeros(Kind::Batchtopk, Shape { n_inputs: 1, n_latents: 3, k: 1 });
        let mut latents = array![[5.0, 4.0, 1.0], [3.0, -1.0, 2.0]];
        let pre = latents.clone();
        BatchTopk.activate(&model, &mut latents.view_mut(), Stage::Training);
        assert_eq!(latents, array![[5.0, 4.0, 0.0], [0.0, 0.0, 0.0]]);
        BatchTopk.learnt(&mut model, latents.view());
        assert_eq!(model.topk_threshold, 4.0, "the first batch sets it");
        BatchTopk.learnt(&mut model, array![[2.0, 0.0, 0.0]].view());
        assert!((model.topk_threshold - 3.98).abs() < 1e-12);
        let mut scored = pre;
        BatchTopk.activate(&model, &mut scored.view_mut(), Stage::Scoring);
        assert_eq!(scored, array![[5.0, 4.0, 0.0], [0.0, 0.0, 0.0]]);
    }
}
