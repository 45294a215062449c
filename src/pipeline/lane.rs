//! THE loop: one thread that reads, decodes, scores, judges, publishes and settles, and shares nothing.
//!
//! It takes what is there: under load that is a full batch, at rest a batch of one, and no timer in between. The model
//! is loaded once a batch, so that no batch is scored by two. An error that only a new start mends ends the loop
//! without settling: the records come again.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use ndarray::Axis;
use thiserror::Error;

use super::Shared;
use super::alerting::{Alerting, Outcome};
use super::inflight::{Reached, Settling};
use super::intake::Touched;
use super::judge::Judge;
use super::partition::Partition;
use super::publish::{Judged, Publisher};
use crate::batch::Batch;
use crate::model::{Model, Workspace};
use crate::record::rfc3339;
use crate::shutdown::Shutdown;
use crate::sink::anomaly::Score;
use crate::sink::{Receipt, Sink};
use crate::source::{Polled, Position, Source, SourceError};
use crate::telemetry::now_ms;
use crate::threshold::{Severity, Verdict};
use crate::train;

/// How long an idle lane waits for a record.
const IDLE_WAIT: Duration = Duration::from_millis(100);
/// How long a lane with unsettled batches waits for a record before it looks after them.
const BUSY_WAIT: Duration = Duration::from_millis(2);

/// How often assignment and lag are shown.
const REPORT_INTERVAL: Duration = Duration::from_secs(1);

/// Why a lane ends.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum LaneError {
    /// The consumer can't go on.
    #[error("reading failed: {0}")]
    Source(String),
    /// A message can't be handed to the producer.
    #[error("publishing failed: {0}")]
    Sink(String),
    /// A message was not acknowledged in time, or was refused.
    #[error("a record was not delivered, nothing after it is settled: {0}")]
    Delivery(String),
}

/// What one turn of the loop did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// So many records were read.
    Read(usize),
    /// The source has ended, or there is no model yet.
    Idle,
    /// The source has ended.
    End,
}

/// One lane.
pub struct Lane {
    index: usize,
    shared: Shared,
    source: Box<dyn Source>,
    sink: Arc<dyn Sink>,
    settling: Arc<Settling>,
    publisher: Publisher,
    alerting: Alerting,
    judge: Option<Judge>,
    reported: Instant,
}

impl Lane {
    /// A lane that reads from `source` and writes to `sink`; `settling` is what the source tells of rebalances.
    pub fn new(
        index: usize,
        shared: Shared,
        source: Box<dyn Source>,
        sink: Arc<dyn Sink>,
        settling: Arc<Settling>,
    ) -> Self {
        let publisher = Publisher::new(&shared, index, Arc::clone(&sink));
        let alerting = Alerting::new(&shared);
        Self { index, shared, source, sink, settling, publisher, alerting, judge: None, reported: Instant::now() }
    }

    /// Runs until the shutdown begins, then drains.
    ///
    /// Errors: a [`LaneError`]; what was not settled comes again after a new start.
    pub fn run(mut self, shutdown: &Shutdown) -> Result<(), LaneError> {
        while !shutdown.begun() {
            if self.step()? == Step::End {
                break;
            }
        }
        self.drain()
    }

    /// One turn: reads a batch, scores it, publishes, and settles what has been acknowledged.
    ///
    /// Errors: a [`LaneError`].
    pub fn step(&mut self) -> Result<Step, LaneError> {
        self.show_progress();
        let Some(model) = self.shared.cell.load() else {
            return Ok(Step::Idle);
        };
        let used = self.judge.take();
        let swaps = used.as_ref().is_some_and(|used| used.model.version != model.version);
        let began = swaps.then(Instant::now);
        let mut judge = Judge::new(&self.shared, model, used);
        if let Some(began) = began {
            self.shared.metrics.model_swap_seconds.set(began.elapsed().as_secs_f64());
        }
        let step = self.turn(&mut judge);
        self.judge = Some(judge);
        self.settle()?;
        step
    }

    fn turn(&mut self, judge: &mut Judge) -> Result<Step, LaneError> {
        let step = self.read(judge)?;
        let touched = judge.intake.touched.iter();
        self.alerting.follow(&self.settling, touched.map(|touched| (touched.partition, touched.epoch)));
        if !judge.intake.touched.is_empty() {
            judge.take_up(&self.shared, &self.settling);
            self.score(judge)?;
            let newest = judge.intake.batch.rows().last().map_or_else(now_ms, |row| row.time_ms);
            let reached = reached(judge);
            if judge.intake.counts.n_consumed > 0 {
                self.settling.inflight().push(reached, judge.intake.receipt.clone(), newest);
            }
            self.publisher.metrics().add(&judge.intake.counts);
        }
        self.wait_for_room()?;
        Ok(step)
    }

