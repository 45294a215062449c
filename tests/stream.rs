//! Proves on a real Kafka that the daemon scores as `strayd eval` says: the same data, the same history, the same AUC.
//!
//! The first W rows of a labelled set are the history on a topic of four partitions, the rest flows when the first model
//! scores. Rows carry their number in a header, scores come back with partition and offset; together they give the AUC.
//!
//! Which rows are held out of training follows from partition and offset, and alone moves the AUC of `skab_valve1` by
//! .01, as much as another seed. So the comparison lays the history so that the file's own rows are held out, with
//! tombstones in between; the plain layout, row by row on the next partition, is measured beside it.

mod support;

use std::collections::HashMap;
use std::io::Write;
use std::process::Command;
use std::time::Duration;

use serde_json::Value;
use strayd::record::RecordId;
use strayd::train::is_holdout;
use support::{Broker, Daemon, DataSet, Outgoing, Record, Topics, auc_roc, holds_within};

const N_PARTITIONS: usize = 4;
const SOON: Duration = Duration::from_secs(60);
const LATER: Duration = Duration::from_secs(180);
/// What the figures of both sides may differ by when both keep their first model.
const AUC_TOLERANCE: f64 = 0.005;
/// What another choice of held-out rows may change.
const AUC_TOLERANCE_LAYOUT: f64 = 0.05;
/// What other moments of learning may change: a model of other rows at another time.
const AUC_TOLERANCE_LEARNING: f64 = 0.1;
/// Rows between two rounds; the flow waits so long for each of them, as `eval` does.
const ROUND_ROWS: usize = 1024;
const ROUND_MAX: Duration = Duration::from_secs(3);

/// Whether there are models after the first.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Training {
    First,
    Goes,
}

/// How the history lies on the partitions.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Layout {
    /// Each row on the next partition.
    Plain,
    /// The rows are held out that the file's own order holds out.
    AsInFile,
}

#[test]
fn scores_of_the_daemon_have_the_auc_of_eval() {
    let Some(broker) = Broker::get() else { return };
    for name in ["skab_valve1", "shuttle"] {
        let Some(set) = DataSet::read(name) else { return };
        let evaluated = eval_auc(&set, Training::First);
        let streamed = stream_auc(broker, &set, Training::First, Layout::AsInFile);
        let plain = stream_auc(broker, &set, Training::First, Layout::Plain);
        say(&format!("{name}, one model: AUC of eval {evaluated:.4}, of the stream {streamed:.4}, plain {plain:.4}"));
        assert!((evaluated - streamed).abs() <= AUC_TOLERANCE, "{name}: eval {evaluated}, stream {streamed}");
        assert!((evaluated - plain).abs() <= AUC_TOLERANCE_LAYOUT, "{name}: eval {evaluated}, plain {plain}");
    }
}

#[test]
fn scores_of_a_daemon_that_goes_on_learning_have_nearly_the_auc_of_eval() {
    let Some(broker) = Broker::get() else { return };
    // A set on which learning matters: .61 by the first model alone, .78 by those that follow.
    let name = "skab_valve1";
    let Some(set) = DataSet::read(name) else { return };
    let evaluated = eval_auc(&set, Training::Goes);
    let streamed = stream_auc(broker, &set, Training::Goes, Layout::AsInFile);
    say(&format!("{name}, retraining: AUC of eval {evaluated:.4}, of the stream {streamed:.4}"));
    assert!((evaluated - streamed).abs() <= AUC_TOLERANCE_LEARNING, "{name}: eval {evaluated}, stream {streamed}");
}

/// Says a figure where `cargo test` shows it.
fn say(line: &str) {
    writeln!(std::io::stderr(), "{line}").expect("standard error can be written");
}

fn eval_auc(set: &DataSet, training: Training) -> f64 {
    let mut command = Command::new(env!("CARGO_BIN_EXE_strayd"));
    command.arg("eval").arg(&set.path).args(["--warmup", &set.warmup().to_string(), "--json"]);
    command.args((training == Training::First).then_some("--no-retrain"));
    let out = command.env("OPENBLAS_NUM_THREADS", "1").output().expect("strayd was built");
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    let report: Value = serde_json::from_slice(&out.stdout).expect("one JSON document");
    assert_eq!(report["scored"], set.rows.len() - set.warmup());
    say(&format!("{}: {} models of eval", set.path.display(), report["models_promoted"]));
    report["auc_roc"].as_f64().expect("both classes are there")
}

