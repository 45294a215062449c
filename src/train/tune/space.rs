//! What is searched: forms, sizes, sparsity, penalty, learning rate and input masking, drawn at random from a seed.
//!
//! MODEL 5.2. Random search needs no model of the criterion, and the criterion is too noisy to have one.

use rand::seq::IndexedRandom;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

use crate::sae::{self, DecoderNorm, Kind};
use crate::train::Config;

/// Latents as a multiple of the inputs.
const WIDTHS: [f64; 4] = [0.5, 1.0, 2.0, 4.0];
/// Active latents as a share of the inputs, for unbounded latents: with more, anomalies are copied.
const K_SHARE: (f64, f64) = (1.0 / 16.0, 0.5);
/// The same for bounded latents, whose default is 1: half as many cost .010 to .039 AUC, so less is rarely right.
const K_SHARE_BOUNDED: (f64, f64) = (0.25, 2.0);
/// λ of the L1 penalty.
const L1: (f64, f64) = (0.01, 0.5);
/// Learning rate as a multiple of the default's.
pub(super) const LR_FACTORS: [f64; 3] = [1.0 / 3.0, 1.0, 3.0];
/// Share of inputs hidden in training.
const INPUT_MASKING: [f64; 2] = [0.0, 0.1];

/// `n` random configurations beside `default`, for rows of `n_inputs` inputs.
pub fn candidates(default: &Config, n_inputs: usize, n: usize, seed: u64) -> Vec<Config> {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    (0..n).map(|_| draw(default, n_inputs, &mut rng)).collect()
}

fn draw(default: &Config, n_inputs: usize, rng: &mut impl Rng) -> Config {
    let mut choose = |values: &[f64]| *values.choose(rng).expect("there is something to choose from");
    let (width, lr, input_masking) = (choose(&WIDTHS), choose(&LR_FACTORS), choose(&INPUT_MASKING));
    let kinds = [Kind::SatTopk, Kind::Topk, Kind::Batchtopk, Kind::Relu];
    let kind = *kinds.choose(rng).expect("there are four");
    let is_bounded = kind == Kind::SatTopk;
    let k_share = log_uniform(if is_bounded { K_SHARE_BOUNDED } else { K_SHARE }, rng);
    let l1 = log_uniform(L1, rng);
    let of_inputs = |share: f64| ((share * n_inputs as f64).round() as usize).max(1);
    let n_latents = of_inputs(width);
    let mut sae = sae::Config {
        kind,
        n_latents: Some(n_latents),
        k: Some(of_inputs(k_share).min(n_latents)),
        decoder_norm: if is_bounded { DecoderNorm::Free } else { DecoderNorm::Unit },
        lr: (lr * default.sae.lr).min(1.0),
        input_masking,
        ..default.sae.clone()
    };
    if kind == Kind::Relu {
        sae.k = None;
        sae.objective.l1 = l1;
    }
    Config { sae, ..default.clone() }
}

fn log_uniform((low, high): (f64, f64), rng: &mut impl Rng) -> f64 {
    rng.random_range(low.ln()..high.ln()).exp()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_candidate_can_be_trained_and_the_seed_decides() {
        let default = Config::default();
        for n_inputs in [1, 3, 32, 118] {
            let drawn = candidates(&default, n_inputs, 100, 7);
            assert_eq!(drawn, candidates(&default, n_inputs, 100, 7));
            assert_ne!(drawn, candidates(&default, n_inputs, 100, 8));
            for config in &drawn {
                assert_eq!(config.check(), Ok(()));
                let shape = config.sae.shape(n_inputs);
                assert!(shape.n_latents <= 4 * n_inputs && shape.k <= shape.n_latents, "{shape:?}");
                assert!(config.sae.kind == Kind::SatTopk || shape.k <= n_inputs.div_ceil(2), "{shape:?}");
            }
        }
    }

    #[test]
    fn every_form_is_drawn() {
        let drawn = candidates(&Config::default(), 16, 40, 1);
        for kind in [Kind::SatTopk, Kind::Topk, Kind::Batchtopk, Kind::Relu] {
            assert!(drawn.iter().any(|config| config.sae.kind == kind), "{kind:?}");
        }
    }
}
