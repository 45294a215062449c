//! What becomes of a challenger by `training.mode`, and while a version is pinned: the trainer over a table.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use strayd::app;
use strayd::config::{Config, RawConfig};
use strayd::history::{Head, TableHistory};
use strayd::pipeline::Shared;
use strayd::pipeline::trainer::{Mode, Ticked, Trainer};
use strayd::registry::{Directory, Registry};
use strayd::shutdown::Shutdown;
use strayd::telemetry::Metrics;
use strayd::telemetry::health::Health;

const N_FIRST: i64 = 600;
const N_ROWS: i64 = 1200;

struct Bench {
    shared: Shared,
    trainer: Trainer,
    registry: Directory,
    _folder: tempfile::TempDir,
}

/// Row `i` of four features that follow two waves.
fn row(i: i64) -> Vec<u8> {
    let wave = |period: f64| (i as f64 / period).sin();
    let (a, b, noise) = (wave(7.3), wave(31.7), 0.05 * wave(0.618));
    format!("[{a}, {b}, {}, {}]", a + b + noise, a - b - noise).into_bytes()
}

/// A trainer with a first model, and as many rows again, of which every challenger would be promoted.
fn bench(mode: Mode) -> Bench {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let mut raw = RawConfig::default();
    raw.input.topic = "features".into();
    raw.history.rows_min = N_FIRST as usize;
    raw.registry.path = folder.path().join("models");
    (raw.training.mode, raw.training.gate.enabled) = (mode, false);
    (raw.training.retrain_gap, raw.training.cpu_share) = (Duration::ZERO, 1.0);
    raw.model.steps = 60;
    let config = Config::check(raw).expect("the configuration is right");
    let shared = app::shared(&config, Arc::new(Metrics::new()), Health::new(1));
    let head = Head::default();
    head.advance_to(N_FIRST);
    let history = TableHistory::new("features", Arc::new((0..N_ROWS).map(row).collect()), head.clone());
    let registry = Directory::new(&config.registry);
    let (history, models) = (Box::new(history), Box::new(registry.clone()));
    let mut trainer = Trainer::new(shared.clone(), history, models, app::settings(&config), Shutdown::default());
    assert_eq!(trainer.tick().expect("a folder can be written"), Ticked::Promoted(1));
    head.advance_to(N_ROWS);
    shared.n_scored.fetch_add((N_ROWS - N_FIRST) as u64, Ordering::Relaxed);
    Bench { shared, trainer, registry, _folder: folder }
}

impl Bench {
    fn tick(&mut self) -> Ticked {
        self.trainer.tick().expect("a folder can be read")
    }

    fn scores(&self) -> u64 {
        self.shared.cell.load().expect("a model scores").version
    }

    fn ended(&self, result: &str) -> u64 {
        self.shared.metrics.promotions_total.with_label_values(&[result]).get()
    }
}

#[test]
fn auto_promotes() {
    let mut bench = bench(Mode::Auto);
    assert_eq!(bench.tick(), Ticked::Promoted(2));
    assert_eq!((bench.scores(), bench.ended("promoted")), (2, 2));
}

#[test]
fn shadow_reports_and_never_promotes() {
    let mut bench = bench(Mode::Shadow);
    assert_eq!(bench.tick(), Ticked::Stayed(2));
    assert_eq!((bench.scores(), bench.ended("shadowed"), bench.ended("refreshed")), (1, 1, 0));
    assert!(bench.registry.load(2).is_ok(), "it is stored, for whoever wants to look at it");
}

#[test]
fn manual_waits_for_a_person() {
    let mut bench = bench(Mode::Manual);
    assert_eq!(bench.tick(), Ticked::Stayed(2));
    assert_eq!((bench.scores(), bench.ended("waiting")), (1, 1));
    bench.registry.promote(2).expect("it is stored");
    assert_eq!(bench.tick(), Ticked::Promoted(2));
    assert_eq!((bench.scores(), bench.ended("switched")), (2, 1));
}

#[test]
fn nothing_is_promoted_over_a_pin() {
    let mut bench = bench(Mode::Auto);
    bench.registry.pin(Some(1)).expect("a folder can be written");
    assert_eq!(bench.tick(), Ticked::Stayed(2));
    assert_eq!((bench.scores(), bench.ended("pinned"), bench.ended("refreshed")), (1, 1, 0));
}
