//! Threads and what watches them: panics and failures, signals, systemd, the deadline of the end.

use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context, anyhow};
use tokio::signal::unix::{SignalKind, signal};

use super::reload::{Asked, Reloader};
use crate::admin::Admin;
use crate::config::Sources;
use crate::pipeline::trainer::requests::Requests;
use crate::shutdown::Shutdown;
use crate::telemetry::health::{Health, Phase};
use crate::telemetry::{Metrics, now_ms};
use crate::{admin, blas};

/// A supervised thread.
pub struct Worker {
    name: String,
    thread: JoinHandle<anyhow::Result<()>>,
}

/// Whether the daemon listens to the process's signals.
#[derive(Clone, Debug)]
pub enum OnSignals {
    /// SIGTERM and SIGINT begin the drain, a second one exits at once; SIGUSR1 asks for a training round.
    Drain,
    /// The same, and SIGHUP reads the configuration again, from here.
    DrainAndReload(Sources),
    /// Signals are left to the caller.
    Ignore,
}

/// What signals are handed on to.
pub struct Heard {
    /// The end.
    pub shutdown: Shutdown,
    /// Requests for a training round.
    pub requests: Requests,
    /// Requests for a reload.
    pub reload: Asked,
}

/// Starts a named thread.
pub fn spawn(name: &str, work: impl FnOnce() -> anyhow::Result<()> + Send + 'static) -> anyhow::Result<Worker> {
    let thread = std::thread::Builder::new().name(name.into()).spawn(work).context("a thread can't be started")?;
    Ok(Worker { name: name.into(), thread })
}

/// Takes out the threads that have ended, and returns the first failure among them.
pub fn reap(workers: &mut Vec<Worker>) -> Option<anyhow::Error> {
    let ended = workers.extract_if(.., |worker| worker.thread.is_finished()).collect::<Vec<_>>();
    ended.into_iter().find_map(join)
}

fn join(worker: Worker) -> Option<anyhow::Error> {
    let Worker { name, thread } = worker;
    thread.join().unwrap_or_else(|_| Err(anyhow!("thread `{name}` panicked"))).err()
}

/// Waits for every thread until `deadline`, and returns the first failure; a thread that hangs is one.
pub fn join_all(workers: &mut Vec<Worker>, deadline: Instant) -> Option<anyhow::Error> {
    let pause = Shutdown::default();
    let mut failure = None;
    while !workers.is_empty() {
        failure = failure.or(reap(workers));
        if Instant::now() >= deadline {
            let names: Vec<_> = workers.iter().map(|worker| worker.name.as_str()).collect();
            return failure.or(Some(anyhow!("{} did not end within pipeline.shutdown_timeout", names.join(", "))));
        }
        pause.sleep(Duration::from_millis(5));
    }
    failure
}

/// Starts the admin server's thread; its runtime listens to signals, too.
pub fn spawn_admin(
    listener: std::net::TcpListener,
    state: Admin,
    heard: Heard,
    end: Shutdown,
    on_signals: OnSignals,
) -> anyhow::Result<Worker> {
    listener.set_nonblocking(true)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    spawn("admin", move || {
        runtime.block_on(async move {
            let listener = tokio::net::TcpListener::from_std(listener)?;
            let (listens, reloads) = match on_signals {
                OnSignals::Drain => (true, false),
                OnSignals::DrainAndReload(_) => (true, true),
                OnSignals::Ignore => (false, false),
            };
            if listens {
                let health = state.health.clone();
                tokio::spawn(drain_on_signal(heard.shutdown, health)?);
                tokio::spawn(train_on_signal(heard.requests)?);
            }
            if reloads {
                tokio::spawn(reload_on_signal(heard.reload)?);
            }
            let ended = async move {
                while !end.begun() {
                    tokio::time::sleep(Duration::from_millis(50)).await;
                }
            };
            admin::serve(listener, state, ended).await;
            Ok(())
        })
    })
}

/// Begins the drain on the first signal and exits on the second.
fn drain_on_signal(shutdown: Shutdown, health: Health) -> std::io::Result<impl Future<Output = ()>> {
    let (mut term, mut int) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    Ok(async move {
        loop {
            let name = tokio::select! { _ = term.recv() => "SIGTERM", _ = int.recv() => "SIGINT" };
            if shutdown.begun() {
                tracing::warn!(signal = name, "a second signal: exiting now; what was not settled comes again");
                #[expect(clippy::disallowed_methods, reason = "the second signal means now, whatever still runs")]
                std::process::exit(1);
            }
            tracing::info!(signal = name, "draining");
            health.enter(Phase::Draining);
            shutdown.begin();
        }
    })
}

