//! A quantile: a record is anomalous when its p-value is at most q, under the model's calibration or the latest scores.
//!
//! The first never learns from what it judges; a drift moves its alert rate until the next model. The second learns
//! everything: it follows a drift, and a burst of anomalies raises it over itself (MODEL 4.1, "all included").

use super::peaks::Peaks;
use super::scores::Scores;
use super::tail::Tail;
use super::{Threshold, Verdict, Z_MAX};

/// Scores between two fits of the tail of the latest ones.
const FIT_EVERY: u32 = 64;

/// A fixed quantile of the calibrated tail.
#[derive(Clone, Debug)]
pub struct Quantile {
    tail: Tail,
    z_at_alert: f64,
}

impl Quantile {
    /// Alerts where the p-value under `tail` is at most `q`.
    pub fn new(q: f64, tail: Tail) -> Self {
        Self { z_at_alert: tail.z_at(q), tail }
    }
}

impl Threshold for Quantile {
    fn judge(&mut self, z: f64) -> Verdict {
        Verdict::of(self.tail.p_value(z), z, self.z_at_alert)
    }

    fn z_at_alert(&self) -> f64 {
        self.z_at_alert
    }

    fn z_at(&self, p: f64) -> f64 {
        self.tail.z_at(p)
    }
}

/// A quantile of the latest scores.
#[derive(Clone, Debug)]
pub struct SlidingQuantile {
    q: f64,
    window: Scores,
    peaks: Peaks,
    z_at_alert: f64,
    n_until_fit: u32,
}

impl SlidingQuantile {
    /// Alerts where the p-value under the latest `n` scores is at most `q`; those of `tail` are the first.
    pub fn new(q: f64, n: usize, tail: &Tail) -> Self {
        let window = Peaks::window(n, q, tail.sorted().iter().map(|z| z.clamp(-Z_MAX, Z_MAX) as f32));
        let mut rule = Self { q, window, peaks: Peaks::new(), z_at_alert: 0.0, n_until_fit: FIT_EVERY };
        rule.fit();
        rule
    }

    fn fit(&mut self) {
        self.peaks.fit(&mut self.window, self.q, 0.0);
        self.z_at_alert = self.peaks.z_at(&self.window, self.q);
        self.n_until_fit = FIT_EVERY;
    }
}

impl Threshold for SlidingQuantile {
    fn judge(&mut self, z: f64) -> Verdict {
        if z.is_nan() {
            return Verdict::of(1.0, z, self.z_at_alert);
        }
        let verdict = Verdict {
            calibrating: (self.window.len() as f64) < 2.0 / self.q,
            ..Verdict::of(self.peaks.p_value(&self.window, z), z, self.z_at_alert)
        };
        self.window.push(z.clamp(-Z_MAX, Z_MAX) as f32);
        self.n_until_fit -= 1;
        if self.n_until_fit == 0 {
            self.fit();
        }
        verdict
    }

    fn z_at_alert(&self) -> f64 {
        self.z_at_alert
    }

    fn z_at(&self, p: f64) -> f64 {
        self.peaks.z_at(&self.window, p)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn exponential(i: u32) -> f64 {
        -(1.0 - f64::from(i % 2000) / 2000.0).ln()
    }

    #[test]
    fn the_verdict_agrees_with_p_value_and_threshold() {
        let tail = Tail::fit((0..2000).map(exponential).collect());
        let mut rule = Quantile::new(1e-3, tail);
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

    #[test]
    fn the_sliding_one_follows_its_scores_and_survives_what_is_infinite() {
        let tail = Tail::fit((0..2000).map(exponential).collect());
        let mut rule = SlidingQuantile::new(1e-2, 2000, &tail);
        let before = rule.z_at_alert();
        assert!((before / 100_f64.ln() - 1.0).abs() < 0.15, "{before}");
        assert!(rule.judge(f64::INFINITY).anomalous && !rule.judge(f64::NAN).anomalous);
        for i in 0..4000 {
            rule.judge(5.0 + exponential(i * 773));
        }
        assert!((rule.z_at_alert() - 5.0 - before).abs() < 0.5, "{before} became {}", rule.z_at_alert());
    }
}
