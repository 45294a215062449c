//! Incidents and what is withheld, over a lane in memory: what is published follows its schema, is counted, and is the same
//! when the records come again.

use std::fs;
use std::ops::ControlFlow;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use ndarray::Array2;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde_json::{Value, json};

use strayd::alert::Suppression;
use strayd::app;
use strayd::config::{Config, RawConfig};
use strayd::pipeline::inflight::Settling;
use strayd::pipeline::lane::{Lane, Step};
use strayd::preprocess::Schema;
use strayd::record::RecordId;
use strayd::sink::{Channel, MemorySink, Sent, Sink};
use strayd::source::{MemorySource, Stored};
use strayd::telemetry::Metrics;
use strayd::telemetry::health::Health;
use strayd::train::{self, Rows};

const ORDINARY: &str = "[1.0, 2.0, 3.0, 4.0]";
const ANOMALOUS: &str = "[2.0, -4.0, 6.0, -8.0]";

/// Rows around a line in four dimensions.
fn history() -> Rows {
    let mut rng = ChaCha8Rng::seed_from_u64(7);
    let mut values = Array2::zeros((600, 4));
    for mut row in values.rows_mut() {
        let cause: f32 = rng.random_range(-2.0..2.0);
        row.iter_mut().enumerate().for_each(|(j, v)| *v = cause * (j as f32 + 1.0) + rng.random_range(-0.1..0.1));
    }
    Rows { values, ids: (0..600).map(|offset| RecordId { partition: 0.into(), offset }).collect() }
}

/// `n` records of a key, one a second from `second` on.
fn records(key: &str, second: i64, n: i64, payload: &str) -> Vec<Stored> {
    let one = |i| Stored {
        time_ms: (second + i) * 1000,
        key: Some(key.into()),
        payload: Some(payload.into()),
        ..Stored::default()
    };
    (0..n).map(one).collect()
}

/// An incident of three records with quiet ones before it and after it.
fn an_incident(key: &str) -> Vec<Stored> {
    [(0, 5, ORDINARY), (5, 3, ANOMALOUS), (8, 128, ORDINARY)]
        .into_iter()
        .flat_map(|(second, n, payload)| records(key, second, n, payload))
        .collect()
}

/// What a lane sent for these records, and its page of metrics; `rule` is put in force after its first turn.
fn through_a_lane(
    config: &str,
    rows_max: usize,
    records: Vec<Stored>,
    rule: Option<Suppression>,
) -> (Vec<Sent>, String) {
    let mut raw: RawConfig = toml::from_str(config).expect("TOML");
    raw.input.topic = "features".into();
    raw.output.incidents = Some("incidents".into());
    raw.output.scores = Some("scores".into());
    raw.pipeline.rows_max = rows_max;
    let config = Config::check(raw).expect("the configuration is right");
    let schema = Arc::new(Schema::new(["a", "b", "c", "d"]).expect("four names"));
    let fitted = train::fit(schema, &history(), &config.model, 0, &mut |_| ControlFlow::Continue(()));
    let shared = app::shared(&config, Arc::new(Metrics::new()), Health::new(1));
    shared.cell.swap(Arc::new(fitted.expect("600 rows are enough").into_model(1, 0)));
    let sink = Arc::new(MemorySink::default());
    let settling = Arc::new(Settling::new(Arc::clone(&sink) as Arc<dyn Sink>, Duration::ZERO, 0));
    let source = Box::new(MemorySource::new(records));
    let mut lane = Lane::new(0, shared.clone(), source, Arc::clone(&sink) as Arc<dyn Sink>, settling);
    let mut rule = rule;
    while lane.step().expect("no lane fails at a record") != Step::End {
        if let Some(rule) = rule.take() {
            shared.live.order("ordered", Some(rule)).expect("the rule is right");
        }
    }
    (sink.take(), shared.metrics.encode(0, &shared.health))
}

fn of(sent: &[Sent], channel: Channel) -> Vec<Value> {
    let sent = sent.iter().filter(|sent| sent.channel == channel);
    sent.map(|sent| serde_json::from_slice(&sent.value).expect("JSON")).collect()
}

#[track_caller]
fn assert_follows(name: &str, record: &Value) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("docs/schema/{name}.json"));
    let mut schema: Value = serde_json::from_slice(&fs::read(path).expect("it is there")).expect("JSON");
    // The published schema is open; here a field that nobody described is a mistake.
    schema["additionalProperties"] = json!(false);
    let validator = jsonschema::options().should_validate_formats(true).build(&schema).expect("a JSON Schema");
    let problems: Vec<String> = validator.iter_errors(record).map(|error| error.to_string()).collect();
    assert!(problems.is_empty(), "{record:#}: {problems:?}");
}

#[track_caller]
fn assert_shows(page: &str, line: &str) {
    assert!(page.contains(&format!("strayd_{line}\n")), "no {line} in {page}");
}

