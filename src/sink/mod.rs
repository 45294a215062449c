//! Where results go: anomalies, changes of incidents, scores and dead letters.
//!
//! Sending is asynchronous. Each message belongs to the [`Receipt`] of its batch, and the batch is settled only when
//! every delivery of its receipt is acknowledged. A sink never drops a message and never blocks for long: when its
//! buffer is full it says so, and the lane waits.

pub mod anomaly;
mod encode;
pub mod incident;
mod kafka;
mod memory;

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use thiserror::Error;

pub use crate::kafka::{Ended, TRANSACTION_TIMEOUT};

pub use encode::{Encoder, Format};
pub use kafka::KafkaSink;
pub use memory::{MemorySink, Sent};

/// The topics that results go to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Topic of the anomalies.
    pub anomalies: String,
    /// How anomalies are written; [RECORDS.md](RECORDS.md#avro-and-protobuf) says what the last two are. The other
    /// outputs are JSON always.
    pub format: Format,
    /// Anomalies a minute of event time at most, shared evenly by the lanes of this process; what is beyond it is
    /// counted and withheld. 0: no limit.
    pub anomalies_per_minute: u32,
    /// Topic of the changes of incidents; none: not written.
    pub incidents: Option<String>,
    /// Topic of every record's score; none: not written.
    pub scores: Option<String>,
    /// Whether each score carries the record's active latents; it costs about 25 bytes a latent.
    pub score_latents: bool,
    /// Topic of rejected records.
    pub dead_letters: String,
    /// Features, and patterns, listed in an anomaly.
    pub features_max: usize,
    /// How long the producer waits for a fuller request.
    #[serde(with = "humantime_serde")]
    pub linger: Duration,
    /// Compression of what is written: `none`, `gzip`, `snappy`, `lz4` or `zstd`.
    pub compression: String,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            anomalies: "anomalies".into(),
            format: Format::Json,
            anomalies_per_minute: 0,
            incidents: None,
            scores: None,
            score_latents: false,
            dead_letters: "dead-letters".into(),
            features_max: 5,
            linger: Duration::from_millis(5),
            compression: "lz4".into(),
        }
    }
}

/// What rejected records become.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct DeadLetterConfig {
    /// Bytes of the largest value that is kept whole; a longer one is cut, and the header `strayd.error.truncated`
    /// holds its full size. Below the dead-letter topic's `max.message.bytes`, headers included; at most 15,000,000.
    pub value_bytes_max: usize,
}

impl Default for DeadLetterConfig {
    fn default() -> Self {
        Self { value_bytes_max: 900_000 }
    }
}

/// The kind of a message, which decides its topic.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Channel {
    /// Anomaly records.
    Anomalies,
    /// The score of every record.
    Scores,
    /// Rejected records.
    DeadLetters,
    /// Changes of incidents.
    Incidents,
}

impl Channel {
    /// Every kind, in the order of their numbers.
    pub const ALL: [Self; 4] = [Self::Anomalies, Self::Scores, Self::DeadLetters, Self::Incidents];
}

impl Config {
    /// The topic of a kind of message; none where it is not wanted.
    pub fn topic(&self, channel: Channel) -> Option<&str> {
        match channel {
            Channel::Anomalies => Some(&self.anomalies),
            Channel::Scores => self.scores.as_deref(),
            Channel::DeadLetters => Some(&self.dead_letters),
            Channel::Incidents => self.incidents.as_deref(),
        }
    }
}

/// One header of an outgoing message; Kafka allows a header without a value.
pub type Header<'a> = (&'a str, Option<&'a [u8]>);

/// A message to be sent, borrowed for the length of the call.
#[derive(Clone, Copy, Debug)]
pub struct Outgoing<'a> {
    /// Where it goes.
    pub channel: Channel,
    /// Kafka key.
    pub key: Option<&'a [u8]>,
    /// Value.
    pub value: &'a [u8],
    /// Timestamp, milliseconds since the epoch.
    pub time_ms: i64,
    /// Headers.
    pub headers: &'a [Header<'a>],
}

/// Why a message was not taken.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum SinkError {
    /// The buffer is full; serve deliveries, then send again.
    #[error("the producer's buffer is full")]
    Full,
    /// The transaction that it would belong to has failed: it is to be aborted, and its records come again.
    #[error("{0}")]
    Aborted(String),
    /// It will never be taken.
    #[error("{0}")]
    Failed(String),
}

/// The countdown of the deliveries of one batch, or of a few small ones. Cheap to clone; the last clone to go is the delivery callback's.
#[derive(Clone, Debug, Default)]
pub struct Receipt(Arc<Countdown>);

#[derive(Debug, Default)]
struct Countdown {
    n_outstanding: AtomicUsize,
    failure: OnceLock<String>,
}

impl Receipt {
    /// Counts a message that has been handed over.
    pub fn expect(&self) {
        self.0.n_outstanding.fetch_add(1, Ordering::AcqRel);
    }

    /// Counts an acknowledged message.
    pub fn acknowledge(&self) {
        self.0.n_outstanding.fetch_sub(1, Ordering::AcqRel);
    }

    /// Counts a message that will never be delivered; the first reason is kept.
    pub fn fail(&self, reason: String) {
        // A second failure adds nothing: the first one already keeps the batch from being settled.
        let _ = self.0.failure.set(reason);
        self.acknowledge();
    }

    /// Whether every message has been acknowledged or has failed.
    pub fn is_complete(&self) -> bool {
        self.0.n_outstanding.load(Ordering::Acquire) == 0
    }

    /// Whether nothing is outstanding and nothing has failed.
    pub fn is_settled(&self) -> bool {
        self.is_complete() && self.failure().is_none()
    }

    /// Whether the two count the same messages.
    pub fn is_same(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }

    /// Begins anew, in the same place where nobody else counts on it.
    pub fn renew(&mut self) {
        if Arc::get_mut(&mut self.0).is_none() || !self.is_settled() {
            *self = Self::default();
        }
    }

    /// Why a message was not delivered, if one was not.
    pub fn failure(&self) -> Option<&str> {
        self.0.failure.get().map(String::as_str)
    }
}

/// Takes messages and acknowledges them later.
pub trait Sink: Send + Sync {
    /// Hands a message over. Its delivery is counted on `receipt` only when this succeeds.
    ///
    /// Errors: see [`SinkError`].
    fn send(&self, message: &Outgoing<'_>, receipt: &Receipt) -> Result<(), SinkError>;

    /// Serves delivery reports for at most `timeout`.
    fn poll(&self, timeout: Duration);

    /// Sends what is buffered and waits for the acknowledgements. Returns whether all came within `timeout`.
    fn flush(&self, timeout: Duration) -> bool;

    /// Makes ready what needs the broker, before the first record is read.
    ///
    /// Errors: [`SinkError::Aborted`] where trying again may help, else [`SinkError::Failed`].
    fn prepare(&self) -> Result<(), SinkError> {
        Ok(())
    }

    /// Gives up what was sent since the last commit, where that is possible.
    ///
    /// Errors: as [`Sink::prepare`].
    fn abort(&self) -> Result<(), SinkError> {
        Ok(())
    }

    /// Transactions ended since the start; none where there are no transactions.
    fn transactions(&self) -> Option<Ended> {
        None
    }
}
