//! z-scores with a missing mask: mean and population standard deviation over the kept rows, clipped, frozen.
//!
//! MODEL 2.2: missing values become 0 *after* scaling with mask 0, so that no value is imputed. Sums are taken in f64;
//! a raw value up to ±`f32::MAX` always gives a finite input. Nothing here updates after the fit.

use ndarray::{ArrayView2, ArrayViewMut2, Axis};
use serde::{Deserialize, Serialize};

/// Largest magnitude of a standardised value. At ±8 the ranking lost .007 AUC; without a limit one value could
/// overflow the squared residual.
pub const CLIP: f64 = 50.0;

/// Below this share of `max(1, |mean|)` a standard deviation counts as none.
const CONSTANT: f64 = 1e-9;

/// How one feature is standardised.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Scaler {
    /// Mean of the observed values, raw units.
    pub mean: f64,
    /// Population standard deviation, raw units; 1 for a constant feature.
    pub std: f64,
    /// Whether the fitted rows held a single value: any later change is still scored.
    pub constant: bool,
    /// Number of observed values in the fit; 0 means the feature was never seen, mean 0 and std 1 are assumed.
    pub n_observed: u64,
}

/// What a transform met, to be added to counters.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Values that were missing (NaN or infinite).
    pub missing: u64,
    /// Values whose z-score was cut at ±50.
    pub clipped: u64,
}

/// One scaler for each feature.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Preprocessor {
    scalers: Vec<Scaler>,
}

impl Preprocessor {
    /// Fits on raw rows `[rows, n_features]`; NaN and ±inf are missing.
    pub fn fit(raw: ArrayView2<'_, f32>) -> Self {
        Self { scalers: raw.axis_iter(Axis(1)).map(|column| fit_column(column.iter().copied())).collect() }
    }

    /// Scales each feature by a scaler that was fitted before.
    pub fn from_scalers(scalers: Vec<Scaler>) -> Self {
        Self { scalers }
    }

    /// Number of raw values in a row.
    pub fn n_features(&self) -> usize {
        self.scalers.len()
    }

    /// Number of inputs of the autoencoder; as many as features while every feature is numeric.
    pub fn n_inputs(&self) -> usize {
        self.scalers.len()
    }

    /// The scalers in column order.
    pub fn scalers(&self) -> &[Scaler] {
        &self.scalers
    }

    /// Writes standardised rows to `out` and 1 (observed) or 0 (missing) to `mask`, both `[rows, n_inputs]`.
    ///
    /// Panics when the shapes don't agree.
    pub fn transform(
        &self,
        raw: ArrayView2<'_, f32>,
        mut out: ArrayViewMut2<'_, f32>,
        mut mask: ArrayViewMut2<'_, f32>,
    ) -> Counts {
        assert_eq!((raw.nrows(), self.n_inputs()), out.dim(), "standardised rows must be [rows, n_inputs]");
        assert_eq!(raw.dim(), mask.dim(), "mask must be [rows, n_inputs]");
        let mut counts = Counts::default();
        for ((raw, mut out), mut mask) in raw.rows().into_iter().zip(out.rows_mut()).zip(mask.rows_mut()) {
            for (((&raw, scaler), out), mask) in raw.iter().zip(&self.scalers).zip(&mut out).zip(&mut mask) {
                let z = scaler.z(raw);
                let observed = z.is_finite();
                let clipped = z.clamp(-CLIP, CLIP);
                *out = if observed { clipped as f32 } else { 0.0 };
                *mask = f32::from(u8::from(observed));
                counts.missing += u64::from(!observed);
                counts.clipped += u64::from(observed && z.abs() > CLIP);
            }
        }
        counts
    }

    /// The raw value that `z` of an input stands for, kept within the range of f32.
    pub fn inverse(&self, input: usize, z: f32) -> f32 {
        let scaler = self.scalers[input];
        (scaler.mean + f64::from(z) * scaler.std).clamp(f64::from(f32::MIN), f64::from(f32::MAX)) as f32
    }
}

impl Scaler {
    /// z-score of a raw value, not clipped; not finite exactly when the value is missing.
    fn z(&self, raw: f32) -> f64 {
        (f64::from(raw) - self.mean) / self.std
    }
}

/// Two passes in f64: the mean first, then the squares about it, so that a large offset costs no digits.
fn fit_column(column: impl Iterator<Item = f32> + Clone) -> Scaler {
    let observed = || column.clone().filter(|value| value.is_finite()).map(f64::from);
    let n_observed = observed().count() as u64;
    if n_observed == 0 {
        return Scaler { mean: 0.0, std: 1.0, constant: true, n_observed };
    }
    let n = n_observed as f64;
    let mean = observed().sum::<f64>() / n;
    let std = (observed().map(|value| (value - mean).powi(2)).sum::<f64>() / n).sqrt();
    let constant = std < CONSTANT * mean.abs().max(1.0);
    Scaler { mean, std: if constant { 1.0 } else { std }, constant, n_observed }
}

#[cfg(test)]
mod tests {
    use ndarray::{Array2, array};

    use super::*;

    fn transform(preprocessor: &Preprocessor, raw: &Array2<f32>) -> (Array2<f32>, Array2<f32>, Counts) {
        let (mut out, mut mask) = (Array2::zeros(raw.dim()), Array2::zeros(raw.dim()));
        let counts = preprocessor.transform(raw.view(), out.view_mut(), mask.view_mut());
        (out, mask, counts)
    }

    #[test]
    fn z_scores_use_the_population_deviation_of_observed_values() {
        let fitted = Preprocessor::fit(array![[1.0, f32::NAN], [3.0, 5.0], [f32::NAN, 7.0]].view());
        assert_eq!((fitted.scalers()[0].mean, fitted.scalers()[0].std), (2.0, 1.0));
        let (out, mask, counts) = transform(&fitted, &array![[4.0, f32::INFINITY], [2.0, 6.0]]);
        assert_eq!(out, array![[2.0, 0.0], [0.0, 0.0]]);
        assert_eq!(mask, array![[1.0, 0.0], [1.0, 1.0]]);
        assert_eq!(counts, Counts { missing: 1, clipped: 0 });
        assert_eq!(fitted.inverse(0, 2.0), 4.0);
    }

    #[test]
    fn the_largest_floats_give_finite_inputs() {
        let fitted = Preprocessor::fit(array![[f32::MAX, 1.0], [f32::MIN, 1.0]].view());
        let (out, _, counts) = transform(&fitted, &array![[f32::MAX, f32::MAX], [f32::MIN, f32::MIN]]);
        assert!(out.iter().all(|z| z.is_finite()));
        assert_eq!(counts, Counts { missing: 0, clipped: 2 });
        assert_eq!(out[[0, 1]], 50.0);
        assert!(fitted.inverse(0, 50.0).is_finite());
    }

    #[test]
    fn constant_and_unseen_features_are_scaled_by_one() {
        let fitted = Preprocessor::fit(array![[1e6, f32::NAN], [1e6, f32::NAN]].view());
        assert!(fitted.scalers()[0].constant && fitted.scalers()[1].constant);
        assert_eq!(fitted.scalers()[1].n_observed, 0);
        let (out, mask, _) = transform(&fitted, &array![[1e6 + 3.0, 2.0]]);
        assert_eq!((out, mask), (array![[3.0, 2.0]], array![[1.0, 1.0]]));
    }
}
