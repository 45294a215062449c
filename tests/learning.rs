//! Proves on a real Kafka that the daemon's learning can be trusted: four days of a drifting plant in a minute or two.
//!
//! A plant of three hidden causes drifts in its means and in how the causes mix; a quarter of the records are of a second
//! mode, in which every feature stands elsewhere. Records are half a minute of event time apart and end about now. Faults
//! are planted, and known by a header. The daemon is one process until it is restarted on purpose.

mod support;

use std::fs;
use std::io::Write;
use std::path::Path;
use std::process::{Command, Output};
use std::time::{Duration, Instant};

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use rand_distr::StandardNormal;
use serde_json::Value;
use support::{Broker, Daemon, Launch, Metrics, Outgoing, Topics, holds_within, to_json};

const SOON: Duration = Duration::from_secs(60);
/// The flow waits so long for the round that follows a chunk; none is fine, too.
const ROUND_MAX: Duration = Duration::from_secs(8);
/// A trainer rests when it has changed nothing for so long: it looks four times a second, and a round takes less.
const REST: Duration = Duration::from_millis(1_500);
const N_FEATURES: usize = 8;
const N_PARTITIONS: i32 = 2;
/// Records before the daemon starts.
const N_HISTORY: usize = 2_000;
/// Records that flow before one waits for a round; rounds come every 256 records at most.
const CHUNK: usize = 300;
/// Latest records that a round looks at.
const RECENT_ROWS: usize = 1_500;
const STEP_MS: i64 = 30_000;
/// Records over which the drift goes once through.
const N_DRIFT: f64 = 20_000.0;
/// Share of records that may alert.
const TARGET: f64 = 0.001;
/// Feature that a fault moves by this, thirty times what its noise is.
const FAULT: f64 = 6.0;

/// Which modes the plant runs in.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Modes {
    Both,
    First,
}

/// The plant; a function of its seed.
struct Plant {
    rng: ChaCha8Rng,
    n_made: usize,
    first_ms: i64,
}

impl Plant {
    fn new(seed: u64) -> Self {
        let now = std::time::SystemTime::UNIX_EPOCH.elapsed().expect("the clock is past 1970");
        let now_ms = i64::try_from(now.as_millis()).expect("the present fits");
        Self { rng: ChaCha8Rng::seed_from_u64(seed), n_made: 0, first_ms: now_ms - STEP_MS * 14_000 }
    }

    /// The next row, `[N_FEATURES]`.
    fn row(&mut self, modes: Modes) -> Vec<f64> {
        let drift = self.n_made as f64 / N_DRIFT;
        self.n_made += 1;
        let causes: [f64; 3] = std::array::from_fn(|_| self.rng.sample(StandardNormal));
        let is_second = self.rng.random_bool(0.25) && modes == Modes::Both;
        let value = |j: usize| {
            let turn = |c: usize| ((j * 3 + c * 5) as f64 + 0.4 * drift).sin();
            let joint: f64 = causes.iter().enumerate().map(|(c, cause)| cause * turn(c)).sum();
            let mode = if is_second { 2.5 * ((j * j) as f64).cos() } else { 0.0 };
            20.0 + 1.5 * drift * (j as f64).cos() + joint + mode
        };
        (0..N_FEATURES).map(|j| value(j) + 0.2 * self.rng.sample::<f64, _>(StandardNormal)).collect()
    }

    /// The next record, of one of ten pumps.
    fn record(&mut self, modes: Modes) -> Outgoing {
        let i = self.n_made;
        let row = self.row(modes);
        self.outgoing(i, &row)
    }

    /// The next record with one feature far off; the header `fault` says so.
    fn fault(&mut self, key: &str) -> Outgoing {
        let i = self.n_made;
        let mut row = self.row(Modes::First);
        row[i % N_FEATURES] += FAULT;
        self.outgoing(i, &row).key(key).header("fault", "1")
    }

    fn outgoing(&self, i: usize, row: &[f64]) -> Outgoing {
        let record = Outgoing::value(to_json(row)).key(format!("pump-{}", i % 10)).partition(i as i32 % N_PARTITIONS);
        Outgoing { timestamp_ms: Some(self.first_ms + STEP_MS * i as i64), ..record }
    }

    /// `n` records, of which one in a chunk is a fault, once the daemon runs.
    fn records(&mut self, n: usize, modes: Modes) -> Vec<Outgoing> {
        let next =
            |i: usize| if i % 300 == 120 && self.n_made > 2_000 { self.fault("pump-0") } else { self.record(modes) };
        (0..n).map(next).collect()
    }

