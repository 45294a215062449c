//! Holds what strayd writes to what docs/RECORDS.md and the JSON Schemas promise.
//!
//! Every record here is a real one: of the command line over a file, and of a lane over records in memory. The schemas
//! are published open (fields may be added); the tests close them, so that a field nobody described is found.

use std::fs;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use ndarray::Array2;
use rand::Rng;
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use serde_json::{Value, json};
use tempfile::TempDir;

use strayd::app;
use strayd::config::{Config, RawConfig};
use strayd::decode::Reject;
use strayd::pipeline::inflight::Settling;
use strayd::pipeline::lane::{Lane, Step};
use strayd::preprocess::Schema;
use strayd::record::RecordId;
use strayd::sink::{Channel, MemorySink, Sent, Sink};
use strayd::source::{MemorySource, Stored};
use strayd::telemetry::Metrics;
use strayd::telemetry::health::Health;
use strayd::train::{self, Rows};

const NAMES: [&str; 5] = ["load", "flow", "temp", "pressure", "current"];
/// A pump under full load that runs cool: each value is ordinary, together they are not.
const STRAYED: [f32; 5] = [88.0, 185.0, 52.0, 2.4, 21.6];
/// Rows of a file that are trained on; the same number is scored.
const N_ROWS: usize = 3000;
/// Row of the scored file that strays.
const STRAY_ROW: usize = 1234;

/// Readings of a pump, `[rows][features]`: everything follows the load.
fn readings(n_rows: usize, seed: u64) -> Vec<Vec<f32>> {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let row = |i| {
        let mut noise = |size: f32| rng.random_range(-size..size);
        let load = 60.0 + 20.0 * (i as f32 / 300.0).sin() + noise(8.0);
        let flow = 2.1 * load + noise(4.0);
        let (temp, pressure) = (30.0 + 0.5 * load + noise(1.5), 8.0 - 0.03 * flow + noise(0.2));
        vec![load, flow, temp, pressure, 4.0 + 0.2 * load + noise(0.6)]
    };
    (0..n_rows).map(row).collect()
}

fn csv(rows: &[Vec<f32>]) -> String {
    let line = |row: &Vec<f32>| row.iter().map(f32::to_string).collect::<Vec<_>>().join(",") + "\n";
    NAMES.join(",") + "\n" + &rows.iter().map(line).collect::<String>()
}

fn published(name: &str) -> Value {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("docs/schema/{name}.json"));
    serde_json::from_slice(&fs::read(path).expect("the schema is there")).expect("the schema is JSON")
}

/// The schema in which no object has a field that is not described.
fn closed(mut schema: Value) -> Value {
    match &mut schema {
        Value::Object(object) => {
            object.values_mut().for_each(|value| *value = closed(value.take()));
            if object.get("type") == Some(&json!("object")) && object.contains_key("properties") {
                object.insert("additionalProperties".into(), json!(false));
            }
        }
        Value::Array(values) => values.iter_mut().for_each(|value| *value = closed(value.take())),
        _ => {}
    }
    schema
}

fn validator(schema: &Value) -> jsonschema::Validator {
    jsonschema::options().should_validate_formats(true).build(schema).expect("the schema is a JSON Schema")
}

#[track_caller]
fn assert_follows(schema: &Value, record: &Value) {
    let problems: Vec<String> =
        validator(schema).iter_errors(record).map(|error| format!("{}: {error}", error.instance_path())).collect();
    assert!(problems.is_empty(), "{record:#} does not follow its schema:\n{}", problems.join("\n"));
}

fn shares_sum_to_one(anomaly: &Value) -> bool {
    let features = anomaly["features"].as_array().expect("a list").iter();
    let listed: f64 = features.map(|feature| feature["contribution"].as_f64().expect("a number")).sum();
    (listed + anomaly["unexplained"].as_f64().expect("a number") - 1.0).abs() < 1e-9
}

/// A folder with a file to score and a model for it.
struct Trained {
    dir: TempDir,
}

impl Trained {
    fn new() -> Self {
        let dir = tempfile::tempdir().expect("a temporary folder");
        let mut rows = readings(N_ROWS, 2);
        rows[STRAY_ROW] = STRAYED.to_vec();
        rows[7][2] = f32::NAN;
        fs::write(dir.path().join("history.csv"), csv(&readings(N_ROWS, 1))).expect("written");
        fs::write(dir.path().join("pump.csv"), csv(&rows)).expect("written");
        let trained = Self { dir };
        trained.strayd(&["train", "history.csv", "--out", "model"]);
        trained
    }

