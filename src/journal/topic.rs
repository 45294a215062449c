//! A topic as journal: keyed JSON records, a tombstone takes back, read from its beginning by every replica.
//!
//! The reader assigns itself all partitions in the group `<group>.journal`, which it never joins nor commits to
//! (librdkafka refuses to assign without a group id). Best is one partition and `cleanup.policy=compact`.

use std::collections::BTreeSet;
use std::error::Error;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use rdkafka::client::{ClientContext, OAuthToken};
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::KafkaError;
use rdkafka::message::{Message, Timestamp};
use rdkafka::producer::{BaseProducer, BaseRecord, DeliveryResult, Producer, ProducerContext};
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};

use super::{Entry, Journal};
use crate::kafka::{self, Access, Right};
use crate::record::Topics;

/// How long one request may take before it counts as failed.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(10);

/// A topic of entries.
pub struct TopicJournal {
    topic: String,
    reader: BaseConsumer<kafka::Context>,
    writer: BaseProducer<Deliveries>,
    /// Whether the reader has been given the topic's partitions.
    assigned: bool,
    /// Partitions whose end has not been seen yet.
    unread: BTreeSet<i32>,
}

/// Hears whether an entry was stored.
struct Deliveries {
    access: Access,
    failure: Mutex<Option<KafkaError>>,
}

impl ClientContext for Deliveries {
    const ENABLE_REFRESH_OAUTH_TOKEN: bool = true;

    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        kafka::log(level, facility, message);
    }

    fn generate_oauth_token(&self, _config: Option<&str>) -> Result<OAuthToken, Box<dyn Error>> {
        self.access.token()
    }
}

impl ProducerContext for Deliveries {
    type DeliveryOpaque = ();

    fn delivery(&self, result: &DeliveryResult<'_>, (): ()) {
        if let Err((error, _)) = result {
            *self.failure.lock().unwrap_or_else(PoisonError::into_inner) = Some(error.clone());
        }
    }
}

impl TopicJournal {
    /// Makes the two clients. Nothing is asked of the brokers yet.
    ///
    /// Errors: the settings are refused, or a secret can't be read.
    pub fn new(client: &kafka::Config, topic: &str) -> Result<Self, String> {
        let mut settings = client.client("strayd-journal").map_err(|error| error.to_string())?;
        let group = format!("{}.journal", client.group);
        let mut writing = settings.clone();
        writing.set("enable.idempotence", "true").set("message.timeout.ms", REQUEST_TIMEOUT.as_millis().to_string());
        settings
            .set("group.id", &group)
            .set("enable.auto.commit", "false")
            .set("enable.partition.eof", "true")
            .set("auto.offset.reset", "earliest")
            .set("isolation.level", "read_committed")
            .set("queued.max.messages.kbytes", "1024");
        client.pass_through(&mut settings);
        client.pass_through(&mut writing);
        let (reads, writes) = (
            kafka::Context::new(client, &group, topic),
            Deliveries { access: Access::new(client), failure: Mutex::default() },
        );
        Ok(Self {
            topic: topic.to_owned(),
            reader: settings.create_with_context(reads).map_err(|error| error.to_string())?,
            writer: writing.create_with_context(writes).map_err(|error| error.to_string())?,
            assigned: false,
            unread: BTreeSet::new(),
        })
    }

    fn assign(&mut self) -> Result<(), String> {
        let partitions =
            kafka::partitions(&self.reader, &Topics::one(&*self.topic), kafka::Absent::Awaited, REQUEST_TIMEOUT)?;
        let mut list = TopicPartitionList::new();
        for &partition in &partitions {
            list.add_partition_offset(&self.topic, partition.number, Offset::Beginning)
                .map_err(|error| error.to_string())?;
        }
        self.reader.assign(&list).map_err(|error| self.reader.context().explain(&error, ""))?;
        self.unread = partitions.into_iter().map(|partition| partition.number).collect();
        self.assigned = true;
        Ok(())
    }
}

impl Journal for TopicJournal {
    fn poll(&mut self) -> Result<Vec<Entry>, String> {
        if !self.assigned {
            self.assign()?;
        }
        let deadline = Instant::now() + REQUEST_TIMEOUT;
        let mut entries = Vec::new();
        loop {
            // What is there at the start is read whole; later on, what has arrived.
            let wait = if self.unread.is_empty() { Duration::ZERO } else { Duration::from_millis(100) };
            match self.reader.poll(wait) {
                None if self.unread.is_empty() => return Ok(entries),
                None if Instant::now() >= deadline => {
                    let seconds = REQUEST_TIMEOUT.as_secs();
                    return Err(format!("topic `{}`: its end was not reached within {seconds} s", self.topic));
                }
                None => {}
                Some(Err(KafkaError::PartitionEOF(partition))) => drop(self.unread.remove(&partition)),
                Some(Err(error)) if kafka::is_of_group(&error) => {}
                Some(Err(error)) => return Err(self.reader.context().explain(&error, "")),
                Some(Ok(message)) => entries.extend(entry_of(&message, &self.topic)),
            }
        }
    }

    fn append(&mut self, entry: &Entry) -> Result<(), String> {
        let value = entry.value.as_ref().map(serde_json::Value::to_string);
        let mut record: BaseRecord<'_, str, str> =
            BaseRecord::to(&self.topic).key(entry.key.as_str()).timestamp(entry.time_ms);
        record.payload = value.as_deref();
        let access = &self.writer.context().access;
        let explain = |error: &KafkaError| access.explain(error, "", &[Right::WriteTopic(&self.topic)]);
        let failed = |error: &KafkaError| format!("topic `{}`: not stored: {}", self.topic, explain(error));
        self.writer.send(record).map_err(|(error, _)| failed(&error))?;
        self.writer.flush(REQUEST_TIMEOUT).map_err(|error| failed(&error))?;
        let outcome = self.writer.context().failure.lock().unwrap_or_else(PoisonError::into_inner).take();
        outcome.map_or(Ok(()), |error| Err(failed(&error)))
    }
}

/// What a record says; none, and a warning, where it is nothing that a journal holds.
fn entry_of(message: &impl Message, topic: &str) -> Option<Entry> {
    let time_ms = match message.timestamp() {
        Timestamp::CreateTime(ms) | Timestamp::LogAppendTime(ms) => ms,
        Timestamp::NotAvailable => 0,
    };
    let key = message.key().and_then(|key| std::str::from_utf8(key).ok());
    let value = message.payload().map(serde_json::from_slice).transpose();
    match (key, value) {
        // Feedback of other tools needs no key: what it is about stands in its value.
        (key, Ok(value)) => Some(Entry { key: key.unwrap_or_default().to_owned(), value, time_ms }),
        (_, Err(error)) => {
            let (partition, offset) = (message.partition(), message.offset());
            tracing::warn!(topic, partition, offset, %error, "passed over: the record is not JSON");
            None
        }
    }
}
