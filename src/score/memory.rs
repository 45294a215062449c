//! A memory of accepted rows, and how far a row is from the nearest of them.
//!
//! The distance is Euclidean over weighted, observed, standardised inputs, and its mean over the nearest few: k-nearest
//! neighbours (Ramaswamy, Rastogi & Shim 2000) on a window. It sees rows in a gap between modes, which a reconstruction
//! passes. One product finds the neighbours of a batch, and their distances are then taken exactly, since a difference of
//! large squares is not. It never learns: a new model brings a new memory.

use ndarray::linalg::general_mat_mul;
use ndarray::{Array2, ArrayView1, ArrayView2, Axis, s};

/// Rows near a row that are averaged. One is noise, and a stored row would be its own.
const NEIGHBOURS: usize = 5;

/// The rows that are remembered.
#[derive(Clone, Debug, PartialEq)]
pub struct Memory {
    /// Standardised rows, `[n, n_inputs]`; missing values are 0.
    rows: Array2<f32>,
    /// −2·c·row, `[n, n_inputs]`.
    doubled: Array2<f32>,
    /// c·row², `[n, n_inputs]`.
    squared: Array2<f32>,
    /// Σ c·row², `[n]`.
    norms: Vec<f32>,
}

/// The reused buffer of a batch.
#[derive(Clone, Debug, Default)]
pub struct Near {
    /// Squared distances less what all of a row have in common, `[rows, n]`.
    relative: Array2<f32>,
}

impl Memory {
    /// Remembers standardised `rows` `[n, n_inputs]`, at least one, under the inputs' `weights` `[n_inputs]`.
    pub fn new(rows: Array2<f32>, weights: &[f32]) -> Self {
        assert!(!rows.is_empty(), "a memory has at least one row");
        let weights = ArrayView1::from(weights);
        let doubled = &rows * &weights * -2.0;
        let squared = &rows * &rows * weights;
        let norms = squared.sum_axis(Axis(1)).to_vec();
        Self { rows, doubled, squared, norms }
    }

    /// The remembered rows, `[n, n_inputs]`.
    pub fn rows(&self) -> ArrayView2<'_, f32> {
        self.rows.view()
    }

    /// Appends the mean distance of each row of `x` to its nearest; `x` and `mask` (1 observed) are `[rows, n_inputs]`,
    /// `weights` `[n_inputs]`. What is missing is taken to be as far off as the rest.
    pub fn distances(
        &self,
        x: ArrayView2<'_, f32>,
        mask: ArrayView2<'_, f32>,
        weights: &[f32],
        near: &mut Near,
        out: &mut Vec<f64>,
    ) {
        let (n_rows, n) = (x.nrows(), self.rows.nrows());
        if near.relative.nrows() < n_rows || near.relative.ncols() != n {
            near.relative = Array2::zeros((n_rows, n));
        }
        let mut relative = near.relative.slice_mut(s![..n_rows, ..]);
        if mask.iter().all(|m| *m > 0.0) {
            relative.assign(&ArrayView1::from(&self.norms).broadcast((n_rows, n)).expect("norms are [n]"));
        } else {
            general_mat_mul(1.0, &mask, &self.squared.t(), 0.0, &mut relative);
        }
        general_mat_mul(1.0, &x, &self.doubled.t(), 1.0, &mut relative);
        for ((relative, x), mask) in relative.rows().into_iter().zip(x.rows()).zip(mask.rows()) {
            let (nearest, n_near) = smallest(relative.to_slice().expect("the buffer is in standard layout"));
            let mean = nearest[..n_near].iter().map(|&i| self.distance(i, x, mask, weights)).sum::<f64>();
            out.push(mean / n_near as f64);
        }
    }

    /// Adds to `parts` `[n_inputs]` the share of each input in the squared distance of one row to its nearest, times
    /// `scale`.
    pub fn attribute(
        &self,
        x: ArrayView1<'_, f32>,
        mask: ArrayView1<'_, f32>,
        weights: &[f32],
        scale: f64,
        parts: &mut [f64],
    ) {
        let all: Vec<f32> = (0..self.rows.nrows()).map(|i| self.distance(i, x, mask, weights) as f32).collect();
        let (nearest, n_near) = smallest(&all);
        let square = |i: usize, j: usize| f64::from(weights[j] * ((x[j] - self.rows[[i, j]]) * mask[j]).powi(2));
        let of: Vec<f64> = (0..x.len()).map(|j| nearest[..n_near].iter().map(|&i| square(i, j)).sum::<f64>()).collect();
        super::add_shares(&of, scale, parts);
    }

    fn distance(&self, i: usize, x: ArrayView1<'_, f32>, mask: ArrayView1<'_, f32>, weights: &[f32]) -> f64 {
        let (mut square, mut observed, mut total) = (0.0_f32, 0.0_f32, 0.0_f32);
        for (((x, y), m), c) in x.iter().zip(self.rows.row(i)).zip(mask).zip(weights) {
            let difference = (x - y) * m;
            square += c * difference * difference;
            observed += c * m;
            total += c;
        }
        (f64::from(square) * f64::from(total) / f64::from(observed).max(f64::MIN_POSITIVE)).sqrt()
    }
}

