//! ADWIN: a window that grows while its mean stands still, and drops what is old when it doesn't.
//!
//! Bifet & Gavaldà (2007), "Learning from Time-Changing Data with Adaptive Windowing", the variant ADWIN2: an exponential
//! histogram with at most five buckets of a size, and the cut test with the variance of the window (their equation 3.1).
//! It takes numbers between 0 and 1 and keeps some sixty buckets, however long the stream.

use std::collections::VecDeque;

/// Buckets of one size before the two oldest are joined: the paper's M.
const BUCKETS_OF_A_SIZE: usize = 5;
/// Fewest numbers on either side of a cut.
const SIDE_MIN: u64 = 16;

/// Consecutive numbers.
#[derive(Clone, Copy, Debug, Default)]
struct Bucket {
    n: u64,
    sum: f64,
    squares: f64,
}

/// A mean that changed.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Cut {
    /// Mean of what was dropped and of what stayed.
    pub before: f64,
    pub after: f64,
}

/// The window.
#[derive(Clone, Debug)]
pub(super) struct Adwin {
    delta: f64,
    /// Newest first.
    buckets: VecDeque<Bucket>,
    /// Largest difference of means over its limit at the last test.
    ratio: f64,
}

impl Bucket {
    fn join(self, other: Self) -> Self {
        Self { n: self.n + other.n, sum: self.sum + other.sum, squares: self.squares + other.squares }
    }

    fn without(self, other: Self) -> Self {
        Self { n: self.n - other.n, sum: self.sum - other.sum, squares: self.squares - other.squares }
    }

    fn mean(self) -> f64 {
        self.sum / self.n as f64
    }
}

impl Adwin {
    /// An empty window whose false alarms have at most the probability `delta` a test.
    pub(super) fn new(delta: f64) -> Self {
        Self { delta, buckets: VecDeque::new(), ratio: 0.0 }
    }

    /// Largest difference of means over its limit at the last test; above 1 the window was cut.
    pub(super) fn ratio(&self) -> f64 {
        self.ratio
    }

    /// Takes the next number, from 0 to 1.
    pub(super) fn add(&mut self, u: f64) {
        self.buckets.push_front(Bucket { n: 1, sum: u, squares: u * u });
        self.compress();
    }

    /// Joins the two oldest buckets of each size of which there are too many.
    fn compress(&mut self) {
        let mut from = 0;
        while from < self.buckets.len() {
            let size = self.buckets[from].n;
            let n_of_size = self.buckets.iter().skip(from).take_while(|bucket| bucket.n == size).count();
            if n_of_size <= BUCKETS_OF_A_SIZE {
                return;
            }
            let oldest = from + n_of_size - 1;
            let joined = self.buckets[oldest - 1].join(self.buckets[oldest]);
            self.buckets[oldest - 1] = joined;
            self.buckets.remove(oldest);
            from = oldest - 1;
        }
    }

    /// Drops the oldest buckets while some cut of the window has two different means, and says whether there was one.
    /// `dependence` is by how much more numbers are needed than of independent ones. A test walks over all buckets: not
    /// for every number.
    pub(super) fn test(&mut self, dependence: f64) -> Option<Cut> {
        let first = self.widest(dependence);
        self.ratio = first.map_or(0.0, |(ratio, _)| ratio);
        let cut = first.filter(|(ratio, _)| *ratio > 1.0).map(|(_, cut)| cut)?;
        while self.widest(dependence).is_some_and(|(ratio, _)| ratio > 1.0) {
            self.buckets.pop_back();
        }
        Some(cut)
    }

    /// The cut whose difference of means is largest against its limit.
    fn widest(&self, dependence: f64) -> Option<(f64, Cut)> {
        let whole = self.buckets.iter().fold(Bucket::default(), |whole, bucket| whole.join(*bucket));
        let n = whole.n as f64;
        let variance = (whole.squares / n - whole.mean().powi(2)).max(0.0);
        let confidence = (2.0 * n.ln() / self.delta).ln();
        let mut before = Bucket::default();
        let mut widest = None;
        for bucket in self.buckets.iter().rev() {
            before = before.join(*bucket);
            let after = whole.without(before);
            if before.n < SIDE_MIN {
                continue;
            }
            if after.n < SIDE_MIN {
                break;
            }
            let harmonic = dependence * (1.0 / before.n as f64 + 1.0 / after.n as f64);
            let limit = (2.0 * harmonic * variance * confidence).sqrt() + 2.0 / 3.0 * harmonic * confidence;
            let cut = Cut { before: before.mean(), after: after.mean() };
            let ratio = (cut.after - cut.before).abs() / limit;
            if widest.is_none_or(|(best, _)| ratio > best) {
                widest = Some((ratio, cut));
            }
        }
        widest
    }
}

#[cfg(test)]
mod tests {
    use rand::{Rng, SeedableRng};
    use rand_chacha::ChaCha8Rng;

    use super::*;

    /// Feeds `n` numbers, tests after every 32nd, and returns the first change and after how many it was seen.
    fn feed(adwin: &mut Adwin, n: usize, mut next: impl FnMut() -> f64) -> Option<(usize, Cut)> {
        (1..=n).fold(None, |seen, i| {
            adwin.add(next());
            let cut = if i % 32 == 0 { adwin.test(1.0) } else { None };
            seen.or(cut.map(|cut| (i, cut)))
        })
    }

    #[test]
    fn a_stationary_stream_never_alarms() {
        for seed in 0..20 {
            let mut rng = ChaCha8Rng::seed_from_u64(seed);
            let mut adwin = Adwin::new(1e-3);
            assert_eq!(feed(&mut adwin, 30_000, || rng.random()), None, "seed {seed}");
            assert!(adwin.buckets.len() < 80, "{} buckets", adwin.buckets.len());
            assert_eq!(adwin.buckets.iter().map(|bucket| bucket.n).sum::<u64>(), 30_000);
        }
    }

    #[test]
    fn a_mean_that_moves_by_a_tenth_is_seen_within_a_thousand_and_the_old_is_dropped() {
        for seed in 0..20 {
            let mut rng = ChaCha8Rng::seed_from_u64(seed);
            let mut adwin = Adwin::new(1e-3);
            assert_eq!(feed(&mut adwin, 5000, || rng.random::<f64>() * 0.9), None);
            let seen = feed(&mut adwin, 4000, || rng.random::<f64>() * 0.9 + 0.1);
            let (n, cut) = seen.unwrap_or_else(|| panic!("seed {seed}: not seen"));
            assert!(n <= 1000, "seed {seed}: only after {n}");
            assert!(cut.after > cut.before, "{cut:?}");
            let left = adwin.buckets.iter().fold(Bucket::default(), |sum, bucket| sum.join(*bucket));
            assert!((left.mean() - 0.55).abs() < 0.03, "seed {seed}: {}", left.mean());
        }
    }

    #[test]
    fn buckets_of_a_size_are_joined_two_by_two() {
        let mut adwin = Adwin::new(1e-3);
        (0..12).for_each(|i| adwin.add(f64::from(i) / 100.0));
        let sizes: Vec<u64> = adwin.buckets.iter().map(|bucket| bucket.n).collect();
        assert_eq!(sizes, [1, 1, 1, 1, 2, 2, 2, 2]);
        assert!((adwin.buckets[7].sum - 0.01).abs() < 1e-12, "the oldest holds 0 and .01");
    }
}
