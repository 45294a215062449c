//! `sigmoid`: the classical sparse autoencoder, whose latents' mean activations are held near a wanted rate.
//!
//! MODEL 2.4; Ng, CS294A: (β/M) Σ_i KL(ρ ‖ ρ̂_i), ρ̂_i = Σ_b σ_b f_bi. The means need batches of 256 rows or more.

use ndarray::ArrayViewMut2;

use super::autoencoder::Autoencoder;
use super::form::{Form, Pass, Stage, by_slope, each_row};
use super::gradient::Gradient;
use super::layers::Activation;
use super::real::Real;

/// Mean activations are held this far from 0 and 1, where the divergence is infinite.
const RATE_MIN: f64 = 1e-6;

pub(super) struct Sigmoid;

impl<F: Real> Form<F> for Sigmoid {
    fn activate(&self, _: &Autoencoder<F>, latents: &mut ArrayViewMut2<'_, F>, _: Stage) {
        each_row(latents, |row| Activation::Sigmoid.apply(row));
    }

    fn penalise(&self, pass: &Pass<'_, F>, at_latents: &mut ArrayViewMut2<'_, F>, _: &mut Gradient<F>) -> f64 {
        let (beta, wanted) = (pass.objective.kl, pass.objective.kl_rate);
        let factor = beta / pass.latents.ncols() as f64;
        let mut rates = vec![0.0; pass.latents.ncols()];
        for (latents, share) in pass.latents.rows().into_iter().zip(pass.share) {
            for (rate, f) in rates.iter_mut().zip(latents) {
                *rate += share * f.wide();
            }
        }
        let mut penalty = 0.0;
        let slopes: Vec<f64> = rates
            .iter()
            .map(|&rate| {
                let held = rate.clamp(RATE_MIN, 1.0 - RATE_MIN);
                let (on, off) = (wanted / held, (1.0 - wanted) / (1.0 - held));
                penalty += factor * (wanted * on.ln() + (1.0 - wanted) * off.ln());
                if held == rate { factor * (off - on) } else { 0.0 }
            })
            .collect();
        for (mut at_latents, share) in at_latents.rows_mut().into_iter().zip(pass.share) {
            for (g, slope) in at_latents.iter_mut().zip(&slopes) {
                *g += F::of(slope * share);
            }
        }
        penalty
    }

    fn backward(&self, pass: &Pass<'_, F>, at_latents: &mut ArrayViewMut2<'_, F>, _: &mut Gradient<F>) {
        by_slope(pass.latents, at_latents, |f| f * (F::one() - f));
    }
}
