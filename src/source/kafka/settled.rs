//! What the group has settled of partitions that come, held to what their topic still has.
//!
//! A committed offset may have left the topic: retention has removed the records after it, or the topic was made anew.
//! librdkafka would go on with the oldest record and say nothing; here it is said, and what is lost is counted.

use std::time::Instant;

use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};

use super::{Callbacks, REQUEST_TIMEOUT};
use crate::kafka;
use crate::record::Partition;
use crate::source::Assigned;

/// Where a committed offset stands in its partition, whose offsets are `low..high`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Standing {
    /// Its record is there, or will be the next.
    Kept,
    /// So many records after it were removed.
    Passed(i64),
    /// It is beyond the end: this is not the topic that it was committed for.
    Beyond,
}

impl Standing {
    fn of(settled: i64, (low, high): (i64, i64)) -> Self {
        match settled {
            _ if settled < low => Self::Passed(low - settled),
            _ if settled > high => Self::Beyond,
            _ => Self::Kept,
        }
    }
}

/// What is settled of `partitions` by what the group has `committed`, and how many unread records are gone. Offsets that have left the topic are moved to
/// the oldest record in `list`, too.
pub(super) fn settled(
    callbacks: &Callbacks,
    consumer: &BaseConsumer<Callbacks>,
    list: &mut TopicPartitionList,
    partitions: &[Partition],
    committed: &TopicPartitionList,
) -> (Vec<Assigned>, u64) {
    let deadline = Instant::now() + REQUEST_TIMEOUT;
    let (mut n_lost, mut is_answered) = (0, true);
    let of = |&partition: &Partition| {
        let name = callbacks.topics.name(partition.topic);
        let element = committed.find_partition(name, partition.number);
        let offset = element.as_ref().and_then(|element| match element.offset() {
            Offset::Offset(offset) => Some(offset),
            _ => None,
        });
        let metadata = element.map(|element| element.metadata().to_owned()).unwrap_or_default();
        let assigned = Assigned { partition, settled: offset, metadata };
        let left = deadline.saturating_duration_since(Instant::now());
        let Some(offset) = offset.filter(|_| is_answered && !left.is_zero()) else { return assigned };
        let marks = match consumer.fetch_watermarks(name, partition.number, left) {
            Ok(marks) => marks,
            Err(error) => {
                // One that doesn't answer is not asked for the others while the group waits.
                is_answered = false;
                let error = kafka::explain(&error, "");
                tracing::warn!(%partition, error, "it can't be told whether the committed offset is still there");
                return assigned;
            }
        };
        let metadata = match Standing::of(offset, marks) {
            Standing::Kept => return assigned,
            Standing::Passed(n) => {
                n_lost += n.unsigned_abs();
                tracing::warn!(
                    %partition, committed = offset, oldest = marks.0, n_lost = n,
                    "retention has removed records before they were read; going on with the oldest"
                );
                assigned.metadata
            }
            Standing::Beyond => {
                tracing::warn!(
                    %partition, committed = offset, oldest = marks.0, end = marks.1,
                    "the committed offset is beyond the end, the topic was made anew; going on with the oldest record"
                );
                String::new()
            }
        };
        list.set_partition_offset(name, partition.number, Offset::Offset(marks.0))
            .expect("the partition is in the list, and the offset is that of a record");
        Assigned { partition, settled: Some(marks.0), metadata }
    };
    (partitions.iter().map(of).collect(), n_lost)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_offset_within_the_topic_or_at_its_end_is_kept() {
        let standings = [4, 5, 9, 10, 11].map(|settled| Standing::of(settled, (5, 10)));
        assert_eq!(standings, [Standing::Passed(1), Standing::Kept, Standing::Kept, Standing::Kept, Standing::Beyond]);
    }
}
