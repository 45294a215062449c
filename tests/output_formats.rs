//! Anomalies as Avro and Protobuf, on a real Kafka: confluent-kafka's own deserialisers find in them what the JSON says,
//! and so does strayd where it reads them again. Without its schema in the registry nothing begins.

mod support;

use std::collections::BTreeMap;
use std::fs;
use std::io::Write;
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::time::Duration;

use serde_json::{Value, json};
use support::{Broker, Launch, Outgoing, Record, Registry, Topics, free_port, python};

/// Deadline of each wait; the machine may be busy with other tests.
const SOON: Duration = Duration::from_secs(60);
/// Records before the daemons begin.
const N_HISTORY: i64 = 2500;
/// Records that they score, every tenth of them odd.
const N_LIVE: i64 = 300;

/// Record `i`: numbers that follow two hidden ones, a category and a boolean that follow one of them.
fn record(i: i64) -> Value {
    let wave = |period: f64| (i as f64 / period).sin();
    let (a, b) = (wave(7.3), wave(31.7));
    let (sum, gap) = (a + b + 0.05 * wave(0.618), a - b - 0.05 * wave(0.618));
    json!({"a": a, "b": b, "sum": sum, "gap": gap, "mode": if a > 0.0 { "boost" } else { "eco" }, "on": b > 0.0})
}

/// Record `i` of those that are scored: some odd, in one way or another, some with a field that is passed through.
fn live(i: i64) -> Outgoing {
    let mut record = record(N_HISTORY + i);
    if i % 10 == 0 {
        (record["sum"], record["gap"]) = (json!(9000.25), json!(-9000));
        match i / 10 % 4 {
            0 => record["b"] = Value::Null,
            1 => record["mode"] = json!(if record["mode"] == "eco" { "boost" } else { "eco" }),
            2 => record["on"] = json!(record["on"] == false),
            _ => {}
        }
    }
    if i % 20 == 0 {
        record["site"] = json!({"name": "Nørre \"1\"", "rack": [1, 2.5, null]});
    }
    let outgoing = Outgoing::value(record.to_string());
    if i % 30 == 0 { outgoing } else { outgoing.key(format!("pump-{}", i % 3)) }
}

/// A daemon that keeps the model of the folder `models` and writes anomalies in `format`.
fn launch(broker: &Broker, topics: &Topics, models: &Path, format: &str) -> Launch {
    let launch = topics.launch_default(broker).set("training.enabled", "false").set("output.format", format);
    let launch = launch.set("output.features_max", "6").set("decode.passthrough", "[\"site\"]");
    launch.set("registry.path", &models.display().to_string())
}

/// Scores everything that is there, and returns the anomalies.
fn anomalies_of(broker: &Broker, topics: &Topics, launch: &Launch, meanwhile: impl FnOnce()) -> Vec<Record> {
    let daemon = launch.start();
    daemon.wait_ready(SOON);
    meanwhile();
    daemon.wait_metrics(SOON, "every record to be scored", |metrics| {
        metrics.sum("strayd_records_scored_total", &[]) >= N_LIVE as f64
    });
    assert_eq!(daemon.sigterm(SOON), 0);
    broker.consume_to_end(&topics.anomalies, SOON)
}

/// What confluent-kafka reads in the records; `args` say how.
fn deserialised(registry: &Registry, topic: &str, records: &[Record], args: &[&str]) -> Vec<Value> {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/support/formats/read.py");
    let mut command = Command::new(python().expect("it was there a moment ago"));
    command.arg(script).args([&registry.url(), topic]).args(args);
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("Python starts");
    let digits = |record: &Record| {
        let value = record.value.as_deref().expect("a value");
        value.iter().map(|byte| format!("{byte:02x}")).collect::<String>() + "\n"
    };
    let mut stdin = child.stdin.take().expect("it is piped");
    stdin.write_all(records.iter().map(digits).collect::<String>().as_bytes()).expect("it reads");
    drop(stdin);
    let Output { status, stdout, .. } = child.wait_with_output().expect("it ends");
    assert!(status.success(), "{status}");
    let text = String::from_utf8(stdout).expect("text");
    text.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect()
}

