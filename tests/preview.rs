//! Plays three minutes of a plant to the real daemon and draws the dashboards from the Prometheus that scraped it.
//!
//! Run by `tests/ops/preview.sh`, which names the folder of the pictures. What it asserts is that every panel found
//! data; whether the pictures can be read, only eyes can tell.

mod support;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant, SystemTime};

use rdkafka::ClientConfig;
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};
use serde_json::Value;

use support::{Broker, Daemon, Launch, Outgoing, Prometheus, RULES, Sensors, Topics, shipped, shipped_text, to_json};

const SOON: Duration = Duration::from_secs(60);
const N_FEATURES: usize = 8;
const N_PARTITIONS: usize = 4;
const N_HISTORY: usize = 3_000;
/// Records that are sent at once; the next go out when these are scored, so that the pace is that of the daemon.
const CHUNK: usize = 40;
/// Latest records that a round looks at.
const RECENT_ROWS: usize = 1_500;

/// Eight sensors that follow three causes and drift; in a second mode, one record in four, each stands elsewhere.
struct Plant {
    sensors: Sensors,
    n_made: usize,
    has_second_mode: bool,
}

impl Plant {
    fn row(&mut self) -> Vec<f64> {
        let mut row = self.sensors.row();
        let is_second = self.has_second_mode && self.n_made.is_multiple_of(4);
        let drift = self.n_made as f64 / 150_000.0;
        for (j, value) in row.iter_mut().enumerate() {
            *value += 1.5 * drift * (j as f64).cos() + if is_second { 6.0 * ((j * j) as f64).cos() } else { 0.0 };
        }
        self.n_made += 1;
        row
    }

    /// The next record: mostly ordinary, else one of the troubles that a stream has.
    fn record(&mut self) -> Outgoing {
        let mut row = self.row();
        let i = self.n_made;
        let value = match i % 4_000 {
            100 | 1_480 | 3_100 => "{\"s0\": \"broken\"".to_owned(),
            250 => format!("[{}]", "1, ".repeat(3)),
            1_300 | 2_520 | 3_900 => {
                row[i % N_FEATURES] += [3.0, 6.0, 12.0, 25.0][i / 1_000 % 4];
                to_json(&row)
            }
            600 | 2_600 => "{\"s0\": 20.1, \"s1\": null}".to_owned(),
            650 => to_json(&row).replacen('{', "{\"firmware\": 7, ", 1),
            1_700..=1_740 => to_json(&row).replacen("\"s3\"", "\"s3_old\"", 1),
            _ => to_json(&row),
        };
        Outgoing::value(value).key(format!("pump-{}", i % 10)).partition((i % N_PARTITIONS) as i32)
    }
}

/// The daemon, its plant, and what it is told.
struct Stage<'a> {
    broker: &'a Broker,
    topics: Topics,
    daemon: Daemon,
    launch: Launch,
    plant: Plant,
    /// Connected once, so that what latency shows is the daemon's.
    producer: BaseProducer,
    n_sent: usize,
}

impl Stage<'_> {
    /// Sends records and waits until they are read.
    fn send(&mut self, n: usize) {
        self.n_sent += self.produce(n);
        let n = self.n_sent as f64;
        self.daemon.wait_metrics(SOON, "every record to be read", |metrics| {
            metrics.sum("strayd_records_consumed_total", &[]) >= n
        });
    }

    /// Writes the next records to the topic, and returns how many.
    fn produce(&mut self, n: usize) -> usize {
        for _ in 0..n {
            let Outgoing { key, value, partition, .. } = self.plant.record();
            let (key, value) = (key.expect("every record has a key"), value.expect("and a value"));
            let record = BaseRecord::to(&self.topics.features).key(&key).payload(&value);
            let record = record.partition(partition.expect("and a partition"));
            self.producer.send(record).map_err(|(error, _)| error).expect("the queue has room");
        }
        self.producer.flush(SOON).expect("everything is acknowledged in time");
        n
    }

    /// Ends the daemon, and starts it again when so many records have come.
    fn restart_after(&mut self, n: usize) {
        self.daemon.signal(libc::SIGTERM);
        self.daemon.exit_within(SOON).expect("it drains");
        self.n_sent = self.produce(n);
        self.daemon = self.launch.start();
        self.daemon.wait_ready(SOON);
    }

    /// Lets the plant run for a while.
    fn flow(&mut self, seconds: u64) {
        let since = Instant::now();
        while since.elapsed() < Duration::from_secs(seconds) {
            self.send(CHUNK);
        }
    }

    fn strayd(&self, args: &[&str]) {
        let mut command = Command::new(env!("CARGO_BIN_EXE_strayd"));
        let out = command.args(args).args(["--config", "strayd.toml"]).current_dir(self.launch.dir()).output();
        let out = out.expect("strayd was built");
        assert!(out.status.success(), "{args:?}: {}", String::from_utf8_lossy(&out.stderr));
    }

    fn ended(&self, result: &str) -> f64 {
        self.daemon.metrics().sum("strayd_promotions_total", &[("result", result)])
    }

    /// Lets the plant run until models have ended so once more.
    fn flow_until(&mut self, result: &str, n_before: f64) {
        let since = Instant::now();
        while self.ended(result) <= n_before {
            self.send(CHUNK);
            assert!(since.elapsed() < SOON, "no model is {result}");
        }
    }

    /// Lets the plant run until the model that was handed over is judged, and returns its version.
    fn judged(&mut self) -> String {
        let since = Instant::now();
        while since.elapsed() < SOON {
            self.flow(1);
            let mut command = Command::new(env!("CARGO_BIN_EXE_strayd"));
            let args = ["models", "list", "--json", "--config", "strayd.toml"];
            let out = command.args(args).current_dir(self.launch.dir()).output().expect("strayd was built");
            let listed: Value = serde_json::from_slice(&out.stdout).expect("one JSON document");
            let mut entries = listed.as_array().expect("a list").iter();
            if let Some(entry) = entries.find(|entry| entry["reason"] == "submitted") {
                return entry["version"].to_string();
            }
        }
        panic!("no model was judged");
    }

    /// A model that knows the first mode alone, as a folder where the daemon runs.
    fn narrow_model(&mut self) {
        self.plant.has_second_mode = false;
        let mut lines = vec![(0..N_FEATURES).map(|j| format!("s{j}")).collect::<Vec<_>>().join(",")];
        let row = |row: Vec<f64>| row.iter().map(|value| format!("{value:.3}")).collect::<Vec<_>>().join(",");
        lines.extend((0..2_000).map(|_| row(self.plant.row())));
        self.plant.has_second_mode = true;
        fs::write(self.launch.dir().join("narrow.csv"), lines.join("\n")).expect("the temporary folder can be written");
        self.strayd(&["train", "narrow.csv", "--out", "narrow"]);
    }
}

