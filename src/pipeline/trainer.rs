//! The side loop: makes the first model, makes better ones while the lanes score, and swaps them in.
//!
//! Rows come from the history; the lanes hand nothing over but a count. A model is stored first and promoted then, so
//! that no lane ever scores with one that a restart would not find. [`Trainer::tick`] does one thing and returns:
//! `run` calls it on its own thread, `eval` between two batches.

mod challenger;
mod drift;
mod feedback;
mod orders;
mod pace;
pub mod requests;
mod round;
pub(super) mod sample;
mod trouble;
pub(super) mod warm;
mod watch;

pub use challenger::Mode;
pub use feedback::Heard;
pub use orders::Commands;

use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};
use thiserror::Error;

use super::Shared;
use super::live::Tuning;
use crate::history::{self, Bound, History};
use crate::model::{Model, features};
use crate::preprocess::Wish;
use crate::registry::{Labels, Registry, RegistryError};
use crate::shutdown::Shutdown;
use crate::telemetry::health::Phase;
use crate::train::watch::WatchConfig;
use crate::train::{self, Admission, GateConfig, Progress, Schedule};

/// How often the trainer looks whether there is something to do.
const TICK: Duration = Duration::from_millis(250);
/// How long the trainer waits for the history to grow.
const WAIT: Duration = Duration::from_secs(1);
/// How long the trainer waits after a failure of the world before it tries again.
const BACK_OFF: Duration = Duration::from_secs(5);

/// When models are trained.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Whether models are trained after the first one; false: the first model stays.
    pub enabled: bool,
    /// Longest time between two rounds.
    #[serde(with = "humantime_serde")]
    pub retrain_interval: Duration,
    /// Shortest time between two rounds; one that was asked for (SIGUSR1) does not wait.
    #[serde(with = "humantime_serde")]
    pub retrain_gap: Duration,
    /// How a promoted model is watched.
    pub watch: WatchConfig,
    /// Time between two looks for drift. A look reads the newest settled records again, at most 5000.
    #[serde(with = "humantime_serde")]
    pub drift_interval: Duration,
    /// Shortest time between two rounds because of drift or shift; rounds for other reasons go on.
    ///
    /// So that an attack can't order one round after another.
    #[serde(with = "humantime_serde")]
    pub drift_gap: Duration,
    /// Seed of everything random in training: the same rows, settings and seed give the same model.
    pub seed: u64,
    /// What becomes of a model that the gate lets through: it is promoted (`auto`), only judged and reported
    /// (`shadow`), or waits for `strayd models promote` (`manual`).
    pub mode: Mode,
    /// Share of one core that a round takes; above 0 to 1.
    pub cpu_share: f64,
    /// A round is given up when the 99th percentile of the time to score a batch exceeds it.
    #[serde(with = "humantime_serde")]
    pub latency_max: Option<Duration>,
    /// What a challenger must show.
    pub gate: GateConfig,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            enabled: true,
            retrain_interval: Duration::from_secs(6 * 3600),
            retrain_gap: Duration::from_secs(10),
            watch: WatchConfig::default(),
            drift_interval: Duration::from_secs(30),
            drift_gap: Duration::from_secs(600),
            seed: 0,
            mode: Mode::default(),
            cpu_share: 0.5,
            latency_max: None,
            gate: GateConfig::default(),
        }
    }
}

impl Config {
    /// Checks every key.
    ///
    /// # Errors
    /// One sentence for each key that is out of range.
    pub fn check(&self) -> Result<(), Vec<String>> {
        let of_gate = self.gate.check().err().unwrap_or_default();
        let mut problems: Vec<String> = of_gate.into_iter().map(|problem| format!("gate.{problem}")).collect();
        let share = self.cpu_share;
        if !(share > 0.0 && share <= 1.0) {
            problems.push(format!("cpu_share is {share}, it must be above 0 and at most 1"));
        }
        if problems.is_empty() { Ok(()) } else { Err(problems) }
    }
}

/// Everything that a trainer is told.
#[derive(Clone, Debug)]
pub struct Settings {
    /// When models are trained.
    pub trainer: Config,
    /// How they are trained.
    pub model: train::Config,
    /// How the history is sampled.
    pub history: history::Config,
    /// Configured features; empty: learnt from the history.
    pub features: Vec<Wish>,
    /// Whether every feature gets an input that says whether its value is missing.
    pub missing_indicator: bool,
}