/// The records by their ids, as far as two runs agree: without the time of scoring, and without what is absent.
fn by_id(records: Vec<Value>) -> BTreeMap<String, Value> {
    fn present(value: Value) -> Value {
        match value {
            Value::Object(fields) => {
                let fields = fields.into_iter().map(|(name, value)| (name, present(value)));
                Value::Object(fields.filter(|(_, value)| !value.is_null()).collect())
            }
            Value::Array(items) => items.into_iter().map(present).collect(),
            value => value,
        }
    }
    let keyed = records.into_iter().map(|mut record| {
        record.as_object_mut().expect("an object").remove("scored_time").expect("a time");
        if let Some(text) = record["passthrough"].as_str() {
            record["passthrough"] = serde_json::from_str(text).expect("JSON");
        }
        (record["id"].as_str().expect("an id").to_owned(), present(record))
    });
    keyed.collect()
}

/// The published Protobuf schema, compiled as its users compile it.
fn descriptor_set(dir: &Path) -> String {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/schema");
    let set = protox::compile(["anomaly.proto"], [folder]).expect("the schema compiles");
    let path = dir.join("anomaly.pb");
    fs::write(&path, prost::Message::encode_to_vec(&set)).expect("written");
    path.display().to_string()
}

/// A reader of yesterday, or of tomorrow: `incident` is unknown to it, and a field that isn't written yet has its default.
fn another_schema(dir: &Path) -> String {
    let mut schema: Value = serde_json::from_str(include_str!("../docs/schema/anomaly.avsc")).expect("JSON");
    let fields = schema["fields"].as_array_mut().expect("a record");
    fields.retain(|field| field["name"] != "incident");
    fields.push(json!({"name": "added", "type": "string", "default": "none"}));
    let path = dir.join("another.avsc");
    fs::write(&path, schema.to_string()).expect("written");
    path.display().to_string()
}

/// What strayd reads again: the commands, and the daemon where feedback names an id.
fn assert_read_again(launch: &Launch, models: &Path, expected: &BTreeMap<String, Value>) {
    let anomaly = expected.values().next().expect("an anomaly");
    let id = anomaly["id"].as_str().expect("an id");
    let source = &anomaly["source"];
    let place = format!("{}/{}/{}", source["topic"].as_str().expect("a name"), source["partition"], source["offset"]);
    let said = |words: &[&str]| {
        let out = launch.ask(words);
        assert!(out.status.success(), "{words:?}: {}", String::from_utf8_lossy(&out.stderr));
        String::from_utf8(out.stdout).expect("UTF-8")
    };
    let begin = format!("@{N_HISTORY}");
    let replayed: Value = serde_json::from_str(&said(&["replay", "--from", &begin, "--json"])).expect("JSON");
    let difference = &replayed["difference"];
    assert_eq!(difference["n_same"], expected.len(), "{difference}");
    for list in ["moved", "only_replayed", "only_published", "not_yet_judged"] {
        assert_eq!(difference[list], json!([]), "{list}");
    }
    let why = said(&["explain", "--record", &place]);
    assert!(why.starts_with(&format!("published as anomaly {id}\nversion 1 scored it\n")), "{why}");
    let stored = said(&["feedback", id, "expected"]);
    assert!(stored.starts_with(&format!("{place}: {}\n", anomaly["summary"].as_str().expect("text"))), "{stored}");

    fs::remove_file(models.join("feedback.jsonl")).expect("what was stored a moment ago");
    let entry = json!({"key": id, "value": {"id": id, "verdict": "false_positive"}, "time_ms": 0});
    fs::write(models.join("feedback.jsonl"), format!("{entry}\n")).expect("written");
    let daemon = launch.start();
    daemon.wait_metrics(SOON, "the anomaly to be found by its id", |metrics| {
        assert_eq!(metrics.sum("strayd_feedback_total", &[("result", "unknown_id")]), 0.0);
        metrics.sum("strayd_feedback_total", &[("result", "applied")]) == 1.0
    });
    assert_eq!(daemon.sigterm(SOON), 0);
}

