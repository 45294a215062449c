//! One incident: what is known of it while it is open, and what is said of it when it changes.
//!
//! An incident never looks at the clock, and nothing of it depends on where a batch ends.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::record::RecordId;
use crate::score::FeatureReason;
use crate::threshold::Severity;

/// Features whose contributions an open incident adds up; the smallest beyond them are forgotten. Bounds its memory.
const FEATURES_KEPT: usize = 32;

/// When incidents open, join and close.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct IncidentConfig {
    /// Flagged records among the last `incidents.n` of a key that open an incident; 1 to `incidents.n`.
    pub m: u32,
    /// Records of a key among which `incidents.m` are looked for; 1 to 64.
    pub n: u32,
    /// Quiet records of the key after which a flagged one no longer joins. At most `incidents.close_records`.
    pub gap_records: u64,
    /// Event time since the key was last restless after which a flagged one no longer joins. At most
    /// `incidents.close_time`.
    #[serde(with = "humantime_serde")]
    pub gap_time: Duration,
    /// Quiet records of the key in a row that close its incident.
    pub close_records: u64,
    /// Event time without a restless record of the key that closes its incident.
    #[serde(with = "humantime_serde")]
    pub close_time: Duration,
    /// Keys of a partition that are remembered; beyond it the oldest incident is closed. At most 1,000,000.
    pub open_max: usize,
}

impl Default for IncidentConfig {
    fn default() -> Self {
        Self {
            m: 1,
            n: 1,
            gap_records: 64,
            gap_time: Duration::from_secs(60),
            close_records: 128,
            close_time: Duration::from_secs(300),
            open_max: 10_000,
        }
    }
}

impl IncidentConfig {
    /// Checks every key.
    ///
    /// # Errors
    /// One sentence for each key that is out of range.
    pub fn check(&self) -> Result<(), Vec<String>> {
        let mut wrong = Vec::new();
        let mut need = |holds: bool, message: String| {
            if !holds {
                wrong.push(message);
            }
        };
        need((1..=64).contains(&self.n), format!("n is {}, it must be from 1 to 64", self.n));
        need((1..=self.n.max(1)).contains(&self.m), format!("m is {}, it must be from 1 to incidents.n", self.m));
        need(self.close_records > 0, "close_records is 0, it must be at least 1".into());
        let ordered = self.gap_records <= self.close_records;
        need(ordered, format!("gap_records is {}, it must be at most incidents.close_records", self.gap_records));
        let ordered = self.gap_time <= self.close_time;
        let gap = humantime::format_duration(self.gap_time);
        need(ordered, format!("gap_time is {gap}, it must be at most incidents.close_time"));
        let bounded = (1..=1_000_000).contains(&self.open_max);
        need(bounded, format!("open_max is {}, it must be from 1 to 1000000", self.open_max));
        if wrong.is_empty() { Ok(()) } else { Err(wrong) }
    }
}

/// A record as a tracker sees it.
#[derive(Clone, Copy, Debug)]
pub struct Seen<'a> {
    /// Where it stands.
    pub id: RecordId,
    /// Its event time, milliseconds since the epoch.
    pub time_ms: i64,
    /// Its Kafka key; none, and likewise an empty one, is the partition.
    pub key: Option<&'a [u8]>,
    /// Its score over the threshold.
    pub ratio: f64,
    /// Its p-value.
    pub p_value: f64,
    /// Whether its p-value is at most three times the target alert rate: it keeps an open incident from closing.
    pub restless: bool,
    /// Whether it confirms that the scores of the partition have shifted for good.
    pub shifted: bool,
    /// What is known of it if it is anomalous and nothing withholds it.
    pub flagged: Option<Flagged<'a>>,
}

/// An anomaly, as far as incidents go by it.
#[derive(Clone, Copy, Debug)]
pub struct Flagged<'a> {
    /// Its severity.
    pub severity: Severity,
    /// The features that explain it.
    pub features: &'a [FeatureReason],
}

/// What an incident is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// One key.
    Entity,
    /// A partition: records without a key, or most of its records whatever their keys.
    Partition,
    /// A partition whose scores have shifted for good.
    Shift,
}

/// How far an incident has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// Open.
    Open,
    /// Open, and worse than it began.
    Escalated,
    /// Over.
    Closed,
}

/// Why an incident was closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Cause {
    /// Enough quiet records in a row.
    Records,
    /// Nothing restless for long enough.
    Time,
    /// A flagged record came too late to join; it may have opened the next one.
    Gap,
    /// It is part of an incident of its whole partition now.
    Merged,
    /// Too many were open.
    Displaced,
}

/// What an anomaly says of its incident.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Summary {
    /// The record that opened it; with detector and topic it makes the incident's id.
    pub opened: RecordId,
    /// How far it has come.
    pub state: State,
    /// Event time of that record, milliseconds since the epoch.
    pub start_ms: i64,
    /// Flagged records in it so far.
    pub n_records: u64,
    /// Largest ratio so far.
    pub peak_ratio: f64,
}

