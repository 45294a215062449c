//! What a lane judges by: the model in use, its buffers, and what it keeps of each partition.
//!
//! When another model has been promoted, model and thresholds change together, between two batches.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::Shared;
use super::inflight::Settling;
use super::intake::Intake;
use super::partition::Partition;
use crate::model::{Model, Workspace};
use crate::threshold;

/// The model in use and what depends on it.
pub struct Judge {
    /// The model in use.
    pub model: Arc<Model>,
    /// Its buffers.
    pub workspace: Workspace,
    /// The batch under construction.
    pub intake: Intake,
    /// Every partition that has had a record.
    pub partitions: BTreeMap<i32, Partition>,
}

impl Judge {
    /// A judge by `model`, which goes on with what `used` knows.
    pub fn new(shared: &Shared, model: Arc<Model>, used: Option<Self>) -> Self {
        match used {
            Some(judge) if Arc::ptr_eq(&judge.model, &model) => judge,
            // The same version with other labels: nothing that judges has changed.
            Some(judge) if (judge.model.version, &judge.model.hash) == (model.version, &model.hash) => {
                Self { model, ..judge }
            }
            Some(Self { intake, workspace, mut partitions, .. }) => {
                for (&partition, kept) in &mut partitions {
                    kept.rejudge(threshold_of(shared, &model, partition));
                }
                let intake = if intake.fits(&model) { intake } else { Intake::new(shared, &model) };
                Self { model, workspace, intake, partitions }
            }
            None => {
                let intake = Intake::new(shared, &model);
                Self { model, workspace: Workspace::new(), intake, partitions: BTreeMap::new() }
            }
        }
    }

    /// Takes up the partitions that the batch touches, where their assignment is new.
    pub fn take_up(&mut self, shared: &Shared, settling: &Settling) {
        for touched in &self.intake.touched {
            let known = self.partitions.get(&touched.partition);
            if known.is_some_and(|known| known.epoch == touched.epoch) {
                continue;
            }
            let threshold = threshold_of(shared, &self.model, touched.partition);
            let partition = Partition::new(touched.epoch, touched.resume, settling.rewind(), threshold);
            self.partitions.insert(touched.partition, partition);
        }
    }
}

/// The threshold that is ready for a partition, or one that begins with the model's calibration.
fn threshold_of(shared: &Shared, model: &Arc<Model>, partition: i32) -> Box<dyn threshold::Threshold> {
    let ready = shared.cell.take_threshold(model, partition);
    ready.unwrap_or_else(|| shared.threshold_of(model))
}
