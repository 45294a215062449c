//! The replicas of one group, each behind its own door, with a supervisor that starts again what has ended.
//!
//! Replica 0 lives on a disk of a few megabytes and trains (in the mode in which nothing it trains ever scores); replica 3
//! has a clock that can be set; 0 and 1 are static members, 2 and 3 come and go under names of their own.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use super::clock;
use super::disk::SmallDisk;
use super::stream::N_FEATURES;
use crate::support::{Broker, Daemon, Door, Launch, Metrics, Topics};

/// Replicas at most.
pub const N_REPLICAS: usize = 4;
/// The replica whose disk can be full.
pub const ON_SMALL_DISK: usize = 0;
/// The replica whose clock can be set.
pub const WITH_CLOCK: usize = 3;
/// After so long the group gives a silent member's partitions away; the least that a broker allows.
pub const SESSION: Duration = Duration::from_secs(6);
/// A replica that was told to end and hasn't after so long hangs: `pipeline.shutdown_timeout` is 8 s.
const END_MAX: Duration = Duration::from_secs(25);
/// How long the supervisor waits before it starts again what has ended.
const RESTART: Duration = Duration::from_millis(500);

/// What the supervisor thinks of a replica.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Off,
    Due(Instant),
    Running,
    Ending(Instant),
}

/// One replica: what it is started with, and its run, if it runs.
pub struct Replica {
    launch: Launch,
    pub door: Door,
    daemon: Option<Daemon>,
    state: State,
    /// Whether it stands still by SIGSTOP.
    pub is_stopped: bool,
    /// Where the offset of its clock is written.
    pub clock: Option<PathBuf>,
    n_rebalances: f64,
}

/// The replicas of one group.
pub struct Fleet {
    pub replicas: Vec<Replica>,
    /// Where replica 0 lives, where such a disk could be made.
    pub disk: Option<SmallDisk>,
    /// How runs ended, by exit code or signal, and by what they said last where that wasn't asked for.
    pub ends: BTreeMap<String, u64>,
    n_rebalances: f64,
    looked: Instant,
}

impl Fleet {
    /// Prepares the replicas; none runs. `models` holds the model that they score by.
    pub fn new(broker: &Broker, topics: &Topics, delivery: &str, models: &Path) -> Self {
        let disk = SmallDisk::new();
        let doors = broker.doors().iter().enumerate();
        let replicas = doors.map(|(i, (port, target))| {
            let config = config(topics, &format!("127.0.0.1:{port}"), delivery, i);
            let on_disk = disk.as_ref().filter(|_| i == ON_SMALL_DISK);
            let mut launch = match on_disk {
                Some(disk) => Launch::new_in(disk.path(), &config),
                None => Launch::new(&config),
            };
            copy(models, &launch.dir().join("models"));
            let library = (i == WITH_CLOCK).then(|| clock::build(launch.dir())).flatten();
            let clock = library.map(|library| {
                let file = launch.dir().join("clock");
                clock::set(&file, 0);
                (clock::envs(&library, &file), file)
            });
            if let Some((envs, _)) = &clock {
                launch = envs.iter().fold(launch, |launch, (key, value)| launch.env(key, value));
            }
            let clock = clock.map(|(_, file)| file);
            let door = Door::new(*port, target);
            Replica { launch, door, daemon: None, state: State::Off, is_stopped: false, clock, n_rebalances: 0.0 }
        });
        let replicas = replicas.collect();
        Self { replicas, disk, ends: BTreeMap::new(), n_rebalances: 0.0, looked: Instant::now() }
    }

    /// Numbers of the replicas that run and weren't told to end.
    pub fn running(&self) -> Vec<usize> {
        (0..N_REPLICAS).filter(|&i| self.replicas[i].state == State::Running).collect()
    }

    /// Numbers of the replicas that nobody wants to run.
    pub fn off(&self) -> Vec<usize> {
        (0..N_REPLICAS).filter(|&i| self.replicas[i].state == State::Off).collect()
    }

    /// Starts a replica at the next look.
    pub fn want(&mut self, i: usize) {
        self.replicas[i].state = State::Due(Instant::now());
    }

    /// Sends a signal to a replica that runs.
    pub fn signal(&mut self, i: usize, signal: i32) {
        let replica = &mut self.replicas[i];
        replica.daemon.as_ref().expect("it runs").signal(signal);
        match signal {
            libc::SIGTERM => replica.state = State::Ending(Instant::now()),
            libc::SIGSTOP => replica.is_stopped = true,
            libc::SIGCONT => replica.is_stopped = false,
            _ => {}
        }
    }

    /// Looks after all of them once: books those that have ended, and starts those that are due.
    #[track_caller]
    pub fn tend(&mut self) {
        self.look();
        for i in 0..N_REPLICAS {
            let ended = self.replicas[i].daemon.as_ref().and_then(|daemon| daemon.exit_within(Duration::ZERO));
            if let Some(status) = ended {
                self.book(i, status);
            }
            match self.replicas[i].state {
                State::Due(at) if at <= Instant::now() => {
                    self.replicas[i].daemon = Some(self.replicas[i].launch.start());
                    self.replicas[i].state = State::Running;
                }
                State::Ending(since) => {
                    assert!(since.elapsed() < END_MAX, "replica {i} hangs: SIGTERM was {:?} ago", since.elapsed());
                }
                _ => {}
            }
        }
    }

