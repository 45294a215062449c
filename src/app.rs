//! The composition root: builds everything from a [`Config`], starts the threads, and awaits the end.
//!
//! Order of a start: admin server and signals, brokers and topics (waited for, visibly), the pinned start, the
//! trainer, and, once a model scores, the lanes. Any thread that fails ends all: crash-only beats half-alive.

mod clock;
mod logs;
mod reload;
mod supervise;

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context, anyhow, bail};

pub use logs::init as init_logs;
use reload::Reloader;
pub use supervise::{OnSignals, version};

use crate::admin::{Admin, Guard, Pulse};
use crate::blas;
use crate::config::Config;
use crate::history::{Bound, History, TopicHistory};
use crate::journal::{Desk, FileJournal, Journal, TopicJournal};
use crate::kafka::{Transactional, check_compacted, ensure_compacted};
use crate::model::ModelCell;
use crate::pipeline::Shared;
use crate::pipeline::inflight::Settling;
use crate::pipeline::lane::Lane;
use crate::pipeline::live::{Live, RuleBook, Tuning};
use crate::pipeline::trainer::requests::Requests;
use crate::pipeline::trainer::{Commands, Heard, Settings, Trainer};
use crate::record::Topics;
use crate::registry::{Shelf, Versions};
use crate::schema_registry::{HttpRegistry, SchemaError, Schemas};
use crate::shutdown::Shutdown;
use crate::sink::{Encoder, KafkaSink, Sink};
use crate::source::{Assignment, KafkaSource, pin_start};
use crate::telemetry::health::{Health, Phase};
use crate::telemetry::view::View;
use crate::telemetry::{Metrics, now_ms};

/// Where commands and feedback are kept beside the models when no topic is named.
const COMMANDS_FILE: &str = "commands.jsonl";
const FEEDBACK_FILE: &str = "feedback.jsonl";
/// Longest pause between two attempts to reach the brokers.
const BACK_OFF_MAX: Duration = Duration::from_secs(5);
/// How often the supervisor looks after the threads.
const WATCH_INTERVAL: Duration = Duration::from_millis(100);

/// A running daemon.
pub struct Daemon {
    /// What lanes and trainer share.
    pub shared: Shared,
    /// Address of the admin server.
    pub admin: SocketAddr,
    shutdown: Shutdown,
    main: JoinHandle<anyhow::Result<()>>,
}

/// What lanes and trainer share, made from the configuration.
pub fn shared(config: &Config, metrics: Arc<Metrics>, health: Health) -> Shared {
    Shared {
        detector: config.detector.name.as_str().into(),
        topics: Arc::new(config.input.topic.clone()),
        decode: config.decode.clone(),
        schemas: schemas(config),
        output: config.output.clone(),
        encoder: Encoder::default(),
        dead_letter: config.dead_letter.clone(),
        threshold: config.threshold.clone(),
        live: Live::new(tuning(config), rule_book(config)).expect("a checked configuration has right rules"),
        pipeline: config.pipeline.clone(),
        cell: Arc::new(ModelCell::default()),
        metrics,
        health,
        n_scored: Arc::new(AtomicU64::new(0)),
        n_alerts: Arc::new(AtomicU64::new(0)),
        desk: Desk::default(),
        n_shifts: Arc::new(AtomicU64::new(0)),
        requests: Requests::default(),
        view: View::default(),
    }
}

/// The schemas that records are written by.
pub fn schemas(config: &Config) -> Schemas {
    HttpRegistry::new(&config.schema_registry).map(|registry| Schemas::new(Box::new(registry))).unwrap_or_default()
}

