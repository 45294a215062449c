//! Proves on a real Kafka what becomes of the registry topic when it isn't as it should be: models larger than a message,
//! pieces that are damaged or missing, wrong settings, writes that are refused, and a topic that is deleted.

mod support;

use std::ops::ControlFlow;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use ndarray::Array2;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use strayd::kafka;
use strayd::model::Model;
use strayd::preprocess::Schema;
use strayd::record::RecordId;
use strayd::registry::{Config, Registry, Versions};
use strayd::train::{self, Rows};
use support::{Broker, Daemon, Launch, Outgoing, Record, Sensors, Topics, unique, wait_until};

const SOON: Duration = Duration::from_secs(60);
const LATER: Duration = Duration::from_secs(120);
const N_HISTORY: usize = 2_500;
const COMPACT: [(&str, &str); 1] = [("cleanup.policy", "compact")];

/// 256 features and four times as many latents: four pieces of weights and more.
fn large_model(version: u64) -> Model {
    const N_FEATURES: usize = 256;
    const N_ROWS: usize = 300;
    let mut rng = ChaCha8Rng::seed_from_u64(version);
    let values = Array2::from_shape_simple_fn((N_ROWS, N_FEATURES), || rng.random_range(-1.0..1.0));
    let ids = (0..N_ROWS as i64).map(|offset| RecordId { partition: 0.into(), offset }).collect();
    let names: Vec<String> = (0..N_FEATURES).map(|i| format!("f{i}")).collect();
    let schema = Arc::new(Schema::new(names.iter().map(String::as_str)).expect("the names differ"));
    let config = train::Config { trial_steps: 2, steps: 2, ..train::Config::default() };
    let fitted = train::fit(schema, &Rows::new(values, ids), &config, 0, &mut |_| ControlFlow::Continue(()));
    fitted.expect("enough rows").into_model(version, 0)
}

struct Shared {
    client: kafka::Config,
    topic: String,
}

impl Shared {
    fn new(broker: &Broker) -> Self {
        let (brokers, group, topic) = (broker.brokers().to_owned(), unique("group"), unique("models"));
        let client = kafka::Config { brokers, group, ..kafka::Config::default() };
        kafka::ensure_compacted(&client, &topic).expect("the topic can be made");
        Self { client, topic }
    }

    fn open(&self, folder: &Path) -> Versions {
        let config = Config { path: folder.to_owned(), topic: Some(self.topic.clone()), ..Config::default() };
        Versions::open(&config, &self.client).expect("the settings are right")
    }
}

/// Writes a file of the registry again: one change to its pieces, tombstones first.
fn rewrite(broker: &Broker, topic: &str, pieces: &[Record], change: impl Fn(usize, &mut Vec<u8>) -> bool) {
    let key = |piece: &Record| piece.key.clone().expect("a piece has a key");
    let gone = pieces.iter().map(|piece| Outgoing::default().key(key(piece)));
    let again = pieces.iter().enumerate().filter_map(|(i, piece)| {
        let mut bytes = piece.value.clone().expect("a piece has bytes");
        let header = |name: &str| piece.header(name).expect("a piece has both headers").to_owned();
        let kept = change(i, &mut bytes);
        let record = Outgoing::value(bytes).key(key(piece)).header("sha256", header("sha256"));
        kept.then(|| record.header("pieces", header("pieces")))
    });
    broker.produce(topic, gone.chain(again));
}

#[test]
fn a_model_larger_than_a_message_reaches_a_newcomer_and_a_damaged_one_is_told_of() {
    let Some(broker) = Broker::get() else { return };
    let (shared, folders) = (Shared::new(broker), tempfile::tempdir().expect("a temporary folder can be made"));
    let open = |name: &str| shared.open(&folders.path().join(name));
    let (mut leader, first) = (open("leader"), large_model(1));
    wait_until(SOON, "the only one to lead", || leader.leads());
    leader.store(&first).expect("stored");
    leader.promote(1).expect("promoted");
    let follower = open("follower");
    assert_eq!(follower.current().expect("it can be read"), Some(1));
    assert_eq!(follower.load(1).expect("it is whole").hash, first.hash);

    let all = broker.consume_to_end(&shared.topic, SOON);
    let of_weights = |record: &Record| record.key.as_deref().is_some_and(|key| key.starts_with(b"v000001/model.saf"));
    let pieces: Vec<Record> = all.into_iter().filter(of_weights).collect();
    assert!(pieces.len() >= 4, "{} pieces", pieces.len());

    rewrite(broker, &shared.topic, &pieces, |i, _| i != 2);
    let (late, n) = (open("late"), pieces.len());
    let refused = late.current().expect_err("an incomplete model is no model").to_string();
    assert!(refused.contains("current version 1 can't be used"), "{refused}");
    rewrite(broker, &shared.topic, &pieces, |i, bytes| {
        bytes[7] ^= u8::from(i == 1);
        true
    });
    wait_until(SOON, "the damage to be told", || {
        let told = |of: &Versions| of.trouble().is_some_and(|trouble| trouble.contains("model.safetensors"));
        // Who scores by it goes on.
        follower.current().is_ok_and(|current| current == Some(1)) && late.current().is_err() && told(&follower)
    });
    // A version that is whole mends it, and so does the same one written again.
    leader.store(&large_model(2)).expect("stored");
    leader.promote(2).expect("promoted");
    assert_eq!(late.current().expect("the new one can be used"), Some(2));
    rewrite(broker, &shared.topic, &pieces, |_, _| true);
    wait_until(SOON, "the trouble to be over", || late.current().is_ok() && late.trouble().is_none());
    assert_eq!((late.load(1).expect("whole again").hash, n), (first.hash, pieces.len()));
}

