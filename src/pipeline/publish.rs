//! Writes what a lane has to say: anomalies, scores and dead letters, and waits for room when the producer has none.

use std::cell::{OnceCell, RefCell};
use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;
use serde_json::value::RawValue;

use super::Shared;
use super::lane::LaneError;
use super::wait::Wait;
use crate::alert::Event;
use crate::batch::{Batch, Row};
use crate::decode::Reject;
use crate::model::{Model, Workspace};
use crate::record::{Partition, RecordId, rfc3339};
use crate::score::Explanation;
use crate::sink::anomaly::{
    ANOMALY_TYPE, ActiveLatents, Anomaly, ModelRef, SCHEMA_VERSION, Score, Scored, SourceRef, id_of,
};
use crate::sink::incident::{INCIDENT_TYPE, IncidentEvent, IncidentRef, Share, Worst, event_id};
use crate::sink::{Channel, Encoder, Ended, Header, Outgoing, Receipt, Sink, SinkError};
use crate::source::{Headers, Raw};
use crate::telemetry::{LaneMetrics, now_ms};

/// How long one wait for room in the producer's buffer is; the lane shows that it lives after each.
const ROOM_WAIT: Duration = Duration::from_millis(20);

/// What says that a value is JSON.
const JSON: Header<'static> = ("content-type", Some(b"application/json"));

/// What a header takes beside its name and its value, at most.
const HEADER_BYTES: usize = 10;
/// Bytes of a rejected record's own headers, and of its key, that its dead letter keeps: with the value they must stay below
/// the megabyte that topics take.
const EXTRAS_BYTES_MAX: usize = 64 << 10;
/// Longest `traceparent` that is handed on, bytes; the standard's has 55.
const TRACEPARENT_BYTES_MAX: usize = 512;
/// Longest passthrough that an anomaly carries, bytes; a longer one is left out, for the same reason.
const PASSTHROUGH_BYTES_MAX: usize = 256 << 10;

/// Writes a lane's output.
pub struct Publisher {
    shared: Shared,
    lane: usize,
    sink: Arc<dyn Sink>,
    source_uri: String,
    metrics: LaneMetrics,
    value: RefCell<Vec<u8>>,
}

/// One row with everything that its record needs.
pub struct Judged<'a, 'm> {
    /// The batch that the row belongs to.
    pub batch: &'a Batch,
    /// What scoring has left of the batch.
    pub workspace: &'a Workspace,
    /// The row's place in the batch.
    pub at: usize,
    /// Its score.
    pub score: Score,
    /// The headers that its record came with, where it came from a stream.
    pub headers: Option<&'a dyn Headers>,
    /// What it has in common with the others of its batch.
    pub occasion: &'a Occasion<'m>,
}

impl<'a> Judged<'a, '_> {
    /// The row.
    pub fn row(&self) -> &'a Row {
        &self.batch.rows()[self.at]
    }
}

/// What the records of one batch say alike; put into words when the first is published.
pub struct Occasion<'a> {
    judge: &'a Model,
    model: OnceCell<ModelRef<'a>>,
    scored_time: OnceCell<String>,
}

impl<'a> Occasion<'a> {
    /// A batch that `judge` has scored.
    pub fn new(judge: &'a Model) -> Self {
        Self { judge, model: OnceCell::new(), scored_time: OnceCell::new() }
    }

    /// The model that judged.
    fn model(&self) -> &ModelRef<'a> {
        let judge = self.judge;
        let words = || ModelRef { version: judge.version, hash: judge.short_hash(), trained_at: judge.trained_at() };
        self.model.get_or_init(words)
    }

    /// When it was scored, RFC 3339.
    fn scored_time(&self) -> &str {
        self.scored_time.get_or_init(|| rfc3339(now_ms()))
    }
}

impl Publisher {
    /// A publisher of lane `lane`.
    pub fn new(shared: &Shared, lane: usize, sink: Arc<dyn Sink>) -> Self {
        Self {
            shared: shared.clone(),
            lane,
            sink,
            source_uri: format!("urn:strayd:{}", shared.detector),
            metrics: LaneMetrics::new(Arc::clone(&shared.metrics), lane, &shared.output),
            value: RefCell::default(),
        }
    }

    /// The metrics that the lane updates.
    pub fn metrics(&self) -> &LaneMetrics {
        &self.metrics
    }

    /// Shows which partitions the lane has and how far it lags behind on each.
    pub fn assignment(&mut self, n_assigned: i64, n_rebalances: u64, lags: &[(Partition, i64)]) {
        self.metrics.assignment(&self.shared.topics, n_assigned, n_rebalances, lags);
    }

    /// Shows how many of the lane's transactions have ended, and how.
    pub fn transactions(&mut self, ended: Ended) {
        self.metrics.transactions(ended);
    }

