//! Proves the admin server's API, with the real daemon on a real Kafka: it shows what was published and what scores, tells it as it
//! happens, takes orders from whoever has the token and from nobody else, and keeps to its OpenAPI document under schemathesis.

mod support;

use std::io::{BufRead, BufReader, Write};
use std::net::TcpStream;
use std::process::Command;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use support::{Broker, Daemon, Launch, Outgoing, Sensors, Topics, fetched, skip, to_json, wait_until};

const SOON: Duration = Duration::from_secs(60);
const N_FEATURES: usize = 4;
const N_HISTORY: usize = 2500;
const TOKEN: &str = "the-token-of-this-test";

/// A daemon that has published anomalies, and whatever goes on with it.
struct Stage<'a> {
    broker: &'a Broker,
    topics: Topics,
    launch: Launch,
    daemon: Daemon,
    sensors: Sensors,
}

impl<'a> Stage<'a> {
    fn new(broker: &'a Broker) -> Self {
        let topics = Topics::new(broker, 2);
        let mut sensors = Sensors::new(N_FEATURES, 5);
        broker.produce(&topics.features, (0..N_HISTORY).map(|_| Outgoing::value(sensors.json())));
        let launch = topics.launch(broker).set("threshold.kind", "quantile");
        let path = launch.dir().join("token");
        std::fs::write(&path, TOKEN).expect("the temporary folder can be written");
        let launch = launch.set("admin.token_file", &path.display().to_string());
        let daemon = launch.start();
        daemon.wait_ready(SOON);
        let mut stage = Self { broker, topics, launch, daemon, sensors };
        stage.send_faults(3);
        stage
    }

    /// Sends ordinary records with so many faults among them, and waits until these are published.
    fn send_faults(&mut self, n: usize) {
        let published = |daemon: &Daemon| json_of(daemon, "/api/v1/status")["n_published"].as_u64().expect("a number");
        let before = published(&self.daemon);
        let record = |i: usize| {
            let mut row = self.sensors.row();
            row[i % N_FEATURES] += if i % 20 == 10 { 40.0 } else { 0.0 };
            Outgoing::value(to_json(&row)).key(format!("pump-{}", i % 3)).partition(i as i32 % 2)
        };
        self.broker.produce(&self.topics.features, (0..20 * n).map(record));
        self.daemon.wait(SOON, "the faults to be published", || published(&self.daemon) >= before + n as u64);
    }

    /// Status and answer of a request that changes something.
    fn post(&self, path: &str, token: Option<&str>, body: &Value) -> (u16, Value) {
        let request = ureq::post(format!("{}{path}", self.daemon.url())).content_type("application/json");
        let request = token
            .into_iter()
            .fold(request, |request, token| request.header("Authorization", format!("Bearer {token}")));
        let request = request.config().http_status_as_error(false).build();
        let mut answer = request.send(body.to_string()).expect("it answers");
        let text = answer.body_mut().read_to_string().expect("text");
        (answer.status().as_u16(), serde_json::from_str(&text).unwrap_or_else(|_| panic!("no JSON: {text}")))
    }

    fn ask(&self, words: &[&str]) -> Value {
        serde_json::from_slice(&self.launch.ask(words).stdout).expect("JSON")
    }
}

#[track_caller]
fn json_of(daemon: &Daemon, path: &str) -> Value {
    match daemon.get(path) {
        Some((200, body)) => serde_json::from_str(&body).unwrap_or_else(|error| panic!("{path}: {error}: {body}")),
        other => panic!("{path}: {other:?}"),
    }
}

#[test]
fn what_is_shown_is_what_was_published_and_what_scores() {
    let Some(broker) = Broker::get() else { return };
    let mut stage = Stage::new(broker);
    shows(&stage);
    tells(&mut stage);
    obeys(&stage);
}

