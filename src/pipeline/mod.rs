//! The loops: lanes that score, and the trainer beside them.
//!
//! Only this module and `app` start threads. Lanes share nothing but the model cell and the metrics; what they share
//! is in [`Shared`].

pub mod alerting;
pub mod decoding;
pub mod hindsight;
pub mod inflight;
mod intake;
mod judge;
pub mod lane;
pub mod live;
mod parked;
pub mod partition;
pub mod publish;
pub mod replay;
pub mod reproduce;
mod rows;
mod shown;
pub mod trainer;
mod wait;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use self::live::Live;
use self::trainer::requests::Requests;
use crate::decode::Decoder;
use crate::journal::Desk;
use crate::model::{Model, ModelCell, features};
use crate::record::Topics;
use crate::schema_registry::Schemas;
use crate::telemetry::Metrics;
use crate::telemetry::health::Health;
use crate::telemetry::view::View;
use crate::{decode, sink, threshold};

/// How the lanes run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Threads, each with a consumer and a producer of its own; more than the topic has partitions idle.
    pub lanes: usize,
    /// Records scored at once, at most.
    ///
    /// A larger batch is hardly faster.
    pub rows_max: usize,
    /// Batches of a lane that wait for acknowledgements, at most; then reading waits.
    pub inflight_max: usize,
    /// How long the end, or a revoke, waits for acknowledgements.
    #[serde(with = "humantime_serde")]
    pub drain_timeout: Duration,
    /// After how long the process ends whatever hangs. Longer than `pipeline.drain_timeout`, shorter than the
    /// supervisor's own timeout.
    #[serde(with = "humantime_serde")]
    pub shutdown_timeout: Duration,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            lanes: 1,
            rows_max: 256,
            inflight_max: 64,
            drain_timeout: Duration::from_secs(10),
            shutdown_timeout: Duration::from_secs(20),
        }
    }
}

/// What lanes and trainer have in common.
#[derive(Clone)]
pub struct Shared {
    /// Name of the detector, part of every id.
    pub detector: Arc<str>,
    /// Features topics.
    pub topics: Arc<Topics>,
    /// How records are decoded.
    pub decode: decode::Config,
    /// The schemas that records are written by.
    pub schemas: Schemas,
    /// Where results go.
    pub output: sink::Config,
    /// How anomalies are written; JSON until the registry knows the schema of another format.
    pub encoder: sink::Encoder,
    /// What rejected records become.
    pub dead_letter: sink::DeadLetterConfig,
    /// When a score is an anomaly.
    pub threshold: threshold::Config,
    /// What may change while the daemon runs: rules, incidents, limits, training.
    pub live: Live,
    /// How the lanes run.
    pub pipeline: Config,
    /// The model that scores.
    pub cell: Arc<ModelCell>,
    /// Metrics.
    pub metrics: Arc<Metrics>,
    /// Health.
    pub health: Health,
    /// Records scored by all lanes since the start.
    pub n_scored: Arc<AtomicU64>,
    /// Anomalous records of all lanes since the start, published or not.
    pub n_alerts: Arc<AtomicU64>,
    /// Where operators' orders wait for the trainer.
    pub desk: Desk,
    /// Shifts of the scores that thresholds of all lanes have confirmed since the start.
    pub n_shifts: Arc<AtomicU64>,
    /// Requests for a round.
    pub requests: Requests,
    /// What people look at.
    pub view: View,
}

impl Shared {
    /// A decoder for the features of `model`.
    pub fn decoder(&self, model: &Model) -> Box<dyn Decoder> {
        decoding::decoder(&self.decode, &features::fields(&model.schema), &self.schemas)
    }

    /// Records scored by all lanes since the start.
    pub fn n_scored(&self) -> u64 {
        self.n_scored.load(Ordering::Relaxed)
    }

    /// Anomalous records of all lanes since the start, published or not.
    pub fn n_alerts(&self) -> u64 {
        self.n_alerts.load(Ordering::Relaxed)
    }

    /// The share of records that may alert under `model`, q.
    pub fn target(&self, model: &Model) -> f64 {
        self.threshold.alert_rate(model.lineage.records_per_day)
    }

    /// A threshold of one partition as it begins: on the calibration of `model`.
    pub fn threshold_of(&self, model: &Model) -> Box<dyn threshold::Threshold> {
        let target = self.threshold.target(model.lineage.records_per_day);
        threshold::build_for(&self.threshold, &model.calibration, target)
    }

    /// Shifts of the scores that thresholds of all lanes have confirmed since the start.
    pub fn n_shifts(&self) -> u64 {
        self.n_shifts.load(Ordering::Relaxed)
    }
}