    fn read(&mut self, judge: &mut Judge) -> Result<Step, LaneError> {
        let intake = &mut judge.intake;
        intake.clear();
        let wait = if self.settling.inflight().is_empty() { IDLE_WAIT } else { BUSY_WAIT };
        let (settling, publisher) = (&self.settling, &self.publisher);
        let polled = self.source.poll(self.shared.pipeline.rows_max, wait, &mut |raw| {
            intake.take(&raw, settling, publisher);
        });
        if let Some(failure) = intake.take_failure() {
            return Err(failure);
        }
        let health = self.shared.health.lane(self.index);
        match polled {
            Ok(Polled::End) => Ok(Step::End),
            Ok(Polled::Records(n)) => {
                if (n > 0 || self.source.has_recovered()) && health.set_trouble(None) {
                    tracing::info!(lane = self.index, "reading again");
                }
                Ok(if n == 0 { Step::Idle } else { Step::Read(n) })
            }
            Err(SourceError::Retry(trouble)) => {
                if health.set_trouble(Some(trouble.clone())) {
                    tracing::warn!(lane = self.index, trouble, "reading is interrupted; it goes on by itself");
                }
                Ok(Step::Idle)
            }
            Err(SourceError::Fatal(reason)) => Err(LaneError::Source(reason)),
        }
    }

    fn score(&mut self, judge: &mut Judge) -> Result<(), LaneError> {
        let Judge { model, partitions, workspace, intake } = judge;
        let metrics = self.publisher.metrics();
        metrics.all.batch_records.observe(intake.counts.n_consumed as f64);
        if intake.batch.is_empty() {
            return Ok(());
        }
        let began = Instant::now();
        model.score(intake.batch.values(), workspace);
        metrics.all.score_duration_seconds.observe(began.elapsed().as_secs_f64());

        let scored_time = rfc3339(now_ms());
        let model_ref = Publisher::model_ref(model);
        let target = self.shared.target(model);
        let (mut limit, mut live) = (f64::NAN, Vec::with_capacity(intake.batch.rows().len()));
        for (i, row) in intake.batch.rows().iter().enumerate() {
            let (raw, z) = (workspace.raw()[i], workspace.z()[i]);
            let partition = partitions.get_mut(&row.id.partition).expect("the batch's partitions are taken up");
            let silent = partition.is_silent(row.id);
            live.extend((!silent).then_some(i));
            if z.is_nan() {
                intake.counts.n_insufficient += u64::from(!silent);
                continue;
            }
            let learnt = silent && train::may_have_learnt(model, row.id);
            let Some(verdict) = partition.judge(row.id, z, learnt) else { continue };
            let severity = verdict.anomalous.then(|| Severity::of(verdict.p_value, target));
            limit = model.calibration.raw(verdict.z_at_alert);
            let score = Score::new(raw, limit, z, &verdict, severity);
            let latents = workspace.latents_of(i);
            let judged =
                Judged { batch: &intake.batch, row, score, latents, model: &model_ref, scored_time: &scored_time };
            if !silent {
                intake.counts.n_scored += 1;
                intake.counts.n_alerts += u64::from(verdict.anomalous);
                metrics.judged(score.ratio, verdict.p_value);
                self.publisher.score(&judged, &intake.receipt)?;
            }
            if verdict.anomalous || verdict.shifted || self.alerting.is_active(row.id.partition) {
                let outcome = Outcome { verdict: &verdict, target, receipt: &intake.receipt };
                let values = intake.batch.values();
                let why = || model.explain(values.row(i), workspace, i, self.shared.output.features_max);
                if silent {
                    self.alerting.silent(&judged, outcome, why);
                } else {
                    self.alerting.row(&self.publisher, &judged, outcome, &mut intake.counts, why)?;
                }
            }
        }
        self.alerting.sweep(&self.publisher, &intake.receipt)?;
        if limit.is_finite() {
            metrics.all.threshold.set(limit);
        }
        // What is scored again was counted when it came.
        let counts = if live.len() == intake.batch.rows().len() {
            workspace.counts()
        } else {
            model.preprocessor.count(intake.batch.values().select(Axis(0), &live).view())
        };
        (intake.counts.n_missing, intake.counts.n_clipped) = (counts.missing, counts.clipped);
        metrics.all.latents_active_mean.set(workspace.latents_active_mean());
        self.shared.n_alerts.fetch_add(intake.counts.n_alerts, Ordering::Relaxed);
        self.shared.n_shifts.fetch_add(self.alerting.take_shifts(), Ordering::Relaxed);
        self.shared.n_scored.fetch_add(intake.counts.n_scored, Ordering::Relaxed);
        Ok(())
    }

