//! Which rows a model may learn from: the defence against learning what it should find.
//!
//! MODEL 3.2: a row is admitted when its log score, in units of the champion's held-out admitted rows, is under a
//! threshold that starts at their 95th percentile. The threshold creeps by the excess of rejections, never stopped, so
//! that a real change is learnt in the end; an accept-all escape lost .032 AUC. It never looks at labels.

use std::collections::{BTreeMap, BTreeSet};

use ndarray::ArrayView2;
use serde::{Deserialize, Serialize};

use super::Rows;
use super::config::Config;
use crate::model::AdmissionScale;
use crate::record::{Partition, RecordId};
use crate::turn::give_way;

/// Rows after which the threshold moves.
const BLOCK: u32 = 64;
/// Share of the mean variance that is added to each input's, so that an input that is always reconstructed exactly does
/// not decide alone.
const FLOOR: f64 = 0.05;

/// The threshold of admission and what it has seen; carried from round to round.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Admission {
    /// Largest admitted score, standardised; `None` before the first round.
    threshold: Option<f64>,
    /// Rows of the running block.
    n_rows: u32,
    /// Rejected rows of the running block.
    n_rejected: u32,
    /// First offset of each partition that has not been decided on.
    next: BTreeMap<Partition, i64>,
    /// Rows that were rejected when they came; a decision is never taken back.
    #[serde(with = "spans")]
    rejected: BTreeSet<RecordId>,
}

/// Records of each partition as text, `5-8 13`: a lineage holds up to a thousand of them.
mod spans {
    use std::collections::{BTreeMap, BTreeSet};
    use std::fmt::Write as _;

    use serde::de::Error as _;
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    use crate::record::{Partition, RecordId};

    pub(super) fn serialize<S: Serializer>(ids: &BTreeSet<RecordId>, serializer: S) -> Result<S::Ok, S::Error> {
        let mut spans: BTreeMap<Partition, Vec<(i64, i64)>> = BTreeMap::new();
        for id in ids {
            let of_partition = spans.entry(id.partition).or_default();
            match of_partition.last_mut() {
                Some((_, last)) if *last + 1 == id.offset => *last = id.offset,
                _ => of_partition.push((id.offset, id.offset)),
            }
        }
        let text = |spans: Vec<(i64, i64)>| {
            let mut text = String::new();
            for (first, last) in spans {
                let gap = if text.is_empty() { "" } else { " " };
                let end = if last > first { format!("-{last}") } else { String::new() };
                write!(text, "{gap}{first}{end}").expect("text grows without failing");
            }
            text
        };
        let texts: BTreeMap<Partition, String> =
            spans.into_iter().map(|(partition, spans)| (partition, text(spans))).collect();
        texts.serialize(serializer)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<BTreeSet<RecordId>, D::Error> {
        let texts = BTreeMap::<Partition, String>::deserialize(deserializer)?;
        let mut ids = BTreeSet::new();
        for (partition, text) in texts {
            for span in text.split_whitespace() {
                let (first, last) = span.split_once('-').unwrap_or((span, span));
                let offset = |text: &str| text.parse::<i64>().map_err(D::Error::custom);
                ids.extend((offset(first)?..=offset(last)?).map(|offset| RecordId { partition, offset }));
            }
        }
        Ok(ids)
    }
}

impl Admission {
    /// Starts after a first model that was made of `rows` less `rejected`: these don't move the threshold.
    pub fn after(rows: &Rows, rejected: &[RecordId]) -> Self {
        let mut admission = Self { rejected: rejected.iter().copied().collect(), ..Self::default() };
        for id in &rows.ids {
            let next = admission.next.entry(id.partition).or_default();
            *next = (*next).max(id.offset + 1);
        }
        admission
    }

    /// The threshold, standardised; `None` before the first round.
    pub fn threshold(&self) -> Option<f64> {
        self.threshold
    }

    /// Drops what is older than the oldest of `rows` in its partition, which bounds the state by a round's rows.
    fn forget_before(&mut self, rows: &Rows) {
        let mut oldest = BTreeMap::new();
        for id in &rows.ids {
            let first = oldest.entry(id.partition).or_insert(id.offset);
            *first = id.offset.min(*first);
        }
        self.rejected.retain(|id| oldest.get(&id.partition).is_some_and(|first| id.offset >= *first));
    }

