//! Median and median absolute deviation of the latest scores, exactly, at some ns a score.
//!
//! Of a score that lies far from what is asked for it is enough to know on which side. So only three ranges of ranks are
//! kept in order: around the median, and around the median less and plus the deviation. When what is asked for has
//! wandered out of them, which takes thousands of scores unless their distribution moves, all are sorted anew.

use super::ring::Ring;

/// Ranks on either side of what is asked for that are kept in order, as a share of all. More of them cost more at each
/// score, fewer cost more sorting.
const SPAN: f64 = 0.04;
/// Scores up to which all are kept in order.
const ALL: usize = 256;
/// Ranges that are kept in order, at most.
const N_RANGES: usize = 3;

/// A ring of finite values that knows their median and median absolute deviation.
#[derive(Clone, Debug)]
pub struct Location {
    ring: Ring,
    /// Least and greatest value of each range; ascending and disjoint. A range that isn't needed begins at infinity.
    lows: [f32; N_RANGES],
    highs: [f32; N_RANGES],
    /// Number of values in each range, and of values below it.
    n_within: [usize; N_RANGES],
    n_below: [usize; N_RANGES],
    /// The values of all ranges, ascending.
    near: Vec<f32>,
    /// How many of the values that are no farther from the median than the deviation lay below it, at the last look.
    n_lower: usize,
    /// Number of values when all were sorted last.
    n_sorted: usize,
}

impl Location {
    /// Of the latest `capacity` values (at least 1), which begin with `ascending`; of too many, some at even distances.
    pub fn new(capacity: usize, ascending: impl ExactSizeIterator<Item = f32>) -> Self {
        let ring = Ring::new(capacity, ascending);
        let near = Vec::with_capacity(ring.capacity());
        let (none, zeros) = ([f32::INFINITY; N_RANGES], [0; N_RANGES]);
        let mut location =
            Self { ring, lows: none, highs: none, n_within: zeros, n_below: zeros, near, n_lower: 0, n_sorted: 0 };
        location.sort();
        location
    }

    /// Number of values.
    pub fn len(&self) -> usize {
        self.ring.len()
    }

    /// The values in no order that matters.
    pub fn values(&self) -> &[f32] {
        self.ring.values()
    }

    /// Forgets everything.
    pub fn clear(&mut self) {
        self.ring.clear();
        self.sort();
    }

    /// Takes the newest value; a full ring forgets its oldest.
    pub fn push(&mut self, value: f32) {
        if let Some(oldest) = self.ring.push(value) {
            if let Some((range, end)) = self.place(oldest) {
                self.near.remove(end - 1);
                self.n_within[range] -= 1;
            }
            self.n_below.iter_mut().zip(self.lows).for_each(|(n, low)| *n -= usize::from(oldest < low));
        }
        if let Some((range, end)) = self.place(value) {
            self.near.insert(end, value);
            self.n_within[range] += 1;
        }
        self.n_below.iter_mut().zip(self.lows).for_each(|(n, low)| *n += usize::from(value < low));
    }

    /// The range that `value` lies in, and how many values of all ranges are not greater.
    fn place(&self, value: f32) -> Option<(usize, usize)> {
        let begun: usize = self.lows.iter().map(|low| usize::from(value >= *low)).sum();
        let range = begun.checked_sub(1).filter(|range| value <= self.highs[*range])?;
        let first: usize = self.n_within[..range].iter().sum();
        let within = &self.near[first..first + self.n_within[range]];
        Some((range, first + within.partition_point(|near| *near <= value)))
    }

    /// The value of rank `i`, from 0, if it is kept in order.
    fn nth(&self, i: usize) -> Option<f64> {
        let mut first = 0;
        for (n_below, n_within) in self.n_below.iter().zip(self.n_within) {
            if (*n_below..n_below + n_within).contains(&i) {
                return Some(f64::from(self.near[first + i - n_below]));
            }
            first += n_within;
        }
        None
    }

    /// Upper median, and 1.4826 times the upper median distance from it; (0, 1) of no values.
    pub fn median_and_mad(&mut self) -> (f64, f64) {
        if self.len() == 0 {
            return (0.0, 1.0);
        }
        // Of a ring that has grown far beyond what was sorted too much is kept in order.
        if self.len() > 2 * self.n_sorted.max(ALL) {
            self.sort();
        }
        let found = self.find().or_else(|| {
            self.sort();
            self.find()
        });
        let (n_lower, median, deviation) = found.expect("what was sorted just now is in order where it is looked at");
        self.n_lower = n_lower;
        (median, 1.4826 * deviation)
    }

    /// How many of the n/2 + 1 values that are nearest to the median lie below it, the median, and the distance of the
    /// farthest of them; none where they aren't kept in order. There is a value.
    fn find(&self) -> Option<(usize, f64, f64)> {
        let (n, middle) = (self.len(), self.len() / 2);
        let median = self.nth(middle)?;
        // Distances grow away from the median on both sides. `below` is the least number for which the next one on the
        // lower side is no nearer than the last that is then taken above.
        let lower = |i: usize| Some(median - self.nth(middle - 1 - i)?);
        let upper = |i: usize| Some(self.nth(middle + i)? - median);
        let is_enough = |below: usize| -> Option<bool> {
            Some(middle - below < n - middle && lower(below)? >= upper(middle - below)?)
        };
        let (mut low, mut high, mut step) = (0, middle, 1);
        let (mut at, mut first) = (self.n_lower.min(middle.saturating_sub(1)), None);
        // It can't have moved far since the last look: strides grow from there, and are halved once it is passed.
        while low < high {
            let enough = is_enough(at)?;
            if enough {
                high = at
            } else {
                low = at + 1
            }
            if *first.get_or_insert(enough) != enough {
                at = usize::midpoint(low, high);
            } else if enough {
                at = high.saturating_sub(step).max(low);
            } else {
                at = (low + step).min(high.saturating_sub(1));
            }
            step *= 2;
        }
        let last_above = upper(middle - low)?;
        let last_below = if low > 0 { lower(low - 1)? } else { 0.0 };
        Some((low, median, last_above.max(last_below)))
    }

