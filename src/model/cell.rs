//! The place from which lanes take the current model and into which the trainer puts the next.
//!
//! A lane loads once per batch and never waits; a swap never waits for a lane. Thresholds that have been made ready for a
//! model come with it, so that no score is judged by another model's threshold, nor by a cold one.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use arc_swap::ArcSwapOption;

use super::bundle::Model;
use crate::record::Partition;
use crate::threshold::Threshold;

/// A threshold for each partition that has one.
pub type Thresholds = BTreeMap<Partition, Box<dyn Threshold>>;

/// A model with the thresholds that wait for the lanes.
struct Current {
    model: Arc<Model>,
    ready: Mutex<Thresholds>,
}

/// The current model, or none yet.
#[derive(Default)]
pub struct ModelCell {
    current: ArcSwapOption<Current>,
}

impl ModelCell {
    /// An empty cell.
    pub fn new() -> Self {
        Self::default()
    }

    /// The current model.
    pub fn load(&self) -> Option<Arc<Model>> {
        self.current.load().as_ref().map(|current| Arc::clone(&current.model))
    }

    /// Makes `model` the current one, for which no threshold is ready.
    pub fn swap(&self, model: Arc<Model>) {
        self.swap_with(model, Thresholds::new());
    }

    /// Makes `model` the current one, together with thresholds that have judged the latest records by its scores.
    pub fn swap_with(&self, model: Arc<Model>, ready: Thresholds) {
        self.current.store(Some(Arc::new(Current { model, ready: Mutex::new(ready) })));
    }

    /// Exchanges a model for the same one with other labels; thresholds that wait stay.
    pub fn relabel(&self, model: Arc<Model>) {
        let ready =
            self.current.load().as_ref().map(|current| std::mem::take(&mut *current.lock())).unwrap_or_default();
        self.swap_with(model, ready);
    }

    /// Hands over the threshold that is ready for a partition under `model`, once; none when another model is current.
    pub fn take_threshold(&self, model: &Arc<Model>, partition: Partition) -> Option<Box<dyn Threshold>> {
        let current = self.current.load();
        let current = current.as_ref().filter(|current| Arc::ptr_eq(&current.model, model))?;
        current.lock().remove(&partition)
    }
}

impl Current {
    /// Held for the length of a look-up only, by a lane at its first batch after a swap.
    fn lock(&self) -> std::sync::MutexGuard<'_, Thresholds> {
        self.ready.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for ModelCell {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ModelCell").field("version", &self.load().map(|model| model.version)).finish()
    }
}
