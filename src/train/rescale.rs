//! A new scaler under old weights: the same function of raw values.
//!
//! MODEL 3.4. From z = (v − μ)/s to z′ = (v − μ′)/s′: the encoder's rows are multiplied by s′/s, the decoder's columns
//! divided by it, and `b_dec` becomes (b_dec·s + μ − μ′)/s′. Latents stay as they are, so every form of them keeps its
//! selection; decoder rows leave norm 1. Only what was cut at ±50 may differ. It never changes a latent's meaning.

use ndarray::Axis;

use super::config::Config;
use crate::preprocess::{Preprocessor, Scaler};
use crate::sae::{Autoencoder, DecoderNorm, Kind};

/// Change of an input's scale, as a factor, from which its scaler is fitted anew.
const MOVED: f64 = 1.25;

/// Whether weights trained under `config` may be moved to another scaler: not where the encoder is tied to the decoder,
/// nor where decoder rows are held at norm 1, nor for components, which are solved for anew.
pub(super) fn can_rescale(autoencoder: &Autoencoder<f32>, config: &Config) -> bool {
    !config.sae.tied && config.sae.decoder_norm == DecoderNorm::Free && autoencoder.kind != Kind::Pca
}

/// Whether a scale has moved so far that the new scaler is worth it.
pub(super) fn has_moved(from: &Preprocessor, to: &Preprocessor) -> bool {
    let factor = |(from, to): (&Scaler, &Scaler)| (to.std / from.std).max(from.std / to.std);
    let varies = |(from, to): &(&Scaler, &Scaler)| !from.constant && !to.constant;
    from.scalers().iter().zip(to.scalers()).filter(varies).map(factor).any(|factor| factor > MOVED)
}

/// The weights that do on inputs of `to` what `autoencoder` does on inputs of `from`.
///
/// Panics when the preprocessors have other inputs than the weights.
pub fn rescale(autoencoder: &Autoencoder<f32>, from: &Preprocessor, to: &Preprocessor) -> Autoencoder<f32> {
    let n_inputs = autoencoder.b_dec.len();
    assert_eq!((from.n_inputs(), to.n_inputs()), (n_inputs, n_inputs), "scalers and weights have the same inputs");
    let mut rescaled = autoencoder.clone();
    let encoder = match rescaled.hidden.first_mut() {
        Some(layer) => &mut layer.weight,
        None => &mut rescaled.w_enc,
    };
    for (j, (from, to)) in from.scalers().iter().zip(to.scalers()).enumerate() {
        let factor = (to.std / from.std) as f32;
        encoder.index_axis_mut(Axis(0), j).mapv_inplace(|w| w * factor);
        rescaled.w_dec.index_axis_mut(Axis(1), j).mapv_inplace(|w| w / factor);
        let b_dec = f64::from(rescaled.b_dec[j]);
        rescaled.b_dec[j] = ((b_dec * from.std + from.mean - to.mean) / to.std) as f32;
    }
    rescaled
}

#[cfg(test)]
mod tests {
    use ndarray::{Array2, Axis};
    use rand::{Rng, SeedableRng};
    use rand_chacha::ChaCha8Rng;

    use super::*;
    use crate::preprocess::Schema;
    use crate::sae::{Config as SaeConfig, Forward, start};
    use crate::train::calibrate::Standardised;

    /// Reconstructions in raw units of `raw` under `autoencoder` and its scalers.
    fn recons(autoencoder: &Autoencoder<f32>, preprocessor: &Preprocessor, raw: &Array2<f32>) -> Array2<f64> {
        let rows = Standardised::new(preprocessor, raw.view());
        let mut forward = Forward::default();
        autoencoder.forward(rows.x.view(), rows.mask.view(), &mut forward);
        let scalers = preprocessor.scalers();
        Array2::from_shape_fn(raw.dim(), |(i, j)| {
            scalers[j].mean + f64::from(forward.recons()[[i, j]]) * scalers[j].std
        })
    }

    #[test]
    fn the_function_of_raw_values_stays_for_every_form_and_with_hidden_layers() {
        let mut rng = ChaCha8Rng::seed_from_u64(5);
        let raw = Array2::from_shape_fn((200, 6), |(_, j)| (j as f32 + 1.0) * rng.random_range(-1.0..1.0) + j as f32);
        let schema = Schema::new((0..6).map(|j| format!("f{j}"))).unwrap();
        let early = raw.select(Axis(0), &(0..60).collect::<Vec<_>>());
        let later = early.mapv(|v| 1.7 * v - 0.6);
        let from = Preprocessor::fit(&schema, early.view(), early.view());
        let to = Preprocessor::fit(&schema, later.view(), later.view());
        assert!(has_moved(&from, &to) && !has_moved(&from, &from));
        for (kind, hidden) in Kind::ALL.into_iter().flat_map(|kind| [(kind, vec![]), (kind, vec![8])]) {
            if kind == Kind::Pca {
                continue;
            }
            let config = SaeConfig { kind, hidden, allow_large_k: true, ..SaeConfig::default() };
            let rows = Standardised::new(&from, early.view());
            let mut autoencoder = start(&config, rows.x.view(), rows.mask.view(), &mut rng).unwrap();
            autoencoder.b_enc.mapv_inplace(|_| rng.random_range(-0.1..0.1));
            autoencoder.b_dec.mapv_inplace(|_| rng.random_range(-0.5..0.5));
            let rescaled = rescale(&autoencoder, &from, &to);
            let (before, after) = (recons(&autoencoder, &from, &raw), recons(&rescaled, &to, &raw));
            // A tie between two latents may be decided otherwise by rounding: a row in a hundred.
            let far = |(a, b): (ndarray::ArrayView1<'_, f64>, ndarray::ArrayView1<'_, f64>)| {
                a.iter().zip(b).any(|(a, b)| (a - b).abs() > 1e-5 * (1.0 + a.abs()) * 6.0)
            };
            let n_far = before.rows().into_iter().zip(after.rows()).filter(|(a, b)| far((*a, *b))).count();
            assert!(n_far <= 2, "{kind:?}: {n_far} of 200 rows differ");
            assert_ne!(rescaled.w_dec, autoencoder.w_dec);
        }
    }
}
