//! The newest records of the features topic, and how many there are.

use crate::history::{Bound, History, Range, plan};
use crate::telemetry::now_ms;

/// Records that are looked at one by one.
const ROWS: usize = 300;

/// One record.
#[derive(Clone, Debug)]
pub struct Sampled {
    /// Kafka timestamp, milliseconds since the epoch.
    pub time_ms: i64,
    /// Key.
    pub key: Option<Vec<u8>>,
    /// Payload; none is a tombstone.
    pub payload: Option<Vec<u8>>,
}

/// The newest records.
#[derive(Debug, Default)]
pub struct Sample {
    /// What each partition holds.
    pub extents: Vec<Range>,
    /// The newest records, partition by partition.
    pub records: Vec<Sampled>,
}

impl Sample {
    /// Reads them.
    ///
    /// Errors: what is wrong, in words for the user.
    pub fn read(history: &mut dyn History) -> Result<Self, String> {
        let extents = history.extents(Bound::Head)?;
        let mut records = Vec::new();
        history.read(&plan::latest(&extents, ROWS), &mut |past| {
            let own = |bytes: &[u8]| bytes.to_vec();
            let (key, payload) = (past.key.map(own), past.payload.map(own));
            records.push(Sampled { time_ms: past.time_ms, key, payload });
        })?;
        Ok(Self { extents, records })
    }

    /// Offsets that the topic holds; there may be fewer records.
    pub fn n_kept(&self) -> usize {
        self.extents.iter().map(Range::len).sum()
    }

    /// Timestamp of the newest record.
    pub fn newest_ms(&self) -> Option<i64> {
        self.records.iter().map(|record| record.time_ms).max()
    }

    /// How long ago the newest record was written; below 0 where its clock is ahead, milliseconds.
    pub fn age_ms(&self) -> Option<i64> {
        self.newest_ms().map(|newest| now_ms() - newest)
    }
}

/// So long, in words.
pub fn span(ms: i64) -> String {
    let seconds = std::time::Duration::from_secs(ms.unsigned_abs() / 1000);
    humantime::format_duration(seconds).to_string()
}