/// Asks for a training round on SIGUSR1.
fn train_on_signal(requests: Requests) -> std::io::Result<impl Future<Output = ()>> {
    let mut asked = signal(SignalKind::user_defined1())?;
    Ok(async move {
        while asked.recv().await.is_some() {
            tracing::info!(signal = "SIGUSR1", "a training round was asked for");
            requests.ask();
        }
    })
}

/// Asks for a reload on SIGHUP; the thread that looks after the others does it.
fn reload_on_signal(reload: Asked) -> std::io::Result<impl Future<Output = ()>> {
    let mut asked = signal(SignalKind::hangup())?;
    Ok(async move {
        while asked.recv().await.is_some() {
            reload.ask();
        }
    })
}

/// Tells systemd how the daemon is.
pub struct Watchdog {
    interval: Option<Duration>,
    last_fed: Instant,
    was_ready: bool,
    was_refused: bool,
    status: String,
}

impl Watchdog {
    /// A watchdog that is fed at half of what systemd asks for.
    pub fn new() -> Self {
        let interval = sd_notify::watchdog_enabled().map(|interval| interval / 2);
        Self { interval, last_fed: Instant::now(), was_ready: false, was_refused: false, status: String::new() }
    }

    /// Tells systemd what is news, and that the lanes make progress if they do.
    pub fn feed(&mut self, health: &Health) {
        let readiness = health.readiness();
        if readiness.ready && !self.was_ready {
            self.was_ready = true;
            tell(&[sd_notify::NotifyState::Ready]);
            tracing::info!("ready");
        }
        let mut status = match readiness.phase {
            Phase::Starting { reason } | Phase::Warmup { reason, .. } => reason,
            Phase::Running if readiness.waiting_for.is_empty() => "scoring".into(),
            Phase::Running => readiness.waiting_for.join("; "),
            Phase::Draining => "draining".into(),
        };
        if self.was_refused {
            status.push_str("; the last configuration was refused, the log says why");
        }
        if status != self.status {
            tell(&[sd_notify::NotifyState::Status(&status)]);
            self.status = status;
        }
        if self.interval.is_some_and(|interval| self.last_fed.elapsed() >= interval)
            && health.liveness(now_ms()).is_ok()
        {
            self.last_fed = Instant::now();
            tell(&[sd_notify::NotifyState::Watchdog]);
        }
    }

    /// Reloads the configuration if somebody asked, and lets systemd know when that begins and ends.
    pub fn reload(&mut self, reloader: &mut Reloader) {
        if !reloader.is_due() {
            return;
        }
        // Before the daemon is ready, to say that it is ready again would say too much.
        if self.was_ready {
            let began = sd_notify::NotifyState::monotonic_usec_now();
            tell(&[sd_notify::NotifyState::Reloading].into_iter().chain(began).collect::<Vec<_>>());
        }
        self.was_refused = !reloader.reload();
        if self.was_ready {
            tell(&[sd_notify::NotifyState::Ready]);
        }
    }

    /// Tells systemd that the daemon ends.
    pub fn stopping() {
        tell(&[sd_notify::NotifyState::Stopping]);
    }
}

fn tell(state: &[sd_notify::NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(state) {
        tracing::debug!(%error, "systemd was not told");
    }
}

/// Shows version, BLAS and start time in the metrics, and says where BLAS is much slower than it could be.
pub fn show_build(metrics: &Arc<Metrics>, now_ms: i64) {
    if let Some(kernels) = blas::better_kernels() {
        let blas = blas::info();
        tracing::warn!(
            blas,
            "OpenBLAS runs kernels of an old processor; OPENBLAS_CORETYPE={kernels} gives several times the speed"
        );
    }
    metrics.build_info.with_label_values(&[env!("CARGO_PKG_VERSION"), env!("STRAYD_REVISION")]).set(1);
    metrics.blas_info.with_label_values(&[&blas::info()]).set(1);
    metrics.blas_threads.set(i64::from(blas::threads()));
    metrics.start_time_seconds.set(now_ms as f64 / 1000.0);
}

/// Version of the binary and of the libraries that matter.
pub fn version() -> serde_json::Value {
    serde_json::json!({
        "version": env!("CARGO_PKG_VERSION"),
        "revision": env!("STRAYD_REVISION"),
        "blas": blas::info(),
        "librdkafka": crate::kafka::library_version(),
    })
}