    /// Settles what has been acknowledged.
    fn settle(&mut self) -> Result<(), LaneError> {
        self.sink.poll(Duration::ZERO);
        let mut inflight = self.settling.inflight();
        let settled = inflight.settle().map_err(|reason| {
            self.publisher.metrics().delivery_failed();
            LaneError::Delivery(reason)
        })?;
        let n_inflight = inflight.len();
        drop(inflight);
        let metrics = self.publisher.metrics();
        metrics.inflight(n_inflight);
        if !settled.positions.is_empty() {
            let n_late = self.source.store(&settled.positions);
            metrics.all.late_offset_stores_total.inc_by(n_late as u64);
        }
        let now = now_ms();
        for time_ms in settled.times_ms {
            metrics.all.end_to_end_latency_seconds.observe((now - time_ms).max(0) as f64 / 1000.0);
        }
        Ok(())
    }

    /// Waits while too many batches are unsettled.
    fn wait_for_room(&mut self) -> Result<(), LaneError> {
        while self.settling.inflight().len() >= self.shared.pipeline.inflight_max {
            self.show_progress();
            self.sink.poll(Duration::from_millis(5));
            self.settle()?;
        }
        Ok(())
    }

    /// Waits for the acknowledgements of what was read, settles, commits and leaves the group.
    fn drain(mut self) -> Result<(), LaneError> {
        let deadline = Instant::now() + self.shared.pipeline.drain_timeout;
        self.settle()?;
        while !self.settling.inflight().is_empty() {
            if Instant::now() >= deadline {
                tracing::warn!(lane = self.index, "not every output was acknowledged in time; its records come again");
                break;
            }
            self.show_progress();
            self.sink.flush(Duration::from_millis(50));
            self.settle()?;
        }
        self.source.close();
        Ok(())
    }

    fn show_progress(&mut self) {
        let health = self.shared.health.lane(self.index);
        health.progress(now_ms());
        if self.source.has_joined() {
            health.joined();
        }
        if self.reported.elapsed() >= REPORT_INTERVAL {
            self.reported = Instant::now();
            let n_rebalances = self.settling.take_rebalances();
            self.publisher.assignment(self.settling.n_assigned(), n_rebalances, &self.source.lags());
        }
    }
}

/// Where reading goes on in the partitions of the batch.
fn reached(judge: &Judge) -> Vec<Reached> {
    let of = |touched: &Touched| {
        let metadata = judge.partitions.get(&touched.partition).map(Partition::note).unwrap_or_default();
        Some(Reached { position: Position { next: touched.next?, metadata: metadata.into() }, epoch: touched.epoch })
    };
    judge.intake.touched.iter().filter_map(of).collect()
}

/// Publishes the anomaly record of the first row of `batch`, whatever its score; without a `verdict` it is judged by the
/// model's calibration. A row with too few observed values publishes nothing.
///
/// Errors: it can't be handed to the sink.
pub fn explain(
    shared: &Shared,
    model: &Model,
    batch: &Batch,
    verdict: Option<Verdict>,
    publisher: &Publisher,
) -> Result<(), LaneError> {
    let mut workspace = Workspace::new();
    model.score(batch.values(), &mut workspace);
    let mut threshold = shared.threshold_of(model);
    let (Some(row), false) = (batch.rows().first(), workspace.z()[0].is_nan()) else { return Ok(()) };
    let verdict = verdict.unwrap_or_else(|| threshold.judge(workspace.z()[0]));
    let (raw, limit) = (workspace.raw()[0], model.calibration.raw(verdict.z_at_alert));
    let severity = verdict.anomalous.then(|| Severity::of(verdict.p_value, shared.target(model)));
    let z = workspace.z()[0];
    let score = Score::new(raw, limit, z, &verdict, severity);
    let (latents, model_ref, scored_time) = (workspace.latents_of(0), Publisher::model_ref(model), rfc3339(now_ms()));
    let judged = Judged { batch, row, score, latents, model: &model_ref, scored_time: &scored_time };
    let why = model.explain(batch.values().row(0), &workspace, 0, shared.output.features_max);
    publisher.anomaly(&judged, &why, None, &Receipt::default())
}