    /// What `strayd` with these arguments prints, one JSON document a line.
    #[track_caller]
    fn json(&self, args: &[&str]) -> Vec<Value> {
        let printed = self.strayd(args);
        printed.lines().map(|line| serde_json::from_str(line).expect("a line of JSON")).collect()
    }

    #[track_caller]
    fn strayd(&self, args: &[&str]) -> String {
        let mut command = Command::new(env!("CARGO_BIN_EXE_strayd"));
        let output = command.args(args).current_dir(self.dir.path()).output().expect("strayd starts");
        assert!(output.status.success(), "{args:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).expect("strayd prints UTF-8")
    }
}

#[test]
fn what_the_command_line_prints_follows_its_schema() {
    let trained = Trained::new();
    let (anomaly, score) = (closed(published("anomaly")), closed(published("score")));

    let scores = trained.json(&["score", "--model", "model", "pump.csv"]);
    assert_eq!(scores.len(), N_ROWS);
    let validator = validator(&score);
    for record in &scores {
        assert!(validator.is_valid(record), "{record} does not follow score.json");
    }
    let anomalies = trained.json(&["score", "--model", "model", "--anomalies", "pump.csv"]);
    assert!(anomalies.iter().any(|record| record["source"]["offset"] == STRAY_ROW));
    // How many are right is for tests/calibration.rs to say.
    assert!(anomalies.len() < N_ROWS / 50, "{} anomalies", anomalies.len());
    for record in &anomalies {
        assert_follows(&anomaly, record);
        assert!(shares_sum_to_one(record), "{record:#}");
        let offset = record["source"]["offset"].as_u64().expect("an offset") as usize;
        assert_eq!((&scores[offset]["id"], &scores[offset]["score"]), (&record["id"], &record["score"]));
    }

    let row = STRAY_ROW.to_string();
    let explained = trained.json(&["explain", "--model", "model", "pump.csv", "--row", &row, "--json"]);
    assert_follows(&anomaly, &explained[0]);
    assert!(explained[0]["score"]["ratio"].as_f64().expect("a number") > 1.0);
    assert_eq!(explained[0]["top_feature"], explained[0]["features"][0]["name"]);

    // An ordinary row, with a missing value.
    let explained = trained.json(&[
        "explain",
        "--model",
        "model",
        "pump.csv",
        "--row",
        "7",
        "--json",
        "--set",
        "output.features_max=5",
    ]);
    assert_follows(&anomaly, &explained[0]);
    let is_missing = |feature: &Value| feature["missing"] == true && feature["actual"].is_null();
    let features = explained[0]["features"].as_array().expect("a list");
    assert_eq!(features.iter().filter(|feature| is_missing(feature)).count(), 1, "{features:#?}");
}

#[test]
fn scores_carry_the_active_latents_only_where_asked_for() {
    let trained = Trained::new();
    let schema = closed(published("score"));
    let plain = trained.json(&["score", "--model", "model", "pump.csv"]);
    let mut with = trained.json(&["score", "--model", "model", "pump.csv", "--set", "output.score_latents=true"]);
    assert!(plain.iter().all(|record| record.get("latents").is_none()));
    assert_follows(&schema, &with[STRAY_ROW]);
    let encoded = trained.json(&["encode", "--model", "model", "pump.csv"]);
    let mut n_active = 0;
    for (i, record) in with.iter_mut().enumerate() {
        let latents = record.as_object_mut().expect("an object").remove("latents").expect("they were asked for");
        let active = latents.as_array().expect("a list");
        assert!(active.iter().all(|pair| pair[1].as_f64().expect("a number") > 0.0), "{latents}");
        assert!(active.len() <= NAMES.len(), "k is the number of features");
        n_active += active.len();
        // Batches of another size may round otherwise in the last place.
        let numbers = |list: &Value| -> Vec<u64> {
            list.as_array().expect("a list").iter().map(|pair| pair[0].as_u64().expect("a number")).collect()
        };
        assert_eq!(numbers(&latents), numbers(&encoded[i]["latents"]), "row {i}");
    }
    assert!(n_active > N_ROWS, "{n_active} active latents in {N_ROWS} rows");
    let of = |records: &[Value]| records.iter().map(|record| record["id"].clone()).collect::<Vec<_>>();
    assert_eq!(of(&with), of(&plain));
}

#[test]
fn a_reader_who_has_had_enough_is_no_failure() {
    let trained = Trained::new();
    for args in
        [&["explain", "--model", "model", "pump.csv", "--row", "7"][..], &["models", "list"]].into_iter().chain([
            &["encode", "--model", "model", "pump.csv"][..],
            &["encode", "--model", "model", "pump.csv", "--format", "csv"],
            &["encode", "--model", "model", "pump.csv", "--reconstruct"],
        ])
    {
        let mut command = Command::new(env!("CARGO_BIN_EXE_strayd"));
        command.args(args).current_dir(trained.dir.path()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().expect("strayd starts");
        drop(child.stdout.take());
        let output = child.wait_with_output().expect("strayd ends");
        assert!(output.status.success(), "{args:?}: {}", String::from_utf8_lossy(&output.stderr));
    }
}

#[test]
fn the_schemas_are_what_strayd_schema_prints() {
    for name in ["anomaly", "score", "incident"] {
        let output = Command::new(env!("CARGO_BIN_EXE_strayd")).args(["schema", name]).output().expect("it starts");
        assert_eq!(serde_json::from_slice::<Value>(&output.stdout).expect("JSON"), published(name));
        assert!(jsonschema::meta::is_valid(&published(name)), "{name}.json is a JSON Schema");
    }
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/schema");
    for (format, file) in [("avro", "anomaly.avsc"), ("protobuf", "anomaly.proto")] {
        let args = ["schema", "anomaly", "--format", format];
        let output = Command::new(env!("CARGO_BIN_EXE_strayd")).args(args).output().expect("it starts");
        assert_eq!(output.stdout, fs::read(folder.join(file)).expect("the schema is there"), "{file}");
    }
    let anomaly = published("anomaly");
    for other in ["score", "incident"] {
        for (name, definition) in published(other)["$defs"].as_object().expect("an object") {
            assert_eq!(anomaly["$defs"][name], *definition, "{other}: one word per concept");
        }
    }
}

#[test]
fn the_schemas_refuse_what_no_record_may_be() {
    let record = Trained::new().json(&["score", "--model", "model", "--anomalies", "pump.csv"]).remove(0);
    let (open, closed) = (validator(&published("anomaly")), validator(&closed(published("anomaly"))));
    let with = |pointer: &str, value: Value| {
        let mut changed = record.clone();
        *changed.pointer_mut(pointer).expect("the record has this field") = value;
        changed
    };
    for (pointer, value) in [
        ("/schema_version", json!(2)),
        ("/id", json!("918273")),
        ("/event_time", json!("yesterday")),
        ("/score/ratio", Value::Null),
        ("/score/ratio", json!(0.5)), // and a severity all the same
        ("/score/p_value", json!(0)),
        ("/score/severity", json!("dreadful")),
        ("/source/offset", json!(-1)),
        ("/features/0/contribution", json!(1.5)),
        ("/features/0/name", Value::Null),
        ("/patterns/0/role", json!("cause")),
        ("/unexplained", json!(-0.1)),
        ("/model/hash", json!("")),
    ] {
        assert!(!open.is_valid(&with(pointer, value.clone())), "{pointer} = {value}");
    }
    let mut more = record.clone();
    more["weather"] = json!("fair");
    assert!(open.is_valid(&more), "a consumer must live with a field it doesn't know");
    assert!(!closed.is_valid(&more), "and a test must find a field that nobody described");
}

/// What a lane sent for these records, and its page of metrics.
fn through_a_lane(config: impl FnOnce(&mut RawConfig), records: Vec<Stored>) -> (Vec<Sent>, String) {
    let mut raw = RawConfig::default();
    raw.input.topic = "features".into();
    raw.output.scores = Some("scores".into());
    config(&mut raw);
    let config = Config::check(raw).expect("the configuration is right");
    let values = Array2::from_shape_vec((N_ROWS, NAMES.len()), readings(N_ROWS, 1).concat()).expect("a table");
    let ids = (0..N_ROWS as i64).map(|offset| RecordId { partition: 0.into(), offset }).collect();
    let schema = Arc::new(Schema::new(NAMES).expect("unique names"));
    let rows = Rows::new(values, ids);
    let fitted = train::fit(schema, &rows, &config.model, 0, &mut |_| ControlFlow::Continue(())).expect("a model");

    let shared = app::shared(&config, Arc::new(Metrics::new()), Health::new(1));
    shared.cell.swap(Arc::new(fitted.into_model(3, 1_767_225_600_000)));
    let sink = Arc::new(MemorySink::default());
    let settling = Arc::new(Settling::new(Arc::clone(&sink) as Arc<dyn Sink>, Duration::from_secs(1), 0));
    let source = Box::new(MemorySource::new(records));
    let mut lane = Lane::new(0, shared.clone(), source, Arc::clone(&sink) as Arc<dyn Sink>, settling);
    while lane.step().expect("no lane fails at a record") != Step::End {}
    (sink.take(), shared.metrics.encode(0, &shared.health))
}

fn header<'a>(sent: &'a Sent, name: &str) -> Option<&'a str> {
    let found = sent.headers.iter().find(|(key, _)| key == name)?;
    std::str::from_utf8(found.1.as_deref()?).ok()
}

