//! What a model was made from, so that it can be made again.
//!
//! Filled in by whoever runs a training round; never used in scoring.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::record::{Partition, RecordId};

/// One stretch of one partition that was read for training.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Chunk {
    /// Partition, with its topic where there were several.
    pub partition: Partition,
    /// First offset of the stretch.
    pub start: i64,
    /// One past its last offset.
    pub end: i64,
    /// Records that were there (offsets have gaps).
    pub n_records: u64,
    /// SHA-256 of the payloads in order, hexadecimal.
    pub sha256: String,
}

impl Chunk {
    /// A stretch of consecutive offsets from `start` on, one a payload.
    pub fn of_payloads<'a>(partition: Partition, start: i64, payloads: impl Iterator<Item = &'a [u8]>) -> Self {
        let (mut hash, mut n_records) = (Sha256::new(), 0);
        for payload in payloads {
            hash.update(payload);
            n_records += 1;
        }
        let sha256 = hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect();
        Self { partition, start, end: start + n_records, n_records: n_records as u64, sha256 }
    }
}

/// A stretch of one partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Span {
    /// Partition, with its topic where there were several.
    pub partition: Partition,
    /// First offset of the stretch.
    pub start: i64,
    /// One past its last offset.
    pub end: i64,
}

impl Span {
    /// The spans from the first to the last of `ids` in each partition.
    pub fn around(ids: impl Iterator<Item = RecordId>) -> Vec<Self> {
        let mut spans: BTreeMap<Partition, Self> = BTreeMap::new();
        for RecordId { partition, offset } in ids {
            let span = spans.entry(partition).or_insert(Self { partition, start: offset, end: offset + 1 });
            (span.start, span.end) = (span.start.min(offset), span.end.max(offset + 1));
        }
        spans.into_values().collect()
    }

    /// Whether the record stands in the stretch.
    pub fn contains(&self, id: RecordId) -> bool {
        self.partition == id.partition && (self.start..self.end).contains(&id.offset)
    }
}

/// Joins what parents have `learnt` with what this training has, less what ends before the oldest of `read` rows; spans
/// that touch become one.
pub fn join_spans(learnt: &[Span], new: &[Span], read: &[Span]) -> Vec<Span> {
    let oldest =
        |partition: Partition| read.iter().find(|span| span.partition == partition).map_or(i64::MIN, |span| span.start);
    let mut spans: Vec<Span> =
        learnt.iter().chain(new).copied().filter(|span| span.end > oldest(span.partition)).collect();
    spans.sort_unstable_by_key(|span| (span.partition, span.start));
    let mut joined: Vec<Span> = Vec::with_capacity(spans.len());
    for span in spans {
        match joined.last_mut() {
            Some(last) if last.partition == span.partition && span.start <= last.end => {
                last.end = last.end.max(span.end)
            }
            _ => joined.push(span),
        }
    }
    joined
}

/// The course of one part of a training.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Curve {
    /// Name of the part: `trial`, `clean`, `fresh`, `settle` or `round`.
    pub stage: String,
    /// Steps done in all parts, and the loss of that step: about the share of variance that is not explained.
    pub points: Vec<(u64, f32)>,
}

/// What somebody said of a record.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Feedback {
    /// The record.
    pub record: RecordId,
    /// The verdict: `true_positive`, `false_positive` or `expected`.
    pub verdict: String,
}

/// Where a model comes from.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Lineage {
    /// Topic or file that the rows were read from.
    pub source: String,
    /// The stretches that were read.
    pub chunks: Vec<Chunk>,
    /// Seed of the training's randomness.
    pub seed: u64,
    /// Version whose weights the training started from.
    pub parent: Option<u64>,
    /// Version that admitted the rows.
    pub champion: Option<u64>,
    /// Where the weights have seen rows, this training's and its parents', as far back as a round reads.
    pub learnt: Vec<Span>,
    /// Rows the weights were trained on.
    pub n_rows_train: u64,
    /// Rows that were held out for calibration.
    pub n_rows_holdout: u64,
    /// Pace of the stream, for a target that is said in alerts a day; 0 where it is not known.
    pub records_per_day: f64,
    /// The training configuration.
    pub config: serde_json::Value,
    /// State of the admission before the round, as `train::Admission`; null for a first model.
    pub admission: serde_json::Value,
    /// Where the round's weights started, as `train::Start`; null for a first model.
    pub start: serde_json::Value,
    /// Id that the first new latent of this model got.
    pub next_latent: u64,
    /// What people had said of records that were used.
    pub feedback: Vec<Feedback>,
    /// How payloads were decoded, as `decode::Config`.
    pub decode: serde_json::Value,
    /// The BLAS library that computed it; another one rounds otherwise.
    pub blas: String,
    /// The strayd that trained it: version and revision.
    pub code: String,
    /// Why the round was run.
    pub reason: String,
    /// What had become of the stream, as `train::drift::Class`; empty where nothing was known.
    pub class: String,
    /// What the training was like, as `train::Report`; null in older files.
    pub report: serde_json::Value,
    /// Its loss by steps, part by part.
    pub curves: Vec<Curve>,
    /// How it was judged against the champion, with every number; null where it was not.
    #[serde(skip_serializing_if = "serde_json::Value::is_null")]
    pub decision: serde_json::Value,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn span(partition: i32, start: i64, end: i64) -> Span {
        Span { partition: partition.into(), start, end }
    }

    #[test]
    fn spans_that_touch_become_one_and_old_ones_go() {
        let ids = [(0, 7), (1, 3), (0, 5)]
            .map(|(partition, offset)| RecordId { partition: Partition::from(partition), offset });
        let new = Span::around(ids.into_iter());
        assert_eq!(new, [span(0, 5, 8), span(1, 3, 4)]);
        let learnt = [span(0, 0, 2), span(0, 3, 5), span(1, 0, 1)];
        assert_eq!(join_spans(&learnt, &new, &[span(0, 2, 9)]), [span(0, 3, 8), span(1, 0, 1), span(1, 3, 4)]);
        assert!(new[0].contains(ids[0]) && !new[0].contains(ids[1]));
    }
}
