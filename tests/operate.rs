//! Proves what an operator relies on, with the real daemon on a real Kafka: metrics that a real Prometheus scrapes and
//! `promtool` accepts, records that fit their JSON Schemas, exit codes, and two instances that share the work.

mod support;

use std::collections::BTreeSet;
use std::net::TcpListener;
use std::path::Path;
use std::process::{Command, Output};
use std::time::Duration;

use serde_json::Value;
use support::{Broker, Daemon, Launch, Outgoing, Prometheus, Sensors, Topics, promtool_check, wait_until};

const SOON: Duration = Duration::from_secs(60);
const N_FEATURES: usize = 6;
const N_HISTORY: usize = 2_500;

/// A daemon that has scored `n` records on `topics`, one in fifty of them anomalous, after its history.
fn daemon_that_scored(broker: &Broker, topics: &Topics, launch: &Launch, n: usize) -> Daemon {
    let mut sensors = Sensors::new(N_FEATURES, 7);
    broker.produce(&topics.features, (0..N_HISTORY).map(|_| Outgoing::value(sensors.json())));
    let daemon = launch.start();
    daemon.wait_ready(SOON);
    let record = |i: usize| {
        let mut row = sensors.row();
        row[i % N_FEATURES] += if i.is_multiple_of(50) { 20.0 } else { 0.0 };
        let value = support::to_json(&row).replacen('{', "{\"site\": \"north\", ", 1);
        Outgoing::value(value).key(format!("pump-{}", i % 12)).header("traceparent", "00-ab-cd-01")
    };
    let bad = Outgoing::value("not a record");
    broker.produce(&topics.features, (0..n).map(record).chain([bad]));
    daemon.wait_metrics(SOON, "every record to be scored and settled", |metrics| {
        let n_scored = metrics.sum("strayd_records_scored_total", &[]);
        n_scored >= n as f64 && metrics.sum("strayd_inflight_batches", &[]) == 0.0
    });
    daemon
}

#[test]
fn prometheus_scrapes_the_daemon_and_promtool_accepts_its_page() {
    let Some(broker) = Broker::get() else { return };
    let topics = Topics::new(broker, 2);
    // Metrics are what is proven here; a young adaptive threshold overlooks some of so many faults.
    let launch = topics.launch(broker).set("threshold.kind", "quantile");
    let daemon = daemon_that_scored(broker, &topics, &launch, 500);
    daemon.wait_metrics(SOON, "the lag of both partitions", |metrics| {
        metrics.with("strayd_consumer_lag_records", &[]).count() == 2
    });
    let (status, page) = daemon.get("/metrics").expect("it answers");
    assert_eq!(status, 200);
    check_documented(&page);
    let Some(said) = promtool_check(&page) else { return };
    assert_eq!(said, "", "promtool finds nothing wrong");

    let Some(prometheus) = Prometheus::start(launch.admin(), "") else { return };
    wait_until(SOON, "a scrape", || prometheus.query("strayd_records_scored_total") == [500.0]);
    assert_eq!(prometheus.query("up{job=\"strayd\"}"), [1.0]);
    let n_anomalies = prometheus.query("sum(strayd_anomalies_total)")[0];
    assert!(n_anomalies >= 10.0, "{n_anomalies} of 10 planted anomalies");
    assert_eq!(prometheus.query("strayd_records_rejected_total{reason=\"malformed\"}"), [1.0]);
    assert_eq!(prometheus.query("sum(strayd_inflight_batches)"), [0.0]);
    assert_eq!(prometheus.query("histogram_quantile(0.99, strayd_end_to_end_latency_seconds_bucket) < 60").len(), 1);
    assert_eq!(daemon.sigterm(SOON), 0);
}

/// Every metric of the page is in docs/METRICS.md, and the other way round.
fn check_documented(page: &str) {
    /// Appears with the first record that can't be delivered.
    const UNSEEN: &str = "strayd_produce_errors_total";
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/METRICS.md");
    let text = std::fs::read_to_string(path).expect("the metrics are documented");
    let parts = ["_bucket", "_sum", "_count"];
    let types = page.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split(' ').next());
    let shown: BTreeSet<&str> = types.filter(|name| name.starts_with("strayd_")).collect();
    let stem = |word| parts.iter().find_map(|part| str::strip_suffix(word, part)).filter(|stem| shown.contains(stem));
    let words = text.split(|c: char| !(c.is_ascii_alphanumeric() || c == '_'));
    let documented: BTreeSet<&str> =
        words.filter(|word| word.starts_with("strayd_")).map(|word| stem(word).unwrap_or(word)).collect();
    let missing: Vec<_> = shown.difference(&documented).collect();
    let stale: Vec<_> = documented.difference(&shown).filter(|&&name| name != UNSEEN).collect();
    assert!(missing.is_empty() && stale.is_empty(), "docs/METRICS.md lacks {missing:?} and has {stale:?} too many");
}

