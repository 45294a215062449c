//! What can be seen of the daemon: metrics, each declared once, and health.
//!
//! Names are public (`docs/METRICS.md`). Labels are bounded: topic, partition, lane, reason, severity, result, version;
//! never an entity. Lanes count locally and hand their counts over once a batch, see [`LaneMetrics`].

pub mod health;
mod lane;
mod tally;
pub mod view;

use std::sync::{Mutex, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use prometheus::{
    Counter, Encoder, Gauge, GaugeVec, Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge,
    IntGaugeVec, Opts, Registry, TextEncoder,
};

pub use lane::{BatchCounts, LaneMetrics};
pub use tally::Tally;

use health::Health;

/// Declares the metrics: each line is a field, its type, its name without the prefix, its labels and its help.
macro_rules! metrics {
    ($($(#[$doc:meta])* $field:ident: $kind:ident($name:literal, $help:literal $(, $extra:expr)*);)*) => {
        /// Every metric of the daemon.
        pub struct Metrics {
            registry: Registry,
            model: Mutex<Option<(u64, i64)>>,
            $(#[doc = $help] pub $field: $kind,)*
        }

        impl Metrics {
            /// What is declared, in the order of the page of this file; `process_*` comes beside it.
            pub const DECLARED: &[Declared] = &[$(Declared {
                name: concat!("strayd_", $name),
                collector: stringify!($kind),
                labels: declare_args!($($extra),*).labels,
                help: $help,
            },)*];

            /// Declares every metric in a registry of its own.
            pub fn new() -> Self {
                let registry = Registry::new();
                $(let $field = <$kind as Declare>::declare($name, $help, declare_args!($($extra),*));
                registry.register(Box::new($field.clone())).expect("every metric is declared once");)*
                #[cfg(target_os = "linux")]
                registry
                    .register(Box::new(prometheus::process_collector::ProcessCollector::for_self()))
                    .expect("the process collector is registered once");
                Self { registry, model: Mutex::new(None), $($field,)* }.with_results()
            }
        }
    };
}

macro_rules! declare_args {
    () => {
        Args { labels: &[], buckets: &[] }
    };
    ($labels:expr) => {
        Args { labels: &$labels, buckets: &[] }
    };
    ($labels:expr, $buckets:expr) => {
        Args { labels: &$labels, buckets: $buckets }
    };
}

/// What is said of one metric, for whoever holds pages, dashboards and alerts to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Declared {
    /// Full name, with the prefix.
    pub name: &'static str,
    /// Names of its labels.
    pub labels: &'static [&'static str],
    /// What it says.
    pub help: &'static str,
    collector: &'static str,
}

impl Declared {
    /// Prometheus's word for its type: `counter`, `gauge` or `histogram`.
    pub fn kind(&self) -> &'static str {
        match self.collector {
            "Counter" | "IntCounter" | "IntCounterVec" => "counter",
            "Histogram" | "HistogramVec" | "Tally" => "histogram",
            _ => "gauge",
        }
    }
}

/// Labels and buckets of a metric.
struct Args {
    labels: &'static [&'static str],
    buckets: &'static [f64],
}

/// Seconds from a tenth of a millisecond to ten minutes: one batch takes the least, a backlog the most.
const LATENCY: &[f64] =
    &[0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 600.0];
/// What may become of a reload, as in the metric's label.
const RELOAD_RESULTS: [&str; 3] = ["applied", "invalid", "needs_restart"];
/// What may become of an opinion, as in the metric's label.
const FEEDBACK_RESULTS: [&str; 6] = ["applied", "malformed", "unknown_id", "unusable", "gone", "unreachable"];
/// What may become of a model, as in the metric's label.
const PROMOTION_RESULTS: [&str; 11] = [
    "promoted",
    "restored",
    "switched",
    "rolled_back",
    "kept",
    "rejected",
    "shadowed",
    "waiting",
    "pinned",
    "stopped",
    "refreshed",
];
/// Seconds for one batch of at most a few hundred rows.
const SCORING: &[f64] = &[0.000_01, 0.000_025, 0.000_05, 0.000_1, 0.000_25, 0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.1];
/// Seconds for a training.
const TRAINING: &[f64] = &[0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0];
/// Rows of a batch.
const ROWS: &[f64] = &[1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0, 512.0, 1024.0];
/// p-values: powers of ten below the level that calibration is measured at, and a few above.
const P_VALUES: &[f64] = &[1e-6, 1e-5, 1e-4, 1e-3, CALIBRATION_LEVEL, 0.05, 0.1, 0.25, 0.5, 0.75];
/// Level at which calibration is measured: ten times the usual target, so that some thousand records say something.
const CALIBRATION_LEVEL: f64 = 0.01;
/// Score over threshold; 1 is where an anomaly begins.
const RATIO: &[f64] = &[0.01, 0.02, 0.05, 0.1, 0.2, 0.35, 0.5, 0.7, 0.85, 1.0, 1.2, 1.5, 2.0, 5.0, 10.0, 100.0];

