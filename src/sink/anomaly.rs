//! The records that strayd publishes: an anomaly, the score of a record, a dead letter's headers.
//!
//! This is the public contract, described in `docs/RECORDS.md` and by the JSON Schemas of `strayd schema`. An id is a
//! function of topic, partition, offset and detector name, and of nothing else, so that a replay or a retry never makes
//! a second anomaly. JSON never holds NaN or infinity: what is not finite is written as null.

use ndarray::ArrayView1;
use serde::{Serialize, Serializer};
use serde_json::value::RawValue;
use sha2::{Digest, Sha256};

use super::incident::IncidentRef;
use crate::record::RecordId;
use crate::score::{FeatureReason, PatternReason};
use crate::threshold::{Severity, Verdict};

/// CloudEvents type of an anomaly.
pub const ANOMALY_TYPE: &str = "io.strayd.anomaly.v1";

/// Version of the anomaly record; rises only when a field changes its meaning.
pub const SCHEMA_VERSION: u32 = 1;

/// Where the scored record stands.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct SourceRef<'a> {
    /// Features topic.
    pub topic: &'a str,
    /// Partition.
    pub partition: i32,
    /// Offset.
    pub offset: i64,
}

/// How far the record strayed.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Score {
    /// `raw / threshold`; above 1 is anomalous.
    pub ratio: f64,
    /// Mean squared standardised residual.
    pub raw: f64,
    /// `raw` at which a record becomes anomalous.
    pub threshold: f64,
    /// Robust z-score of `ln(raw)` among held-out normal records; comparable between models.
    pub z: f64,
    /// Share of normal records that score as high or higher.
    pub p_value: f64,
    /// Only on anomalies.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub severity: Option<Severity>,
    /// Whether fewer scores were known than the target alert rate needs; there only where true.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub calibrating: bool,
}

impl Score {
    /// The score of a row whose raw score is `raw`, standardised `z`, and anomalous above `threshold`.
    pub fn new(raw: f64, threshold: f64, z: f64, verdict: &Verdict, severity: Option<Severity>) -> Self {
        let Verdict { p_value, calibrating, .. } = *verdict;
        Self { ratio: raw / threshold, raw, threshold, z, p_value, severity, calibrating }
    }
}

/// The model that judged.
#[derive(Clone, Debug, Serialize)]
pub struct ModelRef<'a> {
    /// Its version.
    pub version: u64,
    /// Beginning of the SHA-256 of its parameters.
    pub hash: &'a str,
    /// When its training ended, RFC 3339.
    pub trained_at: String,
}

/// An anomaly.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Anomaly<'a> {
    /// [`SCHEMA_VERSION`].
    pub schema_version: u32,
    /// [`id_of`] the record.
    pub id: &'a str,
    /// Name of the detector.
    pub detector: &'a str,
    /// Kafka key of the record, as text.
    pub entity: Option<&'a str>,
    /// Event time, RFC 3339.
    pub event_time: &'a str,
    /// When it was scored, RFC 3339.
    pub scored_time: &'a str,
    /// Where the record stands.
    pub source: SourceRef<'a>,
    /// How far it strayed.
    pub score: Score,
    /// The features that explain most of the score, the largest share first.
    pub features: &'a [FeatureReason],
    /// What the model saw in the record.
    pub patterns: &'a [PatternReason],
    /// Share of the score that the listed features leave unexplained.
    pub unexplained: f64,
    /// The incident that it belongs to; none while too few flagged records make one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub incident: Option<&'a IncidentRef>,
    /// The model that judged.
    pub model: &'a ModelRef<'a>,
    /// Name of the first feature of the list.
    pub top_feature: Option<&'a str>,
    /// Its contribution.
    pub top_feature_contribution: Option<f64>,
    /// Fields of the record that are passed through unread.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub passthrough: Option<&'a RawValue>,
    /// One sentence for a person.
    pub summary: &'a str,
}

/// The score of one record, anomalous or not.
#[derive(Debug, Serialize)]
pub struct Scored<'a> {
    /// [`id_of`] the record.
    pub id: &'a str,
    /// Where the record stands.
    pub source: SourceRef<'a>,
    /// Kafka key of the record, as text.
    pub entity: Option<&'a str>,
    /// Event time, RFC 3339.
    pub event_time: &'a str,
    /// Its score.
    pub score: Score,
    /// The active latents, where `output.score_latents` asks for them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub latents: Option<ActiveLatents<'a>>,
    /// The model that judged.
    pub model: &'a ModelRef<'a>,
}

/// The latents of one row, `[n_latents]`, written as `[[latent, activation], …]` without those that are 0.
#[derive(Clone, Copy, Debug)]
pub struct ActiveLatents<'a>(pub ArrayView1<'a, f32>);

impl Serialize for ActiveLatents<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.0.iter().enumerate().filter(|(_, activation)| **activation != 0.0))
    }
}

/// The id of whatever strayd says about a record: 32 hexadecimal digits.
pub fn id_of(topic: &str, record: RecordId, detector: &str) -> String {
    let mut hash = Sha256::new();
    hash.update(topic.as_bytes());
    hash.update([0]);
    hash.update(record.partition.number.to_be_bytes());
    hash.update(record.offset.to_be_bytes());
    hash.update(detector.as_bytes());
    hash.finalize()[..16].iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_active_latents_are_written() {
        let row = ndarray::array![0.0_f32, 0.5, 0.0, -2.0];
        let written = serde_json::to_string(&ActiveLatents(row.view())).expect("JSON");
        assert_eq!(written, "[[1,0.5],[3,-2.0]]");
        assert_eq!(serde_json::to_string(&ActiveLatents(ndarray::Array1::zeros(3).view())).expect("JSON"), "[]");
    }

    #[test]
    fn an_id_depends_on_the_record_and_the_detector_only() {
        let at = |partition: i32, offset| RecordId { partition: partition.into(), offset };
        let id = id_of("features", at(3, 918_273), "pumps");
        assert_eq!(id, id_of("features", at(3, 918_273), "pumps"));
        assert_eq!(id.len(), 32);
        for other in [
            id_of("feature", at(3, 918_273), "pumps"),
            id_of("features", at(2, 918_273), "pumps"),
            id_of("features", at(3, 918_274), "pumps"),
            id_of("features", at(3, 918_273), "valves"),
        ] {
            assert_ne!(id, other);
        }
    }
}
