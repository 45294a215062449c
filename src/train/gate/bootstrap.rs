//! How sure a mean is whose terms depend on their neighbours: a circular block bootstrap.
//!
//! Politis & Romano (1992): whole blocks are drawn, from a circle, so that the dependence within a block is kept. It
//! draws from the randomness it is given.

use rand::Rng;

/// Terms of a block (MODEL 3.5).
const BLOCK: usize = 64;
/// Fewest blocks: a short sequence has shorter ones.
const BLOCKS_MIN: usize = 8;

/// The `level` and `1 − level` quantiles of the mean of `values` over `n_draws` draws; (0, 0) of no values.
pub(super) fn mean_interval(values: &[f64], n_draws: usize, level: f64, rng: &mut impl Rng) -> (f64, f64) {
    let n = values.len();
    if n == 0 {
        return (0.0, 0.0);
    }
    let block = BLOCK.min(n / BLOCKS_MIN).max(1);
    let n_blocks = n.div_ceil(block);
    // Sums over the circle, so that a block costs one subtraction.
    let mut sums = Vec::with_capacity(n + block + 1);
    sums.push(0.0);
    for i in 0..n + block {
        sums.push(sums[i] + values[i % n]);
    }
    let draw = |_| {
        let sum: f64 = (0..n_blocks).map(|_| rng.random_range(0..n)).map(|from| sums[from + block] - sums[from]).sum();
        sum / (n_blocks * block) as f64
    };
    let mut means: Vec<f64> = (0..n_draws.max(1)).map(draw).collect();
    means.sort_by(f64::total_cmp);
    let at = |share: f64| means[((means.len() as f64 * share) as usize).min(means.len() - 1)];
    (at(level), at(1.0 - level))
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng;
    use rand_chacha::ChaCha8Rng;

    use super::*;

    #[test]
    fn equal_terms_have_no_doubt() {
        let mut rng = ChaCha8Rng::seed_from_u64(1);
        assert_eq!(mean_interval(&[2.0; 100], 200, 0.05, &mut rng), (2.0, 2.0));
        assert_eq!(mean_interval(&[], 200, 0.05, &mut rng), (0.0, 0.0));
        assert_eq!(mean_interval(&[3.0], 200, 0.05, &mut rng), (3.0, 3.0));
    }

    #[test]
    fn independent_terms_have_the_interval_of_the_normal_law() {
        // Of 6400 terms ±1 in turn within shuffled halves the mean's deviation is 1/80: the 5 % quantile lies at −.0206.
        let mut rng = ChaCha8Rng::seed_from_u64(2);
        let values: Vec<f64> = (0..6400).map(|_| if rng.random_bool(0.5) { 1.0 } else { -1.0 }).collect();
        let mean = values.iter().sum::<f64>() / 6400.0;
        let (low, high) = mean_interval(&values, 2000, 0.05, &mut rng);
        assert!((low - mean + 0.0206).abs() < 0.005, "{}", low - mean);
        assert!((high - mean - 0.0206).abs() < 0.005, "{}", high - mean);
    }

    #[test]
    fn terms_that_hang_together_are_less_sure() {
        let mut rng = ChaCha8Rng::seed_from_u64(3);
        let runs: Vec<f64> = (0..100).map(|_| if rng.random_bool(0.5) { 1.0 } else { -1.0 }).collect();
        let values: Vec<f64> = (0..6400).map(|i| runs[i / 64]).collect();
        let (low, high) = mean_interval(&values, 2000, 0.05, &mut rng);
        // A hundred independent terms: 2 · 1.645 / 10, where 6400 independent ones have an eighth of that.
        assert!((high - low) > 0.2, "{}", high - low);
    }
}
