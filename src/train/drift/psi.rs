//! The population stability index: how differently two sets of rows fall into the same bins.
//!
//! Σ (a − b)·ln(a/b) over the shares a and b of each bin (Siddiqi 2006): under .1 nothing has changed, above .25 a lot
//! has. By chance alone it is about (bins − 1)·(1/n_a + 1/n_b) (Yurdakul 2018), which is taken off, so that a short
//! reference is no drift.

/// Added to each count, so that an empty bin has a logarithm.
const PSEUDO: f64 = 0.5;

/// The index of two lists of counts over the same bins, less what chance gives; at least 0.
pub(super) fn psi(reference: &[u32], recent: &[u32]) -> f64 {
    let total = |counts: &[u32]| counts.iter().copied().map(f64::from).sum::<f64>();
    let n_bins = reference.iter().zip(recent).filter(|(a, b)| **a + **b > 0).count() as f64;
    let (n_a, n_b) = (total(reference), total(recent));
    if n_a == 0.0 || n_b == 0.0 {
        return 0.0;
    }
    let share = |count: u32, n: f64| (f64::from(count) + PSEUDO) / (n + PSEUDO * n_bins);
    let pairs = reference.iter().zip(recent).filter(|(a, b)| **a + **b > 0);
    let sum: f64 = pairs.map(|(&a, &b)| (share(a, n_a) - share(b, n_b)) * (share(a, n_a) / share(b, n_b)).ln()).sum();
    (sum - (n_bins - 1.0) * (1.0 / n_a + 1.0 / n_b)).max(0.0)
}

#[cfg(test)]
mod tests {
    use rand::{Rng, SeedableRng};
    use rand_chacha::ChaCha8Rng;

    use super::*;

    #[test]
    fn a_hand_worked_case() {
        // Halves against .3 and .7: .2·ln(5/3) + .2·ln(7/5), less (1/10,000 + 1/10,000).
        let index = psi(&[5000, 5000], &[3000, 7000]);
        let expected = 0.2 * (5_f64 / 3.0).ln() + 0.2 * (7_f64 / 5.0).ln() - 2e-4;
        assert!((index - expected).abs() < 1e-4, "{index} {expected}");
        assert_eq!(psi(&[10, 20, 30], &[100, 200, 300]), 0.0);
        assert_eq!(psi(&[10, 20], &[0, 0]), 0.0, "no rows say nothing");
    }

    #[test]
    fn chance_is_no_drift_however_short_the_reference() {
        for seed in 0..50 {
            let mut rng = ChaCha8Rng::seed_from_u64(seed);
            let mut drawn = |n: usize| {
                let mut counts = [0; 10];
                (0..n).for_each(|_| counts[rng.random_range(0..10)] += 1);
                counts
            };
            let index = psi(&drawn(100), &drawn(5000));
            assert!(index < 0.25, "seed {seed}: {index}");
        }
    }
}
