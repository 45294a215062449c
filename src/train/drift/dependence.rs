//! How much neighbours in a stream depend on each other, so that a wave is not taken for a drift.
//!
//! By the variance of the means of blocks, taken from the differences of neighbouring blocks (von Neumann 1941), so that
//! a drift does not raise it: of independent numbers it is their variance over the block's length; the factor by which it
//! is larger is that by which as many records say less.

/// Numbers of a block.
pub(super) const BLOCK: u64 = 32;
/// Fewest differences that say something.
const DIFFERENCES_MIN: u64 = 8;
/// Variance of numbers that are uniform from 0 to 1, as places in a distribution are while nothing changes.
const VARIANCE: f64 = 1.0 / 12.0;

/// The running estimate.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Dependence {
    n: u64,
    sum: f64,
    last_mean: Option<f64>,
    squares: f64,
    n_differences: u64,
}

impl Dependence {
    /// Takes the next number, from 0 to 1; says whether it ends a block.
    pub(super) fn add(&mut self, u: f64) -> bool {
        self.n += 1;
        self.sum += u;
        let ends = self.n == BLOCK;
        if ends {
            let mean = self.sum / BLOCK as f64;
            if let Some(last) = self.last_mean.replace(mean) {
                self.squares += (mean - last).powi(2);
                self.n_differences += 1;
            }
            (self.n, self.sum) = (0, 0.0);
        }
        ends
    }

    /// By how much more numbers are needed than of independent ones, at least 1; `None` before that can be told.
    pub(super) fn factor(&self) -> Option<f64> {
        (self.n_differences >= DIFFERENCES_MIN).then(|| {
            let of_means = self.squares / (2 * self.n_differences) as f64;
            (of_means * BLOCK as f64 / VARIANCE).max(1.0)
        })
    }
}

#[cfg(test)]
mod tests {
    use rand::{Rng, SeedableRng};
    use rand_chacha::ChaCha8Rng;

    use super::*;

    #[test]
    fn independent_numbers_have_a_factor_of_one_and_repeated_ones_of_their_repetitions() {
        for (n_times, expected) in [(1, 1.0), (4, 4.0), (16, 16.0)] {
            let mut rng = ChaCha8Rng::seed_from_u64(3);
            let mut dependence = Dependence::default();
            assert_eq!(dependence.factor(), None);
            for _ in 0..40_000 / n_times {
                let u = rng.random();
                (0..n_times).for_each(|_| _ = dependence.add(u));
            }
            let factor = dependence.factor().expect("many blocks");
            assert!((factor / expected - 1.0).abs() < 0.15, "{n_times}: {factor}");
        }
    }

    #[test]
    fn a_drift_does_not_raise_it() {
        let mut rng = ChaCha8Rng::seed_from_u64(4);
        let mut dependence = Dependence::default();
        for i in 0..20_000 {
            let level = f64::from(i) / 20_000.0 * 0.5;
            _ = dependence.add(level + 0.5 * rng.random::<f64>());
        }
        assert_eq!(dependence.factor(), Some(1.0));
    }
}
