//! What the daemon says, as far as it is shown. Lenient: what a daemon of another version leaves out is empty.
//!
//! Keys, names and reasons are strangers' words. All of it comes through [`parsed`], which leaves nothing in it that a terminal obeys.

use serde::de::DeserializeOwned;
use serde::{Deserialize, Deserializer};
use serde_json::Value;

use crate::cli::shown::cleanse;
use crate::journal::Place;

/// How things stand.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct Status {
    pub time: String,
    pub started: String,
    pub detector: String,
    pub version: String,
    pub ready: bool,
    pub phase: String,
    pub reason: Option<String>,
    pub eta_seconds: Option<f64>,
    pub waiting_for: Vec<String>,
    pub notes: Vec<String>,
    pub stuck: Option<String>,
    pub n_samples: u64,
    pub rate: f64,
    pub lag: i64,
    pub ratio: Option<f64>,
    pub threshold: Option<f64>,
    pub n_scored: u64,
    pub n_published: u64,
    pub alert_rate: Option<f64>,
    pub target_alert_rate: Option<f64>,
    pub incidents_open: i64,
    pub promotions_stopped: bool,
    pub model: Option<Scoring>,
}

/// The model that scores.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct Scoring {
    pub version: u64,
    pub trained_at: String,
}

/// One second.
#[derive(Clone, Copy, Debug, Default, Deserialize)]
#[serde(default)]
pub struct Beat {
    pub time_ms: i64,
    pub rate: f64,
    pub lag: i64,
    pub ratio: Option<f64>,
}

/// An anomaly as it was published.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct Anomaly {
    pub id: String,
    pub entity: Option<String>,
    pub event_time: String,
    pub source: Place,
    pub score: Score,
    pub features: Vec<Feature>,
    pub patterns: Vec<Pattern>,
    pub unexplained: Option<f64>,
    pub incident: Option<Incident>,
    pub model: Scoring,
    pub summary: String,
}

/// How far it strayed.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct Score {
    #[serde(deserialize_with = "or_nan")]
    pub ratio: f64,
    #[serde(deserialize_with = "or_nan")]
    pub raw: f64,
    #[serde(deserialize_with = "or_nan")]
    pub threshold: f64,
    #[serde(deserialize_with = "or_nan")]
    pub p_value: f64,
    pub severity: Option<String>,
}

/// One of the features that explain it.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct Feature {
    pub name: String,
    pub actual: Value,
    pub expected: Value,
    #[serde(deserialize_with = "or_nan")]
    pub residual_z: f64,
    #[serde(deserialize_with = "or_nan")]
    pub contribution: f64,
    pub missing: bool,
}

/// One of the patterns that are not as usual.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct Pattern {
    pub name: String,
    pub role: String,
    #[serde(deserialize_with = "or_nan")]
    pub activation: f64,
    #[serde(deserialize_with = "or_nan")]
    pub usual: f64,
    #[serde(deserialize_with = "or_nan")]
    pub contribution: f64,
}

/// The incident it belongs to.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct Incident {
    pub state: String,
    pub n_records: u64,
    #[serde(deserialize_with = "or_nan")]
    pub peak_ratio: f64,
}

/// A model in the list.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct Entry {
    pub version: u64,
    pub current: bool,
    pub promoted: bool,
    pub pinned: bool,
    pub refused: Option<String>,
    pub trained_at: String,
    pub n_rows_train: u64,
    pub parent: Option<u64>,
    pub reason: String,
    pub decision: Option<String>,
}

/// A model that was opened.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct Model {
    pub trained_at: String,
    pub hash: String,
    pub kind: String,
    pub features: Vec<String>,
    pub n_latents: u64,
    pub k: u64,
    pub lineage: Lineage,
    pub latents: Vec<Latent>,
}

/// Where it comes from.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct Lineage {
    pub source: String,
    pub parent: Option<u64>,
    pub reason: String,
    pub n_rows_train: u64,
    pub n_rows_holdout: u64,
    pub decision: Option<Decision>,
}

/// What the gate said of it.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct Decision {
    pub ending: String,
    pub reason: String,
    pub checks: Vec<Check>,
}

/// One of the gate's conditions.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct Check {
    pub name: String,
    #[serde(deserialize_with = "or_nan")]
    pub champion: f64,
    #[serde(deserialize_with = "or_nan")]
    pub challenger: f64,
    #[serde(deserialize_with = "or_nan")]
    pub limit: f64,
    pub passed: bool,
}

/// A pattern that it has learnt.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct Latent {
    pub name: String,
    pub label: Option<String>,
    #[serde(deserialize_with = "or_nan")]
    pub importance: f64,
    #[serde(deserialize_with = "or_nan")]
    pub frequency: f64,
}

/// A partition of this process.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct Partition {
    pub topic: String,
    pub partition: i32,
    pub lane: u64,
    pub next_offset: Option<i64>,
    pub lag: i64,
    pub threshold: Option<f64>,
}

/// JSON has no NaN: what is not finite is written as null.
fn or_nan<'de, D: Deserializer<'de>>(deserializer: D) -> Result<f64, D::Error> {
    Ok(Option::deserialize(deserializer)?.unwrap_or(f64::NAN))
}

/// A document of the daemon's, its texts made harmless.
///
/// Errors: it is not what is expected.
pub fn parsed<T: DeserializeOwned>(json: &str) -> serde_json::Result<T> {
    let mut document: Value = serde_json::from_str(json)?;
    cleanse(&mut document);
    serde_json::from_value(document)
}

/// A list, without what can't be read of it.
pub fn listed<T: DeserializeOwned>(json: &str) -> serde_json::Result<Vec<T>> {
    let documents: Vec<Value> = parsed(json)?;
    Ok(documents.into_iter().filter_map(|document| serde_json::from_value(document).ok()).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::shown::is_hidden;

    #[test]
    fn nothing_that_a_terminal_obeys_comes_through() {
        let json = r#"{"entity": "\u001b]0;pwned\u0007\u009b2J\u202e\n", "features": [{"name": "a\u001b[31m", "actual": "\u0000"}]}"#;
        let anomaly: Anomaly = parsed(json).expect("JSON");
        assert_eq!(anomaly.entity.as_deref(), Some("␛]0;pwned␇\u{fffd}2J\u{fffd} "));
        assert_eq!((anomaly.features[0].name.as_str(), &anomaly.features[0].actual), ("a␛[31m", &Value::from("␀")));
        let texts = format!("{anomaly:?}");
        assert!(!texts.chars().any(is_hidden), "{texts}");
    }

    #[test]
    fn what_is_null_or_new_or_left_out_is_borne() {
        let anomalies: Vec<Anomaly> = listed(r#"[{"score": {"ratio": null}, "new": 1}, 7, {}]"#).expect("a list");
        assert_eq!(anomalies.len(), 2);
        assert!(anomalies[0].score.ratio.is_nan());
    }
}
