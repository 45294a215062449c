//! `strayd demo`: a simulated plant with labelled faults, the real daemon, and an honest count of what it found.
//!
//! This folder never touches the detector's insides: the plant makes readings, the faults spoil some of them, the
//! report compares what was published with what was spoilt, and a per-sensor alarm stands beside it.

pub mod baseline;
mod cluster;
#[cfg(test)]
mod detectability;
pub mod faults;
pub mod line;
pub mod plant;
pub mod report;
pub mod schedule;
pub mod sensors;

use std::time::{Duration, Instant};

use anyhow::bail;
use clap::Args;

use self::baseline::Baseline;
use self::cluster::{ANOMALIES, Cluster, DEAD_LETTERS, FEATURES, Feed, Subscriber};
use self::faults::Live;
use self::plant::Plant;
use self::report::{Judged, Run, Tally};
use self::schedule::{Plan, plan};
use crate::app::{self, Daemon, OnSignals};
use crate::config::{Config, Log, RawConfig};
use crate::shutdown::Shutdown;

/// Share of the records that the demo's detector may alert on.
const TARGET_ALERT_RATE: f64 = 5e-4;
/// Readings that are there before the daemon starts: more than a week of the plant.
const N_HISTORY: usize = 9000;
/// How long the daemon may take to its first model, and for the last records.
const PATIENCE: Duration = Duration::from_secs(60);

/// Options of `strayd demo`.
#[derive(Debug, Args)]
pub struct Options {
    /// How long the plant runs once the first model scores
    #[arg(long, default_value = "45s", value_parser = humantime::parse_duration)]
    duration: Duration,
    /// Records a second of the whole plant
    #[arg(long, default_value_t = 800.0)]
    rate: f64,
    /// Seed of the plant and its faults
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Prints the summary as JSON on stdout, and everything else on stderr
    #[arg(long)]
    json: bool,
}

/// Runs the demo.
pub fn run(options: &Options) -> anyhow::Result<()> {
    if !(12.0..=20_000.0).contains(&options.rate) {
        bail!("--rate {}: it must be from 12 (one a pump) to 20000", options.rate);
    }
    if options.duration < Duration::from_secs(10) {
        bail!("--duration {}: the shortest is 10s", humantime::format_duration(options.duration));
    }
    let models = std::env::temp_dir().join(format!("strayd-demo-{}", std::process::id()));
    let outcome = Demo::start(options, &models).and_then(|demo| demo.run());
    // Whatever happened, the demo leaves nothing behind; that there was nothing yet is no failure.
    let _ = std::fs::remove_dir_all(&models);
    outcome
}

/// A demo under way.
struct Demo<'a> {
    options: &'a Options,
    began: Instant,
    feed: Feed,
    subscriber: Subscriber,
    daemon: Daemon,
    shutdown: Shutdown,
    live: Live,
    baseline: Baseline,
    tally: Tally,
    /// The last to go: its clients hang when the broker goes before them.
    _cluster: Cluster,
}

impl<'a> Demo<'a> {
    fn start(options: &'a Options, models: &std::path::Path) -> anyhow::Result<Self> {
        let began = Instant::now();
        let cluster = Cluster::start()?;
        let brokers = cluster.brokers();
        let mut plant = Plant::new(options.seed);
        let history = plant.history(N_HISTORY);
        let feed = Feed::new(&brokers)?;
        history.iter().try_for_each(|reading| feed.send(reading))?;
        feed.flush()?;
        feed.take_delivered();

        let n_records = (options.duration.as_secs_f64() * options.rate) as usize;
        let faults = plan(&plant, &Plan { n_records, rate: options.rate, seed: options.seed });
        let live = Live::new(plant, faults);
        let config = config(&brokers, models, options.seed)?;
        app::init_logs(&config.log);
        let shutdown = Shutdown::default();
        let daemon = app::start(config, shutdown.clone(), OnSignals::Drain)?;
        let demo = Self {
            options,
            began,
            feed,
            subscriber: Subscriber::new(&brokers)?,
            daemon,
            shutdown,
            baseline: Baseline::fit(&history),
            tally: Tally::new(live.faults().to_vec(), live.start()),
            live,
            _cluster: cluster,
        };
        demo.say(&format!(
            "plant      12 pumps, {} sensors each, {} records/s on topic `{FEATURES}` of a mock cluster\n\
             brokers    {brokers}   (kcat -b {brokers} -t {ANOMALIES} -C; any client can subscribe)\n\
             console    http://{admin}/   (in a terminal: strayd top --url {admin})",
            sensors::N_SENSORS,
            options.rate,
            admin = demo.daemon.admin
        ));
        Ok(demo)
    }

