//! THE loop: one thread that reads, decodes, scores, judges, publishes and settles, and shares nothing.
//!
//! It takes what is there: under load that is a full batch, at rest a batch of one, and no timer in between. The model
//! is loaded once a batch, so that no batch is scored by two. An error that only a new start mends ends the loop
//! without settling: the records come again. What exactly once adds is in `exactly_once.rs`.

mod exactly_once;

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use thiserror::Error;

use super::alerting::Alerting;
use super::inflight::Settling;
use super::judge::Judge;
use super::publish::{Judged, Occasion, Publisher};
use super::shown::Shown;
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
    /// With exactly once: what was sent since the last commit is to be aborted, and its records are to be read again.
    #[error("a transaction failed: {0}")]
    Aborted(String),
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
    /// How often offsets are stored, or committed with what was sent.
    store_interval: Duration,
    /// When that was done last, and the room for them.
    stored: Option<Instant>,
    positions: Vec<Position>,
    /// When assignment and lag, and the use of latents, were shown last.
    reported: Instant,
    latents_shown: Option<Instant>,
    shown: Shown,
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
            store_interval: STORE_INTERVAL,
            stored: None,
            positions: Vec::new(),
            reported: Instant::now(),
            latents_shown: None,
            shown: Shown::default(),
        }
    }

    /// Commits outputs and offsets together, this often.
    #[must_use]
    pub fn committing(mut self, every: Duration) -> Self {
        self.store_interval = every;
        self
    }

    /// Runs until the shutdown begins, then drains.
    ///
    /// Errors: a [`LaneError`]; what was not settled comes again after a new start.
    pub fn run(mut self, shutdown: &Shutdown) -> Result<(), LaneError> {
        self.prepare(shutdown)?;
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
        match self.attempt() {
            Err(LaneError::Aborted(reason)) => self.again(&reason).map(|()| Step::Idle),
            ended => ended,
        }
    }

    fn attempt(&mut self) -> Result<Step, LaneError> {
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
        if matches!((&step, &settled), (Err(LaneError::Aborted(_)), _) | (_, Err(LaneError::Aborted(_)))) {
            return settled.and(step);
        }
        // Under load now and then; at once when there is nothing else to do, or nothing will come.
        let is_busy = matches!((&step, &settled), (Ok(Step::Read(_)), Ok(()))) || self.settling.is_exactly_once();
        if !is_busy || is_due(self.stored, self.store_interval, now) {
            self.store(now)?;
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
        if intake.n_waiting() > 0 {
            return self.read_waiting(judge);
        }
        let inflight = self.settling.inflight();
        let wait = if inflight.is_empty() && !inflight.has_settled() { IDLE_WAIT } else { BUSY_WAIT };
        drop(inflight);
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
            Err(error) => Err(error.into()),
        }
    }

    /// Takes the records that wait for a schema, which the registry may have by now. The consumer is served meanwhile, so
    /// that it stays in its group, but nothing is read.
    fn read_waiting(&mut self, judge: &mut Judge) -> Result<Step, LaneError> {
        let intake = &mut judge.intake;
        let (settling, publisher) = (&self.settling, &self.publisher);
        // What comes all the same waits behind the others.
        let served = self.source.poll(0, Duration::ZERO, &mut |raw| intake.take(&raw, settling, publisher));
        if let Err(error @ (SourceError::Fatal(_) | SourceError::Aborted(_))) = served {
            return Err(error.into());
        }
        let n = intake.take_waiting(settling, publisher);
        if let Some(failure) = intake.take_failure() {
            return Err(failure);
        }
        let health = self.shared.health.lane(self.index);
        if n > 0 {
            if health.set_trouble(None) {
                tracing::info!(lane = self.index, "the schema registry answers again");
            }
            return Ok(Step::Read(n));
        }
        let trouble = self.shared.schemas.trouble().unwrap_or_else(|| "the schema registry is asked".to_owned());
        if health.set_trouble(Some(trouble.clone())) {
            tracing::warn!(lane = self.index, trouble, "records wait for their schema; it goes on by itself");
        }
        self.sink.poll(IDLE_WAIT);
        Ok(Step::Idle)
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
        rows::judge(&self.shared, &self.publisher, &mut self.alerting, judge, &*self.source)?;
        if is_due(self.latents_shown, REPORT_INTERVAL, now) {
            self.latents_shown = Some(now);
            metrics.all.latents_active_mean.set(judge.workspace.latents_active_mean());
        }
        self.shown.scores(&self.shared, judge, now);
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
            if self.settling.is_exactly_once() { LaneError::Aborted(reason) } else { LaneError::Delivery(reason) }
        })
    }

    /// Stores what is settled, or commits it with what was sent.
    ///
    /// Errors: with exactly once, the transaction fails.
    fn store(&mut self, now: Instant) -> Result<(), LaneError> {
        self.stored = Some(now);
        if self.settling.is_exactly_once() {
            self.complete()?;
        }
        let mut inflight = self.settling.inflight();
        let positions = inflight.take_settled(&mut self.positions);
        drop(inflight);
        if !positions.is_empty() {
            self.shown.settled(positions);
            let n_late = self.source.store(positions)?;
            self.publisher.metrics().all.late_offset_stores_total.inc_by(n_late as u64);
        }
        Ok(())
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
        if let Err(error) = self.store(Instant::now()) {
            tracing::warn!(lane = self.index, %error, "the last outputs are not committed; their records come again");
        }
        self.source.close();
        self.show_transactions();
        Ok(())
    }

    fn show_progress(&mut self, now: Instant) {
        let health = self.shared.health.lane(self.index);
        health.progress(now_ms());
        // Not asked again: the client's own thread answers, and every turn would wait for it.
        if !health.has_joined() && self.source.has_joined() {
            health.joined();
        }
        if now.duration_since(self.reported) >= REPORT_INTERVAL {
            self.reported = now;
            let n_rebalances = self.settling.take_rebalances();
            self.shared.metrics.records_lost_total.inc_by(self.source.take_lost());
            health.assigned(self.settling.n_assigned());
            let lags = self.source.lags();
            self.publisher.assignment(self.settling.n_assigned(), n_rebalances, &lags);
            self.shown.partitions(&self.shared, self.index, self.judge.as_deref(), &lags);
            self.show_transactions();
        }
    }

    fn show_transactions(&mut self) {
        if let Some(ended) = self.sink.transactions() {
            self.publisher.transactions(ended);
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
    if batch.is_empty() || workspace.z()[0].is_nan() {
        return Ok(());
    }
    let verdict = verdict.unwrap_or_else(|| threshold.judge(workspace.z()[0]));
    let (raw, limit) = (workspace.raw()[0], model.calibration.raw(verdict.z_at_alert));
    let severity = verdict.anomalous.then(|| Severity::of(verdict.p_value, shared.target(model)));
    let z = workspace.z()[0];
    let score = Score::new(raw, limit, z, &verdict, severity);
    let occasion = Occasion::new(model);
    let judged = Judged { batch, workspace: &workspace, at: 0, score, headers: None, occasion: &occasion };
    let why = model.explain(batch.values().row(0), &workspace, 0, shared.output.features_max);
    publisher.anomaly(&judged, &why, None, &Receipt::default())
}
