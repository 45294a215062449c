//! What the daemon has said of a span: its anomalies, and which version of the model judged which offsets.
//!
//! Read back from the output topics. A record is ours when its id is the one that this detector gives it.

use std::collections::BTreeMap;

use serde::{Deserialize, Deserializer, Serialize};

use super::moment::Moment;
use crate::app;
use crate::config::Config;
use crate::history::{Bound, History, Range, TopicHistory};
use crate::journal::Place;
use crate::pipeline::decoding::Published;
use crate::record::{Partition, RecordId, Topics, rfc3339};
use crate::sink::anomaly::id_of;

/// Offsets of an output topic that are read at a time.
const STRETCH: i64 = 20_000;

/// An anomaly or a score, as far as it is compared and shown.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Output {
    /// Its id.
    pub id: String,
    /// The record that it is about.
    pub source: Place,
    /// Kafka key of the record.
    pub entity: Option<String>,
    /// Event time, RFC 3339.
    #[serde(deserialize_with = "or_milliseconds")]
    pub event_time: String,
    /// How far the record strayed.
    pub score: Score,
    /// Who judged.
    pub model: Judge,
    /// A sentence for a person; scores have none.
    #[serde(default)]
    pub summary: String,
}

/// A score.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Score {
    /// Above 1 is anomalous.
    #[serde(deserialize_with = "or_infinite")]
    pub ratio: f64,
    /// The score itself.
    #[serde(deserialize_with = "or_infinite")]
    pub raw: f64,
    /// The threshold at that moment.
    #[serde(deserialize_with = "or_infinite")]
    pub threshold: f64,
    /// On anomalies only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub severity: Option<String>,
}

/// JSON has no infinity: null stands for it.
fn or_infinite<'de, D: Deserializer<'de>>(deserializer: D) -> Result<f64, D::Error> {
    Ok(Option::deserialize(deserializer)?.unwrap_or(f64::INFINITY))
}

/// Avro and Protobuf have milliseconds where JSON has text.
fn or_milliseconds<'de, D: Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Time {
        Text(String),
        Milliseconds(i64),
    }
    Ok(match Time::deserialize(deserializer)? {
        Time::Text(text) => text,
        Time::Milliseconds(ms) => rfc3339(ms),
    })
}

/// A model.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Judge {
    /// Its version.
    pub version: u64,
}

impl Output {
    /// Reads an anomaly or a score; none: it is neither.
    pub fn parse(value: &[u8]) -> Option<Self> {
        serde_json::from_slice(value).ok()
    }

    /// Where its record stands, in one of `topics`.
    pub fn record(&self, topics: &Topics) -> RecordId {
        let Place { topic, partition, offset } = &self.source;
        RecordId { partition: topics.partition(topic, *partition), offset: *offset }
    }

    /// `topic/partition/offset`.
    pub fn place(&self) -> String {
        format!("{}/{}/{}", self.source.topic, self.source.partition, self.source.offset)
    }
}

/// What was said of a span.
#[derive(Debug, Default)]
pub struct Outputs {
    /// Anomalies by id.
    pub anomalies: BTreeMap<String, Output>,
    /// Anomalies that were there more than once.
    pub n_repeated: u64,
    /// Which version has judged, by offset, in each partition.
    pub versions: BTreeMap<Partition, BTreeMap<i64, u64>>,
}

impl Outputs {
    /// Reads what the output topics hold of the records of `spans`, which begin at `from`.
    ///
    /// Errors: what is wrong, in words for the user.
    pub fn read(config: &Config, spans: &[Range], from: Moment) -> Result<Self, String> {
        let mut outputs = Self::default();
        // An output has its record's event time: where that is the payload's own, it may be any.
        let from = if config.decode.time_field.is_none() { from } else { Moment::Start };
        let from = if let Moment::Time(_) = from { from } else { Moment::Start };
        let mut anomalies = BTreeMap::new();
        read(config, &config.output.anomalies, from, &mut |output| {
            if outputs.is_ours(config, spans, &output) && anomalies.insert(output.id.clone(), output).is_some() {
                outputs.n_repeated += 1;
            }
        })?;
        outputs.anomalies = anomalies;
        if let Some(scores) = &config.output.scores {
            read(config, scores, from, &mut |output| {
                outputs.is_ours(config, spans, &output);
            })?;
        }
        Ok(outputs)
    }

    /// Whether an output is of this detector and of these spans; then it tells who judged.
    fn is_ours(&mut self, config: &Config, spans: &[Range], output: &Output) -> bool {
        let record = output.record(&config.input.topic);
        let is_of =
            |span: &Range| span.partition == record.partition && (span.start..span.end).contains(&record.offset);
        let is_ours =
            spans.iter().any(is_of) && output.id == id_of(&output.source.topic, record, &config.detector.name);
        if is_ours {
            self.versions.entry(record.partition).or_default().insert(record.offset, output.model.version);
        }
        is_ours
    }

    /// One past the last record of a partition of which something was said.
    pub fn reached(&self, partition: Partition) -> Option<i64> {
        self.versions.get(&partition)?.last_key_value().map(|(offset, _)| offset + 1)
    }

    /// The version from each offset on, and the stretches between two versions of which nothing says who judged.
    pub fn eras(&self, partition: Partition) -> (Vec<(i64, u64)>, Vec<Range>) {
        let (mut eras, mut unknown) = (Vec::new(), Vec::new());
        let mut last: Option<(i64, u64)> = None;
        for (&offset, &version) in self.versions.get(&partition).into_iter().flatten() {
            if last.is_none_or(|(_, before)| before != version) {
                eras.push((offset, version));
                let gap = last.map(|(at, _)| Range { partition, start: at + 1, end: offset });
                unknown.extend(gap.filter(|gap| !gap.is_empty()));
            }
            last = Some((offset, version));
        }
        (eras, unknown)
    }
}

fn read(config: &Config, topic: &str, from: Moment, take: &mut dyn FnMut(Output)) -> Result<(), String> {
    let named = |reason: String| format!("topic `{topic}`: {reason}");
    let open = TopicHistory::new(&config.kafka, &Topics::one(topic), config.history.read_timeout);
    let mut history = open.map_err(named)?;
    let extents = history.extents(Bound::Head).map_err(named)?;
    let mut published = Published::new(&app::schemas(config));
    for (extent, start) in extents.iter().zip(from.offsets(&mut history, &extents).map_err(named)?) {
        let mut at = start;
        while at < extent.end {
            let stretch = Range { partition: extent.partition, start: at, end: extent.end.min(at + STRETCH) };
            published.each(&mut history, &[stretch], take).map_err(named)?;
            at = stretch.end;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_become_eras_and_what_lies_between_two_is_unknown() {
        let mut outputs = Outputs::default();
        let said = [(5, 1), (9, 1), (12, 2), (13, 3), (20, 2)];
        outputs.versions.insert(0.into(), said.into());
        let (eras, unknown) = outputs.eras(0.into());
        assert_eq!(eras, [(5, 1), (12, 2), (13, 3), (20, 2)]);
        let gap = |start, end| Range { partition: 0.into(), start, end };
        assert_eq!(unknown, [gap(10, 12), gap(14, 20)]);
        assert_eq!(outputs.reached(0.into()), Some(21));
        assert_eq!(outputs.eras(1.into()), (vec![], vec![]));
    }
}