/// Why the trainer ends. What the world fails at is tried again instead.
#[derive(Debug, Error)]
pub enum TrainerError {
    /// The registry can't be used, or holds a model that is refused.
    #[error(transparent)]
    Registry(#[from] RegistryError),
    /// The stored model watches other features than the configuration names.
    #[error(
        "model version {version} does not fit schema.features: {difference}; give it back its features, or start \
             over with another registry.path"
    )]
    Schema {
        /// The stored version.
        version: u64,
        /// Which feature differs.
        difference: String,
    },
    /// The configured or learnt features are no schema.
    #[error("schema.features: {0}")]
    Features(#[from] crate::preprocess::SchemaError),
}

/// What a tick did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ticked {
    /// There was nothing to do.
    Nothing,
    /// The first model can't be made yet, for this reason.
    Waiting(String),
    /// This version scores from now on.
    Promoted(u64),
    /// The model that scored is condemned; this older version scores again.
    RolledBack(u64),
    /// This version was trained and judged; the one before goes on scoring.
    Stayed(u64),
    /// A round failed, for this reason; the model stays.
    Failed(String),
}

/// The side loop.
pub struct Trainer {
    shared: Shared,
    history: Box<dyn History>,
    registry: Box<dyn Registry>,
    settings: Settings,
    /// What `settings.trainer` was last taken from.
    tuning: Arc<Tuning>,
    shutdown: Shutdown,
    admission: Admission,
    schedule: Schedule,
    n_seen: u64,
    last_round: Instant,
    first_seen: Option<(Instant, usize)>,
    /// What was said of the schema last.
    schema_said: String,
    /// The model that has just begun to score, if one has.
    watch: Option<watch::Watch>,
    heard: Option<Heard>,
    commands: Option<Commands>,
    n_rollbacks: u32,
    /// Why nothing is promoted any more.
    stopped: Option<String>,
    /// The challenger that neither won nor did harm: the next round goes on from it.
    pending: Option<Arc<Model>>,
    /// A model that was submitted and is still to be judged.
    submitted: Option<Model>,
    /// Rounds since one last started afresh.
    n_rounds_warm: u64,
    outlook: drift::Outlook,
    /// The labels of the model that scores, or why they can't be read.
    labels: Result<Labels, String>,
}

impl Trainer {
    /// A trainer that reads `history` and keeps its models in `registry`.
    pub fn new(
        shared: Shared,
        history: Box<dyn History>,
        registry: Box<dyn Registry>,
        settings: Settings,
        shutdown: Shutdown,
    ) -> Self {
        let schedule = Schedule::new(&settings.model, 0);
        Self {
            tuning: shared.live.tuning(),
            shared,
            history,
            registry,
            settings,
            shutdown,
            admission: Admission::default(),
            schedule,
            n_seen: 0,
            last_round: Instant::now(),
            first_seen: None,
            schema_said: String::new(),
            watch: None,
            heard: None,
            commands: None,
            n_rollbacks: 0,
            stopped: None,
            pending: None,
            submitted: None,
            n_rounds_warm: 0,
            outlook: drift::Outlook::default(),
            labels: Ok(Labels::new()),
        }
    }

    /// Listens to what people say of anomalies.
    #[must_use]
    pub fn listening(mut self, heard: Heard) -> Self {
        self.heard = Some(heard);
        self
    }

    /// Obeys what operators order.
    #[must_use]
    pub fn obeying(mut self, commands: Commands) -> Self {
        self.commands = Some(commands);
        self
    }

    /// Runs until the shutdown begins.
    ///
    /// Errors: a [`TrainerError`].
    pub fn run(mut self) -> Result<(), TrainerError> {
        be_nice();
        let (mut pause, mut said) = (Duration::ZERO, None);
        while !self.shutdown.sleep(pause) {
            let (ticked, pause_min) = self.attempt()?;
            let failure = if let Ticked::Failed(reason) = &ticked { Some(reason.clone()) } else { None };
            if let Some(reason) = failure.as_ref().filter(|_| failure != said) {
                tracing::warn!(reason, "training failed; it is tried again");
            }
            said = failure;
            pause = pause_min.max(match ticked {
                Ticked::Failed(_) => BACK_OFF,
                // Each look reads what history there is: once a second is soon enough.
                Ticked::Waiting(_) => WAIT,
                Ticked::Nothing | Ticked::Promoted(_) | Ticked::Stayed(_) | Ticked::RolledBack(_) => TICK,
            });
        }
        Ok(())
    }

