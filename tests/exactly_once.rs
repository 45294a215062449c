//! Proves on a real Kafka that `kafka.delivery = "exactly_once"` keeps its word: whoever reads committed records sees the
//! output of each record once, through kills, aborts and zombies, and an idle daemon opens no transaction.
//!
//! The oracle is the numbering of the records: each one ends either in the scores topic or among the dead letters.

mod support;

use std::collections::BTreeMap;
use std::io::Write;
use std::time::Duration;

use support::{Broker, Daemon, Launch, Outgoing, Record, Sensors, Topics, holds_within, to_json, wait_until};

const N_PARTITIONS: usize = 4;
const N_FEATURES: usize = 6;
const N_HISTORY: usize = 2_400;
const SOON: Duration = Duration::from_secs(60);
const LATER: Duration = Duration::from_secs(180);
/// One record in so many is bad, and another one strays.
const ONE_IN: usize = 50;

/// Partition and offset.
type Place = (i64, i64);

/// A stream with its stored model, read exactly once.
struct Stream {
    broker: Broker,
    topics: Topics,
    sensors: Sensors,
    n_records: usize,
}

impl Stream {
    fn new(n_partitions: usize) -> Option<Self> {
        let broker = Broker::own()?;
        let topics = Topics::new(&broker, n_partitions as i32);
        let mut sensors = Sensors::new(N_FEATURES, 1);
        let history = (0..N_HISTORY).map(|i| on(i % n_partitions, sensors.json().into_bytes()));
        broker.produce(&topics.features, history);
        Some(Self { broker, topics, sensors, n_records: 0 })
    }

    fn launch(&self, instance: &str) -> Launch {
        self.topics
            .launch(&self.broker)
            .set("history.rows_min", &N_HISTORY.to_string())
            .set("kafka.delivery", "exactly_once")
            .set("kafka.instance", instance)
            .set("kafka.session_timeout", "6s")
            // A threshold without a state: what it says of a record is the same whenever it is asked.
            .set("threshold.kind", "quantile")
    }

    fn produce(&mut self, n: usize) {
        let range = self.n_records..self.n_records + n;
        let sensors = &mut self.sensors;
        self.broker.produce(&self.topics.features, range.map(|i| on(i % N_PARTITIONS, payload(i, sensors))));
        self.n_records += n;
    }

    /// Waits until the group has committed the ends of all partitions.
    #[track_caller]
    fn wait_settled(&self) {
        let ends = self.broker.end_offsets(&self.topics.features);
        wait_until(LATER, "everything to be settled", || {
            let committed = self.broker.committed(&self.topics.group, &self.topics.features);
            ends.iter().all(|(partition, end)| committed.get(partition).is_some_and(|found| found.offset == *end))
        });
    }

    /// Holds what readers of committed records see to what was produced, and returns how many outputs were aborted.
    #[track_caller]
    fn check(&self) -> usize {
        let [scores, anomalies] = [&self.topics.scores, &self.topics.anomalies].map(|topic| self.read(topic));
        let dead = self.read(&self.topics.dead_letters);
        let expected: BTreeMap<Place, usize> = (0..self.n_records).map(|i| (place(i), 1)).collect();
        let seen = count(scores.iter().map(of_json).chain(dead.iter().map(of_headers)));
        let differing: Vec<_> = expected.iter().filter(|(at, n)| seen.get(at) != Some(n)).take(8).collect();
        assert!(differing.is_empty(), "not seen exactly once: {differing:?} …");
        assert_eq!(seen.len(), expected.len(), "nothing is invented");
        assert_eq!(dead.len(), (0..self.n_records).filter(|&i| is_bad(i)).count());
        let repeated: Vec<_> = count(anomalies.iter().map(of_json)).into_iter().filter(|(_, n)| *n > 1).collect();
        assert!(repeated.is_empty(), "anomalies seen twice: {repeated:?}");
        let n_odd = (0..self.n_records).filter(|&i| is_odd(i)).count();
        assert!(anomalies.len() >= n_odd, "{} anomalies of {n_odd} records that stray", anomalies.len());
        let n_written = self.broker.consume_uncommitted(&self.topics.scores, LATER).len();
        say(&format!(
            "{} records: {} scores, {} anomalies, {} dead letters, each once; {} scores were written and aborted",
            self.n_records,
            scores.len(),
            anomalies.len(),
            dead.len(),
            n_written - scores.len()
        ));
        n_written - scores.len()
    }

    fn read(&self, topic: &str) -> Vec<Record> {
        self.broker.consume_to_end(topic, LATER)
    }
}

fn say(line: &str) {
    writeln!(std::io::stderr(), "{line}").expect("standard error can be written");
}

fn on(partition: usize, payload: Vec<u8>) -> Outgoing {
    Outgoing::value(payload).partition(partition as i32)
}

fn is_bad(i: usize) -> bool {
    i % ONE_IN == 7
}

fn is_odd(i: usize) -> bool {
    i % ONE_IN == 23
}

fn payload(i: usize, sensors: &mut Sensors) -> Vec<u8> {
    let mut row = sensors.row();
    if is_bad(i) {
        return b"{\"s0\": \"high\"}".to_vec();
    }
    if is_odd(i) {
        row[i / ONE_IN % N_FEATURES] += 25.0;
    }
    to_json(&row).into_bytes()
}

/// Where record `i` stands: the history comes before it, and every partition takes its turn.
fn place(i: usize) -> Place {
    ((i % N_PARTITIONS) as i64, ((N_HISTORY + i) / N_PARTITIONS) as i64)
}

