//! The gradient of a batch: reconstruction, penalty, auxiliary loss, and back through every layer.
//!
//! MODEL 2.5. The term of b_dec through the encoder's input is part of it (forgetting it is the commonest error). It
//! never changes a weight; `adam.rs` does.

use ndarray::linalg::general_mat_mul;
use ndarray::{Array1, Array2, ArrayView2, Axis, s};

use super::autoencoder::{Autoencoder, Forward, fit_buffer};
use super::auxk::AuxK;
use super::form::Pass;
use super::layers::Layer;
use super::objective::Objective;
use super::real::Real;
use super::residual::{RowWeights, add_residuals};

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
    /// Weight of each input in the loss, `[n_inputs]`, not negative; 1 for a numeric one.
    pub column_weight: &'a [F],
    /// Dropout of each hidden layer, `[rows, n_units]` of 0 or 1/(1 − p); no layers: no dropout.
    pub hidden_scale: &'a [Array2<F>],
}

/// A gradient, or a moment of gradients: one array for each tensor of the autoencoder, in its shape.
#[derive(Clone, Debug, PartialEq)]
pub struct Gradient<F> {
    /// Of `W_enc`, `[n_inputs or units of the last hidden layer, n_latents]`.
    pub w_enc: Array2<F>,
    /// Of `b_enc`, `[n_latents]`.
    pub b_enc: Array1<F>,
    /// Of `W_dec`, `[n_latents, n_inputs]`.
    pub w_dec: Array2<F>,
    /// Of `b_dec`, `[n_inputs]`.
    pub b_dec: Array1<F>,
    /// Of the hidden layers.
    pub hidden: Vec<Layer<F>>,
    /// Of ln θ, `[n_latents]`; empty unless `jumprelu`.
    pub threshold: Array1<F>,
}

impl<F: Real> Gradient<F> {
    /// All zeros, in the shapes of `model`.
    pub fn zeros(model: &Autoencoder<F>) -> Self {
        Self {
            w_enc: Array2::zeros(model.w_enc.dim()),
            b_enc: Array1::zeros(model.b_enc.dim()),
            w_dec: Array2::zeros(model.w_dec.dim()),
            b_dec: Array1::zeros(model.b_dec.dim()),
            hidden: model.hidden.iter().map(Layer::zeros).collect(),
            threshold: Array1::zeros(model.threshold.dim()),
        }
    }

    /// The arrays as flat slices: `W_enc b_enc W_dec b_dec threshold`, then weight and bias of each hidden layer.
    pub fn flat_mut(&mut self) -> Vec<&mut [F]> {
        let contiguous = "gradients are made in standard layout";
        let mut flat = vec![
            self.w_enc.as_slice_mut().expect(contiguous),
            self.b_enc.as_slice_mut().expect(contiguous),
            self.w_dec.as_slice_mut().expect(contiguous),
            self.b_dec.as_slice_mut().expect(contiguous),
            self.threshold.as_slice_mut().expect(contiguous),
        ];
        for layer in &mut self.hidden {
            flat.push(layer.weight.as_slice_mut().expect(contiguous));
            flat.push(layer.bias.as_slice_mut().expect(contiguous));
        }
        flat
    }
}

/// What is minimised at one step.
#[derive(Clone, Copy)]
pub(super) struct Aim<'a> {
    pub objective: &'a Objective,
    /// Share of the L1 penalty that is in force.
    pub l1_share: f64,
    /// Whether `W_enc` is the transpose of `W_dec`: its gradient then goes there.
    pub tied: bool,
    /// Latents to be revived, `[n_latents]`; empty: none.
    pub dead: &'a [bool],
}

/// The buffers of a backward pass.
#[derive(Clone, Debug)]
pub(super) struct Backward<F> {
    /// Gradient at the reconstruction, later at the encoder's input, `[rows, n_inputs]`.
    at_recons: Array2<F>,
    /// Gradient at the latents, later at the pre-activations, `[rows, n_latents]`.
    at_latents: Array2<F>,
    /// The reconstruction by some of the latents, `[rows, n_inputs]`.
    partial: Array2<F>,
    auxk: AuxK<F>,
}

impl<F: Real> Default for Backward<F> {
    fn default() -> Self {
        let none = || Array2::zeros((0, 0));
        Self { at_recons: none(), at_latents: none(), partial: none(), auxk: AuxK::default() }
    }
}

