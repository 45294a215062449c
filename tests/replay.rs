//! `strayd replay` on a real Kafka: with what judged it gives the alerts that were published, and changes nothing; with
//! another configuration it says what differs, both ways. And `strayd tap`, which judges what comes in the same way.

mod support;

use std::collections::BTreeMap;
use std::process::{Command, Stdio};
use std::time::Duration;

use serde_json::Value;
use support::{Broker, Committed, Launch, Outgoing, Sensors, Topics, holds_within};

/// Deadline of each wait; the machine may be busy with other tests.
const SOON: Duration = Duration::from_secs(60);
const N_FEATURES: usize = 6;
/// So that some of the faults are found, and another target finds others; `--set` goes before it.
const TARGET: (&str, &str) = ("STRAYD__THRESHOLD__TARGET_ALERT_RATE", "0.01");
/// Rows of each of the two partitions before the daemon starts.
const N_HISTORY: usize = 1250;

/// Sensors whose rows go to the partitions in turn, one in forty of them far off.
struct Stream(Sensors, usize);

impl Stream {
    fn new() -> Self {
        Self(Sensors::new(N_FEATURES, 11), 0)
    }

    fn send(&mut self, broker: &Broker, topics: &Topics, n: usize, with_faults: bool) {
        let record = |_| {
            let (mut row, i) = (self.0.row(), self.1);
            self.1 += 1;
            // Some are close to the threshold, so that another target finds more of them or fewer.
            row[i % N_FEATURES] += if with_faults && i % 40 == 7 { 0.5 + (i % 11) as f64 } else { 0.0 };
            let key = format!("pump-{}", i % 5);
            Outgoing::value(support::to_json(&row)).key(key).partition(i as i32 % 2)
        };
        broker.produce(&topics.features, (0..n).map(record));
    }
}

/// Everything that a command must leave as it is.
#[derive(Debug, PartialEq)]
struct Untouched {
    committed: BTreeMap<i32, Committed>,
    ends: Vec<BTreeMap<i32, i64>>,
    registry: Vec<String>,
}

impl Untouched {
    fn of(broker: &Broker, topics: &Topics, launch: &Launch) -> Self {
        let names = [&topics.features, &topics.anomalies, &topics.scores, &topics.dead_letters];
        let entries = std::fs::read_dir(launch.dir().join("models")).expect("there is a registry");
        let mut registry: Vec<String> =
            entries.map(|entry| entry.expect("an entry").file_name().to_string_lossy().into_owned()).collect();
        registry.sort();
        let committed = broker.committed(&topics.group, &topics.features);
        Self { committed, ends: names.map(|name| broker.end_offsets(name)).into(), registry }
    }
}

/// What the command says with the daemon's configuration and these words more, as JSON.
#[track_caller]
fn replay(launch: &Launch, words: &[&str]) -> Value {
    serde_json::from_str(&said(launch, &[words, &["--json"]].concat())).expect("one JSON document")
}

#[track_caller]
fn said(launch: &Launch, words: &[&str]) -> String {
    let out = launch.ask(&[&["replay"], words].concat());
    assert!(out.status.success(), "{words:?}: {}", String::from_utf8_lossy(&out.stderr));
    String::from_utf8(out.stdout).expect("UTF-8")
}

/// Id and raw score of each anomaly that was published.
fn published(broker: &Broker, topics: &Topics) -> BTreeMap<String, f64> {
    let records = broker.consume_to_end(&topics.anomalies, SOON);
    records.iter().map(|record| id_and_score(&record.json())).collect()
}

fn id_and_score(anomaly: &Value) -> (String, f64) {
    let id = anomaly["id"].as_str().expect("an id").to_owned();
    (id, anomaly["score"]["raw"].as_f64().expect("a score"))
}

fn n_of(document: &Value, list: &str) -> usize {
    document["difference"][list].as_array().unwrap_or_else(|| panic!("no {list} in {document}")).len()
}