/// Starts the daemon and returns when its admin server listens.
///
/// Errors: the admin address is taken, or the settings are refused.
pub fn start(config: Config, shutdown: Shutdown, on_signals: OnSignals) -> anyhow::Result<Daemon> {
    blas::init();
    let metrics = Arc::new(Metrics::new());
    supervise::show_build(&metrics, now_ms());
    let shared = shared(&config, Arc::clone(&metrics), Health::new(config.pipeline.lanes));
    let listener = std::net::TcpListener::bind(config.admin.listen)
        .with_context(|| format!("admin.listen = {}: the address can't be used", config.admin.listen))?;
    let admin_address = listener.local_addr()?;
    let token =
        config.admin.token_file.as_deref().map(|path| {
            std::fs::read_to_string(path).with_context(|| format!("admin.token_file = {}", path.display()))
        });
    let guard = Guard::new(admin_address.ip().is_loopback(), token.transpose()?.as_deref());
    let state = admin(&config, &shared, guard);
    let end = Shutdown::default();
    let sources = if let OnSignals::DrainAndReload(sources) = &on_signals { Some(sources.clone()) } else { None };
    let mut reloader = Reloader::new(sources, &config, &shared);
    let (requests, reload) = (shared.requests.clone(), reloader.asked());
    let heard = supervise::Heard { shutdown: shutdown.clone(), requests, reload };
    let server = supervise::spawn_admin(listener, state, heard, end.clone(), on_signals)?;
    let thread = std::thread::Builder::new().name("strayd".into());
    let (for_thread, token) = (shared.clone(), shutdown.clone());
    let main = thread.spawn(move || {
        let outcome = run(&config, &for_thread, &token, &mut reloader);
        // The server answers until the very end, so that probes see the drain.
        end.begin();
        drop(server);
        outcome
    })?;
    tracing::info!(admin = %admin_address, "strayd {} started", env!("CARGO_PKG_VERSION"));
    Ok(Daemon { shared, admin: admin_address, shutdown, main })
}

/// What the admin server shows.
fn admin(config: &Config, shared: &Shared, guard: Guard) -> Admin {
    Admin {
        detector: Arc::clone(&shared.detector),
        metrics: Arc::clone(&shared.metrics),
        health: shared.health.clone(),
        version: Arc::new(version()),
        guard,
        desk: shared.desk.clone(),
        view: shared.view.clone(),
        cell: Arc::clone(&shared.cell),
        shelf: Arc::new(Shelf::new(&config.registry)),
        n_scored: Arc::clone(&shared.n_scored),
        n_alerts: Arc::clone(&shared.n_alerts),
        pulse: Pulse::default(),
    }
}

impl Daemon {
    /// Whether the daemon has ended.
    pub fn has_ended(&self) -> bool {
        self.main.is_finished()
    }

    /// Asks the daemon to end.
    pub fn stop(&self) {
        self.shutdown.begin();
    }

    /// Waits for the end.
    ///
    /// Errors: what made a thread fail.
    pub fn wait(self) -> anyhow::Result<()> {
        self.main.join().map_err(|_| anyhow!("the daemon's main thread panicked"))?
    }
}

fn run(config: &Config, shared: &Shared, shutdown: &Shutdown, reloader: &mut Reloader) -> anyhow::Result<()> {
    let Some(encoder) = connect(config, shared, shutdown, reloader)? else { return Ok(()) };
    let shared = &Shared { encoder, ..shared.clone() };
    let mut threads = vec![spawn_trainer(config, shared, shutdown)?];
    let mut lanes_run = false;
    let (mut watchdog, mut clock) = (supervise::Watchdog::new(), clock::WallClock::new());
    let failure = loop {
        if let Some(failure) = supervise::reap(&mut threads) {
            break Some(failure);
        }
        if let Some(step) = clock.set_back() {
            break Some(anyhow!("the clock was set back by {step:.0?}: Kafka's client would stand still for as long"));
        }
        if !lanes_run && shared.cell.load().is_some() {
            for lane in 0..config.pipeline.lanes {
                threads.push(spawn_lane(config, shared, shutdown, lane)?);
            }
            lanes_run = true;
        }
        watchdog.feed(&shared.health);
        watchdog.reload(reloader);
        if shutdown.sleep(WATCH_INTERVAL) {
            break None;
        }
    };
    shutdown.begin();
    shared.health.enter(Phase::Draining);
    supervise::Watchdog::stopping();
    let late = supervise::join_all(&mut threads, Instant::now() + config.pipeline.shutdown_timeout);
    match failure.or(late) {
        Some(failure) => Err(failure),
        None => {
            tracing::info!("drained; everything acknowledged is settled");
            Ok(())
        }
    }
}