fn of_json(record: &Record) -> Place {
    let value = record.json();
    let number = |name: &str| value["source"][name].as_i64().expect("a place is a pair of numbers");
    (number("partition"), number("offset"))
}

fn of_headers(record: &Record) -> Place {
    let number = |name: &str| record.header(name).expect("a place").parse().expect("a number");
    (number("strayd.error.partition"), number("strayd.error.offset"))
}

fn count(places: impl Iterator<Item = Place>) -> BTreeMap<Place, usize> {
    let mut counts = BTreeMap::new();
    places.for_each(|place| *counts.entry(place).or_default() += 1);
    counts
}

fn committed(daemon: &Daemon) -> f64 {
    daemon.metrics().sum("strayd_transactions_total", &[("result", "committed")])
}

/// Kills the daemon while the broker stands still, so that its transaction is open and stays open.
fn kill_in_transaction(stream: &Stream, daemon: Daemon, n_before: f64) {
    daemon.wait_metrics(SOON, "records to flow", |metrics| metrics.sum("strayd_records_scored_total", &[]) >= n_before);
    wait_until(SOON, "a moment with batches in flight", || {
        let paused = stream.broker.pause();
        let found = holds_within(Duration::from_secs(1), || daemon.metrics().sum("strayd_inflight_batches", &[]) > 0.0);
        if found {
            daemon.signal(libc::SIGKILL);
            daemon.exit_within(SOON).expect("a killed process ends");
        }
        drop(paused);
        found
    });
}

#[test]
fn kills_in_mid_transaction_lose_nothing_and_repeat_nothing() {
    let Some(mut stream) = Stream::new(N_PARTITIONS) else { return };
    let launch = stream.launch("one").set("pipeline.lanes", "2");
    let daemon = launch.start();
    daemon.wait_ready(SOON);
    stream.produce(60_000);
    kill_in_transaction(&stream, daemon, 5_000.0);
    kill_in_transaction(&stream, launch.start(), 5_000.0);
    let daemon = launch.start();
    stream.wait_settled();
    assert_eq!(daemon.sigterm(SOON), 0);
    assert!(stream.check() > 0, "the kills came in the middle of transactions");
}

#[test]
fn a_transaction_that_fails_is_aborted_and_its_records_are_read_again() {
    let Some(mut stream) = Stream::new(N_PARTITIONS) else { return };
    // Shorter than the transaction lives, so that it fails by a delivery and the producer isn't fenced.
    let launch = stream.launch("one").set("kafka.delivery_timeout", "2s");
    let daemon = launch.start();
    daemon.wait_ready(SOON);
    stream.produce(4_000);
    stream.wait_settled();
    // Records that are read, and whose output finds the broker gone.
    stream.produce(20_000);
    let aborted = |daemon: &Daemon| daemon.get("/readyz").is_some_and(|(_, page)| page.contains("transaction"));
    wait_until(SOON, "a transaction that fails", || {
        let paused = stream.broker.pause();
        let open = daemon.metrics().sum("strayd_inflight_batches", &[]) > 0.0;
        let failed = open && holds_within(Duration::from_secs(5), || aborted(&daemon));
        drop(paused);
        if !failed {
            stream.produce(2_000);
        }
        failed
    });
    stream.wait_settled();
    daemon.wait_metrics(SOON, "the aborted transaction", |metrics| {
        metrics.sum("strayd_transactions_total", &[("result", "aborted")]) >= 1.0
    });
    assert_eq!(daemon.sigterm(SOON), 0);
    stream.check();
}

#[test]
fn a_zombie_is_fenced_and_an_idle_daemon_opens_no_transaction() {
    let Some(mut stream) = Stream::new(N_PARTITIONS) else { return };
    let launch = stream.launch("one");
    let zombie = launch.start();
    zombie.wait_ready(SOON);
    stream.produce(2_000);
    stream.wait_settled();
    zombie.wait_metrics(SOON, "a committed transaction", |metrics| {
        metrics.sum("strayd_transactions_total", &[("result", "committed")]) >= 1.0
    });
    let ends = [&stream.topics.scores, &stream.topics.anomalies].map(|topic| stream.broker.end_offsets(topic));
    let (n_before, since) = (committed(&zombie), zombie.age());
    // Fifteen commit intervals, and as often nothing to commit.
    zombie.wait(SOON, "a time without records", || zombie.age() > since + Duration::from_millis(1_500));
    assert_eq!(committed(&zombie), n_before, "an idle daemon commits nothing");
    assert_eq!(
        [&stream.topics.scores, &stream.topics.anomalies].map(|topic| stream.broker.end_offsets(topic)),
        ends,
        "and writes nothing"
    );

    zombie.signal(libc::SIGSTOP);
    let models = launch.dir().join("models");
    let again = stream.launch("one").set("registry.path", &models.display().to_string());
    let heir = again.start();
    heir.wait_ready(SOON);
    stream.produce(4_000);
    stream.wait_settled();
    zombie.signal(libc::SIGCONT);
    let status = zombie.exit_within(SOON).expect("a zombie ends");
    assert_eq!(status.code(), Some(1));
    let said = zombie.said();
    assert!(said.contains("fenced") && said.contains("kafka.instance"), "{said}");
    stream.produce(1_000);
    stream.wait_settled();
    assert_eq!(heir.sigterm(SOON), 0);
    stream.check();
}