    /// Whether this replica is the one that trains.
    fn leads(&mut self) -> bool {
        let leads = self.registry.leads();
        let shown = &self.shared.metrics.trainer_leader;
        if shown.get() != i64::from(leads) {
            shown.set(i64::from(leads));
            // What another has trained meanwhile, or will, makes these worth nothing.
            (self.pending, self.watch) = (None, None);
        }
        leads
    }

    /// Does the next thing there is to do: follow the registry, make the first model, or run a round that is due.
    ///
    /// Errors: a [`TrainerError`].
    pub fn tick(&mut self) -> Result<Ticked, TrainerError> {
        self.follow_tuning();
        let leads = self.leads();
        if let Some(version) = self.follow_registry()? {
            return Ok(Ticked::Promoted(version));
        }
        if self.shared.cell.load().is_some() {
            self.follow_labels();
        }
        let Some(champion) = self.shared.cell.load() else {
            return if leads { self.make_first() } else { Ok(self.wait_for_leader()) };
        };
        let n_scored = self.shared.n_scored();
        self.schedule.record(n_scored - self.n_seen);
        self.n_seen = n_scored;
        self.obey(&champion, leads);
        if !leads {
            return Ok(Ticked::Nothing);
        }
        self.listen(&champion);
        if let Some(ticked) = self.look_after(&champion)? {
            return Ok(ticked);
        }
        if let Some(ticked) = self.candidate(&champion)? {
            return Ok(ticked);
        }
        self.look_out(&champion);
        let Some(trigger) = self.due() else { return Ok(Ticked::Nothing) };
        let ticked = self.round(&champion, trigger);
        self.ran(trigger);
        ticked
    }

    /// Takes up the settings of a reload.
    fn follow_tuning(&mut self) {
        let tuning = self.shared.live.tuning();
        if !Arc::ptr_eq(&tuning, &self.tuning) {
            self.settings.trainer = tuning.training.clone();
            self.tuning = tuning;
        }
    }

    /// Swaps in the registry's current version when it is not the one that scores.
    fn follow_registry(&mut self) -> Result<Option<u64>, TrainerError> {
        let Some(version) = self.registry.current()? else { return Ok(None) };
        let used = self.shared.cell.load().map(|model| model.version);
        if used == Some(version) {
            return Ok(None);
        }
        let model = self.registry.load(version)?;
        if let Some(difference) = self.difference(&model) {
            return Err(TrainerError::Schema { version, difference });
        }
        let result = if used.is_some() { "switched" } else { "restored" };
        self.admission = Admission::default();
        if used.is_none() {
            self.restore_schedule();
        }
        let model = Arc::new(model);
        let Some(previous) = self.shared.cell.load() else {
            // Lanes that start rewind by themselves.
            self.swap(model, result, None);
            return Ok(Some(version));
        };
        // Somebody has chosen: what was stopped goes on, and the choice is watched like a model of our own.
        self.stop_promotions(None);
        match self.recent_sample(&model) {
            Ok(sample) => {
                self.swap(model, result, Some(&sample.rows));
                self.begin_watch(previous, &sample.rows);
            }
            Err(reason) => {
                tracing::warn!(
                    reason,
                    "thresholds begin with the model's calibration: the latest records can't be read"
                );
                self.swap(model, result, None);
            }
        }
        Ok(Some(version))
    }

    /// Puts in the labels of latents that people have changed; the model stays the same version.
    fn follow_labels(&mut self) {
        let labels = self.registry.labels().map_err(|error| error.to_string());
        if labels == self.labels {
            return;
        }
        self.labels = labels;
        match (&self.labels, self.shared.cell.load()) {
            (Ok(labels), Some(model)) => {
                let mut model = Model::clone(&model);
                model.cards.set_labels(labels);
                self.shared.cell.relabel(Arc::new(model));
                tracing::info!(n_labels = labels.len(), "labels of latents were read");
            }
            (Err(reason), _) => tracing::warn!(reason, "labels of latents can't be read; the last ones stay"),
            (Ok(_), None) => {}
        }
    }

