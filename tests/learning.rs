//! Proves on a real Kafka that the daemon's learning can be trusted: four days of a drifting plant in a minute or two.
//!
//! A plant of three hidden causes drifts in its means and in how the causes mix; a quarter of the records are of a second
//! mode, in which every feature stands elsewhere. Records are half a minute of event time apart and end about now. Faults
//! are planted, and known by a header. The daemon is one process until it is restarted on purpose.

mod support;

use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Command, Output};
use std::time::{Duration, Instant};

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use rand_distr::StandardNormal;
use serde_json::{Value, json};
use support::{Broker, Daemon, Launch, Metrics, Outgoing, Record, Topics, holds_within, to_json};

const SOON: Duration = Duration::from_secs(60);
/// The flow waits so long for the round that follows a chunk; none is fine, too.
const ROUND_MAX: Duration = Duration::from_secs(8);
/// A trainer rests when it has changed nothing for so long: it looks four times a second, and a round takes less even on a
/// busy machine.
const REST: Duration = Duration::from_secs(4);
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
/// A fault moves a feature by this, as a broken sensor does: more than ten times its own spread.
const FAULT: f64 = 25.0;

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

    fn anomalies(&self) -> Vec<Record> {
        self.broker.consume_to_end(&self.topics.anomalies, SOON)
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
    obeys(&mut stage, since);
    hears_feedback(&mut stage, since);
    comes_out_the_same(&stage, since);
    restarts(stage, since);
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
    let said = stage.daemon.said();
    let why: Vec<&str> = said.lines().filter(|line| line.contains("rolled back")).collect();
    assert_eq!(stage.ended("rolled_back"), 0.0, "nothing is wrong with them: {why:?}");
    // Twelve faults are planted, and alerts are held to one in a thousand records with them.
    assert!((3.0..=20.0).contains(&n_alerts), "{n_alerts} alerts");
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

/// Commands over HTTP and from the command line.
fn obeys(stage: &mut Stage<'_>, since: Instant) {
    let address = stage.launch.admin().to_owned();
    let retrain = r#"{"command": "retrain"}"#;
    assert_eq!(post(&address, "evil.example:80", retrain), 403, "a page of another name has no say");
    assert_eq!(post(&address, &address, r#"{"command": "dance"}"#), 400);
    stage.rest();
    let n_rounds = stage.metric("strayd_trainings_total", &[]);
    assert_eq!(post(&address, &address, retrain), 202);
    stage.daemon.wait_metrics(SOON, "the round that was asked for", |metrics| {
        metrics.sum("strayd_trainings_total", &[]) > n_rounds
    });
    stage.rest();
    assert!(stage.strayd(&["models", "list", "--json"]).contains("\"reason\": \"request\""), "a round on request");

    let rule = r#"{"command": "suppress", "rule": {"name": "ordered", "entity": "pump-s*"}}"#;
    assert_eq!(post(&address, &address, rule), 202);
    let listed = || stage.json(&["suppress", "list", "--json"]);
    stage.daemon.wait(SOON, "the rule to be stored", || listed()[0]["name"] == "ordered");
    let withheld = |stage: &Stage<'_>| stage.metric("strayd_alerts_suppressed_total", &[("reason", "rule")]);
    let records = faults(&mut stage.plant, "pump-s");
    stage.send(records);
    let n_withheld = withheld(stage);
    assert!(n_withheld >= 1.0, "planted faults of a pump that nobody cares for");
    stage.strayd(&["suppress", "remove", "ordered"]);
    assert_eq!(stage.json(&["suppress", "list", "--json"]), json!([]));
    // The trainer looks every quarter of a second.
    stage.rest();
    let before = stage.n_alerts();
    let records = faults(&mut stage.plant, "pump-s");
    stage.send(records);
    assert_eq!(withheld(stage), n_withheld, "the rule is gone");
    assert!(stage.n_alerts() > before, "planted faults are published again");
    say(since, &format!("{n_withheld} alerts withheld by a rule that was ordered"));
}

/// Ordinary records with three gross faults of the pump `key` in between.
fn faults(plant: &mut Plant, key: &str) -> Vec<Outgoing> {
    (0..90).map(|i| if i % 30 == 15 { plant.fault(key) } else { plant.record(Modes::Both) }).collect()
}

/// Status of `POST /api/v1/commands` with this Host header.
fn post(address: &str, host: &str, body: &str) -> u16 {
    let mut stream = TcpStream::connect(address).expect("the admin server listens");
    stream.set_read_timeout(Some(SOON)).expect("a timeout above zero");
    let head = format!("POST /api/v1/commands HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n");
    let request = format!("{head}Content-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}", body.len());
    stream.write_all(request.as_bytes()).expect("it reads");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("it answers in UTF-8");
    answer.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or_else(|| panic!("{answer}"))
}

/// Feedback on a published anomaly is taken up; on what is unknown or gone it is answered.
fn hears_feedback(stage: &mut Stage<'_>, since: Instant) {
    let published = stage.anomalies();
    let last = published.last().expect("something was published").json();
    let id = last["id"].as_str().expect("an id");
    stage.strayd(&["feedback", id, "false_positive", "--note", "filter was changed"]);
    let heard = |result: &str, n: f64| {
        stage.daemon.wait_metrics(SOON, &format!("feedback that is {result}"), |metrics| {
            metrics.sum("strayd_feedback_total", &[("result", result)]) == n
        });
    };
    heard("applied", 1.0);
    let out = stage.run(&["feedback", "0123456789abcdef", "false_positive"]);
    let told = String::from_utf8_lossy(&out.stderr).into_owned();
    assert_eq!(out.status.code(), Some(1), "{told}");
    assert!(told.contains("no anomaly with id `0123456789abcdef`"), "{told}");
    let gone = format!("{}/0/99999999", stage.topics.features);
    stage.run(&["feedback", &gone, "true_positive"]);
    heard("gone", 1.0);
    let listed = stage.strayd(&["feedback"]);
    assert!(listed.contains("filter was changed") && listed.contains(&gone), "{listed}");
    say(since, &format!("feedback on {id} is applied, on {gone} it is gone"));

    let (topic, place) = (&stage.topics.features, &last["source"]);
    let record = format!("{topic}/{}/{}", place["partition"], place["offset"]);
    let why = stage.strayd(&["explain", "--record", &record]);
    assert!(why.contains("published"), "{why}");
    let ordinary = stage.strayd(&["explain", "--record", &format!("{topic}/1/{}", N_HISTORY / 2 + 1)]);
    assert!(ordinary.contains("threshold"), "{ordinary}");
    say(since, &format!("explain of {record}: {why}"));
}

/// The newest round's model is trained again from its lineage, bit for bit.
fn comes_out_the_same(stage: &Stage<'_>, since: Instant) {
    let listed = stage.json(&["models", "list", "--json"]);
    let entries = listed.as_array().expect("a list").iter().rev();
    let is_round = |entry: &&Value| ["records", "request", "drift"].iter().any(|reason| entry["reason"] == *reason);
    let version = entries.clone().find(is_round).expect("a round")["version"].to_string();
    let told = stage.strayd(&["train", "--from-lineage", &version]);
    assert!(told.contains("came out the same"), "{told}");
    say(since, told.trim());
}

/// A restart publishes nothing twice, and alerts as before.
fn restarts(stage: Stage<'_>, since: Instant) {
    let Stage { broker, topics, launch, daemon, mut plant, .. } = stage;
    assert_eq!(daemon.sigterm(SOON), 0);
    let published = broker.consume_to_end(&topics.anomalies, SOON);
    let ends = broker.end_offsets(&topics.features);
    let daemon = launch.start();
    daemon.wait_ready(SOON);
    let mut stage = Stage { broker, topics, launch, daemon, plant: Plant::new(0), n_sent: 0 };
    let records = (0..1_000).map(|_| plant.record(Modes::Both)).collect();
    stage.send(records);
    let n_rewound = stage.metric("strayd_records_rewound_total", &[]);
    assert!(n_rewound > 0.0, "thresholds are restored from the records before");
    let n_alerts = stage.n_alerts();
    say(since, &format!("restarted: {n_rewound} records rewound, {n_alerts} alerts in 1000 ordinary records"));
    assert!(n_alerts <= 8.0, "{n_alerts} alerts in 1000 ordinary records");
    assert_eq!(stage.daemon.sigterm(SOON), 0);
    let is_old = |record: &&Record| {
        let source = &record.json()["source"];
        let partition = source["partition"].as_i64().and_then(|partition| i32::try_from(partition).ok());
        source["offset"].as_i64() < partition.map(|partition| ends[&partition])
    };
    let again = broker.consume_to_end(&stage.topics.anomalies, SOON);
    assert_eq!(again.iter().filter(is_old).count(), published.len(), "nothing settled is published again");
}