#[test]
fn published_records_fit_their_schemas() {
    let Some(broker) = Broker::get() else { return };
    let topics = Topics::new(broker, 2);
    // A fixed threshold: one row in fifty is an anomaly, and each must have its record.
    let launch = topics.launch(broker).set("decode.passthrough", "site").set("threshold.kind", "quantile");
    let daemon = daemon_that_scored(broker, &topics, &launch, 500);
    assert_eq!(daemon.sigterm(SOON), 0);
    for (name, topic, n_min) in [("anomaly", &topics.anomalies, 10), ("score", &topics.scores, 500)] {
        let out = strayd(&["schema", name]);
        assert!(out.status.success());
        let schema: Value = serde_json::from_slice(&out.stdout).expect("a schema is JSON");
        assert!(schema["properties"].is_object(), "the schema of {name} says something: {schema}");
        let validator = jsonschema::validator_for(&schema).expect("a schema");
        let records = broker.consume_to_end(topic, SOON);
        assert!(records.len() >= n_min, "{} records of {topic}", records.len());
        for record in &records {
            let value = record.json();
            let wrong: Vec<String> = validator.iter_errors(&value).map(|error| error.to_string()).collect();
            assert!(wrong.is_empty(), "{name}: {wrong:?} in {value}");
            assert_eq!(record.header("content-type"), Some("application/json"));
        }
        let mut broken = records[0].json();
        broken.as_object_mut().expect("an object").remove("id");
        assert!(!validator.is_valid(&broken), "the schema of {name} demands an id");
    }
    for record in broker.consume_to_end(&topics.anomalies, SOON) {
        let value = record.json();
        let fixed =
            [("ce_specversion", "1.0"), ("ce_type", "io.strayd.anomaly.v1"), ("ce_source", "urn:strayd:strayd")];
        for (header, expected) in fixed.into_iter().chain([("traceparent", "00-ab-cd-01")]) {
            assert_eq!(record.header(header), Some(expected));
        }
        assert_eq!(record.header("ce_id"), value["id"].as_str());
        assert_eq!(record.header("ce_time"), value["event_time"].as_str());
        assert_eq!(record.header("ce_subject"), value["entity"].as_str());
        assert_eq!(record.key.as_deref(), value["entity"].as_str().map(str::as_bytes));
        assert_eq!(value["passthrough"], serde_json::json!({"site": "north"}));
        assert!(value["score"]["ratio"].as_f64().expect("a number") > 1.0);
    }
}

fn strayd(args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_strayd")).args(args).output().expect("strayd was built")
}

/// Checks the exit code, and returns what was said on standard error.
#[track_caller]
fn refused(args: &[&str], code: i32) -> String {
    let out = strayd(args);
    let said = String::from_utf8_lossy(&out.stderr).into_owned();
    assert_eq!(out.status.code(), Some(code), "{args:?}: {said}");
    said
}

/// OpenBLAS picks kernels from before AVX for processors that it doesn't know; elsewhere this is a matter of course.
#[test]
fn the_kernels_are_the_processors_unless_somebody_says_otherwise() {
    let version = |told: Option<&str>| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_strayd"));
        command.env_remove("OPENBLAS_CORETYPE").envs(told.map(|kernels| ("OPENBLAS_CORETYPE", kernels)));
        let out = command.arg("--version").output().expect("strayd was built");
        String::from_utf8(out.stdout).expect("UTF-8")
    };
    #[cfg(target_arch = "x86_64")]
    {
        let old = version(Some("Prescott"));
        assert!(old.contains(" Prescott,"), "who sets it decides: {old}");
        let is_modern = std::arch::is_x86_feature_detected!("avx2") && std::arch::is_x86_feature_detected!("fma");
        assert_eq!(version(None).contains(" Prescott,"), !is_modern, "{}", version(None));
    }
    assert!(version(None).contains("OpenBLAS"), "{}", version(None));
}

#[test]
fn exit_codes_tell_usage_configuration_and_failure_apart() {
    assert!(strayd(&["--version"]).status.success());
    for usage in [&["bogus"][..], &["run", "--bogus"], &[], &["run", "--set", "no-equals-sign"]] {
        refused(usage, 2);
    }
    let topic = ["--set", "input.topic=x"];
    for command in ["run", "check"] {
        let said = refused(&[command, "--set", "input.topik=x"], 78);
        assert!(said.contains("input.topik: unknown field `topik`"), "{said}");
        let said = refused(&[command, "--config", "/no/such/file.toml"], 78);
        assert!(said.contains("/no/such/file.toml"), "{said}");
        refused(&[&[command, "--set", "pipeline.lanes=0"], &topic[..]].concat(), 78);
    }
    // Where nothing can be said, the code still tells: standard error may be a file on a full disk.
    let full = std::fs::File::options().write(true).open("/dev/full").expect("Linux has it");
    let args = ["check", "--set", "input.topik=x"];
    let mute = Command::new(env!("CARGO_BIN_EXE_strayd")).args(args).stderr(full).status().expect("it runs");
    assert_eq!(mute.code(), Some(78));
    let taken = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let listen = format!("admin.listen={}", taken.local_addr().expect("bound"));
    let said = refused(&[&["run", "--set", &listen], &topic[..]].concat(), 1);
    assert!(said.contains("admin.listen"), "{said}");
    let gone = "kafka.brokers=127.0.0.1:1";
    let said = refused(&[&["check", "--connect", "--set", gone], &topic[..]].concat(), 1);
    assert!(said.contains("no broker answers; check kafka.brokers"), "{said}");
}

