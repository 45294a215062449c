//! SIGHUP with the real daemon on a real Kafka: what can change changes at once, and what is refused changes nothing.

mod support;

use std::collections::BTreeSet;
use std::fs;
use std::io::ErrorKind;
use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::process::{Command, Output};
use std::time::Duration;

use serde_json::Value;
use strayd::config::{RELOADABLE, RawConfig, is_reloadable};
use support::{Broker, Daemon, Launch, Outgoing, Topics};

/// Deadline of each wait; the machine may be busy with other tests.
const SOON: Duration = Duration::from_secs(60);

/// A record, far out of the ordinary if `odd`.
fn row(i: i64, odd: bool) -> Outgoing {
    let (a, b) = ((i as f64 / 7.3).sin(), (i as f64 / 31.7).sin());
    let c = if odd { 9000.0 } else { a + b + 0.05 * (i as f64 / 0.618).sin() };
    Outgoing::value(format!("[{a:.4}, {b:.4}, {c:.4}]")).key("pump-1").partition(0)
}

/// Rewrites the daemon's file, with `more` after what its topics need.
fn rewrite(launch: &Launch, original: &str, more: &str) {
    fs::write(launch.dir().join("strayd.toml"), format!("{original}\n{more}")).expect("the folder can be written");
}

/// Sends SIGHUP and waits until `result` has been counted once more.
fn reload(daemon: &Daemon, result: &str) {
    let count = |metrics: &support::Metrics| metrics.sum("strayd_config_reloads_total", &[("result", result)]);
    let before = count(&daemon.metrics());
    daemon.signal(libc::SIGHUP);
    daemon.wait_metrics(SOON, result, |metrics| count(metrics) > before);
}

/// Sends `n` odd records and waits until each was published or withheld.
fn send_odd(broker: &Broker, topics: &Topics, daemon: &Daemon, n: usize) {
    let settled = |metrics: &support::Metrics| {
        metrics.sum("strayd_anomalies_total", &[]) + metrics.sum("strayd_alerts_suppressed_total", &[])
    };
    let before = settled(&daemon.metrics());
    broker.produce(&topics.features, (0..n as i64).map(|i| row(i, true)));
    daemon.wait_metrics(SOON, "every odd record", |metrics| settled(metrics) >= before + n as f64);
}

fn version(daemon: &Daemon) -> String {
    let (_, page) = daemon.get("/metrics").expect("it answers");
    let lines: Vec<&str> = page.lines().filter(|line| line.starts_with("strayd_config_info{")).collect();
    assert_eq!(lines.len(), 1, "one configuration is in force: {lines:?}");
    lines[0].to_owned()
}

#[test]
fn the_page_names_what_can_be_reloaded() {
    let page =
        fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/OPERATING.md")).expect("it is there");
    let sentence = page.split("What can change while it runs: ").nth(1).and_then(|rest| rest.split(" (unless").next());
    let sentence = sentence.expect("the page says so").replace("[[", "").replace("]]", "").replace(['[', ']'], "");
    let named: BTreeSet<&str> = sentence.split('`').skip(1).step_by(2).collect();
    assert_eq!(named, RELOADABLE.into_iter().collect());
    let all = serde_json::to_value(RawConfig::default()).expect("string keys");
    for key in RELOADABLE {
        assert!(all.pointer(&format!("/{}", key.replace('.', "/"))).is_some(), "there is no {key}");
        assert!(is_reloadable(key) && !is_reloadable(&format!("{key}s")));
    }
}

