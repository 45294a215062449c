//! The residual of a reconstruction as a score, and as reasons.
//!
//! MODEL 2.11: the score is the mean squared standardised residual over observed inputs. Works on plain slices and
//! views; it knows neither weights nor raw values, and never allocates for a score.

mod cards;
mod compression;
mod ecod;
mod explain;
mod fidelity;
pub mod ranking;

use ndarray::ArrayView2;

pub use cards::{Cards, LatentCard, residual_scales};
pub use compression::Compression;
pub use ecod::{Ecod, WINDOW as ECOD_WINDOW};
pub use explain::{Evidence, Explanation, FeatureReason, PatternReason, Role};
pub use fidelity::{Fidelity, Seen};

/// Least observed share of a row that can be scored.
pub const OBSERVED_MIN: f64 = 0.5;

/// Writes the mean squared residual of each row to `raw` (cleared first), NaN where under half of it is observed.
///
/// `x`, `recons` and `mask` (1 observed, 0 missing) are `[rows, n_inputs]` in standard layout.
pub fn mean_squared_residuals(
    x: ArrayView2<'_, f32>,
    recons: ArrayView2<'_, f32>,
    mask: ArrayView2<'_, f32>,
    raw: &mut Vec<f64>,
) {
    let contiguous = "buffers of a batch are in standard layout";
    raw.clear();
    for ((x, recons), mask) in x.rows().into_iter().zip(recons.rows()).zip(mask.rows()) {
        let row = (x.to_slice(), recons.to_slice(), mask.to_slice());
        let (sum, n_observed) =
            squared_residual(row.0.expect(contiguous), row.1.expect(contiguous), row.2.expect(contiguous));
        let enough = n_observed > 0.0 && f64::from(n_observed) >= OBSERVED_MIN * x.len() as f64;
        raw.push(if enough { f64::from(sum) / f64::from(n_observed) } else { f64::NAN });
    }
}

/// Sum of the squared observed residuals, and number of observed values, in eight independent sums that the compiler
/// can keep in one register.
fn squared_residual(x: &[f32], recons: &[f32], mask: &[f32]) -> (f32, f32) {
    const LANES: usize = 8;
    let (mut sums, mut counts) = ([0.0_f32; LANES], [0.0_f32; LANES]);
    let chunks = x.chunks_exact(LANES).zip(recons.chunks_exact(LANES)).zip(mask.chunks_exact(LANES));
    for ((x, recons), mask) in chunks {
        for lane in 0..LANES {
            let residual = (x[lane] - recons[lane]) * mask[lane];
            sums[lane] += residual * residual;
            counts[lane] += mask[lane];
        }
    }
    let done = x.len() - x.len() % LANES;
    for ((x, recons), mask) in x[done..].iter().zip(&recons[done..]).zip(&mask[done..]) {
        let residual = (x - recons) * mask;
        sums[0] += residual * residual;
        counts[0] += mask;
    }
    (sums.iter().sum(), counts.iter().sum())
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
        mean_squared_residuals(x.view(), recons.view(), mask.view(), &mut raw);
        assert_eq!(raw[0], 2.5);
        assert!(raw[1].is_nan(), "one of three observed is too little");
        assert_eq!(raw.len(), 2);
    }

    #[test]
    fn long_rows_are_summed_whole() {
        let x = Array2::from_shape_fn((1, 19), |(_, j)| j as f32);
        let mut raw = Vec::new();
        mean_squared_residuals(x.view(), Array2::zeros((1, 19)).view(), Array2::ones((1, 19)).view(), &mut raw);
        assert_eq!(raw, [(0..19).map(|j| f64::from(j * j)).sum::<f64>() / 19.0]);
    }
}
