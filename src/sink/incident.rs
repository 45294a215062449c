//! The record of a change of an incident: opened, escalated, closed.
//!
//! Part of the public contract, as [`anomaly`](super::anomaly). An incident's id is a function of its first record and the
//! detector's name, an event's of the incident, its state and its place among the incident's events: records that are
//! read again give the same events with the same ids.

use serde::Serialize;
use sha2::{Digest, Sha256};

use super::anomaly::SourceRef;
use crate::alert::{Cause, Kind, State, Summary};
use crate::record::{RecordId, rfc3339};
use crate::threshold::Severity;

/// CloudEvents type of a change of an incident.
pub const INCIDENT_TYPE: &str = "io.strayd.incident.v1";

/// What an anomaly says of its incident.
#[derive(Clone, Debug, Serialize)]
pub struct IncidentRef {
    /// [`incident_id`] of the record that opened it.
    pub id: String,
    /// How far it has come.
    pub state: State,
    /// Event time of the record that opened it, RFC 3339.
    pub start_time: String,
    /// Flagged records in it so far.
    pub n_records: u64,
    /// Largest ratio so far.
    pub peak_ratio: f64,
}

impl IncidentRef {
    /// What `summary` says, with the names that ids are made of.
    pub fn new(summary: &Summary, topic: &str, detector: &str) -> Self {
        Self {
            id: incident_id(topic, summary.opened, detector),
            state: summary.state,
            start_time: rfc3339(summary.start_ms),
            n_records: summary.n_records,
            peak_ratio: summary.peak_ratio,
        }
    }
}

/// A change of an incident.
#[derive(Debug, Serialize)]
pub struct IncidentEvent<'a> {
    /// [`super::anomaly::SCHEMA_VERSION`].
    pub schema_version: u32,
    /// [`event_id`].
    pub id: &'a str,
    /// Name of the detector.
    pub detector: &'a str,
    /// Key of the incident as text; null where it is the partition's.
    pub entity: Option<&'a str>,
    /// Event time of the change, RFC 3339.
    pub event_time: &'a str,
    /// The incident after the change.
    pub incident: &'a IncidentRef,
    /// Changes of the incident before this one.
    pub sequence: u32,
    /// What the incident is about.
    pub kind: Kind,
    /// Why it was closed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cause: Option<Cause>,
    /// Worst severity so far.
    pub severity: Severity,
    /// Event time of the last flagged record in it, RFC 3339.
    pub last_time: &'a str,
    /// The record that opened it.
    pub source: SourceRef<'a>,
    /// The record with the largest ratio.
    pub worst: Worst<'a>,
    /// Mean contributions over its records, the largest first.
    pub features: Vec<Share<'a>>,
    /// One sentence for a person.
    pub summary: &'a str,
}

/// The record with the largest ratio.
#[derive(Debug, Serialize)]
pub struct Worst<'a> {
    /// Id of its anomaly.
    pub id: &'a str,
    /// Where it stands.
    pub source: SourceRef<'a>,
    /// Its event time, RFC 3339.
    pub event_time: &'a str,
    /// Its p-value.
    pub p_value: f64,
}

/// A feature's part in an incident.
#[derive(Debug, Serialize)]
pub struct Share<'a> {
    /// Name of the feature.
    pub name: &'a str,
    /// Mean contribution, 0 to 1.
    pub contribution: f64,
}

/// The id of the incident that `opened` opened: 32 hexadecimal digits.
pub fn incident_id(topic: &str, opened: RecordId, detector: &str) -> String {
    let mut hash = Sha256::new();
    hash.update(b"incident\0");
    hash.update(topic.as_bytes());
    hash.update([0]);
    hash.update(opened.partition.number.to_be_bytes());
    hash.update(opened.offset.to_be_bytes());
    hash.update(detector.as_bytes());
    digits(hash)
}

/// The id of a change: a function of the incident, the state that it led to and its place among the changes.
pub fn event_id(incident: &IncidentRef, sequence: u32) -> String {
    let state: &[u8] = match incident.state {
        State::Open => b"open",
        State::Escalated => b"escalated",
        State::Closed => b"closed",
    };
    let mut hash = Sha256::new();
    hash.update(incident.id.as_bytes());
    hash.update(state);
    hash.update(sequence.to_be_bytes());
    digits(hash)
}

fn digits(hash: Sha256) -> String {
    hash.finalize()[..16].iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sink::anomaly::id_of;

    #[test]
    fn ids_tell_incidents_states_and_places_apart() {
        let at = RecordId { partition: 3.into(), offset: 918_273 };
        let summary = Summary { opened: at, state: State::Open, start_ms: 0, n_records: 1, peak_ratio: 1.5 };
        let open = IncidentRef::new(&summary, "features", "pumps");
        assert_eq!(open.id, incident_id("features", at, "pumps"));
        assert_ne!(open.id, id_of("features", at, "pumps"), "an incident is not its first anomaly");
        let closed = IncidentRef { state: State::Closed, ..open.clone() };
        let ids = [event_id(&open, 0), event_id(&open, 1), event_id(&closed, 1)];
        assert!(ids[0] != ids[1] && ids[1] != ids[2] && ids.iter().all(|id| id.len() == 32), "{ids:?}");
        assert_eq!(ids[2], event_id(&closed, 1));
    }
}
