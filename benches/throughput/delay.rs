//! Added latency: from the producer's send to the verdict, less the same of a bare consumer at an equal rate.
//!
//! Each record carries the time at which it was sent. strayd is the lane as `app` composes it, its source and its sink
//! wrapped: a record is judged at the latest when the lane serves the producer after its batch, and settled when its
//! offset is stored. That is an upper bound, and it costs one look at the clock a batch. The bare consumer notes the time
//! when it has taken what is there. Broker and producer have processes of their own on the same cores.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{anyhow, ensure};
use rdkafka::consumer::Consumer;
use serde::{Deserialize, Serialize};

use strayd::app;
use strayd::blas;
use strayd::config::Config;
use strayd::history::TopicHistory;
use strayd::kafka::BatchConsumer;
use strayd::pipeline::Shared;
use strayd::pipeline::inflight::Settling;
use strayd::pipeline::lane::Lane;
use strayd::pipeline::trainer::Trainer;
use strayd::record::Partition;
use strayd::registry::{Directory, Registry};
use strayd::shutdown::Shutdown;
use strayd::sink::{KafkaSink, Outgoing, Receipt, Sink, SinkError};
use strayd::source::{self, Assignment, KafkaSource, Polled, Position, Raw, Source, SourceError};
use strayd::telemetry::Metrics;
use strayd::telemetry::health::Health;

use crate::bare::{self, Forwarding};
use crate::child;
use crate::clock::{Quantiles, process_cpu_ns, wall_ns};
use crate::feed::SENT;
use crate::setup::{Place, Setup, checked};

/// What a child says when it has its partitions.
pub const READY: &str = "ready";
/// How long a child may take to have them.
const JOIN_MAX: Duration = Duration::from_secs(30);

/// One run.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Job {
    /// Where.
    pub place: Place,
    /// Of what.
    pub setup: Setup,
    /// Whether the trainer runs one round after another beside the lane.
    pub trains: bool,
}

/// What a run gave.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
pub struct Delay {
    /// From the send to the verdict; to the application, for the bare consumer.
    pub verdict: Quantiles,
    /// From the send to the settled offset; nothing for the bare consumer.
    pub settled: Quantiles,
    /// Records judged a second while it was measured.
    pub per_second: f64,
    /// Mean rows of a batch.
    pub batch_rows: f64,
    /// Processor time of all threads over the whole run, nanoseconds a record.
    pub cpu_ns: f64,
    /// Training rounds that ended meanwhile.
    pub n_rounds: u64,
}

/// What was seen of the records on their way.
#[derive(Debug, Default)]
struct Log {
    taken: Vec<(Partition, i64, u64)>,
    unsettled: BTreeMap<Partition, VecDeque<(i64, u64)>>,
    verdicts: Vec<u64>,
    settled: Vec<u64>,
    n_batches: u64,
    n_records: u64,
    first_ns: u64,
    last_ns: u64,
}

type SharedLog = Arc<Mutex<Log>>;

fn open(log: &SharedLog) -> MutexGuard<'_, Log> {
    log.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Log {
    /// Everything taken so far has its verdict.
    fn judged(&mut self) {
        if self.taken.is_empty() {
            return;
        }
        let now = wall_ns();
        self.n_batches += 1;
        self.n_records += self.taken.len() as u64;
        for (partition, offset, sent) in self.taken.drain(..) {
            // A record that warms up bears no time.
            if sent > 0 {
                self.verdicts.push(now.saturating_sub(sent));
                self.first_ns = if self.first_ns == 0 { now } else { self.first_ns };
                self.last_ns = now;
            }
            self.unsettled.entry(partition).or_default().push_back((offset, sent));
        }
    }

    fn settled(&mut self, positions: &[Position]) {
        let now = wall_ns();
        for position in positions {
            let Some(waiting) = self.unsettled.get_mut(&position.next.partition) else { continue };
            while let Some(&(_, sent)) = waiting.front().filter(|(offset, _)| *offset < position.next.offset) {
                waiting.pop_front();
                self.settled.extend((sent > 0).then(|| now.saturating_sub(sent)));
            }
        }
    }

    fn into_delay(mut self, cpu_ns: u64) -> Delay {
        let seconds = self.last_ns.saturating_sub(self.first_ns) as f64 / 1e9;
        Delay {
            per_second: self.verdicts.len() as f64 / seconds,
            verdict: Quantiles::of(&mut self.verdicts),
            settled: Quantiles::of(&mut self.settled),
            batch_rows: self.n_records as f64 / self.n_batches.max(1) as f64,
            cpu_ns: cpu_ns as f64 / self.n_records.max(1) as f64,
            n_rounds: 0,
        }
    }
}

/// A lane's source that notes what it hands over.
struct TimedSource {
    inner: KafkaSource,
    log: SharedLog,
    said: bool,
}

impl Source for TimedSource {
    fn poll(&mut self, max: usize, timeout: Duration, take: &mut dyn FnMut(Raw<'_>)) -> Result<Polled, SourceError> {
        if !self.said && !self.inner.lags().is_empty() {
            self.said = true;
            child::say(READY).map_err(|error| SourceError::Fatal(error.to_string()))?;
        }
        let mut log = open(&self.log);
        log.judged();
        let taken = &mut log.taken;
        self.inner.poll(max, timeout, &mut |raw| {
            let mut sent = 0;
            if let Some(headers) = raw.headers {
                headers.each(&mut |name, value| {
                    if name == SENT {
                        sent = time_of(value);
                    }
                });
            }
            taken.push((raw.id.partition, raw.id.offset, sent));
            take(raw);
        })
    }

    fn store(&mut self, positions: &[Position]) -> usize {
        open(&self.log).settled(positions);
        self.inner.store(positions)
    }

    fn lags(&self) -> Vec<(Partition, i64)> {
        self.inner.lags()
    }

    fn has_joined(&self) -> bool {
        self.inner.has_joined()
    }

    fn has_recovered(&self) -> bool {
        self.inner.has_recovered()
    }

    fn close(&mut self) {
        self.inner.close();
    }
}

/// A lane's sink that knows when a batch has been judged: then its deliveries are served.
struct TimedSink {
    inner: KafkaSink,
    log: SharedLog,
}

impl Sink for TimedSink {
    fn send(&self, message: &Outgoing<'_>, receipt: &Receipt) -> Result<(), SinkError> {
        self.inner.send(message, receipt)
    }