#[test]
fn a_reload_takes_up_what_can_change_and_refuses_the_rest_whole() {
    let Some(broker) = Broker::get() else { return };
    let topics = Topics::new(broker, 1);
    broker.produce(&topics.features, (0..3000).map(|i| row(i, false)));
    let launch = topics.launch(broker).set("threshold.kind", "quantile");
    let original = fs::read_to_string(launch.dir().join("strayd.toml")).expect("it was written");
    let daemon = launch.start();
    daemon.wait_ready(SOON);
    let sum = |name: &str, labels: &[(&str, &str)]| daemon.metrics().sum(name, labels);
    let withheld = |reason: &str| sum("strayd_alerts_suppressed_total", &[("reason", reason)]);
    let successful = || sum("strayd_config_last_reload_successful", &[]);
    assert_eq!(successful(), 1.0);
    send_odd(broker, &topics, &daemon, 3);
    assert_eq!((withheld("rule"), withheld("rate_limit")), (0.0, 0.0));
    let first = version(&daemon);

    let rule = "[[suppress]]\nname = 'pump'\nentity = 'pump-*'\n[log]\nlevel = 'warn'\n";
    rewrite(&launch, &original, rule);
    reload(&daemon, "applied");
    let second = version(&daemon);
    assert_ne!(first, second);
    send_odd(broker, &topics, &daemon, 3);
    assert_eq!(withheld("rule"), 3.0);
    assert!(!daemon.said().contains("configuration reloaded"), "the level is another: {}", daemon.said());

    // A wrong key, a key that needs a restart beside one that doesn't, and no TOML at all: nothing is taken up.
    let limit = "[incidents]\nm = 3\nn = 2\n";
    for (more, result, said) in [
        (limit, "invalid", "incidents.m"),
        ("[pipeline]\nrows_max = 7\n", "needs_restart", "[\\\"pipeline.rows_max\\\"]"),
        ("[suppress\n", "invalid", "the file is not TOML"),
    ] {
        rewrite(&launch, &original, more);
        reload(&daemon, result);
        assert_eq!((successful(), version(&daemon)), (0.0, second.clone()), "{more}");
        let log = daemon.said();
        assert!(log.contains(said) && log.contains("configuration not reloaded"), "{said}: {log}");
    }
    send_odd(broker, &topics, &daemon, 2);
    assert_eq!(withheld("rule"), 5.0, "the rule, which none of those files had, is still in force");

    rewrite(&launch, &original.replace("[output]", "[output]\nanomalies_per_minute = 1"), "");
    reload(&daemon, "applied");
    send_odd(broker, &topics, &daemon, 3);
    assert_eq!((withheld("rule"), withheld("rate_limit"), successful()), (5.0, 2.0, 1.0));
    rewrite(&launch, &original, "");
    reload(&daemon, "applied");
    assert_eq!(version(&daemon), first, "the same keys, the same version");
    assert!(daemon.said().contains("configuration reloaded"), "and the same level: {}", daemon.said());
    assert_eq!(daemon.sigterm(SOON), 0);
}

#[test]
fn a_reload_tells_systemd_when_it_begins_and_ends() {
    let Some(broker) = Broker::get() else { return };
    let topics = Topics::new(broker, 1);
    broker.produce(&topics.features, (0..3000).map(|i| row(i, false)));
    let launch = topics.launch(broker);
    let path = launch.dir().join("notify.sock");
    let socket = UnixDatagram::bind(&path).expect("the folder can be written");
    socket.set_read_timeout(Some(SOON)).expect("a time above 0");
    let launch = launch.env("NOTIFY_SOCKET", &path.display().to_string()).env("WATCHDOG_USEC", "200000");
    let daemon = launch.start();
    let mut seen = Vec::new();
    let mut next = |what: &str| loop {
        let mut bytes = [0; 4096];
        match socket.recv(&mut bytes) {
            Ok(n) => seen.push(String::from_utf8_lossy(&bytes[..n]).into_owned()),
            Err(error) if error.kind() == ErrorKind::Interrupted => continue,
            Err(error) => panic!("{what} was not said: {error}; {seen:?}"),
        }
        if seen.last().is_some_and(|line| line.contains(what)) {
            return seen.last().cloned().expect("it was just pushed");
        }
    };
    next("READY=1");
    next("STATUS=scoring");
    next("WATCHDOG=1");
    daemon.signal(libc::SIGHUP);
    let began = next("RELOADING=1");
    let at = began.split("MONOTONIC_USEC=").nth(1).expect("the time of the reload");
    assert!(at.trim().parse::<u64>().is_ok_and(|usec| usec > 0), "{began}");
    next("READY=1");
    let answered = healthcheck(launch.admin(), &["--ready"]);
    assert!(answered.status.success(), "{answered:?}");
    daemon.signal(libc::SIGTERM);
    next("STOPPING=1");
    assert!(daemon.exit_within(SOON).is_some_and(|status| status.success()));
}

fn healthcheck(listen: &str, more: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_strayd"));
    let listen = format!("admin.listen={listen}");
    command.args(["healthcheck", "--set", &listen]).args(more).output().expect("strayd was built")
}

#[test]
fn healthcheck_says_by_its_exit_code_how_the_daemon_is() {
    let launch = Launch::new("[kafka]\nbrokers = '127.0.0.1:1'\n[input]\ntopic = 't'\n");
    let daemon = launch.start();
    daemon.wait(SOON, "the admin server", || daemon.get("/healthz").is_some());
    let alive = healthcheck(launch.admin(), &[]);
    assert_eq!((alive.status.code(), &*alive.stdout), (Some(0), &b"ok\n"[..]));
    let port = launch.admin().rsplit(':').next().expect("a port");
    assert!(healthcheck(&format!("0.0.0.0:{port}"), &[]).status.success(), "all interfaces are asked on loopback");

    let unready = healthcheck(launch.admin(), &["--ready"]);
    let said = String::from_utf8_lossy(&unready.stderr);
    assert!(unready.status.code() == Some(1) && said.contains("503") && said.contains("starting"), "{said}");
    let phase = daemon.get("/readyz").map(|(_, body)| serde_json::from_str::<Value>(&body).expect("JSON"));
    assert_eq!(phase.expect("it answers")["phase"], "starting");
    daemon.kill9();
    assert_eq!(healthcheck(launch.admin(), &[]).status.code(), Some(1), "nobody answers");
    assert_eq!(healthcheck("no address", &[]).status.code(), Some(78));
}
