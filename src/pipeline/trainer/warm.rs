//! Thresholds that are ready when a model is: they have judged the latest records by its scores.
//!
//! MODEL 3.6: model and threshold change together, and the alert rate does not jump. What the model may have been trained
//! on is left out, unless it is anomalous: its scores are too low.

use ndarray::Axis;

use crate::model::{Model, Thresholds, Workspace};
use crate::threshold;
use crate::train::{Rows, may_have_learnt};

/// Rows that are scored at a time.
const CHUNK: usize = 1024;

/// The thresholds of all partitions that `rows`, in time order, are of.
pub(super) fn thresholds(config: &threshold::Config, model: &Model, rows: &Rows) -> Thresholds {
    let mut ready = Thresholds::new();
    let mut workspace = Workspace::new();
    let chunks = rows.values.axis_chunks_iter(Axis(0), CHUNK).zip(rows.ids.chunks(CHUNK));
    for (values, ids) in chunks {
        model.score(values, &mut workspace);
        for (&id, &z) in ids.iter().zip(workspace.z()).filter(|(_, z)| !z.is_nan()) {
            let threshold = ready.entry(id.partition).or_insert_with(|| threshold::build(config, &model.calibration));
            if !may_have_learnt(model, id) || z > threshold.z_at_alert() {
                threshold.judge(z);
            }
        }
    }
    ready
}
