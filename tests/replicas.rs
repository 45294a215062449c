//! Proves on a real Kafka that replicas share their models: three of them split a topic, one trains, all score by what the
//! registry topic holds; the leader's death hands training over, one that stood still writes nothing more, and a newcomer
//! with an empty disk is ready from the topic alone.

mod support;

use std::collections::{BTreeMap, BTreeSet};
use std::process::Command;
use std::time::Duration;

use serde_json::Value;
use support::{Broker, Daemon, Launch, Outgoing, Sensors, Topics, to_json, unique, wait_until};

const N_PARTITIONS: usize = 6;
const N_FEATURES: usize = 6;
const N_HISTORY: usize = 3_000;
const SOON: Duration = Duration::from_secs(60);
const LATER: Duration = Duration::from_secs(120);
/// The last bits of a score depend on the batch that it is summed in.
const RELATIVE_TOLERANCE: f64 = 1e-3;

struct Fleet<'a> {
    broker: &'a Broker,
    topics: Topics,
    shared: [String; 3],
    sensors: Sensors,
    n_produced: usize,
}

impl<'a> Fleet<'a> {
    fn new(broker: &'a Broker) -> Self {
        let topics = Topics::new(broker, N_PARTITIONS as i32);
        // The registry's own topic is made by the first replica.
        let [commands, feedback] = ["commands", "feedback"].map(|stem| broker.new_topic(stem, 1));
        let mut fleet = Self {
            broker,
            topics,
            shared: [unique("models"), commands, feedback],
            sensors: Sensors::new(N_FEATURES, 3),
            n_produced: 0,
        };
        fleet.produce(N_HISTORY, 0);
        fleet
    }

    fn launch(&self) -> Launch {
        let [registry, commands, feedback] = &self.shared;
        self.topics
            .launch(self.broker)
            .set("history.rows_min", &N_HISTORY.to_string())
            .set("registry.topic", registry)
            .set("journal.commands", commands)
            .set("journal.feedback", feedback)
            .set("kafka.session_timeout", "6s")
            // Long enough for a kill to leave records scored and not settled.
            .set("kafka.commit_interval", "5s")
            .set("threshold.kind", "quantile")
            .set("training.retrain_gap", "0s")
    }

    /// Produces `n` records, every `odd_one_in`-th of which strays; 0: none.
    fn produce(&mut self, n: usize, odd_one_in: usize) {
        let range = self.n_produced..self.n_produced + n;
        let sensors = &mut self.sensors;
        let record = |i: usize| {
            let mut row = sensors.row();
            if odd_one_in > 0 && i.is_multiple_of(odd_one_in) {
                row[i / odd_one_in % N_FEATURES] += 25.0;
            }
            Outgoing::value(to_json(&row)).partition((i % N_PARTITIONS) as i32)
        };
        self.broker.produce(&self.topics.features, range.map(record));
        self.n_produced += n;
    }

    /// Versions that the registry topic holds, as a command sees them.
    fn versions(&self, launch: &Launch) -> BTreeSet<i64> {
        let output = Command::new(env!("CARGO_BIN_EXE_strayd"))
            .args(["models", "list", "--json", "--config"])
            .arg(launch.dir().join("strayd.toml"))
            // What a launch sets beside the file it sets by the environment.
            .env("STRAYD__REGISTRY__TOPIC", &self.shared[0])
            .env("STRAYD__JOURNAL__COMMANDS", &self.shared[1])
            .env("STRAYD__JOURNAL__FEEDBACK", &self.shared[2])
            .output()
            .expect("strayd can be run");
        let said = String::from_utf8_lossy(&output.stdout);
        let list: Vec<Value> = serde_json::from_str(&said)
            .unwrap_or_else(|error| panic!("{error}: {said} {}", String::from_utf8_lossy(&output.stderr)));
        list.iter().map(|entry| entry["version"].as_i64().expect("a version is a number")).collect()
    }

    fn records(&self, topic: &str) -> Vec<Value> {
        self.broker.consume_to_end(topic, LATER).iter().map(support::Record::json).collect()
    }

    #[track_caller]
    fn wait_scored(&self) {
        let places = |records: &[Value]| records.iter().map(place).collect::<BTreeSet<_>>().len();
        wait_until(LATER, "every record to be scored", || {
            places(&self.records(&self.topics.scores)) == self.n_produced - N_HISTORY
        });
    }
}

fn place(record: &Value) -> (i64, i64) {
    let number = |name: &str| record["source"][name].as_i64().expect("a place is a pair of numbers");
    (number("partition"), number("offset"))
}

fn leads(daemon: &Daemon) -> bool {
    daemon.metrics().sum("strayd_trainer_leader", &[]) == 1.0
}

/// The version that a replica scores by, with its hash.
fn version(daemon: &Daemon) -> String {
    let metrics = daemon.metrics();
    let one = metrics.with("strayd_model_info", &[]).next().expect("a model scores");
    format!("{:?}", one.labels)
}

#[track_caller]
fn wait_for_one_leader(daemons: &[Daemon]) -> usize {
    let leaders = || daemons.iter().enumerate().filter(|(_, daemon)| leads(daemon)).map(|(i, _)| i).collect::<Vec<_>>();
    wait_until(SOON, "one replica that leads", || leaders().len() == 1);
    leaders()[0]
}

