//! What becomes of a challenger: judged, stored with the judgement, and promoted, set aside or thrown away.
//!
//! Every challenger is stored, promoted or not, so that a person can look at it and promote it by hand. It is stored
//! first, then made current, then put in the lanes. It never trains.

use std::sync::Arc;
use std::time::Instant;

use serde::{Deserialize, Serialize};

use super::round::value;
use super::{Ticked, Trainer, TrainerError};
use crate::blas;
use crate::model::{Lineage, Model};
use crate::pipeline::reproduce;
use crate::telemetry::now_ms;
use crate::train::drift::Class;
use crate::train::{self, Decision, Evidence, Fitted, Outcome, REFRESHED, Report, Rows, Selection, Start, judge};

/// Every how many rounds one starts afresh (MODEL 3.4).
const FRESH_EVERY: u64 = 7;
/// Rounds between fresh starts with dead latents: where the data leave most latents idle, new ones are idle, too.
const FRESH_DEAD_EVERY: u64 = 2;
/// Share of dead latents above which a round starts afresh.
const DEAD_MAX: f64 = 0.5;

/// What is done with a challenger that the gate lets through.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Mode {
    /// It is promoted.
    #[default]
    Auto,
    /// It is judged, stored and reported, and never promoted.
    Shadow,
    /// It waits for `strayd models promote`.
    Manual,
}

/// What became of a challenger, in metric, log and lineage.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ending {
    Promoted,
    Kept,
    Rejected,
    Shadowed,
    Waiting,
    Pinned,
    Stopped,
}

impl Ending {
    fn of(outcome: Outcome, mode: Mode, pinned: bool, stopped: bool) -> Self {
        match (outcome, mode) {
            (Outcome::Reject, _) => Self::Rejected,
            (Outcome::Keep, _) => Self::Kept,
            (Outcome::Promote, _) if pinned => Self::Pinned,
            (Outcome::Promote, Mode::Auto) if stopped => Self::Stopped,
            (Outcome::Promote, Mode::Auto) => Self::Promoted,
            (Outcome::Promote, Mode::Shadow) => Self::Shadowed,
            (Outcome::Promote, Mode::Manual) => Self::Waiting,
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::Promoted => "promoted",
            Self::Kept => "kept",
            Self::Rejected => "rejected",
            Self::Shadowed => "shadowed",
            Self::Waiting => "waiting",
            Self::Pinned => "pinned",
            Self::Stopped => "stopped",
        }
    }
}

/// The newest rows, and what a round has said of them.
#[derive(Clone, Copy)]
pub(super) struct Stream<'a> {
    /// The rows, in time order.
    pub rows: &'a Rows,
    /// What each of them may be used for.
    pub selection: &'a Selection,
    /// Lineage of the round's challenger: the rows are the same.
    pub lineage: &'a Lineage,
}

impl Trainer {
    /// Judges a challenger and does what the mode says; it has a version and is not stored yet.
    pub(super) fn challenge(
        &mut self,
        champion: &Arc<Model>,
        mut model: Model,
        evidence: &Evidence,
        rows: &Rows,
    ) -> Result<Ticked, TrainerError> {
        let gate = &self.settings.trainer.gate;
        let decision = gate.enabled.then(|| judge(champion, &model, evidence, gate));
        let outcome = decision.as_ref().map_or(Outcome::Promote, |decision| decision.outcome);
        let pinned = self.registry.pinned()?.is_some();
        let ending = Ending::of(outcome, self.settings.trainer.mode, pinned, self.stopped.is_some());
        if let Some(decision) = &decision {
            model.lineage.decision = document(decision, champion.version, ending);
        }
        self.registry.store(&model)?;
        tell(&model, champion.version, decision.as_ref(), ending);
        let version = model.version;
        if ending == Ending::Promoted {
            self.registry.promote(version)?;
            self.swap(Arc::new(model), ending.name(), Some(rows));
            self.begin_watch(Arc::clone(champion), rows);
            return Ok(Ticked::Promoted(version));
        }
        self.shared.metrics.promotions_total.with_label_values(&[ending.name()]).inc();
        self.registry.forget()?;
        // What did harm is left; anything else goes on, from where it stands.
        self.pending = (ending != Ending::Rejected).then(|| Arc::new(model));
        Ok(Ticked::Stayed(version))
    }

    /// Measures anew what standardises the scores of a champion that was kept, and puts the result in the lanes: the
    /// weights stay. Not where a person wants to see every change.
    pub(super) fn follow_stream(&mut self, champion: &Model, stream: Stream<'_>) -> Result<(), TrainerError> {
        if self.settings.trainer.mode != Mode::Auto || self.registry.pinned()?.is_some() {
            return Ok(());
        }
        let Stream { rows, selection, lineage } = stream;
        let mut fitted = train::refresh(champion, rows, selection, &self.settings.model);
        fitted.lineage = Lineage {
            chunks: lineage.chunks.clone(),
            admission: lineage.admission.clone(),
            feedback: lineage.feedback.clone(),
            records_per_day: lineage.records_per_day,
            reason: REFRESHED.to_owned(),
            ..fitted.lineage
        };
        let model = self.numbered(fitted)?;
        self.registry.store(&model)?;
        self.registry.promote(model.version)?;
        let pending = self.pending.take();
        self.swap(Arc::new(model), REFRESHED, Some(rows));
        self.pending = pending;
        Ok(())
    }