/// Every page says what the topic, the commands and the registry say.
fn shows(stage: &Stage<'_>) {
    let daemon = &stage.daemon;
    let listed = json_of(daemon, "/api/v1/anomalies?limit=200");
    let listed = listed.as_array().expect("a list");
    let in_topic: Vec<Value> = broker_records(stage);
    assert!(listed.len() >= 3 && listed.iter().all(|one| in_topic.contains(one)), "whole records: {listed:?}");
    let id = listed[0]["id"].as_str().expect("an id");
    assert_eq!(json_of(daemon, &format!("/api/v1/anomalies/{id}")), listed[0]);
    assert_eq!(json_of(daemon, "/api/v1/anomalies?limit=1").as_array().map(Vec::len), Some(1));
    assert_eq!(daemon.get("/api/v1/anomalies/unknown").map(|(status, _)| status), Some(404));

    assert_eq!(json_of(daemon, "/api/v1/models"), stage.ask(&["models", "list", "--json"]));
    let mut shown = stage.ask(&["models", "show", "1", "--latents", "--json"]);
    shown.as_object_mut().expect("an object").remove("path");
    assert_eq!(json_of(daemon, "/api/v1/models/1"), shown);
    assert_eq!(daemon.get("/api/v1/models/77").map(|(status, _)| status), Some(404));
    assert_eq!(json_of(daemon, "/api/v1/config"), stage.ask(&["check", "--json"]));

    daemon.wait(SOON, "partitions that are settled, and samples", || {
        let partitions = json_of(daemon, "/api/v1/partitions");
        let partitions = partitions.as_array().expect("a list");
        let is_told = |one: &Value| one["threshold"].as_f64() > Some(0.0) && one["next_offset"].as_i64() > Some(0);
        let samples = json_of(daemon, "/api/v1/samples");
        let has_ratio = samples.as_array().expect("a list").iter().any(|beat| beat["ratio"].as_f64() > Some(1.0));
        partitions.len() == 2 && partitions.iter().all(is_told) && has_ratio
    });
    let status = json_of(daemon, "/api/v1/status");
    assert_eq!(
        (&status["ready"], &status["phase"], &status["model"]["version"]),
        (&json!(true), &json!("running"), &json!(1))
    );
    assert!(status["alert_rate"].as_f64() > Some(0.0) && status["target_alert_rate"].as_f64() > Some(0.0), "{status}");
}

fn broker_records(stage: &Stage<'_>) -> Vec<Value> {
    let records = stage.broker.consume_to_end(&stage.topics.anomalies, SOON);
    records.iter().map(support::Record::json).collect()
}

/// Reads events until one of this kind comes; its id, and its data.
fn event(stream: &mut impl BufRead, kind: &str) -> (String, Value) {
    let (deadline, mut lines) = (Instant::now() + SOON, Vec::<String>::new());
    while Instant::now() < deadline {
        let mut line = String::new();
        stream.read_line(&mut line).expect("it tells something at least once a second");
        lines.push(line.trim_end().to_owned());
        if !line.trim().is_empty() {
            continue;
        }
        let field =
            |name: &str| lines.iter().find_map(|line| line.strip_prefix(name)).unwrap_or_default().trim().to_owned();
        if field("event:") == kind {
            return (field("id:"), serde_json::from_str(&field("data:")).expect("JSON"));
        }
        lines.clear();
    }
    panic!("no event {kind}");
}

fn listen(stage: &Stage<'_>, more: &str) -> BufReader<TcpStream> {
    let mut stream = TcpStream::connect(stage.launch.admin()).expect("it listens");
    stream.set_read_timeout(Some(Duration::from_secs(10))).expect("a timeout above zero");
    let request = format!("GET /api/v1/events HTTP/1.1\r\nHost: localhost\r\n{more}\r\n");
    stream.write_all(request.as_bytes()).expect("it reads");
    BufReader::new(stream)
}

/// Status and anomalies come as they happen, and what was missed comes after.
fn tells(stage: &mut Stage<'_>) {
    let mut stream = listen(stage, "");
    let (_, status) = event(&mut stream, "status");
    assert_eq!(status["phase"], "running");
    let samples: Vec<u64> =
        (0..8).map(|_| event(&mut stream, "status").1["n_samples"].as_u64().expect("a number")).collect();
    assert!(samples.windows(2).all(|pair| pair[1] == pair[0] + 1), "each second is told, and once: {samples:?}");
    stage.send_faults(2);
    let (first, _) = event(&mut stream, "anomaly");
    let (second, record) = event(&mut stream, "anomaly");
    drop(stream);
    let mut again = listen(stage, &format!("Last-Event-ID: {first}\r\n"));
    assert_eq!(event(&mut again, "anomaly"), (second, record), "what was missed, and nothing twice");
}

