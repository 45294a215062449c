//! Proves the test support itself: a real Kafka does what the tests rely on, and nothing stays behind.

mod support;

use std::collections::BTreeSet;
use std::io::{Read, Write};
use std::net::TcpListener;
use std::path::Path;
use std::time::Duration;

use support::{
    Broker, Guard, Launch, Metrics, Outgoing, Prometheus, free_port, holds_within, promtool_check, unique, wait_until,
};

const SOON: Duration = Duration::from_secs(30);

#[test]
fn records_come_back_as_they_were_produced() {
    let Some(broker) = Broker::get() else { return };
    let topic = broker.new_topic("records", 4);
    let make = |i: i32| {
        let record = Outgoing::value(format!("{{\"i\": {i}}}")).key(format!("key-{i}")).partition(i % 4);
        Outgoing { timestamp_ms: Some(1_700_000_000_000 + i64::from(i)), ..record }.header("row", i.to_string())
    };
    assert_eq!(broker.produce(&topic, (0..10_000).map(make)), 10_000);

    let records = broker.consume(&topic, 10_000, SOON);
    assert_eq!(records, broker.consume_to_end(&topic, SOON));
    assert_eq!(records.len(), 10_000);
    let rows: BTreeSet<i32> = records.iter().map(|r| r.header("row").expect("set above").parse().unwrap()).collect();
    assert_eq!(rows, (0..10_000).collect());
    for record in &records {
        let i = record.json()["i"].as_i64().unwrap();
        assert_eq!((record.partition, record.offset), ((i % 4) as i32, i / 4), "order is kept within a partition");
        assert_eq!(record.key.as_deref(), Some(format!("key-{i}").as_bytes()));
        assert_eq!(record.timestamp_ms, 1_700_000_000_000 + i);
    }
    assert_eq!(broker.end_offsets(&topic), (0..4).map(|p| (p, 2_500)).collect());
}

#[test]
fn committed_offsets_are_those_of_the_group() {
    let Some(broker) = Broker::get() else { return };
    let topic = broker.new_topic("commits", 2);
    let (group, other) = (unique("group"), unique("group"));
    broker.produce(&topic, (0..7).map(|i| Outgoing::value(format!("[{i}]")).partition(i % 2)));
    assert!(broker.committed(&group, &topic).is_empty());
    broker.commit_ends(&group, &topic);
    let committed = broker.committed(&group, &topic);
    assert_eq!(committed.iter().map(|(p, c)| (*p, c.offset)).collect::<Vec<_>>(), [(0, 4), (1, 3)]);
    assert!(broker.committed(&other, &topic).is_empty());
}

