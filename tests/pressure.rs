//! Proves on a real Kafka that strayd stays small and goes on: a backlog of very many records, records and headers and keys of
//! any size, a registry on a full disk or gone.

#[path = "oracle/disk.rs"]
mod disk;
mod support;

use std::fs;
use std::time::Duration;

use disk::SmallDisk;

use support::{Broker, Daemon, Outgoing, Sensors, Topics, skip};

const SOON: Duration = Duration::from_secs(90);
const N_FEATURES: usize = 6;
const N_HISTORY: usize = 2_500;

fn history(sensors: &mut Sensors, n: usize) -> Vec<Outgoing> {
    (0..n).map(|_| Outgoing::value(sensors.json())).collect()
}

#[track_caller]
fn wait_consumed(daemon: &Daemon, n: usize) {
    daemon.wait_metrics(SOON, &format!("{n} records to be consumed and settled"), |metrics| {
        let n_consumed = metrics.sum("strayd_records_consumed_total", &[]);
        n_consumed >= n as f64 && metrics.sum("strayd_inflight_batches", &[]) == 0.0
    });
}

/// `STRAYD_STORM_RECORDS` makes it as many as are wanted.
#[test]
fn a_backlog_of_very_many_records_takes_no_more_memory_than_a_short_one() {
    let Some(broker) = Broker::get() else { return };
    let n_records = std::env::var("STRAYD_STORM_RECORDS").map_or(300_000, |n| n.parse().expect("a number"));
    let topics = Topics::new(broker, 2);
    let mut sensors = Sensors::new(N_FEATURES, 1);
    broker.produce(&topics.features, history(&mut sensors, N_HISTORY));
    let launch = topics.launch_default(broker).set("training.enabled", "false");
    let daemon = launch.start();
    daemon.wait_ready(SOON);
    let (before, _) = daemon.rss_bytes();
    assert_eq!(daemon.sigterm(SOON), 0);
    let rows: Vec<String> = (0..1000).map(|_| sensors.json()).collect();
    broker.produce(&topics.features, (0..n_records).map(|i| Outgoing::value(rows[i % rows.len()].as_str())));
    let daemon = launch.start();
    daemon.wait_metrics(SOON * 10, "the backlog to be consumed", |metrics| {
        metrics.sum("strayd_records_consumed_total", &[]) >= n_records as f64
    });
    let (_, most) = daemon.rss_bytes();
    println!("{n_records} records of backlog: {} MB at most, {} MB without one", most >> 20, before >> 20);
    // A lane's share of librdkafka's queues is 16 MB, and what the allocator makes of it.
    assert!(most < before + (128 << 20), "{most} {before}");
    assert_eq!(daemon.sigterm(SOON), 0);
}

#[test]
fn records_keys_and_headers_of_any_size_are_passed_on_or_rejected_and_never_come_again() {
    let Some(broker) = Broker::get() else { return };
    let topics = Topics::new(broker, 1);
    let dead_letters = support::unique("dead-letters");
    broker.create_topic(&dead_letters, 1, &[("max.message.bytes", "1048588")]);
    let anomalies = support::unique("anomalies");
    broker.create_topic(&anomalies, 1, &[("max.message.bytes", "1048588")]);
    let mut sensors = Sensors::new(N_FEATURES, 2);
    broker.produce(&topics.features, history(&mut sensors, N_HISTORY));
    let launch = topics.launch_default(broker).set("output.dead_letters", &dead_letters);
    let launch = launch.set("output.anomalies", &anomalies).set("training.enabled", "false");
    let daemon = launch.start();
    daemon.wait_ready(SOON);
    let row = sensors.json();
    let far = row.replacen("\"s0\":", "\"s0\": 1e6, \"x\":", 1);
    let with_headers = |value: &str, n: usize, bytes: usize| {
        (0..n).fold(Outgoing::value(value), |record, i| record.header(&format!("h{i}"), vec![b'x'; bytes]))
    };
    let mut records: Vec<Outgoing> = (0..8).map(|_| Outgoing::value(vec![b' '; 10 << 20])).collect();
    records.push(with_headers(&row, 20_000, 8));
    records.push(with_headers("not JSON", 20_000, 8));
    records.push(with_headers("not JSON", 3, 400_000));
    records.push(Outgoing::value(vec![b'x'; 890_000]).key(vec![b'k'; 60_000]).header("h", vec![b'x'; 60_000]));
    records.push(Outgoing::value(row.as_str()).key(vec![b'k'; 1 << 20]));
    // Of each byte of this key JSON makes six.
    records.push(Outgoing::value(far.as_str()).key(vec![1; 60 << 10]).header("traceparent", vec![b'x'; 200_000]));
    records.push(Outgoing::value(row));
    let n = broker.produce(&topics.features, records);
    wait_consumed(&daemon, n);
    let (now, most) = daemon.rss_bytes();
    println!("huge records: {} MB at most, {} MB after", most >> 20, now >> 20);
    assert!(most < 400 << 20, "{most}");
    assert_eq!(daemon.sigterm(SOON), 0);
    let letters = broker.consume_to_end(&dead_letters, SOON);
    let found = |name: &str| letters.iter().filter(|letter| letter.header(name).is_some()).count();
    assert_eq!(letters.len(), 12, "every one that can't be scored, once");
    assert_eq!(found("strayd.error.truncated"), 8);
    assert_eq!((found("strayd.error.headers_left_out"), found("strayd.error.key_truncated")), (2, 1));
    let anomalies = broker.consume_to_end(&anomalies, SOON);
    let of_key = anomalies.iter().filter(|record| record.key.as_ref().is_some_and(|key| key.len() == 60 << 10));
    assert_eq!(of_key.count(), 1, "a long key is no reason to hide an anomaly");
}

