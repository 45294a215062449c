//! Proves on a real Kafka how soon a daemon scores after a start, how much memory it takes, and that models outlive it.
//!
//! The topic holds a million records of 32 features. Times count from the start of the process to the first scored
//! record, while records flow.

mod support;

use std::io::Write;
use std::process::Command;
use std::time::{Duration, Instant};

use serde_json::Value;
use support::{Broker, Daemon, Launch, Outgoing, Sensors, Topics, holds_within};

const SOON: Duration = Duration::from_secs(60);
const N_FEATURES: usize = 32;
const N_RECORDS: usize = 1_000_000;
const N_PARTITIONS: i32 = 4;
/// Different payloads; they come again and again.
const N_PAYLOADS: usize = 5_000;
/// A daemon without a model trains one first.
const COLD_START_MAX: Duration = Duration::from_secs(20);
const RESTART_MAX: Duration = Duration::from_secs(10);
/// Resident memory with default settings and two lanes.
const RSS_MAX: u64 = 300 << 20;

fn say(line: &str) {
    writeln!(std::io::stderr(), "{line}").expect("standard error can be written");
}

/// Payloads of which a topic is made.
fn payloads() -> Vec<Vec<u8>> {
    let mut sensors = Sensors::new(N_FEATURES, 5);
    (0..N_PAYLOADS).map(|_| sensors.json().into_bytes()).collect()
}

fn records(payloads: &[Vec<u8>], n: usize) -> impl Iterator<Item = Outgoing> {
    (0..n).map(|i| Outgoing::value(payloads[i % payloads.len()].clone()).partition(i as i32 % N_PARTITIONS))
}

#[test]
fn first_scores_come_soon_and_memory_is_bounded_with_a_million_records_of_history() {
    let Some(broker) = Broker::get() else { return };
    let topics = Topics::new(broker, N_PARTITIONS);
    let payloads = payloads();
    let began = Instant::now();
    broker.produce(&topics.features, records(&payloads, N_RECORDS));
    say(&format!("{N_RECORDS} records produced in {:.1} s", began.elapsed().as_secs_f64()));

    let launch = topics.launch_default(broker).set("kafka.instance", "one").set("pipeline.lanes", "2");
    let daemon = launch.start();
    first_score(broker, &topics, &payloads, &daemon, "cold start without a model", COLD_START_MAX);
    assert_eq!(daemon.metrics().sum("strayd_trainings_total", &[("result", "done")]), 1.0);
    let asked = Instant::now();
    assert_eq!(daemon.sigterm(SOON), 0);
    assert!(asked.elapsed() < Duration::from_secs(10), "the drain took {:?}", asked.elapsed());

    let daemon = launch.start();
    first_score(broker, &topics, &payloads, &daemon, "restart after SIGTERM", RESTART_MAX);
    daemon.kill9();
    let daemon = launch.start();
    first_score(broker, &topics, &payloads, &daemon, "restart after SIGKILL", RESTART_MAX);
    assert_eq!(daemon.metrics().sum("strayd_trainings_total", &[]), 0.0, "the stored model scores");
    assert_eq!(daemon.sigterm(SOON), 0);

    full_load(broker, &topics);
}

/// Waits for the first scored record while records flow, and says how long it took.
fn first_score(broker: &Broker, topics: &Topics, payloads: &[Vec<u8>], daemon: &Daemon, what: &str, max: Duration) {
    let n_scored = || {
        let (_, page) = daemon.get("/metrics")?;
        Some(support::Metrics::parse(&page).sum("strayd_records_scored_total", &[]))
    };
    let mut seconds = Duration::ZERO;
    daemon.wait(SOON, what, || {
        broker.produce(&topics.features, records(payloads, 8));
        let held = n_scored().is_some_and(|n| n > 0.0);
        seconds = daemon.age();
        held
    });
    say(&format!("{what}: first score after {:.1} s", seconds.as_secs_f64()));
    assert!(seconds <= max, "{what}: {seconds:?}");
}

