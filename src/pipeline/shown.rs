//! What a lane lets people see beside its metrics: how high its scores are, and where its partitions stand.
//!
//! A few times a second, and with a batch that alerts; never for each record.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use super::Shared;
use super::judge::Judge;
use crate::record::Partition;
use crate::source::Position;
use crate::telemetry::view::PartitionView;

/// How often the highest score of a batch is shown.
const INTERVAL: Duration = Duration::from_millis(100);

/// What a lane has shown.
#[derive(Debug, Default)]
pub struct Shown {
    scores: Option<Instant>,
    settled: BTreeMap<Partition, i64>,
}

impl Shown {
    /// Shows the highest score over its threshold of the batch that `judge` has judged: now and then, and where it alerts.
    pub fn scores(&mut self, shared: &Shared, judge: &Judge, now: Instant) {
        let is_early = self.scores.is_some_and(|last| now.duration_since(last) < INTERVAL);
        if judge.live.is_empty() || is_early && judge.intake.counts.n_alerts == 0 {
            return;
        }
        self.scores = Some(now);
        let (rows, raw) = (judge.intake.batch.rows(), judge.workspace.raw());
        let runs = judge.live.chunk_by(|&i, &next| rows[i].id.partition == rows[next].id.partition);
        let ratio_of = |run: &[usize]| {
            let partition = judge.partitions.get(&rows[run[0]].id.partition)?;
            let highest = run.iter().fold(f64::NAN, |max, &i| raw[i].max(max));
            Some(highest / judge.model.calibration.raw(partition.threshold.z_at_alert()))
        };
        let highest = runs.filter_map(ratio_of).fold(f64::NAN, f64::max);
        if highest.is_finite() {
            shared.view.scored(highest);
        }
    }

    /// Notes up to where everything is settled.
    pub fn settled(&mut self, positions: &[Position]) {
        self.settled.extend(positions.iter().map(|position| (position.next.partition, position.next.offset)));
    }

    /// Shows the lane's partitions; `lags` names those it has.
    pub fn partitions(&mut self, shared: &Shared, lane: usize, judge: Option<&Judge>, lags: &[(Partition, i64)]) {
        self.settled.retain(|partition, _| lags.iter().any(|(of, _)| of == partition));
        let threshold = |partition: &Partition| {
            let judge = judge?;
            let raw = judge.model.calibration.raw(judge.partitions.get(partition)?.threshold.z_at_alert());
            raw.is_finite().then_some(raw)
        };
        let view = |(partition, lag): &(Partition, i64)| PartitionView {
            topic: shared.topics.name(partition.topic).to_owned(),
            partition: partition.number,
            lane,
            next_offset: self.settled.get(partition).copied(),
            lag: *lag,
            threshold: threshold(partition),
        };
        shared.view.reads(lane, lags.iter().map(view).collect());
    }
}
