//! Canaries for the model that scores: anomalies planted into copies of the newest held-out rows, of which a share is found.

use ndarray::{Array2, ArrayView2, Axis, concatenate};

use super::{corrupt, units};
use crate::train::Rows;
use crate::train::holdout::is_holdout;
use crate::train::learn::rng;
use crate::turn::give_way;

/// Newest held-out rows that anomalies are planted into.
const ROWS: usize = 512;
/// The stream of randomness of live canaries (MODEL 3.9).
const PURPOSE: u64 = 66;

/// Anomalies planted into the newest held-out ones of `rows`: half with values swapped between rows, half with values
/// shifted; `[n, n_features]`, none where no row is held out.
pub fn planted(rows: &Rows, seed: u64) -> Array2<f32> {
    let held: Vec<usize> = (0..rows.len()).rev().filter(|&i| is_holdout(rows.ids[i])).take(ROWS).collect();
    if held.is_empty() {
        return Array2::zeros((0, rows.values.ncols()));
    }
    let held = rows.values.select(Axis(0), &held);
    let (mut rng, n) = (rng(seed, PURPOSE), held.nrows().div_ceil(2));
    let swapped = corrupt::swapped(held.view(), n, &mut rng);
    let shifted = corrupt::shifted(held.view(), &scales(held.view()), n, &mut rng);
    concatenate(Axis(0), &[swapped.view(), shifted.view()]).expect("both are of the rows' features")
}

/// Robust scale of each feature of `rows` `[rows, n_features]`; 1 where it has none.
pub(super) fn scales(rows: ArrayView2<'_, f32>) -> Vec<f64> {
    rows.columns()
        .into_iter()
        .inspect(|_| give_way())
        .map(|column| column.iter().filter(|value| value.is_finite()).map(|value| f64::from(*value)).collect())
        .map(|values| units::robust_scale(values).unwrap_or(1.0))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::RecordId;

    #[test]
    fn canaries_are_the_same_for_a_seed_and_differ_from_their_rows() {
        let values = Array2::from_shape_fn((400, 4), |(i, j)| ((i * 7 + j * 3) % 50) as f32);
        let ids = (0..400).map(|offset| RecordId { partition: 0.into(), offset }).collect();
        let rows = Rows::new(values, ids);
        let planted = planted(&rows, 1);
        assert_eq!(planted, super::planted(&rows, 1));
        assert!(planted.nrows() >= 40 && planted.ncols() == 4, "{:?}", planted.dim());
        let known = |row: ndarray::ArrayView1<'_, f32>| rows.values.rows().into_iter().any(|other| other == row);
        let n_known = planted.rows().into_iter().filter(|row| known(*row)).count();
        assert!(n_known < planted.nrows() / 5, "{n_known} of {} are rows of the stream", planted.nrows());
        let none = Rows::new(Array2::zeros((0, 4)), Vec::new());
        assert_eq!(super::planted(&none, 1).nrows(), 0);
    }
}