#[test]
fn replicas_score_by_one_model_and_survive_the_death_of_their_leader() {
    let Some(broker) = Broker::get() else { return };
    let mut fleet = Fleet::new(broker);
    let launches = [fleet.launch(), fleet.launch(), fleet.launch()];
    let mut daemons: Vec<Daemon> = launches.iter().map(Launch::start).collect();
    daemons.iter().for_each(|daemon| daemon.wait_ready(LATER));
    let leader = wait_for_one_leader(&daemons);
    assert!(daemons.iter().all(|daemon| version(daemon) == version(&daemons[0])), "all score by the same version");
    wait_until(SOON, "every replica to have partitions", || {
        daemons.iter().all(|daemon| daemon.metrics().sum("strayd_partitions_assigned", &[]) == 2.0)
    });

    fleet.produce(6_000, 50);
    fleet.wait_scored();
    // Its last five seconds are scored and not committed: others score them again.
    daemons.remove(leader).kill9();
    fleet.produce(3_000, 50);
    let heir = wait_for_one_leader(&daemons);
    fleet.wait_scored();

    // The heir trains: a round is asked for at the other replica, and what comes of it is what both score by.
    let other = 1 - heir;
    order_retrain(&daemons[other]);
    let trained = |daemon: &Daemon| daemon.metrics().sum("strayd_trainings_total", &[]) > 0.0;
    wait_until(LATER, "a round of the new leader", || trained(&daemons[heir]));
    assert!(!trained(&daemons[other]), "a follower trains nothing");

    let newcomer = fleet.launch();
    daemons.push(newcomer.start());
    daemons[2].wait_ready(SOON);
    assert!(!leads(&daemons[2]));
    wait_until(SOON, "agreement on the version", || {
        daemons.iter().all(|daemon| version(daemon) == version(&daemons[0]))
    });
    fleet.produce(3_000, 50);
    fleet.wait_scored();

    let held = fleet.versions(&newcomer);
    let anomalies = fleet.records(&fleet.topics.anomalies);
    assert!(anomalies.len() >= 200, "{} anomalies", anomalies.len());
    let named: BTreeSet<i64> = anomalies.iter().filter_map(|record| record["model"]["version"].as_i64()).collect();
    assert!(named.is_subset(&held), "anomalies name versions {named:?}, the registry topic holds {held:?}");
    compare(&fleet.records(&fleet.topics.scores));
    for daemon in daemons {
        assert_eq!(daemon.sigterm(SOON), 0);
    }
}

fn order_retrain(daemon: &Daemon) {
    let answer = ureq::post(format!("{}/api/v1/commands", daemon.url()))
        .header("content-type", "application/json")
        .send(r#"{"command": "retrain"}"#);
    answer.expect("the order is taken");
}

fn n_trained(daemon: &Daemon) -> f64 {
    daemon.metrics().sum("strayd_trainings_total", &[("result", "done")])
}

#[test]
fn a_leader_that_stood_still_is_deposed_and_writes_nothing_more() {
    let Some(broker) = Broker::get() else { return };
    let mut fleet = Fleet::new(broker);
    // A round of the first one takes long, so that it is stopped in the middle of one.
    let launches = [fleet.launch().set("training.cpu_share", "0.2"), fleet.launch().set("training.cpu_share", "1")];
    let deposed = launches[0].start();
    deposed.wait_ready(LATER);
    let heir = launches[1].start();
    heir.wait_ready(SOON);
    assert!(leads(&deposed) && !leads(&heir));
    fleet.produce(3_000, 0);
    fleet.wait_scored();
    // The first model.
    assert_eq!(n_trained(&deposed), 1.0);
    order_retrain(&deposed);
    deposed.wait(SOON, "the round to begin", || deposed.said().contains("command carried out"));
    deposed.signal(libc::SIGSTOP);

    heir.wait_metrics(SOON, "leadership of the other one", |metrics| metrics.sum("strayd_trainer_leader", &[]) == 1.0);
    order_retrain(&heir);
    heir.wait_metrics(LATER, "a round of the new leader to be written", |metrics| {
        let of = |result| metrics.sum("strayd_promotions_total", &[("result", result)]);
        of("promoted") + of("refreshed") > 0.0
    });
    let written = || broker.consume_uncommitted(&fleet.shared[0], SOON).len();
    let (held, n_written) = (fleet.versions(&launches[1]), written());

    deposed.signal(libc::SIGCONT);
    deposed.wait(SOON, "the deposed leader to know", || deposed.said().contains(r#""leads":false"#));
    deposed.wait(SOON, "it to score by the heir's version", || version(&deposed) == version(&heir));
    assert!(leads(&heir) && !leads(&deposed));
    assert_eq!((n_trained(&deposed), n_trained(&heir)), (1.0, 1.0), "its round is abandoned");
    assert_eq!((fleet.versions(&launches[1]), written()), (held, n_written), "it wrote nothing");

    // Nor is it good for nothing from then on.
    assert_eq!(heir.sigterm(SOON), 0);
    deposed.wait_metrics(SOON, "its second reign", |metrics| metrics.sum("strayd_trainer_leader", &[]) == 1.0);
    order_retrain(&deposed);
    deposed.wait(LATER, "a round of its own", || n_trained(&deposed) > 1.0);
    deposed.wait(SOON, "what it trained to be written", || written() > n_written);
    assert_eq!(deposed.sigterm(SOON), 0);
}

/// Holds scores of the same record by the same version to each other: the second one came from another replica.
fn compare(scores: &[Value]) {
    let mut seen: BTreeMap<((i64, i64), i64), f64> = BTreeMap::new();
    let mut n_again = 0;
    for record in scores {
        let version = record["model"]["version"].as_i64().expect("a score names its version");
        let raw = record["score"]["raw"].as_f64().expect("a score is a number");
        if let Some(first) = seen.insert((place(record), version), raw) {
            n_again += 1;
            assert!((first - raw).abs() <= RELATIVE_TOLERANCE * (1.0 + raw.abs()), "{first} and {raw}: {record}");
        }
    }
    assert!(n_again > 0, "the kill left records that two replicas have scored");
}
