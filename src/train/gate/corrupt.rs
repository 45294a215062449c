//! Planted anomalies: ordinary rows whose values were taken from elsewhere, or shifted.
//!
//! MODEL 3.5, condition 3. A swap keeps each feature's distribution and breaks the relations between them; a shift
//! leaves the distribution. Values that are missing stay missing.

use ndarray::{Array2, ArrayView2};
use rand::Rng;
use rand::seq::index;

/// Share of a row's features that a swap replaces.
const SWAPPED: f64 = 0.3;
/// Share of a row's features that a shift moves, and by how many scales.
const SHIFTED: f64 = 0.1;
const SHIFT: std::ops::Range<f64> = 1.0..3.0;

/// Rows with 30 % of their features from another row each; `[n, n_features]`.
pub(super) fn swapped(rows: ArrayView2<'_, f32>, n: usize, rng: &mut impl Rng) -> Array2<f32> {
    corrupted(rows, n, SWAPPED, rng, |from, j, rng| {
        let other = rng.random_range(0..rows.nrows());
        let value = rows[[other, j]];
        if value.is_finite() { value } else { from }
    })
}

/// Rows with 10 % of their features, at least one, moved by 1 to 3 of the feature's `scales` up or down; `[n, n_features]`.
pub(super) fn shifted(rows: ArrayView2<'_, f32>, scales: &[f64], n: usize, rng: &mut impl Rng) -> Array2<f32> {
    corrupted(rows, n, SHIFTED, rng, |from, j, rng| {
        let by = rng.random_range(SHIFT) * scales[j];
        let by = if rng.random_bool(0.5) { by } else { -by };
        (f64::from(from) + by) as f32
    })
}

fn corrupted<R: Rng>(
    rows: ArrayView2<'_, f32>,
    n: usize,
    share: f64,
    rng: &mut R,
    mut replace: impl FnMut(f32, usize, &mut R) -> f32,
) -> Array2<f32> {
    let n_features = rows.ncols();
    let n_changed = ((n_features as f64 * share).round() as usize).clamp(1, n_features.max(1));
    let mut out = Array2::zeros((n, n_features));
    for (i, mut row) in out.rows_mut().into_iter().enumerate() {
        row.assign(&rows.row(i % rows.nrows()));
        for j in index::sample(rng, n_features, n_changed) {
            if row[j].is_finite() {
                row[j] = replace(row[j], j, rng);
            }
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use ndarray::array;
    use rand::SeedableRng;
    use rand_chacha::ChaCha8Rng;

    use super::*;

    #[test]
    fn a_swap_takes_values_of_the_same_feature_from_other_rows() {
        let rows = Array2::from_shape_fn((20, 10), |(i, j)| (100 * j + i) as f32);
        let out = swapped(rows.view(), 40, &mut ChaCha8Rng::seed_from_u64(1));
        for (i, row) in out.rows().into_iter().enumerate() {
            assert!(row.iter().enumerate().all(|(j, v)| (*v as usize) / 100 == j));
            assert!(row.iter().zip(rows.row(i % 20)).filter(|(a, b)| a != b).count() <= 3);
        }
        assert_ne!(out.slice(ndarray::s![..20, ..]), rows);
    }

    #[test]
    fn a_shift_moves_one_of_ten_features_by_one_to_three_scales_and_leaves_what_is_missing() {
        let mut rows = Array2::<f32>::zeros((50, 10));
        rows[[0, 0]] = f32::NAN;
        let scales = [2.0; 10];
        let out = shifted(rows.view(), &scales, 50, &mut ChaCha8Rng::seed_from_u64(1));
        assert!(out[[0, 0]].is_nan());
        for row in out.rows().into_iter().skip(1) {
            let moved: Vec<f32> = row.iter().copied().filter(|v| *v != 0.0).collect();
            assert_eq!(moved.len(), 1);
            assert!((2.0..=6.0).contains(&moved[0].abs()), "{moved:?}");
        }
        assert_eq!(shifted(array![[1.0f32]].view(), &[0.0], 1, &mut ChaCha8Rng::seed_from_u64(1)), array![[1.0]]);
    }
}