/// Asks the brokers once for every topic that the configuration names.
///
/// Errors: what is wrong, in words for the user.
pub fn check_cluster(config: &Config) -> Result<(), String> {
    let sink = KafkaSink::new(&config.kafka, &config.output, "strayd-check").map_err(|error| error.to_string())?;
    let mut history = TopicHistory::new(&config.kafka, &config.input.topic, config.history.read_timeout)?;
    history.extents(Bound::Settled)?;
    check_schema_registry(config, &schemas(config))?;
    sink.check_topics(Duration::from_secs(5))?;
    config.registry.topic.iter().try_for_each(|topic| check_compacted(&config.kafka, topic))
}

fn ensure_registry(config: &Config) -> Result<(), String> {
    config.registry.topic.iter().try_for_each(|topic| ensure_compacted(&config.kafka, topic))
}

/// Asks the schema registry whether it answers, where it is needed.
fn check_schema_registry(config: &Config, schemas: &Schemas) -> Result<(), String> {
    let is_needed = config.decode.format.needs_registry() || config.output.format.schema().is_some();
    match schemas.registry().filter(|_| is_needed) {
        Some(registry) => registry.ping().map_err(|error| error.to_string()),
        None => Ok(()),
    }
}

/// Has the schema of the anomalies registered, where their format has one, and the id that they name it by.
///
/// Errors: the registry is away, or refuses it; trying again may help.
fn register(config: &Config, schemas: &Schemas) -> Result<Encoder, String> {
    let (format, topic) = (config.output.format, &config.output.anomalies);
    let (Some(schema), Some(registry)) = (format.schema(), schemas.registry()) else { return Ok(Encoder::default()) };
    let subject = format!("{topic}-value");
    let id = registry.register(&subject, &schema).map_err(|error| match error {
        SchemaError::Unreachable(reason) => reason,
        SchemaError::Unknown(answer) => {
            format!("the schema of the anomalies can't be registered as a version of subject `{subject}`: {answer}")
        }
    })?;
    tracing::info!(subject, id, "anomalies are written by this schema");
    Ok(Encoder::new(format, id))
}

/// Waits for brokers, topics and schemas, and pins where reading starts. Returns none when the shutdown comes first.
fn connect(
    config: &Config,
    shared: &Shared,
    shutdown: &Shutdown,
    reloader: &mut Reloader,
) -> anyhow::Result<Option<Encoder>> {
    let sink = || KafkaSink::new(&config.kafka, &config.output, "strayd-check");
    sink().map_err(|error| anyhow!("kafka: {error}"))?;
    let (mut pause, mut last) = (Duration::from_millis(250), String::new());
    while !shutdown.begun() {
        if reloader.is_due() {
            reloader.reload();
        }
        // New clients every time: the password's file may have been mended.
        let reached = pin_start(&config.kafka, &config.input).and_then(|pinned| {
            let sink = sink().map_err(|error| error.to_string())?;
            sink.check_topics(Duration::from_secs(5))?;
            ensure_registry(config)?;
            check_schema_registry(config, &shared.schemas)?;
            Ok((pinned, register(config, &shared.schemas)?))
        });
        match reached {
            Ok((pinned, encoder)) => {
                for pin in &pinned {
                    let (partition, start) = (pin.next.partition, pin.next.offset);
                    let position = String::from(config.input.start);
                    tracing::info!(%partition, start, position, pin.low, pin.high, "no committed offset: start pinned");
                }
                if pinned.is_empty() {
                    tracing::info!(group = config.kafka.group, "going on from the group's committed offsets");
                }
                return Ok(Some(encoder));
            }
            Err(reason) => {
                if reason != last {
                    tracing::warn!(brokers = config.kafka.brokers, reason, "can't start yet; trying again");
                }
                shared.health.enter(Phase::Starting { reason: reason.clone() });
                last = reason;
            }
        }
        shutdown.sleep(pause);
        pause = (pause * 2).min(BACK_OFF_MAX);
    }
    Ok(None)
}

