//! What operators order, and what becomes of it.
//!
//! An order that is handed in at this replica goes to the journal first; whatever the journal says is carried out, here as
//! on every other replica. A pin is a state and counts whenever it was said; to promote, to roll back and to retrain are
//! acts, and count only when they are said while this process runs. Where replicas share a registry its leader carries out what
//! concerns models; rules are put in force by each.

use super::Trainer;
use crate::alert::Suppression;
use crate::journal::{Journal, Order};
use crate::model::Model;
use crate::registry::RegistryError;
use crate::telemetry::now_ms;

/// The commands journal, and since when acts count.
pub struct Commands {
    journal: Box<dyn Journal>,
    started_ms: i64,
    /// The journal's last trouble, so that it is told once.
    trouble: Option<String>,
}

impl Commands {
    /// Obeys what `journal` says.
    pub fn new(journal: Box<dyn Journal>) -> Self {
        Self { journal, started_ms: now_ms(), trouble: None }
    }
}

impl Trainer {
    /// Carries out what is new.
    pub(super) fn obey(&mut self, model: &Model, leads: bool) {
        self.hand_on_opinions();
        let Some(mut commands) = self.commands.take() else { return };
        while let Some(order) = self.shared.desk.fetch() {
            if let Err(reason) = commands.journal.append(&order.entry(now_ms())) {
                tracing::error!(?order, reason, "a command could not be stored and is not carried out");
            }
        }
        let entries = commands.journal.poll().unwrap_or_else(|reason| {
            if commands.trouble.as_ref() != Some(&reason) {
                tracing::warn!(reason, "commands can't be read at the moment");
            }
            commands.trouble = Some(reason);
            Vec::new()
        });
        for entry in entries {
            match Order::parse(&entry) {
                Ok(Some(Order::Suppress { rule })) => self.rule(&rule.name.clone(), Some(rule)),
                Ok(Some(Order::Unsuppress { name })) => self.rule(&name, None),
                // Whoever leads carries it out for all.
                Ok(Some(_)) if !leads => {}
                Ok(Some(order)) => self.carry_out(&order, entry.time_ms >= commands.started_ms, model),
                Ok(None) => {}
                Err(reason) => tracing::warn!(key = entry.key, reason, "a command can't be read"),
            }
        }
        self.commands = Some(commands);
    }

    /// Puts a rule that was ordered in force, or takes it away.
    fn rule(&self, name: &str, rule: Option<Suppression>) {
        match self.shared.live.order(name, rule) {
            Ok(names) => tracing::info!(?names, "rules that were ordered hold beside those of the configuration"),
            Err(reason) => tracing::warn!(reason, "a rule that was ordered is refused"),
        }
    }

    fn carry_out(&mut self, order: &Order, is_new: bool, model: &Model) {
        let done = match order {
            Order::Pin { version } => self.registry.pin(Some(version.unwrap_or(model.version))),
            Order::Unpin {} => {
                self.stop_promotions(None);
                self.registry.pin(None)
            }
            _ if !is_new => return,
            Order::Promote { version } => self.registry.promote(*version),
            Order::Rollback { version } => match version.or(model.lineage.parent) {
                Some(version) => self.registry.promote(version),
                None => {
                    tracing::warn!(version = model.version, "there is no model before this one to roll back to");
                    return;
                }
            },
            Order::Label { latent, label } => {
                if !model.cards.latents.iter().any(|card| card.id == *latent) {
                    tracing::warn!(?order, version = model.version, "command refused: the model has no such latent");
                    return;
                }
                let label = label.as_deref().map(str::trim).filter(|label| !label.is_empty());
                self.registry.set_label(*latent, label.map(str::to_owned))
            }
            // What else can be ordered is a rule, or of a later strayd.
            Order::Suppress { .. } | Order::Unsuppress { .. } => return,
            Order::Retrain {} => {
                self.shared.requests.ask();
                Ok(())
            }
        };
        match done {
            Ok(()) => tracing::info!(?order, "command carried out"),
            Err(error @ RegistryError::Unknown { .. }) => tracing::warn!(?order, %error, "command refused"),
            Err(error) => {
                self.shared.metrics.registry_errors_total.inc();
                tracing::error!(?order, %error, "a command could not be carried out; say it again when the registry is mended");
            }
        }
    }
}
