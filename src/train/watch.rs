//! Whether a model that has just begun to score does what it promised: the rules of the watch after a promotion.
//!
//! MODEL 3.6. Alerts alone don't condemn a model, for a fault in the stream raises them, too: its predecessor judges the
//! same records, and must not have alerted on half as many. Pure: whoever promotes brings the counts.

use serde::{Deserialize, Serialize};

/// Times the expected alerts that raise a suspicion.
const ALERTS_FACTOR: f64 = 5.0;
/// Fewest alerts that condemn a model: what five times the target is in the default window. A fault or two in a short one
/// say nothing.
const ALERTS_MIN: u64 = 10;
/// Probability of as many alerts by chance, below which the suspicion counts.
const CHANCE_MAX: f64 = 1e-3;
/// Move of the median log score, beyond the predecessor's on the same records, that condemns a model: twofold.
const MEDIAN_MOVE_MAX: f64 = 0.7;
/// Fewest planted anomalies of which none found condemns a model.
const PLANTED_MIN: u64 = 20;
/// Share of them that its predecessor must have found. One threshold decides on all of them, and planted anomalies are mild:
/// where a few in a hundred are above it, a slightly higher one that is as good finds none.
const PLANTED_SHARE_MIN: f64 = 0.1;

/// When a promoted model is watched.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct WatchConfig {
    /// Records that a promoted model is watched for, and rolled back where it fails; 0: not at all.
    ///
    /// Never longer than until the next round.
    pub records: u64,
    /// Rollbacks in a row after which nothing is promoted until a person steps in.
    pub rollbacks_max: u32,
}

impl Default for WatchConfig {
    fn default() -> Self {
        Self { records: 2000, rollbacks_max: 2 }
    }
}

/// What one model says of some records.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Course {
    /// Alerts on the records since the promotion.
    pub n_alerts: u64,
    /// Median log score of the records before the promotion.
    pub median_before: f64,
    /// Median log score of the records since.
    pub median_since: f64,
    /// Planted anomalies that are above the threshold.
    pub n_planted_found: u64,
}

/// What the watch has seen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Seen {
    /// Records since the promotion.
    pub n_records: u64,
    /// Anomalies that were planted into copies of them.
    pub n_planted: u64,
    /// The target alert rate.
    pub target: f64,
    /// The promoted model.
    pub promoted: Course,
    /// The one before it.
    pub previous: Course,
}

/// Whether `n_alerts` of `n_records` are too many to be left alone at the target alert rate `q`.
pub fn is_suspicious(n_alerts: u64, n_records: u64, q: f64) -> bool {
    let expected = q * n_records as f64;
    n_alerts >= ALERTS_MIN && n_alerts as f64 > ALERTS_FACTOR * expected && at_least(n_alerts, expected) < CHANCE_MAX
}

/// Why the promoted model must go; none when it may stay.
pub fn condemns(seen: &Seen) -> Option<String> {
    let Seen { n_records, n_planted, target, promoted, previous } = seen;
    let (now, before) = (promoted.n_alerts, previous.n_alerts);
    if is_suspicious(now, *n_records, *target) && now > 2 * before {
        let expected = target * *n_records as f64;
        return Some(format!(
            "{now} alerts in {n_records} records, {expected:.1} expected; the model before it would have given {before}"
        ));
    }
    let moved = (promoted.median_since - promoted.median_before) - (previous.median_since - previous.median_before);
    if moved.abs() > MEDIAN_MOVE_MAX {
        return Some(format!("its median log score has moved by {moved:.2} more than that of the model before it"));
    }
    let found = (promoted.n_planted_found, previous.n_planted_found);
    // None where so many are expected is no chance.
    let expected = found.1 as f64;
    let is_no_chance = expected >= PLANTED_SHARE_MIN * *n_planted as f64 && (-expected).exp() < CHANCE_MAX;
    if *n_planted >= PLANTED_MIN && found.0 == 0 && is_no_chance {
        return Some(format!("it finds none of {n_planted} planted anomalies, the model before it {}", found.1));
    }
    None
}

/// Probability that a Poisson variable of mean `mean` is at least `n`.
fn at_least(n: u64, mean: f64) -> f64 {
    let mut term = (-mean).exp();
    let mut below = 0.0;
    for k in 0..n {
        below += term;
        term *= mean / (k + 1) as f64;
    }
    (1.0 - below).max(0.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn poisson_tails_by_hand() {
        assert!((at_least(1, 2.0) - (1.0 - (-2.0_f64).exp())).abs() < 1e-12);
        assert!((at_least(3, 2.0) - (1.0 - 5.0 * (-2.0_f64).exp())).abs() < 1e-12);
        assert_eq!(at_least(0, 2.0), 1.0);
    }

    #[test]
    fn chance_raises_no_suspicion() {
        assert!(!is_suspicious(1, 100, 1e-3), "ten times the expected, but one is chance");
        assert!(!is_suspicious(9, 2000, 1e-3));
        assert!(is_suspicious(11, 2000, 1e-3));
    }

    #[test]
    fn alerts_that_the_previous_model_gives_too_are_the_streams() {
        let course = |n_alerts| Course { n_alerts, ..Course::default() };
        let seen =
            Seen { n_records: 2000, target: 1e-3, promoted: course(60), previous: course(50), ..Seen::default() };
        assert_eq!(condemns(&seen), None);
        let why = condemns(&Seen { previous: course(3), ..seen }).expect("sixty alerts, and three before");
        assert!(why.starts_with("60 alerts in 2000 records, 2.0 expected"), "{why}");
    }

    #[test]
    fn a_median_that_moves_alone_condemns_and_a_drift_of_the_stream_does_not() {
        let course = |median_since| Course { median_before: -3.0, median_since, ..Course::default() };
        let seen =
            Seen { n_records: 2000, target: 1e-3, promoted: course(-2.0), previous: course(-2.1), ..Seen::default() };
        assert_eq!(condemns(&seen), None);
        assert!(condemns(&Seen { previous: course(-3.0), ..seen }).is_some());
    }

    #[test]
    fn a_model_that_sees_nothing_planted_goes() {
        let course = |n_planted_found| Course { n_planted_found, ..Course::default() };
        let seen = Seen { n_planted: 50, promoted: course(0), previous: course(31), target: 1e-3, ..Seen::default() };
        assert!(condemns(&seen).is_some());
        assert_eq!(condemns(&Seen { previous: course(0), ..seen }), None, "nobody could find them");
        assert_eq!(condemns(&Seen { previous: course(3), ..seen }), None, "three or none is chance");
        let many = Seen { n_planted: 338, ..seen };
        assert_eq!(condemns(&Seen { previous: course(9), ..many }), None, "their thresholds differ a little");
        assert!(condemns(&Seen { previous: course(34), ..many }).is_some());
    }
}
