//! The fixed rule: a record is anomalous when its p-value under the model's calibration is at most q.
//!
//! It never learns from what it judges; a drift moves its alert rate until the next model. One state for all partitions.

use serde::{Deserialize, Serialize};

use super::tail::Tail;
use super::{Threshold, Verdict};

/// Settings of the fixed quantile.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct QuantileConfig {
    /// Share of ordinary records that may alert, q; default 1e-3. Smaller means fewer and surer alerts.
    pub target_alert_rate: f64,
}

impl Default for QuantileConfig {
    fn default() -> Self {
        Self { target_alert_rate: 1e-3 }
    }
}

/// A fixed quantile of the calibrated tail.
#[derive(Clone, Debug)]
pub struct Quantile {
    tail: Tail,
    z_at_alert: f64,
}

impl Quantile {
    /// Alerts where the p-value under `tail` is at most the configured target.
    pub fn new(config: &QuantileConfig, tail: Tail) -> Self {
        Self { z_at_alert: tail.z_at(config.target_alert_rate), tail }
    }
}

impl Threshold for Quantile {
    fn judge(&mut self, z: f64) -> Verdict {
        // The comparison is on z, so that score.ratio > 1 exactly when the record is anomalous; a NaN exceeds nothing.
        let (p_value, z_at_alert) = (self.tail.p_value(z), self.z_at_alert);
        Verdict { p_value, anomalous: z > z_at_alert, z_at_alert, calibrating: false, shifted: false }
    }

    fn z_at_alert(&self) -> f64 {
        self.z_at_alert
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_verdict_agrees_with_p_value_and_threshold() {
        let tail = Tail::fit((0..2000).map(|i| -(1.0 - f64::from(i) / 2000.0).ln()).collect());
        let mut rule = Quantile::new(&QuantileConfig::default(), tail);
        for i in 0..2000 {
            let z = f64::from(i) * 0.01;
            let verdict = rule.judge(z);
            assert_eq!(verdict.anomalous, z > rule.z_at_alert());
            assert!(!verdict.anomalous || verdict.p_value <= 1e-3 + 1e-9, "{z}: {verdict:?}");
        }
        assert!((rule.z_at_alert() / 1000_f64.ln() - 1.0).abs() < 0.15, "{}", rule.z_at_alert());
        let of_nan = rule.judge(f64::NAN);
        assert!(of_nan.p_value == 1.0 && !of_nan.anomalous, "{of_nan:?}");
        assert!(rule.judge(f64::INFINITY).anomalous);
    }
}
