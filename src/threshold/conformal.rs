//! The rank of a score among the latest ones: (1 + those at least as high) / (n + 1) is a p-value whatever their
//! distribution, while they are exchangeable (Vovk, Gammerman & Shafer 2005).
//!
//! Everything is learnt, anomalies included, so a burst raises the threshold over itself (MODEL 4.1). Fewer than 1/q
//! scores give no p-value that is small enough to alert.

use super::tail::Tail;
use super::window::Window;
use super::{Threshold, Verdict};

/// A conformal rule on a sliding window.
#[derive(Clone, Debug)]
pub struct Conformal {
    q: f64,
    window: Window,
}

impl Conformal {
    /// Alerts where the rank among the latest `n` scores is at most `q`; those of `tail` are the first.
    pub fn new(q: f64, n: usize, tail: &Tail) -> Self {
        Self { q, window: Window::new(n, tail.sorted().iter().map(|z| *z as f32)) }
    }
}

impl Threshold for Conformal {
    fn judge(&mut self, z: f64) -> Verdict {
        let z_at_alert = self.z_at_alert();
        if z.is_nan() {
            return Verdict::of(1.0, z, z_at_alert);
        }
        let n = self.window.len();
        let p_value = (1 + n - self.window.n_below(z as f32)) as f64 / (n + 1) as f64;
        let verdict = Verdict { calibrating: (n as f64) < 2.0 / self.q, ..Verdict::of(p_value, z, z_at_alert) };
        self.window.push(z as f32);
        verdict
    }

    fn z_at_alert(&self) -> f64 {
        self.z_at(self.q)
    }

    /// Infinite where no score would have so small a p-value.
    fn z_at(&self, p: f64) -> f64 {
        let n = self.window.len();
        match (p * (n + 1) as f64) as usize {
            0 => f64::INFINITY,
            n_above => f64::from(self.window.nth(n.saturating_sub(n_above).min(n.saturating_sub(1)))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranks_of_a_hand_worked_case() {
        let tail = Tail::fit((1..=9).map(f64::from).collect());
        let mut rule = Conformal::new(0.2, 9, &tail);
        // Nine values: a tenth one may be the greatest or second greatest of ten.
        assert_eq!(rule.z_at_alert(), 8.0);
        let verdict = rule.judge(8.5);
        assert!(verdict.anomalous && verdict.calibrating && verdict.p_value == 0.2, "{verdict:?}");
        assert_eq!(rule.z_at(0.05), f64::INFINITY);
        assert!(!rule.judge(f64::NAN).anomalous);
    }

    #[test]
    fn it_never_alerts_while_it_knows_too_little() {
        let mut rule = Conformal::new(1e-2, 500, &Tail::fit(Vec::new()));
        let n_alerts = (0..98).filter(|i| rule.judge(f64::from(*i)).anomalous).count();
        assert_eq!(n_alerts, 0);
        rule.judge(f64::INFINITY);
        assert!(rule.judge(f64::INFINITY).p_value > 0.01, "an equal one is known");
    }
}