#[test]
fn check_names_every_problem_at_once() {
    let wrong = [
        ("input.topik", "x", "unknown field"),
        ("pipeline.lanes", "0", "must be from 1"),
        ("pipeline.rows_max", "many", "many"),
        ("kafka.delivery_timeout", "10m", "max.poll.interval.ms"),
        ("output.compression", "brotli", "lz4"),
        ("threshold.target_alert_rate", "2", "2"),
        ("kafka.security.password_file", "/no/such/password", "/no/such/password"),
    ];
    let pairs: Vec<String> = wrong.iter().map(|(key, value, _)| format!("{key}={value}")).collect();
    let args: Vec<&str> = pairs.iter().flat_map(|pair| ["--set", pair]).collect();
    let said = refused(&[&["check"], &args[..]].concat(), 78);
    for (key, _, what) in wrong {
        let line = said.lines().find(|line| line.trim_start().starts_with(&format!("{key}: ")));
        assert!(line.is_some_and(|line| line.contains(what)), "{key}: {said}");
    }
    let said = refused(&["check", "--set", "input.topic=x", "--set", "kafka.librdkafka.sasl.password=hunter2"], 78);
    assert!(said.contains("kafka.security.password_file") && !said.contains("hunter2"), "{said}");
}

#[test]
fn two_instances_share_the_partitions_and_one_takes_over_from_the_other() {
    const N_RECORDS: usize = 40_000;
    let Some(broker) = Broker::get() else { return };
    let topics = Topics::new(broker, 4);
    let mut sensors = Sensors::new(N_FEATURES, 8);
    broker.produce(&topics.features, (0..N_HISTORY).map(|_| Outgoing::value(sensors.json())));
    let tuned = |launch: Launch| launch.set("kafka.session_timeout", "6s").set("kafka.commit_interval", "100ms");
    let first = tuned(topics.launch(broker));
    let models = first.dir().join("models").display().to_string();
    let second = tuned(topics.launch(broker)).set("registry.path", &models);
    let (a, start) = (first.start(), broker.end_offsets(&topics.features));
    a.wait_ready(SOON);
    let n_assigned = |daemon: &Daemon| daemon.metrics().sum("strayd_partitions_assigned", &[]);
    let mut flow = |n: usize| {
        broker.produce(&topics.features, (0..n).map(|i| Outgoing::value(sensors.json()).partition(i as i32 % 4)));
    };
    flow(N_RECORDS / 4);
    let b = second.start();
    b.wait_ready(SOON);
    flow(N_RECORDS / 4);
    wait_until(SOON, "two partitions each", || n_assigned(&a) == 2.0 && n_assigned(&b) == 2.0);
    flow(N_RECORDS / 4);
    b.wait_metrics(SOON, "the second to score", |metrics| metrics.sum("strayd_records_scored_total", &[]) > 1_000.0);
    b.kill9();
    flow(N_RECORDS / 4);
    wait_until(SOON, "the first to have all partitions again", || n_assigned(&a) == 4.0);
    let ends = broker.end_offsets(&topics.features);
    wait_until(SOON, "everything to be settled", || {
        let committed = broker.committed(&topics.group, &topics.features);
        ends.iter().all(|(partition, end)| committed.get(partition).is_some_and(|found| found.offset == *end))
    });
    assert!(a.metrics().sum("strayd_rebalances_total", &[]) >= 3.0);

    let c = second.start();
    c.wait_ready(SOON);
    wait_until(SOON, "two partitions each again", || n_assigned(&a) == 2.0 && n_assigned(&c) == 2.0);
    assert_eq!(c.sigterm(SOON), 0);
    wait_until(Duration::from_secs(5), "a leaving instance to be replaced at once", || n_assigned(&a) == 4.0);
    assert_eq!(a.sigterm(SOON), 0);

    let place = |value: &Value| (value["source"]["partition"].as_i64(), value["source"]["offset"].as_i64());
    let scores = broker.consume_to_end(&topics.scores, SOON);
    let scored: BTreeSet<_> = scores.iter().map(|record| place(&record.json())).collect();
    let all = start.iter().flat_map(|(&p, &from)| (from..ends[&p]).map(move |o| (Some(i64::from(p)), Some(o))));
    let missing = all.filter(|place| !scored.contains(place)).count();
    assert_eq!((missing, scored.len()), (0, N_RECORDS), "{} scores were written", scores.len());
}