    fn poll(&self, timeout: Duration) {
        open(&self.log).judged();
        self.inner.poll(timeout);
    }

    fn flush(&self, timeout: Duration) -> bool {
        self.inner.flush(timeout)
    }
}

fn time_of(header: Option<&[u8]>) -> u64 {
    header.and_then(|bytes| bytes.try_into().ok()).map_or(0, u64::from_le_bytes)
}

/// Runs a lane until the parent says that it is enough.
pub fn strayd(job: &Job) -> anyhow::Result<Delay> {
    blas::init();
    let mut raw = job.place.raw_config(&job.setup, 1);
    if job.trains {
        raw.training.enabled = true;
        raw.training.retrain_gap = Duration::from_millis(1);
        raw.model.retrain_records = 256;
    }
    let config = checked(raw)?;
    let shared = app::shared(&config, Arc::new(Metrics::new()), Health::new(1));
    shared.cell.swap(Arc::new(Directory::new(&config.registry).load(1)?));
    source::pin_start(&config.kafka, &config.input).map_err(|reason| anyhow!(reason))?;

    let log = SharedLog::default();
    let inner = KafkaSink::new(&config.kafka, &config.output, "strayd-out-0")?;
    let sink: Arc<dyn Sink> = Arc::new(TimedSink { inner, log: Arc::clone(&log) });
    let settling = Arc::new(Settling::new(Arc::clone(&sink), config.pipeline.drain_timeout, config.threshold.rewind()));
    let listener: Arc<dyn Assignment> = Arc::clone(&settling) as _;
    let inner = KafkaSource::subscribe(&config.kafka, &config.input, 0, listener)?;
    let source = TimedSource { inner, log: Arc::clone(&log), said: false };
    let lane = Lane::new(0, shared.clone(), Box::new(source), sink, settling);

    let shutdown = Shutdown::default();
    let trainer = job.trains.then(|| trainer(&config, &shared, &shutdown)).transpose()?;
    let cpu_before = process_cpu_ns();
    std::thread::scope(|scope| {
        let (on_lane, on_trainer) = (&shutdown, trainer);
        let lane = scope.spawn(move || lane.run(on_lane));
        let trainer = on_trainer.map(|trainer| scope.spawn(move || trainer.run()));
        let asked = child::wait_for_end();
        shutdown.begin();
        lane.join().map_err(|_| anyhow!("the lane panicked"))??;
        if let Some(trainer) = trainer {
            trainer.join().map_err(|_| anyhow!("the trainer panicked"))??;
        }
        asked
    })?;
    let cpu = process_cpu_ns() - cpu_before;
    let mut delay = std::mem::take(&mut *open(&log)).into_delay(cpu);
    delay.n_rounds = shared.metrics.training_duration_seconds.get_sample_count();
    Ok(delay)
}

fn trainer(config: &Config, shared: &Shared, shutdown: &Shutdown) -> anyhow::Result<Trainer> {
    let history = TopicHistory::new(&config.kafka, &config.input.topic, config.history.read_timeout)
        .map_err(|error| anyhow!("history: {error}"))?;
    let registry = Box::new(Directory::new(&config.registry));
    Ok(Trainer::new(shared.clone(), Box::new(history), registry, app::settings(config), shutdown.clone()))
}

/// Reads like a lane, drops what it reads, and ends like [`strayd`].
pub fn discard(job: &Job) -> anyhow::Result<Delay> {
    let mut batches = bare::subscribe(&job.place)?;
    let deadline = Instant::now() + JOIN_MAX;
    while batches.consumer().assignment()?.count() == 0 {
        ensure!(Instant::now() < deadline, "no partition was assigned in time");
        let early = batches.take(1, Duration::from_millis(10), |_| ())?;
        ensure!(early == 0, "the topic was not empty");
    }
    child::say(READY)?;
    let shutdown = Shutdown::default();
    let cpu_before = process_cpu_ns();
    let log = std::thread::scope(|scope| {
        let reading = scope.spawn(|| read(&mut batches, &shutdown));
        let asked = child::wait_for_end();
        shutdown.begin();
        let log = reading.join().map_err(|_| anyhow!("the reader panicked"))??;
        asked.map(|()| log)
    })?;
    Ok(log.into_delay(process_cpu_ns() - cpu_before))
}

fn read(batches: &mut BatchConsumer<Forwarding>, shutdown: &Shutdown) -> anyhow::Result<Log> {
    let (mut log, max) = (Log::default(), strayd::pipeline::Config::default().rows_max);
    while !shutdown.begun() {
        let taken = &mut log.taken;
        batches.take(max, Duration::from_millis(100), |message| {
            let mut sent = 0;
            message.each_header(&mut |name, value| {
                if name == SENT {
                    sent = time_of(value);
                }
            });
            taken.push((message.partition().into(), message.offset(), sent));
        })?;
        log.judged();
        log.unsettled.clear();
    }
    Ok(log)
}
