//! One online round, and what becomes of its model: stored first, then current, then in the lanes.

use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::Instant;

use ndarray::ArrayView2;
use serde::Serialize;

use super::challenger::Stream;
use super::{Ticked, Trainer, TrainerError, warm};
use crate::model::Model;
use crate::telemetry::health::Phase;
use crate::train::drift::Class;
use crate::train::{self, Opinions, Round, Rows, Start, TrainError, Trigger, planted};

/// p-value under a model's calibration at which feedback counts a row as flagged: the usual target.
const FLAGGED: f64 = 1e-3;

/// A part of the lineage that is read only to train again.
pub(super) fn value(part: &impl Serialize) -> serde_json::Value {
    serde_json::to_value(part).expect("plain values with string keys are always JSON")
}

impl Trainer {
    /// Runs one round from `champion` because of `trigger`.
    pub(super) fn round(&mut self, champion: &Arc<Model>, trigger: Trigger) -> Result<Ticked, TrainerError> {
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
        let start = self.start(champion, trigger.class);
        let opinions = self.opinions(champion.n_features());
        let (rows, challenger) = (&sample.rows, parent.as_deref());
        let round = Round { champion, challenger, rows, start, opinions: Some(&opinions), seed };
        let mut pace = self.pace();
        let mut admission = self.admission.clone();
        let registry = &mut self.registry;
        let fitted = train::refit(round, &mut admission, &self.settings.model, &mut |_| {
            if registry.leads() { pace.after_steps() } else { ControlFlow::Break(()) }
        });
        if let Some(reason) = pace.aborted() {
            self.failed();
            return Ok(Ticked::Failed(reason));
        }
        match fitted {
            // The operator has gone to another version meanwhile: what grew from the one that was left is not wanted.
            Ok(_) if self.registry.current()?.is_some_and(|version| version != champion.version) => Ok(Ticked::Nothing),
            Ok(mut fitted) => {
                fitted.lineage.chunks = sample.chunks;
                fitted.lineage.records_per_day = sample.pace.after(champion.lineage.records_per_day);
                fitted.lineage.admission = value(&self.admission);
                fitted.lineage.start = value(&start);
                fitted.lineage.feedback = self.feedback_used();
                trigger.reason.as_str().clone_into(&mut fitted.lineage.reason);
                trigger.class.as_str().clone_into(&mut fitted.lineage.class);
                self.admission = admission;
                self.n_rounds_warm = if start == Start::Fresh { 0 } else { self.n_rounds_warm + 1 };
                let rows = opinions.joined(&sample.rows.newest(self.settings.model.rows_max));
                let mut evidence = self.evidence(champion, &rows, &fitted.selection.admitted, seed);
                evidence.drift = trigger.class != Class::None;
                let (selection, lineage) = (fitted.selection.clone(), fitted.lineage.clone());
                let report = fitted.report.clone();
                let model = self.numbered(fitted)?;
                self.trained(&model, &report, began);
                tell_opinions(&opinions, champion, &model);
                let ticked = self.challenge(champion, model, &evidence, &sample.rows)?;
                if matches!(ticked, Ticked::Stayed(_)) {
                    let stream = Stream { rows: &rows, selection: &selection, lineage: &lineage };
                    self.follow_stream(champion, stream)?;
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

    /// Makes a stored model score; `result` says what it is in the metric. Thresholds are made ready on the latest `rows`.
    pub(super) fn swap(&mut self, model: Arc<Model>, result: &str, rows: Option<&Rows>) {
        let of_rows = |rows| warm::thresholds(&self.shared, &model, rows);
        let ready = rows.map(of_rows).unwrap_or_default();
        if let Some(rows) = rows {
            self.show_canaries(&model, rows);
        }
        let shared = &self.shared;
        // What went on from the model before is of no use to this one.
        self.pending = None;
        shared.metrics.promotions_total.with_label_values(&[result]).inc();
        shared.metrics.set_model(model.version, model.trained_at_ms);
        shared.metrics.target_alert_rate.set(shared.target(&model));
        shared.metrics.warmup_eta_seconds.set(0.0);
        tracing::info!(version = model.version, hash = model.short_hash(), result, "model scores from now on");
        shared.cell.swap_with(model, ready);
        shared.health.enter(Phase::Running);
    }

    /// Shows how many canaries a model finds: planted anomalies, and those that people confirmed.
    fn show_canaries(&self, model: &Model, rows: &Rows) {
        let (planted, confirmed) = (planted(rows, model.version), self.opinions(model.n_features()).anomalous);
        let n = planted.nrows() + confirmed.len();
        let target = self.shared.target(model);
        let found = |rows: ArrayView2<'_, f32>| model.flagged(rows, target);
        let n_found = found(planted.view()) + found(confirmed.values.view());
        self.shared.metrics.canary_recall_ratio.set(n_found as f64 / n.max(1) as f64);
    }

    pub(super) fn failed(&self) {
        self.shared.metrics.trainings_total.with_label_values(&["failed"]).inc();
    }
}

/// Says what has become of what people said: how many false positives each model would still flag, and how many true
/// positives it would miss.
fn tell_opinions(opinions: &Opinions, champion: &Model, challenger: &Model) {
    if opinions.is_empty() {
        return;
    }
    let flagged = |model: &Model, rows: &Rows| model.flagged(rows.values.view(), FLAGGED);
    let (ordinary, anomalous) = (&opinions.ordinary, &opinions.anomalous);
    tracing::info!(
        version = challenger.version,
        n_false_positives = ordinary.len(),
        still_flagged = flagged(challenger, ordinary),
        flagged_before = flagged(champion, ordinary),
        n_true_positives = anomalous.len(),
        still_found = flagged(challenger, anomalous),
        found_before = flagged(champion, anomalous),
        "what feedback has changed"
    );
}
