//! Where training rows come from: the retained history, read by offset.
//!
//! A history knows which offsets there are and reads ranges of them; it decides nothing. [`plan`] decides which ranges
//! a training reads, as a pure function of what there is and a seed, so that the ranges are the training's lineage.

pub mod plan;
mod table;
mod topic;

use std::time::Duration;

use serde::{Deserialize, Serialize};

pub use table::{Head, TableHistory};
pub use topic::TopicHistory;

use crate::record::{Partition, RecordId};

/// How the history is sampled.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Records read for the first model; of a longer history half is the latest, half is spread over all that is
    /// retained.
    pub rows: usize,
    /// Latest records, read for every later round.
    pub recent_rows: usize,
    /// Records that the first model waits for. At most `history.rows`.
    pub rows_min: usize,
    /// Records from which features, kinds and categories are learnt.
    pub schema_rows: usize,
    /// Records of one stretch that is sampled.
    pub chunk_rows: usize,
    /// How long one reading of the history may take.
    #[serde(with = "humantime_serde")]
    pub read_timeout: Duration,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            rows: 20_000,
            recent_rows: 20_000,
            rows_min: 2000,
            schema_rows: 500,
            chunk_rows: 500,
            read_timeout: Duration::from_secs(30),
        }
    }
}

/// A stretch of offsets of one partition, `start..end`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Range {
    /// Partition.
    pub partition: Partition,
    /// First offset.
    pub start: i64,
    /// One past the last offset.
    pub end: i64,
}

impl Range {
    /// Number of offsets in the range; there may be fewer records.
    pub fn len(&self) -> usize {
        usize::try_from(self.end - self.start).unwrap_or(0)
    }

    /// Whether the range holds no offset.
    pub fn is_empty(&self) -> bool {
        self.end <= self.start
    }
}

/// Up to where the history may be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bound {
    /// Everything there is: for the first model.
    Head,
    /// What has been scored and settled: for every later round, so that nothing is learnt before it is judged.
    Settled,
}

/// One record of the history, borrowed for the length of a call.
#[derive(Clone, Copy, Debug)]
pub struct Past<'a> {
    /// Where it stands.
    pub id: RecordId,
    /// Kafka timestamp, milliseconds since the epoch.
    pub time_ms: i64,
    /// Kafka key.
    pub key: Option<&'a [u8]>,
    /// Payload; none is a tombstone.
    pub payload: Option<&'a [u8]>,
}

/// The retained history of the features topic.
pub trait History: Send {
    /// Where the rows come from, for the lineage.
    fn name(&self) -> String;

    /// The offsets that can be read, a range a partition, up to `bound`.
    ///
    /// Errors: what is wrong, in words for the user; trying again may help.
    fn extents(&mut self, bound: Bound) -> Result<Vec<Range>, String>;

    /// Reads the ranges in order and hands each record to `take`.
    ///
    /// Errors: as [`History::extents`]; records handed over before it count.
    fn read(&mut self, ranges: &[Range], take: &mut dyn FnMut(Past<'_>)) -> Result<(), String>;
}
