//! The whole way: strayd end to end against a bare consumer of the same topic, alternating, each in a process alone.
//!
//! Both have the client settings of strayd's lanes. The bare consumer takes batches and drops them; strayd is the daemon
//! as `strayd run` starts it, everything on: decode, score, threshold, anomalies published, offsets settled and committed.
//! Processor time is that of all threads of the process, from the first record to the last, so that joining the group
//! and loading the model don't count on either side.

use std::collections::BTreeMap;
use std::hint::black_box;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use strayd::app::{self, OnSignals};
use strayd::kafka::Delivery;
use strayd::shutdown::Shutdown;
use strayd::source;
use strayd::threshold::Kind;

use crate::bare;
use crate::child;
use crate::clock::{median, memory_peak_bytes, process_cpu_ns};
use crate::setup::{Place, Setup, checked};
use crate::world::{Filling, World};

/// How long a run may take.
const RUN_MAX: Duration = Duration::from_secs(120);
/// Records that the bare consumer takes at a time: as many as a lane.
const BATCH: usize = 256;

/// One run.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Job {
    /// Where.
    pub place: Place,
    /// Of what.
    pub setup: Setup,
    /// Lanes of the daemon.
    pub lanes: usize,
    /// Records in the topic.
    pub n_records: u64,
    /// Whether the daemon trains its first model of the topic, instead of finding one.
    #[serde(default)]
    pub learns: bool,
    /// Whether every record is flagged.
    #[serde(default)]
    pub flags_all: bool,
    /// What is promised of the outputs.
    #[serde(default)]
    pub delivery: Delivery,
    /// Topic of every record's score, if it is wanted.
    #[serde(default)]
    pub scores: Option<String>,
}

impl Job {
    /// A run of a stored model, with what is the default else.
    pub fn new(place: Place, setup: Setup, lanes: usize, n_records: u64) -> Self {
        let delivery = Delivery::default();
        Self { place, setup, lanes, n_records, learns: false, flags_all: false, delivery, scores: None }
    }
}

/// What a run cost.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
pub struct Cost {
    /// Processor time of all threads, nanoseconds a record.
    pub cpu_ns: f64,
    /// Records a second.
    pub per_second: f64,
    /// Anomalies published.
    pub n_anomalies: u64,
    /// Highest resident memory, bytes.
    pub memory_peak: u64,
}

/// Waits a moment without using the processor.
pub fn pause(time: Duration) {
    Shutdown::default().sleep(time);
}

/// Reads the topic and drops what is read.
pub fn discard(job: &Job) -> anyhow::Result<Cost> {
    let mut batches = bare::subscribe(&job.place)?;
    let (deadline, mut n) = (Instant::now() + RUN_MAX, 0);
    let mut began = None;
    while n < job.n_records {
        ensure!(Instant::now() < deadline, "{n} of {} records came in time", job.n_records);
        n += batches.take(BATCH, Duration::from_millis(100), |message| {
            black_box(message.payload());
        })? as u64;
        if n > 0 && began.is_none() {
            began = Some((Instant::now(), process_cpu_ns(), n));
        }
    }
    let (began, cpu_before, n_before) = began.context("no record came")?;
    let (seconds, cpu) = (began.elapsed().as_secs_f64(), process_cpu_ns() - cpu_before);
    let n = (n - n_before) as f64;
    Ok(Cost { cpu_ns: cpu as f64 / n, per_second: n / seconds, n_anomalies: 0, memory_peak: memory_peak_bytes() })
}

/// Runs the daemon until it has scored and settled the topic.
pub fn strayd(job: &Job) -> anyhow::Result<Cost> {
    let mut raw = job.place.raw_config(&job.setup, job.lanes);
    if job.learns {
        // What the default of D, M and k is must not take minutes to train at a thousand features.
        (raw.model.trial_steps, raw.model.steps) = (10, 10);
    }
    if job.flags_all {
        (raw.threshold.kind, raw.threshold.z) = (Kind::Fixed, -1e6);
    }
    raw.kafka.delivery = job.delivery;
    raw.output.scores.clone_from(&job.scores);
    let daemon = app::start(checked(raw)?, Shutdown::default(), OnSignals::Ignore)?;
    let deadline = Instant::now() + RUN_MAX;
    let wait_for = |n: u64, step: Duration| {
        while daemon.shared.n_scored() < n {
            ensure!(!daemon.has_ended(), "the daemon ended by itself");
            ensure!(Instant::now() < deadline, "{} of {n} records were scored in time", daemon.shared.n_scored());
            pause(step);
        }
        Ok(())
    };
    wait_for(1, Duration::from_millis(1))?;
    let (began, cpu_before, n_before) = (Instant::now(), process_cpu_ns(), daemon.shared.n_scored());
    wait_for(job.n_records, Duration::from_millis(5))?;
    let seconds = began.elapsed().as_secs_f64();
    let inflight = &daemon.shared.metrics.inflight_batches;
    while (0..job.lanes).any(|lane| inflight.with_label_values(&[&lane.to_string()]).get() > 0) {
        ensure!(Instant::now() < deadline, "not every batch was settled in time");
        pause(Duration::from_millis(1));
    }
    let cpu = process_cpu_ns() - cpu_before;
    let n = (job.n_records - n_before) as f64;
    let n_anomalies = daemon.shared.n_alerts();
    daemon.stop();
    daemon.wait()?;
    Ok(Cost { cpu_ns: cpu as f64 / n, per_second: n / seconds, n_anomalies, memory_peak: memory_peak_bytes() })
}

