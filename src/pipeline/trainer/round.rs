//! One online round, and what becomes of its model: stored first, then current, then in the lanes.

use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::Instant;

use serde::Serialize;

use super::{Ticked, Trainer, TrainerError};
use crate::blas;
use crate::model::Model;
use crate::pipeline::reproduce;
use crate::telemetry::health::Phase;
use crate::telemetry::now_ms;
use crate::threshold;
use crate::train::{self, Fitted, TrainError, Trigger};

/// A part of the lineage that is read only to train again.
fn value(part: &impl Serialize) -> serde_json::Value {
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
        let seed = self.settings.trainer.seed.wrapping_add(champion.version);
        let shutdown = self.shutdown.clone();
        let mut admission = self.admission.clone();
        let fitted = train::refit(champion, &sample.rows, &mut admission, &self.settings.model, seed, &mut |_| {
            if shutdown.begun() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        });
        match fitted {
            // The operator has gone to another version meanwhile: what grew from the one that was left is not wanted.
            Ok(_) if self.registry.current()?.is_some_and(|version| version != champion.version) => Ok(Ticked::Nothing),
            Ok(mut fitted) => {
                fitted.lineage.chunks = sample.chunks;
                fitted.lineage.admission = value(&self.admission);
                fitted.lineage.parent = Some(champion.version);
                fitted.lineage.champion = Some(champion.version);
                trigger.reason.as_str().clone_into(&mut fitted.lineage.reason);
                trigger.class.as_str().clone_into(&mut fitted.lineage.class);
                self.admission = admission;
                self.adopt(fitted, began)
            }
            // A quiet topic: the next round has more.
            Err(TrainError::TooFewRows { .. } | TrainError::Stopped) => Ok(Ticked::Nothing),
            Err(error) => {
                self.failed();
                Ok(Ticked::Failed(format!("a round failed: {error}")))
            }
        }
    }

    /// Stores the model, makes it current, and swaps it in, in this order.
    pub(super) fn adopt(&mut self, mut fitted: Fitted, began: Instant) -> Result<Ticked, TrainerError> {
        fitted.lineage.source = self.history.name();
        fitted.lineage.decode = value(&self.shared.decode);
        (fitted.lineage.blas, fitted.lineage.code) = (blas::info(), reproduce::code());
        let report = fitted.report.clone();
        let version = self.registry.next_version()?;
        let model = fitted.into_model(version, now_ms());
        self.registry.store(&model)?;
        self.registry.promote(version)?;
        let metrics = &self.shared.metrics;
        metrics.trainings_total.with_label_values(&["done"]).inc();
        metrics.training_duration_seconds.observe(began.elapsed().as_secs_f64());
        metrics.training_rows.set(i64::try_from(report.n_train).unwrap_or(i64::MAX));
        metrics.explained_variance_ratio.set(report.explained_variance);
        metrics.latents_dead_ratio.set(report.latents_dead_ratio);
        let threshold = threshold::build(&self.shared.threshold, &model.calibration);
        tracing::info!(
            version,
            threshold = format!("{:.4}", model.calibration.raw(threshold.z_at_alert())),
            median = format!("{:.4}", model.calibration.raw(0.0)),
            n_rows = report.n_rows,
            n_train = report.n_train,
            n_holdout = report.n_holdout,
            explained_variance = format!("{:.3}", report.explained_variance),
            seconds = format!("{:.2}", began.elapsed().as_secs_f64()),
            "model trained"
        );
        self.last_round = Instant::now();
        self.swap(Arc::new(model), "promoted");
        Ok(Ticked::Promoted(version))
    }

    /// Makes a stored model score; `result` says what it is in the metric.
    pub(super) fn swap(&mut self, model: Arc<Model>, result: &str) {
        let shared = &self.shared;
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