    /// Writes `n` ordinary rows of the first mode alone as a CSV file; the plant is then no further than before.
    fn write_csv(&mut self, path: &Path, n: usize) {
        let at = self.n_made;
        let names: Vec<String> = (0..N_FEATURES).map(|j| format!("s{j}")).collect();
        let mut text = names.join(",");
        for _ in 0..n {
            self.n_made = at;
            let values: Vec<String> = self.row(Modes::First).iter().map(|value| format!("{value:.3}")).collect();
            text = format!("{text}\n{}", values.join(","));
        }
        self.n_made = at;
        fs::write(path, text).expect("the temporary folder can be written");
    }
}

/// A daemon on the plant's records.
struct Stage<'a> {
    broker: &'a Broker,
    topics: Topics,
    launch: Launch,
    daemon: Daemon,
    plant: Plant,
    /// Records handed to this run of the daemon.
    n_sent: usize,
}

impl<'a> Stage<'a> {
    /// Lays the history and waits for the first model.
    fn new(broker: &'a Broker) -> Self {
        let topics = Topics::new(broker, N_PARTITIONS);
        let mut plant = Plant::new(4);
        broker.produce(&topics.features, plant.records(N_HISTORY, Modes::Both));
        let launch = Launch::new(&config(broker, &topics));
        let daemon = launch.start();
        daemon.wait_ready(SOON);
        Self { broker, topics, launch, daemon, plant, n_sent: 0 }
    }

    fn metric(&self, name: &str, labels: &[(&str, &str)]) -> f64 {
        self.daemon.metrics().sum(name, labels)
    }

    /// How often models ended so.
    fn ended(&self, result: &str) -> f64 {
        self.metric("strayd_promotions_total", &[("result", result)])
    }

    fn n_alerts(&self) -> f64 {
        self.metric("strayd_anomalies_total", &[])
    }

    /// Sends records and waits until they are scored.
    fn send(&mut self, records: Vec<Outgoing>) {
        self.n_sent += self.broker.produce(&self.topics.features, records);
        let n = self.n_sent as f64;
        self.daemon.wait_metrics(SOON, "every record to be scored", |metrics| {
            metrics.sum("strayd_records_scored_total", &[]) >= n
        });
    }

    /// Lets the plant run chunk by chunk, each with the round that follows it.
    fn flow(&mut self, n_chunks: usize, modes: Modes) {
        for _ in 0..n_chunks {
            let n_rounds = self.metric("strayd_trainings_total", &[]);
            let records = self.plant.records(CHUNK, modes);
            self.send(records);
            holds_within(ROUND_MAX, || self.metric("strayd_trainings_total", &[]) > n_rounds);
        }
        self.rest();
    }

    /// Waits until the trainer rests: without records no round is due, so that nothing changes any more.
    fn rest(&self) {
        let mut last = (None, Instant::now());
        self.daemon.wait(SOON, "the trainer to rest", || {
            let metrics = self.daemon.metrics();
            let sum = |name| metrics.sum(name, &[]);
            let now = Some((sum("strayd_trainings_total"), sum("strayd_promotions_total")));
            if now != last.0 {
                last = (now, Instant::now());
            }
            last.1.elapsed() > REST
        });
    }

    /// Waits until models have ended so `n` times.
    #[track_caller]
    fn wait_ended(&self, result: &str, n: f64) {
        self.daemon.wait_metrics(SOON, &format!("{n} models that are {result}"), |metrics| {
            metrics.sum("strayd_promotions_total", &[("result", result)]) >= n
        });
    }

    /// Version of the model that scores.
    fn version(&self) -> u64 {
        let mut found = None;
        holds_within(Duration::from_secs(5), || {
            let metrics: Metrics = self.daemon.metrics();
            let shown: Vec<_> = metrics.with("strayd_model_info", &[]).collect();
            found = shown.first().and_then(|sample| sample.labels["version"].parse().ok());
            shown.len() == 1
        });
        found.expect("a model scores")
    }

    /// Runs `strayd ARGS --config strayd.toml` where the daemon runs.
    fn run(&self, args: &[&str]) -> Output {
        let mut command = Command::new(env!("CARGO_BIN_EXE_strayd"));
        command.args(args).args(["--config", "strayd.toml"]).current_dir(self.launch.dir());
        command.env("OPENBLAS_NUM_THREADS", "1").output().expect("strayd was built")
    }

    /// Runs a command that must end well, and returns what it prints.
    #[track_caller]
    fn strayd(&self, args: &[&str]) -> String {
        let out = self.run(args);
        assert!(out.status.success(), "{args:?}: {}", String::from_utf8_lossy(&out.stderr));
        String::from_utf8(out.stdout).expect("UTF-8")
    }

    fn json(&self, args: &[&str]) -> Value {
        serde_json::from_str(&self.strayd(args)).expect("one JSON document")
    }
}

