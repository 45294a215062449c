//! The loss of a batch and its exact gradient.
//!
//! MODEL 2.4 and 2.5: L = Σ_b w_b Σ_j m_bj (x̂−x)², w_b = s_b / Σ s_b·n_b. The term of b_dec through the encoder's input
//! is part of it (forgetting it is the commonest error). It never changes a weight; `adam.rs` does.

use ndarray::linalg::general_mat_mul;
use ndarray::{Array1, Array2, ArrayView2, Axis, s};

use super::autoencoder::{Autoencoder, Forward, fit_buffer};
use super::real::Real;

/// One training batch.
#[derive(Clone, Copy, Debug)]
pub struct Example<'a, F> {
    /// Standardised rows, `[rows, n_inputs]`: what is to be reconstructed.
    pub x: ArrayView2<'a, F>,
    /// 1 where a value is observed and counts in the loss, `[rows, n_inputs]`.
    pub mask: ArrayView2<'a, F>,
    /// 1 where the encoder sees the value, `[rows, n_inputs]`: `mask` less what input masking hides.
    pub input_mask: ArrayView2<'a, F>,
    /// Weight of each row, `[rows]`, not negative.
    pub sample_weight: &'a [F],
}

/// A gradient, or a moment of gradients: one array for each tensor of the autoencoder, in its shape.
#[derive(Clone, Debug, PartialEq)]
pub struct Gradient<F> {
    /// Of `W_enc`, `[n_inputs, n_latents]`.
    pub w_enc: Array2<F>,
    /// Of `b_enc`, `[n_latents]`.
    pub b_enc: Array1<F>,
    /// Of `W_dec`, `[n_latents, n_inputs]`.
    pub w_dec: Array2<F>,
    /// Of `b_dec`, `[n_inputs]`.
    pub b_dec: Array1<F>,
}

/// The buffers of a backward pass.
#[derive(Clone, Debug)]
pub(super) struct Backward<F> {
    /// Gradient at the reconstruction, later at the encoder's input, `[rows, n_inputs]`.
    at_recons: Array2<F>,
    /// Gradient at the latents, later at the pre-activations, `[rows, n_latents]`.
    at_latents: Array2<F>,
}

impl<F: Real> Default for Backward<F> {
    fn default() -> Self {
        Self { at_recons: Array2::zeros((0, 0)), at_latents: Array2::zeros((0, 0)) }
    }
}

impl<F: Real> Gradient<F> {
    /// All zeros, in the shapes of `model`.
    pub fn zeros(model: &Autoencoder<F>) -> Self {
        Self {
            w_enc: Array2::zeros(model.w_enc.dim()),
            b_enc: Array1::zeros(model.b_enc.dim()),
            w_dec: Array2::zeros(model.w_dec.dim()),
            b_dec: Array1::zeros(model.b_dec.dim()),
        }
    }

    /// The four arrays as flat slices, always in the same order.
    pub fn flat_mut(&mut self) -> [&mut [F]; 4] {
        let contiguous = "gradients are made in standard layout";
        [
            self.w_enc.as_slice_mut().expect(contiguous),
            self.b_enc.as_slice_mut().expect(contiguous),
            self.w_dec.as_slice_mut().expect(contiguous),
            self.b_dec.as_slice_mut().expect(contiguous),
        ]
    }
}

impl<F: Real> Backward<F> {
    /// Writes the gradient of `model` at `batch` and returns the loss; `forward` holds the pass over the batch.
    pub(super) fn run(
        &mut self,
        model: &Autoencoder<F>,
        batch: &Example<'_, F>,
        forward: &Forward<F>,
        gradient: &mut Gradient<F>,
    ) -> f64 {
        let (n_rows, n_inputs) = batch.x.dim();
        fit_buffer(&mut self.at_recons, n_rows, n_inputs);
        fit_buffer(&mut self.at_latents, n_rows, model.b_enc.len());
        let mut at_recons = self.at_recons.slice_mut(s![..n_rows, ..]);
        let mut at_latents = self.at_latents.slice_mut(s![..n_rows, ..]);
        let (one, zero) = (F::one(), F::zero());

        let loss = residual_gradient(batch, forward, &mut at_recons);
        let latents = forward.latents();
        general_mat_mul(one, &latents.t(), &at_recons, zero, &mut gradient.w_dec);
        gradient.b_dec.assign(&at_recons.sum_axis(Axis(0)));
        general_mat_mul(one, &at_recons, &model.w_dec.t(), zero, &mut at_latents);
        for (latents, mut gradient) in latents.rows().into_iter().zip(at_latents.rows_mut()) {
            let latents = latents.to_slice().expect("latents are in standard layout");
            model.kind.backward(latents, gradient.as_slice_mut().expect("the buffer is in standard layout"));
        }
        general_mat_mul(one, &forward.centred().t(), &at_latents, zero, &mut gradient.w_enc);
        gradient.b_enc.assign(&at_latents.sum_axis(Axis(0)));
        general_mat_mul(one, &at_latents, &model.w_enc.t(), zero, &mut at_recons);
        at_recons *= &batch.input_mask;
        gradient.b_dec -= &at_recons.sum_axis(Axis(0));
        loss
    }
}

/// Writes 2 w_b m_bj (x̂−x) and returns the loss, summed in f64.
fn residual_gradient<F: Real>(
    batch: &Example<'_, F>,
    forward: &Forward<F>,
    at_recons: &mut ndarray::ArrayViewMut2<'_, F>,
) -> f64 {
    let n_observed = |mask: ndarray::ArrayView1<'_, F>| mask.sum().wide().max(1.0);
    let weight: f64 =
        batch.mask.rows().into_iter().zip(batch.sample_weight).map(|(mask, s)| s.wide() * n_observed(mask)).sum();
    let mut loss = 0.0;
    let recons = forward.recons();
    let rows = at_recons.rows_mut().into_iter().zip(recons.rows()).zip(batch.x.rows()).zip(batch.mask.rows());
    for ((((mut out, recons), x), mask), s) in rows.zip(batch.sample_weight) {
        let w = s.wide() / weight.max(f64::MIN_POSITIVE);
        let twice = F::of(2.0 * w);
        let mut sum = 0.0;
        for (((out, &recons), &x), &m) in out.iter_mut().zip(recons).zip(x).zip(mask) {
            let residual = (recons - x) * m;
            sum += residual.wide() * residual.wide();
            *out = twice * residual;
        }
        loss += w * sum;
    }
    loss
}
