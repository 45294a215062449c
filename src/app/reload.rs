//! SIGHUP: reads the configuration again and puts it in force, whole or not at all.
//!
//! The new one is checked first. When it is wrong, or when it changes a key that only a new start can take up, nothing of
//! it is taken up, and the log says why: the process always runs one configuration, which `strayd_config_info` names.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use super::{logs, rule_book, tuning};
use crate::config::{Config, Problems, Sources, is_reloadable};
use crate::pipeline::Shared;
use crate::pipeline::live::Live;
use crate::telemetry::Metrics;
use crate::telemetry::view::View;

/// Whether somebody asked for a reload; clones share the answer.
#[derive(Clone, Debug, Default)]
pub struct Asked(Arc<AtomicBool>);

impl Asked {
    /// Asks for a reload; asking twice before it comes asks once.
    pub fn ask(&self) {
        self.0.store(true, Ordering::Release);
    }

    fn take(&self) -> bool {
        self.0.swap(false, Ordering::AcqRel)
    }
}

/// What became of a reload.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Outcome {
    /// The changes of these keys are in force; none: the configuration is the same.
    Applied(Vec<String>),
    /// It is wrong; the old one stays.
    Invalid(Problems),
    /// It is right but names a rule that operators have ordered meanwhile; the old one stays.
    Conflict(String),
    /// It changes these keys, which only a new start takes up; the old one stays.
    NeedsRestart(Vec<String>),
}

/// Reads the configuration again.
pub struct Reloader {
    sources: Option<Sources>,
    config: Config,
    asked: Asked,
    live: Live,
    metrics: Arc<Metrics>,
    view: View,
}

impl Reloader {
    /// A reloader of the running `config` that reads from `sources`; without any nobody can ask.
    pub fn new(sources: Option<Sources>, config: &Config, shared: &Shared) -> Self {
        let (config, live, metrics) = (config.clone(), shared.live.clone(), Arc::clone(&shared.metrics));
        let reloader = Self { sources, config, asked: Asked::default(), live, metrics, view: shared.view.clone() };
        reloader.show();
        reloader
    }

    /// Shows the configuration in force.
    fn show(&self) {
        self.metrics.set_config(&self.config.version());
        // It holds no secret: these come from files.
        self.view.set_config(serde_json::to_value(&*self.config).expect("a configuration is always JSON"));
    }

    /// What a signal asks through.
    pub fn asked(&self) -> Asked {
        self.asked.clone()
    }

    /// Whether somebody has asked since the last call.
    pub fn is_due(&self) -> bool {
        self.asked.take() && self.sources.is_some()
    }

    /// Reads, checks, and puts in force; returns whether it is. Says what came of it in the log and in the metrics.
    pub fn reload(&mut self) -> bool {
        let Some(sources) = &self.sources else { return true };
        let outcome = match Config::load(sources) {
            Ok(next) => self.apply(next),
            Err(problems) => Outcome::Invalid(problems),
        };
        let version = self.config.version();
        match &outcome {
            Outcome::Applied(keys) => tracing::info!(version, ?keys, "configuration reloaded"),
            Outcome::Invalid(problems) => {
                tracing::error!(version, %problems, "configuration not reloaded: it is wrong; the old one stays");
            }
            Outcome::Conflict(problem) => {
                tracing::error!(version, problem, "configuration not reloaded: a rule has its name; the old one stays");
            }
            Outcome::NeedsRestart(keys) => {
                tracing::error!(version, ?keys, "configuration not reloaded: these need a restart; the old one stays");
            }
        }
        self.show();
        self.metrics.config_reloads_total.with_label_values(&[outcome.result()]).inc();
        let is_applied = matches!(outcome, Outcome::Applied(_));
        self.metrics.config_last_reload_successful.set(i64::from(is_applied));
        is_applied
    }

    fn apply(&mut self, next: Config) -> Outcome {
        let keys = self.config.changes(&next);
        let fixed: Vec<String> = keys.iter().filter(|key| !is_reloadable(key)).cloned().collect();
        if !fixed.is_empty() {
            return Outcome::NeedsRestart(fixed);
        }
        // The only step that can be refused comes first.
        if let Err(problem) = self.live.configure(tuning(&next), rule_book(&next)) {
            return Outcome::Conflict(problem);
        }
        logs::follow(&next.log);
        self.config = next;
        Outcome::Applied(keys)
    }
}

impl Outcome {
    fn result(&self) -> &'static str {
        match self {
            Self::Applied(_) => "applied",
            Self::Invalid(_) | Self::Conflict(_) => "invalid",
            Self::NeedsRestart(_) => "needs_restart",
        }
    }
}
