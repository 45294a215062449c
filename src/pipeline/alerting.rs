//! A row's way after its verdict: what is withheld, which incident it belongs to, and what is published of it.
//!
//! Each partition has a tracker of its own, which goes with it. An ordinary row costs a look-up only while something of
//! its partition is open.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::Shared;
use super::inflight::Settling;
use super::lane::LaneError;
use super::live::Tuning;
use super::publish::{Judged, Publisher};
use crate::alert::{Alert, Event, Flagged, Limit, Seen, Summary, Tracker, Withheld};
use crate::record::Partition;
use crate::score::Explanation;
use crate::sink::Receipt;
use crate::sink::incident::IncidentRef;
use crate::telemetry::BatchCounts;
use crate::threshold::{Severity, Verdict};

/// How many times the target alert rate a p-value may be and still keep an incident open (MODEL 4.4: 3α).
const RESTLESS: f64 = 3.0;

/// The tracker of one assignment of a partition.
struct Tracked {
    epoch: u64,
    tracker: Tracker,
}

/// What a lane knows beyond the verdicts.
pub struct Alerting {
    shared: Shared,
    partitions: BTreeMap<Partition, Tracked>,
    limit: Limit,
    tuning: Arc<Tuning>,
    /// The rebalance after which partitions that had left were forgotten.
    generation: u64,
    events: Vec<Event>,
    n_open: i64,
    n_shifts: u64,
}

/// What an incident needs to know of a judged row.
#[derive(Clone, Copy)]
pub struct Outcome<'a> {
    /// The verdict.
    pub verdict: &'a Verdict,
    /// The target alert rate.
    pub target: f64,
    /// Acknowledgements of the batch.
    pub receipt: &'a Receipt,
}

impl Alerting {
    /// What a lane knows at first.
    pub fn new(shared: &Shared) -> Self {
        let (tuning, shared) = (shared.live.tuning(), shared.clone());
        let limit = Limit::new(tuning.anomalies_per_minute, shared.pipeline.lanes);
        let (partitions, events) = (BTreeMap::new(), Vec::new());
        Self { shared, partitions, limit, tuning, generation: 0, events, n_open: 0, n_shifts: 0 }
    }

    /// Takes up the settings in force and the partitions of a batch with their epochs, and forgets those that have left;
    /// once a turn, before its rows.
    pub fn follow(&mut self, settling: &Settling, batch: impl Iterator<Item = (Partition, u64)>) {
        let generation = settling.generation();
        if self.generation != generation {
            self.generation = generation;
            let inflight = settling.inflight();
            self.partitions.retain(|&partition, tracked| inflight.epoch(partition) == tracked.epoch);
            drop(inflight);
            self.show();
        }
        self.adopt(self.shared.live.tuning());
        for (partition, epoch) in batch {
            let fresh = || Tracked { epoch, tracker: Tracker::new(self.tuning.incidents.clone()) };
            self.partitions.entry(partition).or_insert_with(fresh);
        }
    }

    /// Goes on with other settings; open incidents stay open until the new ones close them.
    fn adopt(&mut self, tuning: Arc<Tuning>) {
        if Arc::ptr_eq(&tuning, &self.tuning) {
            return;
        }
        if tuning.anomalies_per_minute != self.tuning.anomalies_per_minute {
            self.limit = Limit::new(tuning.anomalies_per_minute, self.shared.pipeline.lanes);
        }
        for tracked in self.partitions.values_mut() {
            tracked.tracker.adopt(&tuning.incidents);
        }
        self.tuning = tuning;
    }

    /// Whether an ordinary row of this partition means anything to its tracker.
    pub fn is_active(&self, partition: Partition) -> bool {
        self.partitions.get(&partition).is_some_and(|tracked| tracked.tracker.is_active())
    }

    /// Shifts confirmed since the last call.
    pub fn take_shifts(&mut self) -> u64 {
        std::mem::take(&mut self.n_shifts)
    }

