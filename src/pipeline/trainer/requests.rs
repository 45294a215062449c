//! Requests of people for a round: set by a signal or the admin server, taken by the trainer.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// Whether somebody asked for a round; clones share the answer. Asking twice before the trainer looks asks once.
#[derive(Clone, Debug, Default)]
pub struct Requests(Arc<AtomicBool>);

impl Requests {
    /// Asks for a round as soon as a model scores, whatever the schedule says.
    pub fn ask(&self) {
        self.0.store(true, Ordering::Release);
    }

    /// Whether somebody asked; forgets it.
    pub(super) fn take(&self) -> bool {
        self.0.swap(false, Ordering::AcqRel)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_is_taken_once_whichever_clone_asked() {
        let requests = Requests::default();
        assert!(!requests.take());
        let other = requests.clone();
        other.ask();
        other.ask();
        assert!(requests.take());
        assert!(!other.take());
    }
}