    /// Sorts all values, and keeps in order what lies around the median and at the deviation from it.
    fn sort(&mut self) {
        let n = self.len();
        self.near.clear();
        self.near.extend(self.ring.values());
        self.near.sort_unstable_by(f32::total_cmp);
        self.n_sorted = n;
        self.keep(&[(f32::NEG_INFINITY, f32::INFINITY)]);
        let Some((n_lower, ..)) = (n > ALL).then(|| self.find()).flatten() else { return };
        self.n_lower = n_lower;
        let (middle, span) = (n / 2, (SPAN * n as f64) as usize);
        let around = |rank: usize| (self.near[rank.saturating_sub(span)], self.near[(rank + span).min(n - 1)]);
        let [mut low, mut median, mut high] = [middle - n_lower, middle, 2 * middle - n_lower].map(around);
        // Ranges that touch become one.
        if median.0 <= low.1 {
            median.0 = low.0;
            low = NOWHERE;
        }
        if high.0 <= median.1 {
            high.0 = median.0;
            median = NOWHERE;
        }
        let mut ranges = [low, median, high];
        ranges.sort_unstable_by(|a, b| a.0.total_cmp(&b.0));
        self.keep(&ranges);
    }

    /// Keeps of the values, all of which are in order, what lies within the ranges.
    fn keep(&mut self, ranges: &[(f32, f32)]) {
        let mut n_kept = 0;
        for i in 0..N_RANGES {
            let (low, high) = ranges.get(i).copied().unwrap_or(NOWHERE);
            // What was kept so far lies before what is looked at: it is moved to the front only then.
            let from = self.near.partition_point(|value| *value < low);
            let to = self.near.partition_point(|value| *value <= high).max(from);
            (self.lows[i], self.highs[i], self.n_below[i], self.n_within[i]) = (low, high, from, to - from);
        }
        for i in 0..N_RANGES {
            let (from, n) = (self.n_below[i], self.n_within[i]);
            self.near.copy_within(from..from + n, n_kept);
            n_kept += n;
        }
        self.near.truncate(n_kept);
    }
}

/// No value lies there.
const NOWHERE: (f32, f32) = (f32::INFINITY, f32::INFINITY);

#[cfg(test)]
mod tests {
    use rand::{Rng, SeedableRng};
    use rand_chacha::ChaCha8Rng;

    use super::*;
    use crate::threshold::median_and_mad;

    #[test]
    fn it_agrees_with_sorting_on_random_tied_drifting_jumping_and_constant_values() {
        let mut rng = ChaCha8Rng::seed_from_u64(1);
        for kind in 0..6 {
            for capacity in [1, 2, 50, 700, 2048] {
                let mut location = Location::new(capacity, std::iter::empty());
                let mut plain: Vec<f32> = Vec::new();
                for i in 0..4 * capacity + 5 {
                    let value = match kind {
                        0 => rng.random::<f32>(),
                        1 => rng.random_range(0..4) as f32,
                        2 => i as f32,
                        3 => rng.random::<f32>() + (i / 900) as f32 * 5.0,
                        4 => rng.random::<f32>().powi(9) + 1e-3 * i as f32,
                        _ => f32::from(i > 2 * capacity),
                    };
                    location.push(value);
                    plain.push(value);
                    if plain.len() > capacity {
                        plain.remove(0);
                    }
                    if i % 97 == 0 || i < 3 || i == 4 * capacity {
                        let mut values: Vec<f64> = plain.iter().map(|value| f64::from(*value)).collect();
                        let (median, mad) = location.median_and_mad();
                        assert_eq!((median, mad.max(1e-6)), median_and_mad(&mut values), "{kind} {capacity} {i}");
                    }
                }
            }
        }
    }

    #[test]
    fn few_values_are_kept_in_order_and_sorting_is_rare() {
        let mut rng = ChaCha8Rng::seed_from_u64(2);
        let mut normal = || (0..12).map(|_| rng.random::<f32>()).sum::<f32>();
        let mut location = Location::new(2048, std::iter::empty());
        let mut n_sorted = 0;
        for i in 0..200_000 {
            location.push(normal());
            if i % 32 == 0 {
                n_sorted += usize::from(location.find().is_none());
                location.median_and_mad();
            }
        }
        assert!(location.near.len() < 700 && n_sorted < 40, "{} in order, {n_sorted} sorted", location.near.len());
    }

    #[test]
    fn median_and_mad_of_hand_worked_cases() {
        let of = |values: &[f32]| Location::new(9, values.iter().copied()).median_and_mad();
        assert_eq!(of(&[1.0, 2.0, 3.0, 4.0, 100.0]), (3.0, 1.4826));
        assert_eq!(of(&[2.0; 5]), (2.0, 0.0));
        assert_eq!(of(&[]), (0.0, 1.0));
    }
}
