//! The weights of an autoencoder and its forward pass over reused buffers.
//!
//! MODEL 2.3: u = (x − b_dec)⊙m; h = hidden layers of u, if any; a = h·W_enc + b_enc; f = act(a); x̂ = f·W_dec + b_dec.
//! Tensor names and orientations are SAELens'. The forward pass allocates nothing once its buffers have seen the largest
//! batch.

use ndarray::linalg::general_mat_mul;
use ndarray::{Array1, Array2, ArrayView2, ArrayViewMut2, Zip, s};

use super::Kind;
use super::config::Shape;
use super::form::Stage;
use super::gradient::Example;
use super::layers::{Activation, Layer, Units};
use super::real::Real;
use super::sparse;
use crate::wide::wide;

/// Weights and form of one autoencoder; immutable once it belongs to a model.
#[derive(Clone, Debug, PartialEq)]
pub struct Autoencoder<F = f32> {
    /// Form of the latents.
    pub kind: Kind,
    /// Active latents of a record, or the number that is wanted.
    pub k: usize,
    /// Activation of the hidden layers, and of the code of `dense`.
    pub activation: Activation,
    /// Layers before the code, from the input on; none by default.
    pub hidden: Vec<Layer<F>>,
    /// Encoder, `[n_inputs or units of the last hidden layer, n_latents]`.
    pub w_enc: Array2<F>,
    /// Encoder bias, `[n_latents]`.
    pub b_enc: Array1<F>,
    /// Decoder, `[n_latents, n_inputs]`; row i is the direction of latent i.
    pub w_dec: Array2<F>,
    /// Decoder bias, `[n_inputs]`; subtracted from the input too.
    pub b_dec: Array1<F>,
    /// θ of `jumprelu`, `[n_latents]`, above 0; empty for the other forms.
    pub threshold: Array1<F>,
    /// What latents of `batchtopk` must exceed in scoring; 0 for the other forms.
    pub topk_threshold: f64,
}

/// The buffers of a forward pass; every view has as many rows as the last batch.
#[derive(Clone, Debug)]
pub struct Forward<F = f32> {
    centred: Array2<F>,
    hidden: Vec<Units<F>>,
    pre: Array2<F>,
    latents: Array2<F>,
    recons: Array2<F>,
    n_rows: usize,
}

impl<F: Real> Default for Forward<F> {
    fn default() -> Self {
        let none = || Array2::zeros((0, 0));
        Self { centred: none(), hidden: Vec::new(), pre: none(), latents: none(), recons: none(), n_rows: 0 }
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

    /// The pre-activations a of a training pass, `[rows, n_latents]`; meaningless where nothing needs them.
    pub(super) fn pre(&self) -> ArrayView2<'_, F> {
        self.pre.slice(s![..self.n_rows.min(self.pre.nrows()), ..])
    }

    /// The buffers of the hidden layers.
    pub(super) fn hidden(&self) -> &[Units<F>] {
        &self.hidden
    }

