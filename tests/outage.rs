//! Proves on a real Kafka that what is wrong outside is said in one clear line and by `/readyz`, and that the daemon
//! goes on by itself when it is mended: a broker that isn't there, topics that don't exist, a wrong password, a broker
//! that stands still.

mod support;

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::net::{TcpListener, TcpStream};
use std::thread;
use std::time::{Duration, Instant};

use support::{Broker, Daemon, Launch, Metrics, Outgoing, Sensors, Topics, free_port, unique};

const SOON: Duration = Duration::from_secs(60);
const N_FEATURES: usize = 6;
const N_HISTORY: usize = 2_500;

fn history(seed: u64) -> Vec<Outgoing> {
    let mut sensors = Sensors::new(N_FEATURES, seed);
    (0..N_HISTORY).map(|_| Outgoing::value(sensors.json())).collect()
}

/// Waits until `/readyz` says no for this reason, in a process that is alive.
#[track_caller]
fn wait_not_ready(daemon: &Daemon, reason: &str) {
    daemon.wait(SOON, &format!("/readyz to say {reason:?}"), || {
        daemon.get("/readyz").is_some_and(|(status, body)| status == 503 && body.contains(reason))
    });
    assert_eq!(daemon.get("/healthz").expect("it answers").0, 200, "a broker's absence is no reason to restart strayd");
}

/// Counts the lines of the log that hold a text.
fn n_lines(daemon: &Daemon, text: &str) -> usize {
    daemon.said().lines().filter(|line| line.contains(text)).count()
}

/// Hands every connection to `port` on to `target`, from now on.
fn forward(port: u16, target: &str) {
    let listener = TcpListener::bind(("127.0.0.1", port)).expect("the port was free");
    let target = target.to_owned();
    let copy = |mut from: TcpStream, mut to: TcpStream| {
        let name = "forward-copy".to_owned();
        thread::Builder::new().name(name).spawn(move || io::copy(&mut from, &mut to)).expect("a thread starts");
    };
    let serve = move || {
        for client in listener.incoming().map_while(Result::ok) {
            let server = TcpStream::connect(&target).expect("the target listens");
            let again = |stream: &TcpStream| stream.try_clone().expect("a socket can be shared");
            copy(again(&client), again(&server));
            copy(server, client);
        }
    };
    thread::Builder::new().name("forward".to_owned()).spawn(serve).expect("a thread starts");
}

#[test]
fn a_broker_that_comes_late_is_waited_for() {
    let Some(broker) = Broker::get() else { return };
    let topics = Topics::new(broker, 1);
    broker.produce(&topics.features, history(1));
    let port = free_port();
    let launch = topics.launch(broker).set("kafka.brokers", &format!("127.0.0.1:{port}"));
    let daemon = launch.start();
    wait_not_ready(&daemon, "no broker answers; check kafka.brokers");
    assert_eq!(n_lines(&daemon, "can't start yet; trying again"), 1, "said once, not with every attempt");
    forward(port, broker.brokers());
    daemon.wait_ready(SOON);
    assert_eq!(daemon.sigterm(SOON), 0);
}

#[test]
fn sigterm_while_no_broker_is_there_ends_with_0() {
    let launch = Launch::new(&format!("[kafka]\nbrokers = \"127.0.0.1:{}\"\n[input]\ntopic = \"x\"\n", free_port()));
    let daemon = launch.start();
    wait_not_ready(&daemon, "no broker answers");
    assert_eq!(daemon.sigterm(Duration::from_secs(15)), 0);
}

#[test]
fn missing_topics_are_named_and_waited_for() {
    let Some(broker) = Broker::get() else { return };
    let [features, anomalies, dead_letters] = ["late-features", "late-anomalies", "late-dead"].map(unique);
    let launch = Launch::new(&format!(
        "[kafka]\nbrokers = \"{}\"\ngroup = \"{}\"\n[input]\ntopic = \"{features}\"\n\
         [output]\nanomalies = \"{anomalies}\"\ndead_letters = \"{dead_letters}\"\n",
        broker.brokers(),
        unique("group")
    ));
    let daemon = launch.start();
    wait_not_ready(&daemon, &format!("topic `{features}` does not exist; create it"));
    broker.create_topic(&features, 1, &[]);
    broker.create_topic(&dead_letters, 1, &[]);
    wait_not_ready(&daemon, &format!("output topic `{anomalies}` does not exist; create it"));
    broker.create_topic(&anomalies, 1, &[]);
    wait_not_ready(&daemon, "collecting: 0 of 2000 records (history.rows_min) are there");
    for topic in [&features, &anomalies] {
        assert!(n_lines(&daemon, &format!("topic `{topic}` does not exist; create it")) >= 1, "{}", daemon.said());
    }
    broker.produce(&features, history(2));
    daemon.wait_ready(SOON);
    assert_eq!(daemon.sigterm(SOON), 0);
}

