//! `strayd doctor` on a real Kafka: well when all is well, and the cause by its name in ten set-ups that are broken.

mod support;

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::time::{Duration, SystemTime};

use serde_json::Value;
use support::{Acl, Broker, Daemon, Launch, Outgoing, Secured, Sensors, Topics, wait_until};

/// Deadline of each wait; the machine may be busy with other tests.
const SOON: Duration = Duration::from_secs(60);
const N_FEATURES: usize = 5;
/// Enough for a first model.
const N_HISTORY: usize = 2_200;
/// More than may wait for a group.
const N_LAG: usize = 10_500;

/// What the doctor says: the exit code, and verdict and words by check.
struct Said {
    code: Option<i32>,
    checks: BTreeMap<String, (String, String)>,
}

impl Said {
    fn by(launch: &Launch, words: &[&str]) -> Self {
        let out = launch.ask(&[&["doctor", "--json"], words].concat());
        let document: Value = serde_json::from_slice(&out.stdout)
            .unwrap_or_else(|error| panic!("{words:?}: {error}: {}", String::from_utf8_lossy(&out.stderr)));
        let text = |finding: &Value, key: &str| finding[key].as_str().unwrap_or_default().to_owned();
        let one = |finding: &Value| {
            let words = format!("{} → {}", text(finding, "seen"), text(finding, "cure"));
            (text(finding, "check"), (text(finding, "verdict"), words))
        };
        let checks = document["checks"].as_array().expect("a list").iter().map(one).collect();
        Self { code: out.status.code(), checks }
    }

    /// The checks that ended so.
    fn ended(&self, verdict: &str) -> Vec<&str> {
        self.checks.iter().filter(|(_, (ended, _))| ended == verdict).map(|(check, _)| &**check).collect()
    }

    /// Demands that these checks and no others fail, or warn where none fails, and that the first says `words`.
    #[track_caller]
    fn names(&self, verdict: &str, checks: &[&str], words: &str) {
        assert_eq!(self.ended(verdict), checks, "{:#?}", self.checks);
        let said = &self.checks[checks[0]].1;
        assert!(said.contains(words), "{}: {said}", checks[0]);
        assert_eq!(self.code, Some(1));
    }
}

fn records(n: usize, seed: u64) -> impl Iterator<Item = Outgoing> {
    let mut sensors = Sensors::new(N_FEATURES, seed);
    (0..n).map(move |i| Outgoing::value(sensors.json()).key(format!("pump-{}", i % 4)))
}

/// A daemon that scores.
fn running(broker: &Broker, topics: &Topics, launch: &Launch) -> Daemon {
    broker.produce(&topics.features, records(N_HISTORY, 5));
    let daemon = launch.start();
    daemon.wait_ready(SOON);
    broker.produce(&topics.features, records(200, 5));
    daemon.wait_metrics(SOON, "every record to be settled", |metrics| {
        metrics.sum("strayd_records_scored_total", &[]) >= 200.0 && metrics.sum("strayd_inflight_batches", &[]) == 0.0
    });
    daemon
}

#[test]
fn all_is_well_or_the_cause_is_named() {
    let Some(broker) = Broker::get() else { return };
    let topics = Topics::new(broker, 1);
    let launch = topics.launch_default(broker).set("training.enabled", "false");
    let daemon = running(broker, &topics, &launch);
    let said = Said::by(&launch, &[]);
    assert_eq!((said.code, said.ended("pass").len()), (Some(0), said.checks.len()), "{:#?}", said.checks);
    let text = String::from_utf8(launch.ask(&["doctor"]).stdout).expect("UTF-8");
    assert!(text.contains("pass  configuration") && text.contains("pass  daemon          it is ready"), "{text}");

    let broken = launch.ask(&["doctor", "--set", "kafka.brockers=x"]);
    let text = String::from_utf8_lossy(&broken.stdout).into_owned();
    assert!(text.contains("FAIL  configuration   kafka.brockers: unknown field"), "{text}");
    assert_eq!(broken.status.code(), Some(1));

    set_ups_of_others(broker, &launch);
    suppressed(&launch);
    stale(&launch);
    assert_eq!(daemon.sigterm(SOON), 0);
    behind(broker, &topics, &launch);
}

