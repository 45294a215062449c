//! Proves on a real Kafka that every kind of bad input has its defined end, and that the daemon goes on after each.
//!
//! Rejected records arrive in the dead-letter topic as they came, with their reason; what is missing is scored as
//! missing; tombstones and empty vectors are passed over; all of it is counted.

mod support;

use std::collections::BTreeMap;
use std::time::Duration;

use support::{Broker, Metrics, Outgoing, Record, Sensors, Topics, to_json, unique};

const SOON: Duration = Duration::from_secs(60);
const N_FEATURES: usize = 6;
const N_HISTORY: usize = 3_000;
const TIME_MS: i64 = 1_000;

/// What becomes of a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    /// It is scored; so many of its values are missing.
    Scored(u32),
    /// It is passed over, and counted under this reason.
    Skipped(&'static str),
    /// It goes to the dead-letter topic with this reason.
    Rejected(&'static str),
}

use End::{Rejected, Scored, Skipped};

/// Every kind of bad input, and some good ones: its name, the payload (none is a tombstone) and its end.
fn inputs(row: &[f64]) -> Vec<(&'static str, Option<Vec<u8>>, End)> {
    let good = to_json(row);
    let with_first = |text: &str| good.replacen(&format!("{:.3}", row[0]), text, 1);
    let text = |text: String| Some(text.into_bytes());
    let values: Vec<String> = row.iter().map(|value| format!("{value:.3}")).collect();
    let large = format!("{{\"pad\": \"{}\"}}", "x".repeat(10 << 20));
    let mut not_utf8 = good.clone().into_bytes();
    not_utf8[3] = 0xff;
    vec![
        ("good", text(good.clone()), Scored(0)),
        ("good array", text(format!("[{}]", values.join(","))), Scored(0)),
        ("truncated", text(good[..good.len() - 5].to_owned()), Rejected("malformed")),
        ("not json", text("hello".into()), Rejected("malformed")),
        ("two records", text(format!("{good}{good}")), Rejected("malformed")),
        ("a bare number", text("42".into()), Rejected("malformed")),
        ("short array", text("[1, 2]".into()), Rejected("wrong_length")),
        ("long array", text(format!("[{}, 1]", values.join(","))), Rejected("wrong_length")),
        ("text", text(with_first("\"high\"")), Rejected("wrong_type")),
        ("boolean", text(with_first("true")), Rejected("wrong_type")),
        ("nested object", text(with_first("{\"x\": 1}")), Rejected("wrong_type")),
        ("nested array", text(with_first("[1]")), Rejected("wrong_type")),
        ("NaN", text(with_first("NaN")), Scored(1)),
        ("Infinity", text(with_first("Infinity")), Scored(1)),
        ("-Infinity", text(with_first("-Infinity")), Scored(1)),
        ("1e400", text(with_first("1e400")), Scored(1)),
        ("null", text(with_first("null")), Scored(1)),
        ("absent name", text(good.replacen("\"s0\"", "\"other\"", 1)), Scored(1)),
        ("unknown name", text(with_first("1, \"extra\": {\"deep\": [1]}")), Scored(0)),
        ("empty payload", Some(Vec::new()), Rejected("empty")),
        ("tombstone", None, Skipped("tombstone")),
        ("all absent", text("{}".into()), Skipped("insufficient")),
        ("all null", text(format!("[{}]", vec!["null"; row.len()].join(","))), Skipped("insufficient")),
        ("duplicate name", text(with_first("1, \"s0\": 2")), Rejected("duplicate_name")),
        ("invalid UTF-8", Some(not_utf8), Rejected("invalid_utf8")),
        ("10 MB", Some(large.into_bytes()), Rejected("too_large")),
        ("good at last", text(good), Scored(0)),
    ]
}

#[test]
fn every_bad_input_has_its_end_and_the_daemon_goes_on() {
    let Some(broker) = Broker::get() else { return };
    let topics = Topics::new(broker, 2);
    // An ordinary topic: it takes no more than a megabyte.
    let dead_letters = unique("dead-letters");
    broker.create_topic(&dead_letters, 1, &[("max.message.bytes", "1048588")]);
    let mut sensors = Sensors::new(N_FEATURES, 2);
    let bad_history = inputs(&sensors.row()).into_iter().map(|(_, value, _)| Outgoing { value, ..Outgoing::default() });
    let history = (0..N_HISTORY).map(|_| Outgoing::value(sensors.json())).collect::<Vec<_>>();
    broker.produce(&topics.features, history.into_iter().chain(bad_history));
    let launch = topics.launch(broker).set("output.dead_letters", &dead_letters);
    let daemon = launch.start();
    daemon.wait_ready(SOON);

    let inputs = inputs(&sensors.row());
    let record = |(i, (name, value, _)): (usize, &(&str, Option<Vec<u8>>, End))| {
        let record = Outgoing { value: value.clone(), timestamp_ms: Some(now_ms() - TIME_MS), ..Outgoing::default() };
        record.key(*name).header("row", i.to_string()).header("traceparent", "00-ab-cd-01").partition((i % 2) as i32)
    };
    let sent: Vec<Outgoing> = inputs.iter().enumerate().map(record).collect();
    broker.produce(&topics.features, sent.clone());
    daemon.wait_metrics(SOON, "every input to be read", |metrics| {
        metrics.sum("strayd_records_consumed_total", &[]) >= inputs.len() as f64
    });
    assert_eq!(daemon.get("/healthz").expect("it answers").0, 200);
    daemon.wait_ready(SOON);
    let metrics = daemon.metrics();
    assert_eq!(daemon.sigterm(SOON), 0);

    check_counters(&metrics, &inputs.iter().map(|(_, _, end)| *end).collect::<Vec<_>>());
    let named = |which: fn(&End) -> bool| -> Vec<&str> {
        let mut names: Vec<&str> = inputs.iter().filter(|(_, _, end)| which(end)).map(|(name, _, _)| *name).collect();
        names.sort_unstable();
        names
    };
    let scored = broker.consume_to_end(&topics.scores, SOON);
    assert_eq!(keys(&scored), named(|end| matches!(end, Scored(_))));
    let dead = broker.consume_to_end(&dead_letters, SOON);
    assert_eq!(keys(&dead), named(|end| matches!(end, Rejected(_))));
    let produced = broker.consume_to_end(&topics.features, SOON);
    for letter in &dead {
        let key = letter.key.as_deref();
        let (i, (_, _, end)) =
            inputs.iter().enumerate().find(|(_, (n, _, _))| Some(n.as_bytes()) == key).expect("sent");
        let original = produced.iter().find(|record| record.header("row") == Some(&i.to_string())).expect("sent");
        check_dead_letter(letter, original, &topics.features, *end);
    }
}

fn check_counters(metrics: &Metrics, ends: &[End]) {
    let mut rejected: BTreeMap<&str, f64> = BTreeMap::new();
    let mut skipped: BTreeMap<&str, f64> = BTreeMap::new();
    let (mut n_scored, mut n_missing) = (0.0, 0.0);
    for end in ends {
        match end {
            Scored(n) => {
                n_scored += 1.0;
                n_missing += f64::from(*n);
            }
            Skipped(reason) => {
                *skipped.entry(reason).or_default() += 1.0;
                n_missing += if *reason == "insufficient" { N_FEATURES as f64 } else { 0.0 };
            }
            Rejected(reason) => *rejected.entry(reason).or_default() += 1.0,
        }
    }
    for (reason, n) in rejected {
        assert_eq!(metrics.get("strayd_records_rejected_total", &[("reason", reason)]), Some(n), "{reason}");
    }
    for (reason, n) in skipped {
        assert_eq!(metrics.get("strayd_records_skipped_total", &[("reason", reason)]), Some(n), "{reason}");
    }
    assert_eq!(metrics.get("strayd_records_scored_total", &[]), Some(n_scored));
    assert_eq!(metrics.get("strayd_values_missing_total", &[]), Some(n_missing));
    assert_eq!(metrics.get("strayd_fields_unknown_total", &[]), Some(2.0), "`other` and `extra`");
}

fn check_dead_letter(letter: &Record, original: &Record, topic: &str, end: End) {
    let name = String::from_utf8_lossy(letter.key.as_deref().expect("kept")).into_owned();
    assert_eq!(Rejected(letter.header("strayd.error.reason").expect("a reason").to_owned().leak()), end, "{name}");
    assert_eq!(letter.timestamp_ms, original.timestamp_ms, "{name}: the time is kept");
    assert_eq!(letter.headers[..2], original.headers[..], "{name}: the headers are kept");
    let (partition, offset) = (original.partition.to_string(), original.offset.to_string());
    for (header, value) in [("topic", topic), ("partition", partition.as_str()), ("offset", offset.as_str())] {
        assert_eq!(letter.header(&format!("strayd.error.{header}")), Some(value), "{name}");
    }
    assert!(letter.header("strayd.error.message").is_some_and(|text| text.len() > 10), "{name}: {letter:?}");
    let time = letter.header("strayd.error.time").expect("a time");
    assert!(time.parse::<jiff::Timestamp>().is_ok(), "{name}: {time}");
    let (value, whole) = (letter.value.as_ref().expect("kept"), original.value.as_ref().expect("no tombstone"));
    let cut = letter.header("strayd.error.truncated");
    if whole.len() > 900_000 {
        assert_eq!(cut, Some(whole.len().to_string().as_str()), "{name}");
        assert!(value.len() == 900_000 && whole.starts_with(value), "{name}: the beginning is kept");
    } else {
        assert!(cut.is_none() && value == whole, "{name}: the payload is kept");
    }
}

fn keys(records: &[Record]) -> Vec<&str> {
    let mut keys: Vec<&str> = records.iter().map(text_of_key).collect();
    keys.sort_unstable();
    keys
}

fn text_of_key(record: &Record) -> &str {
    std::str::from_utf8(record.key.as_deref().expect("every input has a key")).expect("keys are names")
}

/// A feature without a spread has a scale of 1, so a change by ten units is ten deviations.
#[test]
fn a_constant_feature_that_changes_later_is_alerted() {
    let Some(broker) = Broker::get() else { return };
    let topics = Topics::new(broker, 1);
    let mut sensors = Sensors::new(N_FEATURES, 3);
    let mut with_constant = |constant: f64| {
        let mut row = sensors.row();
        row.push(constant);
        to_json(&row)
    };
    broker.produce(&topics.features, (0..N_HISTORY).map(|_| Outgoing::value(with_constant(5.0))));
    let launch = topics.launch(broker);
    let daemon = launch.start();
    daemon.wait_ready(SOON);
    broker.produce(
        &topics.features,
        [5.0, 15.0, 5.0].map(|value| Outgoing::value(with_constant(value)).key(value.to_string())),
    );
    daemon.wait_metrics(SOON, "three records to be scored", |metrics| {
        metrics.sum("strayd_records_scored_total", &[]) >= 3.0
    });
    assert_eq!(daemon.sigterm(SOON), 0);
    let anomalies = broker.consume_to_end(&topics.anomalies, SOON);
    let found = anomalies.iter().find(|record| record.key.as_deref() == Some(b"15")).expect("the change is an anomaly");
    let value = found.json();
    assert_eq!(value["top_feature"], format!("s{N_FEATURES}"), "{value}");
}

fn now_ms() -> i64 {
    let now = std::time::SystemTime::UNIX_EPOCH.elapsed().expect("the clock is past 1970");
    i64::try_from(now.as_millis()).expect("the present fits")
}