#[test]
fn a_wrong_password_is_said_and_never_printed() {
    let Some(broker) = Broker::own() else { return };
    let topics = Topics::new(&broker, 1);
    broker.produce(&topics.features, history(3));
    let launch = topics.launch(&broker).set("kafka.brokers", broker.sasl().expect("the broker is ours"));
    let password = launch.dir().join("password");
    fs::write(&password, "swordfish\n").expect("the temporary folder can be written");
    let launch = launch.set("kafka.security.protocol", "sasl_plaintext").set("kafka.security.sasl_mechanism", "PLAIN");
    let launch = launch.set("kafka.security.username", "strayd");
    let launch = launch.set("kafka.security.password_file", &password.display().to_string());
    let daemon = launch.start();
    wait_not_ready(&daemon, "authentication failed; check kafka.security");
    assert!(n_lines(&daemon, "authentication failed; check kafka.security") >= 1, "{}", daemon.said());
    fs::write(&password, "secret\n").expect("the temporary folder can be written");
    daemon.wait_ready(SOON);
    let said = daemon.said();
    assert!(!said.contains("swordfish") && !said.contains("secret\""), "{said}");
    assert_eq!(daemon.sigterm(SOON), 0);
}

#[test]
fn a_broker_that_stands_still_and_flaps_costs_no_record_no_processor_time_and_little_memory() {
    const N_RECORDS: usize = 60_000;
    let Some(broker) = Broker::own() else { return };
    let topics = Topics::new(&broker, 2);
    let mut sensors = Sensors::new(N_FEATURES, 4);
    broker.produce(&topics.features, history(4));
    let launch = topics.launch(&broker);
    let daemon = launch.start();
    daemon.wait_ready(SOON);
    broker.produce(&topics.features, (0..N_RECORDS).map(|_| Outgoing::value(sensors.json())));
    let before = daemon.metrics().sum("strayd_records_scored_total", &[]);
    let paused = broker.pause();
    daemon.wait_metrics(SOON, "batches in flight", |metrics| metrics.sum("strayd_inflight_batches", &[]) > 0.0);
    assert!(before < N_RECORDS as f64, "the broker stood still while records flowed");
    wait_not_ready(&daemon, "lane 0: ");
    // From here on there is nothing to do but wait.
    let (since, cpu) = (Instant::now(), daemon.cpu());
    daemon.wait_metrics(SOON, "some seconds to pass", |_| since.elapsed() > Duration::from_secs(5));
    let share = daemon.cpu().saturating_sub(cpu).as_secs_f64() / since.elapsed().as_secs_f64();
    let (rss, _) = daemon.rss_bytes();
    let waited = daemon.metrics().sum("strayd_output_wait_seconds_total", &[]);
    println!("a broker stands still: {share:.3} of a core, {} MB, {waited:.1} s waited for output", rss >> 20);
    assert!(share < 0.3 && rss < 400 << 20, "{share} {rss}");
    drop(paused);
    for n in 1..=3 {
        let scored = |metrics: &Metrics| metrics.sum("strayd_records_scored_total", &[]);
        let so_far = scored(&daemon.metrics());
        let goes_on = |metrics: &Metrics| scored(metrics) > so_far || so_far >= N_RECORDS as f64;
        daemon.wait_metrics(SOON, &format!("records between two pauses, {n}"), goes_on);
        let paused = broker.pause();
        let since = Instant::now();
        daemon.wait_metrics(SOON, "a second to pass", |_| since.elapsed() > Duration::from_secs(1));
        drop(paused);
    }
    daemon.wait_metrics(SOON, "every record to be scored", |metrics| {
        let n_scored = metrics.sum("strayd_records_scored_total", &[]);
        n_scored >= N_RECORDS as f64 && metrics.sum("strayd_inflight_batches", &[]) == 0.0
    });
    daemon.wait_ready(SOON);
    assert_eq!(daemon.sigterm(SOON), 0);
    let scores = broker.consume_to_end(&topics.scores, SOON);
    let ids: BTreeSet<String> = scores.iter().map(|record| record.json()["id"].to_string()).collect();
    assert_eq!((ids.len(), scores.len()), (N_RECORDS, N_RECORDS), "each is scored, none twice: nothing was restarted");
}
