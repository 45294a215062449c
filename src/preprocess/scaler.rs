//! The z-score of one input: mean and population standard deviation over the kept rows, clipped, frozen.
//!
//! MODEL 2.2. Sums are taken in f64; a raw value up to ±`f32::MAX` always gives a finite input. An input that is 0 or 1
//! is scaled by its probability, which is kept away from 0 and 1: what was never seen is rare, not impossible.

use serde::{Deserialize, Serialize};

/// Largest magnitude of a standardised value. At ±8 the ranking lost .007 AUC; without a limit one value could
/// overflow the squared residual.
pub const CLIP: f64 = 50.0;

/// Below this share of `max(1, |mean|)` a standard deviation counts as none.
const CONSTANT: f64 = 1e-9;

/// How one input is standardised.
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

impl Scaler {
    /// z-score of a raw value, not clipped; not finite exactly when the value is missing.
    pub(super) fn z(&self, raw: f64) -> f64 {
        (raw - self.mean) / self.std
    }

    /// The raw value that `z` stands for.
    pub(super) fn inverse(&self, z: f32) -> f64 {
        self.mean + f64::from(z) * self.std
    }

    /// Fits on a column; what is not finite is missing.
    ///
    /// Two passes in f64: the mean first, then the squares about it, so that a large offset costs no digits.
    pub(super) fn fit(column: impl Iterator<Item = f64> + Clone) -> Self {
        let observed = || column.clone().filter(|value| value.is_finite());
        let n_observed = observed().count() as u64;
        if n_observed == 0 {
            return Self { mean: 0.0, std: 1.0, constant: true, n_observed };
        }
        let n = n_observed as f64;
        let mean = observed().sum::<f64>() / n;
        let std = (observed().map(|value| (value - mean).powi(2)).sum::<f64>() / n).sqrt();
        let constant = std < CONSTANT * mean.abs().max(1.0);
        Self { mean, std: if constant { 1.0 } else { std }, constant, n_observed }
    }

    /// The scaler of an input that was 1 `n_ones` times of `n_observed`, else 0: (v − p)/√(p(1−p)).
    ///
    /// p stays 1/(2n) away from 0 and 1 (MODEL 2.2).
    pub(super) fn of_probability(n_ones: u64, n_observed: u64) -> Self {
        let n = n_observed.max(1) as f64;
        let floor = 0.5 / n;
        let mean = (n_ones as f64 / n).clamp(floor, 1.0 - floor);
        let constant = n_ones == 0 || n_ones == n_observed;
        Self { mean, std: (mean * (1.0 - mean)).sqrt(), constant, n_observed }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_never_seen_is_rare_and_not_impossible() {
        let scaler = Scaler::of_probability(0, 50);
        assert_eq!((scaler.mean, scaler.constant), (0.01, true));
        assert!((scaler.z(1.0) - (0.99f64 / 0.01).sqrt()).abs() < 1e-12);
        let even = Scaler::of_probability(1, 2);
        assert_eq!((even.z(1.0), even.z(0.0)), (1.0, -1.0));
        assert_eq!(Scaler::of_probability(0, 0).std, 0.5);
    }
}
