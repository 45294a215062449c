//! `relu`: latents relu(a) under an L1 penalty.
//!
//! MODEL 2.4: (λ/√D) Σ_b σ_b Σ_i f_bi‖d_i‖. The penalty weighs each latent by its decoder row's length, so that smaller
//! latents with longer rows are no escape. λ is warmed up.

use ndarray::ArrayViewMut2;

use super::autoencoder::Autoencoder;
use super::form::{Form, Pass, Stage, by_slope, each_row};
use super::gradient::Gradient;
use super::real::Real;

pub(super) struct Relu;

impl<F: Real> Form<F> for Relu {
    fn activate(&self, _: &Autoencoder<F>, latents: &mut ArrayViewMut2<'_, F>, _: Stage) {
        each_row(latents, |row| {
            for a in row {
                *a = if *a > F::zero() { *a } else { F::zero() };
            }
        });
    }

    fn penalise(&self, pass: &Pass<'_, F>, at_latents: &mut ArrayViewMut2<'_, F>, gradient: &mut Gradient<F>) -> f64 {
        let w_dec = &pass.model.w_dec;
        let factor = pass.l1_share * pass.objective.l1 / (w_dec.ncols() as f64).sqrt();
        if factor == 0.0 {
            return 0.0;
        }
        let lengths: Vec<f64> = w_dec.rows().into_iter().map(|row| length(row.iter())).collect();
        let mut used = vec![0.0; lengths.len()];
        for ((latents, mut at_latents), share) in
            pass.latents.rows().into_iter().zip(at_latents.rows_mut()).zip(pass.share)
        {
            for (((f, g), length), used) in latents.iter().zip(&mut at_latents).zip(&lengths).zip(&mut used) {
                *used += share * f.wide();
                *g += F::of(factor * share * length);
            }
        }
        let rows = gradient.w_dec.rows_mut().into_iter().zip(w_dec.rows()).zip(lengths.iter().zip(&used));
        for ((mut gradient, row), (length, used)) in rows {
            if *length > 0.0 {
                gradient.scaled_add(F::of(factor * used / length), &row);
            }
        }
        factor * lengths.iter().zip(&used).map(|(length, used)| length * used).sum::<f64>()
    }

    fn backward(&self, pass: &Pass<'_, F>, at_latents: &mut ArrayViewMut2<'_, F>, _: &mut Gradient<F>) {
        by_slope(pass.latents, at_latents, |_| F::one());
    }

    fn ignores_silent(&self) -> bool {
        true
    }
}

fn length<'a, F: Real>(row: impl Iterator<Item = &'a F>) -> f64 {
    row.map(|w| w.wide() * w.wide()).sum::<f64>().sqrt()
}
