//! Proves on a real Kafka that `kafka.delivery = "exactly_once"` keeps its word: whoever reads committed records sees the
//! output of each record once, through kills, aborts and zombies, and an idle daemon opens no transaction.
//!
//! The oracle is the numbering of the records: each one ends either in the scores topic or among the dead letters.

mod support;

use std::collections::BTreeMap;
use std::io::Write;
use std::time::Duration;

use rdkafka::TopicPartitionList;
use rdkafka::mocking::MockCluster;
use rdkafka::types::{RDKafkaApiKey, RDKafkaRespErr};
use strayd::kafka::{self, Transactional};
use strayd::sink::{self, Channel, KafkaSink, Receipt, Sink, SinkError};
use support::{
    Broker, Daemon, Door, Launch, Outgoing, Record, Sensors, Topics, Way, holds_within, to_json, unique, wait_until,
};

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

/// Kills a daemon in the middle of a transaction that has written scores, and starts one until that came about.
fn kill_in_transaction(stream: &Stream, launch: &Launch, daemon: Option<Daemon>) {
    let mut daemon = daemon;
    wait_until(LATER, "a kill in the middle of a transaction", || {
        let running = daemon.take().unwrap_or_else(|| launch.start());
        running.wait(SOON, "an open transaction", || stream.broker.has_open_transaction(&stream.topics.scores));
        running.signal(libc::SIGKILL);
        running.exit_within(SOON).expect("a killed process ends");
        // Nobody ends it now but the broker, later. There is none if it was committed just before the kill.
        stream.broker.has_open_transaction(&stream.topics.scores)
    });
}

#[test]
fn kills_in_mid_transaction_lose_nothing_and_repeat_nothing() {
    let Some(mut stream) = Stream::new(N_PARTITIONS) else { return };
    // Transactions long enough to be met.
    let launch = stream.launch("one").set("pipeline.lanes", "2").set("kafka.commit_interval", "1s");
    let daemon = launch.start();
    daemon.wait_ready(SOON);
    stream.produce(60_000);
    kill_in_transaction(&stream, &launch, Some(daemon));
    stream.produce(60_000);
    kill_in_transaction(&stream, &launch, None);
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
    let rest = |n: u32| {
        let since = zombie.age();
        zombie.wait(SOON, "a time without records", || zombie.age() > since + n * Duration::from_millis(100));
    };
    // The last commit is counted a moment after everybody sees it.
    rest(10);
    let n_before = committed(&zombie);
    // Fifteen commit intervals, and as often nothing to commit.
    rest(15);
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

/// Sends `value` to the anomalies, and says how it goes.
fn send(sink: &KafkaSink, value: &[u8]) -> Receipt {
    let receipt = Receipt::default();
    let message = sink::Outgoing { channel: Channel::Anomalies, key: None, value, time_ms: 0, headers: &[] };
    sink.send(&message, &receipt).expect("there is room");
    receipt
}

/// What librdkafka finds fatal at the start can't be tried again by the same producer.
#[test]
fn a_producer_that_cannot_be_registered_is_replaced() {
    let cluster = MockCluster::new(1).expect("a mock cluster starts");
    let refusal = RDKafkaRespErr::RD_KAFKA_RESP_ERR_INVALID_TRANSACTION_TIMEOUT;
    cluster.request_errors(RDKafkaApiKey::InitProducerId, &[refusal, refusal]);
    let client = kafka::Config {
        brokers: cluster.bootstrap_servers(),
        delivery: kafka::Delivery::ExactlyOnce,
        ..kafka::Config::default()
    };
    let sink = KafkaSink::of_lane(&client, &sink::Config::default(), 0).expect("valid settings");
    let mut said = String::new();
    wait_until(SOON, "a producer", || match sink.prepare() {
        Ok(()) => true,
        Err(SinkError::Aborted(reason)) => {
            said = reason;
            false
        }
        Err(other) => panic!("trying again would help: {other:?}"),
    });
    assert!(said.contains("Transaction timeout"), "the second refusal was said: {said}");
}

/// A transaction that the broker never heard of can't be ended: librdkafka finds that fatal, and its producer useless.
#[test]
fn a_producer_that_cannot_abort_is_replaced() {
    let Some(broker) = Broker::own_with_doors(1) else { return };
    let (port, target) = broker.doors()[0].clone();
    let door = Door::new(port, &target);
    let anomalies = broker.new_topic("anomalies", 1);
    let client = kafka::Config {
        brokers: format!("127.0.0.1:{port}"),
        group: unique("group"),
        delivery: kafka::Delivery::ExactlyOnce,
        delivery_timeout: Duration::from_secs(2),
        ..kafka::Config::default()
    };
    let config = sink::Config { anomalies: anomalies.clone(), ..sink::Config::default() };
    let sink = KafkaSink::of_lane(&client, &config, 0).expect("valid settings");
    let group = broker.group_metadata(&client.group);
    let commit = || sink.commit(&TopicPartitionList::new(), &group).expect("everything is acknowledged");
    wait_until(SOON, "a producer", || sink.prepare().is_ok());
    send(&sink, b"before");
    assert!(sink.flush(SOON));
    commit();

    // The request that begins the transaction is lost with the connection, and its message expires.
    door.set(Way::Held);
    let receipt = send(&sink, b"amid");
    wait_until(SOON, "the message to expire", || {
        sink.poll(Duration::from_millis(10));
        receipt.failure().is_some()
    });
    door.set(Way::Cut);
    door.set(Way::Open);
    wait_until(SOON, "an abort", || match sink.abort() {
        Err(SinkError::Failed(reason)) => panic!("nothing but a new start would help: {reason}"),
        aborted => aborted.is_ok(),
    });
    send(&sink, b"after");
    assert!(sink.flush(SOON));
    commit();
    let ended = sink.transactions().expect("there are transactions");
    assert_eq!((ended.n_committed, ended.n_aborted), (2, 1));
    let values: Vec<_> = broker.consume_to_end(&anomalies, SOON).into_iter().map(|record| record.value).collect();
    assert_eq!(values, [Some(b"before".to_vec()), Some(b"after".to_vec())]);
}