/// Whether a replay gives exactly `published`, with the same scores.
#[track_caller]
fn assert_same(document: &Value, published: &BTreeMap<String, f64>) {
    let alerts = document["alerts"].as_array().expect("a list");
    let replayed: BTreeMap<String, f64> = alerts.iter().map(id_and_score).collect();
    assert!(replayed.keys().eq(published.keys()), "{replayed:?}\n{published:?}\n{}", document["notes"]);
    for (id, raw) in published {
        assert!((replayed[id] - raw).abs() <= 1e-5 * raw, "{id}: {} for {raw}", replayed[id]);
    }
    assert_eq!(document["difference"]["n_same"], published.len(), "{}", document["difference"]);
    for list in ["moved", "only_replayed", "only_published", "not_yet_judged"] {
        assert_eq!(n_of(document, list), 0, "{list}: {}", document["difference"]);
    }
}

#[test]
fn a_replay_gives_the_alerts_that_were_published_and_another_configuration_the_difference() {
    let Some(broker) = Broker::get() else { return };
    let topics = Topics::new(broker, 2);
    let mut stream = Stream::new();
    stream.send(broker, &topics, 2 * N_HISTORY, false);
    let launch = topics.launch_default(broker).set("training.enabled", "false").env(TARGET.0, TARGET.1);
    let daemon = launch.start();
    daemon.wait_ready(SOON);
    stream.send(broker, &topics, 3000, true);
    daemon.wait_metrics(SOON, "every record to be scored", |metrics| {
        metrics.sum("strayd_records_scored_total", &[]) >= 3000.0
    });
    assert_eq!(daemon.sigterm(SOON), 0);
    let published = published(broker, &topics);
    assert!(published.len() >= 8, "{} anomalies of 75 faults", published.len());
    let before = Untouched::of(broker, &topics, &launch);

    // The daemon began with the end of the history, and so does the replay.
    let begin = format!("@{N_HISTORY}");
    let document = replay(&launch, &["--from", &begin]);
    assert_same(&document, &published);
    assert_eq!((&document["n_scored"], &document["models"]), (&3000.into(), &serde_json::json!([1])));
    let text = said(&launch, &["--from", &begin]);
    assert!(text.contains(&format!("the same: all {} published anomalies come out", published.len())), "{text}");

    // A part of it is exact, too, judged from where the daemon began.
    let part = replay(&launch, &["--since", &begin, "--from", "@2000", "--to", "@2500"]);
    let of_part = |anomaly: &&Value| (2000..2500).contains(&anomaly["source"]["offset"].as_i64().expect("an offset"));
    let n_part = document["alerts"].as_array().expect("a list").iter().filter(of_part).count();
    assert_eq!((&part["difference"]["n_same"], &part["n_scored"]), (&n_part.into(), &1000.into()));
    assert!(n_part > 0 && n_of(&part, "only_replayed") + n_of(&part, "only_published") == 0, "{}", part["difference"]);

    let looser = replay(&launch, &["--from", &begin, "--set", "threshold.target_alert_rate=0.05"]);
    let more: Vec<String> = looser["difference"]["only_replayed"]
        .as_array()
        .expect("a list")
        .iter()
        .map(|alert| id_and_score(alert).0)
        .collect();
    assert!(!more.is_empty() && more.iter().all(|id| !published.contains_key(id)), "{}", looser["difference"]);
    let stricter = ["--from", &begin, "--set", "threshold.kind=fixed", "--set", "threshold.z=1000"];
    let stricter = replay(&launch, &stricter);
    assert_eq!((n_of(&stricter, "only_published"), &stricter["n_alerts"]), (published.len(), &0.into()));
    let first = &stricter["difference"]["only_published"][0];
    assert!(
        first["why"] == "below the threshold" && first["ratio"].as_f64().is_some_and(|ratio| ratio < 1.0),
        "{first}"
    );
    let muted = ["--from", &begin, "--set", "output.anomalies_per_minute=1"];
    let text = said(&launch, &muted);
    assert!(
        text.contains("was published, and would not be") && text.contains("withheld by a rule or the rate limit"),
        "{text}"
    );

    assert_eq!(Untouched::of(broker, &topics, &launch), before, "a replay changes nothing");
    let nothing = launch.ask(&["replay", "--from", "2100-01-01T00:00:00Z"]);
    assert!(String::from_utf8_lossy(&nothing.stderr).contains("holds no record from --from to --to"));
}

