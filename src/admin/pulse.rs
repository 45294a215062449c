//! The last minutes second by second, and how things stand now: rate, lag, how high scores are, alerts against their target.
//!
//! A task of the admin's runtime looks once a second; whoever asks gets what it has seen.

use std::collections::VecDeque;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde::Serialize;
use tokio::time::MissedTickBehavior;

use super::Admin;
use crate::record::rfc3339;
use crate::telemetry::health::Readiness;
use crate::telemetry::now_ms;

/// Seconds that are kept.
const BEATS_MAX: usize = 300;
/// Beats that the rate is taken over.
const RATE_BEATS: usize = 5;

/// What was seen in one second.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Beat {
    /// When it ended, milliseconds since the epoch.
    pub time_ms: i64,
    /// Records scored a second.
    pub rate: f64,
    /// Records between settled offsets and heads.
    pub lag: i64,
    /// Highest score over its threshold among the batches that were looked at; none where nothing was scored.
    pub ratio: Option<f64>,
    /// Anomalous records, published or not.
    pub n_alerts: u64,
    #[serde(skip)]
    n_scored: u64,
}

#[derive(Debug, Default)]
struct Beats {
    /// How many there were since the start.
    n: u64,
    latest: VecDeque<Beat>,
}

/// The last minutes; clones share them.
#[derive(Clone, Debug)]
pub struct Pulse {
    beats: Arc<Mutex<Beats>>,
    /// When the process started, milliseconds since the epoch.
    pub started_ms: i64,
}

/// The model that scores.
#[derive(Clone, Debug, Serialize)]
struct Scoring {
    version: u64,
    hash: String,
    trained_at: String,
    n_features: usize,
}

/// How things stand.
#[derive(Clone, Debug, Serialize)]
pub struct Status {
    time: String,
    started: String,
    detector: String,
    version: String,
    #[serde(flatten)]
    readiness: Readiness,
    /// Why the process should be started again; none while all lanes make progress.
    stuck: Option<String>,
    /// Seconds that were looked at since the start, each of which is a sample; the newest one's are `rate`, `lag` and `ratio`.
    n_samples: u64,
    rate: f64,
    lag: i64,
    ratio: Option<f64>,
    threshold: Option<f64>,
    n_scored: u64,
    n_alerts: u64,
    n_published: u64,
    alert_rate: Option<f64>,
    target_alert_rate: Option<f64>,
    incidents_open: i64,
    promotions_stopped: bool,
    model: Option<Scoring>,
}

impl Default for Pulse {
    fn default() -> Self {
        Self { beats: Arc::default(), started_ms: now_ms() }
    }
}

impl Pulse {
    fn known(&self) -> MutexGuard<'_, Beats> {
        self.beats.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What was seen, oldest first.
    pub fn beats(&self) -> Vec<Beat> {
        self.known().latest.iter().copied().collect()
    }

    /// How many seconds were seen since the start.
    pub fn n_beats(&self) -> u64 {
        self.known().n
    }
}

/// Looks once a second, for ever.
pub async fn beat(admin: Admin) {
    let mut interval = tokio::time::interval(Duration::from_secs(1));
    // A second that comes late is a long one, and not followed by an empty one.
    interval.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let (mut last_ms, mut n_scored, mut n_alerts) = (now_ms(), 0, 0);
    loop {
        interval.tick().await;
        let now = now_ms();
        let (scored, alerts) = counted(&admin);
        let seconds = (now - last_ms).max(1) as f64 / 1000.0;
        let lag = admin.view.partitions().iter().map(|partition| partition.lag).sum();
        let beat = Beat {
            time_ms: now,
            rate: (scored - n_scored) as f64 / seconds,
            lag,
            ratio: admin.view.take_ratio_max(),
            n_alerts: alerts - n_alerts,
            n_scored: scored - n_scored,
        };
        (last_ms, n_scored, n_alerts) = (now, scored, alerts);
        let mut beats = admin.pulse.known();
        beats.n += 1;
        if beats.latest.len() == BEATS_MAX {
            beats.latest.pop_front();
        }
        beats.latest.push_back(beat);
    }
}

/// How things stand now.
pub fn status(admin: &Admin) -> Status {
    let known = admin.pulse.known();
    let (n_samples, beats) = (known.n, &known.latest);
    let recent = beats.iter().rev().take(RATE_BEATS);
    let rate = recent.clone().map(|beat| beat.rate).sum::<f64>() / recent.len().max(1) as f64;
    let (last, scored): (Option<Beat>, u64) = (beats.back().copied(), beats.iter().map(|beat| beat.n_scored).sum());
    let alerts: u64 = beats.iter().map(|beat| beat.n_alerts).sum();
    drop(known);
    let now = now_ms();
    let (n_scored, n_alerts) = counted(admin);
    let model = admin.cell.load();
    let finite = |value: f64| value.is_finite().then_some(value);
    Status {
        time: rfc3339(now),
        started: rfc3339(admin.pulse.started_ms),
        detector: admin.detector.to_string(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        readiness: admin.health.readiness(),
        stuck: admin.health.liveness(now).err(),
        n_samples,
        rate,
        lag: last.map_or(0, |beat| beat.lag),
        ratio: last.and_then(|beat| beat.ratio),
        threshold: model.as_ref().and_then(|_| finite(admin.metrics.threshold.get())),
        n_scored,
        n_alerts,
        n_published: admin.view.n_published(),
        alert_rate: (scored > 0).then(|| alerts as f64 / scored as f64),
        target_alert_rate: finite(admin.metrics.target_alert_rate.get()),
        incidents_open: admin.metrics.incidents_open.get(),
        promotions_stopped: admin.metrics.promotions_stopped.get() == 1,
        model: model.map(|model| Scoring {
            version: model.version,
            hash: model.short_hash().to_owned(),
            trained_at: model.trained_at(),
            n_features: model.n_features(),
        }),
    }
}

fn counted(admin: &Admin) -> (u64, u64) {
    (admin.n_scored.load(Ordering::Relaxed), admin.n_alerts.load(Ordering::Relaxed))
}