/// Which runs belong together.
struct Contest<'a> {
    world: &'a World,
    setup: Setup,
    topic: String,
    n_records: u64,
    registry: std::path::PathBuf,
    bare: Vec<Cost>,
    strayd: BTreeMap<usize, Vec<Cost>>,
}

impl Contest<'_> {
    fn round(&mut self, lanes: &[usize]) -> anyhow::Result<()> {
        let job = |lanes| -> anyhow::Result<Job> {
            let place = self.world.place(&self.topic, &self.registry)?;
            Ok(Job::new(place, self.setup.clone(), lanes, self.n_records))
        };
        self.bare.push(child::run("bare", &job(1)?)?);
        for &lanes in lanes {
            let cost = child::run("strayd", &job(lanes)?)?;
            self.strayd.entry(lanes).or_default().push(cost);
        }
        Ok(())
    }

    fn report(&self) -> Value {
        let of = |costs: &[Cost]| {
            json!({
                "cpu_ns": median(costs.iter().map(|cost| cost.cpu_ns)),
                "per_second": median(costs.iter().map(|cost| cost.per_second)),
                "anomalies": costs.iter().map(|cost| cost.n_anomalies).max(),
                "memory_peak": costs.iter().map(|cost| cost.memory_peak).max(),
                "runs": costs,
            })
        };
        let one = self.strayd.get(&1).map(Vec::as_slice).unwrap_or_default();
        let ratios = self.bare.iter().zip(one).map(|(bare, strayd)| strayd.cpu_ns / bare.cpu_ns);
        json!({
            "cluster": self.world.name(),
            "setup": self.setup.name,
            "shape": self.setup.shape(),
            "n_records": self.n_records,
            "payload_bytes": self.setup.payloads(100).iter().map(Vec::len).sum::<usize>() / 100,
            "bare": of(&self.bare),
            "strayd": self.strayd.iter().map(|(lanes, costs)| (lanes.to_string(), of(costs))).collect::<BTreeMap<_, _>>(),
            "ratio": median(ratios),
        })
    }
}

/// How much is run.
#[derive(Clone, Copy, Debug)]
pub struct Extent {
    /// Records in each topic.
    pub n_records: u64,
    /// Rounds of alternating runs.
    pub rounds: usize,
}

/// Runs every setup against its bare consumer; `registries` holds each setup's model.
pub fn contests(
    world: &World,
    setups: &[(Setup, std::path::PathBuf)],
    lanes: &[usize],
    extent: Extent,
) -> anyhow::Result<Vec<Value>> {
    let mut contests = Vec::new();
    let mut topics = BTreeMap::new();
    let n_partitions = if matches!(world, World::Mock(_)) { 32 } else { 4 };
    for (setup, registry) in setups {
        let payloads = setup.payloads(crate::setup::N_DISTINCT);
        let key = format!("{:?}{}", setup.format, setup.n_features);
        let n_records = world.capacity(extent.n_records, n_partitions, payloads[0].len());
        if !topics.contains_key(&key) {
            let topic = world.topic("features", n_partitions)?;
            world.fill(&topic, n_partitions, &payloads, Filling { n: n_records, n_keys: 0 })?;
            topics.insert(key.clone(), topic);
        }
        let topic = topics[&key].clone();
        let (setup, registry) = (setup.clone(), registry.clone());
        contests.push(Contest { world, setup, topic, n_records, registry, bare: vec![], strayd: BTreeMap::new() });
    }
    for _ in 0..extent.rounds {
        contests.iter_mut().try_for_each(|contest| contest.round(lanes))?;
    }
    Ok(contests.iter().map(Contest::report).collect())
}

/// The settings that both consumers have, as they are handed to librdkafka.
pub fn settings() -> anyhow::Result<BTreeMap<String, String>> {
    let place = strayd::kafka::Config::default();
    let settings = source::lane_settings(&place, 0)?;
    let said = settings.config_map().into_iter();
    Ok(said.map(|(key, value)| (key.to_owned(), value.to_owned())).collect())
}
