//! The weights of a sparse autoencoder and its forward pass over reused buffers.
//!
//! MODEL 2.3: u = (x − b_dec)⊙m; a = u·W_enc + b_enc; f = act(a); x̂ = f·W_dec + b_dec. Tensor names and orientations
//! are SAELens'. The forward pass allocates nothing once its buffers have seen the largest batch.

use ndarray::linalg::general_mat_mul;
use ndarray::{Array1, Array2, ArrayView2, ArrayViewMut2, Zip, s};

use super::activation::Kind;
use super::config::Shape;
use super::real::Real;

/// Weights and form of one autoencoder; immutable once it belongs to a model.
#[derive(Clone, Debug, PartialEq)]
pub struct Autoencoder<F = f32> {
    /// Form of the latents.
    pub kind: Kind,
    /// Active latents of a record.
    pub k: usize,
    /// Encoder, `[n_inputs, n_latents]`.
    pub w_enc: Array2<F>,
    /// Encoder bias, `[n_latents]`.
    pub b_enc: Array1<F>,
    /// Decoder, `[n_latents, n_inputs]`; row i is the direction of latent i.
    pub w_dec: Array2<F>,
    /// Decoder bias, `[n_inputs]`; subtracted from the input too.
    pub b_dec: Array1<F>,
}

/// The buffers of a forward pass; every view has as many rows as the last batch.
#[derive(Clone, Debug)]
pub struct Forward<F = f32> {
    centred: Array2<F>,
    latents: Array2<F>,
    recons: Array2<F>,
    n_rows: usize,
}

impl<F: Real> Default for Forward<F> {
    fn default() -> Self {
        let none = || Array2::zeros((0, 0));
        Self { centred: none(), latents: none(), recons: none(), n_rows: 0 }
    }
}

impl<F: Real> Forward<F> {
    /// The encoder's input u, `[rows, n_inputs]`.
    pub fn centred(&self) -> ArrayView2<'_, F> {
        self.centred.slice(s![..self.n_rows, ..])
    }

    /// The latents f, `[rows, n_latents]`.
    pub fn latents(&self) -> ArrayView2<'_, F> {
        self.latents.slice(s![..self.n_rows, ..])
    }

    /// The reconstruction x̂, `[rows, n_inputs]`.
    pub fn recons(&self) -> ArrayView2<'_, F> {
        self.recons.slice(s![..self.n_rows, ..])
    }

    fn reserve(&mut self, n_rows: usize, shape: Shape) {
        fit_buffer(&mut self.centred, n_rows, shape.n_inputs);
        fit_buffer(&mut self.latents, n_rows, shape.n_latents);
        fit_buffer(&mut self.recons, n_rows, shape.n_inputs);
        self.n_rows = n_rows;
    }
}

/// Grows `buffer` to hold `n_rows` rows of `n_columns`; leaves it alone when it does.
pub(super) fn fit_buffer<F: Real>(buffer: &mut Array2<F>, n_rows: usize, n_columns: usize) {
    if buffer.nrows() < n_rows || buffer.ncols() != n_columns {
        *buffer = Array2::zeros((n_rows, n_columns));
    }
}

impl<F: Real> Autoencoder<F> {
    /// Sizes of the tensors.
    pub fn shape(&self) -> Shape {
        let (n_inputs, n_latents) = self.w_enc.dim();
        Shape { n_inputs, n_latents, k: self.k }
    }

    /// Reconstructs standardised rows `x` under `mask` (1 observed, 0 hidden), both `[rows, n_inputs]`.
    ///
    /// Panics when the shapes don't agree.
    pub fn forward(&self, x: ArrayView2<'_, F>, mask: ArrayView2<'_, F>, buffers: &mut Forward<F>) {
        let shape = self.shape();
        assert_eq!(x.ncols(), shape.n_inputs, "x must be [rows, n_inputs]");
        buffers.reserve(x.nrows(), shape);
        let rows = ..x.nrows();
        let mut centred = buffers.centred.slice_mut(s![rows, ..]);
        for ((mut u, x), mask) in centred.rows_mut().into_iter().zip(x.rows()).zip(mask.rows()) {
            Zip::from(&mut u).and(x).and(mask).and(&self.b_dec).for_each(|u, &x, &m, &b| *u = (x - b) * m);
        }
        let mut latents = buffers.latents.slice_mut(s![rows, ..]);
        latents.assign(&self.b_enc.view().broadcast((x.nrows(), shape.n_latents)).expect("b_enc is [n_latents]"));
        general_mat_mul(F::one(), &centred, &self.w_enc, F::one(), &mut latents);
        self.activate(&mut latents);
        let mut recons = buffers.recons.slice_mut(s![rows, ..]);
        recons.assign(&self.b_dec.view().broadcast(x.dim()).expect("b_dec is [n_inputs]"));
        general_mat_mul(F::one(), &latents, &self.w_dec, F::one(), &mut recons);
    }

    fn activate(&self, latents: &mut ArrayViewMut2<'_, F>) {
        for row in latents.rows_mut() {
            let row = row.into_slice().expect("a row of a standard-layout matrix is contiguous");
            self.kind.activate(row, self.k);
        }
    }
}

#[cfg(test)]
mod tests {
    use ndarray::array;

    use super::*;

    /// Two inputs, two latents, identity weights.
    fn identity() -> Autoencoder<f64> {
        Autoencoder {
            kind: Kind::Topk,
            k: 1,
            w_enc: array![[1.0, 0.0], [0.0, 1.0]],
            b_enc: array![0.0, 0.0],
            w_dec: array![[1.0, 0.0], [0.0, 1.0]],
            b_dec: array![1.0, 0.0],
        }
    }

    #[test]
    fn a_hand_worked_row_is_reconstructed() {
        let mut buffers = Forward::default();
        let mask = array![[1.0, 1.0], [0.0, 1.0]];
        identity().forward(array![[4.0, 2.0], [4.0, 2.0]].view(), mask.view(), &mut buffers);
        assert_eq!(buffers.latents(), array![[3.0, 0.0], [0.0, 2.0]], "the hidden input is not encoded");
        assert_eq!(buffers.recons(), array![[4.0, 0.0], [1.0, 2.0]]);
    }

    #[test]
    fn smaller_batches_reuse_the_buffers() {
        let mut buffers = Forward::default();
        let ones = Array2::ones((3, 2));
        identity().forward(ones.view(), ones.view(), &mut buffers);
        let place = buffers.recons().as_ptr();
        identity().forward(ones.slice(s![..1, ..]), ones.slice(s![..1, ..]), &mut buffers);
        assert_eq!((buffers.recons().nrows(), buffers.recons().as_ptr()), (1, place));
    }
}