#[test]
fn a_registry_on_a_full_disk_is_told_of_and_the_daemon_scores_on_until_there_is_room() {
    let Some(broker) = Broker::get() else { return };
    let Some(disk) = SmallDisk::new() else { return skip("no disk of the test's own: mounting takes root") };
    let topics = Topics::new(broker, 1);
    let mut sensors = Sensors::new(N_FEATURES, 3);
    broker.produce(&topics.features, history(&mut sensors, N_HISTORY));
    let models = disk.path().join("models");
    let launch = topics.launch_default(broker).set("training.retrain_gap", "1s").set("training.cpu_share", "1");
    let launch = launch.set("registry.path", &models.display().to_string());
    let daemon = launch.start();
    daemon.wait_ready(SOON);
    disk.fill();
    assert!(disk.is_full());
    let mut n = 0;
    let mut feed = || {
        n += broker.produce(&topics.features, history(&mut sensors, 1_000));
        n
    };
    feed();
    let failures = |daemon: &Daemon| daemon.metrics().sum("strayd_registry_errors_total", &[]);
    daemon.wait(SOON, "a round that can't be stored", || failures(&daemon) > 0.0);
    assert!(daemon.said().contains("No space left on device"), "{}", daemon.said());
    wait_consumed(&daemon, feed());
    assert_eq!(daemon.get("/readyz").expect("it answers").0, 200, "the old model scores on");
    let noted = daemon.get("/readyz").is_some_and(|(_, body)| body.contains("No space left on device"));
    assert!(noted, "{:?}", daemon.get("/readyz"));
    let left = fs::read_dir(&models)
        .expect("it is there")
        .filter(|entry| entry.as_ref().is_ok_and(|entry| entry.file_name().to_string_lossy().contains(".tmp-")));
    assert_eq!(left.count(), 0, "what is half written doesn't take the room");
    disk.empty();
    let stored = |daemon: &Daemon| {
        let metrics = daemon.metrics();
        let of = |result| metrics.sum("strayd_promotions_total", &[("result", result)]);
        of("promoted") + of("kept") + of("rejected") + of("refreshed")
    };
    let before = stored(&daemon);
    wait_consumed(&daemon, feed());
    daemon.wait(SOON, "a round that is stored", || stored(&daemon) > before);
    assert_eq!(daemon.sigterm(SOON), 0);
}

#[test]
fn a_registry_that_is_gone_is_told_of_and_the_daemon_scores_on_until_it_is_back() {
    let Some(broker) = Broker::get() else { return };
    let topics = Topics::new(broker, 1);
    let mut sensors = Sensors::new(N_FEATURES, 4);
    broker.produce(&topics.features, history(&mut sensors, N_HISTORY));
    let launch = topics.launch_default(broker).set("training.retrain_gap", "1s");
    let (models, aside) = (launch.dir().join("models"), launch.dir().join("aside"));
    // Before the first model, too.
    fs::write(&models, "in the way").expect("the temporary folder can be written");
    let daemon = launch.start();
    daemon.wait(SOON, "the reason in /readyz", || {
        daemon.get("/readyz").is_some_and(|(status, body)| status == 503 && body.contains("Not a directory"))
    });
    fs::remove_file(&models).expect("it was written above");
    daemon.wait_ready(SOON);
    fs::rename(&models, &aside).expect("the first model is there");
    fs::write(&models, "in the way").expect("the temporary folder can be written");
    let before = daemon.metrics().sum("strayd_registry_errors_total", &[]);
    daemon.wait_metrics(SOON, "the error to be counted", |metrics| {
        metrics.sum("strayd_registry_errors_total", &[]) > before
    });
    let n = broker.produce(&topics.features, history(&mut sensors, 500));
    wait_consumed(&daemon, n);
    assert_eq!(daemon.get("/readyz").expect("it answers").0, 200, "the model scores on");
    assert!(daemon.said().lines().filter(|line| line.contains("Not a directory")).count() <= 8, "{}", daemon.said());
    fs::remove_file(&models).expect("it was written above");
    fs::rename(&aside, &models).expect("nothing is in the way");
    broker.produce(&topics.features, history(&mut sensors, 1_500));
    daemon.wait_metrics(SOON, "a round that is stored", |metrics| {
        metrics.sum("strayd_trainings_total", &[("result", "done")]) > 1.0
    });
    assert_eq!(daemon.sigterm(SOON), 0);
}
