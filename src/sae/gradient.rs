//! The gradient of a batch: reconstruction, penalty, auxiliary loss, and back through every layer.
//!
//! MODEL 2.5. The term of b_dec through the encoder's input is part of it (forgetting it is the commonest error). It
//! never changes a weight; `adam.rs` does.

use ndarray::linalg::general_mat_mul;
use ndarray::{Array1, Array2, ArrayView2, s};

use super::autoencoder::{Autoencoder, Forward, fit_buffer};
use super::auxk::AuxK;
use super::entries::Entries;
use super::form::Pass;
use super::lanes::{subtract_masked_rows, sum_rows, transpose};
use super::layers::Layer;
use super::objective::Objective;
use super::real::Real;
use super::residual::{RowWeights, add_residuals};

/// One training batch; its matrices are in standard layout.
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
    pub fn flat_mut(&mut self) -> impl Iterator<Item = &mut [F]> {
        flat(
            (&mut self.w_enc, &mut self.b_enc),
            (&mut self.w_dec, &mut self.b_dec),
            &mut self.threshold,
            &mut self.hidden,
        )
    }
}

/// The tensors of an autoencoder, or of what has its shapes, as flat slices in the order of [`Gradient::flat_mut`].
pub(super) fn flat<'a, F: Real>(
    encoder: (&'a mut Array2<F>, &'a mut Array1<F>),
    decoder: (&'a mut Array2<F>, &'a mut Array1<F>),
    threshold: &'a mut Array1<F>,
    hidden: &'a mut [Layer<F>],
) -> impl Iterator<Item = &'a mut [F]> {
    let matrix = |matrix: &'a mut Array2<F>| matrix.as_slice_mut().expect("weights are made in standard layout");
    let vector = |vector: &'a mut Array1<F>| vector.as_slice_mut().expect("weights are made in standard layout");
    let code = [matrix(encoder.0), vector(encoder.1), matrix(decoder.0), vector(decoder.1), vector(threshold)];
    code.into_iter()
        .chain(hidden.iter_mut().flat_map(move |layer| [matrix(&mut layer.weight), vector(&mut layer.bias)]))
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
    /// Active latents, later where the gradient at the pre-activations isn't 0.
    active: Entries<F>,
    /// Of the encoder, its gradient and then its weights, transposed: `[n_latents, n_before]`.
    transposed: Array2<F>,
    weights: RowWeights,
    auxk: AuxK<F>,
}

impl<F: Real> Default for Backward<F> {
    fn default() -> Self {
        let none = || Array2::zeros((0, 0));
        Self {
            at_recons: none(),
            at_latents: none(),
            partial: none(),
            active: Entries::default(),
            transposed: none(),
            weights: RowWeights::default(),
            auxk: AuxK::default(),
        }
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
        self.weights.fill(batch);
        let form = model.kind.form::<F>();
        // The prefixes of `matryoshka` are dense blocks.
        let sparse = form.ignores_silent() && !aim.objective.matryoshka && self.active.list(forward.latents());
        let mut loss = if sparse {
            self.sparse_reconstruction(model, batch, forward, aim.objective, gradient)
        } else {
            self.reconstruction(model, batch, forward, aim.objective, gradient)
        };

        let mut at_latents = self.at_latents.slice_mut(s![..n_rows, ..]);
        let pass = Pass {
            model,
            objective: aim.objective,
            l1_share: aim.l1_share,
            share: &self.weights.share,
            latents: forward.latents(),
            pre: forward.pre(),
        };
        loss += form.penalise(&pass, &mut at_latents, gradient);
        form.backward(&pass, &mut at_latents, gradient);
        let revives = aim.dead.contains(&true);
        if revives {
            let recons = forward.recons();
            loss += self.auxk.add((batch, &self.weights), (&pass, recons), aim.dead, &mut at_latents, gradient);
        }
        let sparse = sparse && self.list_gradient(n_rows, revives);
        self.encoder(model, batch, (forward, sparse), gradient);
        if aim.tied {
            gradient.w_dec += &gradient.w_enc.t();
            gradient.w_enc.fill(F::zero());
        }
        loss
    }

    /// Makes `active` list the gradient at the pre-activations; false when that is too much for it.
    fn list_gradient(&mut self, n_rows: usize, elsewhere: bool) -> bool {
        let at_pre = self.at_latents.slice(s![..n_rows, ..]);
        if elsewhere {
            return self.active.list(at_pre);
        }
        self.active.read(at_pre);
        true
    }