/// Broken by what the configuration says.
fn set_ups_of_others(broker: &Broker, launch: &Launch) {
    let of = |words: &[&str]| Said::by(launch, words);
    let said = of(&["--set", "kafka.brokers=127.0.0.1:1"]);
    said.names("fail", &["brokers"], "no broker answers");
    assert!(said.ended("skip").contains(&"records"), "what can't be looked at is skipped: {:#?}", said.checks);
    of(&["--set", "input.topic=nowhere"]).names("fail", &["topics"], "topic `nowhere` does not exist");
    of(&["--set", "output.anomalies=nowhere"]).names("fail", &["topics"], "output topic `nowhere` does not exist");
    of(&["--set", "decode.format=msgpack"]).names("fail", &["format"], "they look like JSON");
    of(&["--set", "schema.features=s0,s1"]).names("fail", &["dimension"], "the model has 5 features and the topic 2");

    let others = broker.new_topic("others", 1);
    broker.produce(&others, (0..50).map(|i| Outgoing::value(format!("{{\"x\": {i}, \"s1\": 2}}"))));
    of(&["--set", &format!("input.topic={others}")]).names("fail", &["dimension"], "mostly missing: `s0`");
    let vectors = broker.new_topic("vectors", 1);
    broker.produce(&vectors, (0..50).map(|i| Outgoing::value(format!("[{i}, 2, 3]"))));
    let said = of(&["--set", &format!("input.topic={vectors}")]);
    said.names("fail", &["dimension"], "the vector has 3 values, the schema has 5");

    let (empty, registry) = (broker.new_topic("empty", 1), "registry.path=none");
    let said = of(&["--set", &format!("input.topic={empty}"), "--set", registry]);
    said.names("fail", &["history", "model", "records"], "0 of 2000 records are there");

    let ahead = broker.new_topic("ahead", 1);
    let now_ms = SystemTime::UNIX_EPOCH.elapsed().expect("after 1970").as_millis() as i64;
    // Brokers refuse what is an hour ahead.
    let late = |record: Outgoing| Outgoing { timestamp_ms: Some(now_ms + 30 * 60_000), ..record };
    broker.produce(&ahead, records(200, 5).map(late));
    of(&["--set", &format!("input.topic={ahead}")]).names("fail", &["clock"], "200 of 200 records are from the future");
}

/// Every anomaly is withheld by a rule that was ordered.
fn suppressed(launch: &Launch) {
    assert!(launch.ask(&["suppress", "add", "quiet", "--entity", "*"]).status.success());
    Said::by(launch, &[]).names("fail", &["suppression"], "by rule `quiet`");
    assert!(launch.ask(&["suppress", "remove", "quiet"]).status.success());
    assert_eq!(Said::by(launch, &[]).code, Some(0), "the rule is gone");
}

/// The model is a week old, and records flow.
fn stale(launch: &Launch) {
    let (from, to) = (launch.dir().join("models"), launch.dir().join("old"));
    copy(&from, &to);
    let manifest = to.join("v000001/manifest.json");
    let text = fs::read_to_string(&manifest).expect("there is a version");
    let mut value: Value = serde_json::from_str(&text).expect("JSON");
    let trained = value["trained_at_ms"].as_i64().expect("a time");
    value["trained_at_ms"] = (trained - 7 * 86_400_000).into();
    fs::write(&manifest, value.to_string()).expect("written");
    Said::by(launch, &["--set", "registry.path=old"]).names("warn", &["model"], "the stream has gone on for 7days");
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).expect("made");
    for entry in fs::read_dir(from).expect("a folder") {
        let entry = entry.expect("an entry");
        let target = to.join(entry.file_name());
        if entry.file_type().expect("a type").is_dir() {
            copy(&entry.path(), &target);
        } else {
            fs::copy(entry.path(), &target).expect("copied");
        }
    }
}

/// The daemon has ended, and the stream goes on.
fn behind(broker: &Broker, topics: &Topics, launch: &Launch) {
    broker.produce(&topics.features, records(N_LAG, 5));
    let before = broker.committed(&topics.group, &topics.features);
    let said = Said::by(launch, &[]);
    said.names("warn", &["daemon", "lag"], "doesn't answer");
    let lag = &said.checks["lag"].1;
    assert!(lag.starts_with(&format!("{N_LAG} records wait for group `{}`", topics.group)), "{lag}");
    assert_eq!(broker.committed(&topics.group, &topics.features), before, "the doctor commits nothing");
}

#[test]
fn a_missing_right_is_named() {
    let Some(secured) = Secured::get() else { return };
    let broker = &secured.broker;
    let topics = Topics::new(broker, 1);
    broker.produce(&topics.features, records(10, 5));
    let launch = topics.launch_default(broker).kafka(&secured.by_password("pumps", "SCRAM-SHA-512"));
    Said::by(&launch, &[]).names("fail", &["model", "rights"], "there is none yet");
    let rights = || Said::by(&launch, &[]).checks["rights"].1.clone();
    assert!(rights().contains("User:pumps has no right to Read on"), "{}", rights());
    secured.grant("User:pumps", &Acl::parse(&format!("--operation Read --group {}", topics.group)));
    let right = format!("User:pumps has no right to Read on topic `{}`; grant it: kafka-acls", topics.features);
    wait_until(SOON, "the right to the topic to be missed", || rights().contains(&right));
    let wrong = launch.set("kafka.security.username", "stranger");
    Said::by(&wrong, &[]).names("fail", &["authentication", "model"], "authentication failed");
}
