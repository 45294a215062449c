//! Thresholds that are ready when a model is: they have judged the latest records by its scores.
//!
//! MODEL 3.6: model and threshold change together, and the alert rate does not jump. What the model may have been trained
//! on is left out, unless it is anomalous: its scores are too low.

use crate::model::{Model, Thresholds};
use crate::pipeline::Shared;
use crate::threshold::Verdict;
use crate::train::{Rows, may_have_learnt};

/// Hears of a row: its place, its raw score, and the verdict if it was judged.
pub(super) type OnRow<'a> = &'a mut dyn FnMut(usize, f64, Option<Verdict>);

/// The thresholds of all partitions that `rows`, in time order, are of.
pub(in crate::pipeline) fn thresholds(shared: &Shared, model: &Model, rows: &Rows) -> Thresholds {
    judge_all(shared, model, rows, &mut |_, _, _| ())
}

/// Judges `rows`, in time order, as lanes would by `model`, and returns the thresholds that have done it.
pub(super) fn judge_all(shared: &Shared, model: &Model, rows: &Rows, on_row: OnRow<'_>) -> Thresholds {
    let mut ready = Thresholds::new();
    model.score_all(rows.values.view(), |first, workspace| {
        for (i, (&z, &raw)) in workspace.z().iter().zip(workspace.raw()).enumerate().filter(|(_, (z, _))| !z.is_nan()) {
            let at = first + i;
            let id = rows.ids[at];
            let threshold = ready.entry(id.partition).or_insert_with(|| shared.threshold_of(model));
            let counts = !may_have_learnt(model, id) || z > threshold.z_at_alert();
            on_row(at, raw, counts.then(|| threshold.judge(z)));
        }
    });
    ready
}
