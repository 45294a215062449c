//! How far out each value of a row is in the empirical distribution of its input over the remembered rows.
//!
//! After ECOD (Li et al. 2022): the sum over inputs of −ln of the smaller tail. It sees a value that no row had, however
//! well the autoencoder follows it, and the reason is the feature itself. Dependence between inputs is the
//! autoencoder's and the memory's business.

use ndarray::{ArrayView1, ArrayView2};

/// The values of the remembered rows, input by input.
#[derive(Clone, Debug, PartialEq)]
pub struct Tails {
    /// Ascending values of each input, `[n_inputs][n]`, one after the other.
    sorted: Vec<f32>,
    /// −ln((k + ½)/(n + 1)) for k rows at least as far out, `[n + 1]`, none below 0.
    surprise: Vec<f32>,
}

impl Tails {
    /// Takes the distribution of standardised `rows` `[n, n_inputs]`.
    pub fn new(rows: ArrayView2<'_, f32>) -> Self {
        let n = rows.nrows();
        let mut sorted = Vec::with_capacity(rows.len());
        for column in rows.columns() {
            let from = sorted.len();
            sorted.extend(column);
            sorted[from..].sort_by(f32::total_cmp);
        }
        let surprise = (0..=n).map(|k| (-((k as f32 + 0.5) / (n as f32 + 1.0)).ln()).max(0.0)).collect();
        Self { sorted, surprise }
    }

    /// Surprise at one value of input `j`.
    fn of(&self, j: usize, value: f32) -> f32 {
        let n = self.surprise.len() - 1;
        let column = &self.sorted[j * n..(j + 1) * n];
        let at_most = column.partition_point(|v| *v <= value);
        let below = column.partition_point(|v| *v < value);
        self.surprise[at_most.min(n - below)]
    }

    /// Appends the weighted sum of surprises of each row; `x` and `mask` (1 observed) are `[rows, n_inputs]`, `weights`
    /// `[n_inputs]`. What is missing is taken to be as surprising as the rest.
    pub fn surprises(&self, x: ArrayView2<'_, f32>, mask: ArrayView2<'_, f32>, weights: &[f32], out: &mut Vec<f64>) {
        for (x, mask) in x.rows().into_iter().zip(mask.rows()) {
            let (mut sum, mut observed, mut total) = (0.0, 0.0, 0.0);
            for (j, ((x, m), c)) in x.iter().zip(mask).zip(weights).enumerate() {
                total += c;
                if *m > 0.0 {
                    sum += c * self.of(j, *x);
                    observed += c;
                }
            }
            out.push(f64::from(sum) * f64::from(total) / f64::from(observed).max(f64::MIN_POSITIVE));
        }
    }

    /// Adds to `parts` `[n_inputs]` the share of each input in one row's surprise, times `scale`.
    pub fn attribute(
        &self,
        x: ArrayView1<'_, f32>,
        mask: ArrayView1<'_, f32>,
        weights: &[f32],
        scale: f64,
        parts: &mut [f64],
    ) {
        let of: Vec<f64> = (0..x.len()).map(|j| f64::from(weights[j] * mask[j] * self.of(j, x[j]))).collect();
        super::add_shares(&of, scale, parts);
    }
}

#[cfg(test)]
mod tests {
    use ndarray::{Array2, array};

    use super::*;

    #[test]
    fn surprise_is_the_smaller_tail() {
        let tails = Tails::new(Array2::from_shape_fn((9, 1), |(i, _)| i as f32).view());
        let at = |value: f32| f64::from(tails.of(0, value));
        assert!((at(-5.0) - 20_f64.ln()).abs() < 1e-6, "beyond every row: ½ of 10");
        assert!((at(8.0) - (10.0 / 1.5_f64).ln()).abs() < 1e-6, "one row is at least as far out");
        assert!((at(4.0) - (10.0 / 5.5_f64).ln()).abs() < 1e-6, "the middle");
        assert_eq!(at(-5.0), at(500.0));
    }

    #[test]
    fn missing_values_say_nothing_and_a_constant_input_never_surprises() {
        let tails = Tails::new(array![[0.0, 7.0], [1.0, 7.0], [2.0, 7.0]].view());
        let mut out = Vec::new();
        let mask = array![[1.0, 1.0], [0.0, 1.0]];
        tails.surprises(array![[9.0, 7.0], [9.0, 7.0]].view(), mask.view(), &[1.0, 1.0], &mut out);
        assert!((out[0] - 8_f64.ln() - f64::from(tails.of(1, 7.0))).abs() < 1e-6);
        assert!(out[1] < 0.5, "{out:?}");
    }
}
