//! The place from which lanes take the current model and into which the trainer puts the next.
//!
//! A lane loads once per batch and never waits; a swap never waits for a lane.

use std::sync::Arc;

use arc_swap::ArcSwapOption;

use super::bundle::Model;

/// The current model, or none yet.
#[derive(Debug, Default)]
pub struct ModelCell {
    current: ArcSwapOption<Model>,
}

impl ModelCell {
    /// An empty cell.
    pub fn new() -> Self {
        Self::default()
    }

    /// The current model.
    pub fn load(&self) -> Option<Arc<Model>> {
        self.current.load_full()
    }

    /// Makes `model` the current one and returns the one before it.
    pub fn swap(&self, model: Arc<Model>) -> Option<Arc<Model>> {
        self.current.swap(Some(model))
    }
}