fn config(broker: &Broker, topics: &Topics) -> String {
    let Topics { features, anomalies, dead_letters, scores, group } = topics;
    format!(
        "[kafka]\nbrokers = \"{}\"\ngroup = \"{group}\"\n[input]\ntopic = \"{features}\"\n\
         [output]\nanomalies = \"{anomalies}\"\ndead_letters = \"{dead_letters}\"\nscores = \"{scores}\"\n\
         [registry]\nkeep = 50\n[history]\nrows_min = 2000\nrecent_rows = {RECENT_ROWS}\n\
         [training]\nretrain_gap = \"6s\"\ndrift_interval = \"1s\"\ndrift_gap = \"15s\"\ncpu_share = 1.0\n\
         [training.watch]\nrecords = 256\nrollbacks_max = 5\n[pipeline]\nlanes = 2\n\
         [[suppress]]\nname = \"known\"\nentity = \"pump-3\"\nreason = \"for the picture\"\n",
        broker.brokers()
    )
}

fn unix_seconds() -> f64 {
    SystemTime::UNIX_EPOCH.elapsed().expect("the clock is past 1970").as_secs_f64()
}

#[test]
fn every_panel_is_drawn_from_a_plant_with_troubles() {
    let Some(broker) = Broker::get() else { return };
    let topics = Topics::new(broker, N_PARTITIONS as i32);
    let mut plant = Plant { sensors: Sensors::new(N_FEATURES, 5), n_made: 0, has_second_mode: true };
    broker.produce(&topics.features, (0..N_HISTORY).map(|_| plant.record()));
    let launch = Launch::new(&config(broker, &topics));
    let Some(prometheus) = Prometheus::start(launch.admin(), &shipped_text(RULES)) else { return };
    let start = unix_seconds();
    let mut client = ClientConfig::new();
    client.set("bootstrap.servers", broker.brokers()).set("linger.ms", "1");
    let producer = client.create().expect("these settings are valid");
    let daemon = launch.start();
    daemon.wait_ready(SOON);
    let mut stage = Stage { broker, topics, daemon, launch, plant, producer, n_sent: 0 };
    play(&mut stage);
    let folder = PathBuf::from(std::env::var_os("STRAYD_PREVIEW").unwrap_or_else(|| "target/preview".into()));
    draw(&prometheus, start, unix_seconds(), &folder);
    assert_eq!(stage.daemon.sigterm(SOON), 0);
}

/// Three minutes: a drift with rounds, a restart with a backlog, a bad model handed over, promoted by hand and rolled back, feedback, a reload.
fn play(stage: &mut Stage<'_>) {
    stage.flow(45);
    stage.restart_after(40_000);
    stage.flow(20);
    stage.narrow_model();
    stage.strayd(&["models", "submit", "narrow"]);
    let narrow = stage.judged();
    stage.strayd(&["models", "pin"]);
    stage.plant.has_second_mode = false;
    stage.flow(10);
    stage.strayd(&["models", "unpin"]);
    let n_switched = stage.ended("switched");
    stage.strayd(&["models", "promote", &narrow]);
    stage.flow_until("switched", n_switched);
    let n_rolled_back = stage.ended("rolled_back");
    stage.plant.has_second_mode = true;
    stage.flow_until("rolled_back", n_rolled_back);
    stage.flow(25);
    let published = stage.broker.consume_to_end(&stage.topics.anomalies, SOON);
    let id = published.last().expect("something was published").json()["id"].as_str().expect("an id").to_owned();
    stage.strayd(&["feedback", &id, "false_positive"]);
    stage.flow(10);
    stage.daemon.signal(libc::SIGHUP);
    stage.flow(20);
}

fn draw(prometheus: &Prometheus, start: f64, end: f64, folder: &Path) {
    let mut command = Command::new("python3");
    command.arg(shipped("tests/ops/preview/draw.py")).arg(prometheus.url());
    let out = command.args([start.to_string(), end.to_string()]).arg(folder).output().expect("python3 is installed");
    println!("{}", String::from_utf8_lossy(&out.stdout));
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
}
