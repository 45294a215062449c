//! A promotion changes model and threshold together: the alert rate stays where it was, and p-values mean the same.
//!
//! The real lane and the real trainer over a table in memory. The first model is trained for a few steps only, so that the
//! one that takes its place scores on quite another level.

use std::io::Write;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use rand_distr::{Distribution, StandardNormal};

use strayd::app;
use strayd::config::{Config, RawConfig};
use strayd::history::{Head, TableHistory};
use strayd::model::Model;
use strayd::pipeline::Shared;
use strayd::pipeline::inflight::Settling;
use strayd::pipeline::lane::Lane;
use strayd::pipeline::trainer::{Ticked, Trainer};
use strayd::registry::MemoryRegistry;
use strayd::shutdown::Shutdown;
use strayd::sink::{Channel, MemorySink, Sink};
use strayd::source::{MemorySource, Stored};
use strayd::telemetry::Metrics;
use strayd::telemetry::health::Health;

const N_FEATURES: usize = 8;
const N_HISTORY: usize = 4000;
/// Records scored before the promotion, of which the last are compared, and after it.
const N_BEFORE: usize = 24_000;
const N_COMPARED: usize = 20_000;

/// Rows of three causes in eight features with noise, as payloads.
fn payloads(n: usize) -> Vec<Vec<u8>> {
    let mut rng = ChaCha8Rng::seed_from_u64(3);
    let mut normal = || -> f64 { StandardNormal.sample(&mut rng) };
    let row = |_| {
        let causes = [normal(), normal(), normal()];
        let value = |j: usize| {
            let mixed: f64 = (0..3).map(|c| causes[c] * ((j * 3 + c * 5) as f64).sin()).sum();
            5.0 + mixed
        };
        let values: Vec<f64> = (0..N_FEATURES).map(|j| value(j) + 0.3 * normal()).collect();
        serde_json::to_vec(&values).expect("numbers are JSON")
    };
    (0..n).map(row).collect()
}

/// A lane and its trainer over a table.
struct Bench {
    shared: Shared,
    lane: Lane,
    trainer: Trainer,
    sink: Arc<MemorySink>,
    head: Head,
    n_read: usize,
    /// How long each turn of the lane took.
    turns: Vec<Duration>,
}

impl Bench {
    fn new() -> Self {
        let mut raw = RawConfig::default();
        raw.input.topic = "features".into();
        raw.output.scores = Some("scores".into());
        raw.history.rows = N_HISTORY;
        (raw.model.steps, raw.model.sae.lr) = (30, 1e-4);
        raw.model.round_steps = 600;
        raw.model.members.memory_rows = 0;
        raw.model.round_lr = 3e-3;
        raw.model.retrain_records = 1_000_000;
        raw.training.gate.enabled = false;
        raw.training.cpu_share = 1.0;
        raw.training.watch.records = 0;
        let config = Config::check(raw).expect("the configuration is right");
        let shared = app::shared(&config, Arc::new(Metrics::new()), Health::new(1));
        let payloads = Arc::new(payloads(N_HISTORY + N_BEFORE + N_COMPARED));
        let record = |payload: &Vec<u8>| Stored { payload: Some(payload.clone()), ..Stored::default() };
        let source = MemorySource::new(payloads[N_HISTORY..].iter().map(record).collect());
        let sink = Arc::new(MemorySink::default());
        let settling = Arc::new(Settling::new(Arc::clone(&sink) as Arc<dyn Sink>, Duration::ZERO, 0));
        let source = source.starting_at(N_HISTORY as i64);
        let lane = Lane::new(0, shared.clone(), Box::new(source), Arc::clone(&sink) as Arc<dyn Sink>, settling);
        let head = Head::default();
        head.advance_to(N_HISTORY as i64);
        let history = Box::new(TableHistory::new("table", payloads, head.clone()));
        let registry = Box::new(MemoryRegistry::default());
        let trainer = Trainer::new(shared.clone(), history, registry, app::settings(&config), Shutdown::default());
        Self { shared, lane, trainer, sink, head, n_read: 0, turns: Vec::new() }
    }

    /// Lets the lane score until it has scored `n` records, and returns the p-values of the last turns.
    fn score(&mut self, n: usize) -> Vec<f64> {
        let mut p_values = Vec::new();
        while self.n_read < n {
            let began = Instant::now();
            self.lane.step().expect("a lane in memory does not fail");
            self.turns.push(began.elapsed());
            for sent in self.sink.take().iter().filter(|sent| sent.channel == Channel::Scores) {
                let record: serde_json::Value = serde_json::from_slice(&sent.value).expect("a score is JSON");
                p_values.push(record["score"]["p_value"].as_f64().expect("a p-value"));
                self.n_read += 1;
            }
            self.head.advance_to((N_HISTORY + self.n_read) as i64);
        }
        p_values
    }

    fn model(&self) -> Arc<Model> {
        self.shared.cell.load().expect("a model scores")
    }
}