/// Orders need the token, are told in the log, and have their effect.
fn obeys(stage: &Stage<'_>) {
    let (daemon, anomaly) = (&stage.daemon, &json_of(&stage.daemon, "/api/v1/anomalies")[0]);
    let latent = json_of(daemon, "/api/v1/models/1")["latents"][0]["id"].clone();
    let opinion = json!({"id": anomaly["id"], "source": anomaly["source"], "verdict": "true_positive", "note": "seen"});
    let label = json!({"command": "label", "latent": latent, "label": "start-up"});
    let changes = [
        ("/api/v1/feedback", &opinion),
        ("/api/v1/commands", &label),
        ("/api/v1/commands", &json!({"command": "unpin"})),
    ];
    for (path, body) in changes {
        for token in [None, Some("wrong")] {
            let (status, said) = stage.post(path, token, body);
            assert!(status == 401 && said["error"].is_string(), "{path}: {status} {said}");
        }
        let (status, said) = stage.post(path, Some(TOKEN), body);
        assert_eq!(status, 202, "{path}: {said}");
    }
    daemon.wait_metrics(SOON, "the opinion to be taken up", |metrics| {
        metrics.sum("strayd_feedback_total", &[("result", "applied")]) == 1.0
    });
    wait_until(SOON, "the label", || json_of(daemon, "/api/v1/models/1")["latents"][0]["label"] == "start-up");
    for (body, expected) in [
        (json!({"command": "promote", "version": 77}), 404),
        (json!({"command": "label", "latent": 1, "label": "two\nlines"}), 400),
        (json!({"command": "suppress", "rule": {"name": "swap", "until": "tomorrow"}}), 400),
        (json!({"command": "dance"}), 400),
    ] {
        let (status, said) = stage.post("/api/v1/commands", Some(TOKEN), &body);
        assert_eq!(status, expected, "{body}: {said}");
    }
    let said = daemon.said();
    assert_eq!(said.matches("command taken over HTTP").count(), 3, "{said}");
    assert!(!said.contains(TOKEN));
}

#[test]
fn the_api_keeps_to_its_document() {
    let Some(broker) = Broker::get() else { return };
    let programs = match fetched("tests/support/venv.sh", &["tests/support/schemathesis"]) {
        Ok(programs) => programs,
        Err(why) => return skip(&format!("no schemathesis: {why}")),
    };
    let stage = Stage::new(broker);
    let began = Instant::now();
    let url = format!("{}/api/v1/openapi.json", stage.daemon.url());
    let mut command = Command::new(programs.join("schemathesis"));
    // The stream of events never ends, so whoever reads it whole waits for ever; `tells` holds it to its promise.
    // That a rule ends after it begins, and that 1.0 is no partition, is more than a schema says.
    command.args([
        "run",
        &url,
        "--checks",
        "all",
        "--exclude-checks",
        "positive_data_acceptance",
        "--exclude-path",
        "/api/v1/events",
        "--seed",
        "1",
    ]);
    command.args([
        "--max-examples",
        "10",
        "--phases",
        "examples,coverage,fuzzing,stateful",
        "--suppress-health-check",
        "all",
    ]);
    command.args(["--header", &format!("Authorization: Bearer {TOKEN}"), "--request-timeout", "10", "--no-color"]);
    let out = command.current_dir(stage.launch.dir()).output().expect("it runs");
    let said = String::from_utf8_lossy(&out.stdout);
    assert!(out.status.success(), "{said}{}", String::from_utf8_lossy(&out.stderr));
    eprintln!("schemathesis took {:?}: {}", began.elapsed(), said.lines().rev().nth(1).unwrap_or_default());
    assert_eq!(stage.daemon.get("/healthz").map(|(status, _)| status), Some(200));
}