fn launch(broker: &Broker, topics: &Topics, registry: &str) -> Launch {
    let [commands, feedback] = ["commands", "feedback"].map(|stem| broker.new_topic(stem, 1));
    topics
        .launch(broker)
        .set("registry.topic", registry)
        .set("journal.commands", &commands)
        .set("journal.feedback", &feedback)
        .set("training.cpu_share", "1")
}

fn ready_with(daemon: &Daemon, status: u16, words: &str) -> bool {
    daemon.get("/readyz").is_some_and(|(found, body)| found == status && body.contains(words))
}

#[test]
fn a_registry_topic_that_would_forget_is_refused_by_check_and_at_the_start_until_it_is_mended() {
    let Some(broker) = Broker::get() else { return };
    let (topics, registry) = (Topics::new(broker, 1), unique("models"));
    broker.create_topic(&registry, 1, &[("cleanup.policy", "delete")]);
    let launch = launch(broker, &topics, &registry);
    let check = || {
        let args = ["check", "--connect", "--config"];
        let mut command = Command::new(env!("CARGO_BIN_EXE_strayd"));
        let command = command.args(args).arg(launch.dir().join("strayd.toml"));
        let keys = [("REGISTRY__TOPIC", &*registry), ("JOURNAL__COMMANDS", "orders"), ("JOURNAL__FEEDBACK", "said")];
        let output = command.envs(keys.map(|(key, topic)| (format!("STRAYD__{key}"), topic))).output();
        let output = output.expect("strayd can be run");
        (output.status.success(), String::from_utf8_lossy(&output.stderr).into_owned())
    };
    let (is_right, said) = check();
    assert!(!is_right && said.contains("set cleanup.policy=compact"), "{said}");
    let daemon = launch.start();
    daemon.wait(SOON, "the cure in /readyz", || ready_with(&daemon, 503, "set cleanup.policy=compact"));
    broker.configure_topic(&registry, &[COMPACT[0], ("max.message.bytes", "100000")]);
    daemon.wait(SOON, "the next cure", || ready_with(&daemon, 503, "max.message.bytes=100000"));
    broker.configure_topic(&registry, &COMPACT);
    daemon.wait(SOON, "the history to be waited for", || ready_with(&daemon, 503, "of 2000"));
    assert!(check().0, "{}", check().1);
    assert_eq!(daemon.sigterm(SOON), 0);
}

#[test]
fn a_registry_topic_that_refuses_writes_or_is_deleted_keeps_nobody_from_scoring_and_comes_back() {
    let Some(broker) = Broker::get() else { return };
    let (topics, registry) = (Topics::new(broker, 1), unique("models"));
    let mut sensors = Sensors::new(6, 5);
    let mut feed = |n: usize| broker.produce(&topics.features, (0..n).map(|_| Outgoing::value(sensors.json())));
    feed(N_HISTORY);
    let launch_one = launch(broker, &topics, &registry);
    let daemon = launch_one.start();
    daemon.wait_ready(SOON);
    let sum = |name: &str| daemon.metrics().sum(name, &[]);
    let retrain = || {
        let answer = ureq::post(format!("{}/api/v1/commands", daemon.url()))
            .header("content-type", "application/json")
            .send(r#"{"command": "retrain"}"#);
        answer.expect("the order is taken");
    };
    let consumes = |n: usize| {
        daemon.wait_metrics(SOON, "records to be consumed", |metrics| {
            metrics.sum("strayd_records_consumed_total", &[]) >= n as f64
        });
    };

    broker.configure_topic(&registry, &[COMPACT[0], ("max.message.bytes", "100")]);
    feed(1_000);
    retrain();
    daemon.wait(SOON, "what can't be written to be told", || {
        sum("strayd_registry_errors_total") > 0.0 && ready_with(&daemon, 200, "registry.topic")
    });
    consumes(1_000);
    assert!(daemon.said().contains("registry.topic"), "{}", daemon.said());
    broker.configure_topic(&registry, &COMPACT);
    retrain();
    daemon.wait(LATER, "a round that is stored", || sum("strayd_trainings_total") >= 2.0);
    daemon.wait(SOON, "the note to go", || !ready_with(&daemon, 200, "notes"));

    let model = |daemon: &Daemon| daemon.metrics().with("strayd_model_info", &[]).next().map(|one| one.labels.clone());
    let before = (model(&daemon), sum("strayd_registry_errors_total"));
    broker.delete_topic(&registry);
    daemon.wait(SOON, "the loss to be told and mended", || {
        sum("strayd_registry_errors_total") > before.1 && daemon.said().contains("holds this replica's models now")
    });
    feed(500);
    consumes(1_500);
    daemon.wait(SOON, "the note to go", || !ready_with(&daemon, 200, "notes"));
    let launch_two = launch(broker, &topics, &registry);
    let newcomer = launch_two.start();
    newcomer.wait_ready(SOON);
    assert_eq!((model(&newcomer), model(&daemon)), (before.0.clone(), before.0));
    assert_eq!(newcomer.metrics().sum("strayd_trainings_total", &[]), 0.0);
    assert_eq!((newcomer.sigterm(SOON), daemon.sigterm(SOON)), (0, 0));
}