#[test]
fn anomalies_name_their_incident_and_its_changes_are_published() {
    let (sent, page) = through_a_lane("", 4, an_incident("pump-1"), None);
    let (anomalies, events) = (of(&sent, Channel::Anomalies), of(&sent, Channel::Incidents));
    let n_records: Vec<&Value> = anomalies.iter().map(|anomaly| &anomaly["incident"]["n_records"]).collect();
    assert_eq!(n_records, [&json!(1), &json!(2), &json!(3)]);
    let states: Vec<&Value> = events.iter().map(|event| &event["incident"]["state"]).collect();
    assert_eq!(states, ["open", "closed"]);
    anomalies.iter().for_each(|anomaly| assert_follows("anomaly", anomaly));
    events.iter().for_each(|event| assert_follows("incident", event));
    for record in anomalies.iter().chain(&events) {
        assert_eq!(record["incident"]["id"], events[0]["incident"]["id"]);
        assert_eq!(record["incident"]["start_time"], "1970-01-01T00:00:05.000Z");
    }
    let closed = &events[1];
    assert_eq!((&closed["cause"], &closed["event_time"]), (&json!("records"), &json!("1970-01-01T00:02:15.000Z")));
    assert_eq!((&closed["source"]["offset"], &closed["sequence"]), (&json!(5), &json!(1)));
    assert_eq!(closed["worst"]["id"], anomalies[0]["id"], "the first of equals");
    let first = sent.iter().find(|sent| sent.channel == Channel::Incidents).expect("it was sent");
    assert_eq!(first.key.as_deref(), Some(&b"pump-1"[..]));
    for (name, value) in [("ce_type", "io.strayd.incident.v1"), ("ce_id", events[0]["id"].as_str().expect("text"))] {
        assert!(first.headers.contains(&(name.into(), Some(value.into()))), "{:?}", first.headers);
    }
    assert_shows(&page, "incidents_open 0");
    assert_shows(&page, "records_produced_total{topic=\"incidents\"} 2");
}

#[test]
fn records_that_come_again_give_the_same_changes_however_they_are_batched() {
    let both = || [an_incident("pump-1"), records("pump-2", 136, 2, ANOMALOUS), records("", 500, 1, ORDINARY)].concat();
    let ((once, page), (again, _)) = (through_a_lane("", 256, both(), None), through_a_lane("", 3, both(), None));
    let events = of(&once, Channel::Incidents);
    assert_eq!(events, of(&again, Channel::Incidents));
    let said: Vec<(&Value, &Value)> = events.iter().map(|event| (&event["entity"], &event["cause"])).collect();
    let [one, two] = [json!("pump-1"), json!("pump-2")];
    let (none, causes) = (Value::Null, [json!("records"), json!("time")]);
    assert_eq!(said, [(&one, &none), (&one, &causes[0]), (&two, &none), (&two, &causes[1])]);
    assert_shows(&page, "incidents_open 0");
    let (open, page) = through_a_lane("", 4, records("a", 0, 3, ANOMALOUS), None);
    assert_eq!(of(&open, Channel::Incidents).len(), 1);
    assert_shows(&page, "incidents_open 1");
}

#[test]
fn what_is_withheld_is_counted_and_scored() {
    let cases = [
        ("rule", "[[suppress]]\nname = 'known'\nentity = 'pump-*'"),
        ("maintenance", "[[maintenance]]\nfrom = '1970-01-01T00:00:00Z'\nuntil = '1970-01-01T00:01:00Z'"),
        (
            "deviation",
            "[features]\na.deviation_min = 1e6\nb.deviation_min = 1e6\nc.deviation_min = 1e6\nd.deviation_min = 1e6",
        ),
    ];
    for (reason, config) in cases {
        let (sent, page) = through_a_lane(config, 256, an_incident("pump-1"), None);
        assert_eq!(of(&sent, Channel::Anomalies).len() + of(&sent, Channel::Incidents).len(), 0, "{reason}");
        assert_shows(&page, &format!("alerts_suppressed_total{{reason=\"{reason}\"}} 3"));
        let scored = of(&sent, Channel::Scores);
        assert_eq!(scored.iter().filter(|score| score["score"].get("severity").is_some()).count(), 3, "{reason}");
    }
    let (sent, page) = through_a_lane("[output]\nanomalies_per_minute = 2", 256, an_incident("pump-1"), None);
    assert_eq!(of(&sent, Channel::Anomalies).len(), 2);
    assert_eq!(of(&sent, Channel::Incidents)[1]["incident"]["n_records"], 3, "the limit is on anomalies only");
    assert_shows(&page, "alerts_suppressed_total{reason=\"rate_limit\"} 1");
}

#[test]
fn rules_can_be_exchanged_while_the_lane_runs() {
    let everything = toml::from_str("name = 'everything'").expect("a rule");
    let (sent, page) = through_a_lane("", 2, records("pump-1", 0, 6, ANOMALOUS), Some(everything));
    assert_eq!(of(&sent, Channel::Anomalies).len(), 2, "those of the first turn");
    assert_shows(&page, "alerts_suppressed_total{reason=\"rule\"} 4");
}
