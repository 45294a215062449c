//! What becomes of a registry that fails: it is counted, said once and shown, and whatever scores goes on.

use std::time::Duration;

use super::{Ticked, Trainer, TrainerError, WAIT};

impl Trainer {
    /// Does what [`Trainer::tick`] does, and lets a registry that fails end nothing but that. Returns how long to wait at least.
    ///
    /// Errors: a [`TrainerError`] that trying again doesn't mend.
    pub(super) fn attempt(&mut self) -> Result<(Ticked, Duration), TrainerError> {
        let ticked = match self.tick() {
            Ok(ticked) => ticked,
            Err(error) => return Ok((self.survive(error)?, WAIT)),
        };
        let trouble = self.registry.trouble();
        let pause = if trouble.is_some() { WAIT } else { Duration::ZERO };
        if trouble.is_some() {
            self.shared.metrics.registry_errors_total.inc();
        }
        self.shared.health.set_registry_trouble(trouble);
        Ok((ticked, pause))
    }

    /// Makes of a registry that fails something to try again: while a model scores, whatever it is, and before that what may
    /// pass by itself, as a full disk. A model that is refused at the start needs a person.
    ///
    /// Errors: `error`, where it has to end the process.
    fn survive(&self, error: TrainerError) -> Result<Ticked, TrainerError> {
        let TrainerError::Registry(of_registry) = &error else { return Err(error) };
        let scores = self.shared.cell.load().is_some();
        if !scores && !of_registry.may_pass() {
            return Err(error);
        }
        self.shared.metrics.registry_errors_total.inc();
        let reason = error.to_string();
        self.shared.health.set_registry_trouble(Some(reason.clone()));
        if !scores {
            self.warm_up(&reason, None);
        }
        Ok(Ticked::Failed(reason))
    }
}
