//! What a lane judges by: the model in use, its buffers, and what it keeps of each partition.
//!
//! When another model has been promoted, model and thresholds change together, between two batches.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::Shared;
use super::inflight::{Reached, Settling};
use super::intake::Intake;
use super::partition::Partition;
use crate::model::{Model, Workspace};
use crate::record;
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
    pub partitions: BTreeMap<record::Partition, Partition>,
    /// Rows of the batch that are not scored again: room that is kept.
    pub live: Vec<usize>,
}

impl Judge {
    /// A judge by `model`, which goes on with what `used` knows.
    pub fn new(shared: &Shared, model: Arc<Model>, used: Option<Box<Self>>) -> Box<Self> {
        let Some(mut judge) = used else {
            let (intake, live) = (Intake::new(shared, &model), Vec::with_capacity(shared.pipeline.rows_max));
            return Box::new(Self { model, workspace: Workspace::new(), intake, partitions: BTreeMap::new(), live });
        };
        if Arc::ptr_eq(&judge.model, &model) {
            return judge;
        }
        // The same version with other labels: nothing that judges has changed.
        if (judge.model.version, &judge.model.hash) != (model.version, &model.hash) {
            for (&partition, kept) in &mut judge.partitions {
                kept.rejudge(threshold_of(shared, &model, partition));
            }
            if !judge.intake.fits(&model) {
                judge.intake = Intake::new(shared, &model);
            }
        }
        judge.model = model;
        judge
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

    /// Where reading goes on in the partitions of the batch.
    pub fn reached(&self) -> impl Iterator<Item = Reached> + '_ {
        self.intake.touched.iter().filter_map(|touched| {
            let note = self.partitions.get(&touched.partition).map(Partition::note).unwrap_or_default();
            Some(Reached { next: touched.next?, note, epoch: touched.epoch })
        })
    }
}

/// The threshold that is ready for a partition, or one that begins with the model's calibration.
fn threshold_of(shared: &Shared, model: &Arc<Model>, partition: record::Partition) -> Box<dyn threshold::Threshold> {
    let ready = shared.cell.take_threshold(model, partition);
    ready.unwrap_or_else(|| shared.threshold_of(model))
}