    fn run(mut self) -> anyhow::Result<()> {
        self.await_model()?;
        let first_model_seconds = self.began.elapsed().as_secs_f64();
        self.say(&format!(
            "ready      after {first_model_seconds:.1} s: {N_HISTORY} records of history read, first model trained\n\
             now        {} faults in {}; one line an anomaly\n",
            self.live.faults().len(),
            humantime::format_duration(self.options.duration),
        ));
        let live_began = Instant::now();
        let n_sent = self.stream(live_began)?;
        self.catch_up(n_sent)?;
        let run = Run {
            records_scored: self.daemon.shared.n_scored(),
            live_seconds: live_began.elapsed().as_secs_f64(),
            first_model_seconds,
            target_alert_rate: TARGET_ALERT_RATE,
        };
        let summary = self.tally.summary(&run);
        self.say(&format!("\n{}\n{}", self.tally.table(), summary.to_text()));
        self.daemon.stop();
        self.daemon.wait()?;
        if self.options.json {
            println!("{}", serde_json::to_string(&summary)?);
        }
        Ok(())
    }

    fn await_model(&self) -> anyhow::Result<()> {
        while !self.daemon.shared.health.readiness().ready {
            if self.daemon.has_ended() || self.shutdown.sleep(Duration::from_millis(20)) {
                bail!("the daemon ended before its first model; the log above says why");
            }
            if self.began.elapsed() > PATIENCE {
                let waiting = serde_json::to_string(&self.daemon.shared.health.readiness())?;
                bail!("no model within {} s: {waiting}", PATIENCE.as_secs());
            }
        }
        Ok(())
    }

    /// Sends readings at the plant's pace and tells what is found meanwhile. Returns the number of readings sent.
    fn stream(&mut self, began: Instant) -> anyhow::Result<u64> {
        let n_records = (self.options.duration.as_secs_f64() * self.options.rate) as u64;
        let mut n_sent = 0;
        while n_sent < n_records && !self.shutdown.begun() && !self.daemon.has_ended() {
            let due = ((began.elapsed().as_secs_f64() * self.options.rate) as u64).min(n_records);
            while n_sent < due {
                let reading = self.live.reading();
                self.announce(reading.index);
                let scores = self.baseline.score(&reading);
                self.tally.sent(&reading, scores, self.began.elapsed().as_secs_f64());
                self.feed.send(&reading)?;
                n_sent += 1;
            }
            self.hear(Duration::from_millis(5))?;
        }
        self.feed.flush()?;
        Ok(n_sent)
    }

    /// Waits until the last records are scored and their anomalies have come.
    fn catch_up(&mut self, n_sent: u64) -> anyhow::Result<()> {
        let deadline = Instant::now() + PATIENCE;
        while self.daemon.shared.n_scored() < n_sent && !self.daemon.has_ended() && Instant::now() < deadline {
            self.hear(Duration::from_millis(20))?;
        }
        while self.hear(Duration::from_millis(500))? > 0 {}
        Ok(())
    }

    /// Prints the faults that begin with the reading `index`.
    fn announce(&self, index: usize) {
        for fault in self.live.faults().iter().filter(|fault| fault.start == index) {
            self.say(&format!("           {fault}"));
        }
    }

    /// Reads anomalies until none comes within `timeout`, and prints each. Returns how many came.
    fn hear(&mut self, timeout: Duration) -> anyhow::Result<usize> {
        for (id, index) in self.feed.take_delivered() {
            self.tally.delivered(id, index);
        }
        let mut n = 0;
        while let Some((id, record)) = self.subscriber.next(timeout)? {
            n += 1;
            let judged = self.tally.anomaly(id, self.began.elapsed().as_secs_f64());
            let mark = match judged {
                Judged::Found(fault) => format!("  FOUND fault {}", fault + 1),
                Judged::False => "  false alert".into(),
                Judged::Again(_) | Judged::Repeated | Judged::Pending => String::new(),
            };
            self.say(&format!("{}{mark}", line::anomaly_line(&record)));
            if n >= 100 {
                break;
            }
        }
        Ok(n)
    }

    /// Prints for people: on stdout, or on stderr when stdout is for a machine.
    fn say(&self, text: &str) {
        if self.options.json { eprintln!("{text}") } else { println!("{text}") }
    }
}

fn config(brokers: &str, models: &std::path::Path, seed: u64) -> anyhow::Result<Config> {
    let mut raw = RawConfig {
        log: Log { level: "warn,rdkafka=off,librdkafka=off".into(), ..Log::default() },
        ..RawConfig::default()
    };
    raw.detector.name = "pumps".into();
    raw.kafka.brokers = brokers.to_owned();
    raw.input.topic = FEATURES.into();
    raw.output.anomalies = ANOMALIES.into();
    raw.output.dead_letters = DEAD_LETTERS.into();
    raw.registry.path = models.to_owned();
    raw.training.seed = seed;
    // Every fault of the plant breaks a relation between sensors that each stay in range: the autoencoder's own field. With
    // memory and tails beside it 11 and 13 of 13 faults were found (seeds 1 and 2).
    raw.model.members.memory_rows = 0;
    raw.threshold.target_alert_rate = TARGET_ALERT_RATE;
    raw.admin.listen = std::net::SocketAddr::from(([127, 0, 0, 1], 0));
    Ok(Config::check(raw)?)
}
