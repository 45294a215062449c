//! However much comes, strayd holds a bounded part of it: keys without end, anomalies and rejects without end, an output that
//! takes little or nothing. In memory; `tests/outage.rs` has the same against a real Kafka.

mod support;

use std::fs;
use std::ops::ControlFlow;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use ndarray::Array2;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use strayd::alert::{Flagged, IncidentConfig, Seen, Tracker};
use strayd::app;
use strayd::config::{Config, RawConfig};
use strayd::pipeline::Shared;
use strayd::pipeline::inflight::Settling;
use strayd::pipeline::lane::{Lane, Step};
use strayd::preprocess::Schema;
use strayd::record::RecordId;
use strayd::shutdown::Shutdown;
use strayd::sink::{Outgoing, Receipt, Sink, SinkError};
use strayd::source::{Polled, Position, Raw, Source, SourceError};
use strayd::telemetry::Metrics;
use strayd::telemetry::health::{Health, Phase};
use strayd::threshold::{Kind, Severity};
use strayd::train::{self, Rows};
use support::{holds_within, wait_until};

const SOON: Duration = Duration::from_secs(60);
const N_FEATURES: usize = 4;
const ORDINARY: &[u8] = b"[1.0, 2.0, 3.0, 4.0]";
const ANOMALOUS: &[u8] = b"[2.0, -4.0, 6.0, -8.0]";
const BAD: &[u8] = b"[1.0, 2.0";
/// Messages that the producer of these tests has room for.
const ROOM: usize = 100;

/// Resident memory, bytes.
fn rss() -> u64 {
    let status = fs::read_to_string("/proc/self/status").expect("this is Linux");
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).expect("the line is there");
    line.split_whitespace().nth(1).and_then(|word| word.parse::<u64>().ok()).expect("a number of kB") * 1024
}

/// Processor time of a thread of this process so far, seconds.
fn cpu_seconds(thread: &str) -> f64 {
    let stat = fs::read_to_string(format!("/proc/self/task/{thread}/stat")).expect("the thread runs");
    let (_, fields) = stat.rsplit_once(')').expect("the name is in brackets");
    let ticks =
        |i: usize| fields.split_whitespace().nth(i).and_then(|word| word.parse::<f64>().ok()).expect("a number");
    (ticks(11) + ticks(12)) / 100.0
}

/// Hands out so many records, each with a key of its own, in two partitions.
struct Endless {
    n: usize,
    n_max: usize,
    payload_of: fn(usize) -> &'static [u8],
    settled: Arc<Mutex<[i64; 2]>>,
}

impl Source for Endless {
    fn poll(&mut self, max: usize, _: Duration, take: &mut dyn FnMut(Raw<'_>)) -> Result<Polled, SourceError> {
        let n = max.min(self.n_max - self.n);
        for _ in 0..n {
            let key = format!("key-{}", self.n);
            take(Raw {
                id: RecordId { partition: ((self.n % 2) as i32).into(), offset: (self.n / 2) as i64 },
                time_ms: self.n as i64,
                key: Some(key.as_bytes()),
                payload: Some((self.payload_of)(self.n)),
                headers: None,
            });
            self.n += 1;
        }
        Ok(if n == 0 { Polled::End } else { Polled::Records(n) })
    }

    fn store(&mut self, positions: &[Position]) -> Result<usize, SourceError> {
        let mut settled = self.settled.lock().expect("nobody panicked");
        positions.iter().for_each(|at| settled[at.next.partition.number as usize] = at.next.offset);
        Ok(0)
    }
}

/// A producer with room for few messages, which acknowledges some with each poll, or none while it is dead.
#[derive(Default)]
struct Narrow {
    waiting: Mutex<Vec<Receipt>>,
    n_sent: AtomicUsize,
    n_most: AtomicUsize,
    per_poll: AtomicUsize,
}

impl Narrow {
    fn acknowledge(&self, n: usize) {
        let mut waiting = self.waiting.lock().expect("nobody panicked");
        let n = n.min(waiting.len());
        waiting.drain(..n).for_each(|receipt| receipt.acknowledge());
    }
}

impl Sink for Narrow {
    fn send(&self, _: &Outgoing<'_>, receipt: &Receipt) -> Result<(), SinkError> {
        let mut waiting = self.waiting.lock().expect("nobody panicked");
        if waiting.len() >= ROOM {
            return Err(SinkError::Full);
        }
        receipt.expect();
        waiting.push(receipt.clone());
        self.n_sent.fetch_add(1, Ordering::Relaxed);
        self.n_most.fetch_max(waiting.len(), Ordering::Relaxed);
        Ok(())
    }