/// A change of an incident.
#[derive(Clone, Debug, PartialEq)]
pub struct Event {
    /// The incident after the change.
    pub summary: Summary,
    /// Changes before this one.
    pub sequence: u32,
    /// What the incident is about.
    pub kind: Kind,
    /// Its key; none: the partition.
    pub key: Option<Vec<u8>>,
    /// Why it was closed, if it was.
    pub cause: Option<Cause>,
    /// Event time of the change, milliseconds since the epoch.
    pub time_ms: i64,
    /// Event time of the last flagged record in it, milliseconds since the epoch.
    pub last_ms: i64,
    /// Worst severity so far.
    pub severity: Severity,
    /// The record with the largest ratio.
    pub worst: RecordId,
    /// Its event time, milliseconds since the epoch.
    pub worst_ms: i64,
    /// Its p-value.
    pub p_value: f64,
    /// Mean contribution of each feature over the records in it, largest first.
    pub features: Vec<(String, f64)>,
}

impl Event {
    /// One sentence for a person.
    pub fn in_words(&self) -> String {
        let of = match self.kind {
            Kind::Entity => self.key.as_deref().map(String::from_utf8_lossy).unwrap_or_default().into_owned(),
            Kind::Partition => format!("partition {}", self.summary.opened.partition),
            Kind::Shift => format!("partition {}, whose scores have shifted for good", self.summary.opened.partition),
        };
        let state = match self.summary.state {
            State::Open => "an incident begins",
            State::Escalated => "the incident becomes worse",
            State::Closed => "the incident is over",
        };
        let (n, peak) = (self.summary.n_records, self.summary.peak_ratio);
        let records = if n == 1 { "record" } else { "records" };
        let most = self.features.first().map(|(name, _)| format!(", mostly {name}")).unwrap_or_default();
        format!("{of}: {state}; {n} anomalous {records}, at most {peak:.1} times the threshold{most}")
    }
}

/// An open incident.
#[derive(Clone, Debug)]
pub(super) struct Incident {
    event: Event,
    sums: Vec<(String, f64)>,
}

impl Incident {
    /// The incident that a record opens.
    pub(super) fn new(seen: &Seen<'_>, flagged: Flagged<'_>, key: &[u8], kind: Kind) -> Self {
        let summary = Summary {
            opened: seen.id,
            state: State::Open,
            start_ms: seen.time_ms,
            n_records: 1,
            peak_ratio: seen.ratio,
        };
        let event = Event {
            summary,
            sequence: 0,
            kind,
            key: (!key.is_empty()).then(|| key.to_vec()),
            cause: None,
            time_ms: seen.time_ms,
            last_ms: seen.time_ms,
            severity: flagged.severity,
            worst: seen.id,
            worst_ms: seen.time_ms,
            p_value: seen.p_value,
            features: Vec::new(),
        };
        let mut incident = Self { event, sums: Vec::new() };
        incident.add(flagged.features);
        incident
    }

    /// Adds a flagged record. Returns whether the incident has become worse: severity rose, or the shift is confirmed.
    pub(super) fn join(&mut self, seen: &Seen<'_>, flagged: Flagged<'_>) -> bool {
        let event = &mut self.event;
        event.summary.n_records += 1;
        event.last_ms = event.last_ms.max(seen.time_ms);
        if seen.ratio > event.summary.peak_ratio {
            event.summary.peak_ratio = seen.ratio;
            (event.worst, event.worst_ms, event.p_value) = (seen.id, seen.time_ms, seen.p_value);
        }
        let confirms = seen.shifted && event.kind != Kind::Shift;
        let worsens = flagged.severity > event.severity || confirms;
        event.severity = event.severity.max(flagged.severity);
        if confirms {
            event.kind = Kind::Shift;
        }
        if worsens {
            event.summary.state = State::Escalated;
        }
        self.add(flagged.features);
        worsens
    }

    /// What an anomaly in it says of it.
    pub(super) fn summary(&self) -> Summary {
        self.event.summary
    }

    /// The next thing to say of it, as of `time_ms`.
    pub(super) fn tell(&mut self, time_ms: i64) -> Event {
        let n = self.event.summary.n_records as f64;
        let features = self.sums.iter().map(|(name, sum)| (name.clone(), sum / n)).collect();
        let event = Event { time_ms, features, ..self.event.clone() };
        self.event.sequence += 1;
        event
    }

    /// The last thing to say of it, as of `time_ms`.
    pub(super) fn close(mut self, cause: Cause, time_ms: i64) -> Event {
        self.event.summary.state = State::Closed;
        self.event.cause = Some(cause);
        self.tell(time_ms)
    }

    fn add(&mut self, features: &[FeatureReason]) {
        for reason in features {
            match self.sums.iter_mut().find(|(name, _)| *name == reason.name) {
                Some((_, sum)) => *sum += reason.contribution,
                None => self.sums.push((reason.name.clone(), reason.contribution)),
            }
        }
        // The sort is stable, so that equal sums keep the order in which they came.
        self.sums.sort_by(|(_, a), (_, b)| b.total_cmp(a));
        self.sums.truncate(FEATURES_KEPT);
    }
}