#[test]
fn an_anomaly_of_the_topic_follows_its_schema_and_carries_its_headers() {
    let vector: serde_json::Map<String, Value> =
        NAMES.iter().map(|n| (*n).to_owned()).zip(STRAYED.map(Value::from)).collect();
    let payload = json!({"at": "2026-01-01T00:00:00Z", "site": {"name": "north"}, "vector": vector});
    let trace = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
    let record = Stored {
        key: Some(b"pump-42".to_vec()),
        payload: Some(payload.to_string().into_bytes()),
        headers: vec![("traceparent".into(), trace.into())],
        ..Stored::default()
    };
    let configure = |raw: &mut RawConfig| {
        raw.detector.name = "pumps".into();
        raw.decode.field = Some("vector".into());
        raw.decode.time_field = Some("at".into());
        raw.decode.passthrough = vec!["site".into(), "line".into()];
    };
    let (sent, _) = through_a_lane(configure, vec![record]);
    let of = |channel| sent.iter().find(|sent| sent.channel == channel).expect("it was sent");
    let (anomaly, score) = (of(Channel::Anomalies), of(Channel::Scores));
    let value: Value = serde_json::from_slice(&anomaly.value).expect("JSON");
    assert_follows(&closed(published("anomaly")), &value);
    assert_follows(&closed(published("score")), &serde_json::from_slice(&score.value).expect("JSON"));
    assert_eq!(value["passthrough"], json!({"site": {"name": "north"}}));
    assert_eq!((&value["entity"], &value["detector"]), (&json!("pump-42"), &json!("pumps")));
    assert_eq!((&anomaly.key, &score.key), (&Some(b"pump-42".to_vec()), &Some(b"pump-42".to_vec())));
    let expected = [
        ("ce_specversion", "1.0"),
        ("ce_id", value["id"].as_str().expect("text")),
        ("ce_source", "urn:strayd:pumps"),
        ("ce_type", "io.strayd.anomaly.v1"),
        ("ce_subject", "pump-42"),
        ("ce_time", "2026-01-01T00:00:00.000Z"),
        ("content-type", "application/json"),
        ("traceparent", trace),
    ];
    for (name, text) in expected {
        assert_eq!(header(anomaly, name), Some(text), "{name}");
    }
    assert_eq!(anomaly.headers.len(), expected.len(), "{:?}", anomaly.headers);
    let page = fs::read_to_string(PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("docs/RECORDS.md")).expect("there");
    expected.iter().for_each(|(name, _)| assert!(page.contains(&format!("`{name}`")), "RECORDS.md lacks {name}"));
}

