//! The simplest rule: a record is anomalous when its standardised score exceeds a number that the user set.
//!
//! p-values come from the model's calibration and decide the severity alone. No rate is held.

use super::tail::Tail;
use super::{Threshold, Verdict};

/// A standardised score that is the same for ever.
#[derive(Clone, Debug)]
pub struct Fixed {
    tail: Tail,
    z: f64,
}

impl Fixed {
    /// Alerts above the standardised score `z`.
    pub fn new(z: f64, tail: Tail) -> Self {
        Self { tail, z }
    }
}

impl Threshold for Fixed {
    fn judge(&mut self, z: f64) -> Verdict {
        Verdict::of(self.tail.p_value(z), z, self.z)
    }

    fn z_at_alert(&self) -> f64 {
        self.z
    }

    fn z_at(&self, p: f64) -> f64 {
        self.tail.z_at(p)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_alerts_above_its_number_alone() {
        let mut rule = Fixed::new(2.5, Tail::fit((0..100).map(f64::from).collect()));
        let of = |rule: &mut Fixed, z| rule.judge(z).anomalous;
        assert_eq!([2.5, 2.6, f64::NAN, f64::INFINITY].map(|z| of(&mut rule, z)), [false, true, false, true]);
        assert!((rule.judge(2.5).p_value - 0.98).abs() < 0.01);
    }
}
