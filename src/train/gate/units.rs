//! Residuals of two models in the same units, and the robust scales those units are.
//!
//! MODEL 3.5: each model standardises by a scaler of its own, so a challenger with a larger scale would win by that
//! alone. Residuals go back to raw units and are divided by one robust scale of the held-out rows, input by input.

use ndarray::{ArrayView1, ArrayView2};

use crate::model::Model;
use crate::threshold::median_and_mad;
use crate::train::calibrate::Standardised;
use crate::turn::give_way;

/// Largest residual that counts, in robust scales: one value out of all bounds must not decide.
const CAP: f64 = 8.0;

/// One scale an input, in raw units, `[n_inputs]`.
pub(super) struct CommonUnits {
    scales: Vec<f64>,
}

impl CommonUnits {
    /// The scales of the inputs on held-out raw rows `[rows, n_features]`, as `model` encodes them.
    pub(super) fn of(model: &Model, holdout: ArrayView2<'_, f32>) -> Self {
        let Standardised { x, mask } = Standardised::new(&model.preprocessor, holdout);
        let scale = |(j, scaler): (usize, &crate::preprocess::Scaler)| {
            give_way();
            let observed = x.column(j).into_iter().zip(mask.column(j)).filter(|(_, m)| **m > 0.0);
            robust_scale(observed.map(|(x, _)| f64::from(*x)).collect()).unwrap_or(1.0) * scaler.std
        };
        Self { scales: model.preprocessor.scalers().iter().enumerate().map(scale).collect() }
    }

    /// The mean squared deviation of `rows` from their means under `model`, capped and in these units like a residual: what
    /// there is to explain.
    pub(super) fn variance(&self, model: &Model, rows: ArrayView2<'_, f32>) -> f64 {
        let Standardised { x, mask } = Standardised::new(&model.preprocessor, rows);
        let (mut sum, mut total) = (0.0, 0.0);
        let scalers = model.preprocessor.scalers().iter().zip(&self.scales).zip(model.preprocessor.column_weights());
        for (j, ((scaler, scale), weight)) in scalers.enumerate() {
            let observed = || x.column(j).into_iter().zip(mask.column(j)).filter(|(_, m)| **m > 0.0);
            let n = observed().count() as f64;
            let mean = observed().map(|(x, _)| f64::from(*x)).sum::<f64>() / n.max(1.0);
            let square = |x: f32| ((f64::from(x) - mean) * scaler.std / scale).clamp(-CAP, CAP).powi(2);
            sum += f64::from(*weight) * observed().map(|(x, _)| square(*x)).sum::<f64>();
            total += f64::from(*weight) * n;
        }
        if total > 0.0 { sum / total } else { 0.0 }
    }

    /// What turns residuals of `model` into these units.
    pub(super) fn of_model<'a>(&self, model: &'a Model) -> ModelUnits<'a> {
        let scalers = model.preprocessor.scalers().iter().zip(&self.scales);
        let units = scalers.map(|(scaler, scale)| scaler.std / scale).collect();
        let weights = model.preprocessor.column_weights();
        ModelUnits { weights, least: crate::score::least_observed(weights), units }
    }
}

/// Common units as one model's inputs have them.
pub(super) struct ModelUnits<'a> {
    weights: &'a [f32],
    /// Least weight that must be observed.
    least: f64,
    /// Common units in one of each input, `[n_inputs]`.
    units: Vec<f64>,
}

impl ModelUnits<'_> {
    /// The weighted mean of the capped squared residuals of each row, in these units; NaN where under half of a row is
    /// observed; all `[rows, n_inputs]`.
    pub(super) fn residuals<'a>(
        &'a self,
        x: ArrayView2<'a, f32>,
        recons: ArrayView2<'a, f32>,
        mask: ArrayView2<'a, f32>,
    ) -> impl Iterator<Item = f64> + 'a {
        let of =
            move |i: usize| row_residual([x.row(i), recons.row(i), mask.row(i)], self.weights, &self.units, self.least);
        (0..x.nrows()).map(of)
    }
}

fn row_residual([x, recons, mask]: [ArrayView1<'_, f32>; 3], weights: &[f32], units: &[f64], least: f64) -> f64 {
    let (mut sum, mut observed) = (0.0, 0.0);
    for (((x, recons), m), (weight, unit)) in x.iter().zip(&recons).zip(&mask).zip(weights.iter().zip(units)) {
        let weight = f64::from(*weight) * f64::from(*m);
        let residual = (f64::from(x - recons) * unit).clamp(-CAP, CAP);
        sum += weight * residual * residual;
        observed += weight;
    }
    if observed > 0.0 && observed >= least { sum / observed } else { f64::NAN }
}

/// 1.4826 times the median absolute deviation; where more than half are equal the standard deviation; nothing where all
/// are.
pub(super) fn robust_scale(mut values: Vec<f64>) -> Option<f64> {
    /// What counts as no spread at all: the deviation's own least value.
    const NONE: f64 = 1e-6;
    if values.is_empty() {
        return None;
    }
    let n = values.len() as f64;
    let mean = values.iter().sum::<f64>() / n;
    let std = (values.iter().map(|value| (value - mean).powi(2)).sum::<f64>() / n).sqrt();
    let (_, mad) = median_and_mad(&mut values);
    match () {
        () if mad > NONE => Some(mad),
        () if std > NONE => Some(std),
        () => None,
    }
}

#[cfg(test)]
mod tests {
    use ndarray::array;

    use super::*;

    #[test]
    fn a_residual_is_the_weighted_mean_of_capped_squares() {
        let (x, recons, mask) = (array![3.0f32, 1.0, 0.0], array![1.0f32, 1.5, 9.0], array![1.0f32, 1.0, 0.0]);
        // Residuals 2·0.5 = 1 and −0.5·40, capped at −8; the third is missing: (1·1 + 0.5·64) / 1.5.
        let weights = [1.0, 0.5, 1.0];
        let residual = row_residual([x.view(), recons.view(), mask.view()], &weights, &[0.5, 40.0, 1.0], 1.25);
        assert!((residual - 33.0 / 1.5).abs() < 1e-9, "{residual}");
        assert!(row_residual([x.view(), recons.view(), mask.view()], &weights, &[0.5, 40.0, 1.0], 1.6).is_nan());
    }

    #[test]
    fn the_scale_is_robust_where_it_can_be() {
        assert_eq!(robust_scale(vec![1.0, 2.0, 3.0, 4.0, 1000.0]), Some(1.4826));
        assert_eq!(robust_scale(vec![0.0, 0.0, 0.0, 2.0]).map(|scale| (scale * 1e4).round()), Some(8660.0));
        assert_eq!(robust_scale(vec![7.0; 5]), None);
        assert_eq!(robust_scale(Vec::new()), None);
    }
}