/// A payload and how it ends: scored, skipped for a reason, or rejected for a reason.
fn ends() -> Vec<(Option<Vec<u8>>, &'static str)> {
    let text = |text: &str| Some(text.as_bytes().to_vec());
    let full = "\"load\": 60, \"flow\": 126, \"temp\": 60, \"pressure\": 4.2, \"current\": 16";
    vec![
        (text(&format!("{{{full}}}")), "scored"),
        (text("[60, 126, 60, 4.2, 16]"), "scored"),
        (text(&format!("{{{full}, \"color\": [\"red\"]}}")), "scored"),
        (text("[60, null, 60, 4.2, 16]"), "scored"),
        (text("[60, NaN, 60, -Infinity, 16]"), "scored"),
        (text("[60, 1e400, 60, 4.2, 16]"), "scored"),
        (text("{\"load\": 60, \"flow\": 126, \"temp\": 60}"), "scored"),
        (text("[60, 1e300, 60, 4.2, 16]"), "scored"),
        (None, "tombstone"),
        (text("{\"load\": 60, \"flow\": 126}"), "insufficient"),
        (text("[null, null, null, null, null]"), "insufficient"),
        (text("{}"), "insufficient"),
        (text(""), "empty"),
        (Some(vec![b' '; 2000]), "too_large"),
        (Some(b"{\"load\": \"\xff\"}".to_vec()), "invalid_utf8"),
        (text("{\"load\": 60, \"fl"), "malformed"),
        (text("hello"), "malformed"),
        (text("[1, 2, 3, 4, 5] 6"), "malformed"),
        (text("[1, 2, 3]"), "wrong_length"),
        (text("[1, 2, 3, 4, 5, 6]"), "wrong_length"),
        (text("{\"load\": \"60\"}"), "wrong_type"),
        (text("{\"load\": {\"value\": 60}}"), "wrong_type"),
        (text("[true, 1, 1, 1, 1]"), "wrong_type"),
        (text("{\"load\": 60, \"load\": 61}"), "duplicate_name"),
        (text(&format!("{{{full}, \"at\": \"noon\"}}")), "bad_time"),
    ]
}

