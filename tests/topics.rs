//! Proves on a real Kafka that one daemon watches several topics: each record is scored once, with its own topic's name
//! wherever a place is written; and that a topic which is deleted and made again is read again.

mod support;

use std::collections::BTreeSet;
use std::process::Command;
use std::time::{Duration, Instant};

use serde_json::Value;
use support::{Broker, Outgoing, Sensors, Topics, unique};

/// Deadline of each wait; the machine may be busy with other tests.
const SOON: Duration = Duration::from_secs(60);
/// What comes after the history, each topic.
const N_LIVE: i64 = 40;
/// What is missing of the history at first.
const N_LAST: i64 = 150;
const FAR_OUT: &str = "[9000, -9000, 9000, -9000]";

/// Topic and offset; every topic has one partition.
fn place(source: &Value) -> (String, i64) {
    assert_eq!(source["partition"], 0, "{source}");
    (source["topic"].as_str().expect("a topic").to_owned(), source["offset"].as_i64().expect("an offset"))
}

#[test]
fn a_pattern_is_watched_as_one_stream_and_what_comes_later_is_taken_up() {
    let Some(broker) = Broker::get() else { return };
    let stem = unique("plant");
    let [north, south, late] = ["north", "south", "late"].map(|name| format!("{stem}-{name}"));
    let mut sensors = Sensors::new(4, 11);
    let mut rows = |n: i64| (0..n).map(|_| Outgoing::value(sensors.json()).partition(0)).collect::<Vec<_>>();
    for (topic, n) in [(&north, 1_300), (&south, 650)] {
        broker.create_topic(topic, 1, &[]);
        broker.produce(topic, rows(n));
    }
    // Enough offsets for a model, and too few records that can be read.
    broker.produce(&south, (0..100).map(|_| Outgoing::value("broken").partition(0)));
    let topics = Topics::reading(broker, &format!("^{stem}-"));
    let launch = topics.launch(broker).set("kafka.librdkafka.topic.metadata.refresh.interval.ms", "500");
    let daemon = launch.start();
    daemon.wait(SOON, "the records to be counted", || {
        daemon.get("/readyz").is_some_and(|(_, page)| page.contains("1950 of 2000"))
    });
    broker.produce(&south, rows(N_LAST));
    daemon.wait_ready(SOON);
    assert_eq!(daemon.said().matches("schema settled").count(), 1, "{}", daemon.said());

    let live = |mut rows: Vec<Outgoing>| {
        rows.extend([FAR_OUT, "broken"].map(|value| Outgoing::value(value).partition(0)));
        rows
    };
    let [of_north, of_south] = [&north, &south].map(|topic| broker.end_offsets(topic)[&0]);
    broker.produce(&north, live(rows(N_LIVE)));
    broker.produce(&south, live(rows(N_LIVE)));
    broker.create_topic(&late, 1, &[]);
    broker.produce(&late, live(rows(N_LIVE)));

    // Reading started before the last records of the history came.
    let n_scored = 3 * (N_LIVE as usize + 1) + N_LAST as usize;
    let read = [(&north, of_north, N_LIVE), (&south, of_south - N_LAST, N_LAST + N_LIVE), (&late, 0, N_LIVE)];
    let scored: Vec<Value> = broker.consume(&topics.scores, n_scored, SOON).iter().map(support::Record::json).collect();
    let places: BTreeSet<_> = scored.iter().map(|record| place(&record["source"])).collect();
    let expected = read.iter().flat_map(|(topic, first, n)| (*first..=first + n).map(|at| ((*topic).clone(), at)));
    assert_eq!((scored.len(), places), (n_scored, expected.collect()));
    let ids: BTreeSet<&str> = scored.iter().filter_map(|record| record["id"].as_str()).collect();
    assert_eq!(ids.len(), n_scored, "the same offset of another topic has another id");

    let far_out = |source: &Value| read.iter().any(|(topic, first, n)| place(source) == ((*topic).clone(), first + n));
    let anomalies = broker.consume(&topics.anomalies, 3, SOON);
    assert!(anomalies.iter().filter(|record| far_out(&record.json()["source"])).count() == 3);
    let letters = broker.consume(&topics.dead_letters, 3, SOON);
    let letters: BTreeSet<_> = letters.iter().filter_map(|letter| letter.header("strayd.error.topic")).collect();
    assert_eq!(letters, [&north, &south, &late].map(String::as_str).into());
    daemon.wait_metrics(SOON, "the lag of each topic", |metrics| {
        [&north, &south, &late].iter().all(|topic| {
            metrics.get("strayd_consumer_lag_records", &[("topic", topic), ("partition", "0")]) == Some(0.0)
        })
    });
    let record = format!("{south}/0/{}", of_south + N_LIVE);
    let mut explain = Command::new(env!("CARGO_BIN_EXE_strayd"));
    let explain = explain.current_dir(launch.dir()).args(["explain", "--config", "strayd.toml", "--record", &record]);
    let said =
        explain.args(["--set", &format!("output.scores={}", topics.scores), "--json"]).output().expect("it runs");
    let said: Value = serde_json::from_slice(&said.stdout).unwrap_or_else(|error| panic!("{error}: {said:?}"));
    assert_eq!((said["outcome"]["kind"].as_str(), place(&said["source"]).0), (Some("published"), south.clone()));

    // What is settled stays settled, in every topic.
    assert_eq!(daemon.sigterm(SOON), 0);
    let daemon = launch.start();
    daemon.wait_ready(SOON);
    broker.produce(&south, rows(1));
    let scored = broker.consume(&topics.scores, n_scored + 1, SOON);
    assert_eq!(scored.len(), n_scored + 1);
    assert_eq!(daemon.sigterm(SOON), 0);
}