    fn book(&mut self, i: usize, status: std::process::ExitStatus) {
        let replica = &mut self.replicas[i];
        let daemon = replica.daemon.take().expect("it has just ended");
        let said = daemon.said();
        // 101 is a panic, too, where the disk had no room for its words.
        assert!(!said.contains("panicked at") && status.code() != Some(101), "replica {i} panicked:\n{said}");
        self.n_rebalances += std::mem::take(&mut replica.n_rebalances);
        let asked = matches!(replica.state, State::Ending(_)) || status.code().is_none();
        let why = said.lines().rev().find(|line| line.contains("strayd:") || line.contains("\"ERROR\"")).unwrap_or("");
        let why: String = why.chars().take(220).collect();
        let end = if asked { status.to_string() } else { format!("by itself, {status}: {why}") };
        *self.ends.entry(end).or_default() += 1;
        replica.is_stopped = false;
        replica.state = match replica.state {
            State::Ending(_) => State::Off,
            _ => State::Due(Instant::now() + RESTART),
        };
    }

    /// Keeps, about once a second, what the replicas say of rebalances: a killed one can't be asked any more.
    fn look(&mut self) {
        if self.looked.elapsed() < Duration::from_secs(1) {
            return;
        }
        self.looked = Instant::now();
        for replica in self.replicas.iter_mut().filter(|replica| !replica.is_stopped) {
            if let Some(metrics) = replica.daemon.as_ref().and_then(metrics_of) {
                replica.n_rebalances = metrics.sum("strayd_rebalances_total", &[]);
            }
        }
    }

    /// Rebalances that the replicas have seen, as far as they could be asked.
    pub fn n_rebalances(&self) -> f64 {
        self.n_rebalances + self.replicas.iter().map(|replica| replica.n_rebalances).sum::<f64>()
    }

    /// The sum of a metric over the replicas that run; nothing while one of them doesn't answer.
    pub fn sum(&self, name: &str, labels: &[(&str, &str)]) -> Option<f64> {
        let daemons = self.replicas.iter().filter_map(|replica| replica.daemon.as_ref());
        daemons.map(|daemon| Some(metrics_of(daemon)?.sum(name, labels))).sum()
    }

    /// Anomalies that a replica's run has flagged, where it answers.
    pub fn n_flagged(&self, i: usize) -> Option<f64> {
        let replica = &self.replicas[i];
        let daemon = replica.daemon.as_ref().filter(|_| !replica.is_stopped)?;
        Some(metrics_of(daemon)?.sum("strayd_anomalies_total", &[]))
    }

    /// Whether all that run are ready.
    pub fn is_ready(&self) -> bool {
        let mut daemons = self.replicas.iter().filter_map(|replica| replica.daemon.as_ref());
        daemons.all(|daemon| daemon.get("/readyz").is_some_and(|(status, _)| status == 200))
    }

    /// Resident bytes and open files of each replica that runs.
    pub fn says(&self) -> String {
        let daemons = self.replicas.iter().enumerate().filter_map(|(i, replica)| Some((i, replica.daemon.as_ref()?)));
        daemons.map(|(i, daemon)| format!("replica {i}: {:?}\n", daemon.get("/readyz"))).collect()
    }

    /// The folder of a replica's models.
    pub fn models(&self, i: usize) -> PathBuf {
        self.replicas[i].launch.dir().join("models")
    }
}

fn metrics_of(daemon: &Daemon) -> Option<Metrics> {
    daemon.get("/metrics").filter(|(status, _)| *status == 200).map(|(_, page)| Metrics::parse(&page))
}

fn config(topics: &Topics, brokers: &str, delivery: &str, i: usize) -> String {
    let Topics { features, anomalies, scores, dead_letters, group } = topics;
    let names: Vec<String> = (0..N_FEATURES).map(|feature| format!("\"s{feature}\"")).collect();
    let instance = if i < 2 { format!("instance = \"replica-{i}\"") } else { String::new() };
    let training = if i == ON_SMALL_DISK {
        "enabled = true\nmode = \"manual\"\nretrain_gap = \"3s\"\n[model]\nretrain_records = 2000\n"
    } else {
        "enabled = false\n"
    };
    format!(
        "[kafka]\nbrokers = \"{brokers}\"\ngroup = \"{group}\"\n{instance}\n{delivery}\nsession_timeout = \"{}s\"\n\
         commit_interval = \"200ms\"\n[kafka.librdkafka]\n\"reconnect.backoff.max.ms\" = \"1000\"\n\
         [input]\ntopic = \"{features}\"\n[decode]\npassthrough = [\"n\"]\n[schema]\nfeatures = [{}]\n\
         [threshold]\nkind = \"quantile\"\n[output]\nanomalies = \"{anomalies}\"\nscores = \"{scores}\"\n\
         dead_letters = \"{dead_letters}\"\n[pipeline]\nlanes = {}\ndrain_timeout = \"3s\"\nshutdown_timeout = \"8s\"\n\
         [training]\n{training}",
        SESSION.as_secs(),
        names.join(", "),
        1 + i % 2,
    )
}

/// Copies a folder of files and folders.
fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).expect("the temporary folder can be written");
    for entry in fs::read_dir(from).expect("there is a model") {
        let entry = entry.expect("an entry");
        let to = to.join(entry.file_name());
        if entry.path().is_dir() {
            copy(&entry.path(), &to);
        } else {
            fs::copy(entry.path(), to).expect("the temporary folder can be written");
        }
    }
}