#[test]
fn every_input_has_the_end_that_the_page_promises() {
    let ends = ends();
    let records = ends.iter().map(|(payload, _)| Stored {
        key: Some(b"pump-1".to_vec()),
        payload: payload.clone(),
        headers: vec![("trace".into(), b"t-1".to_vec())],
        ..Stored::default()
    });
    let configure = |raw: &mut RawConfig| {
        raw.decode.time_field = Some("at".into());
        raw.decode.payload_bytes_max = 1000;
        raw.dead_letter.value_bytes_max = 100;
    };
    let (sent, page) = through_a_lane(configure, records.collect());
    let mut rejected = sent.iter().filter(|sent| sent.channel == Channel::DeadLetters);
    let scored: Vec<u64> = sent
        .iter()
        .filter(|sent| sent.channel == Channel::Scores)
        .map(|sent| serde_json::from_slice::<Value>(&sent.value).expect("JSON")["source"]["offset"].as_u64().unwrap())
        .collect();
    let docs = fs::read_to_string(PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("docs/RECORDS.md")).expect("there");
    for (offset, (payload, end)) in ends.iter().enumerate() {
        let shown = payload.as_deref().map(String::from_utf8_lossy);
        assert_eq!(scored.contains(&(offset as u64)), *end == "scored", "{shown:?}");
        assert!(docs.contains(end), "RECORDS.md does not tell of {end}");
        if !Reject::REASONS.contains(end) {
            continue;
        }
        let letter = rejected.next().expect("a dead letter for each rejected record");
        assert_eq!(header(letter, "strayd.error.reason"), Some(*end), "{shown:?}");
        assert_eq!(header(letter, "strayd.error.offset"), Some(&*offset.to_string()), "{shown:?}");
        assert_eq!((header(letter, "trace"), letter.key.as_deref()), (Some("t-1"), Some(&b"pump-1"[..])));
        let payload = payload.as_deref().expect("a tombstone is no dead letter");
        assert_eq!(letter.value, payload[..payload.len().min(100)]);
        assert_eq!(header(letter, "strayd.error.truncated").is_some(), payload.len() > 100);
    }
    assert_eq!(rejected.next(), None);
    for reason in ends.iter().map(|(_, end)| *end).filter(|end| *end != "scored") {
        let n = ends.iter().filter(|(_, end)| *end == reason).count();
        assert!(page.contains(&format!("{{reason=\"{reason}\"}} {n}\n")), "{reason} is counted {n} times");
    }
    // JSON has no schemas: `tests/formats.rs` has records of one that is unknown.
    for reason in Reject::REASONS.into_iter().filter(|reason| *reason != "unknown_schema") {
        assert!(ends.iter().any(|(_, end)| *end == reason), "no input here is rejected as {reason}");
    }
}