#[test]
fn each_record_is_judged_by_the_version_that_judged_it() {
    let Some(broker) = Broker::get() else { return };
    let topics = Topics::new(broker, 2);
    let mut stream = Stream::new();
    stream.send(broker, &topics, 2 * N_HISTORY, false);
    let launch = topics.launch_default(broker).set("output.scores", &topics.scores).env(TARGET.0, TARGET.1);
    let launch = launch.set("training.gate.enabled", "false");
    let daemon = launch.start();
    daemon.wait_ready(SOON);
    let scored = |n: f64| {
        daemon.wait_metrics(SOON, "every record to be scored", |metrics| {
            metrics.sum("strayd_records_scored_total", &[]) >= n
        });
    };
    stream.send(broker, &topics, 1500, true);
    scored(1500.0);
    let order = ureq::post(format!("{}/api/v1/commands", daemon.url())).header("content-type", "application/json");
    let order = order.send(r#"{"command": "retrain"}"#);
    assert_eq!(order.expect("it answers").status(), 202);
    daemon.wait_metrics(SOON, "another version to score", |metrics| {
        metrics.get("strayd_model_info", &[("version", "2")]) == Some(1.0)
    });
    stream.send(broker, &topics, 1500, true);
    scored(3000.0);
    assert_eq!(daemon.sigterm(SOON), 0);

    let document = replay(&launch, &["--from", &format!("@{N_HISTORY}")]);
    assert_eq!(document["models"], serde_json::json!([1, 2]));
    assert_same(&document, &published(broker, &topics));
    let by_first = replay(&launch, &["--from", &format!("@{N_HISTORY}"), "--model", "1"]);
    assert_eq!(by_first["models"], serde_json::json!([1]));
    let n_other = n_of(&by_first, "moved") + n_of(&by_first, "only_published");
    assert!(n_other > 0, "the second version gives other scores: {}", by_first["difference"]);
}

#[test]
fn a_tap_shows_what_comes_with_its_score_and_leaves_no_trace() {
    let Some(broker) = Broker::get() else { return };
    let topics = Topics::new(broker, 2);
    let mut stream = Stream::new();
    stream.send(broker, &topics, 2 * N_HISTORY, false);
    let launch = topics.launch_default(broker).set("training.enabled", "false");
    let daemon = launch.start();
    daemon.wait_ready(SOON);
    assert_eq!(daemon.sigterm(SOON), 0);
    let before = broker.committed(&topics.group, &topics.features);

    let mut tap = Command::new(env!("CARGO_BIN_EXE_strayd"))
        .args(["tap", "--config", "strayd.toml", "--json", "--rate", "50", "--count", "6"])
        .current_dir(launch.dir())
        .stdout(Stdio::piped())
        .spawn()
        .expect("strayd was built");
    // It begins with the end of the topic, whenever that is: the stream flows until it has enough.
    let ended = holds_within(SOON, || {
        stream.send(broker, &topics, 20, true);
        tap.try_wait().expect("the child is ours").is_some()
    });
    if !ended {
        tap.kill().expect("the child is ours");
    }
    let out = tap.wait_with_output().expect("the child is ours");
    assert!(ended && out.status.success(), "{out:?}");
    let lines: Vec<Value> = out
        .stdout
        .split(|byte| *byte == b'\n')
        .filter(|line| !line.is_empty())
        .map(|line| serde_json::from_slice(line).expect("JSON"))
        .collect();
    assert_eq!(lines.len(), 6);
    for line in &lines {
        assert!(line["source"]["offset"].as_i64().is_some_and(|offset| offset >= N_HISTORY as i64), "{line}");
        let ratio = line["score"]["ratio"].as_f64().expect("a score");
        assert_eq!(line["verdict"], if ratio > 1.0 { "anomalous" } else { "ordinary" });
        assert!(line["features"][0]["name"].as_str().is_some_and(|name| name.starts_with('s')), "{line}");
    }
    assert_eq!(broker.committed(&topics.group, &topics.features), before);
    assert!(broker.end_offsets(&topics.anomalies).values().all(|end| *end == 0), "nothing is published");
}