/// Reads the whole topic as fast as two lanes can, training included, and looks at the memory.
fn full_load(broker: &Broker, topics: &Topics) {
    let topics = Topics::reading(broker, &topics.features);
    let launch = topics.launch_default(broker).set("input.start", "earliest").set("pipeline.lanes", "2");
    let daemon = launch.start();
    daemon.wait_ready(SOON);
    let (since, mut n_scored) = (Instant::now(), 0.0);
    // The peak of memory is reached in the first seconds: queues are as full then as ever.
    daemon.wait_metrics(SOON, "fifteen seconds of full load", |metrics| {
        n_scored = metrics.sum("strayd_records_scored_total", &[]);
        n_scored >= N_RECORDS as f64 || since.elapsed() > Duration::from_secs(15)
    });
    let (now, highest) = daemon.rss_bytes();
    say(&format!(
        "full load, D = {N_FEATURES}, 2 lanes: {:.0} records/s, resident {} MiB, at most {} MiB",
        n_scored / since.elapsed().as_secs_f64(),
        now >> 20,
        highest >> 20
    ));
    assert!(highest <= RSS_MAX, "{highest} bytes resident");
    assert_eq!(daemon.sigterm(SOON), 0, "in the middle of the load");
}

#[test]
fn a_second_model_outlives_the_daemon_and_a_rollback_is_picked_up_while_it_runs() {
    let Some(broker) = Broker::get() else { return };
    let topics = Topics::new(broker, 1);
    let mut sensors = Sensors::new(6, 6);
    broker.produce(&topics.features, (0..2_500).map(|_| Outgoing::value(sensors.json())));
    let launch = topics.launch(broker).set("training.enabled", "true").set("training.retrain_gap", "0s");
    let launch = launch.set("kafka.instance", "one");
    let daemon = launch.start();
    daemon.wait_ready(SOON);
    assert_eq!(version(&daemon), "1");
    // A round is due after 256 records, and none after it without more of them.
    broker.produce(&topics.features, (0..300).map(|_| Outgoing::value(sensors.json())));
    daemon.wait(SOON, "a second model", || version(&daemon) == "2");
    assert_eq!(daemon.sigterm(SOON), 0);

    let launch = launch.set("training.enabled", "false");
    let daemon = launch.start();
    daemon.wait_ready(SOON);
    assert_eq!(version(&daemon), "2", "the second model is kept");
    let listed = models(&launch, "list");
    let found: Vec<(i64, bool)> = listed.as_array().expect("a list").iter().map(version_of).collect();
    assert_eq!(found, [(1, false), (2, true)], "{listed}");

    models(&launch, "rollback");
    daemon.wait(Duration::from_secs(5), "the rollback", || version(&daemon) == "1");
    assert_eq!(daemon.metrics().get("strayd_promotions_total", &[("result", "switched")]), Some(1.0));
    broker.produce(&topics.features, [Outgoing::value(sensors.json()).key("after")]);
    let mut last = Value::Null;
    daemon.wait(SOON, "the score of the last record", || {
        let scores = broker.consume_to_end(&topics.scores, SOON);
        let found = scores.iter().find(|record| record.key.as_deref() == Some(b"after"));
        last = found.map_or(Value::Null, support::Record::json);
        found.is_some()
    });
    assert_eq!(last["model"]["version"], 1, "{last}");
    daemon.kill9();
    let daemon = launch.start();
    daemon.wait_ready(SOON);
    assert_eq!(version(&daemon), "1", "the rollback is kept");
}

/// Version of the model that scores.
fn version(daemon: &Daemon) -> String {
    let mut found = String::new();
    holds_within(Duration::from_secs(5), || {
        let metrics = daemon.metrics();
        let shown: Vec<_> = metrics.with("strayd_model_info", &[]).collect();
        found = shown.first().map(|sample| sample.labels["version"].clone()).unwrap_or_default();
        shown.len() == 1
    });
    found
}

fn version_of(entry: &Value) -> (i64, bool) {
    (entry["version"].as_i64().expect("a number"), entry["current"].as_bool().expect("a truth"))
}

/// Runs `strayd models ACTION --json` where the daemon runs.
fn models(launch: &Launch, action: &str) -> Value {
    let mut command = Command::new(env!("CARGO_BIN_EXE_strayd"));
    let out = command.args(["models", action, "--json", "--config", "strayd.toml"]).current_dir(launch.dir()).output();
    let out = out.expect("strayd was built");
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    serde_json::from_slice(&out.stdout).expect("one JSON document")
}
