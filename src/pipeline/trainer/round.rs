//! One online round, and what becomes of its model: stored first, then current, then in the lanes.

use std::sync::Arc;
use std::time::Instant;

use super::challenger::is_drift;
use super::{Ticked, Trainer, TrainerError};
use crate::model::Model;
use crate::telemetry::health::Phase;
use crate::train::{self, Round, Start, TrainError};

impl Trainer {
    /// Runs one round from `champion`, for `reason`.
    pub(super) fn round(&mut self, champion: &Arc<Model>, reason: &str) -> Result<Ticked, TrainerError> {
        let began = Instant::now();
        let sample = match self.recent_sample(champion) {
            Ok(sample) => sample,
            Err(reason) => {
                self.failed();
                return Ok(Ticked::Failed(reason));
            }
        };
        let parent = self.pending.clone();
        let number = parent.as_ref().map_or(champion.version, |parent| parent.version);
        let seed = self.settings.trainer.seed.wrapping_add(number);
        let start = self.start(champion, reason);
        let round = Round { champion, challenger: parent.as_deref(), rows: &sample.rows, start, seed };
        let mut pace = self.pace();
        let mut admission = self.admission.clone();
        let fitted = train::refit(round, &mut admission, &self.settings.model, &mut |_| pace.after_steps());
        if let Some(reason) = pace.aborted() {
            self.failed();
            return Ok(Ticked::Failed(reason));
        }
        match fitted {
            // The operator has gone to another version meanwhile: what grew from the one that was left is not wanted.
            Ok(_) if self.registry.current()?.is_some_and(|version| version != champion.version) => Ok(Ticked::Nothing),
            Ok(mut fitted) => {
                fitted.lineage.chunks = sample.chunks;
                reason.clone_into(&mut fitted.lineage.reason);
                self.admission = admission;
                self.n_rounds_warm = if start == Start::Fresh { 0 } else { self.n_rounds_warm + 1 };
                let rows = sample.rows.newest(self.settings.model.rows_max);
                let mut evidence = self.evidence(&rows, &fitted.admitted, seed);
                evidence.drift = is_drift(reason);
                let admitted = fitted.admitted.clone();
                let report = fitted.report.clone();
                let model = self.numbered(fitted)?;
                self.trained(&model, &report, began);
                let ticked = self.challenge(champion, model, &evidence)?;
                if matches!(ticked, Ticked::Stayed(_)) {
                    self.follow_stream(champion, &rows, &admitted)?;
                }
                Ok(ticked)
            }
            // A quiet topic: the next round has more.
            Err(TrainError::TooFewRows { .. } | TrainError::Stopped) => Ok(Ticked::Nothing),
            Err(error) => {
                self.failed();
                Ok(Ticked::Failed(format!("a round failed: {error}")))
            }
        }
    }

    /// Makes a stored model score; `result` says what it is in the metric.
    pub(super) fn swap(&mut self, model: Arc<Model>, result: &str) {
        let shared = &self.shared;
        // What went on from the model before is of no use to this one.
        self.pending = None;
        shared.metrics.promotions_total.with_label_values(&[result]).inc();
        shared.metrics.set_model(model.version, model.trained_at_ms);
        shared.metrics.warmup_eta_seconds.set(0.0);
        tracing::info!(version = model.version, hash = model.short_hash(), result, "model scores from now on");
        shared.cell.swap(model);
        shared.health.enter(Phase::Running);
    }

    pub(super) fn failed(&self) {
        self.shared.metrics.trainings_total.with_label_values(&["failed"]).inc();
    }
}
