//! `jumprelu`: a where it exceeds a learnt threshold of its latent, else 0.
//!
//! MODEL 2.3 to 2.5; Rajamanoharan et al., JumpReLU: the threshold's gradient is a straight-through estimate with a
//! rectangle kernel; none passes to a. The penalty counts active latents: λ₀(L0/k − 1)², or linear (λ₀/k)·L0.

use ndarray::ArrayViewMut2;

use super::autoencoder::Autoencoder;
use super::form::{Form, Pass, Stage, by_slope};
use super::gradient::Gradient;
use super::objective::L0Form;
use super::real::Real;

pub(super) struct JumpRelu;

impl JumpRelu {
    /// Mean number of active latents, and the penalty's slope by it.
    fn l0<F: Real>(pass: &Pass<'_, F>) -> (f64, f64) {
        let active = |row: ndarray::ArrayView1<'_, F>| row.iter().filter(|f| **f > F::zero()).count() as f64;
        let l0: f64 = pass.latents.rows().into_iter().zip(pass.share).map(|(row, share)| share * active(row)).sum();
        let (lambda, k) = (pass.objective.l0, pass.model.k as f64);
        match pass.objective.l0_form {
            L0Form::Linear => (lambda * l0 / k, lambda / k),
            L0Form::Quadratic => (lambda * (l0 / k - 1.0).powi(2), 2.0 * lambda * (l0 / k - 1.0) / k),
        }
    }
}

impl<F: Real> Form<F> for JumpRelu {
    fn activate(&self, model: &Autoencoder<F>, latents: &mut ArrayViewMut2<'_, F>, _: Stage) {
        for mut row in latents.rows_mut() {
            row.zip_mut_with(&model.threshold, |a, &theta| *a = if *a > theta { *a } else { F::zero() });
        }
    }

    fn penalise(&self, pass: &Pass<'_, F>, _: &mut ArrayViewMut2<'_, F>, _: &mut Gradient<F>) -> f64 {
        Self::l0(pass).0
    }

    fn backward(&self, pass: &Pass<'_, F>, at_latents: &mut ArrayViewMut2<'_, F>, gradient: &mut Gradient<F>) {
        let slope = Self::l0(pass).1;
        let bandwidth = pass.objective.bandwidth;
        let theta = &pass.model.threshold;
        let mut sums = vec![0.0; theta.len()];
        for ((pre, at), share) in pass.pre.rows().into_iter().zip(at_latents.rows()).zip(pass.share) {
            for (((sum, a), g), theta) in sums.iter_mut().zip(pre).zip(at).zip(theta) {
                if (*a - *theta).wide().abs() < bandwidth / 2.0 {
                    *sum -= (theta.wide() * g.wide() + slope * share) / bandwidth;
                }
            }
        }
        for ((out, sum), theta) in gradient.threshold.iter_mut().zip(sums).zip(theta) {
            *out = F::of(theta.wide() * sum);
        }
        by_slope(pass.latents, at_latents, |_| F::one());
    }

    fn needs_pre(&self) -> bool {
        true
    }
}
