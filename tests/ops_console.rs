//! Proves the console in a real Chromium, against the real daemon on a real Kafka; run by `make test-ops`, as it takes a browser and a
//! package of npm.
//!
//! `console/check.mjs` is the person at the screen. It says what the daemon is to do, and leaves pictures in `target/console`,
//! which are to be looked at: no test can.

mod support;

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use serde_json::Value;
use support::{Broker, Daemon, Launch, Outgoing, Sensors, Topics, fetched, skip, to_json};

const SOON: Duration = Duration::from_secs(60);
const TOKEN: &str = "the-token-of-this-test";
/// Seconds of records, each with a fault.
const N_FAULTS: usize = 8;
const N_FEATURES: usize = 6;
const N_HISTORY: usize = 2500;

/// The daemon, and what happens to it.
struct Stage<'a> {
    broker: &'a Broker,
    topics: Topics,
    launch: Launch,
    daemon: Option<Daemon>,
    sensors: Sensors,
}

impl Stage<'_> {
    fn daemon(&self) -> &Daemon {
        self.daemon.as_ref().expect("it runs at the moment")
    }

    /// Does what the person at the screen waits for.
    fn act(&mut self, word: &str) {
        match word {
            "history" => {
                let records: Vec<_> = (0..N_HISTORY).map(|_| Outgoing::value(self.sensors.json())).collect();
                self.broker.produce(&self.topics.features, records);
                self.daemon().wait_ready(SOON);
            }
            "faults" => self.faults(),
            "stop" => self.daemon.take().expect("it runs").kill9(),
            "start" => self.daemon = Some(self.launch.start()),
            other => panic!("{other}?"),
        }
    }

    /// Ordinary records with a fault in each fifty, one of an entity that looks like markup; fifty in each of some seconds, so
    /// that the chart has something to show.
    fn faults(&mut self) {
        for n in 0..N_FAULTS {
            let last = self.last_sample();
            let records: Vec<_> = (n * 50..n * 50 + 50).map(|i| self.record(i)).collect();
            self.broker.produce(&self.topics.features, records);
            self.daemon().wait(SOON, "the next second's sample", || self.last_sample() > last);
        }
        self.daemon().wait_metrics(SOON, "the faults to be published", |metrics| {
            metrics.sum("strayd_anomalies_total", &[]) >= N_FAULTS as f64
        });
    }

    fn record(&mut self, i: usize) -> Outgoing {
        let mut row = self.sensors.row();
        row[i % N_FEATURES] += if i % 50 == 25 { 15.0 + i as f64 / 20.0 } else { 0.0 };
        let key = if i == 275 { "<img src=x onerror=alert(1)>".to_owned() } else { format!("pump-{}", i % 4) };
        Outgoing::value(to_json(&row)).key(key)
    }

    /// When the newest second that the chart shows has ended.
    fn last_sample(&self) -> Option<i64> {
        let (_, body) = self.daemon().get("/api/v1/samples")?;
        let samples: Value = serde_json::from_str(&body).ok()?;
        samples.as_array()?.last()?["time_ms"].as_i64()
    }
}

#[test]
fn console_is_used_in_a_real_browser() {
    let Some(broker) = Broker::get() else { return };
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let packages = match fetched("tests/support/npm.sh", &["tests/console"]) {
        Ok(packages) => packages,
        Err(why) => return skip(&format!("no playwright-core: {why}")),
    };
    if !Command::new("chromium").arg("--version").output().is_ok_and(|out| out.status.success()) {
        return skip("no Chromium");
    }
    let topics = Topics::new(broker, 2);
    let launch = topics.launch(broker).set("threshold.kind", "quantile").set("training.mode", "manual");
    let path = launch.dir().join("token");
    std::fs::write(&path, TOKEN).expect("the temporary folder can be written");
    let launch = launch.set("admin.token_file", &path.display().to_string());
    let daemon = launch.start();
    daemon.wait(SOON, "its admin server", || daemon.get("/healthz").is_some());
    let url = daemon.url().to_owned();
    let mut stage = Stage { broker, topics, launch, daemon: Some(daemon), sensors: Sensors::new(N_FEATURES, 8) };

    let mut person = Command::new("node")
        .arg(root.join("tests/console/check.mjs"))
        .args([&url, TOKEN])
        .arg(root.join("target/console"))
        .env("NODE_PATH", packages.join("node_modules"))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("node comes with npm");
    let mut answers = person.stdin.take().expect("it is piped");
    let said = BufReader::new(person.stdout.take().expect("it is piped"));
    for line in said.lines() {
        let line = line.expect("text");
        if let Some(word) = line.strip_prefix('@') {
            stage.act(word);
            writeln!(answers, "ok").expect("it waits for the answer");
        } else {
            eprintln!("{line}");
        }
    }
    let ended = person.wait().expect("it is ours");
    assert!(ended.success(), "{ended}: the line above says what is not as it should be");
}