fn stream_auc(broker: &Broker, set: &DataSet, training: Training, layout: Layout) -> f64 {
    let topics = Topics::new(broker, N_PARTITIONS as i32);
    let warmup = set.warmup();
    let rows = Rows { set, first_ms: now_ms() - 10 * set.rows.len() as i64 };
    broker.produce(&topics.features, rows.history(layout));
    let goes = if training == Training::Goes { "true" } else { "false" };
    let launch = topics.launch(broker).set("history.rows_min", &warmup.to_string()).set("training.enabled", goes);
    let launch = launch.set("training.retrain_gap", "0s").set("kafka.commit_interval", "50ms");
    let daemon = launch.start();
    daemon.wait_ready(SOON);
    let mut next = warmup;
    while next < set.rows.len() {
        let n = if training == Training::Goes { ROUND_ROWS } else { set.rows.len() };
        let end = (next + n).min(set.rows.len());
        broker.produce(&topics.features, (next..end).map(|row| rows.record(row).partition(partition_of(row))));
        next = end;
        wait_scored(&daemon, next - warmup, training);
    }
    let n_models = daemon.metrics().sum("strayd_promotions_total", &[]);
    say(&format!("{}: {n_models} models of the stream", set.path.display()));
    assert_eq!(daemon.sigterm(SOON), 0);
    auc_of_topic(broker, &topics, set)
}

/// Waits until so many rows are scored, and for the round that follows them.
fn wait_scored(daemon: &Daemon, n: usize, training: Training) {
    let n_rounds = |daemon: &Daemon| daemon.metrics().sum("strayd_trainings_total", &[]);
    let before = n_rounds(daemon);
    daemon.wait_metrics(LATER, "every row to be scored", |metrics| {
        metrics.sum("strayd_records_scored_total", &[]) >= n as f64
    });
    if training == Training::Goes {
        // No round is fine too: they become rarer, and a quiet one gives no model.
        holds_within(ROUND_MAX, || n_rounds(daemon) > before);
    }
}

/// The rows of a set as records.
struct Rows<'a> {
    set: &'a DataSet,
    first_ms: i64,
}

impl Rows<'_> {
    /// Rows are a hundredth of a second apart and all in the past, so that the history has the order of the file.
    fn record(&self, row: usize) -> Outgoing {
        let record = Outgoing::value(self.set.json(row)).key(row.to_string()).header("row", row.to_string());
        Outgoing { timestamp_ms: Some(self.first_ms + 10 * row as i64), ..record }
    }

    fn history(&self, layout: Layout) -> Vec<Outgoing> {
        let mut ends = [0_i64; N_PARTITIONS];
        let mut records = Vec::new();
        for row in 0..self.set.warmup() {
            let wanted = is_holdout(RecordId { partition: 0.into(), offset: row as i64 });
            let fits = |partition: usize, offset: i64| {
                layout == Layout::Plain
                    || is_holdout(RecordId { partition: (partition as i32).into(), offset }) == wanted
            };
            let turn = (0..N_PARTITIONS).map(|i| (row + i) % N_PARTITIONS);
            let partition = turn.clone().find(|&partition| fits(partition, ends[partition]));
            let partition = partition.unwrap_or(row % N_PARTITIONS);
            while !fits(partition, ends[partition]) {
                records.push(Outgoing::default().partition(partition as i32));
                ends[partition] += 1;
            }
            records.push(self.record(row).partition(partition as i32));
            ends[partition] += 1;
        }
        records
    }
}

fn partition_of(row: usize) -> i32 {
    (row % N_PARTITIONS) as i32
}

fn auc_of_topic(broker: &Broker, topics: &Topics, set: &DataSet) -> f64 {
    let at = |record: &Record| (i64::from(record.partition), record.offset);
    let features = broker.consume_to_end(&topics.features, SOON);
    let number = |record: &Record| Some(record.header("row")?.parse::<usize>().expect("a number"));
    let rows: HashMap<_, _> = features.iter().filter_map(|record| Some((at(record), number(record)?))).collect();
    let mut found: HashMap<usize, f64> = HashMap::new();
    for record in broker.consume_to_end(&topics.scores, SOON) {
        let score = record.json();
        let number = |value: &Value| value.as_i64().expect("a place is a pair of numbers");
        let row = rows[&(number(&score["source"]["partition"]), number(&score["source"]["offset"]))];
        assert_eq!(score["entity"], row.to_string(), "the score carries the record's key");
        found.insert(row, score["score"]["z"].as_f64().expect("z is a number"));
    }
    assert_eq!(found.len(), set.rows.len() - set.warmup(), "every row after the history is scored, and no other");
    assert!(found.keys().all(|&row| row >= set.warmup()));
    let (scores, labels): (Vec<f64>, Vec<bool>) = found.into_iter().map(|(row, z)| (z, set.labels[row])).unzip();
    auc_roc(&scores, &labels)
}

fn now_ms() -> i64 {
    let now = std::time::SystemTime::UNIX_EPOCH.elapsed().expect("the clock is past 1970");
    i64::try_from(now.as_millis()).expect("the present fits")
}