metrics! {
    build_info: IntGaugeVec("build_info", "Version and revision of the binary; always 1", ["version", "revision"]);
    blas_info: IntGaugeVec("blas_info", "BLAS library and the kernel it chose; always 1", ["library"]);
    blas_threads: IntGauge("blas_threads", "Threads that the BLAS library uses for one product");
    config_info: IntGaugeVec("config_info", "Version of the configuration in force: the first digits of its SHA-256; always 1", ["version"]);
    config_reloads_total: IntCounterVec("config_reloads_total", "Reloads of the configuration by their result", ["result"]);
    config_last_reload_successful: IntGauge("config_last_reload_successful", "1 when the last reload, or the start, put the configuration in force");
    start_time_seconds: Gauge("start_time_seconds", "When the daemon started, Unix time");

    records_consumed_total: IntCounter("records_consumed_total", "Records read from the features topic");
    records_rewound_total: IntCounter("records_rewound_total", "Records scored again, silently, to restore a partition's threshold");
    consumed_bytes_total: IntCounter("consumed_bytes_total", "Payload bytes read from the features topic");
    records_rejected_total: IntCounterVec("records_rejected_total", "Records sent to the dead-letter topic", ["reason"]);
    records_skipped_total: IntCounterVec("records_skipped_total", "Records passed over unscored", ["reason"]);
    values_missing_total: IntCounter("values_missing_total", "Feature values that were missing in accepted records");
    values_clipped_total: IntCounter("values_clipped_total", "Feature values clipped after scaling");
    fields_unknown_total: IntCounter("fields_unknown_total", "Fields of records that are not features; ignored");
    consumer_lag_records: IntGaugeVec("consumer_lag_records", "Records between settled offset and head", ["topic", "partition"]);
    rebalances_total: IntCounter("rebalances_total", "Times that partitions were assigned to or revoked from a lane");
    partitions_assigned: IntGauge("partitions_assigned", "Partitions assigned to this instance");
    records_lost_total: IntCounter("records_lost_total", "Records that had left the topic before they were read");
    late_offset_stores_total: IntCounter("late_offset_stores_total", "Offsets settled after their partition had left");

    records_scored_total: IntCounter("records_scored_total", "Records scored");
    batch_records: Histogram("batch_records", "Records of a batch", [], ROWS);
    score_duration_seconds: Histogram("score_duration_seconds", "Time to score a batch", [], SCORING);
    end_to_end_latency_seconds: Histogram("end_to_end_latency_seconds", "From a record's timestamp to the settling of its batch", [], LATENCY);
    score_ratio: Tally("score_ratio", "Score over threshold; above 1 is anomalous", [], RATIO);
    p_value: Tally("p_value", "p-values of scored records; of well calibrated ones a share t is at most t", [], P_VALUES);
    calibration_error_ratio: Gauge("calibration_error_ratio", "How far the share of p-values up to 0.01 is from 0.01, over 0.01");
    threshold: Gauge("threshold", "Raw score at which a record is anomalous");
    target_alert_rate: Gauge("target_alert_rate", "Share of records that may alert while all is well; NaN before the first model");
    anomalies_total: IntCounterVec("anomalies_total", "Anomalies published", ["severity"]);
    incidents_open: IntGauge("incidents_open", "Incidents that are open in the partitions of this instance");
    alerts_suppressed_total: IntCounterVec("alerts_suppressed_total", "Anomalies that were not published", ["reason"]);

    model_info: IntGaugeVec("model_info", "Version of the model that scores; always 1", ["version"]);
    model_age_seconds: Gauge("model_age_seconds", "Time since the training of the model that scores ended");
    model_loaded: IntGauge("model_loaded", "1 when a model scores");
    warmup_eta_seconds: Gauge("warmup_eta_seconds", "Estimated time until the first model scores; 0 when one does, -1 when unknown");
    trainings_total: IntCounterVec("trainings_total", "Training rounds by their result", ["result"]);
    training_duration_seconds: Histogram("training_duration_seconds", "Time of a training round, reading of the history included", [], TRAINING);
    training_rows: IntGauge("training_rows", "Rows that the last round trained on");
    promotions_total: IntCounterVec("promotions_total", "Models that were to score by what became of it", ["result"]);
    canary_recall_ratio: Gauge("canary_recall_ratio", "Share of planted and confirmed anomalies that the model that scores finds at the target; NaN before it is measured");
    model_swap_seconds: Gauge("model_swap_seconds", "How long the last change of model held up a lane");
    promotions_stopped: IntGauge("promotions_stopped", "1 when nothing is promoted until a person steps in");
    explained_variance_ratio: Gauge("explained_variance_ratio", "Share of the held-out variance that the model reconstructs; NaN before a training");
    latents_active_mean: Gauge("latents_active_mean", "Mean number of active latents of a record in the last batch");
    latents_dead_ratio: Gauge("latents_dead_ratio", "Share of the latents that no held-out row activates; NaN before a training");
    feedback_total: IntCounterVec("feedback_total", "Opinions on anomalies by what became of them", ["result"]);
    drift_statistic: Gauge("drift_statistic", "Largest sign of drift that is confirmed by a second, over its limit; from 1 on the stream has drifted");
    drifts_total: IntCounter("drifts_total", "Times that the stream was found to have drifted");
    trainer_leader: IntGauge("trainer_leader", "1 while this replica is the one that trains; without a registry topic each does");
    registry_errors_total: IntCounter("registry_errors_total", "Times that the registry of models could not be read or written");
    trainer_alive: IntGauge("trainer_alive", "1 while the trainer thread runs");

    records_produced_total: IntCounterVec("records_produced_total", "Records handed to the producer", ["topic"]);
    produce_errors_total: IntCounterVec("produce_errors_total", "Records that the producer could not take or deliver", ["reason"]);
    transactions_total: IntCounterVec("transactions_total", "Transactions of the lanes by how they ended; none with at_least_once", ["result"]);
    output_wait_seconds_total: Counter("output_wait_seconds_total", "Time that lanes waited because their output was not acknowledged");
    inflight_batches: IntGaugeVec("inflight_batches", "Batches not yet settled", ["lane"]);

    lane_alive: IntGaugeVec("lane_alive", "1 while the lane's thread runs", ["lane"]);
    lane_last_progress_timestamp_seconds: GaugeVec("lane_last_progress_timestamp_seconds", "When the lane last went through its loop, Unix time", ["lane"]);
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}