    /// Takes a judged row: publishes the anomaly unless it is withheld, and every change of an incident.
    ///
    /// Errors: it can't be handed to the producer.
    pub fn row(
        &mut self,
        publisher: &Publisher,
        judged: &Judged<'_, '_>,
        outcome: Outcome<'_>,
        counts: &mut BatchCounts,
        explain: impl FnOnce() -> Explanation,
    ) -> Result<(), LaneError> {
        let (summary, why) = self.take(judged, outcome, counts, explain);
        self.tell(publisher, outcome.receipt)?;
        if outcome.verdict.shifted {
            self.n_shifts += 1;
            let (partition, offset) = (judged.row().id.partition, judged.row().id.offset);
            tracing::warn!(%partition, offset, "the scores of a partition have shifted for good");
        }
        let Some((severity, why)) = why else { return Ok(()) };
        if !self.limit.admits(judged.row().time_ms) {
            counts.n_withheld[Withheld::RateLimit as usize] += 1;
            return Ok(());
        }
        let at = Severity::ALL.iter().position(|known| *known == severity);
        counts.n_anomalies[at.expect("every severity is in the list")] += 1;
        let topic = self.shared.topics.name(judged.row().id.partition.topic);
        let incident = summary.map(|summary| IncidentRef::new(&summary, topic, &self.shared.detector));
        publisher.anomaly(judged, &why, incident.as_ref(), outcome.receipt)
    }

    /// Takes a row that was scored before, and publishes nothing: rewinding rebuilds what is open.
    pub fn silent(&mut self, judged: &Judged<'_, '_>, outcome: Outcome<'_>, explain: impl FnOnce() -> Explanation) {
        let mut uncounted = BatchCounts::default();
        if self.take(judged, outcome, &mut uncounted, explain).1.is_some() {
            self.limit.admits(judged.row().time_ms);
        }
        self.events.clear();
    }

    /// Closes what has been quiet for long enough; once a batch.
    ///
    /// Errors: it can't be handed to the producer.
    pub fn sweep(&mut self, publisher: &Publisher, receipt: &Receipt) -> Result<(), LaneError> {
        for tracked in self.partitions.values_mut() {
            tracked.tracker.sweep(&mut self.events);
        }
        self.tell(publisher, receipt)?;
        self.show();
        Ok(())
    }

    /// Shows the row to rules and tracker. Returns its incident, and its explanation if it is to be published.
    fn take(
        &mut self,
        judged: &Judged<'_, '_>,
        outcome: Outcome<'_>,
        counts: &mut BatchCounts,
        explain: impl FnOnce() -> Explanation,
    ) -> (Option<Summary>, Option<(Severity, Explanation)>) {
        let (row, score) = (judged.row(), judged.score);
        let key = judged.batch.carried(row).key;
        let mut why = score.severity.map(|severity| (severity, explain()));
        if let Some((severity, reasons)) = &why {
            let entity = key.map(String::from_utf8_lossy);
            let (entity, features) = (entity.as_deref(), &*reasons.features);
            let alert = Alert { entity, time_ms: row.time_ms, severity: *severity, features };
            if let Some(ruling) = self.shared.live.rules().withhold(&alert) {
                counts.n_withheld[ruling.withheld as usize] += 1;
                why = None;
            }
        }
        let seen = Seen {
            id: row.id,
            time_ms: row.time_ms,
            key,
            ratio: score.ratio,
            p_value: score.p_value,
            restless: outcome.verdict.anomalous || score.p_value <= RESTLESS * outcome.target,
            shifted: outcome.verdict.shifted,
            flagged: why.as_ref().map(|(severity, why)| Flagged { severity: *severity, features: &why.features }),
        };
        let tracked = self.partitions.get_mut(&row.id.partition).expect("the batch's partitions are followed");
        (tracked.tracker.observe(&seen, &mut self.events), why)
    }

    /// Publishes what has changed.
    fn tell(&mut self, publisher: &Publisher, receipt: &Receipt) -> Result<(), LaneError> {
        for event in self.events.drain(..) {
            publisher.incident(&event, receipt)?;
        }
        Ok(())
    }

    /// Shows how many incidents are open.
    fn show(&mut self) {
        let n_open = self.partitions.values().map(|tracked| tracked.tracker.n_open() as i64).sum();
        if n_open == self.n_open {
            return;
        }
        self.shared.metrics.incidents_open.add(n_open - self.n_open);
        self.n_open = n_open;
    }
}

impl Drop for Alerting {
    fn drop(&mut self) {
        self.shared.metrics.incidents_open.sub(self.n_open);
    }
}