#[test]
fn a_tombstone_and_ten_megabytes_are_accepted() {
    let Some(broker) = Broker::get() else { return };
    let topic = broker.new_topic("large", 1);
    let large: Vec<u8> = (0..10 * 1024 * 1024_u32).map(|i| (i.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    broker.produce(&topic, [Outgoing::default().key("gone"), Outgoing::value(large.clone())]);
    let records = broker.consume_to_end(&topic, SOON);
    assert_eq!(records.len(), 2);
    assert_eq!((records[0].key.as_deref(), &records[0].value), (Some(&b"gone"[..]), &None));
    assert!(records[1].value.as_ref() == Some(&large), "the payload came back altered");
}

#[test]
fn topic_configs_are_applied_and_a_missing_topic_has_no_partitions() {
    let Some(broker) = Broker::get() else { return };
    let topic = unique("small");
    broker.create_topic(&topic, 1, &[("max.message.bytes", "1000")]);
    let message = panic_of(|| broker.produce(&topic, [Outgoing::value(vec![b'x'; 5_000])]));
    assert!(message.contains("MessageSizeTooLarge"), "{message}");
    assert!(broker.partitions("there-is-no-such-topic").is_empty());
}

#[test]
fn dropping_a_guard_ends_its_process_and_removes_its_folder() {
    let dir = std::env::temp_dir().join(unique("strayd-guard"));
    std::fs::create_dir(&dir).expect("the temporary folder can be written");
    let guard = Guard::spawn(&dir, "sh", ["-c", "echo said; exec sleep 600"]);
    let pid = guard.pid();
    wait_until(SOON, "the program to speak", || guard.last_words() == "said");
    assert!(guard.is_running());
    drop(guard);
    assert!(!Path::new(&format!("/proc/{pid}")).exists());
    assert!(!dir.exists());
}

#[test]
fn holds_within_ends_at_its_deadline() {
    assert!(!holds_within(Duration::from_millis(5), || false));
    assert!(holds_within(Duration::ZERO, || true));
    assert_ne!(free_port(), free_port());
}

#[test]
fn metrics_are_taken_apart() {
    let page = "# HELP a b\n# TYPE a counter\nstrayd_a_total{topic=\"x\",reason=\"a\\\"b,}\"} 3\n\
                strayd_a_total{topic=\"y\"} 4\nstrayd_up 1\nstrayd_t_bucket{le=\"+Inf\"} +Inf\n";
    let metrics = Metrics::parse(page);
    assert_eq!(metrics.sum("strayd_a_total", &[]), 7.0);
    assert_eq!(metrics.get("strayd_a_total", &[("reason", "a\"b,}")]), Some(3.0));
    assert_eq!(metrics.get("strayd_up", &[]), Some(1.0));
    assert_eq!(metrics.get("strayd_t_bucket", &[("le", "+Inf")]), Some(f64::INFINITY));
    assert_eq!(metrics.get("strayd_absent", &[]), None);
}

/// What a closure says when it panics, as it must.
fn panic_of<T>(run: impl FnOnce() -> T) -> String {
    let panic = std::panic::catch_unwind(std::panic::AssertUnwindSafe(run)).err().expect("it panics");
    *panic.downcast::<String>().expect("a message")
}

/// Answers every request with the same page, in the daemon's place.
fn answer_with(address: &str, status: &'static str, page: &'static str) {
    let listener = TcpListener::bind(address).expect("the port is free");
    let serve = move || {
        for stream in listener.incoming() {
            let mut stream = stream.expect("a connection");
            let mut head = [0; 1024];
            let _ = stream.read(&mut head).expect("a request");
            let n = page.len();
            write!(stream, "HTTP/1.1 {status}\r\ncontent-length: {n}\r\nconnection: close\r\n\r\n{page}")
                .expect("sent");
        }
    };
    std::thread::Builder::new().name("stub".to_owned()).spawn(serve).expect("a thread starts");
}

#[test]
fn a_daemon_is_watched_and_ended() {
    let launch = Launch::new("[kafka]\nbrokers = \"x\"\n").env("CODE", "7");
    let written = std::fs::read_to_string(launch.dir().join("strayd.toml")).expect("written by new");
    assert!(written.contains(&format!("listen = \"{}\"", launch.admin())), "{written}");

    let script = "echo here: $PWD >&2; trap 'exit $CODE' TERM; while :; do sleep 0.05; done";
    let launch = launch.program("sh", ["-c", script]);
    let daemon = launch.start();
    assert_eq!(daemon.get("/readyz"), None, "nobody answers yet");
    answer_with(launch.admin(), "200 OK", "strayd_up 1\n");
    daemon.wait_ready(SOON);
    daemon.wait_metrics(SOON, "strayd_up", |metrics| metrics.get("strayd_up", &[]) == Some(1.0));
    daemon.wait(SOON, "the first line", || daemon.said().contains(&launch.dir().display().to_string()));
    let (now, highest) = daemon.rss_bytes();
    assert!(now > 100_000 && highest >= now, "{now} {highest}");
    assert_eq!(daemon.sigterm(SOON), 7);

    let again = launch.start();
    let pid = again.pid();
    again.kill9();
    assert!(!Path::new(&format!("/proc/{pid}")).exists());
}

#[test]
fn a_daemon_that_ends_early_is_not_waited_for() {
    let daemon = Launch::new("").program("sh", ["-c", "exit 78"]).start();
    let message = panic_of(|| daemon.wait_ready(Duration::from_secs(600)));
    assert!(message.contains("exit status: 78"), "{message}");
}

#[test]
fn what_isnt_ready_is_said_at_the_deadline() {
    let launch = Launch::new("").program("sleep", ["600"]);
    answer_with(launch.admin(), "503 Service Unavailable", "warming up");
    let daemon = launch.start();
    let message = panic_of(|| daemon.wait_ready(Duration::from_millis(50)));
    assert!(message.contains("warming up"), "{message}");
}

#[test]
fn a_paused_broker_acknowledges_nothing_until_it_goes_on() {
    let Some(broker) = Broker::own() else { return };
    let topic = broker.new_topic("paused", 1);
    let paused = broker.pause();
    assert!(!broker.answers_within(Duration::from_millis(300)));
    drop(paused);
    broker.produce(&topic, [Outgoing::value("x")]);
    assert_eq!(broker.end_offsets(&topic), [(0, 1)].into());
}

#[test]
fn prometheus_scrapes_and_promtool_judges() {
    let target = format!("127.0.0.1:{}", free_port());
    answer_with(&target, "200 OK", "# HELP strayd_a_total What.\n# TYPE strayd_a_total counter\nstrayd_a_total 3\n");
    let rules = "groups: [{name: g, rules: [{alert: Always, expr: strayd_a_total > 2}]}]";
    let Some(prometheus) = Prometheus::start(&target, rules) else { return };
    wait_until(SOON, "a scrape", || prometheus.query("strayd_a_total") == [3.0]);
    wait_until(SOON, "the alert", || prometheus.query("ALERTS{alertstate=\"firing\"}") == [1.0]);
    assert_eq!(prometheus.query("scalar(strayd_a_total) + 1"), [4.0]);
    assert!(prometheus.query("strayd_absent").is_empty());
    assert!(panic_of(|| prometheus.query("sum(")).contains("parse error"));

    let good = "# HELP strayd_up Whether it is.\n# TYPE strayd_up gauge\nstrayd_up 1\n";
    assert_eq!(promtool_check(good).as_deref(), Some(""));
    let bad = promtool_check("# TYPE strayd_up counter\nstrayd_up 1\n").expect("promtool comes with prometheus");
    assert!(bad.contains("_total"), "{bad}");
}