/// The places of the smallest few of `values`, and how many there are; ties go to the lower place.
fn smallest(values: &[f32]) -> ([usize; NEIGHBOURS], usize) {
    let mut places = [0; NEIGHBOURS];
    let mut held = [f32::INFINITY; NEIGHBOURS];
    let mut n = 0;
    for (place, &value) in values.iter().enumerate() {
        if value < held[NEIGHBOURS - 1] || (n < NEIGHBOURS && !value.is_nan()) {
            let mut at = n.min(NEIGHBOURS - 1);
            while at > 0 && held[at - 1] > value {
                (held[at], places[at]) = (held[at - 1], places[at - 1]);
                at -= 1;
            }
            (held[at], places[at]) = (value, place);
            n = (n + 1).min(NEIGHBOURS);
        }
    }
    (places, n.max(1))
}

#[cfg(test)]
mod tests {
    use ndarray::array;

    use super::*;

    fn line() -> Memory {
        Memory::new(Array2::from_shape_fn((20, 2), |(i, j)| if j == 0 { i as f32 } else { 0.0 }), &[1.0, 4.0])
    }

    fn distances(x: &Array2<f32>, mask: &Array2<f32>) -> Vec<f64> {
        let mut out = Vec::new();
        line().distances(x.view(), mask.view(), &[1.0, 4.0], &mut Near::default(), &mut out);
        out
    }

    #[test]
    fn a_hand_worked_distance() {
        let found = distances(&array![[10.0, 0.0], [0.0, 3.0]], &Array2::ones((2, 2)));
        assert!((found[0] - (0.0 + 1.0 + 1.0 + 2.0 + 2.0) / 5.0).abs() < 1e-6, "{found:?}");
        let second: f64 = (0..5).map(|i| f64::from(i * i + 4 * 9).sqrt()).sum();
        assert!((found[1] - second / 5.0).abs() < 1e-5, "{found:?}");
    }

    #[test]
    fn a_missing_value_is_as_far_off_as_the_rest() {
        let found = distances(&array![[30.0, 0.0], [30.0, 0.0]], &array![[1.0, 0.0], [1.0, 1.0]]);
        let seen: f64 = (11..16).map(f64::from).sum::<f64>() / 5.0;
        assert!((found[1] - seen).abs() < 1e-4, "{found:?}");
        assert!((found[0] - seen * 5.0_f64.sqrt()).abs() < 1e-4, "one of five parts of the weight is seen: {found:?}");
    }

    #[test]
    fn few_rows_are_all_neighbours_and_ties_keep_their_order() {
        assert_eq!(smallest(&[3.0, 1.0, 2.0]), ([1, 2, 0, 0, 0], 3));
        assert_eq!(smallest(&[1.0; 9]).0, [0, 1, 2, 3, 4]);
        assert_eq!(smallest(&[9.0, 8.0, 7.0, 6.0, 5.0, 4.0, 0.0]).0, [6, 5, 4, 3, 2]);
    }
}
