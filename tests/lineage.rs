//! A model's lineage is enough to train it again, bit for bit; what is gone is named.
//!
//! The trainer runs over a table in memory and a registry in a folder, one tick at a time; and once in the daemon.

mod support;

use std::ops::ControlFlow;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use strayd::app;
use strayd::config::{Config, RawConfig};
use strayd::history::{Bound, Head, History, Past, Range, TableHistory};
use strayd::model::Model;
use strayd::pipeline::Shared;
use strayd::pipeline::reproduce::{Missing, ReproduceError, Reproduced, reproduce};
use strayd::pipeline::trainer::{Ticked, Trainer};
use strayd::registry::{Directory, Registry};
use strayd::shutdown::Shutdown;
use strayd::telemetry::Metrics;
use strayd::telemetry::health::Health;
use support::{Broker, Launch, Outgoing, unique};

/// Rows before the first model.
const N_FIRST: i64 = 800;
/// Rows in all.
const N_ROWS: i64 = 3000;

/// Row `i` of four features that follow two hidden ones; `offset` moves the first.
fn row(i: i64, offset: f64) -> String {
    let wave = |period: f64| (i as f64 / period).sin();
    let (a, b) = (wave(7.3), wave(31.7));
    let noise = 0.05 * wave(0.618);
    format!("{{\"a\": {:.4}, \"b\": {b:.4}, \"sum\": {:.4}, \"gap\": {:.4}}}", a + offset, a + b + noise, a - b - noise)
}

/// Every fiftieth row is far out, so that admission has something to reject.
fn payloads() -> Vec<Vec<u8>> {
    (0..N_ROWS).map(|i| row(i, if i % 50 == 49 { 9.0 } else { 0.0 }).into_bytes()).collect()
}

/// A table of which retention has removed the rows before `start`, and in which somebody may have tampered with one.
struct Retained {
    table: TableHistory,
    start: i64,
}

impl Retained {
    fn new(payloads: Vec<Vec<u8>>, start: i64) -> Self {
        let head = Head::default();
        head.advance_to(payloads.len() as i64);
        Self { table: TableHistory::new("features", Arc::new(payloads), head), start }
    }
}

impl History for Retained {
    fn name(&self) -> String {
        self.table.name()
    }

    fn extents(&mut self, bound: Bound) -> Result<Vec<Range>, String> {
        let extents = self.table.extents(bound)?;
        Ok(extents.into_iter().map(|extent| Range { start: self.start, ..extent }).collect())
    }

    fn read(&mut self, ranges: &[Range], take: &mut dyn FnMut(Past<'_>)) -> Result<(), String> {
        assert!(ranges.iter().all(|range| range.start >= self.start), "what is gone can't be read");
        self.table.read(ranges, take)
    }
}

/// A trainer over the rows, and its registry.
struct Bench {
    shared: Shared,
    trainer: Trainer,
    head: Head,
    registry: Directory,
    _folder: tempfile::TempDir,
}

fn bench(change: impl FnOnce(&mut RawConfig)) -> Bench {
    bench_of(payloads(), change)
}

fn bench_of(payloads: Vec<Vec<u8>>, change: impl FnOnce(&mut RawConfig)) -> Bench {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let mut raw = RawConfig::default();
    raw.input.topic = "features".into();
    raw.history.rows_min = N_FIRST as usize;
    raw.history.recent_rows = 1500;
    raw.training.retrain_gap = Duration::ZERO;
    raw.training.drift_interval = Duration::ZERO;
    raw.registry.path = folder.path().join("models");
    raw.registry.keep = 20;
    raw.model.steps = 60;
    change(&mut raw);
    let config = Config::check(raw).expect("the configuration is right");
    let shared = app::shared(&config, Arc::new(Metrics::new()), Health::new(1));
    let head = Head::default();
    let table = TableHistory::new("features", Arc::new(payloads), head.clone());
    let registry = Directory::new(&config.registry);
    let (history, models) = (Box::new(table), Box::new(registry.clone()));
    let trainer = Trainer::new(shared.clone(), history, models, app::settings(&config), Shutdown::default());
    Bench { shared, trainer, head, registry, _folder: folder }
}

impl Bench {
    /// Makes the first model and lets the rows pass. Returns the newest version.
    fn run(&mut self) -> u64 {
        self.head.advance_to(N_FIRST);
        self.tick();
        self.pass()
    }

    /// Lets the rows pass in steps of 64, as a lane would score them. Returns the newest version.
    fn pass(&mut self) -> u64 {
        for row in (N_FIRST..N_ROWS).step_by(64) {
            self.head.advance_to((row + 64).min(N_ROWS));
            self.shared.n_scored.fetch_add(64, Ordering::Relaxed);
            self.tick();
        }
        self.registry.list().expect("a folder can be listed").last().expect("a model").version
    }

