//! The watch after a promotion: the trainer looks after a model that has just begun to score, and goes back by itself.
//!
//! Lanes hand over two counts; whenever these are suspicious, and once at the end of the window, the records since the
//! promotion are read again and judged by the promoted model and by the one before it (`train::watch` has the rules).

use std::collections::BTreeMap;
use std::sync::Arc;

use super::{Ticked, Trainer, TrainerError, warm};
use crate::history::Bound;
use crate::model::Model;
use crate::record::{Partition, RecordId};
use crate::registry::RegistryError;
use crate::threshold::{Calibration, median_and_mad};
use crate::train::watch::{Course, Seen, condemns, is_suspicious};
use crate::train::{Rows, planted};

/// Fewest rows whose median says something; with fewer on either side nothing has moved.
const MEDIAN_ROWS_MIN: usize = 512;
/// Windows after which the watch no longer waits for records to be settled: retention may have removed them.
const UNSETTLED_MAX: u64 = 2;

/// A model that is watched.
pub(super) struct Watch {
    /// The model to go back to.
    previous: Arc<Model>,
    /// Records and alerts of all lanes at the promotion.
    before: (u64, u64),
    /// Records that the watch lasts.
    window: u64,
    /// Whether it lasts as long as configured: then it ends with a look.
    is_full: bool,
    /// One past the newest record of each partition that the promotion knew.
    ends: BTreeMap<Partition, i64>,
    /// Alerts that have been looked into and were the stream's.
    n_cleared: u64,
}

impl Trainer {
    /// Begins to watch a model that is about to score in the place of `previous`; `rows` are the newest ones known.
    pub(super) fn begin_watch(&mut self, previous: Arc<Model>, rows: &Rows) {
        let records = self.settings.trainer.watch.records;
        let window = records.min(self.schedule.interval());
        if window == 0 {
            return;
        }
        let mut ends = BTreeMap::new();
        for id in &rows.ids {
            let end = ends.entry(id.partition).or_insert(0);
            *end = id.next().offset.max(*end);
        }
        // What came while the model was trained was scored by the one before it.
        for extent in self.history.extents(Bound::Settled).unwrap_or_default() {
            ends.insert(extent.partition, extent.end);
        }
        let before = (self.shared.n_scored(), self.shared.n_alerts());
        self.watch = Some(Watch { previous, before, window, is_full: window == records, ends, n_cleared: 0 });
    }

    /// Looks after `model`, which scores. Returns what was done, if anything was.
    ///
    /// Errors: a [`TrainerError`].
    pub(super) fn look_after(&mut self, model: &Arc<Model>) -> Result<Option<Ticked>, TrainerError> {
        // Asked first: a registry that fails must not end the watch.
        let is_pinned = self.watch.is_some() && self.registry.pinned()?.is_some();
        let Some(mut watch) = self.watch.take() else { return Ok(None) };
        if is_pinned {
            // A person wants this very model.
            return Ok(None);
        }
        let n_records = self.shared.n_scored() - watch.before.0;
        let n_alerts = (self.shared.n_alerts() - watch.before.1).saturating_sub(watch.n_cleared);
        let is_over = n_records >= watch.window;
        let suspicious = is_suspicious(n_alerts, n_records, self.shared.target(model));
        if suspicious || (is_over && watch.is_full) {
            match self.see(&watch, model) {
                Ok(mut seen) => {
                    // Judged anew, thresholds begin with few rows: only alerts that lanes have given count, or as many for
                    // the records of other replicas.
                    let given = self.shared.n_alerts() - watch.before.1;
                    let scale = (seen.n_records / n_records.max(1)).max(1);
                    seen.promoted.n_alerts = seen.promoted.n_alerts.min(given * scale);
                    if let Some(reason) = condemns(&seen) {
                        let done = self.roll_back(model, &watch.previous, &reason);
                        // What the registry has not taken is tried again.
                        self.watch = done.is_err().then_some(watch);
                        return done.map(Some);
                    }
                    // Lanes are ahead of what is settled: alerts that nobody has looked into are not the stream's yet.
                    let n_due = n_records.min(self.settings.history.recent_rows as u64);
                    if seen.n_records < n_due && n_records < UNSETTLED_MAX * watch.window {
                        self.watch = Some(watch);
                        return Ok(None);
                    }
                    watch.n_cleared += n_alerts;
                    tracing::info!(version = model.version, seen = ?seen, "the watched model does as well as the one before it");
                }
                // The world fails at the moment; the watch goes on.
                Err(reason) => {
                    tracing::warn!(reason, "the watched model can't be looked into yet");
                    self.watch = Some(watch);
                    return Ok(None);
                }
            }
        }
        if is_over {
            self.n_rollbacks = 0;
        } else {
            self.watch = Some(watch);
        }
        Ok(None)
    }