#[test]
fn anomalies_say_the_same_in_every_format_to_confluents_deserialisers_and_to_strayd() {
    let (Some(broker), Some(registry)) = (Broker::get(), Registry::start(None, &[])) else { return };
    let dir = tempfile::tempdir().expect("a folder");
    let models = dir.path().join("models");
    let json = Topics::new(broker, 1);
    let [avro, protobuf] = [(); 2].map(|()| Topics::reading(broker, &json.features));
    broker.produce(&json.features, (0..N_HISTORY).map(|i| Outgoing::value(record(i).to_string())));
    for topics in [&json, &avro, &protobuf] {
        broker.commit_ends(&topics.group, &json.features);
    }
    let first = launch(broker, &json, &models, "json");
    let expected = anomalies_of(broker, &json, &first, || {
        broker.produce(&json.features, (0..N_LIVE).map(live));
    });
    let expected = by_id(expected.iter().map(Record::json).collect());
    assert!(expected.len() >= N_LIVE as usize / 10, "{} anomalies", expected.len());
    let has = |pointer: &str| expected.values().filter(|anomaly| anomaly.pointer(pointer).is_some()).count();
    for pointer in ["/passthrough/site/rack", "/incident/state", "/entity", "/features/5/expected"] {
        assert!(has(pointer) > 0, "{pointer} is among what is compared");
    }

    let with_registry = |topics, format| {
        launch(broker, topics, &models, format).set("schema_registry.url", &format!("\"{}\"", registry.url()))
    };
    let in_avro = with_registry(&avro, "avro");
    let records = anomalies_of(broker, &avro, &in_avro, || ());
    assert_eq!(records[0].header("content-type"), Some("application/avro"));
    assert_eq!(by_id(deserialised(&registry, &avro.anomalies, &records, &["avro"])), expected);
    let read_by = another_schema(dir.path());
    for anomaly in deserialised(&registry, &avro.anomalies, &records, &["avro", &read_by]) {
        assert!(anomaly.get("incident").is_none() && anomaly["added"] == "none", "{anomaly}");
    }
    assert_read_again(&in_avro, &models, &expected);

    let in_protobuf = with_registry(&protobuf, "protobuf").set("kafka.delivery", "exactly_once");
    let records = anomalies_of(broker, &protobuf, &in_protobuf, || ());
    assert_eq!(records[0].header("content-type"), Some("application/protobuf"));
    let set = descriptor_set(dir.path());
    assert_eq!(by_id(deserialised(&registry, &protobuf.anomalies, &records, &["protobuf", &set])), expected);
    assert_read_again(&in_protobuf, &models, &expected);
}

#[test]
fn a_start_waits_for_a_registry_that_takes_the_schema_and_says_so() {
    let Some(broker) = Broker::get() else { return };
    let port = free_port();
    let topics = Topics::new(broker, 1);
    let dir = tempfile::tempdir().expect("a folder");
    let launch = launch(broker, &topics, dir.path(), "avro");
    let launch = launch.set("schema_registry.url", &format!("\"http://127.0.0.1:{port}\""));
    let daemon = launch.start();
    let says =
        |what: &str| daemon.wait(SOON, what, || daemon.get("/readyz").is_some_and(|(_, page)| page.contains(what)));
    says("schema registry http://127.0.0.1:");
    let subject = format!("{}-value", topics.anomalies);
    let Some(refusing) = Registry::start(Some(port), &["--refuse", &subject]) else { return };
    says(&format!(
        "the schema of the anomalies can't be registered as a version of subject `{subject}`: the registry answers 409: "
    ));
    drop(refusing);
    let _registry = Registry::start(Some(port), &[]).expect("as before");
    says("\"phase\":\"warmup\"");
    assert!(daemon.said().contains("anomalies are written by this schema"), "{}", daemon.said());
}
