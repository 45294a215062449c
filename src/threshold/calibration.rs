//! How a model's raw scores become standardised ones, and what their tail looks like.
//!
//! Fitted on held-out rows only: residuals of training rows are too small and would alert several times too often.

use super::tail::Tail;

/// Added to a raw score before the logarithm, so that a perfect reconstruction has one.
const FLOOR: f64 = 1e-12;

/// Location, scale and tail of the log score on held-out ordinary rows; frozen with its model.
#[derive(Clone, Debug, PartialEq)]
pub struct Calibration {
    /// Median of ln(raw + 1e-12).
    pub location: f64,
    /// 1.4826 times the median absolute deviation of the same, at least 1e-6.
    pub scale: f64,
    /// Distribution of z over the held-out rows.
    pub tail: Tail,
}

impl Calibration {
    /// Logarithm of a raw score, the scale on which scores are standardised.
    pub fn log(raw: f64) -> f64 {
        (raw + FLOOR).ln()
    }

    /// Standardised score of a raw one; NaN stays NaN.
    pub fn z(&self, raw: f64) -> f64 {
        (Self::log(raw) - self.location) / self.scale
    }

    /// The raw score that has the standardised score `z`: the threshold in the units of the record.
    ///
    /// Subtracts the floor that `z` adds. At least 1e-300, so that a ratio to it is finite, and itself finite even where
    /// no score would alert.
    pub fn raw(&self, z: f64) -> f64 {
        ((self.location + self.scale * z).exp() - FLOOR).clamp(1e-300, f64::MAX)
    }
}

/// Median and 1.4826 times the median absolute deviation of `values`; (0, 1) when there are none.
///
/// The deviation is at least 1e-6, so that equal values give a finite standard score.
pub fn median_and_mad(values: &mut [f64]) -> (f64, f64) {
    const SCALE_MIN: f64 = 1e-6;
    if values.is_empty() {
        return (0.0, 1.0);
    }
    let location = median(values);
    values.iter_mut().for_each(|value| *value = (*value - location).abs());
    (location, (1.4826 * median(values)).max(SCALE_MIN))
}

/// Upper median of `values`, which it reorders; panics when there are none.
fn median(values: &mut [f64]) -> f64 {
    let middle = values.len() / 2;
    *values.select_nth_unstable_by(middle, f64::total_cmp).1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn raw_undoes_z() {
        let calibration = Calibration { location: -3.0, scale: 0.7, tail: Tail::fit(vec![0.0]) };
        for raw in [1e-9, 0.04, 3.0, 2500.0] {
            let back = calibration.raw(calibration.z(raw));
            assert!((back / raw - 1.0).abs() < 1e-9, "{raw} came back as {back}");
        }
        assert!(calibration.z(f64::NAN).is_nan());
        assert!(calibration.z(0.0).is_finite());
        assert!(calibration.raw(f64::INFINITY).is_finite());
    }

    #[test]
    fn median_and_mad_of_a_hand_worked_case() {
        assert_eq!(median_and_mad(&mut [1.0, 2.0, 3.0, 4.0, 100.0]), (3.0, 1.4826));
        assert_eq!(median_and_mad(&mut [2.0; 5]), (2.0, 1e-6));
    }
}
