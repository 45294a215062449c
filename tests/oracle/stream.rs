//! The records of the oracle: what number `n` is follows from `n`, and its number stands in its key and its payload.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use crate::support::{Broker, Outgoing, Sensors, holds_within, to_json};

/// Partitions of the features topic.
pub const N_PARTITIONS: usize = 6;
/// Features of a record.
pub const N_FEATURES: usize = 8;
/// Records before the first numbered one, from which the model is made.
pub const N_HISTORY: usize = 4_000;
/// Records are sent when those of so long are due, which comes soon.
const BURST: Duration = Duration::from_millis(20);
const SOON: Duration = Duration::from_secs(60);

/// How a record must end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Class {
    /// Scored; published only if its score says so.
    Ordinary,
    /// Scored and published: one value is grossly off.
    Anomalous,
    /// Rejected to the dead-letter topic.
    Bad,
    /// Passed over: it has no payload.
    Tombstone,
}

/// What record `n` is.
pub fn class_of(n: u64) -> Class {
    match n % 100 {
        37 => Class::Anomalous,
        71 => Class::Bad,
        89 => Class::Tombstone,
        _ => Class::Ordinary,
    }
}

/// Key of record `n`.
pub fn key_of(n: u64) -> String {
    format!("k{n}")
}

/// The number in a key; nothing where the key is none of ours.
pub fn number_of(key: Option<&[u8]>) -> Option<u64> {
    std::str::from_utf8(key?).ok()?.strip_prefix('k')?.parse().ok()
}

/// A record of the history.
pub fn history(i: usize, sensors: &mut Sensors) -> Outgoing {
    Outgoing::value(sensors.json()).key("history").partition((i % N_PARTITIONS) as i32)
}

/// Record `n`.
pub fn record(n: u64, sensors: &mut Sensors) -> Outgoing {
    let mut row = sensors.row();
    let turn = n / 100;
    let value = match class_of(n) {
        Class::Tombstone => None,
        Class::Bad => Some(bad(n, turn)),
        Class::Anomalous => {
            row[turn as usize % N_FEATURES] += if turn.is_multiple_of(2) { 40.0 } else { -40.0 };
            Some(good(n, &row))
        }
        Class::Ordinary => Some(good(n, &row)),
    };
    let now = SystemTime::UNIX_EPOCH.elapsed().expect("the clock is past 1970").as_millis();
    let plain = Outgoing {
        value,
        key: Some(key_of(n).into_bytes()),
        partition: Some((n % N_PARTITIONS as u64) as i32),
        timestamp_ms: Some(now as i64),
        headers: Vec::new(),
    };
    if turn.is_multiple_of(3) { plain.header("site", "north").header("raw", vec![0, 255, n as u8]) } else { plain }
}

fn good(n: u64, row: &[f64]) -> Vec<u8> {
    to_json(row).replacen('{', &format!("{{\"n\": {n}, "), 1).into_bytes()
}

fn bad(n: u64, turn: u64) -> Vec<u8> {
    match turn % 5 {
        0 => format!("{{\"n\": {n}, \"s0\": 1").into_bytes(),
        1 => format!("[{n}, 2]").into_bytes(),
        2 => format!("{{\"n\": {n}, \"s0\": \"high\"}}").into_bytes(),
        3 => Vec::new(),
        _ => [b"\xff\xfe".as_slice(), &n.to_be_bytes()].concat(),
    }
}

/// A producer in its own thread, which numbers records at a steady rate until it is stopped.
pub struct Feeder {
    stop: Arc<AtomicBool>,
    n_sent: Arc<AtomicU64>,
    thread: thread::JoinHandle<Sensors>,
}

impl Feeder {
    /// Starts with record `first`, `rate` records a second.
    pub fn start(brokers: &str, topic: &str, first: u64, rate: f64, mut sensors: Sensors) -> Self {
        let sender = Broker::at(brokers).sender(topic);
        let (stop, n_sent) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(first)));
        let (ended, n) = (Arc::clone(&stop), Arc::clone(&n_sent));
        let work = move || {
            let (began, mut next) = (Instant::now(), first);
            while !ended.load(Ordering::Relaxed) {
                let due = first + (began.elapsed().as_secs_f64() * rate) as u64;
                while next < due && !ended.load(Ordering::Relaxed) {
                    sender.send(&record(next, &mut sensors));
                    next += 1;
                    n.store(next, Ordering::Relaxed);
                }
                let enough = next as f64 + rate * BURST.as_secs_f64();
                let is_due = || first as f64 + began.elapsed().as_secs_f64() * rate >= enough;
                holds_within(SOON, || is_due() || ended.load(Ordering::Relaxed));
            }
            sender.finish();
            sensors
        };
        let thread = thread::Builder::new().name("feeder".to_owned()).spawn(work).expect("a thread starts");
        Self { stop, n_sent, thread }
    }

    /// Stops, waits until everything is acknowledged, and returns the number after the last one.
    pub fn stop(self) -> (u64, Sensors) {
        self.stop.store(true, Ordering::Relaxed);
        let sensors = self.thread.join().expect("every record was delivered");
        (self.n_sent.load(Ordering::Relaxed), sensors)
    }
}