impl Metrics {
    /// Makes the children whose labels are known, so that a rate sees their first count, and marks what is unknown.
    fn with_results(self) -> Self {
        for result in ["done", "failed"] {
            self.trainings_total.with_label_values(&[result]);
        }
        for result in RELOAD_RESULTS {
            self.config_reloads_total.with_label_values(&[result]);
        }
        self.config_last_reload_successful.set(1);
        for result in FEEDBACK_RESULTS {
            self.feedback_total.with_label_values(&[result]);
        }
        for result in PROMOTION_RESULTS {
            self.promotions_total.with_label_values(&[result]);
        }
        // Nobody has measured these yet, and a 0 would say the worst of a model.
        let unknown = [&self.target_alert_rate, &self.canary_recall_ratio, &self.explained_variance_ratio];
        for gauge in unknown.into_iter().chain([&self.latents_dead_ratio]) {
            gauge.set(f64::NAN);
        }
        self
    }

    /// Notes which model scores from now on.
    pub fn set_model(&self, version: u64, trained_at_ms: i64) {
        self.model_info.reset();
        self.model_info.with_label_values(&[&version.to_string()]).set(1);
        self.model_loaded.set(1);
        *self.model.lock().unwrap_or_else(PoisonError::into_inner) = Some((version, trained_at_ms));
    }

    /// Notes which configuration is in force.
    pub fn set_config(&self, version: &str) {
        self.config_info.reset();
        self.config_info.with_label_values(&[version]).set(1);
    }

    /// |share of p-values up to the level / level − 1| over the life of the process; 0 while nobody can tell.
    fn calibration_error(&self) -> f64 {
        const RECORDS_MIN: u64 = 1000;
        let level = P_VALUES.iter().position(|bound| *bound == CALIBRATION_LEVEL).expect("the level is a bound");
        let mut counts = self.p_value.cumulative().skip(level);
        let n_low = counts.next().unwrap_or(0);
        let n = counts.last().unwrap_or(0);
        if n < RECORDS_MIN { 0.0 } else { (n_low as f64 / n as f64 / CALIBRATION_LEVEL - 1.0).abs() }
    }

