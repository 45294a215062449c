//! THE loop: one thread that reads, decodes, scores, judges, publishes and settles, and shares nothing.
//!
//! It takes what is there: under load that is a full batch, at rest a batch of one, and no timer in between. The model
//! is loaded once a batch, so that no batch is scored by two. An error that only a new start mends ends the loop
//! without settling: the records come again.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use thiserror::Error;

use super::alerting::Alerting;
use super::inflight::Settling;
use super::judge::Judge;
use super::publish::{Judged, Occasion, Publisher};
use super::wait::Wait;
use super::{Shared, rows};
use crate::batch::Batch;
use crate::model::{Model, Workspace};
use crate::shutdown::Shutdown;
use crate::sink::anomaly::Score;
use crate::sink::{Receipt, Sink};
use crate::source::{Polled, Position, Source, SourceError};
use crate::telemetry::now_ms;
use crate::threshold::{Severity, Verdict};

/// How long an idle lane waits for a record.
const IDLE_WAIT: Duration = Duration::from_millis(100);
/// How long a lane with unsettled batches waits for a record before it looks after them.
const BUSY_WAIT: Duration = Duration::from_millis(2);

/// How often a busy lane stores offsets: often beside `kafka.commit_interval`, which says how much comes again after a
/// crash, and seldom beside its turns, for each store is a list and a note for each partition.
const STORE_INTERVAL: Duration = Duration::from_millis(20);
/// How often assignment, lag and the use of latents are shown.
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
    judge: Option<Box<Judge>>,
    /// When offsets were stored last, and the room for them.
    stored: Option<Instant>,
    positions: Vec<Position>,
    /// When assignment and lag, and the use of latents, were shown last.
    reported: Instant,
    latents_shown: Option<Instant>,
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
        Self {
            index,
            shared,
            source,
            sink,
            settling,
            publisher,
            alerting,
            judge: None,
            stored: None,
            positions: Vec::new(),
            reported: Instant::now(),
            latents_shown: None,
        }
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
        let now = Instant::now();
        self.show_progress(now);
        let Some(model) = self.shared.cell.load() else {
            return Ok(Step::Idle);
        };
        let used = self.judge.take();
        let swaps = used.as_ref().is_some_and(|used| used.model.version != model.version);
        let mut judge = Judge::new(&self.shared, model, used);
        if swaps {
            self.shared.metrics.model_swap_seconds.set(now.elapsed().as_secs_f64());
        }
        let step = self.turn(&mut judge, now);
        self.judge = Some(judge);
        let settled = self.settle();
        // Under load now and then; at once when there is nothing else to do, or nothing will come.
        let is_busy = matches!((&step, &settled), (Ok(Step::Read(_)), Ok(())));
        if !is_busy || is_due(self.stored, STORE_INTERVAL, now) {
            self.store(now);
        }
        settled?;
        step
    }

    fn turn(&mut self, judge: &mut Judge, now: Instant) -> Result<Step, LaneError> {
        let step = self.read(judge, now)?;
        let touched = judge.intake.touched.iter();
        self.alerting.follow(&self.settling, touched.map(|touched| (touched.partition, touched.epoch)));
        if !judge.intake.touched.is_empty() {
            judge.take_up(&self.shared, &self.settling);
            self.score(judge, now)?;
            if judge.intake.counts.n_consumed > 0 {
                let newest = judge.intake.batch.rows().last().map_or_else(now_ms, |row| row.time_ms);
                self.settling.inflight().push(judge.reached(), &judge.intake.receipt, newest);
            }
            self.publisher.metrics().add(&judge.intake.counts);
        }
        self.wait_for_room()?;
        Ok(step)
    }

    fn read(&mut self, judge: &mut Judge, now: Instant) -> Result<Step, LaneError> {
        let intake = &mut judge.intake;
        intake.clear(now);
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

    fn score(&mut self, judge: &mut Judge, now: Instant) -> Result<(), LaneError> {
        let metrics = self.publisher.metrics();
        metrics.all.batch_records.observe(judge.intake.counts.n_consumed as f64);
        if judge.intake.batch.is_empty() {
            return Ok(());
        }
        let began = Instant::now();
        judge.model.score(judge.intake.batch.values(), &mut judge.workspace);
        metrics.all.score_duration_seconds.observe(began.elapsed().as_secs_f64());
        rows::judge(&self.shared, &self.publisher, &mut self.alerting, judge)?;
        if is_due(self.latents_shown, REPORT_INTERVAL, now) {
            self.latents_shown = Some(now);
            metrics.all.latents_active_mean.set(judge.workspace.latents_active_mean());
        }
        let counts = &judge.intake.counts;
        self.shared.n_alerts.fetch_add(counts.n_alerts, Ordering::Relaxed);
        self.shared.n_shifts.fetch_add(self.alerting.take_shifts(), Ordering::Relaxed);
        self.shared.n_scored.fetch_add(counts.n_scored, Ordering::Relaxed);
        Ok(())
    }

    /// Settles what has been acknowledged.
    fn settle(&mut self) -> Result<(), LaneError> {
        self.sink.poll(Duration::ZERO);
        let metrics = self.publisher.metrics();
        let (now, latency) = (now_ms(), &metrics.all.end_to_end_latency_seconds);
        let mut inflight = self.settling.inflight();
        let settled = inflight.settle(|time_ms| latency.observe((now - time_ms).max(0) as f64 / 1000.0));
        metrics.inflight(inflight.len());
        settled.map_err(|reason| {
            metrics.delivery_failed();
            LaneError::Delivery(reason)
        })
    }

    /// Stores what is settled.
    fn store(&mut self, now: Instant) {
        self.stored = Some(now);
        let mut inflight = self.settling.inflight();
        let positions = inflight.take_settled(&mut self.positions);
        drop(inflight);
        if !positions.is_empty() {
            let n_late = self.source.store(positions);
            self.publisher.metrics().all.late_offset_stores_total.inc_by(n_late as u64);
        }
    }

    /// Waits while too many batches are unsettled.
    fn wait_for_room(&mut self) -> Result<(), LaneError> {
        let is_full = |lane: &Self| lane.settling.inflight().len() >= lane.shared.pipeline.inflight_max;
        if !is_full(self) {
            return Ok(());
        }
        let shared = self.shared.clone();
        let mut wait = Wait::new(&shared, self.index);
        while is_full(self) {
            wait.goes_on();
            self.show_progress(Instant::now());
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
            self.show_progress(Instant::now());
            self.sink.flush(Duration::from_millis(50));
            self.settle()?;
        }
        self.store(Instant::now());
        self.source.close();
        Ok(())
    }

    fn show_progress(&mut self, now: Instant) {
        let health = self.shared.health.lane(self.index);
        health.progress(now_ms());
        if self.source.has_joined() {
            health.joined();
        }
        if now.duration_since(self.reported) >= REPORT_INTERVAL {
            self.reported = now;
            let n_rebalances = self.settling.take_rebalances();
            self.publisher.assignment(self.settling.n_assigned(), n_rebalances, &self.source.lags());
        }
    }
}

/// Whether something that was done at `last`, if ever, is to be done again.
fn is_due(last: Option<Instant>, interval: Duration, now: Instant) -> bool {
    last.is_none_or(|last| now.duration_since(last) >= interval)
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
    let (latents, occasion) = (workspace.latents_of(0), Occasion::new(model));
    let judged = Judged { batch, row, score, latents, occasion: &occasion };
    let why = model.explain(batch.values().row(0), &workspace, 0, shared.output.features_max);
    publisher.anomaly(&judged, &why, None, &Receipt::default())
}
