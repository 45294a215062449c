//! How the features of the held-out rows were distributed, so that later rows can be compared with them.
//!
//! A feature is cut at the deciles of what was held out; how many rows fell into each bin is counted, since ties make
//! bins uneven. Values that are missing have a bin of their own. It is never used in scoring.

use ndarray::ArrayView2;
use serde::{Deserialize, Serialize};

use crate::turn::give_way;

/// Bins of a feature without ties: ten, so that a tenth of the rows falls into each (Siddiqi 2006 and practice since).
const N_BINS: usize = 10;

/// The features of the rows that a model was calibrated on.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Reference {
    /// Each feature, `[n_features]`.
    features: Vec<Bins>,
    /// Share of the inputs that were cut at ±50 standard deviations, 0 to 1.
    clipped_share: f64,
}

/// One feature's bins.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Bins {
    /// Last value of each bin but the highest, ascending.
    uppers: Vec<f32>,
    /// Rows in each bin, then those without a value, `[uppers + 2]`.
    counts: Vec<u32>,
}

impl Reference {
    /// Counts raw rows `[rows, n_features]`, of whose inputs `clipped_share` were cut.
    pub fn fit(raw: ArrayView2<'_, f32>, clipped_share: f64) -> Self {
        let features = raw.columns().into_iter().map(|column| {
            give_way();
            let mut bins = Bins { uppers: uppers(column.iter().copied()), counts: Vec::new() };
            bins.counts = vec![0; bins.uppers.len() + 2];
            for value in column {
                let bin = bins.of(*value);
                bins.counts[bin] += 1;
            }
            bins
        });
        Self { features: features.collect(), clipped_share }
    }

    /// Number of features.
    pub fn n_features(&self) -> usize {
        self.features.len()
    }

    /// The bin of a feature's value; the last is that of values that are missing (NaN or infinite).
    ///
    /// Panics when there is no such feature.
    pub fn bin(&self, feature: usize, value: f32) -> usize {
        self.features[feature].of(value)
    }

    /// Rows in each bin of a feature, `[n_bins]`.
    ///
    /// Panics when there is no such feature.
    pub fn counts(&self, feature: usize) -> &[u32] {
        &self.features[feature].counts
    }

    /// Share of the inputs that were cut at ±50 standard deviations, 0 to 1.
    pub fn clipped_share(&self) -> f64 {
        self.clipped_share
    }
}

impl Bins {
    fn of(&self, value: f32) -> usize {
        if !value.is_finite() {
            return self.uppers.len() + 1;
        }
        self.uppers.partition_point(|upper| *upper < value)
    }
}

/// The deciles of the finite values, each but once, and none that leaves nothing above it.
fn uppers(values: impl Iterator<Item = f32>) -> Vec<f32> {
    let mut sorted: Vec<f32> = values.filter(|value| value.is_finite()).collect();
    sorted.sort_by(f32::total_cmp);
    let Some(&last) = sorted.last() else { return Vec::new() };
    let mut uppers: Vec<f32> = (1..N_BINS).map(|i| sorted[(i * sorted.len() / N_BINS).max(1) - 1]).collect();
    uppers.dedup();
    uppers.retain(|upper| *upper < last);
    uppers
}

#[cfg(test)]
mod tests {
    use ndarray::{Array2, array};

    use super::*;

    #[test]
    fn a_tenth_falls_into_each_bin_and_what_is_beyond_into_the_outermost() {
        let reference = Reference::fit(Array2::from_shape_fn((100, 1), |(i, _)| i as f32).view(), 0.0);
        assert_eq!(reference.counts(0), [10, 10, 10, 10, 10, 10, 10, 10, 10, 10, 0]);
        let bins = [-5.0, 9.0, 9.5, 99.0, 1e9, f32::NAN].map(|value| reference.bin(0, value));
        assert_eq!(bins, [0, 0, 1, 9, 9, 10]);
    }

    #[test]
    fn ties_share_a_bin_and_a_feature_without_values_has_the_missing_one() {
        let raw = array![[0.0, f32::NAN], [0.0, f32::NAN], [0.0, f32::NAN], [1.0, f32::INFINITY]];
        let reference = Reference::fit(raw.view(), 0.25);
        assert_eq!(reference.counts(0), [3, 1, 0]);
        assert_eq!(reference.counts(1), [0, 4]);
        assert_eq!((reference.bin(1, 7.0), reference.bin(1, f32::NAN)), (0, 1));
        let written = serde_json::to_string(&reference).expect("plain numbers are JSON");
        assert_eq!(serde_json::from_str::<Reference>(&written).expect("what was written"), reference);
    }
}
