//! A journal in memory: for pipelines over a table, and for tests.

use std::sync::{Arc, Mutex, PoisonError};

use super::{Entry, Journal};

/// A journal in memory; clones are readers of their own of the same entries.
#[derive(Clone, Debug, Default)]
pub struct MemoryJournal {
    entries: Arc<Mutex<Vec<Entry>>>,
    n_read: usize,
}

impl Journal for MemoryJournal {
    fn poll(&mut self) -> Result<Vec<Entry>, String> {
        let entries = self.entries.lock().unwrap_or_else(PoisonError::into_inner);
        let new = entries[self.n_read..].to_vec();
        self.n_read = entries.len();
        Ok(new)
    }

    fn append(&mut self, entry: &Entry) -> Result<(), String> {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner).push(entry.clone());
        Ok(())
    }
}