    /// Publishes an anomaly, with the incident that it belongs to.
    ///
    /// Errors: it can't be handed to the producer.
    pub fn anomaly(
        &self,
        judged: &Judged<'_, '_>,
        why: &Explanation,
        incident: Option<&IncidentRef>,
        receipt: &Receipt,
    ) -> Result<(), LaneError> {
        let carried = judged.batch.carried(judged.row());
        let entity = carried.key.map(String::from_utf8_lossy);
        let id = self.id_of(judged.row().id);
        let event_time = rfc3339(judged.row().time_ms);
        let passthrough = carried.passthrough.filter(|bytes| bytes.len() <= PASSTHROUGH_BYTES_MAX);
        let passthrough = passthrough.and_then(|bytes| std::str::from_utf8(bytes).ok());
        let record = Anomaly {
            schema_version: SCHEMA_VERSION,
            id: &id,
            detector: &self.shared.detector,
            entity: entity.as_deref(),
            event_time: &event_time,
            scored_time: judged.occasion.scored_time(),
            source: self.source_of(judged.row().id),
            score: judged.score,
            features: &why.features,
            patterns: &why.patterns,
            unexplained: why.unexplained,
            incident,
            model: judged.occasion.model(),
            top_feature: why.features.first().map(|feature| &*feature.name),
            top_feature_contribution: why.features.first().map(|feature| feature.contribution),
            passthrough: passthrough.and_then(|json| serde_json::from_str::<&RawValue>(json).ok()),
            summary: &why.summary(),
        };
        let mut headers = self.cloud_event(ANOMALY_TYPE, &id, &event_time, entity.as_deref());
        headers.push(("content-type", Some(self.shared.encoder.content_type())));
        let trace = judged.headers.and_then(traceparent_of);
        headers.extend(trace.as_deref().map(|trace| ("traceparent", Some(trace))));
        let mut value = self.value.borrow_mut();
        self.shared.encoder.write(&record, &mut value);
        let (key, time_ms) = (carried.key, judged.row().time_ms);
        let message = Outgoing { channel: Channel::Anomalies, key, value: &value, time_ms, headers: &headers };
        self.send(&message, receipt)?;
        // People look at it as JSON, whatever the topic holds.
        if !self.shared.encoder.is_json() {
            Encoder::default().write(&record, &mut value);
        }
        self.shared.view.published(&id, &value);
        Ok(())
    }

    /// Publishes a change of an incident, if these are wanted.
    ///
    /// Errors: it can't be handed to the producer.
    pub fn incident(&self, event: &Event, receipt: &Receipt) -> Result<(), LaneError> {
        if self.shared.output.incidents.is_none() {
            return Ok(());
        }
        let detector = &*self.shared.detector;
        let topic = self.shared.topics.name(event.summary.opened.partition.topic);
        let incident = IncidentRef::new(&event.summary, topic, detector);
        let id = event_id(&incident, event.sequence);
        let entity = event.key.as_deref().map(String::from_utf8_lossy);
        let [event_time, last_time, worst_time] = [event.time_ms, event.last_ms, event.worst_ms].map(rfc3339);
        let worst_id = self.id_of(event.worst);
        let features = event.features.iter().take(self.shared.output.features_max);
        let record = IncidentEvent {
            schema_version: SCHEMA_VERSION,
            id: &id,
            detector,
            entity: entity.as_deref(),
            event_time: &event_time,
            incident: &incident,
            sequence: event.sequence,
            kind: event.kind,
            cause: event.cause,
            severity: event.severity,
            last_time: &last_time,
            source: self.source_of(event.summary.opened),
            worst: Worst {
                id: &worst_id,
                source: self.source_of(event.worst),
                event_time: &worst_time,
                p_value: event.p_value,
            },
            features: features.map(|(name, contribution)| Share { name, contribution: *contribution }).collect(),
            summary: &event.in_words(),
        };
        let mut headers = self.cloud_event(INCIDENT_TYPE, &id, &event_time, entity.as_deref());
        headers.push(JSON);
        let (key, time_ms) = (event.key.as_deref(), event.time_ms);
        let message = Outgoing { channel: Channel::Incidents, key, value: &[], time_ms, headers: &headers };
        self.json(message, &record, receipt)
    }

    /// Publishes a row's score, if scores are wanted.
    ///
    /// Errors: it can't be handed to the producer.
    pub fn score(&self, judged: &Judged<'_, '_>, receipt: &Receipt) -> Result<(), LaneError> {
        if self.shared.output.scores.is_none() {
            return Ok(());
        }
        let carried = judged.batch.carried(judged.row());
        let entity = carried.key.map(String::from_utf8_lossy);
        let record = Scored {
            id: &self.id_of(judged.row().id),
            source: self.source_of(judged.row().id),
            entity: entity.as_deref(),
            event_time: &rfc3339(judged.row().time_ms),
            score: judged.score,
            latents: self.shared.output.score_latents.then_some(ActiveLatents(judged.workspace.latents_of(judged.at))),
            model: judged.occasion.model(),
        };
        let time_ms = judged.row().time_ms;
        let message = Outgoing { channel: Channel::Scores, key: carried.key, value: &[], time_ms, headers: &[JSON] };
        self.json(message, &record, receipt)
    }

