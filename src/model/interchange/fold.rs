//! The scaler inside the weights, and out of them again: exact, whatever the activation.
//!
//! With z = (v − μ)/s, b' = b_dec·s + μ and W_enc' = diag(1/s)·W_enc the encoder's input is v − b' = s·(z − b_dec), so
//! the pre-activations, hence every selection, are the same numbers; W_dec' = W_dec·diag(s) gives x̂·s + μ. With hidden
//! layers it is the first of them that takes the place of W_enc. What the weights can't hold is the cut at ±50 and the
//! mask of missing values.

use ndarray::{Array1, Axis};

use crate::preprocess::Scaler;
use crate::sae::{Autoencoder, Real};

/// Weights that take raw values, of weights that take standardised ones; `scalers` `[n_inputs]`.
pub fn fold<F: Real>(autoencoder: &Autoencoder<F>, scalers: &[Scaler]) -> Autoencoder<F> {
    let mut folded = autoencoder.clone();
    scale(&mut folded, scalers, |std| std);
    folded.b_dec = Array1::from_iter(
        autoencoder.b_dec.iter().zip(scalers).map(|(b, scaler)| F::of(b.wide() * scaler.std + scaler.mean)),
    );
    folded
}

/// Weights that take standardised values, of weights that take raw ones: the inverse of [`fold`].
pub fn unfold<F: Real>(autoencoder: &Autoencoder<F>, scalers: &[Scaler]) -> Autoencoder<F> {
    let mut unfolded = autoencoder.clone();
    scale(&mut unfolded, scalers, |std| 1.0 / std);
    unfolded.b_dec = Array1::from_iter(
        autoencoder.b_dec.iter().zip(scalers).map(|(b, scaler)| F::of((b.wide() - scaler.mean) / scaler.std)),
    );
    unfolded
}

/// Divides the rows of what takes the input, and multiplies the decoder's columns.
fn scale<F: Real>(autoencoder: &mut Autoencoder<F>, scalers: &[Scaler], unit: fn(f64) -> f64) {
    assert_eq!(scalers.len(), autoencoder.b_dec.len(), "one scaler for each input");
    for (j, scaler) in scalers.iter().enumerate() {
        let unit = unit(scaler.std);
        let first = autoencoder.hidden.first_mut().map_or(&mut autoencoder.w_enc, |layer| &mut layer.weight);
        first.index_axis_mut(Axis(0), j).mapv_inplace(|w| F::of(w.wide() / unit));
        autoencoder.w_dec.index_axis_mut(Axis(1), j).mapv_inplace(|w| F::of(w.wide() * unit));
    }
}

#[cfg(test)]
mod tests {
    use ndarray::{Array2, Axis, array};
    use rand::{Rng, SeedableRng};
    use rand_chacha::ChaCha8Rng;

    use super::*;
    use crate::sae::{Activation, Forward, Kind, Layer, Shape};

    fn scaler(mean: f64, std: f64) -> Scaler {
        Scaler { mean, std, constant: false, n_observed: 9 }
    }

    fn random(kind: Kind, rng: &mut ChaCha8Rng) -> Autoencoder<f64> {
        let mut matrix = |shape| Array2::from_shape_simple_fn(shape, || rng.random_range(-1.0..1.0));
        let (w_enc, w_dec) = (matrix((4, 9)), matrix((9, 4)));
        let (b_enc, b_dec) = (matrix((1, 9)).row(0).to_owned(), matrix((1, 4)).row(0).to_owned());
        let threshold = Array1::from_elem(if kind == Kind::Jumprelu { 9 } else { 0 }, 0.2);
        let shape = Shape { n_inputs: 4, n_latents: 9, k: 3 };
        let plain = Autoencoder::zeros(kind, shape);
        Autoencoder {
            w_enc,
            b_enc,
            w_dec,
            b_dec,
            threshold,
            topk_threshold: 0.1,
            activation: Activation::Tanh,
            ..plain
        }
    }

    #[test]
    fn a_hand_worked_scaler_is_folded() {
        let autoencoder = Autoencoder {
            w_enc: array![[6.0], [1.0]],
            b_enc: array![0.5],
            w_dec: array![[1.0, 2.0]],
            b_dec: array![1.0, 0.0],
            ..Autoencoder::zeros(Kind::Topk, Shape { n_inputs: 2, n_latents: 1, k: 1 })
        };
        let folded = fold(&autoencoder, &[scaler(10.0, 2.0), scaler(-1.0, 0.5)]);
        assert_eq!((folded.w_enc, folded.b_enc), (array![[3.0], [2.0]], array![0.5]));
        assert_eq!((folded.w_dec, folded.b_dec), (array![[2.0, 1.0]], array![12.0, -1.0]));
    }

    #[test]
    fn folded_weights_compute_the_same_from_raw_values() {
        let mut rng = ChaCha8Rng::seed_from_u64(5);
        let scalers = [scaler(3.0, 2.0), scaler(-1.0, 0.5), scaler(0.0, 4.0), scaler(0.25, 1.0)];
        for (kind, is_deep) in Kind::ALL.into_iter().flat_map(|kind| [(kind, false), (kind, true)]) {
            let mut autoencoder = random(kind, &mut rng);
            if is_deep {
                let other = random(kind, &mut rng);
                autoencoder.hidden = vec![Layer { weight: other.w_enc, bias: other.b_enc }];
                autoencoder.w_enc = Array2::from_shape_simple_fn((9, 9), || rng.random_range(-1.0..1.0));
            }
            let raw = Array2::from_shape_simple_fn((50, 4), || rng.random_range(-3.0..3.0));
            let mut z = raw.clone();
            for (mut column, scaler) in z.axis_iter_mut(Axis(1)).zip(&scalers) {
                column.mapv_inplace(|v| (v - scaler.mean) / scaler.std);
            }
            let ones = Array2::ones(raw.dim());
            let (mut plain, mut folded) = (Forward::default(), Forward::default());
            autoencoder.forward(z.view(), ones.view(), &mut plain);
            fold(&autoencoder, &scalers).forward(raw.view(), ones.view(), &mut folded);
            let close = |a: &f64, b: &f64| (a - b).abs() <= 1e-14 * a.abs().max(b.abs()).max(1.0);
            assert!(plain.latents().iter().zip(folded.latents()).all(|(a, b)| close(a, b)));
            for (j, scaler) in scalers.iter().enumerate() {
                let raw_units = plain.recons().column(j).mapv(|x| x * scaler.std + scaler.mean);
                let same = raw_units.iter().zip(folded.recons().column(j)).all(|(a, b)| close(a, b));
                assert!(same, "{raw_units} and {}", folded.recons().column(j));
            }
        }
    }

    #[test]
    fn unfolding_undoes_folding() {
        let mut rng = ChaCha8Rng::seed_from_u64(6);
        let scalers = [scaler(3.0, 2.0), scaler(-1.0, 0.3), scaler(0.0, 7.0), scaler(0.25, 1.0)];
        let autoencoder = random(Kind::Topk, &mut rng);
        let back = unfold(&fold(&autoencoder, &scalers), &scalers);
        let pairs = autoencoder.w_enc.iter().zip(&back.w_enc).chain(autoencoder.w_dec.iter().zip(&back.w_dec));
        assert!(pairs.chain(autoencoder.b_dec.iter().zip(&back.b_dec)).all(|(a, b)| (a - b).abs() < 1e-14));
        assert_eq!(autoencoder.b_enc, back.b_enc);
    }
}
