//! What a model was made from, so that it can be made again.
//!
//! Filled in by whoever runs a training round; never used in scoring.

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::record::RecordId;

/// One stretch of one partition that was read for training.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Chunk {
    /// Partition of the source topic.
    pub partition: i32,
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
    pub fn of_payloads<'a>(partition: i32, start: i64, payloads: impl Iterator<Item = &'a [u8]>) -> Self {
        let (mut hash, mut n_records) = (Sha256::new(), 0);
        for payload in payloads {
            hash.update(payload);
            n_records += 1;
        }
        let sha256 = hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect();
        Self { partition, start, end: start + n_records, n_records: n_records as u64, sha256 }
    }
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
    /// Rows the weights were trained on.
    pub n_rows_train: u64,
    /// Rows that were held out for calibration.
    pub n_rows_holdout: u64,
    /// The training configuration.
    pub config: serde_json::Value,
    /// State of the admission before the round, as `train::Admission`; null for a first model.
    pub admission: serde_json::Value,
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
}