    /// Judges the next submitted model, if one waits.
    pub(super) fn candidate(&mut self, champion: &Arc<Model>) -> Result<Option<Ticked>, TrainerError> {
        let mut model =
            match self.submitted.take().map_or_else(|| self.registry.take_candidate(), |model| Ok(Some(model))) {
                Ok(Some(model)) => model,
                Ok(None) => return Ok(None),
                Err(error) => {
                    tracing::warn!(%error, "a submitted model is refused");
                    return Ok(None);
                }
            };
        if let Some(difference) = champion.schema.difference(&model.schema) {
            tracing::warn!(hash = model.short_hash(), difference, "a submitted model does not fit the features");
            return Ok(None);
        }
        let sample = match self.recent_sample(champion) {
            Ok(sample) => sample,
            Err(reason) => {
                // It is judged when the history can be read again.
                self.submitted = Some(model);
                return Ok(Some(Ticked::Failed(reason)));
            }
        };
        model.version = self.registry.next_version()?;
        model.lineage.reason = "submitted".to_owned();
        let rows = sample.rows.newest(self.settings.model.rows_max);
        // A look that leaves no trace: the next round decides on these rows for good.
        let (opinions, mut admission) = (self.opinions(champion.n_features()), self.admission.clone());
        let selection = Selection::new(champion, &rows, &opinions, &mut admission, &self.settings.model);
        let evidence = self.evidence(champion, &rows, &selection.admitted, model.version);
        let judged = self.challenge(champion, model.clone(), &evidence, &sample.rows);
        // What can't be stored now is judged again.
        self.submitted = judged.is_err().then_some(model);
        judged.map(Some)
    }

    /// What the newest rows say, for a judgement.
    pub(super) fn evidence(&self, champion: &Model, rows: &Rows, admitted: &[bool], seed: u64) -> Evidence {
        let gate = &self.settings.trainer.gate;
        Evidence {
            canaries: self.opinions(champion.n_features()).anomalous.values,
            ..Evidence::new(rows, admitted, self.shared.target(champion), seed, gate)
        }
    }

    /// Stores the first model, makes it current, and swaps it in, in this order.
    pub(super) fn adopt(&mut self, fitted: Fitted, began: Instant) -> Result<Ticked, TrainerError> {
        let report = fitted.report.clone();
        let model = self.numbered(fitted)?;
        self.registry.store(&model)?;
        self.registry.promote(model.version)?;
        self.trained(&model, &report, began);
        let version = model.version;
        self.swap(Arc::new(model), "promoted", None);
        Ok(Ticked::Promoted(version))
    }

    pub(super) fn numbered(&self, mut fitted: Fitted) -> Result<Model, TrainerError> {
        fitted.lineage.source = self.history.name();
        fitted.lineage.decode = value(&self.shared.decode);
        (fitted.lineage.blas, fitted.lineage.code) = (blas::info(), reproduce::code());
        // A registry that was emptied meanwhile must not give the same number to another model.
        let newest = self.shared.cell.load().map_or(0, |model| model.version);
        Ok(fitted.into_model(self.registry.next_version()?.max(newest + 1), now_ms()))
    }

    /// Counts and logs a training that ended well.
    pub(super) fn trained(&mut self, model: &Model, report: &Report, began: Instant) {
        let metrics = &self.shared.metrics;
        metrics.trainings_total.with_label_values(&["done"]).inc();
        metrics.training_duration_seconds.observe(began.elapsed().as_secs_f64());
        metrics.training_rows.set(i64::try_from(report.n_train).unwrap_or(i64::MAX));
        metrics.explained_variance_ratio.set(report.explained_variance);
        metrics.latents_dead_ratio.set(report.latents_dead_ratio);
        let threshold = self.shared.threshold_of(model);
        tracing::info!(
            version = model.version,
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
    }
}

/// The judgement as it is stored with the model.
fn document(decision: &Decision, champion: u64, ending: Ending) -> serde_json::Value {
    let mut document = serde_json::to_value(decision).expect("a decision of plain values is always JSON");
    document["champion"] = champion.into();
    document["ending"] = ending.name().into();
    document
}

/// Says what was decided, with every number.
fn tell(model: &Model, champion: u64, decision: Option<&Decision>, ending: Ending) {
    let version = model.version;
    let Some(decision) = decision else {
        tracing::info!(
            version,
            champion,
            ending = ending.name(),
            "challenger not judged: training.gate.enabled is false"
        );
        return;
    };
    let numbers = decision.checks.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ");
    tracing::info!(
        version,
        champion,
        ending = ending.name(),
        reason = decision.reason,
        n_holdout = decision.n_holdout,
        semantic_change = decision.semantic_change,
        checks = numbers,
        "challenger judged"
    );
}

impl Trainer {
    /// Where the next round's weights start: afresh after a shift, and every so often in a settled stream, in case the
    /// weights have lost the power to learn; sooner with most latents dead.
    pub(super) fn start(&self, champion: &Model, class: Class) -> Start {
        let dead = champion.lineage.report["latents_dead_ratio"].as_f64().unwrap_or(0.0);
        let settled = champion.lineage.n_rows_holdout >= self.settings.trainer.gate.settling_rows as u64;
        let is_turn = settled && self.n_rounds_warm + 1 >= FRESH_EVERY;
        let is_dead = dead > DEAD_MAX && self.n_rounds_warm >= FRESH_DEAD_EVERY;
        if class == Class::Shift || is_dead || is_turn { Start::Fresh } else { Start::Warm }
    }
}