    /// What `layer` is fed with; past the last layer, what the code is.
    pub(super) fn input_of(&self, layer: usize) -> ArrayView2<'_, F> {
        layer.checked_sub(1).map_or_else(|| self.centred(), |before| self.hidden[before].out(self.n_rows))
    }

    fn reserve(&mut self, n_rows: usize, model: &Autoencoder<F>) {
        let shape = model.shape();
        fit_buffer(&mut self.centred, n_rows, shape.n_inputs);
        fit_buffer(&mut self.latents, n_rows, shape.n_latents);
        fit_buffer(&mut self.recons, n_rows, shape.n_inputs);
        if self.hidden.len() != model.hidden.len() {
            self.hidden = model.hidden.iter().map(|_| Units::new()).collect();
        }
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
    /// An autoencoder of this form without hidden layers whose weights are all 0.
    pub fn zeros(kind: Kind, shape: Shape) -> Self {
        let Shape { n_inputs, n_latents, k } = shape;
        Self {
            kind,
            k,
            activation: Activation::default(),
            hidden: Vec::new(),
            w_enc: Array2::zeros((n_inputs, n_latents)),
            b_enc: Array1::zeros(n_latents),
            w_dec: Array2::zeros((n_latents, n_inputs)),
            b_dec: Array1::zeros(n_inputs),
            threshold: Array1::zeros(if kind == Kind::Jumprelu { n_latents } else { 0 }),
            topk_threshold: 0.0,
        }
    }

    /// Sizes of the tensors.
    pub fn shape(&self) -> Shape {
        let (n_latents, n_inputs) = self.w_dec.dim();
        Shape { n_inputs, n_latents, k: self.k }
    }

    /// Reconstructs standardised rows `x` under `mask` (1 observed, 0 hidden), both `[rows, n_inputs]`.
    ///
    /// Panics when the shapes don't agree.
    pub fn forward(&self, x: ArrayView2<'_, F>, mask: ArrayView2<'_, F>, buffers: &mut Forward<F>) {
        self.encode(x, mask, buffers);
        self.activate(buffers);
        self.decode(buffers);
    }

    /// The first part of [`forward`](Self::forward): leaves the pre-activations where the latents will be.
    pub fn encode(&self, x: ArrayView2<'_, F>, mask: ArrayView2<'_, F>, buffers: &mut Forward<F>) {
        self.encode_at(Stage::Scoring, (x, mask), &[], buffers);
    }

    /// The second part: turns the pre-activations of the last [`encode`](Self::encode) into latents.
    pub fn activate(&self, buffers: &mut Forward<F>) {
        self.activate_at(Stage::Scoring, buffers);
    }

    /// The last part: reconstructs from the latents.
    pub fn decode(&self, buffers: &mut Forward<F>) {
        self.decode_at(Stage::Scoring, buffers);
    }

    /// The pass over a batch that is learnt from; keeps the pre-activations if `keep_pre`.
    pub(super) fn forward_training(&self, batch: &Example<'_, F>, keep_pre: bool, buffers: &mut Forward<F>) {
        self.encode_at(Stage::Training, (batch.x, batch.input_mask), batch.hidden_scale, buffers);
        if keep_pre {
            let (n_rows, n_latents) = (batch.x.nrows(), self.b_enc.len());
            fit_buffer(&mut buffers.pre, n_rows, n_latents);
            buffers.pre.slice_mut(s![..n_rows, ..]).assign(&buffers.latents.slice(s![..n_rows, ..]));
        }
        self.activate_at(Stage::Training, buffers);
        self.decode_at(Stage::Training, buffers);
    }

    fn encode_at(
        &self,
        stage: Stage,
        (x, mask): (ArrayView2<'_, F>, ArrayView2<'_, F>),
        hidden_scale: &[Array2<F>],
        buffers: &mut Forward<F>,
    ) {
        let shape = self.shape();
        assert_eq!(x.ncols(), shape.n_inputs, "x must be [rows, n_inputs]");
        buffers.reserve(x.nrows(), self);
        let rows = s![..x.nrows(), ..];
        self.centre(x, mask, &mut buffers.centred.slice_mut(rows));
        for (l, layer) in self.hidden.iter().enumerate() {
            let (before, from) = buffers.hidden.split_at_mut(l);
            let input = before.last().map_or_else(|| buffers.centred.slice(rows), |units| units.out(x.nrows()));
            from[0].forward(layer, self.activation, input, hidden_scale.get(l));
        }
        let code = buffers.hidden.last().map_or_else(|| buffers.centred.slice(rows), |units| units.out(x.nrows()));
        let mut latents = buffers.latents.slice_mut(rows);
        add_product(stage, (&self.b_enc, code, code.ncols(), &self.w_enc), &mut latents);
    }

    /// u = (x − b_dec)⊙m.
    fn centre(&self, x: ArrayView2<'_, F>, mask: ArrayView2<'_, F>, centred: &mut ArrayViewMut2<'_, F>) {
        let (bias, whole) = (self.b_dec.as_slice(), centred.as_slice_mut());
        let (Some(x), Some(mask), Some(bias), Some(u)) = (x.to_slice(), mask.to_slice(), bias, whole) else {
            for ((mut u, x), mask) in centred.rows_mut().into_iter().zip(x.rows()).zip(mask.rows()) {
                Zip::from(&mut u).and(x).and(mask).and(&self.b_dec).for_each(|u, &x, &m, &b| *u = (x - b) * m);
            }
            return;
        };
        let width = bias.len();
        wide(
            #[inline(always)]
            || {
                for ((u, x), m) in u.chunks_exact_mut(width).zip(x.chunks_exact(width)).zip(mask.chunks_exact(width)) {
                    for (((u, x), m), b) in u.iter_mut().zip(x).zip(m).zip(bias) {
                        *u = (*x - *b) * *m;
                    }
                }
            },
        );
    }

    fn decode_at(&self, stage: Stage, buffers: &mut Forward<F>) {
        let rows = s![..buffers.n_rows, ..];
        let n_active = if matches!(self.kind, Kind::SatTopk | Kind::Topk) { self.k } else { self.w_dec.nrows() };
        let mut recons = buffers.recons.slice_mut(rows);
        add_product(stage, (&self.b_dec, buffers.latents.slice(rows), n_active, &self.w_dec), &mut recons);
    }

    fn activate_at(&self, stage: Stage, buffers: &mut Forward<F>) {
        let mut latents = buffers.latents.slice_mut(s![..buffers.n_rows, ..]);
        self.kind.form().activate(self, &mut latents, stage);
    }
}