    /// Where a stored model is not as configured.
    fn difference(&self, model: &Model) -> Option<String> {
        let wished = self.settings.missing_indicator;
        let has = model.schema.missing_indicator();
        let wishes = Some(&self.settings.features).filter(|wishes| !wishes.is_empty());
        let of_features = wishes.and_then(|wishes| features::difference(&model.schema, wishes));
        of_features
            .or((has != wished).then(|| format!("its schema.missing_indicator is {has}, configured is {wished}")))
    }

    /// A topic with a long history has had its youth already.
    fn restore_schedule(&mut self) {
        match self.history.extents(Bound::Settled) {
            Ok(extents) => {
                let n_records = extents.iter().map(|extent| extent.len() as u64).sum();
                self.schedule = Schedule::new(&self.settings.model, n_records);
            }
            Err(reason) => tracing::warn!(reason, "the history can't be read yet; rounds come as for a new topic"),
        }
    }

    fn make_first(&mut self) -> Result<Ticked, TrainerError> {
        let began = Instant::now();
        let sample = match self.first_sample()? {
            Ok(sample) => sample,
            Err((reason, eta_seconds)) => {
                self.warm_up(&reason, eta_seconds);
                return Ok(Ticked::Waiting(reason));
            }
        };
        let seed = self.settings.trainer.seed;
        let shared = self.shared.clone();
        let shutdown = self.shutdown.clone();
        let registry = &mut self.registry;
        let fitted = train::fit(sample.schema, &sample.rows, &self.settings.model, seed, &mut |progress| {
            report(&shared, &progress, began);
            if shutdown.begun() || !registry.leads() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        });
        match fitted {
            Ok(mut fitted) => {
                fitted.lineage.chunks = sample.chunks;
                fitted.lineage.records_per_day = sample.pace.records_per_day;
                "first".clone_into(&mut fitted.lineage.reason);
                // Labels of models that are gone must not fall on new latents.
                fitted.number_from(self.registry.labels()?.last_key_value().map_or(0, |(id, _)| id + 1));
                self.admission = Admission::after(&sample.rows, &fitted.rejected);
                self.adopt(fitted, began)
            }
            Err(error) => {
                self.failed();
                let reason = format!("the first model can't be trained: {error}");
                self.warm_up(&reason, None);
                Ok(Ticked::Failed(reason))
            }
        }
    }

    fn wait_for_leader(&self) -> Ticked {
        let reason = "the first model is trained by another replica; it comes through registry.topic".to_owned();
        self.warm_up(&reason, None);
        Ticked::Waiting(reason)
    }

    fn warm_up(&self, reason: &str, eta_seconds: Option<f64>) {
        let phase = Phase::Warmup { reason: reason.to_owned(), eta_seconds };
        if !matches!(self.shared.health.phase(), Phase::Warmup { .. }) {
            tracing::info!(reason, "warming up");
        }
        self.shared.metrics.warmup_eta_seconds.set(eta_seconds.unwrap_or(-1.0));
        self.shared.health.enter(phase);
    }
}

/// Lets the lanes go first where cores are short; without permission training is merely less polite.
fn be_nice() {
    const NICENESS: i32 = 10;
    // On Linux a priority without a process is that of the calling thread.
    if let Err(error) = rustix::process::setpriority_process(None, NICENESS) {
        tracing::warn!(%error, "the trainer can't lower its priority");
    }
}

/// Shows how far the first training has come.
fn report(shared: &Shared, progress: &Progress, began: Instant) {
    let Progress { steps_done, steps_total, .. } = *progress;
    let left = began.elapsed().as_secs_f64() * (steps_total - steps_done) as f64 / steps_done.max(1) as f64;
    let reason = format!("training the first model: step {steps_done} of {steps_total}");
    shared.metrics.warmup_eta_seconds.set(left);
    shared.health.enter(Phase::Warmup { reason, eta_seconds: Some(left) });
}