    fn poll(&self, timeout: Duration) {
        // As librdkafka: the wait lasts until there is something to serve.
        holds_within(timeout, || self.per_poll.load(Ordering::Relaxed) > 0);
        self.acknowledge(self.per_poll.load(Ordering::Relaxed));
    }

    fn flush(&self, timeout: Duration) -> bool {
        self.poll(timeout);
        self.waiting.lock().expect("nobody panicked").is_empty()
    }
}

struct Bench {
    lane: Lane,
    shared: Shared,
    sink: Arc<Narrow>,
    settled: Arc<Mutex<[i64; 2]>>,
}

/// A lane with a model and a fixed threshold over `n_max` records.
fn bench(n_max: usize, per_poll: usize, payload_of: fn(usize) -> &'static [u8]) -> Bench {
    let mut rng = ChaCha8Rng::seed_from_u64(7);
    let mut values = Array2::zeros((600, N_FEATURES));
    for mut row in values.rows_mut() {
        let cause: f32 = rng.random_range(-2.0..2.0);
        row.iter_mut().enumerate().for_each(|(j, v)| *v = cause * (j as f32 + 1.0) + rng.random_range(-0.1..0.1));
    }
    let ids = (0..600).map(|offset| RecordId { partition: 9.into(), offset }).collect();
    let schema = Arc::new(Schema::new(["a", "b", "c", "d"]).expect("four names"));
    let config = train::Config::default();
    let fitted = train::fit(schema, &Rows::new(values, ids), &config, 0, &mut |_| ControlFlow::Continue(()));
    let mut raw = RawConfig::default();
    raw.input.topic = "features".into();
    raw.output.incidents = Some("incidents".into());
    raw.threshold.kind = Kind::Fixed;
    raw.pipeline.rows_max = 64;
    raw.pipeline.inflight_max = 8;
    let config = Config::check(raw).expect("the configuration is right");
    let shared = app::shared(&config, Arc::new(Metrics::new()), Health::new(1));
    shared.cell.swap(Arc::new(fitted.expect("600 rows are enough").into_model(1, 0)));
    shared.health.enter(Phase::Running);
    let sink = Arc::new(Narrow { per_poll: AtomicUsize::new(per_poll), ..Narrow::default() });
    let as_sink = || Arc::clone(&sink) as Arc<dyn Sink>;
    let settling = Arc::new(Settling::new(as_sink(), Duration::ZERO, 0));
    let settled = Arc::new(Mutex::new([0; 2]));
    let source = Endless { n: 0, n_max, payload_of, settled: Arc::clone(&settled) };
    let lane = Lane::new(0, shared.clone(), Box::new(source), as_sink(), settling);
    Bench { lane, shared, sink, settled }
}

/// The sum of a metric's samples on the page.
fn metric(shared: &Shared, name: &str) -> f64 {
    let page = shared.metrics.encode(0, &shared.health);
    let of_name = page.lines().filter(|line| line.starts_with(name));
    of_name.filter_map(|line| line.rsplit_once(' ')?.1.parse::<f64>().ok()).sum()
}

/// Runs to the end, and returns the most batches that were ever in flight, and how much memory grew after the first quarter.
fn run(bench: &mut Bench, n_max: usize) -> (f64, i64) {
    let (mut n_inflight_most, mut n_steps, mut early) = (0.0_f64, 0_usize, 0);
    while bench.lane.step().expect("nothing fails") != Step::End {
        n_steps += 1;
        if n_steps == n_max / 64 / 4 {
            early = rss() as i64;
        }
        if n_steps.is_multiple_of(64) {
            n_inflight_most = n_inflight_most.max(metric(&bench.shared, "strayd_inflight_batches"));
        }
    }
    (n_inflight_most, rss() as i64 - early)
}

/// `STRAYD_BOUNDS_KEYS` says how many: ten million take half a minute.
#[test]
fn millions_of_keys_are_followed_in_bounded_memory_and_time() {
    let n_keys = std::env::var("STRAYD_BOUNDS_KEYS").map_or(2_000_000, |n| n.parse::<i64>().expect("a number"));
    let config = IncidentConfig::default();
    let mut tracker = Tracker::new(config.clone());
    let (mut events, mut n_events, before, began) = (Vec::new(), 0, rss(), Instant::now());
    for i in 0..n_keys {
        let key = (i as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15).to_le_bytes();
        let flagged = (i % 4 == 0).then_some(Flagged { severity: Severity::Low, features: &[] });
        let seen = Seen {
            id: RecordId { partition: 0.into(), offset: i },
            // Half of the keys are displaced, and half run out of time.
            time_ms: if i < n_keys / 2 { i / 1000 } else { i * 20 },
            key: Some(&key),
            ratio: 1.5,
            p_value: 1e-4,
            restless: flagged.is_some(),
            shifted: false,
            flagged,
        };
        tracker.observe(&seen, &mut events);
        assert!(tracker.n_open() <= config.open_max);
        n_events += events.drain(..).count();
    }
    let (grown, took) = (rss().saturating_sub(before), began.elapsed());
    println!("{n_keys} keys: {took:?}, memory grew by {} kB, {n_events} events", grown / 1024);
    assert!(n_events as i64 > n_keys / 3, "each of those that were flagged was told of");
    assert!(grown < 128 << 20, "{grown}");
    assert!(took < Duration::from_secs(120), "{took:?}");
}

#[test]
fn keys_without_end_cost_a_lane_no_memory() {
    const N: usize = 200_000;
    let mut bench = bench(N, ROOM, |i| if i % 16 == 0 { ANOMALOUS } else { ORDINARY });
    let (n_inflight_most, grown) = run(&mut bench, N);
    let n_open = metric(&bench.shared, "strayd_incidents_open");
    println!("{N} keys through a lane: memory grew by {} kB, {n_open} incidents are open", grown / 1024);
    assert!(n_open > 1000.0 && n_open <= 20_000.0 && n_inflight_most <= 8.0, "{n_open} {n_inflight_most}");
    assert!(grown < 64 << 20, "{grown}");
}

#[test]
fn a_torrent_of_anomalies_and_rejects_never_outgrows_a_slow_output() {
    const N: usize = 20_000;
    let mut bench = bench(N, 7, |i| if i % 2 == 0 { ANOMALOUS } else { BAD });
    let (n_inflight_most, grown) = run(&mut bench, N);
    bench.sink.per_poll.store(usize::MAX, Ordering::Relaxed);
    bench.sink.acknowledge(usize::MAX);
    while bench.lane.step() != Ok(Step::End) {}
    let (n_sent, n_most) = (bench.sink.n_sent.load(Ordering::Relaxed), bench.sink.n_most.load(Ordering::Relaxed));
    println!(
        "{n_sent} messages, {n_most} waiting at most, {n_inflight_most} batches, memory grew by {} kB",
        grown / 1024
    );
    assert!(n_sent >= N && n_most <= ROOM && n_inflight_most <= 8.0, "{n_sent} {n_most} {n_inflight_most}");
    assert_eq!(*bench.settled.lock().expect("nobody panicked"), [N as i64 / 2; 2], "all is settled at last");
    assert!(grown < 64 << 20, "{grown}");
}

#[test]
fn a_dead_output_is_waited_for_idly_and_visibly_and_reading_goes_on_by_itself() {
    const N: usize = 20_000;
    let Bench { lane, shared, sink, settled } = bench(N, 0, |_| ANOMALOUS);
    let (say, said) = mpsc::sync_channel(1);
    let run = move || {
        let id = fs::read_link("/proc/thread-self").expect("this is Linux");
        say.send(id.file_name().expect("a thread has a number").to_string_lossy().into_owned()).expect("it is heard");
        lane.run(&Shutdown::default())
    };
    let running = thread::Builder::new().name("lane".to_owned()).spawn(run).expect("a thread starts");
    let id = said.recv().expect("the lane starts");
    wait_until(SOON, "a full producer", || sink.n_sent.load(Ordering::Relaxed) == ROOM);
    let (began, cpu, n_before) = (Instant::now(), cpu_seconds(&id), rss());
    wait_until(SOON, "the reason in /readyz", || {
        shared.health.readiness().waiting_for.join("").contains("not acknowledged")
    });
    let share = (cpu_seconds(&id) - cpu) / began.elapsed().as_secs_f64();
    let waited = metric(&shared, "strayd_output_wait_seconds_total");
    println!(
        "a dead output: {share:.3} of a core, {waited:.1} s counted, memory grew by {} kB",
        (rss().saturating_sub(n_before)) / 1024
    );
    assert!(share < 0.3 && waited > 3.0, "{share} {waited}");
    assert!(shared.health.liveness(strayd::telemetry::now_ms()).is_ok(), "to wait is no reason to be restarted");
    assert_eq!(*settled.lock().expect("nobody panicked"), [0; 2]);
    sink.per_poll.store(usize::MAX, Ordering::Relaxed);
    running.join().expect("no panic").expect("nothing fails");
    assert!(shared.health.readiness().waiting_for.is_empty(), "{:?}", shared.health.readiness());
    assert_eq!(*settled.lock().expect("nobody panicked"), [N as i64 / 2; 2]);
}