    /// Decides for each of `rows`, in time order, by the champion's log `scores` `[rows]`, standardised by its `scale`;
    /// only rows not seen before move the threshold.
    pub(super) fn decide(&mut self, scale: &AdmissionScale, rows: &Rows, scores: &[f64], config: &Config) -> Vec<bool> {
        let mut threshold = self.threshold.unwrap_or(scale.z95);
        let mut admitted = Vec::with_capacity(rows.len());
        for (id, &score) in rows.ids.iter().zip(scores) {
            let next = self.next.entry(id.partition).or_default();
            if id.offset < *next {
                admitted.push(!score.is_nan() && !self.rejected.contains(id));
                continue;
            }
            *next = id.offset + 1;
            let z = (score - scale.location) / scale.scale;
            let admits = z <= threshold;
            admitted.push(admits);
            if z.is_nan() {
                continue;
            }
            if !admits {
                self.rejected.insert(*id);
            }
            self.n_rows += 1;
            self.n_rejected += u32::from(!admits);
            if self.n_rows == BLOCK {
                let share = f64::from(self.n_rejected) / f64::from(BLOCK);
                threshold += config.creep * (share - config.reject_share);
                (self.n_rows, self.n_rejected) = (0, 0);
            }
        }
        self.threshold = Some(threshold);
        self.forget_before(rows);
        admitted
    }
}

/// The weights of an admission score, by input.
pub(super) struct Weights<'a> {
    /// c_j / (v_j + .05·v̄), `[n_inputs]`.
    of_square: Vec<f64>,
    /// c_j: the weights of the score, `[n_inputs]`.
    column: &'a [f32],
}

/// The weights under the mean squared residuals `variance` and the weights of the score, both `[n_inputs]`.
pub(super) fn inverse_variances<'a>(variance: &[f64], column: &'a [f32]) -> Weights<'a> {
    let pairs = || variance.iter().zip(column).map(|(v, c)| (v, f64::from(*c)));
    let total: f64 = pairs().map(|(_, c)| c).sum();
    let mean = pairs().map(|(v, c)| v * c).sum::<f64>() / total.max(f64::MIN_POSITIVE);
    Weights { of_square: pairs().map(|(v, c)| c / (v + FLOOR * mean).max(1e-12)).collect(), column }
}

/// Appends ln(Σ_j c_j·r_j²/(v_j + .05·v̄) / Σ_j c_j) over the observed inputs of each row, NaN where under half of the
/// weight is observed; all `[rows, n_inputs]`.
pub(super) fn log_scores(
    x: ArrayView2<'_, f32>,
    recons: ArrayView2<'_, f32>,
    mask: ArrayView2<'_, f32>,
    weights: &Weights<'_>,
    scores: &mut Vec<f64>,
) {
    let least = crate::score::least_observed(weights.column);
    for ((x, recons), mask) in x.rows().into_iter().zip(recons.rows()).zip(mask.rows()) {
        let (mut sum, mut observed) = (0.0, 0.0);
        let inputs = x.iter().zip(recons).zip(mask).zip(weights.of_square.iter().zip(weights.column));
        for (((x, recons), m), (weight, column)) in inputs {
            let residual = f64::from((x - recons) * m);
            sum += residual * residual * weight;
            observed += f64::from(m * column);
        }
        let enough = observed > 0.0 && observed >= least;
        scores.push(if enough { (sum / observed + 1e-12).ln() } else { f64::NAN });
    }
}

impl AdmissionScale {
    /// Standardises the admission scores of admitted held-out rows `[rows, n_inputs]` under a new model; `weights` are
    /// those of the score, `[n_inputs]`.
    pub(super) fn fit(
        x: ArrayView2<'_, f32>,
        recons: ArrayView2<'_, f32>,
        mask: ArrayView2<'_, f32>,
        weights: &[f32],
    ) -> Self {
        let column = |j: usize| {
            let residual = |i: usize| f64::from((x[[i, j]] - recons[[i, j]]) * mask[[i, j]]);
            let n: f64 = mask.column(j).iter().copied().map(f64::from).sum();
            (0..x.nrows()).map(|i| residual(i).powi(2)).sum::<f64>() / n.max(1.0)
        };
        let variance: Vec<f64> = (0..x.ncols()).map(column).collect();
        give_way();
        let mut scores = Vec::with_capacity(x.nrows());
        log_scores(x, recons, mask, &inverse_variances(&variance, weights), &mut scores);
        give_way();
        scores.retain(|score| score.is_finite());
        scores.sort_by(f64::total_cmp);
        let at_95 = scores.get(scores.len() * 95 / 100).copied();
        let (location, scale) = crate::threshold::median_and_mad(&mut scores);
        let z95 = at_95.map_or(1.645, |score| (score - location) / scale);
        Self { variance, location, scale, z95 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_state_is_written_compactly_and_read_back() {
        let id = |(partition, offset)| RecordId { partition: Partition::from(partition), offset };
        let admission = Admission {
            threshold: Some(1.0 / 3.0),
            n_rows: 5,
            n_rejected: 2,
            next: BTreeMap::from([(0.into(), 21), (3.into(), 8)]),
            rejected: [(0, 5), (0, 6), (0, 7), (0, 13), (3, 0)].map(id).into(),
        };
        let written = serde_json::to_value(&admission).expect("plain values");
        assert_eq!(written["rejected"], serde_json::json!({ "0": "5-7 13", "3": "0" }));
        assert_eq!(serde_json::from_value::<Admission>(written).expect("what was written"), admission);
    }
}
