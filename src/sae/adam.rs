//! Adam with the step order that the reference fixtures were made with.
//!
//! MODEL 2.6: project the decoder gradient (unit norm only) → clip the global L2 norm at 1 → Adam (β .9 and .999,
//! ε 1e-8 outside the root) → renormalise decoder rows (unit norm only). A step that is not finite changes nothing.

use ndarray::Zip;

use super::autoencoder::Autoencoder;
use super::config::DecoderNorm;
use super::gradient::Gradient;
use super::real::Real;

const BETA1: f64 = 0.9;
const BETA2: f64 = 0.999;
const EPSILON: f64 = 1e-8;
const NORM_MAX: f64 = 1.0;

/// First and second moments, and the number of steps taken.
#[derive(Clone, Debug)]
pub(super) struct Adam<F> {
    first: Gradient<F>,
    second: Gradient<F>,
    n_steps: i32,
}

impl<F: Real> Adam<F> {
    /// Zero moments for `model`.
    pub(super) fn new(model: &Autoencoder<F>) -> Self {
        Self { first: Gradient::zeros(model), second: Gradient::zeros(model), n_steps: 0 }
    }

    /// Changes `model` by one step down `gradient` (which it overwrites); false when the gradient is not finite.
    pub(super) fn step(
        &mut self,
        model: &mut Autoencoder<F>,
        gradient: &mut Gradient<F>,
        lr: f64,
        norm: DecoderNorm,
    ) -> bool {
        if norm == DecoderNorm::Unit {
            project(model, gradient);
        }
        let squares = |flat: &[F]| flat.iter().map(|g| g.wide() * g.wide()).sum::<f64>();
        let length = gradient.flat_mut().iter().map(|flat| squares(flat)).sum::<f64>().sqrt();
        if !length.is_finite() {
            return false;
        }
        let clip = F::of((NORM_MAX / (length + 1e-6)).min(1.0));
        self.n_steps += 1;
        let rate = F::of(lr / (1.0 - BETA1.powi(self.n_steps)));
        let root = F::of((1.0 - BETA2.powi(self.n_steps)).sqrt());
        let tensors = weights(model).into_iter().zip(gradient.flat_mut());
        for ((weights, gradient), (first, second)) in
            tensors.zip(self.first.flat_mut().into_iter().zip(self.second.flat_mut()))
        {
            update(weights, gradient, first, second, Rates { clip, rate, root });
        }
        if norm == DecoderNorm::Unit {
            renormalise(model);
        }
        true
    }
}

/// The factors of one step.
#[derive(Clone, Copy)]
struct Rates<F> {
    clip: F,
    rate: F,
    root: F,
}

fn update<F: Real>(weights: &mut [F], gradient: &[F], first: &mut [F], second: &mut [F], rates: Rates<F>) {
    let (beta1, beta2, epsilon) = (F::of(BETA1), F::of(BETA2), F::of(EPSILON));
    let (rest1, rest2) = (F::of(1.0 - BETA1), F::of(1.0 - BETA2));
    for (((weight, &g), m), v) in weights.iter_mut().zip(gradient).zip(first).zip(second) {
        let g = g * rates.clip;
        *m = beta1 * *m + rest1 * g;
        *v = beta2 * *v + rest2 * g * g;
        *weight -= rates.rate * *m / (v.sqrt() / rates.root + epsilon);
    }
}

/// The tensors as flat slices, in the order of [`Gradient::flat_mut`].
fn weights<F: Real>(model: &mut Autoencoder<F>) -> [&mut [F]; 4] {
    let contiguous = "weights are made in standard layout";
    [
        model.w_enc.as_slice_mut().expect(contiguous),
        model.b_enc.as_slice_mut().expect(contiguous),
        model.w_dec.as_slice_mut().expect(contiguous),
        model.b_dec.as_slice_mut().expect(contiguous),
    ]
}

/// Takes from each decoder row's gradient what would only change the row's length.
fn project<F: Real>(model: &Autoencoder<F>, gradient: &mut Gradient<F>) {
    Zip::from(gradient.w_dec.rows_mut()).and(model.w_dec.rows()).for_each(|mut gradient, row| {
        let along = gradient.dot(&row);
        gradient.scaled_add(-along, &row);
    });
}

fn renormalise<F: Real>(model: &mut Autoencoder<F>) {
    for mut row in model.w_dec.rows_mut() {
        let length = row.dot(&row).sqrt().max(F::of(1e-8));
        row /= length;
    }
}