    /// The page that Prometheus scrapes. `now_ms` is the time of the scrape, milliseconds since the epoch.
    pub fn encode(&self, now_ms: i64, health: &Health) -> String {
        for (i, lane) in health.lanes().iter().enumerate() {
            let label = &[i.to_string()];
            self.lane_alive.with_label_values(label).set(i64::from(lane.is_alive()));
            let seconds = lane.last_progress_ms() as f64 / 1000.0;
            self.lane_last_progress_timestamp_seconds.with_label_values(label).set(seconds);
        }
        if let Some((_, trained_at_ms)) = *self.model.lock().unwrap_or_else(PoisonError::into_inner) {
            self.model_age_seconds.set((now_ms - trained_at_ms).max(0) as f64 / 1000.0);
        }
        self.calibration_error_ratio.set(self.calibration_error());
        let mut page = Vec::new();
        TextEncoder::new().encode(&self.registry.gather(), &mut page).expect("writing to memory does not fail");
        String::from_utf8(page).expect("the text format is UTF-8")
    }
}

/// Now, milliseconds since the epoch.
pub fn now_ms() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}

/// How a kind of metric is made.
trait Declare {
    fn declare(name: &str, help: &str, args: Args) -> Self;
}

fn opts(name: &str, help: &str) -> Opts {
    Opts::new(format!("strayd_{name}"), help)
}

macro_rules! declare_plain {
    ($($kind:ident)*) => {$(
        impl Declare for $kind {
            fn declare(name: &str, help: &str, _: Args) -> Self {
                $kind::with_opts(opts(name, help)).expect("the name is valid")
            }
        }
    )*};
}

macro_rules! declare_labelled {
    ($($kind:ident)*) => {$(
        impl Declare for $kind {
            fn declare(name: &str, help: &str, args: Args) -> Self {
                $kind::new(opts(name, help), args.labels).expect("the name is valid")
            }
        }
    )*};
}

declare_plain!(Counter IntCounter IntGauge Gauge);
declare_labelled!(IntCounterVec IntGaugeVec GaugeVec);

impl Declare for Histogram {
    fn declare(name: &str, help: &str, args: Args) -> Self {
        let opts = HistogramOpts { common_opts: opts(name, help), buckets: args.buckets.to_vec() };
        Histogram::with_opts(opts).expect("the name is valid")
    }
}

impl Declare for Tally {
    fn declare(name: &str, help: &str, args: Args) -> Self {
        Tally::new(opts(name, help), args.buckets).expect("the name is valid")
    }
}

impl Declare for HistogramVec {
    fn declare(name: &str, help: &str, args: Args) -> Self {
        let opts = HistogramOpts { common_opts: opts(name, help), buckets: args.buckets.to_vec() };
        HistogramVec::new(opts, args.labels).expect("the name is valid")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_shows_the_model_and_its_age() {
        let metrics = Metrics::new();
        metrics.set_model(3, 1000);
        metrics.set_model(4, 2000);
        let page = metrics.encode(12_000, &Health::new(1));
        assert!(page.contains("strayd_model_info{version=\"4\"} 1"), "{page}");
        assert!(!page.contains("version=\"3\""), "the old version is not shown any more");
        assert!(page.contains("strayd_model_age_seconds 10\n"), "{page}");
    }

    #[test]
    fn what_is_declared_is_what_the_page_shows() {
        let metrics = Metrics::new();
        metrics.set_model(1, 0);
        let page = metrics.encode(1, &Health::new(1));
        for declared in Metrics::DECLARED {
            let line = format!("# TYPE {} {}", declared.name, declared.kind());
            // A metric with labels is on the page only once it has a child.
            let named = page.contains(&format!("# TYPE {} ", declared.name));
            assert!(page.contains(&line) || !(declared.labels.is_empty() || named), "{declared:?}");
        }
        assert_eq!(page.lines().filter(|line| line.starts_with("# TYPE strayd_model_info gauge")).count(), 1);
    }

    #[test]
    fn metrics_of_two_daemons_in_a_process_do_not_mix() {
        let (a, b) = (Metrics::new(), Metrics::new());
        a.records_scored_total.inc();
        assert_eq!(b.records_scored_total.get(), 0);
    }
}
