//! Where a record stands in its topic, where to go on reading, and a value of a record.
//!
//! Two types, because they mean two things: a [`RecordId`] names a record that exists, a [`NextOffset`] names the
//! first record that has not been settled. Kafka commits the second; confusing them loses or repeats one record.

mod topics;

use serde::{Deserialize, Serialize};

pub use topics::{Partition, Topic, Topics};

/// The place of one record in the features topics.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct RecordId {
    /// Partition of a features topic.
    pub partition: Partition,
    /// Offset of the record in that partition.
    pub offset: i64,
}

/// The offset at which reading of a partition goes on: one past the last settled record.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NextOffset {
    /// Partition of a features topic.
    pub partition: Partition,
    /// First offset that has not been settled.
    pub offset: i64,
}

/// A feature's value as people read it; JSON as it stands.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(untagged)]
pub enum Value {
    /// A number, raw units.
    Number(f32),
    /// A category.
    Text(String),
    /// Yes or no.
    Boolean(bool),
}

impl RecordId {
    /// Returns the offset that settles this record and all before it.
    pub fn next(self) -> NextOffset {
        NextOffset { partition: self.partition, offset: self.offset + 1 }
    }
}

/// A time in RFC 3339 with milliseconds; what no calendar holds becomes the epoch.
pub fn rfc3339(time_ms: i64) -> String {
    let time = jiff::Timestamp::from_millisecond(time_ms).unwrap_or(jiff::Timestamp::UNIX_EPOCH);
    format!("{time:.3}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_have_milliseconds() {
        assert_eq!(rfc3339(1_767_225_600_000), "2026-01-01T00:00:00.000Z");
        assert_eq!(rfc3339(i64::MAX), "1970-01-01T00:00:00.000Z");
    }

    #[test]
    fn next_offset_is_one_past_the_record() {
        let id = RecordId { partition: 3.into(), offset: 41 };
        assert_eq!(id.next(), NextOffset { partition: 3.into(), offset: 42 });
    }
}
