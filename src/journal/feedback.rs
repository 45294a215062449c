//! What a person says of an anomaly: the public record of the feedback topic.
//!
//! `{"id": "…", "verdict": "false_positive", "note": "…"}`, or with `"source": {"topic", "partition", "offset"}` in the place
//! of the id. The key of an entry is the record's place, so that a second opinion takes the place of the first.

use serde::{Deserialize, Serialize};

use super::Entry;
use crate::record::{RecordId, Topics};

/// What the anomaly was.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Opinion {
    /// An anomaly indeed: every later model must find it.
    TruePositive,
    /// Ordinary: later models learn it.
    FalsePositive,
    /// Odd and known, as work on the plant: neither learnt nor held against a model.
    Expected,
}

/// Where a record stands.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Place {
    /// Features topic.
    pub topic: String,
    /// Partition.
    pub partition: i32,
    /// Offset.
    pub offset: i64,
}

/// What a person says of an anomaly.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Feedback {
    /// Id of the anomaly.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
    /// Where its record stands; wins over the id.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source: Option<Place>,
    /// What it was.
    pub verdict: Opinion,
    /// In the person's words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub note: Option<String>,
}

impl Place {
    /// The record's place, its topic one of `topics`.
    pub fn record(&self, topics: &Topics) -> RecordId {
        RecordId { partition: topics.partition(&self.topic, self.partition), offset: self.offset }
    }
}

impl std::fmt::Display for Place {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}/{}", self.topic, self.partition, self.offset)
    }
}

impl Feedback {
    /// Reads an entry of the feedback journal; none where the entry takes back what was said before.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn parse(entry: &Entry) -> Result<Option<Self>, String> {
        let Some(value) = &entry.value else { return Ok(None) };
        let feedback: Self = serde_json::from_value(value.clone()).map_err(|error| error.to_string())?;
        if feedback.id.is_none() && feedback.source.is_none() {
            return Err("it names neither an id nor a source".into());
        }
        Ok(Some(feedback))
    }

    /// The entry that says it at `time_ms`, milliseconds since the epoch.
    pub fn entry(&self, time_ms: i64) -> Entry {
        let place = self.source.as_ref().map(ToString::to_string);
        let key = place.or_else(|| self.id.clone()).unwrap_or_default();
        Entry { key, value: Some(serde_json::to_value(self).expect("plain values are always JSON")), time_ms }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(value: &serde_json::Value) -> Entry {
        Entry { key: String::new(), value: Some(value.clone()), time_ms: 0 }
    }

    #[test]
    fn an_id_or_a_source_is_enough_and_neither_is_refused() {
        let by_id = serde_json::json!({"id": "ab", "verdict": "true_positive"});
        let feedback = Feedback::parse(&entry(&by_id)).unwrap().unwrap();
        assert_eq!((feedback.verdict, feedback.entry(7).key.as_str()), (Opinion::TruePositive, "ab"));
        let by_source = serde_json::json!({
            "source": {"topic": "t", "partition": 1, "offset": 9}, "verdict": "expected", "note": "pump swapped"
        });
        let feedback = Feedback::parse(&entry(&by_source)).unwrap().unwrap();
        assert_eq!(feedback.entry(7), Entry { key: "t/1/9".into(), value: Some(by_source), time_ms: 7 });
        let neither = Feedback::parse(&entry(&serde_json::json!({"verdict": "expected"})));
        assert_eq!(neither.unwrap_err(), "it names neither an id nor a source");
        let unknown = Feedback::parse(&entry(&serde_json::json!({"id": "ab", "verdict": "maybe"}))).unwrap_err();
        assert!(unknown.contains("`true_positive`, `false_positive`, `expected`"), "{unknown}");
        assert_eq!(Feedback::parse(&Entry { value: None, ..entry(&by_id) }), Ok(None));
    }
}
