//! `strayd explain --record`: what became of a record on a real Kafka, and why.

mod support;

use std::process::{Command, Output};
use std::time::Duration;

use serde_json::Value;
use support::{Broker, Launch, Outgoing, unique};

/// Deadline of each wait; the machine may be busy with other tests.
const SOON: Duration = Duration::from_secs(60);
/// Rows before the daemon starts.
const N_HISTORY: i64 = 2500;

/// Row `i` of four features that follow two hidden ones; no chance in it.
fn row(i: i64) -> String {
    let wave = |period: f64| (i as f64 / period).sin();
    let (a, b) = (wave(7.3), wave(31.7));
    let noise = 0.05 * wave(0.618);
    format!("{{\"a\": {a:.4}, \"b\": {b:.4}, \"sum\": {:.4}, \"gap\": {:.4}}}", a + b + noise, a - b - noise)
}

/// What the command says of a record, as text or JSON.
fn explain(launch: &Launch, record: &str, more: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_strayd"));
    command.current_dir(launch.dir()).args(["explain", "--config", "strayd.toml", "--record", record]).args(more);
    command.output().expect("strayd was built")
}

#[track_caller]
fn said(launch: &Launch, record: &str, more: &[&str]) -> String {
    let out = explain(launch, record, more);
    assert!(out.status.success(), "{record}: {}", String::from_utf8_lossy(&out.stderr));
    String::from_utf8(out.stdout).expect("UTF-8")
}

#[test]
fn any_record_says_which_model_scored_it_and_why_it_was_or_was_not_published() {
    let Some(broker) = Broker::get() else { return };
    let features = broker.new_topic("features", 1);
    let [anomalies, dead_letters, scores] =
        ["anomalies", "dead-letters", "scores"].map(|name| broker.new_topic(name, 1));
    broker.produce(&features, (0..N_HISTORY).map(|i| Outgoing::value(row(i))));
    let launch = Launch::new(&format!(
        "[kafka]\nbrokers = \"{}\"\ngroup = \"{}\"\n[input]\ntopic = \"{features}\"\n[training]\nenabled = false\n\
         [output]\nanomalies = \"{anomalies}\"\ndead_letters = \"{dead_letters}\"\nscores = \"{scores}\"\n\
         [registry]\npath = \"models\"\n",
        broker.brokers(),
        unique("strayd")
    ));
    let daemon = launch.start();
    daemon.wait_ready(SOON);
    let far_out = "{\"a\": 0, \"b\": 0, \"sum\": 9000, \"gap\": -9000}";
    let live = [row(N_HISTORY), far_out.into(), "not json".into(), "{\"a\": 0.5}".into()];
    broker.produce(&features, live.into_iter().map(Outgoing::value));
    broker.produce(&features, [Outgoing { value: None, ..Outgoing::value("") }]);
    daemon.wait_metrics(SOON, "every record to end", |metrics| {
        let total = |name: &str| metrics.sum(name, &[]);
        let skipped = total("strayd_records_skipped_total") + total("strayd_records_rejected_total");
        total("strayd_records_scored_total") + skipped >= 5.0
    });
    assert_eq!(daemon.sigterm(SOON), 0);

    let at = |i: i64| format!("{features}/0/{}", N_HISTORY + i);
    let outcome = |i: i64| -> Value { serde_json::from_str(&said(&launch, &at(i), &["--json"])).expect("JSON") };
    let kinds: Vec<Value> = (0..5).map(|i| outcome(i)["outcome"]["kind"].clone()).collect();
    assert_eq!(kinds, ["below_threshold", "published", "rejected", "insufficient", "tombstone"]);

    let ordinary = outcome(0);
    assert_eq!(ordinary["outcome"]["scored_by"], 1, "the scores topic tells");
    assert_eq!(ordinary["outcome"]["records_rewound"], N_HISTORY);
    assert!(ordinary["score"]["ratio"].as_f64().is_some_and(|ratio| ratio < 1.0), "{ordinary}");
    let published = broker.consume_to_end(&anomalies, SOON);
    let ids: Vec<Value> = published.iter().map(|record| record.json()["id"].clone()).collect();
    let text = outcome(1)["outcome"]["text"].as_str().expect("a text").to_owned();
    assert!(ids.iter().any(|id| text.ends_with(id.as_str().expect("an id"))), "{text} {ids:?}");

    let text = said(&launch, &at(0), &[]);
    assert!(
        text.starts_with("not published: below the threshold by ") && text.contains("version 1 scored it"),
        "{text}"
    );
    let text = said(&launch, &at(2), &["--version", "1"]);
    assert!(text.contains("it goes to the dead letters"), "{text}");

    let gone = explain(&launch, &at(5), &[]);
    assert!(String::from_utf8_lossy(&gone.stderr).contains("there is no such record"));
    assert_eq!(gone.status.code(), Some(1));
}
