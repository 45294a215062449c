//! What makes one form of latents differ from another.
//!
//! A form is a file with one unit struct, and its arms in `mod.rs`. It holds no state: weights are the autoencoder's,
//! what is minimised is the [`Objective`]'s.

use ndarray::{ArrayView2, ArrayViewMut2};

use super::autoencoder::Autoencoder;
use super::gradient::Gradient;
use super::objective::Objective;
use super::real::Real;

/// Whether a pass trains or scores; only `batchtopk` tells them apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stage {
    /// The rows are a batch that is learnt from.
    Training,
    /// Every row stands alone.
    Scoring,
}

/// A finished forward pass, as the backward pass of a form sees it.
#[derive(Clone, Copy)]
pub(super) struct Pass<'a, F> {
    pub model: &'a Autoencoder<F>,
    pub objective: &'a Objective,
    /// Share of the L1 penalty that is in force, 0 to 1: it is warmed up.
    pub l1_share: f64,
    /// Each row's share of all sample weights, σ_b, `[rows]`.
    pub share: &'a [f64],
    /// The latents f, `[rows, n_latents]`.
    pub latents: ArrayView2<'a, F>,
    /// The pre-activations a, `[rows, n_latents]`; empty unless the form or the objective needs them.
    pub pre: ArrayView2<'a, F>,
}

/// One form of latents.
pub(super) trait Form<F: Real>: Sync {
    /// Turns pre-activations `[rows, n_latents]` into latents in place.
    fn activate(&self, model: &Autoencoder<F>, latents: &mut ArrayViewMut2<'_, F>, stage: Stage);

    /// Adds the gradient of the form's penalty and returns the penalty.
    fn penalise(
        &self,
        _pass: &Pass<'_, F>,
        _at_latents: &mut ArrayViewMut2<'_, F>,
        _gradient: &mut Gradient<F>,
    ) -> f64 {
        0.0
    }

    /// Turns the gradient at the latents into the gradient at the pre-activations, in place.
    fn backward(&self, pass: &Pass<'_, F>, at_latents: &mut ArrayViewMut2<'_, F>, gradient: &mut Gradient<F>);

    /// Whether the backward pass reads pre-activations.
    fn needs_pre(&self) -> bool {
        false
    }

    /// Whether the gradient at latents that are 0 plays no part: it is then not computed.
    fn ignores_silent(&self) -> bool {
        false
    }

    /// Whether dead latents are revived by the auxiliary loss.
    fn revives(&self) -> bool {
        false
    }

    /// Looks at the latents `[rows, n_latents]` of a batch that was learnt from.
    fn learnt(&self, _model: &mut Autoencoder<F>, _latents: ArrayView2<'_, F>) {}
}

/// A row of a matrix in standard layout.
pub(super) fn each_row<F>(matrix: &mut ArrayViewMut2<'_, F>, mut change: impl FnMut(&mut [F])) {
    for row in matrix.rows_mut() {
        change(row.into_slice().expect("a row of a standard-layout matrix is contiguous"));
    }
}

/// Multiplies the gradient at each latent by the slope that `slope` gives for the latent's value.
pub(super) fn by_slope<F: Real>(
    latents: ArrayView2<'_, F>,
    at_latents: &mut ArrayViewMut2<'_, F>,
    slope: impl Fn(F) -> F,
) {
    for (latents, mut gradient) in latents.rows().into_iter().zip(at_latents.rows_mut()) {
        let latents = latents.to_slice().expect("latents are in standard layout");
        let gradient = gradient.as_slice_mut().expect("the buffer is in standard layout");
        for (g, &f) in gradient.iter_mut().zip(latents) {
            *g = if f > F::zero() { *g * slope(f) } else { F::zero() };
        }
    }
}
