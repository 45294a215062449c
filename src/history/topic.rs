//! The features topics as history, read by offset.
//!
//! The reading consumer has a group id of its own (`<group>.history`), because librdkafka refuses to assign without
//! one; it never subscribes and never commits. A second client asks for the daemon's group's committed offsets, and
//! never joins that group either.

use std::time::{Duration, Instant};

use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{BorrowedMessage, Message};
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};

use super::{Bound, History, Past, Range};
use crate::kafka::{self, Absent};
use crate::record::{Partition, RecordId, Topics};

/// How long one request may take before it counts as failed.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(10);

/// The features topics as history; or any topic, to be read back.
pub struct TopicHistory {
    topics: Topics,
    reader: BaseConsumer<kafka::Context>,
    group: BaseConsumer<kafka::Context>,
    read_timeout: Duration,
}

impl TopicHistory {
    /// Makes the two clients. Nothing is asked of the brokers yet.
    ///
    /// Errors: the settings are refused, or a secret can't be read.
    pub fn new(client: &kafka::Config, topics: &Topics, read_timeout: Duration) -> Result<Self, String> {
        let make = |id: &str, group: String| -> Result<BaseConsumer<kafka::Context>, String> {
            let mut settings = client.client(id).map_err(|error| error.to_string())?;
            settings
                .set("group.id", &group)
                .set("enable.auto.commit", "false")
                .set("enable.auto.offset.store", "false")
                .set("enable.partition.eof", "true")
                .set("auto.offset.reset", "earliest")
                .set("isolation.level", "read_committed")
                // Stretches are short and far apart: small fetches, asked for at once. Measured 39 against 380 ms each.
                .set("fetch.wait.max.ms", "10")
                .set("fetch.queue.backoff.ms", "5")
                .set("fetch.message.max.bytes", "262144")
                .set("queued.max.messages.kbytes", "2048");
            client.pass_through(&mut settings);
            let context = kafka::Context::new(client, &group, &topics.to_string());
            settings.create_with_context(context).map_err(|error| error.to_string())
        };
        Ok(Self {
            topics: topics.clone(),
            reader: make("strayd-history", format!("{}.history", client.group))?,
            group: make("strayd-settled", client.group.clone())?,
            read_timeout,
        })
    }

    /// What each of `extents` holds from `time_ms` on, by the records' timestamps.
    ///
    /// Errors: what is wrong, in words for the user; trying again may help.
    pub fn since(&mut self, time_ms: i64, extents: &[Range]) -> Result<Vec<Range>, String> {
        let mut wanted = TopicPartitionList::new();
        for extent in extents {
            wanted
                .add_partition_offset(self.name_of(extent.partition), extent.partition.number, Offset::Offset(time_ms))
                .map_err(|error| error.to_string())?;
        }
        let found = self
            .group
            .offsets_for_times(wanted, REQUEST_TIMEOUT)
            .map_err(|error| self.group.context().explain(&error, ""))?;
        let since = |extent: &Range| match found
            .find_partition(self.name_of(extent.partition), extent.partition.number)?
            .offset()
        {
            Offset::Offset(start) => Some(Range { start: start.clamp(extent.start, extent.end), ..*extent }),
            // Nothing is as late.
            _ => None,
        };
        Ok(extents.iter().filter_map(since).filter(|range| !range.is_empty()).collect())
    }

    fn name_of(&self, partition: Partition) -> &str {
        self.topics.name(partition.topic)
    }

    fn read_range(&self, range: Range, deadline: Instant, take: &mut dyn FnMut(Past<'_>)) -> Result<(), String> {
        let name = self.name_of(range.partition);
        let mut from = TopicPartitionList::new();
        from.add_partition_offset(self.name_of(range.partition), range.partition.number, Offset::Offset(range.start))
            .map_err(|error| error.to_string())?;
        self.reader.assign(&from).map_err(|error| self.reader.context().explain(&error, ""))?;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                let Range { partition, start, end } = range;
                return Err(format!(
                    "partition {partition}, offsets {start} to {end}: not read within history.read_timeout ({})",
                    humantime::format_duration(self.read_timeout)
                ));
            }
            match self.reader.poll(left.min(Duration::from_millis(200))) {
                Some(Err(error @ KafkaError::MessageConsumption(RDKafkaErrorCode::TopicAuthorizationFailed))) => {
                    return Err(self.reader.context().explain(&error, ""));
                }
                None | Some(Err(KafkaError::MessageConsumption(_))) => {}
                Some(Err(KafkaError::PartitionEOF(_))) => return Ok(()),
                Some(Err(error)) => return Err(self.reader.context().explain(&error, "")),
                // A message of the range before: the last fetch was under way when the assignment changed.
                Some(Ok(message)) if !is_of(&message, name, range.partition) => {}
                Some(Ok(message)) if message.offset() >= range.end => return Ok(()),
                Some(Ok(message)) => {
                    take(Past {
                        id: RecordId { partition: range.partition, offset: message.offset() },
                        time_ms: message.timestamp().to_millis().unwrap_or(0),
                        key: message.key(),
                        payload: message.payload(),
                    });
                    if message.offset() + 1 >= range.end {
                        return Ok(());
                    }
                }
            }
        }
    }
}

impl History for TopicHistory {
    fn name(&self) -> String {
        self.topics.to_string()
    }

    fn extents(&mut self, bound: Bound) -> Result<Vec<Range>, String> {
        // Log lines arrive by polling, too; nothing is assigned, so no record does.
        let known = kafka::heard(&self.group);
        let partitions = kafka::partitions(&self.group, &self.topics, Absent::LeftOut, REQUEST_TIMEOUT)
            .map_err(|error| known.or_else(|| kafka::heard(&self.group)).unwrap_or(error))?;
        let settled = match bound {
            Bound::Head => Vec::new(),
            Bound::Settled => kafka::committed(&self.group, &self.topics, &partitions, REQUEST_TIMEOUT)?,
        };
        let mut extents = Vec::with_capacity(partitions.len());
        for partition in partitions {
            let (start, high) = self
                .group
                .fetch_watermarks(self.name_of(partition), partition.number, REQUEST_TIMEOUT)
                .map_err(|error| self.group.context().explain(&error, ""))?;
            let end = match bound {
                Bound::Head => high,
                Bound::Settled => {
                    let found = settled.iter().find(|(of, _)| *of == partition);
                    found.and_then(|(_, offset)| *offset).map_or(start, |offset| offset.clamp(start, high))
                }
            };
            extents.push(Range { partition, start, end });
        }
        Ok(extents)
    }

    fn read(&mut self, ranges: &[Range], take: &mut dyn FnMut(Past<'_>)) -> Result<(), String> {
        let deadline = Instant::now() + self.read_timeout;
        let read = ranges.iter().try_for_each(|&range| self.read_range(range, deadline, take));
        // Without an assignment the reader fetches nothing until the next round.
        let _ = self.reader.unassign();
        read
    }
}

/// Whether a message is one of this partition, whose topic has this name.
fn is_of(message: &BorrowedMessage<'_>, name: &str, partition: Partition) -> bool {
    message.partition() == partition.number && message.topic() == name
}
