//! A baseline that reconstructs nothing: how far out each feature is, by counting.
//!
//! After ECOD (Li, Zhao, Hu, Botta, Ionescu and Chen, TKDE 2022, arXiv 2201.00382): −ln of the empirical tail
//! probability of each feature, summed over left tails, over right tails, and over the tail that each feature's skewness
//! points to; the score is the largest of the three. Unlike the paper's, it is online: the distribution is that of a
//! window of the newest rows, a row is scored before it is learnt, and nothing is kept out of the window. It can't see
//! that features don't fit each other; a detector that doesn't beat it isn't worth its weights.

use std::collections::VecDeque;

use super::OBSERVED_MIN;

/// Rows of the window unless said otherwise: as many as the longest warm-up of the streams that strayd is measured on.
pub const WINDOW: usize = 2048;

/// The newest rows, and the distribution of each feature in them.
#[derive(Clone, Debug)]
pub struct Ecod {
    window: VecDeque<Vec<f32>>,
    capacity: usize,
    features: Vec<Feature>,
}

/// The distribution of one feature.
#[derive(Clone, Debug, Default)]
struct Feature {
    /// Finite values of the window, ascending.
    sorted: Vec<f32>,
    /// Whether the longer tail is the left one.
    is_left_skewed: bool,
}

impl Ecod {
    /// Knows nothing yet of rows of `n_features`; keeps the newest `capacity` rows.
    ///
    /// Panics without room for a row.
    pub fn new(n_features: usize, capacity: usize) -> Self {
        assert!(capacity > 0, "a window holds at least one row");
        Self { window: VecDeque::new(), capacity, features: vec![Feature::default(); n_features] }
    }

    /// Takes rows `[rows, n_features]` into the window, the newest last; NaN is missing. The work is that of sorting the
    /// window, so batches are cheaper than single rows.
    pub fn learn<'a>(&mut self, rows: impl IntoIterator<Item = &'a [f32]>) {
        for row in rows {
            assert_eq!(row.len(), self.features.len(), "a row holds every feature");
            self.window.push_back(row.to_vec());
        }
        let n_old = self.window.len().saturating_sub(self.capacity);
        self.window.drain(..n_old);
        for (j, feature) in self.features.iter_mut().enumerate() {
            feature.sorted.clear();
            feature.sorted.extend(self.window.iter().map(|row| row[j]).filter(|value| value.is_finite()));
            feature.sorted.sort_unstable_by(f32::total_cmp);
            feature.is_left_skewed = third_moment(&feature.sorted) < 0.0;
        }
    }

    /// How far out a row `[n_features]` is, at least 0, as a mean over its observed features; NaN where under half of
    /// them are.
    pub fn score(&self, row: &[f32]) -> f64 {
        let (mut left, mut right, mut skewed, mut n_observed) = (0.0, 0.0, 0.0, 0.0);
        for (value, feature) in row.iter().zip(&self.features).filter(|(value, _)| value.is_finite()) {
            let (of_left, of_right) = feature.tails(*value);
            left += of_left;
            right += of_right;
            skewed += if feature.is_left_skewed { of_left } else { of_right };
            n_observed += 1.0;
        }
        let enough = n_observed > 0.0 && n_observed >= OBSERVED_MIN * row.len() as f64;
        if enough { left.max(right).max(skewed) / n_observed } else { f64::NAN }
    }
}

impl Feature {
    /// −ln of the share of values at most, and at least, `value`. The value itself counts, so that neither is infinite.
    fn tails(&self, value: f32) -> (f64, f64) {
        let n = self.sorted.len();
        let n_most = self.sorted.partition_point(|other| *other <= value);
        let n_least = n - self.sorted.partition_point(|other| *other < value);
        let tail = |n_beyond: usize| -((n_beyond + 1) as f64 / (n + 1) as f64).ln();
        (tail(n_most), tail(n_least))
    }
}

/// Sum of the cubed distances from the mean: its sign is the skewness'.
fn third_moment(values: &[f32]) -> f64 {
    let mean = values.iter().map(|value| f64::from(*value)).sum::<f64>() / values.len().max(1) as f64;
    values.iter().map(|value| (f64::from(*value) - mean).powi(3)).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(values: &[f32]) -> Ecod {
        let mut ecod = Ecod::new(1, 4);
        ecod.learn(values.iter().map(std::slice::from_ref));
        ecod
    }

    #[test]
    fn a_hand_worked_window() {
        // 1 2 3 10 leans to the right. Of 2.5: two of four below, two above; the value itself makes it 3/5 and 3/5.
        let ecod = of(&[1.0, 2.0, 3.0, 10.0]);
        assert!((ecod.score(&[2.5]) - (5.0_f64 / 3.0).ln()).abs() < 1e-12);
        // Beyond everything: 5/5 on one side, 1/5 on the other.
        assert!((ecod.score(&[11.0]) - 5.0_f64.ln()).abs() < 1e-12);
        assert!((ecod.score(&[0.0]) - 5.0_f64.ln()).abs() < 1e-12, "the left sum is looked at, too");
        assert!(!ecod.features[0].is_left_skewed && of(&[-10.0, 1.0, 2.0]).features[0].is_left_skewed);
    }

    #[test]
    fn the_window_forgets_and_follows() {
        let mut ecod = of(&[1.0, 2.0, 3.0, 4.0]);
        let before = ecod.score(&[100.0]);
        ecod.learn([99.0, 100.0, 101.0, 102.0].iter().map(std::slice::from_ref));
        assert_eq!(ecod.window.len(), 4);
        assert!(ecod.score(&[100.0]) < before);
        assert_eq!(ecod.features[0].sorted, [99.0, 100.0, 101.0, 102.0]);
    }

    #[test]
    fn missing_values_neither_add_nor_dilute() {
        let mut ecod = Ecod::new(2, 8);
        ecod.learn((0..8).map(|i| [i as f32, f32::NAN]).collect::<Vec<_>>().iter().map(|row| &row[..]));
        assert_eq!(ecod.score(&[9.0, f32::NAN]), of_one(9.0));
        assert!(ecod.score(&[f32::NAN, f32::NAN]).is_nan());
    }

    fn of_one(value: f32) -> f64 {
        let mut ecod = Ecod::new(1, 8);
        ecod.learn((0..8).map(|i| [i as f32]).collect::<Vec<_>>().iter().map(|row| &row[..]));
        ecod.score(&[value])
    }

    #[test]
    fn a_window_before_any_row_scores_nothing() {
        assert_eq!(Ecod::new(1, 8).score(&[3.0]), 0.0);
    }
}