    /// Sends a rejected record to the dead-letter topic, with everything it came with.
    ///
    /// Errors: it can't be handed to the producer.
    pub fn dead_letter(
        &self,
        raw: &Raw<'_>,
        payload: &[u8],
        reject: &Reject,
        receipt: &Receipt,
    ) -> Result<(), LaneError> {
        let mut kept: Vec<(String, Option<Vec<u8>>)> = Vec::new();
        let (mut n_bytes, mut n_left_out) = (0, 0);
        if let Some(headers) = raw.headers {
            headers.each(&mut |name, value| {
                n_bytes += HEADER_BYTES + name.len() + value.map_or(0, <[u8]>::len);
                if n_bytes <= EXTRAS_BYTES_MAX {
                    kept.push((name.to_owned(), value.map(<[u8]>::to_vec)));
                } else {
                    n_left_out += 1;
                }
            });
        }
        let mut said = vec![
            ("strayd.error.reason", reject.reason().to_owned()),
            ("strayd.error.message", reject.to_string()),
            ("strayd.error.topic", self.shared.topics.name(raw.id.partition.topic).to_owned()),
            ("strayd.error.partition", raw.id.partition.number.to_string()),
            ("strayd.error.offset", raw.id.offset.to_string()),
            ("strayd.error.time", rfc3339(now_ms())),
        ];
        let limit = self.shared.dead_letter.value_bytes_max;
        if payload.len() > limit {
            said.push(("strayd.error.truncated", payload.len().to_string()));
        }
        if n_left_out > 0 {
            said.push(("strayd.error.headers_left_out", n_left_out.to_string()));
        }
        let key = raw.key.map(|key| &key[..key.len().min(EXTRAS_BYTES_MAX)]);
        if let Some(whole) = raw.key.filter(|whole| key.is_some_and(|key| key.len() < whole.len())) {
            said.push(("strayd.error.key_truncated", whole.len().to_string()));
        }
        let kept = kept.iter().map(|(name, value)| (name.as_str(), value.as_deref()));
        let headers: Vec<Header<'_>> =
            kept.chain(said.iter().map(|(name, value)| (*name, Some(value.as_bytes())))).collect();
        let message = Outgoing {
            channel: Channel::DeadLetters,
            key,
            value: &payload[..payload.len().min(limit)],
            time_ms: raw.time_ms,
            headers: &headers,
        };
        self.send(&message, receipt)
    }

    /// The headers of a CloudEvent (Kafka binding, binary mode), without `content-type`.
    fn cloud_event<'a>(
        &'a self,
        kind: &'a str,
        id: &'a str,
        time: &'a str,
        subject: Option<&'a str>,
    ) -> Vec<Header<'a>> {
        let mut headers: Vec<Header<'_>> = vec![
            ("ce_specversion", Some(b"1.0")),
            ("ce_id", Some(id.as_bytes())),
            ("ce_source", Some(self.source_uri.as_bytes())),
            ("ce_type", Some(kind.as_bytes())),
            ("ce_time", Some(time.as_bytes())),
        ];
        headers.extend(subject.map(|subject| ("ce_subject", Some(subject.as_bytes()))));
        headers
    }

    fn id_of(&self, id: RecordId) -> String {
        id_of(self.shared.topics.name(id.partition.topic), id, &self.shared.detector)
    }

    fn source_of(&self, id: RecordId) -> SourceRef<'_> {
        let Partition { topic, number } = id.partition;
        SourceRef { topic: self.shared.topics.name(topic), partition: number, offset: id.offset }
    }

    /// Sends `message` with `record` as its value.
    fn json(&self, message: Outgoing<'_>, record: &impl Serialize, receipt: &Receipt) -> Result<(), LaneError> {
        let mut value = self.value.borrow_mut();
        value.clear();
        serde_json::to_writer(&mut *value, record).expect("the record has string keys only");
        self.send(&Outgoing { value: &value, ..message }, receipt)
    }

    fn send(&self, message: &Outgoing<'_>, receipt: &Receipt) -> Result<(), LaneError> {
        let mut wait = None;
        loop {
            match self.sink.send(message, receipt) {
                Ok(()) => break,
                Err(SinkError::Full) => {
                    wait.get_or_insert_with(|| Wait::new(&self.shared, self.lane)).goes_on();
                    self.sink.poll(ROOM_WAIT);
                }
                Err(SinkError::Aborted(reason)) => return Err(LaneError::Aborted(reason)),
                Err(SinkError::Failed(reason)) => {
                    self.metrics.produce_error(message.channel);
                    return Err(LaneError::Sink(reason));
                }
            }
        }
        self.metrics.produced(message.channel);
        Ok(())
    }
}

/// The W3C `traceparent` among a record's headers: the last one counts.
fn traceparent_of(headers: &dyn Headers) -> Option<Vec<u8>> {
    let mut found = None;
    headers.each(&mut |name, value| {
        if name == "traceparent" && value.is_none_or(|value| value.len() <= TRACEPARENT_BYTES_MAX) {
            found = value.map(<[u8]>::to_vec);
        }
    });
    found
}
