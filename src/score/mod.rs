//! The residual of a reconstruction as a score, and as reasons.
//!
//! MODEL 2.11: the score is the weighted mean squared standardised residual over observed inputs. Works on plain slices and
//! views; it knows neither weights nor raw values, and never allocates for a score.

mod bounds;
mod cards;
mod compression;
mod ecod;
mod explain;
mod fidelity;
mod matching;
mod members;
mod memory;
pub mod ranking;
mod tails;

use ndarray::ArrayView2;

pub use cards::{Cards, FIRES, HeldOut, LatentCard, residual_scales};
pub use compression::Compression;
pub use ecod::{Ecod, WINDOW as ECOD_WINDOW};
pub use explain::{Evidence, Explanation, FeatureReason, PatternReason, Role};
pub use fidelity::{Fidelity, Seen};
pub use matching::match_rows;
pub use members::{MemberScores, Members, MembersConfig, Unit, Units};

use crate::wide::wide;

/// Least observed share of a row that can be scored.
pub const OBSERVED_MIN: f64 = 0.5;

/// Writes the weighted mean squared residual of each row to `raw` (cleared first), NaN where under half of its weight is
/// observed.
///
/// `x`, `recons` and `mask` (1 observed, 0 missing) are `[rows, n_inputs]` in standard layout, `weights` `[n_inputs]`.
pub fn mean_squared_residuals(
    x: ArrayView2<'_, f32>,
    recons: ArrayView2<'_, f32>,
    mask: ArrayView2<'_, f32>,
    weights: &[f32],
    raw: &mut Vec<f64>,
) {
    let contiguous = "buffers of a batch are in standard layout";
    let [x, recons, mask] = [x, recons, mask].map(|view| view.to_slice().expect(contiguous));
    raw.clear();
    let (width, least) = (weights.len(), least_observed(weights));
    let rows = x.chunks_exact(width).zip(recons.chunks_exact(width)).zip(mask.chunks_exact(width));
    wide(
        #[inline(always)]
        || {
            for ((x, recons), mask) in rows {
                let (sum, observed) = squared_residual(x, recons, mask, weights);
                let enough = observed > 0.0 && f64::from(observed) >= least;
                raw.push(if enough { f64::from(sum) / f64::from(observed) } else { f64::NAN });
            }
        },
    );
}

/// Least observed weight of a row that can be scored; a row that has half but for rounding has half.
pub fn least_observed(weights: &[f32]) -> f64 {
    const ROUNDING: f64 = 1e-6;
    (OBSERVED_MIN - ROUNDING) * weights.iter().copied().map(f64::from).sum::<f64>()
}

/// Adds to `parts` the shares of `of` in its sum, times `scale`; adds nothing where all are 0.
fn add_shares(of: &[f64], scale: f64, parts: &mut [f64]) {
    let total: f64 = of.iter().sum();
    if total > 0.0 {
        parts.iter_mut().zip(of).for_each(|(part, of)| *part += scale * of / total);
    }
}

/// Weighted sum of the squared observed residuals, and observed weight, in eight independent sums that the compiler can
/// keep in one register.
#[inline(always)]
fn squared_residual(x: &[f32], recons: &[f32], mask: &[f32], weights: &[f32]) -> (f32, f32) {
    const LANES: usize = 8;
    let (mut sums, mut observed) = ([0.0_f32; LANES], [0.0_f32; LANES]);
    let rows = x.chunks_exact(LANES).zip(recons.chunks_exact(LANES));
    for ((x, recons), (mask, weights)) in rows.zip(mask.chunks_exact(LANES).zip(weights.chunks_exact(LANES))) {
        for lane in 0..LANES {
            let residual = (x[lane] - recons[lane]) * mask[lane];
            sums[lane] += residual * residual * weights[lane];
            observed[lane] += mask[lane] * weights[lane];
        }
    }
    for j in x.len() - x.len() % LANES..x.len() {
        let residual = (x[j] - recons[j]) * mask[j];
        sums[0] += residual * residual * weights[j];
        observed[0] += mask[j] * weights[j];
    }
    let (mut sum, mut total) = (0.0, 0.0);
    for lane in 0..LANES {
        sum += sums[lane];
        total += observed[lane];
    }
    (sum, total)
}

#[cfg(test)]
mod tests {
    use ndarray::{Array2, array};

    use super::*;

    #[test]
    fn missing_values_neither_add_nor_dilute() {
        let (x, recons) = (array![[1.0, 2.0, 7.0], [1.0, 2.0, 7.0]], array![[0.0, 0.0, 0.0], [0.0, 0.0, 0.0]]);
        let mut raw = vec![9.0];
        let mask = array![[1.0, 1.0, 0.0], [0.0, 1.0, 0.0]];
        mean_squared_residuals(x.view(), recons.view(), mask.view(), &[1.0; 3], &mut raw);
        assert_eq!(raw[0], 2.5);
        assert!(raw[1].is_nan(), "one of three observed is too little");
        assert_eq!(raw.len(), 2);
    }

    #[test]
    fn long_rows_are_summed_whole() {
        let x = Array2::from_shape_fn((1, 19), |(_, j)| j as f32);
        let mut raw = Vec::new();
        let (zeros, ones) = (Array2::zeros((1, 19)), Array2::ones((1, 19)));
        mean_squared_residuals(x.view(), zeros.view(), ones.view(), &[1.0; 19], &mut raw);
        assert_eq!(raw, [(0..19).map(|j| f64::from(j * j)).sum::<f64>() / 19.0]);
    }

    #[test]
    fn inputs_that_share_a_weight_count_as_one() {
        let third = 1.0 / 3.0;
        let weights = [1.0, third, third, third];
        let (x, recons) = (Array2::from_shape_fn((3, 4), |(_, j)| [2.0, 3.0, 0.0, 0.0][j]), Array2::zeros((3, 4)));
        let mask = array![[1.0, 1.0, 1.0, 1.0], [1.0, 0.0, 0.0, 0.0], [0.0, 1.0, 1.0, 0.0]];
        let mut raw = Vec::new();
        mean_squared_residuals(x.view(), recons.view(), mask.view(), &weights, &mut raw);
        assert!((raw[0] - 3.5).abs() < 1e-6, "{raw:?}");
        assert_eq!(raw[1], 4.0, "one feature of two is half");
        assert!(raw[2].is_nan(), "two thirds of one of two features are too little");
    }
}
