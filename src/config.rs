//! The configuration: one TOML file, environment variables over it, command-line overrides over both.
//!
//! [`RawConfig`] is what was said, [`Config`] what was checked; nothing runs on the first. Every part owns its keys,
//! this file composes them. All problems are reported at once, each with its key, its value and what is allowed.

mod change;
mod check;
mod layers;

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};

pub use change::{RELOADABLE, is_reloadable};
use serde::{Deserialize, Serialize};

use crate::preprocess::Wish;
use crate::{
    admin, alert, decode, history, journal, kafka, pipeline, registry, schema_registry, sink, source, threshold, train,
};

/// The whole configuration as it was said.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RawConfig {
    /// The detector.
    pub detector: Detector,
    /// How to reach the cluster.
    pub kafka: kafka::Config,
    /// What is read.
    pub input: source::Config,
    /// How records are decoded.
    pub decode: decode::Config,
    /// Where the schemas of records are kept.
    pub schema_registry: schema_registry::Config,
    /// Which features are watched.
    pub schema: SchemaConfig,
    /// How the history is sampled.
    pub history: history::Config,
    /// The model and how it is trained.
    pub model: train::Config,
    /// When it is trained.
    pub training: pipeline::trainer::Config,
    /// When a score is an anomaly.
    pub threshold: threshold::Config,
    /// When flagged records make an incident.
    pub incidents: alert::IncidentConfig,
    /// Rules that withhold anomalies: `name` (needed, unique), `entity`, `feature` (both with `*` and `?`),
    /// `severity_max`, `from`, `until` (RFC 3339, event time), `reason`. All that are given must hold.
    pub suppress: Vec<alert::Suppression>,
    /// Times in which anomalies are expected and withheld: `from` and `until` (needed), `entity`, `reason`.
    pub maintenance: Vec<alert::Maintenance>,
    /// Which deviations of a feature are worth an alert, by its name: `direction` (`both`, `up`, `down`),
    /// `deviation_min` (raw units), `deviation_share_min` (share of the expected value); of two minima the larger counts.
    pub features: BTreeMap<String, alert::FeatureLimit>,
    /// Where results go.
    pub output: sink::Config,
    /// What rejected records become.
    pub dead_letter: sink::DeadLetterConfig,
    /// Where models are kept.
    pub registry: registry::Config,
    /// Where people's words are kept.
    pub journal: journal::Config,
    /// How the lanes run.
    pub pipeline: pipeline::Config,
    /// Where the admin server listens.
    pub admin: admin::Config,
    /// How the log is written.
    pub log: Log,
}

/// The detector.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Detector {
    /// Name of the detector, part of every anomaly's id: renaming it renames every anomaly.
    pub name: String,
}

impl Default for Detector {
    fn default() -> Self {
        Self { name: "strayd".into() }
    }
}

/// Which features are watched.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct SchemaConfig {
    /// The features in the order of the vector; empty: learnt from a sample of the history. A stored model with other
    /// features or kinds ends the start with an error.
    pub features: Vec<Wish>,
    /// What a missing value becomes. `mask`: it has no part in loss, score and reasons, and nothing is filled in.
    pub missing: Missing,
    /// Gives every feature an input that says whether its value is missing, so that missing counts. It weighs half a
    /// feature, also in the rule that half must be observed.
    pub missing_indicator: bool,
}

/// What a missing value becomes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Missing {
    /// It has no part in loss, score and reasons; nothing is filled in.
    #[default]
    Mask,
}

/// How the log is written.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Log {
    /// Least level that is written: `error`, `warn`, `info`, `debug`, `trace`, or a filter such as
    /// `info,librdkafka=debug`.
    pub level: String,
    /// `auto` is text on a terminal, JSON otherwise. The log goes to standard error.
    pub format: LogFormat,
}

impl Default for Log {
    fn default() -> Self {
        Self { level: "info".into(), format: LogFormat::Auto }
    }
}

/// Shape of a log line.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LogFormat {
    /// Text on a terminal, JSON otherwise.
    #[default]
    Auto,
    /// For people.
    Text,
    /// For machines.
    Json,
}

/// A configuration that has been checked.
#[derive(Clone, Debug, PartialEq)]
pub struct Config(RawConfig);

impl std::ops::Deref for Config {
    type Target = RawConfig;

    fn deref(&self) -> &RawConfig {
        &self.0
    }
}

/// Where a configuration comes from.
#[derive(Clone, Debug, Default)]
pub struct Sources {
    /// The file, if there is one.
    pub file: Option<PathBuf>,
    /// Environment variables, name and value; only those that begin with `STRAYD__` count.
    pub environment: Vec<(String, String)>,
    /// Overrides from the command line, key path and value.
    pub overrides: Vec<(String, String)>,
}

/// One thing that is wrong with a configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// Key path.
    pub key: String,
    /// The value and what is allowed.
    pub message: String,
}

/// Everything that is wrong with a configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problems(pub Vec<Problem>);

impl fmt::Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let n = self.0.len();
        write!(f, "the configuration has {n} problem{}", if n == 1 { "" } else { "s" })?;
        for Problem { key, message } in &self.0 {
            write!(f, "\n  {key}: {message}")?;
        }
        Ok(())
    }
}

impl std::error::Error for Problems {}

impl Config {
    /// Loads and checks a configuration.
    ///
    /// Errors: everything that is wrong with it.
    pub fn load(sources: &Sources) -> Result<Self, Problems> {
        let (raw, mut problems) = layers::merge(sources)?;
        let of_value = check::problems(&raw).into_iter().filter(|of_value| {
            // A key that could not be read has its default, of which nothing need be said.
            !problems.iter().any(|of_type| of_type.key == of_value.key)
        });
        let of_value: Vec<Problem> = of_value.collect();
        problems.extend(of_value);
        if problems.is_empty() { Ok(Self(raw)) } else { Err(Problems(problems)) }
    }

    /// Checks what was said.
    ///
    /// Errors: everything that is wrong with it.
    pub fn check(raw: RawConfig) -> Result<Self, Problems> {
        let problems = check::problems(&raw);
        if problems.is_empty() { Ok(Self(raw)) } else { Err(Problems(problems)) }
    }
}

impl RawConfig {
    /// The rules that withhold anomalies.
    ///
    /// Errors: one sentence for each that is wrong, which begins with its key path.
    fn rules(&self) -> Result<alert::Rules, Vec<String>> {
        alert::Rules::new(&self.suppress, &self.maintenance, &self.features)
    }
}

impl Sources {
    /// The process's own environment and the given file and overrides.
    pub fn of_process(file: Option<&Path>, overrides: Vec<(String, String)>) -> Self {
        Self { file: file.map(Path::to_owned), environment: std::env::vars().collect(), overrides }
    }
}

#[cfg(test)]
mod tests;
