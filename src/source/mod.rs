//! Where records come from.
//!
//! A source hands over what is there, up to a limit, and never waits for a batch to fill. It knows nothing of formats
//! or models. Offsets are settled through [`Source::store`] only when every output of a record is acknowledged.

mod kafka;
mod memory;

use std::time::Duration;

use serde::{Deserialize, Serialize};
use thiserror::Error;

pub use kafka::{KafkaSource, Pinned, lane_settings, pin_start};
pub use memory::{MemorySource, Stored};

use crate::record::{NextOffset, Partition, RecordId, Topics};

/// What is read, and from where on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// The topic of feature vectors; a list of topics (as text, with commas); or a pattern that begins with `^`. All
    /// have records of one schema and are scored by one model. Every topic of a list must exist at the start, which
    /// waits for it; a pattern must match one topic at least, and takes up what comes later (librdkafka's
    /// `topic.metadata.refresh.interval.ms`, 5 min). A pattern must match no topic that strayd writes, and never
    /// matches Kafka's own (`__…`) in the history.
    pub topic: Topics,
    /// Where a group without committed offsets starts. The start is committed at once, so it holds for the first start
    /// only. The first model is trained on the history before it in any case.
    pub start: Start,
}

impl Default for Config {
    fn default() -> Self {
        Self { topic: Topics::default(), start: Start::Latest }
    }
}

/// Where a group without committed offsets starts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Start {
    /// With records produced from now on.
    Latest,
    /// With the oldest retained record.
    Earliest,
    /// With the first record at or after a time, milliseconds since the epoch.
    Time(i64),
}

impl TryFrom<String> for Start {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        match text.as_str() {
            "latest" => Ok(Self::Latest),
            "earliest" => Ok(Self::Earliest),
            time => match time.parse::<jiff::Timestamp>() {
                Ok(time) => Ok(Self::Time(time.as_millisecond())),
                Err(_) => Err(format!("`{time}` is not `latest`, `earliest` or an RFC 3339 time")),
            },
        }
    }
}

impl From<Start> for String {
    fn from(start: Start) -> Self {
        match start {
            Start::Latest => "latest".into(),
            Start::Earliest => "earliest".into(),
            Start::Time(ms) => jiff::Timestamp::from_millisecond(ms).map_or_else(|_| ms.to_string(), |t| t.to_string()),
        }
    }
}

/// The headers of a record.
pub trait Headers {
    /// Calls `visit` with each header in order.
    fn each(&self, visit: &mut dyn FnMut(&str, Option<&[u8]>));
}

/// One record as it came, borrowed from the source for the length of a call.
#[derive(Clone, Copy)]
pub struct Raw<'a> {
    /// Where the record stands.
    pub id: RecordId,
    /// Kafka timestamp, milliseconds since the epoch.
    pub time_ms: i64,
    /// Kafka key.
    pub key: Option<&'a [u8]>,
    /// Payload; none is a tombstone.
    pub payload: Option<&'a [u8]>,
    /// Headers; none where the source has none.
    pub headers: Option<&'a dyn Headers>,
}

/// How a poll ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Polled {
    /// So many records were handed over; none means that nothing was there in time.
    Records(usize),
    /// There will never be another record (sources with an end).
    End,
}

/// Why a source can't go on.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum SourceError {
    /// The world fails at the moment; polling again is right.
    #[error("{0}")]
    Retry(String),
    /// What was published since the last commit can't be committed: it is to be aborted, and its records are read again.
    #[error("{0}")]
    Aborted(String),
    /// Only a new start helps.
    #[error("{0}")]
    Fatal(String),
}

/// A partition that has come to us.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Assigned {
    /// Which.
    pub partition: Partition,
    /// The group's committed offset; none when it has none, or when it can't be asked for.
    pub settled: Option<i64>,
    /// What was committed with it.
    pub metadata: String,
}

/// An offset to be settled, and what is to be committed with it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Position {
    /// Where reading goes on.
    pub next: NextOffset,
    /// At most 4096 bytes, the broker's default limit.
    pub metadata: String,
}

/// Told when partitions come and go, on the thread that polls.
pub trait Assignment: Send + Sync {
    /// `partitions` are now ours. Returns where reading is to start in those that are to be read from before the
    /// committed offset on.
    fn assigned(&self, partitions: &[Assigned]) -> Vec<NextOffset>;

    /// `partitions` are about to leave. Returns what may still be stored for them; nothing when they are already
    /// `lost` to another member.
    ///
    /// Errors: with exactly once, why what was published of them must be aborted.
    fn revoked(&self, partitions: &[Partition], lost: bool) -> Result<Vec<Position>, String>;
}

/// A stream of records with positions that can be settled.
pub trait Source: Send {
    /// Hands at most `max` records to `take`, waiting up to `timeout` for the first.
    ///
    /// Errors: see [`SourceError`]; records handed over before the error count.
    fn poll(&mut self, max: usize, timeout: Duration, take: &mut dyn FnMut(Raw<'_>)) -> Result<Polled, SourceError>;

    /// Calls `visit` with each header of a record that the last poll handed over, in order. What a poll hands over can give
    /// them, too, but most records are never asked, and asking costs an allocation.
    fn headers(&self, _id: RecordId, _visit: &mut dyn FnMut(&str, Option<&[u8]>)) {}

    /// Marks everything before `positions` as settled; with exactly once commits what was published with it. Returns how many
    /// came too late, for partitions that have left.
    ///
    /// Errors: with exactly once, see [`SourceError`].
    fn store(&mut self, positions: &[Position]) -> Result<usize, SourceError>;

    /// Reads again from the committed offsets on, as if its partitions had just come.
    ///
    /// Errors: what is wrong, in words for the user; trying again may help.
    fn rewind(&mut self) -> Result<(), String> {
        Ok(())
    }

    /// Records between the settled offset and the head, by partition, as last reported; none where there is no head.
    fn lags(&self) -> Vec<(Partition, i64)> {
        Vec::new()
    }

    /// Whether the group has been joined, be it with an empty assignment; so it is where there is none. Another thread may
    /// have to answer: to be asked until it has, not at every turn.
    fn has_joined(&self) -> bool {
        true
    }

    /// Whether a broker has been seen to answer since the last error; so it is where there is none.
    fn has_recovered(&self) -> bool {
        true
    }

    /// Records that had left the topic before they could be read, since the last call.
    fn take_lost(&mut self) -> u64 {
        0
    }

    /// Commits what is settled and leaves the group, where there is one.
    fn close(&mut self) {}
}