fn spawn_trainer(config: &Config, shared: &Shared, shutdown: &Shutdown) -> anyhow::Result<supervise::Worker> {
    let read = |topics: &Topics| {
        TopicHistory::new(&config.kafka, topics, config.history.read_timeout)
            .map_err(|error| anyhow!("history: {error}"))
    };
    let (history, anomalies) = (read(&config.input.topic)?, read(&config.output.anomalies.as_str().into())?);
    let heard = Heard::new(feedback_journal(config)?, Some(Box::new(anomalies)));
    let registry = Versions::open(&config.registry, &config.kafka)?;
    // A reload may have come while the brokers were awaited.
    let settings = Settings { trainer: shared.live.tuning().training.clone(), ..settings(config) };
    let trainer = Trainer::new(shared.clone(), Box::new(history), Box::new(registry), settings, shutdown.clone())
        .listening(heard)
        .obeying(Commands::new(commands_journal(config)?));
    let alive = shared.metrics.trainer_alive.clone();
    supervise::spawn("trainer", move || {
        alive.set(1);
        let outcome = trainer.run();
        alive.set(0);
        outcome.context("trainer")
    })
}

/// Where feedback is said: a topic, or a file beside the models.
///
/// Errors: the client's settings are refused, or a secret can't be read.
pub fn feedback_journal(config: &Config) -> anyhow::Result<Box<dyn Journal>> {
    journal(config, config.journal.feedback.as_deref(), FEEDBACK_FILE)
}

/// Where operators' commands are said: a topic, or a file beside the models.
///
/// Errors: as [`feedback_journal`].
pub fn commands_journal(config: &Config) -> anyhow::Result<Box<dyn Journal>> {
    journal(config, config.journal.commands.as_deref(), COMMANDS_FILE)
}

/// What a reload exchanges.
fn tuning(config: &Config) -> Tuning {
    Tuning {
        incidents: config.incidents.clone(),
        anomalies_per_minute: config.output.anomalies_per_minute,
        training: config.training.clone(),
    }
}

fn rule_book(config: &Config) -> RuleBook {
    let (suppress, maintenance) = (config.suppress.clone(), config.maintenance.clone());
    RuleBook { suppress, maintenance, features: config.features.clone() }
}

fn journal(config: &Config, topic: Option<&str>, file: &str) -> anyhow::Result<Box<dyn Journal>> {
    let Some(topic) = topic else { return Ok(Box::new(FileJournal::new(config.registry.path.join(file)))) };
    let journal = TopicJournal::new(&config.kafka, topic).map_err(|error| anyhow!("journal `{topic}`: {error}"))?;
    Ok(Box::new(journal))
}

/// What the trainer is told.
pub fn settings(config: &Config) -> Settings {
    Settings {
        trainer: config.training.clone(),
        model: config.model.clone(),
        history: config.history.clone(),
        features: config.schema.features.clone(),
        missing_indicator: config.schema.missing_indicator,
    }
}

fn spawn_lane(config: &Config, shared: &Shared, shutdown: &Shutdown, i: usize) -> anyhow::Result<supervise::Worker> {
    let kafka = &config.kafka;
    let sink = KafkaSink::of_lane(kafka, &config.output, i).map_err(|error| anyhow!("lane {i}: {error}"))?;
    let sink = Arc::new(sink);
    let transactions = kafka.is_exactly_once().then(|| Arc::clone(&sink) as Arc<dyn Transactional>);
    let sink: Arc<dyn Sink> = sink;
    let settling = Settling::new(Arc::clone(&sink), config.pipeline.drain_timeout, config.threshold.rewind());
    let settling = Arc::new(settling.exactly_once(kafka.is_exactly_once()));
    let listener: Arc<dyn Assignment> = Arc::clone(&settling) as _;
    let source = KafkaSource::subscribe(kafka, &config.input, i, listener, transactions)
        .map_err(|error| anyhow!("lane {i}: {error}"))?;
    let mut lane = Lane::new(i, shared.clone(), Box::new(source), sink, settling);
    if kafka.is_exactly_once() {
        lane = lane.committing(kafka.commit_interval());
    }
    let (shutdown, health) = (shutdown.clone(), shared.health.clone());
    supervise::spawn(&format!("lane-{i}"), move || {
        let outcome = lane.run(&shutdown);
        health.lane(i).ended();
        match outcome {
            Ok(()) if !shutdown.begun() => bail!("lane {i}: the source ended"),
            outcome => outcome.with_context(|| format!("lane {i}")),
        }
    })
}
