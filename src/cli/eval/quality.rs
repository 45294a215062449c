//! How good a ranking and a set of alerts are, given labels.

/// Quality of a set of alerts.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct AtThreshold {
    /// Share of the rows that were alerted.
    pub alert_rate: f64,
    /// Share of the alerts that are anomalies; 0 without alerts.
    pub precision: f64,
    /// Share of the anomalies that were alerted; 0 without anomalies.
    pub recall: f64,
    /// Harmonic mean of precision and recall.
    pub f1: f64,
}

/// Compares alerts with labels.
pub fn at_threshold(alerts: &[bool], labels: &[bool]) -> AtThreshold {
    let n_alerts = alerts.iter().filter(|&&alert| alert).count();
    let n_anomalies = labels.iter().filter(|&&label| label).count();
    let n_both = alerts.iter().zip(labels).filter(|&(&alert, &label)| alert && label).count();
    let share = |n: usize, of: usize| if of == 0 { 0.0 } else { n as f64 / of as f64 };
    let (precision, recall) = (share(n_both, n_alerts), share(n_both, n_anomalies));
    let sum = precision + recall;
    let f1 = if sum > 0.0 { 2.0 * precision * recall / sum } else { 0.0 };
    AtThreshold { alert_rate: share(n_alerts, alerts.len()), precision, recall, f1 }
}

/// Probability that an anomaly scores above a normal row, ties counting half. None without rows of both kinds.
pub fn auc_roc(scores: &[f64], labels: &[bool]) -> Option<f64> {
    let n_anomalies = labels.iter().filter(|&&label| label).count() as f64;
    let n_normal = labels.len() as f64 - n_anomalies;
    if n_anomalies == 0.0 || n_normal == 0.0 {
        return None;
    }
    let mut rank_sum = 0.0;
    let mut before = 0.0;
    for tied in groups(scores, labels, false) {
        let n = tied.len() as f64;
        let n_label = tied.iter().filter(|(_, label)| *label).count() as f64;
        rank_sum += n_label * f64::midpoint(before + 1.0, before + n);
        before += n;
    }
    Some((rank_sum - n_anomalies * (n_anomalies + 1.0) / 2.0) / (n_anomalies * n_normal))
}

/// Average precision: the mean of the precision at each anomaly, rows of equal score taken together.
pub fn auc_pr(scores: &[f64], labels: &[bool]) -> Option<f64> {
    let n_anomalies = labels.iter().filter(|&&label| label).count() as f64;
    if n_anomalies == 0.0 {
        return None;
    }
    let (mut n_rows, mut n_found, mut sum) = (0.0, 0.0, 0.0);
    for tied in groups(scores, labels, true) {
        let n_label = tied.iter().filter(|(_, label)| *label).count() as f64;
        n_rows += tied.len() as f64;
        n_found += n_label;
        sum += n_label / n_anomalies * (n_found / n_rows);
    }
    Some(sum)
}

/// Rows of equal score, in order of the score.
fn groups(scores: &[f64], labels: &[bool], descending: bool) -> Vec<Vec<(f64, bool)>> {
    let mut rows: Vec<(f64, bool)> = scores.iter().copied().zip(labels.iter().copied()).collect();
    rows.sort_by(|a, b| if descending { b.0.total_cmp(&a.0) } else { a.0.total_cmp(&b.0) });
    rows.chunk_by(|a, b| a.0 == b.0).map(<[(f64, bool)]>::to_vec).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_perfect_and_a_useless_ranking() {
        let labels = [false, false, true, true];
        assert_eq!(auc_roc(&[1.0, 2.0, 3.0, 4.0], &labels), Some(1.0));
        assert_eq!(auc_roc(&[4.0, 3.0, 2.0, 1.0], &labels), Some(0.0));
        assert_eq!(auc_roc(&[1.0; 4], &labels), Some(0.5));
        assert_eq!(auc_pr(&[1.0, 2.0, 3.0, 4.0], &labels), Some(1.0));
        assert_eq!(auc_pr(&[1.0; 4], &labels), Some(0.5));
    }

    #[test]
    fn a_case_worked_by_hand() {
        // Descending: 0.9 anomaly, 0.8 normal, 0.7 anomaly, 0.1 normal.
        let (scores, labels) = ([0.1, 0.7, 0.8, 0.9], [false, true, false, true]);
        assert_eq!(auc_roc(&scores, &labels), Some(0.75));
        assert_eq!(auc_pr(&scores, &labels), Some(0.5 * 1.0 + 0.5 * 2.0 / 3.0));
    }

    #[test]
    fn without_both_kinds_there_is_no_area() {
        assert_eq!(auc_roc(&[1.0, 2.0], &[true, true]), None);
        assert_eq!(auc_pr(&[1.0], &[false]), None);
    }

    #[test]
    fn alerts_are_compared_with_labels() {
        let found = at_threshold(&[true, true, false, false], &[true, false, true, false]);
        assert_eq!((found.alert_rate, found.precision, found.recall, found.f1), (0.5, 0.5, 0.5, 0.5));
        assert_eq!(at_threshold(&[false], &[false]).f1, 0.0);
    }
}
