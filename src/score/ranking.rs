//! How good a ranking and a set of alerts are, given labels, and how alike two rankings are.
//!
//! Plain counting over whole slices, for measuring and for choosing between models; no scoring path comes here. Scores
//! must not be NaN.

use std::collections::BTreeSet;

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

/// Rank correlation of two scores of the same rows, −1 to 1, ties sharing their mean rank. None with under two rows or
/// where either score is the same everywhere.
///
/// Panics when there are not as many of both.
pub fn spearman(a: &[f64], b: &[f64]) -> Option<f64> {
    assert_eq!(a.len(), b.len(), "two scores for each row");
    let (a, b) = (ranks(a), ranks(b));
    let mean = f64::midpoint(a.len() as f64, 1.0);
    let product = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| (a - mean) * (b - mean)).sum::<f64>();
    let norm = (product(&a, &a) * product(&b, &b)).sqrt();
    (norm > 0.0).then(|| product(&a, &b) / norm)
}

/// Jaccard overlap of the `n` rows that each score puts highest, 0 to 1; ties go to the earlier row. 1 when `n` is 0.
///
/// Panics when there are not as many of both.
pub fn top_overlap(a: &[f64], b: &[f64], n: usize) -> f64 {
    assert_eq!(a.len(), b.len(), "two scores for each row");
    let top = |scores: &[f64]| {
        let mut rows: Vec<usize> = (0..scores.len()).collect();
        rows.sort_by(|&i, &j| scores[j].total_cmp(&scores[i]));
        rows.into_iter().take(n).collect::<BTreeSet<usize>>()
    };
    let (a, b) = (top(a), top(b));
    let n_either = a.union(&b).count();
    if n_either == 0 { 1.0 } else { a.intersection(&b).count() as f64 / n_either as f64 }
}

/// Rank of each score from 1, ties sharing their mean rank.
fn ranks(scores: &[f64]) -> Vec<f64> {
    let mut rows: Vec<usize> = (0..scores.len()).collect();
    rows.sort_by(|&i, &j| scores[i].total_cmp(&scores[j]));
    let mut ranks = vec![0.0; scores.len()];
    let mut before = 0;
    for tied in rows.chunk_by(|&i, &j| scores[i] == scores[j]) {
        let rank = f64::midpoint(before as f64 + 1.0, (before + tied.len()) as f64);
        tied.iter().for_each(|&row| ranks[row] = rank);
        before += tied.len();
    }
    ranks
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
    fn rank_correlations_worked_by_hand() {
        assert_eq!(spearman(&[1.0, 2.0, 3.0], &[10.0, 20.0, 30.0]), Some(1.0));
        assert_eq!(spearman(&[1.0, 2.0, 3.0], &[-1.0, -2.0, -9.0]), Some(-1.0));
        // Ranks 1, 2, 3 against 1.5, 1.5, 3: 1.5 / √(2 · 1.5).
        let tied = spearman(&[1.0, 2.0, 3.0], &[5.0, 5.0, 6.0]).unwrap();
        assert!((tied - 1.5 / 3.0_f64.sqrt()).abs() < 1e-12, "{tied}");
        assert_eq!(spearman(&[1.0, 2.0], &[4.0, 4.0]), None);
        assert_eq!(spearman(&[1.0], &[1.0]), None);
    }

    #[test]
    fn overlaps_worked_by_hand() {
        let (a, b) = ([9.0, 8.0, 1.0, 0.0], [9.0, 1.0, 8.0, 0.0]);
        assert_eq!(top_overlap(&a, &b, 1), 1.0);
        assert_eq!(top_overlap(&a, &b, 2), 1.0 / 3.0);
        assert_eq!(top_overlap(&a, &b, 4), 1.0);
        assert_eq!(top_overlap(&a, &b, 0), 1.0);
        assert_eq!(top_overlap(&[1.0; 3], &[1.0; 3], 2), 1.0, "ties go to the earlier row in both");
    }

    #[test]
    fn alerts_are_compared_with_labels() {
        let found = at_threshold(&[true, true, false, false], &[true, false, true, false]);
        assert_eq!((found.alert_rate, found.precision, found.recall, found.f1), (0.5, 0.5, 0.5, 0.5));
        assert_eq!(at_threshold(&[false], &[false]).f1, 0.0);
    }
}
