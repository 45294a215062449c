//! Where reading starts the first time, committed before anybody reads.

use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer};
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};

use super::{REQUEST_TIMEOUT, list_of};
use crate::kafka;
use crate::record::NextOffset;
use crate::source::{Config, Position, Start};

/// Where a partition without a committed offset was told to start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pinned {
    /// The committed offset.
    pub next: NextOffset,
    /// Oldest retained offset.
    pub low: i64,
    /// Offset that the next record will get.
    pub high: i64,
}

/// Commits the start of every partition that has no committed offset, so that no crash can skip a record later on.
///
/// Errors: what is wrong, in words for the user; trying again may help.
pub fn pin_start(client: &kafka::Config, config: &Config) -> Result<Vec<Pinned>, String> {
    let mut settings = client.client("strayd-start").map_err(|error| error.to_string())?;
    settings.set("group.id", &client.group).set("enable.auto.commit", "false");
    client.pass_through(&mut settings);
    let consumer: BaseConsumer<kafka::Context> =
        settings.create_with_context(kafka::Context::default()).map_err(|error| error.to_string())?;
    pin(&consumer, config).map_err(|error| kafka::heard(&consumer).unwrap_or(error))
}

fn pin(consumer: &BaseConsumer<kafka::Context>, config: &Config) -> Result<Vec<Pinned>, String> {
    let topics = &config.topic;
    let partitions = kafka::partitions(consumer, topics, kafka::Absent::Awaited, REQUEST_TIMEOUT)?;
    let committed = kafka::committed(consumer, topics, &partitions, REQUEST_TIMEOUT)?;
    let mut pinned = Vec::new();
    for (partition, _) in committed.into_iter().filter(|(_, offset)| offset.is_none()) {
        let explain = |error| kafka::explain(&error, "");
        let (topic, number) = (topics.name(partition.topic), partition.number);
        let (low, high) = consumer.fetch_watermarks(topic, number, REQUEST_TIMEOUT).map_err(explain)?;
        let offset = match config.start {
            Start::Earliest => low,
            Start::Latest => high,
            Start::Time(time_ms) => offset_at(consumer, topic, number, time_ms)?.unwrap_or(high),
        };
        pinned.push(Pinned { next: NextOffset { partition, offset }, low, high });
    }
    if !pinned.is_empty() {
        let position = |pin: &Pinned| Position { next: pin.next, metadata: String::new() };
        let next: Vec<Position> = pinned.iter().map(position).collect();
        consumer
            .commit(&list_of(topics, &next), CommitMode::Sync)
            .map_err(|error| format!("the start can't be committed: {}", kafka::explain(&error, "")))?;
    }
    Ok(pinned)
}

fn offset_at(
    consumer: &BaseConsumer<kafka::Context>,
    topic: &str,
    partition: i32,
    time_ms: i64,
) -> Result<Option<i64>, String> {
    let mut asked = TopicPartitionList::new();
    asked.add_partition_offset(topic, partition, Offset::Offset(time_ms)).map_err(|error| error.to_string())?;
    let found = consumer.offsets_for_times(asked, REQUEST_TIMEOUT).map_err(|error| kafka::explain(&error, ""))?;
    Ok(found.elements().first().and_then(|element| match element.offset() {
        Offset::Offset(offset) => Some(offset),
        _ => None,
    }))
}
