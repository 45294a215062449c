//! Page and Hinkley's test: whether the mean has moved from what it used to be, up or down.
//!
//! Page (1954), Hinkley (1971), in the form of two sums that never fall below 0: each adds how far a number lies beyond
//! the mean so far and an allowance. It forgets nothing until it is made anew.

/// How far from the mean counts as no change at all: with .005, the usual, slow waves of a healthy stream add up.
const ALLOWANCE: f64 = 0.02;
/// Sum at which the mean has moved. With uniform numbers a sum reaches it by chance with exp(−2·.02·30/.083), once in
/// two million; a mean that moves by .1 takes it there in 375 numbers.
const LIMIT: f64 = 30.0;

/// The two sums.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct PageHinkley {
    n: u64,
    mean: f64,
    up: f64,
    down: f64,
}

impl PageHinkley {
    /// Takes the next number, from 0 to 1.
    pub(super) fn add(&mut self, u: f64) {
        self.n += 1;
        self.mean += (u - self.mean) / self.n as f64;
        self.up = (self.up + u - self.mean - ALLOWANCE).max(0.0);
        self.down = (self.down + self.mean - u - ALLOWANCE).max(0.0);
    }

    /// The larger sum over its limit; from 1 on the mean has moved. `dependence` is by how much more numbers are needed
    /// than of independent ones.
    pub(super) fn ratio(&self, dependence: f64) -> f64 {
        self.up.max(self.down) / (LIMIT * dependence)
    }
}

#[cfg(test)]
mod tests {
    use rand::{Rng, SeedableRng};
    use rand_chacha::ChaCha8Rng;

    use super::*;

    #[test]
    fn a_hand_worked_case() {
        let mut test = PageHinkley::default();
        [0.5, 0.5].into_iter().for_each(|u| test.add(u));
        assert_eq!(test.ratio(1.0), 0.0);
        test.add(0.8);
        // The mean is .6 now: .8 − .6 − .02.
        assert!((test.ratio(1.0) * LIMIT - 0.18).abs() < 1e-12, "{test:?}");
    }

    #[test]
    fn moves_both_ways_are_seen_and_none_is_not() {
        for seed in 0..20 {
            let mut rng = ChaCha8Rng::seed_from_u64(seed);
            let mut test = PageHinkley::default();
            let largest = (0..30_000).map(|_| {
                test.add(rng.random());
                test.ratio(1.0)
            });
            let largest = largest.fold(0.0, f64::max);
            assert!(largest < 1.0, "seed {seed}: {largest}");
            for by in [0.1, -0.1] {
                let mut moved = test;
                (0..1000).for_each(|_| moved.add((rng.random::<f64>() + by).clamp(0.0, 1.0)));
                assert!(moved.ratio(1.0) >= 1.0, "seed {seed}, {by}: {}", moved.ratio(1.0));
            }
        }
    }
}
