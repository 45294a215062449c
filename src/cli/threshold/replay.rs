//! Replays scores through a family of thresholds, and measures what it makes of them.

use serde::Serialize;

use super::scenarios::Truth;
use crate::threshold::{self, Calibration, Config, Tail, Verdict, median_and_mad};

/// Records of a window in which the rate is measured, and records between the beginnings of two windows.
const WINDOW: usize = 20_000;
const WINDOW_STEP: usize = 5000;

/// What became of a stream.
#[derive(Clone, Debug, Serialize)]
pub struct Outcome {
    /// Records after the warm-up that are ordinary, and alerts on them.
    pub n_ordinary: usize,
    /// Alerts on ordinary records.
    pub n_false_alerts: usize,
    /// All alerts after the warm-up.
    pub n_alerts: usize,
    /// Shifts that were told.
    pub n_shifts: usize,
    /// False alerts per ordinary record, in units of the target.
    pub rate: f64,
    /// Share of windows of 20,000 records whose rate is within a factor of 2 of the target; none of a shorter stream.
    pub windows_within_2x: Option<f64>,
    /// The worst window's factor from the target, at least 1; a window without alerts counts as one with half an alert.
    pub worst_factor: Option<f64>,
    /// Share of the anomalous records that alerted; none without any.
    pub recall: Option<f64>,
}

/// A model's calibration from the logarithms of scores.
pub fn calibration(log_scores: &[f64]) -> Calibration {
    let mut known: Vec<f64> = log_scores.iter().copied().filter(|log| !log.is_nan()).collect();
    let (location, scale) = median_and_mad(&mut known.clone());
    known.iter_mut().for_each(|log| *log = (*log - location) / scale);
    Calibration { location, scale, tail: Tail::fit(known) }
}

/// Judges `log_scores` after their first `n_warmup`, which calibrate. Returns the calibration and a verdict each.
pub fn judge(config: &Config, log_scores: &[f64], n_warmup: usize) -> (Calibration, Vec<Verdict>) {
    let calibration = calibration(&log_scores[..n_warmup]);
    let mut rule = threshold::build(config, &calibration);
    let z = |log: &f64| (log - calibration.location) / calibration.scale;
    let verdicts = log_scores[n_warmup..].iter().map(|log| rule.judge(z(log))).collect();
    (calibration, verdicts)
}

/// Measures `verdicts` against the `truth` of the same records, for the target alert rate `q`.
pub fn measure(verdicts: &[Verdict], truth: &[Truth], q: f64) -> Outcome {
    let count = |verdicts: &[Verdict], truth: &[Truth]| {
        let ordinary = verdicts.iter().zip(truth).filter(|(_, truth)| **truth == Truth::Ordinary);
        ordinary.fold((0, 0), |(n, n_alerts), (verdict, _)| (n + 1, n_alerts + usize::from(verdict.anomalous)))
    };
    let (n_ordinary, n_false_alerts) = count(verdicts, truth);
    let begins = (0..).map(|i| i * WINDOW_STEP).take_while(|begin| begin + WINDOW <= verdicts.len());
    let factors: Vec<f64> = begins
        .map(|begin| {
            let (n, n_alerts) = count(&verdicts[begin..begin + WINDOW], &truth[begin..begin + WINDOW]);
            let ratio = (n_alerts as f64).max(0.5) / (q * n.max(1) as f64);
            ratio.max(1.0 / ratio)
        })
        .collect();
    let n_within = factors.iter().filter(|factor| **factor <= 2.0).count();
    let anomalous = truth.iter().zip(verdicts).filter(|(truth, _)| **truth == Truth::Anomalous);
    let (n_anomalies, n_found) =
        anomalous.fold((0, 0), |(n, found), (_, verdict)| (n + 1, found + usize::from(verdict.anomalous)));
    let is_some = |holds: bool, value: f64| holds.then_some(value);
    Outcome {
        n_ordinary,
        n_false_alerts,
        n_alerts: verdicts.iter().filter(|verdict| verdict.anomalous).count(),
        n_shifts: verdicts.iter().filter(|verdict| verdict.shifted).count(),
        rate: n_false_alerts as f64 / n_ordinary.max(1) as f64 / q,
        windows_within_2x: is_some(!factors.is_empty(), n_within as f64 / factors.len().max(1) as f64),
        worst_factor: factors.iter().copied().reduce(f64::max),
        recall: is_some(n_anomalies > 0, n_found as f64 / f64::max(n_anomalies as f64, 1.0)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn verdicts(alerts: impl Iterator<Item = bool>) -> Vec<Verdict> {
        let verdict = Verdict { p_value: 1.0, anomalous: false, z_at_alert: 0.0, calibrating: false, shifted: false };
        alerts.map(|anomalous| Verdict { anomalous, ..verdict }).collect()
    }

    #[test]
    fn a_hand_worked_stream_is_measured() {
        // 30,000 records; an alert each 1000 in the first 20,000, each 100 after; 100 anomalies, half of them found.
        let truth: Vec<Truth> =
            (0..30_000).map(|i| if (50..150).contains(&i) { Truth::Anomalous } else { Truth::Ordinary }).collect();
        let alerts = verdicts((0..30_000).map(|i| match i {
            50..150 => i % 2 == 0,
            0..20_000 => i % 1000 == 500,
            _ => i % 100 == 0,
        }));
        let of = measure(&alerts, &truth, 1e-3);
        assert_eq!((of.n_ordinary, of.n_false_alerts, of.n_alerts, of.recall), (29_900, 120, 170, Some(0.5)));
        // Windows from 0, 5000 and 10,000 have 20, 65 and 110 alerts: factors of about 1, 3.25 and 5.5.
        assert_eq!((of.windows_within_2x, of.worst_factor), (Some(1.0 / 3.0), Some(5.5)));
        assert!((of.rate - 120.0 / 29.9).abs() < 1e-9);
        let short = measure(&alerts[..100], &[Truth::Ordinary; 100], 1e-3);
        assert_eq!((short.windows_within_2x, short.worst_factor, short.recall), (None, None, None));
    }

    #[test]
    fn the_calibration_standardises_and_leaves_out_what_is_missing() {
        let of = calibration(&[1.0, 2.0, f64::NAN, 3.0, 4.0, 100.0]);
        assert_eq!((of.location, of.scale, of.tail.sorted().len()), (3.0, 1.4826, 5));
    }
}