/// p-values of the records before and after `swap`.
fn around(swap: impl FnOnce(&mut Bench)) -> (Vec<f64>, Vec<f64>, Bench) {
    let mut bench = Bench::new();
    assert_eq!(bench.trainer.tick().expect("a table is always there"), Ticked::Promoted(1));
    let before = bench.score(N_BEFORE);
    let before = before[before.len() - N_COMPARED..].to_vec();
    swap(&mut bench);
    assert_eq!(bench.model().version, 2);
    let after = bench.score(N_BEFORE + N_COMPARED);
    (before, after, bench)
}

/// Probability of a larger Kolmogorov–Smirnov distance between two samples of one distribution (asymptotic).
fn kolmogorov_smirnov(a: &[f64], b: &[f64]) -> f64 {
    let sorted = |values: &[f64]| {
        let mut values = values.to_vec();
        values.sort_by(f64::total_cmp);
        values
    };
    let (a, b) = (sorted(a), sorted(b));
    let share = |values: &[f64], x: f64| values.partition_point(|value| *value <= x) as f64 / values.len() as f64;
    let distance = a.iter().chain(&b).map(|x| (share(&a, *x) - share(&b, *x)).abs()).fold(0.0, f64::max);
    let n = a.len() as f64 * b.len() as f64 / (a.len() + b.len()) as f64;
    let lambda = (n.sqrt() + 0.12 + 0.11 / n.sqrt()) * distance;
    let term = |k: i32| 2.0 * (-1.0_f64).powi(k - 1) * (-2.0 * f64::from(k * k) * lambda * lambda).exp();
    (1..100).map(term).sum::<f64>().clamp(0.0, 1.0)
}

/// Whether two counts differ by more than chance allows: three and a half deviations of a Poisson difference.
fn differ(a: usize, b: usize) -> bool {
    (a as f64 - b as f64).abs() > 3.5 * ((a + b) as f64).sqrt().max(1.0)
}

fn alerts(p_values: &[f64], q: f64) -> usize {
    p_values.iter().filter(|p| **p <= q).count()
}

fn say(line: &str) {
    writeln!(std::io::stderr(), "{line}").expect("standard error can be written");
}

#[test]
fn the_alert_rate_and_the_meaning_of_p_values_survive_a_promotion() {
    let (before, after, bench) = around(|bench| {
        bench.shared.requests.ask();
        assert_eq!(bench.trainer.tick().expect("a table is always there"), Ticked::Promoted(2));
    });
    let n_turns = N_BEFORE / 256 + 1;
    let mut usual = bench.turns.clone();
    usual.sort_unstable();
    let (median, at_swap) = (usual[usual.len() / 2], bench.turns[n_turns]);
    let swap = bench.shared.metrics.model_swap_seconds.get() * 1e6;
    say(&format!(
        "a turn of the lane takes {median:?}, the one after the promotion {at_swap:?}; the swap held it up {swap:.0} us"
    ));
    assert!(swap > 0.0, "the swap was measured");
    for q in [1e-3, 1e-2] {
        let (a, b) = (alerts(&before, q), alerts(&after, q));
        say(&format!("at {q}: {a} of {N_COMPARED} before, {b} after"));
        assert!(!differ(a, b), "at {q}: {a} alerts before, {b} after");
    }
    let p = kolmogorov_smirnov(&before, &after);
    say(&format!("Kolmogorov-Smirnov p {p:.3}"));
    assert!(p > 0.01, "p-values before and after differ: {p}");
}

#[test]
fn without_recalibration_the_same_comparison_fails() {
    let (before, after, _) = around(|bench| {
        let old = bench.model();
        bench.shared.requests.ask();
        assert_eq!(bench.trainer.tick().expect("a table is always there"), Ticked::Promoted(2));
        let new = bench.model();
        // The new weights under what the old model knew of its own scores.
        let moved = new.calibration.location - old.calibration.location;
        say(&format!("the median log score has moved by {moved:.2}, scale {:.2}", old.calibration.scale));
        let (autoencoder, preprocessor) = (new.autoencoder.clone(), new.preprocessor.clone());
        let model = Model { version: 2, hash: new.hash.clone(), autoencoder, preprocessor, ..Model::clone(&old) };
        bench.shared.cell.swap(Arc::new(model));
    });
    let p = kolmogorov_smirnov(&before, &after);
    let counts = (alerts(&before, 1e-2), alerts(&after, 1e-2));
    say(&format!("without recalibration: Kolmogorov-Smirnov p {p:.2e}, {counts:?} at 0.01"));
    assert!(p <= 0.01 || differ(alerts(&before, 1e-2), alerts(&after, 1e-2)), "nothing has changed: p {p}");
}

#[test]
fn the_comparison_knows_equal_samples_from_others() {
    let uniform: Vec<f64> = (0..1000).map(|i| f64::from(i) / 1000.0).collect();
    let squared: Vec<f64> = uniform.iter().map(|p| p * p).collect();
    assert!(kolmogorov_smirnov(&uniform, &uniform) > 0.99);
    assert!(kolmogorov_smirnov(&uniform, &squared) < 1e-6);
    assert!(differ(20, 60) && !differ(20, 35));
}