/// Writes bias + factors · matrix to `out`: by sums over the factors that aren't 0, of which there are about `n_active`
/// in a row, where these are faster. What is learnt always comes from the product, whose sums don't depend on the batch.
fn add_product<F: Real>(
    stage: Stage,
    (bias, factors, n_active, matrix): (&Array1<F>, ArrayView2<'_, F>, usize, &Array2<F>),
    out: &mut ArrayViewMut2<'_, F>,
) {
    let (n_factors, n_columns) = matrix.dim();
    let sums = stage == Stage::Scoring && sparse::pays(factors.nrows(), (n_factors, n_active), n_columns);
    if let (true, Some(bias), Some(factors), Some(matrix)) =
        (sums, bias.as_slice(), factors.to_slice(), matrix.as_slice())
    {
        let out = out.as_slice_mut().expect("the buffer's first rows are contiguous");
        sparse::sum_rows(bias, factors, matrix, out);
        return;
    }
    out.assign(
        &bias
            .view()
            .broadcast((factors.nrows(), n_columns))
            .expect("the bias has as many entries as the matrix columns"),
    );
    general_mat_mul(F::one(), &factors, matrix, F::one(), out);
}

#[cfg(test)]
mod tests {
    use ndarray::array;
    use rand::{Rng, SeedableRng};
    use rand_chacha::ChaCha8Rng;

    use super::*;

    /// Two inputs, two latents, identity weights.
    fn identity() -> Autoencoder<f64> {
        Autoencoder {
            w_enc: array![[1.0, 0.0], [0.0, 1.0]],
            w_dec: array![[1.0, 0.0], [0.0, 1.0]],
            b_dec: array![1.0, 0.0],
            ..Autoencoder::zeros(Kind::Topk, Shape { n_inputs: 2, n_latents: 2, k: 1 })
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
    fn a_hidden_layer_comes_before_the_code() {
        let mut model = identity();
        model.activation = Activation::Relu;
        model.hidden = vec![Layer { weight: array![[2.0, 0.0], [0.0, -1.0]], bias: array![0.0, 0.5] }];
        let mut buffers = Forward::default();
        model.forward(array![[4.0, 2.0]].view(), array![[1.0, 1.0]].view(), &mut buffers);
        assert_eq!(buffers.latents(), array![[6.0, 0.0]], "2·(4 − 1) and max(0.5 − 2, 0)");
    }

    #[test]
    fn models_of_any_width_see_a_row_alike_in_batches_of_any_size() {
        let mut rng = ChaCha8Rng::seed_from_u64(1);
        let mut random =
            |shape: (usize, usize)| Array2::from_shape_simple_fn(shape, || rng.random_range(-1.0..1.0_f32));
        for n_inputs in [1, 15, 16, 31, 32, 33, 63, 64, 65, 96, 100, 128, 160, 192] {
            let shape = Shape { n_inputs, n_latents: 4 * n_inputs, k: n_inputs };
            let (w_enc, w_dec) = (random((n_inputs, shape.n_latents)), random((shape.n_latents, n_inputs)));
            let model = Autoencoder { w_enc, w_dec, ..Autoencoder::zeros(Kind::SatTopk, shape) };
            let (x, mask) = (random((40, n_inputs)), Array2::ones((40, n_inputs)));
            let (mut together, mut few) = (Forward::default(), Forward::default());
            model.forward(x.view(), mask.view(), &mut together);
            for n_rows in [1, 7, 8, 9] {
                model.forward(x.slice(s![..n_rows, ..]), mask.slice(s![..n_rows, ..]), &mut few);
                let off = (&few.recons() - &together.recons().slice(s![..n_rows, ..])).mapv(f32::abs);
                assert!(off.iter().all(|off| *off < 1e-3), "{n_inputs} inputs, {n_rows} rows: {off}");
            }
        }
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
