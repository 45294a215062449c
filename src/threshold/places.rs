//! How many scores lie below a score: counts of narrow intervals, at a few ns a score.
//!
//! An octave has 32 intervals of equal width, from 1/16 to 256 on either side of 0; within one, scores are taken for
//! evenly spread. So a place is exact at each interval's beginning and never off by more than the interval holds; for a
//! smooth distribution by less than a ten-thousandth of all scores.

/// Least and greatest magnitude that have intervals of an octave: below is one interval, above another.
const LEAST: f32 = 0.0625;
const GREATEST: f32 = 256.0;
/// Bits of a value that tell places within an interval: an octave of `f32` has 2^23 values.
const BITS: u32 = 18;
const WIDTH: u32 = 1 << BITS;
/// Intervals on one side of 0, and the position of 0.
const N_SIDE: usize = ((GREATEST.to_bits() - LEAST.to_bits()) >> BITS) as usize + 2;
const ZERO: u32 = (N_SIDE as u32) << BITS;

/// Counts of scores by interval.
#[derive(Clone, Debug)]
pub struct Places {
    counts: Vec<u32>,
    /// How many scores lay below the beginning of each interval when they were added up last; at last all of them.
    below: Vec<u32>,
}

impl Places {
    /// Of no scores.
    pub fn new() -> Self {
        Self { counts: vec![0; 2 * N_SIDE], below: vec![0; 2 * N_SIDE + 1] }
    }

    /// Counts a finite score.
    pub fn add(&mut self, z: f32) {
        self.counts[(position(z) >> BITS) as usize] += 1;
    }

    /// Uncounts a score that was counted.
    pub fn remove(&mut self, z: f32) {
        self.counts[(position(z) >> BITS) as usize] -= 1;
    }

    /// Forgets everything.
    pub fn clear(&mut self) {
        self.counts.fill(0);
        self.add_up();
    }

    /// Adds up what has been counted: the answers below are as of now until the next call.
    pub fn add_up(&mut self) {
        let mut sum = 0;
        for (below, count) in self.below[1..].iter_mut().zip(&self.counts) {
            sum += count;
            *below = sum;
        }
    }

    /// Number of scores.
    pub fn n(&self) -> f64 {
        f64::from(self.below[2 * N_SIDE])
    }

    /// How many scores are below `z`, which is finite; never less for a greater one.
    pub fn n_below(&self, z: f32) -> f64 {
        let position = position(z);
        let interval = (position >> BITS) as usize;
        let (low, high) = (self.below[interval], self.below[interval + 1]);
        let share = f64::from(position % WIDTH) * (1.0 / WIDTH as f64);
        f64::from(low) + share * f64::from(high - low)
    }

    /// The score below which `n_below` scores are.
    pub fn z_at(&self, n_below: f64) -> f32 {
        // The last interval that begins with no more below it.
        let interval = self.below.partition_point(|below| f64::from(*below) <= n_below);
        let interval = interval.saturating_sub(1).min(2 * N_SIDE - 1);
        let (low, high) = (f64::from(self.below[interval]), f64::from(self.below[interval + 1]));
        let share = if high > low { ((n_below - low) / (high - low)).clamp(0.0, 1.0) } else { 0.0 };
        value((interval as u32) * WIDTH + (share * WIDTH as f64) as u32)
    }
}

/// Where a score lies among the intervals: its interval, and the place within it in the lower bits.
fn position(z: f32) -> u32 {
    let size = z.abs();
    let of_octave = size.clamp(LEAST, GREATEST).to_bits() - LEAST.to_bits();
    let distance = of_octave + (size.min(LEAST) * (WIDTH as f32 / LEAST)) as u32;
    if z < 0.0 { ZERO - distance } else { ZERO + distance }
}

/// The score at a position.
fn value(position: u32) -> f32 {
    let distance = position.abs_diff(ZERO);
    let size = match distance.checked_sub(WIDTH) {
        None => distance as f32 * (LEAST / WIDTH as f32),
        Some(of_octave) => f32::from_bits(LEAST.to_bits() + of_octave).min(GREATEST),
    };
    if position < ZERO { -size } else { size }
}

#[cfg(test)]
mod tests {
    use rand::{Rng, SeedableRng};
    use rand_chacha::ChaCha8Rng;

    use super::*;

    fn normal(n: usize) -> Vec<f32> {
        let mut rng = ChaCha8Rng::seed_from_u64(1);
        (0..n).map(|_| (0..12).map(|_| rng.random::<f32>()).sum::<f32>() - 6.0).collect()
    }

    fn counted(values: &[f32]) -> Places {
        let mut places = Places::new();
        values.iter().for_each(|z| places.add(*z));
        places.add_up();
        places
    }

    #[test]
    fn positions_rise_with_the_value_and_lead_back_to_it() {
        let sizes = [1e-9, 0.001, 0.0624, 0.0625, 0.1, 0.9999, 1.0, 3.7, 255.9];
        let values: Vec<f32> = sizes.iter().rev().map(|z| -z).chain([0.0]).chain(sizes).collect();
        assert!(values.windows(2).all(|pair| position(pair[0]) <= position(pair[1])));
        for z in values {
            assert!((value(position(z)) - z).abs() <= 1e-6_f32.max(z.abs() * 1e-6), "{z}: {}", value(position(z)));
        }
        assert_eq!(position(1e12), position(GREATEST));
        assert!(((position(-1e12) >> BITS) as usize) < N_SIDE && (position(1e12) >> BITS) as usize + 1 == 2 * N_SIDE);
    }

    #[test]
    fn places_of_a_smooth_distribution_are_right_to_a_ten_thousandth_and_never_fall() {
        // Quantiles of the logistic distribution: no chance.
        let n = 200_000.0_f64;
        let quantile = |i: u32| (f64::from(i) + 0.5) / n;
        let values: Vec<f32> = (0..200_000).map(|i| (quantile(i) / (1.0 - quantile(i))).ln() as f32).collect();
        let (places, mut last) = (counted(&values), 0.0);
        for i in -900..900 {
            let z = i as f32 * 0.01 + 0.003;
            let (found, exact) = (places.n_below(z), values.partition_point(|value| *value < z) as f64);
            assert!((found - exact).abs() / n < 1e-4, "{z}: {found} for {exact}");
            assert!(found >= last);
            last = found;
        }
    }

    #[test]
    fn ties_are_off_by_no_more_than_their_interval_holds_and_by_nothing_at_its_beginning() {
        let values: Vec<f32> = (0..1000).map(|i| (i % 10) as f32 * 0.25).collect();
        let places = counted(&values);
        for i in 0..10 {
            assert_eq!(places.n_below(i as f32 * 0.25), f64::from(i) * 100.0, "a quarter begins an interval");
        }
        assert!((places.n_below(0.26) - 200.0).abs() <= 100.0);
    }

    #[test]
    fn a_place_leads_back_to_its_score_and_what_is_removed_does_not_count() {
        let values = normal(20_000);
        let mut places = counted(&values);
        for n_below in [1.0, 200.0, 5000.0, 10_000.0, 19_000.0, 19_990.0] {
            assert!((places.n_below(places.z_at(n_below)) - n_below).abs() < 1.0, "{n_below}");
        }
        values[100..].iter().for_each(|z| places.remove(*z));
        assert_eq!(places.n(), 20_000.0, "as of the last time they were added up");
        places.add_up();
        assert_eq!(places.n(), 100.0);
    }
}