#[test]
fn a_topic_that_is_deleted_is_told_of_and_read_again_once_it_is_made_again() {
    const N_HISTORY: usize = 2_500;
    let Some(broker) = Broker::get() else { return };
    let topics = Topics::new(broker, 1);
    let mut sensors = Sensors::new(4, 12);
    let mut feed = |n: usize| broker.produce(&topics.features, (0..n).map(|_| Outgoing::value(sensors.json())));
    feed(N_HISTORY);
    let refresh = ("kafka.librdkafka.topic.metadata.refresh.interval.ms", "1000");
    let launch = topics.launch(broker).set("pipeline.lanes", "2").set(refresh.0, refresh.1);
    let daemon = launch.start();
    daemon.wait_ready(SOON);
    // One partition is for one lane, and that is no reason to wait.
    let ready = || daemon.get("/readyz").expect("it answers");
    daemon.wait(SOON, "the other lane to say why it is idle", || ready().1.contains("is idle"));
    assert_eq!((ready().0, ready().1.matches("is idle").count()), (200, 1), "{}", ready().1);
    let consumed = || daemon.metrics().sum("strayd_records_consumed_total", &[]);
    feed(500);
    daemon.wait(SOON, "records", || consumed() >= 500.0);
    daemon.wait(SOON, "them to be committed", || {
        let committed = broker.committed(&topics.group, &topics.features);
        committed.get(&0).is_some_and(|at| at.offset >= (N_HISTORY + 500) as i64)
    });

    broker.delete_topic(&topics.features);
    daemon.wait(SOON, "the reason in /readyz", || ready().0 == 503 && ready().1.contains("does not exist"));
    let (since, cpu, said) = (Instant::now(), daemon.cpu(), daemon.said().len());
    daemon.wait(SOON, "some seconds to pass", || since.elapsed() > Duration::from_secs(5));
    let share = daemon.cpu().saturating_sub(cpu).as_secs_f64() / since.elapsed().as_secs_f64();
    let n_lines = daemon.said()[said..].lines().count();
    assert!(share < 0.3 && n_lines < 20, "{share:.2} of a core, {n_lines} lines: {}", daemon.said());
    assert_eq!(ready().0, 503, "it is still gone: {}", ready().1);

    broker.create_topic(&topics.features, 1, &[]);
    feed(300);
    daemon.wait(SOON, "the records of the new topic", || consumed() >= 800.0);
    daemon.wait(SOON, "to be ready again", || ready().0 == 200);
    assert_eq!(consumed(), 800.0);
    daemon.wait(SOON, "what was committed to be of the new topic", || {
        broker.committed(&topics.group, &topics.features).get(&0).is_some_and(|at| at.offset == 300)
    });
    assert_eq!(daemon.sigterm(SOON), 0);
}
