//! A lane's share of the metrics: children looked up once, counts added up locally, handed over once a batch.

use std::cell::Cell;
use std::sync::Arc;

use prometheus::{IntCounter, IntGauge};

use super::tally::Counted;
use super::{Metrics, P_VALUES, RATIO};
use crate::alert::Withheld;
use crate::decode::Reject;
use crate::record::{Partition, Topics};
use crate::sink::{self, Channel};
use crate::threshold::Severity;

/// Why a record is passed over, as in the metric's label.
pub const SKIP_REASONS: [&str; 2] = ["tombstone", "insufficient"];

/// What a lane counted over one batch.
#[derive(Clone, Copy, Debug, Default)]
pub struct BatchCounts {
    /// Records read.
    pub n_consumed: u64,
    /// Records read again that were settled before.
    pub n_rewound: u64,
    /// Their payload bytes.
    pub n_bytes: u64,
    /// Tombstones among them.
    pub n_tombstones: u64,
    /// Records with too few observed values to be scored.
    pub n_insufficient: u64,
    /// Fields that are not features.
    pub n_unknown: u64,
    /// Rejected records, by the position of the reason in [`Reject::REASONS`].
    pub n_rejected: [u64; Reject::REASONS.len()],
    /// Records scored.
    pub n_scored: u64,
    /// Missing values of the scored records.
    pub n_missing: u64,
    /// Clipped values of the scored records.
    pub n_clipped: u64,
    /// Anomalous records, published or not.
    pub n_alerts: u64,
    /// Anomalies, by the position of the severity in [`Severity::ALL`].
    pub n_anomalies: [u64; Severity::ALL.len()],
    /// Anomalies that were withheld, by the position of the reason in [`Withheld::ALL`].
    pub n_withheld: [u64; Withheld::ALL.len()],
}

/// The metrics that one lane updates.
pub struct LaneMetrics {
    /// The daemon's metrics.
    pub all: Arc<Metrics>,
    rejected: [IntCounter; Reject::REASONS.len()],
    skipped: [IntCounter; 2],
    anomalies: [IntCounter; Severity::ALL.len()],
    withheld: [IntCounter; Withheld::ALL.len()],
    inflight: IntGauge,
    ratios: Counted<{ RATIO.len() }>,
    p_values: Counted<{ P_VALUES.len() }>,
    produced: [Option<IntCounter>; Channel::ALL.len()],
    n_produced: [Cell<u64>; Channel::ALL.len()],
    n_assigned: i64,
    lagging: Vec<Partition>,
}

impl LaneMetrics {
    /// Looks up what lane `lane` updates, so that every label exists from the start.
    pub fn new(all: Arc<Metrics>, lane: usize, output: &sink::Config) -> Self {
        let of_topic = |topic: &str| all.records_produced_total.with_label_values(&[topic]);
        for channel in Channel::ALL {
            all.produce_errors_total.with_label_values(&[reason_of(channel)]);
        }
        all.produce_errors_total.with_label_values(&["delivery"]);
        Self {
            produced: Channel::ALL.map(|channel| output.topic(channel).map(of_topic)),
            n_produced: Default::default(),
            rejected: Reject::REASONS.map(|reason| all.records_rejected_total.with_label_values(&[reason])),
            skipped: SKIP_REASONS.map(|reason| all.records_skipped_total.with_label_values(&[reason])),
            anomalies: Severity::ALL.map(|severity| all.anomalies_total.with_label_values(&[severity.as_str()])),
            withheld: Withheld::ALL.map(|reason| all.alerts_suppressed_total.with_label_values(&[reason.as_str()])),
            inflight: all.inflight_batches.with_label_values(&[&lane.to_string()]),
            ratios: all.score_ratio.local(),
            p_values: all.p_value.local(),
            n_assigned: 0,
            lagging: Vec::new(),
            all,
        }
    }

    /// Counts one record's score over its threshold, and its p-value; handed over with the batch.
    pub fn judged(&self, ratio: f64, p_value: f64) {
        self.ratios.count(ratio);
        self.p_values.count(p_value);
    }

    /// Counts a message handed to the producer; handed over with the batch.
    pub fn produced(&self, channel: Channel) {
        let n = &self.n_produced[channel as usize];
        n.set(n.get() + 1);
    }

    /// Counts a message that the producer could not take or deliver.
    pub fn produce_error(&self, channel: Channel) {
        self.all.produce_errors_total.with_label_values(&[reason_of(channel)]).inc();
    }

    /// Counts a batch of which a message was not delivered.
    pub fn delivery_failed(&self) {
        self.all.produce_errors_total.with_label_values(&["delivery"]).inc();
    }

    /// Shows how many batches are not settled.
    pub fn inflight(&self, n: usize) {
        self.inflight.set(i64::try_from(n).unwrap_or(i64::MAX));
    }

    /// Shows which partitions the lane has now, and how far it lags behind on each.
    pub fn assignment(&mut self, topics: &Topics, n_assigned: i64, n_rebalances: u64, lags: &[(Partition, i64)]) {
        self.all.partitions_assigned.add(n_assigned - self.n_assigned);
        self.n_assigned = n_assigned;
        self.all.rebalances_total.inc_by(n_rebalances);
        let gauge = &self.all.consumer_lag_records;
        for gone in self.lagging.iter().filter(|&&partition| lags.iter().all(|(of, _)| *of != partition)) {
            // Another lane of this process may have taken it over and shown it already: then there is nothing to do.
            let _ = gauge.remove_label_values(&[topics.name(gone.topic), &gone.number.to_string()]);
        }
        self.lagging.clear();
        for &(partition, lag) in lags {
            gauge.with_label_values(&[topics.name(partition.topic), &partition.number.to_string()]).set(lag);
            self.lagging.push(partition);
        }
    }

    /// Hands the counts of one batch over.
    pub fn add(&self, counts: &BatchCounts) {
        let all = &self.all;
        let add = |counter: &IntCounter, n: u64| {
            if n > 0 {
                counter.inc_by(n);
            }
        };
        add(&all.records_consumed_total, counts.n_consumed);
        add(&all.records_rewound_total, counts.n_rewound);
        add(&all.consumed_bytes_total, counts.n_bytes);
        add(&all.fields_unknown_total, counts.n_unknown);
        add(&all.records_scored_total, counts.n_scored);
        add(&all.values_missing_total, counts.n_missing);
        add(&all.values_clipped_total, counts.n_clipped);
        add(&self.skipped[0], counts.n_tombstones);
        add(&self.skipped[1], counts.n_insufficient);
        self.rejected.iter().zip(counts.n_rejected).for_each(|(counter, n)| add(counter, n));
        self.anomalies.iter().zip(counts.n_anomalies).for_each(|(counter, n)| add(counter, n));
        self.withheld.iter().zip(counts.n_withheld).for_each(|(counter, n)| add(counter, n));
        for (counter, n) in self.produced.iter().zip(&self.n_produced) {
            counter.iter().for_each(|counter| add(counter, n.replace(0)));
        }
        self.ratios.hand_over();
        self.p_values.hand_over();
    }
}

fn reason_of(channel: Channel) -> &'static str {
    match channel {
        Channel::Anomalies => "anomalies",
        Channel::Scores => "scores",
        Channel::DeadLetters => "dead_letters",
        Channel::Incidents => "incidents",
    }
}