impl<F: Real> Backward<F> {
    /// Writes the gradient of `model` at `batch` and returns the loss; `forward` holds the pass over the batch.
    pub(super) fn run(
        &mut self,
        model: &Autoencoder<F>,
        batch: &Example<'_, F>,
        forward: &Forward<F>,
        aim: Aim<'_>,
        gradient: &mut Gradient<F>,
    ) -> f64 {
        let n_rows = batch.x.nrows();
        fit_buffer(&mut self.at_recons, n_rows, batch.x.ncols());
        fit_buffer(&mut self.at_latents, n_rows, model.b_enc.len());
        let weights = RowWeights::new(batch);
        let mut loss = self.reconstruction(model, (batch, &weights), forward, aim.objective, gradient);

        let mut at_latents = self.at_latents.slice_mut(s![..n_rows, ..]);
        let pass = Pass {
            model,
            objective: aim.objective,
            l1_share: aim.l1_share,
            share: &weights.share,
            latents: forward.latents(),
            pre: forward.pre(),
        };
        let form = model.kind.form();
        loss += form.penalise(&pass, &mut at_latents, gradient);
        form.backward(&pass, &mut at_latents, gradient);
        if aim.dead.contains(&true) {
            loss += self.auxk.add((batch, &weights), (&pass, forward.recons()), aim.dead, &mut at_latents, gradient);
        }
        self.encoder(model, batch, forward, gradient);
        if aim.tied {
            gradient.w_dec += &gradient.w_enc.t();
            gradient.w_enc.fill(F::zero());
        }
        loss
    }

    /// The reconstruction's part of loss and gradient, at decoder and latents.
    ///
    /// A latent is in every prefix that ends after it, so the prefixes are taken from the longest on: the sum of their
    /// gradients so far is that of the latents beyond the next shorter one.
    fn reconstruction(
        &mut self,
        model: &Autoencoder<F>,
        (batch, weights): (&Example<'_, F>, &RowWeights),
        forward: &Forward<F>,
        objective: &Objective,
        gradient: &mut Gradient<F>,
    ) -> f64 {
        let (one, zero) = (F::one(), F::zero());
        let rows = s![..batch.x.nrows(), ..];
        let mut at_recons = self.at_recons.slice_mut(rows);
        let mut at_latents = self.at_latents.slice_mut(rows);
        at_recons.fill(zero);
        let latents = forward.latents();
        let prefixes = objective.prefixes(model.b_enc.len());
        let part = 1.0 / prefixes.len() as f64;
        let mut loss = 0.0;
        for (i, &end) in prefixes.iter().enumerate().rev() {
            let recons = if i + 1 == prefixes.len() {
                forward.recons()
            } else {
                fit_buffer(&mut self.partial, batch.x.nrows(), batch.x.ncols());
                let mut partial = self.partial.slice_mut(rows);
                partial.assign(&model.b_dec);
                general_mat_mul(
                    one,
                    &latents.slice(s![.., ..end]),
                    &model.w_dec.slice(s![..end, ..]),
                    one,
                    &mut partial,
                );
                self.partial.slice(rows)
            };
            loss += part * add_residuals((batch, weights), recons, (objective, part), &mut at_recons);
            let start = if i == 0 { 0 } else { prefixes[i - 1] };
            let mut w_dec = gradient.w_dec.slice_mut(s![start..end, ..]);
            general_mat_mul(one, &latents.slice(s![.., start..end]).t(), &at_recons, zero, &mut w_dec);
            let block = model.w_dec.slice(s![start..end, ..]);
            general_mat_mul(one, &at_recons, &block.t(), zero, &mut at_latents.slice_mut(s![.., start..end]));
        }
        gradient.b_dec.assign(&at_recons.sum_axis(Axis(0)));
        loss
    }

    /// From the gradient at the pre-activations back to the input.
    fn encoder(
        &mut self,
        model: &Autoencoder<F>,
        batch: &Example<'_, F>,
        forward: &Forward<F>,
        gradient: &mut Gradient<F>,
    ) {
        let (one, zero) = (F::one(), F::zero());
        let rows = s![..batch.x.nrows(), ..];
        let at_latents = self.at_latents.slice(rows);
        let n_layers = model.hidden.len();
        general_mat_mul(one, &forward.input_of(n_layers).t(), &at_latents, zero, &mut gradient.w_enc);
        gradient.b_enc.assign(&at_latents.sum_axis(Axis(0)));
        let mut at_input = self.at_recons.slice_mut(rows);
        if n_layers == 0 {
            general_mat_mul(one, &at_latents, &model.w_enc.t(), zero, &mut at_input);
        } else {
            let mut at_out = at_latents.dot(&model.w_enc.t());
            for l in (0..n_layers).rev() {
                let input = (forward.input_of(l), batch.hidden_scale.get(l));
                let (units, layer) = (&forward.hidden()[l], &model.hidden[l]);
                at_out = units.backward(layer, model.activation, input, at_out, &mut gradient.hidden[l]);
            }
            at_input.assign(&at_out);
        }
        at_input *= &batch.input_mask;
        gradient.b_dec -= &at_input.sum_axis(Axis(0));
    }
}