fn config(broker: &Broker, topics: &Topics) -> String {
    let Topics { features, anomalies, dead_letters, group, .. } = topics;
    format!(
        "[kafka]\nbrokers = \"{}\"\ngroup = \"{group}\"\ncommit_interval = \"50ms\"\n[input]\ntopic = \"{features}\"\n\
         [output]\nanomalies = \"{anomalies}\"\ndead_letters = \"{dead_letters}\"\n[registry]\nkeep = 50\n\
         [history]\nrows_min = {N_HISTORY}\nrecent_rows = {RECENT_ROWS}\n[threshold]\ntarget_alert_rate = {TARGET}\n\
         [training]\nretrain_gap = \"0s\"\ncpu_share = 1.0\n[training.watch]\nrecords = 256\n",
        broker.brokers()
    )
}

/// Says a figure where `cargo test` shows it.
fn say(since: Instant, line: &str) {
    writeln!(std::io::stderr(), "{:6.1} s  {line}", since.elapsed().as_secs_f64())
        .expect("standard error can be written");
}

#[test]
fn good_challengers_are_promoted_a_bad_one_is_rejected_and_one_that_turns_bad_is_rolled_back() {
    let Some(broker) = Broker::get() else { return };
    let since = Instant::now();
    let mut stage = Stage::new(broker);
    say(since, "the first model scores");
    drifts(&mut stage, since);
    let narrow = submits_a_bad_one(&mut stage, since);
    turns_bad(&mut stage, narrow, since);
    assert_eq!(stage.daemon.sigterm(SOON), 0);
}

/// The stream drifts: rounds happen, and better models are promoted.
fn drifts(stage: &mut Stage<'_>, since: Instant) {
    stage.flow(12, Modes::Both);
    let (n_rounds, n_promoted) =
        (stage.metric("strayd_trainings_total", &[("result", "done")]), stage.ended("promoted"));
    let n_alerts = stage.n_alerts();
    say(since, &format!("{} records, {n_rounds} rounds, {n_promoted} promoted, {n_alerts} alerts", stage.n_sent));
    assert!(n_rounds >= 6.0, "{n_rounds} rounds");
    assert!(n_promoted >= 2.0, "the first model, and one that took its place");
}

/// A model that knows one mode only is handed over: it is rejected. Returns its version.
fn submits_a_bad_one(stage: &mut Stage<'_>, since: Instant) -> u64 {
    let (before, n_rejected) = (stage.version(), stage.ended("rejected"));
    stage.plant.write_csv(&stage.launch.dir().join("narrow.csv"), 2_000);
    stage.strayd(&["train", "narrow.csv", "--out", "narrow"]);
    stage.strayd(&["models", "submit", "narrow"]);
    stage.wait_ended("rejected", n_rejected + 1.0);
    assert_eq!(stage.version(), before, "the champion stays");
    let listed = stage.json(&["models", "list", "--json"]);
    let of_file = |entry: &&Value| entry["reason"] == "submitted";
    let entry = listed.as_array().expect("a list").iter().find(of_file).unwrap_or_else(|| panic!("{listed}"));
    let version = entry["version"].as_u64().expect("a number");
    let shown = stage.strayd(&["models", "show", &version.to_string()]);
    say(since, &format!("version {version} is rejected, {before} stays:\n{shown}"));
    version
}

/// While the plant runs in one mode that model is promoted by hand, and does well; then both modes come again.
fn turns_bad(stage: &mut Stage<'_>, narrow: u64, since: Instant) {
    stage.strayd(&["models", "pin"]);
    let good = stage.version();
    stage.flow(RECENT_ROWS.div_ceil(CHUNK) + 1, Modes::First);
    assert_eq!(stage.version(), good, "nothing is promoted over a pin");
    stage.strayd(&["models", "unpin"]);
    stage.strayd(&["models", "promote", &narrow.to_string()]);
    stage.wait_ended("switched", 1.0);
    let (before, n_rollbacks) = (stage.n_alerts(), stage.ended("rolled_back"));
    let records = stage.plant.records(50, Modes::First);
    stage.send(records);
    assert!(stage.n_alerts() - before <= 1.0, "it does well in the mode that it knows");
    assert_eq!(stage.ended("rolled_back"), n_rollbacks);

    let records = stage.plant.records(100, Modes::Both);
    stage.send(records);
    stage.wait_ended("rolled_back", n_rollbacks + 1.0);
    let n_bad = stage.n_alerts() - before;
    assert_eq!(stage.version(), good, "back to the one before it");
    say(since, &format!("version {narrow}, promoted by hand: {n_bad} alerts in 150 records, rolled back"));
    assert!(n_bad > 10.0, "{n_bad} alerts of the bad model");

    let before = stage.n_alerts();
    let records = (0..500).map(|_| stage.plant.record(Modes::Both)).collect();
    stage.send(records);
    let n_after = stage.n_alerts() - before;
    say(since, &format!("after the rollback: {n_after} alerts in 500 ordinary records"));
    assert!(n_after <= 5.0, "{n_after} alerts in 500 ordinary records");
}
