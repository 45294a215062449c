//! Adam with the step order that the reference fixtures were made with.
//!
//! MODEL 2.6: project the decoder gradient (unit norm only) → clip the global L2 norm at 1 → Adam (β .9 and .999,
//! ε 1e-8 outside the root), with decoupled weight decay → renormalise decoder rows (unit norm only). A step that is not
//! finite changes nothing. θ of `jumprelu` is learnt as its logarithm.

use super::autoencoder::Autoencoder;
use super::config::{DecoderNorm, Method};
use super::gradient::{Gradient, flat};
use super::lanes::{add_scaled, dot, slice, slice_mut, sum_of_squares};
use super::real::Real;
use crate::wide::wide;

const BETA1: f64 = 0.9;
const BETA2: f64 = 0.999;
const EPSILON: f64 = 1e-8;
const NORM_MAX: f64 = 1.0;
/// ln θ stays within ±this: beyond it a latent is always or never active, and θ would end infinite.
const LN_THRESHOLD_MAX: f64 = 20.0;

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
        method: &Method,
    ) -> bool {
        if method.decoder_norm == DecoderNorm::Unit {
            project(model, gradient);
        }
        let length = gradient.flat_mut().map(|flat| sum_of_squares(flat)).sum::<f64>().sqrt();
        if !length.is_finite() {
            return false;
        }
        let clip = F::of((NORM_MAX / (length + 1e-6)).min(1.0));
        self.n_steps += 1;
        let rate = F::of(lr / (1.0 - BETA1.powi(self.n_steps)));
        let root = F::of((1.0 - BETA2.powi(self.n_steps)).sqrt());
        decay(model, lr, method);
        model.threshold.mapv_inplace(|theta| theta.ln());
        let tensors = weights(model).zip(gradient.flat_mut());
        for ((weights, gradient), moments) in tensors.zip(self.first.flat_mut().zip(self.second.flat_mut())) {
            wide(
                #[inline(always)]
                || update(weights, gradient, moments, Rates { clip, rate, root }),
            );
        }
        let most = LN_THRESHOLD_MAX;
        model.threshold.mapv_inplace(|ln| ln.max(F::of(-most)).min(F::of(most)).exp());
        if method.decoder_norm == DecoderNorm::Unit {
            renormalise(model);
        }
        if method.tied {
            model.w_enc.assign(&model.w_dec.t());
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

#[inline(always)]
fn update<F: Real>(weights: &mut [F], gradient: &[F], (first, second): (&mut [F], &mut [F]), rates: Rates<F>) {
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
fn weights<F: Real>(model: &mut Autoencoder<F>) -> impl Iterator<Item = &mut [F]> {
    let Autoencoder { w_enc, b_enc, w_dec, b_dec, threshold, hidden, .. } = model;
    flat((w_enc, b_enc), (w_dec, b_dec), threshold, hidden)
}

/// Shrinks the encoder's and the hidden layers' weights towards 0, apart from the gradient; never biases, thresholds or
/// rows of unit length, where it would be noise.
fn decay<F: Real>(model: &mut Autoencoder<F>, lr: f64, method: &Method) {
    if method.weight_decay == 0.0 {
        return;
    }
    let kept = F::of(1.0 - lr * method.weight_decay);
    for layer in &mut model.hidden {
        layer.weight *= kept;
    }
    if !method.tied {
        model.w_enc *= kept;
    } else if method.decoder_norm == DecoderNorm::Free {
        model.w_dec *= kept;
    }
}

/// Takes from each decoder row's gradient what would only change the row's length.
fn project<F: Real>(model: &Autoencoder<F>, gradient: &mut Gradient<F>) {
    let (w_dec, mut gradient, n) = (model.w_dec.view(), gradient.w_dec.view_mut(), model.w_dec.ncols().max(1));
    wide(
        #[inline(always)]
        || {
            for (gradient, row) in slice_mut(&mut gradient).chunks_exact_mut(n).zip(slice(&w_dec).chunks_exact(n)) {
                let along = dot(gradient, row);
                add_scaled(-along, row, gradient);
            }
        },
    );
}

fn renormalise<F: Real>(model: &mut Autoencoder<F>) {
    let n = model.w_dec.ncols().max(1);
    let mut w_dec = model.w_dec.view_mut();
    wide(
        #[inline(always)]
        || {
            for row in slice_mut(&mut w_dec).chunks_exact_mut(n) {
                let length = dot(row, row).sqrt().max(F::of(1e-8));
                row.iter_mut().for_each(|entry| *entry /= length);
            }
        },
    );
}

#[cfg(test)]
mod tests {
    use ndarray::array;

    use super::*;
    use crate::sae::layers::Layer;
    use crate::sae::{Config, Kind, Shape};

    fn model() -> Autoencoder<f64> {
        let shape = Shape { n_inputs: 2, n_latents: 2, k: 1 };
        Autoencoder {
            w_enc: array![[1.0, 2.0], [3.0, 4.0]],
            w_dec: array![[3.0, 4.0], [0.6, 0.8]],
            hidden: vec![Layer { weight: array![[5.0, 0.0], [0.0, 5.0]], bias: array![1.0, 1.0] }],
            threshold: array![0.5, 2.0],
            ..Autoencoder::zeros(Kind::Jumprelu, shape)
        }
    }

    #[test]
    fn decay_is_decoupled_and_leaves_biases_decoder_and_thresholds_alone() {
        let (mut decayed, start) = (model(), model());
        let method = Method { weight_decay: 0.1, ..Config::default().method() };
        let mut gradient = Gradient::zeros(&start);
        assert!(Adam::new(&start).step(&mut decayed, &mut gradient, 0.5, &method));
        assert_eq!(decayed.w_enc, &start.w_enc * 0.95, "(1 − lr·λ) of the weight at a zero gradient");
        assert_eq!(decayed.hidden[0].weight, &start.hidden[0].weight * 0.95);
        assert_eq!((&decayed.hidden[0].bias, &decayed.w_dec), (&start.hidden[0].bias, &start.w_dec));
        assert!((&decayed.threshold - &start.threshold).iter().all(|d| d.abs() < 1e-15));
    }

    #[test]
    fn the_first_step_is_the_rate_in_the_direction_of_the_sign() {
        let (mut stepped, start) = (model(), model());
        let mut gradient = Gradient::zeros(&start);
        gradient.b_dec = array![0.3, -0.4];
        gradient.threshold = array![0.0, 0.1];
        assert!(Adam::new(&start).step(&mut stepped, &mut gradient, 0.01, &Config::default().method()));
        assert!((&stepped.b_dec - &array![-0.01, 0.01]).iter().all(|d| d.abs() < 1e-8), "{}", stepped.b_dec);
        assert!((stepped.threshold[1] - 2.0 * (-0.01_f64).exp()).abs() < 1e-7, "ln θ moves by the rate");
        gradient.b_dec[0] = f64::NAN;
        let before = stepped.clone();
        assert!(!Adam::new(&start).step(&mut stepped, &mut gradient, 0.01, &Config::default().method()));
        assert_eq!(stepped, before);
    }

    #[test]
    fn unit_rows_stay_unit_and_their_gradient_is_across_them() {
        let mut model = model();
        let method = Method { decoder_norm: DecoderNorm::Unit, ..Config::default().method() };
        renormalise(&mut model);
        let mut gradient = Gradient::zeros(&model);
        gradient.w_dec = array![[1.0, 2.0], [-3.0, 0.5]];
        project(&model, &mut gradient);
        for (g, d) in gradient.w_dec.rows().into_iter().zip(model.w_dec.rows()) {
            assert!(g.dot(&d).abs() <= 1e-12 * g.dot(&g).sqrt());
        }
        assert!(Adam::new(&model).step(&mut model, &mut gradient, 0.1, &method));
        assert!(model.w_dec.rows().into_iter().all(|row| (row.dot(&row) - 1.0).abs() < 1e-12));
    }
}