    /// Judges the records since the promotion by both models.
    fn see(&mut self, watch: &Watch, model: &Model) -> Result<Seen, String> {
        let rows = self.recent_sample(model)?.rows;
        let since = |id: &RecordId| watch.ends.get(&id.partition).is_none_or(|end| id.offset >= *end);
        let is_since: Vec<bool> = rows.ids.iter().map(since).collect();
        let (target, canaries) = (self.shared.target(model), planted(&rows, model.version));
        let of = |model: &Model| {
            let n_planted_found = model.flagged(canaries.view(), target) as u64;
            Course { n_planted_found, ..self.course(model, &rows, &is_since) }
        };
        Ok(Seen {
            n_records: is_since.iter().filter(|since| **since).count() as u64,
            n_planted: canaries.nrows() as u64,
            target,
            promoted: of(model),
            previous: of(&watch.previous),
        })
    }

    /// What a model says of `rows`, of which `is_since` came after the promotion.
    fn course(&self, model: &Model, rows: &Rows, is_since: &[bool]) -> Course {
        let mut course = Course::default();
        let (mut before, mut since) = (Vec::new(), Vec::new());
        warm::judge_all(&self.shared, model, rows, &mut |i, raw, verdict| {
            if is_since[i] {
                course.n_alerts += u64::from(verdict.is_some_and(|verdict| verdict.anomalous));
                since.push(Calibration::log(raw));
            } else if verdict.is_some() {
                // What the model was trained on scores lower than what comes.
                before.push(Calibration::log(raw));
            }
        });
        if before.len().min(since.len()) >= MEDIAN_ROWS_MIN {
            (course.median_before, _) = median_and_mad(&mut before);
            (course.median_since, _) = median_and_mad(&mut since);
        }
        course
    }

    /// Goes back to `previous` for `reason`, and stops promoting after too many times in a row.
    fn roll_back(&mut self, model: &Model, previous: &Arc<Model>, reason: &str) -> Result<Ticked, TrainerError> {
        match self.registry.promote(previous.version) {
            // Forgotten meanwhile, as newer ones came.
            Err(RegistryError::Unknown { .. }) => {
                self.registry.store(previous)?;
                self.registry.promote(previous.version)?;
            }
            done => done?,
        }
        self.n_rollbacks += 1;
        tracing::warn!(version = model.version, back_to = previous.version, reason, "rolled back");
        let rows = self.recent_sample(previous).map(|sample| sample.rows);
        self.swap(Arc::clone(previous), "rolled_back", rows.as_ref().ok());
        let max = self.settings.trainer.watch.rollbacks_max;
        if self.n_rollbacks >= max {
            let n = self.n_rollbacks;
            let said = format!(
                "{n} promoted models in a row were rolled back, the last because of {reason}; nothing is promoted until \
                 `strayd models promote`, `rollback` or `unpin` says so"
            );
            tracing::error!(said, "promotions have stopped");
            self.stop_promotions(Some(said));
        }
        Ok(Ticked::RolledBack(previous.version))
    }

    /// Notes why nothing is promoted any more, or that promotions go on.
    pub(super) fn stop_promotions(&mut self, reason: Option<String>) {
        self.shared.metrics.promotions_stopped.set(i64::from(reason.is_some()));
        self.stopped = reason;
        self.n_rollbacks = 0;
    }
}