    fn tick(&mut self) -> Ticked {
        let ticked = self.trainer.tick().expect("the registry works");
        assert!(!matches!(ticked, Ticked::Failed(_)), "{ticked:?}");
        ticked
    }

    fn stored(&self, version: u64) -> Model {
        self.registry.load(version).expect("it is kept")
    }

    fn again(&self, version: u64, payloads: Vec<Vec<u8>>, start: i64) -> Result<Reproduced, ReproduceError> {
        let mut history = Retained::new(payloads, start);
        reproduce(version, &self.registry, &mut history, &mut |_| ControlFlow::Continue(()))
    }
}

/// What is missing for a training, in words.
#[track_caller]
fn missing(again: Result<Reproduced, ReproduceError>) -> (Vec<Missing>, String) {
    let error = again.expect_err("something is missing");
    let text = error.to_string();
    match error {
        ReproduceError::Missing { missing, .. } => (missing, text),
        other => panic!("{other}"),
    }
}

#[test]
fn first_models_and_rounds_come_out_the_same() {
    let mut bench = bench(|_| {});
    let newest = bench.run();
    assert!(newest >= 4, "{newest} models");
    for version in [1, 2, newest] {
        let again = bench.again(version, payloads(), 0).unwrap_or_else(|error| panic!("{error}"));
        let stored = bench.stored(version);
        assert_eq!(again.model.hash, stored.hash, "version {version}: {:?}", again.differences);
        assert!(again.is_same());
        assert_eq!(again.model.lineage, stored.lineage);
        assert_eq!(again.differences, [] as [String; 0]);
    }
    let lineage = bench.stored(newest).lineage;
    assert_eq!(lineage.reason, "records");
    assert!(lineage.admission["rejected"]["0"].as_str().is_some_and(|ids| !ids.is_empty()), "{lineage:?}");
}

#[test]
fn another_admission_would_make_another_model() {
    let mut bench = bench(|_| {});
    let newest = bench.run();
    let mut model = bench.stored(newest);
    // A registry whose lineage says that nothing had been rejected before.
    model.lineage.admission = serde_json::Value::Null;
    bench.registry.store(&model).expect("written");
    let again = bench.again(newest, payloads(), 0).expect("nothing is missing");
    assert!(!again.is_same(), "the state of the admission decides which rows are learnt");
}

#[test]
fn what_retention_has_removed_is_named() {
    let mut bench = bench(|_| {});
    let newest = bench.run();
    let chunk = bench.stored(newest).lineage.chunks[0].clone();
    let (missing, text) = missing(bench.again(newest, payloads(), chunk.start + 100));
    let range = Range { partition: 0.into(), start: chunk.start, end: chunk.start + 100 };
    assert!(matches!(&missing[..], [Missing::Offsets { range: gone, .. }] if *gone == range), "{missing:?}");
    let (first, last, begins) = (chunk.start, chunk.start + 99, chunk.start + 100);
    let said =
        format!("partition 0, offsets {first} to {last}: removed by retention, the partition begins at {begins}");
    assert!(text.contains(&said), "{text}");
}

#[test]
fn a_record_that_is_another_is_named_by_its_stretch_and_checksum() {
    let mut bench = bench(|_| {});
    let newest = bench.run();
    let chunk = bench.stored(newest).lineage.chunks[0].clone();
    let mut tampered = payloads();
    tampered[chunk.start as usize + 3] = row(chunk.start + 3, 0.001).into_bytes();
    let (missing, text) = missing(bench.again(newest, tampered, 0));
    assert!(matches!(&missing[..], [Missing::Changed { was, .. }] if *was == chunk), "{missing:?}");
    assert!(text.contains("other records than it was trained on") && text.contains(&chunk.sha256), "{text}");
}

#[test]
fn a_parent_that_is_not_kept_is_named_with_everything_else() {
    let mut bench = bench(|_| {});
    let newest = bench.run();
    let parent = bench.stored(newest).lineage.parent.expect("a round has a parent");
    std::fs::remove_dir_all(bench.registry.path_of(parent)).expect("it is there");
    let (missing, text) = missing(bench.again(newest, payloads(), N_ROWS - 1));
    let of_parent = Missing::Version { version: parent, role: "whose weights the round started from" };
    assert!(missing.contains(&of_parent), "{missing:?}");
    assert!(missing.iter().any(|one| matches!(one, Missing::Offsets { .. })), "all of it is listed: {text}");
}

#[test]
fn a_request_makes_a_round_at_once_and_its_lineage_says_so() {
    let mut bench = bench(|raw| {
        raw.training.enabled = false;
        raw.training.retrain_gap = Duration::from_secs(3600);
    });
    assert_eq!(bench.run(), 1, "training is off");
    bench.shared.requests.ask();
    bench.tick();
    assert_eq!(bench.stored(2).lineage.reason, "request");
    assert_eq!(bench.tick(), Ticked::Nothing, "once");
}

#[test]
fn a_shift_that_a_threshold_confirms_makes_a_round() {
    let mut bench = bench(|raw| raw.model.retrain_records = 1_000_000);
    bench.head.advance_to(N_ROWS);
    bench.tick();
    assert_eq!(bench.tick(), Ticked::Nothing);
    bench.shared.n_shifts.fetch_add(1, Ordering::Relaxed);
    bench.tick();
    let lineage = bench.stored(2).lineage;
    assert_eq!((lineage.reason.as_str(), lineage.class.as_str()), ("shift", "shift"));
    bench.shared.n_shifts.fetch_add(1, Ordering::Relaxed);
    assert_eq!(bench.tick(), Ticked::Nothing, "training.drift_gap has not passed");
}

/// Reason and class of each round of a settled stream that moves by `offset` at row 1800, and how often drift was found.
fn rounds_of_a_move(offset: f64) -> (Vec<(String, String)>, f64) {
    let moved = (0..N_ROWS).map(|i| row(i, if i >= 1800 { offset } else { 0.0 }).into_bytes());
    let mut bench = bench_of(moved.collect(), |raw| raw.training.drift_gap = Duration::ZERO);
    bench.head.advance_to(N_FIRST);
    bench.tick();
    // As if a hundred thousand had come before: rounds are rare now, every 1575 records.
    bench.shared.n_scored.fetch_add(100_000, Ordering::Relaxed);
    bench.tick();
    let newest = bench.pass();
    let lineage = |version| bench.stored(version).lineage;
    let rounds = (3..=newest).map(lineage).map(|lineage| (lineage.reason, lineage.class)).collect();
    (rounds, bench.shared.metrics.drifts_total.get() as f64)
}

#[test]
fn a_stream_that_moves_has_a_round_for_drift_and_one_that_stays_has_not() {
    let (rounds, n_drifts) = rounds_of_a_move(0.0);
    assert!(rounds.iter().all(|(reason, class)| reason == "records" && class == "none"), "{rounds:?}");
    assert_eq!(n_drifts, 0.0);
    let (rounds, n_drifts) = rounds_of_a_move(1.5);
    assert!(matches!(&rounds[..], [(reason, class), ..] if reason == "drift" && class != "none"), "{rounds:?}");
    assert!(n_drifts >= 1.0, "{n_drifts}");
}

#[test]
fn a_daemons_model_is_trained_again_by_the_command() {
    const SOON: Duration = Duration::from_secs(60);
    let Some(broker) = Broker::get() else { return };
    let (features, group) = (broker.new_topic("features", 2), unique("strayd"));
    let (anomalies, dead_letters) = (broker.new_topic("anomalies", 1), broker.new_topic("dead-letters", 1));
    let produce = |rows: std::ops::Range<i64>| {
        broker.produce(&features, rows.map(|i| Outgoing::value(row(i, 0.0)).partition((i % 2) as i32)));
    };
    produce(0..2500);
    let config = format!(
        "[kafka]\nbrokers = \"{}\"\ngroup = \"{group}\"\ncommit_interval = \"50ms\"\n[input]\ntopic = \"{features}\"\n\
         [output]\nanomalies = \"{anomalies}\"\ndead_letters = \"{dead_letters}\"\n[registry]\npath = \"models\"\n\
         keep = 20\n",
        broker.brokers()
    );
    let launch = Launch::new(&config);
    let daemon = launch.start();
    daemon.wait_ready(SOON);
    produce(2500..3200);
    daemon.wait_metrics(SOON, "the rows to be scored", |m| m.sum("strayd_records_scored_total", &[]) >= 700.0);
    // Offsets must be committed before a round can read them.
    let ends = broker.end_offsets(&features);
    daemon.wait(SOON, "every offset to be committed", || {
        broker.committed(&group, &features).into_iter().map(|(p, c)| (p, c.offset)).eq(ends.clone())
    });
    let n_before = daemon.metrics().sum("strayd_trainings_total", &[("result", "done")]);
    daemon.signal(libc::SIGUSR1);
    daemon.wait_metrics(SOON, "the round that was asked for", |m| {
        m.sum("strayd_trainings_total", &[("result", "done")]) > n_before
    });
    assert_eq!(daemon.sigterm(SOON), 0);
    for version in ["1", "2"] {
        let mut command = Command::new(env!("CARGO_BIN_EXE_strayd"));
        command.current_dir(launch.dir()).args(["train", "--from-lineage", version, "--config", "strayd.toml"]);
        let out = command.args(["--json", "--out", &format!("again-{version}")]).output().expect("strayd was built");
        assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
        let said: serde_json::Value = serde_json::from_slice(&out.stdout).expect("JSON");
        assert_eq!((&said["same"], &said["hash"]), (&true.into(), &said["stored_hash"]));
        assert!(launch.dir().join(format!("again-{version}/manifest.json")).is_file());
    }
}