    /// The reconstruction's part of loss and gradient, at decoder and active latents.
    fn sparse_reconstruction(
        &mut self,
        model: &Autoencoder<F>,
        batch: &Example<'_, F>,
        forward: &Forward<F>,
        objective: &Objective,
        gradient: &mut Gradient<F>,
    ) -> f64 {
        let rows = s![..batch.x.nrows(), ..];
        let mut at_recons = self.at_recons.slice_mut(rows);
        at_recons.fill(F::zero());
        let loss = add_residuals((batch, &self.weights), forward.recons(), (objective, 1.0), &mut at_recons);
        gradient.w_dec.fill(F::zero());
        self.active.add_transposed_times(at_recons.view(), gradient.w_dec.view_mut());
        self.active.sample(at_recons.view(), model.w_dec.view(), self.at_latents.slice_mut(rows));
        sum_rows(at_recons.view(), gradient.b_dec.as_slice_mut().expect("a vector is contiguous"));
        loss
    }

    /// The reconstruction's part of loss and gradient, at decoder and latents.
    ///
    /// A latent is in every prefix that ends after it, so the prefixes are taken from the longest on: the sum of their
    /// gradients so far is that of the latents beyond the next shorter one.
    fn reconstruction(
        &mut self,
        model: &Autoencoder<F>,
        batch: &Example<'_, F>,
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
            loss += part * add_residuals((batch, &self.weights), recons, (objective, part), &mut at_recons);
            let start = if i == 0 { 0 } else { prefixes[i - 1] };
            let mut w_dec = gradient.w_dec.slice_mut(s![start..end, ..]);
            general_mat_mul(one, &latents.slice(s![.., start..end]).t(), &at_recons, zero, &mut w_dec);
            let block = model.w_dec.slice(s![start..end, ..]);
            general_mat_mul(one, &at_recons, &block.t(), zero, &mut at_latents.slice_mut(s![.., start..end]));
        }
        sum_rows(at_recons.view(), gradient.b_dec.as_slice_mut().expect("a vector is contiguous"));
        loss
    }

    /// From the gradient at the pre-activations back to the input; `sparse` when `active` lists that gradient.
    fn encoder(
        &mut self,
        model: &Autoencoder<F>,
        batch: &Example<'_, F>,
        (forward, sparse): (&Forward<F>, bool),
        gradient: &mut Gradient<F>,
    ) {
        let (one, zero) = (F::one(), F::zero());
        let rows = s![..batch.x.nrows(), ..];
        let at_latents = self.at_latents.slice(rows);
        let n_layers = model.hidden.len();
        let (n_before, n_latents) = model.w_enc.dim();
        if sparse {
            fit_buffer(&mut self.transposed, n_latents, n_before);
            self.transposed.fill(zero);
            self.active.add_transposed_times(forward.input_of(n_layers), self.transposed.view_mut());
            transpose(self.transposed.view(), gradient.w_enc.view_mut());
            transpose(model.w_enc.view(), self.transposed.view_mut());
        } else {
            general_mat_mul(one, &forward.input_of(n_layers).t(), &at_latents, zero, &mut gradient.w_enc);
        }
        sum_rows(at_latents, gradient.b_enc.as_slice_mut().expect("a vector is contiguous"));
        let mut at_input = self.at_recons.slice_mut(rows);
        if n_layers > 0 {
            let mut at_out = at_latents.dot(&model.w_enc.t());
            for l in (0..n_layers).rev() {
                let input = (forward.input_of(l), batch.hidden_scale.get(l));
                let (units, layer) = (&forward.hidden()[l], &model.hidden[l]);
                at_out = units.backward(layer, model.activation, input, at_out, &mut gradient.hidden[l]);
            }
            at_input.assign(&at_out);
        } else if sparse {
            self.active.times(self.transposed.view(), at_input.view_mut());
        } else {
            general_mat_mul(one, &at_latents, &model.w_enc.t(), zero, &mut at_input);
        }
        let b_dec = gradient.b_dec.as_slice_mut().expect("a vector is contiguous");
        subtract_masked_rows(at_input.view(), batch.input_mask, b_dec);
    }
}
