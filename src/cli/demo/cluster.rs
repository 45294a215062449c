//! The demo's broker and its clients: librdkafka's mock cluster in this process, a plant that produces, and a
//! subscriber that reads the anomalies as anybody would.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context, anyhow};
use rdkafka::client::ClientContext;
use rdkafka::config::{ClientConfig, RDKafkaLogLevel};
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::KafkaError;
use rdkafka::message::{DeliveryResult, Message};
use rdkafka::mocking::MockCluster;
use rdkafka::producer::{BaseProducer, BaseRecord, DefaultProducerContext, Producer, ProducerContext};
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};
use serde_json::Value;

use super::plant::Reading;
use crate::record::RecordId;

/// Topic of the readings.
pub const FEATURES: &str = "plant";
/// Topic of the anomalies.
pub const ANOMALIES: &str = "anomalies";
/// Topic of the rejected readings.
pub const DEAD_LETTERS: &str = "dead-letters";
/// Partitions of the readings' topic.
const N_PARTITIONS: i32 = 4;
/// How long the mock cluster may take for anything.
const TIMEOUT: Duration = Duration::from_secs(30);

/// The mock cluster; it ends with its value.
pub struct Cluster(MockCluster<'static, DefaultProducerContext>);

impl Cluster {
    /// Starts one broker with the demo's topics.
    pub fn start() -> anyhow::Result<Self> {
        let cluster = MockCluster::new(1).context("the mock cluster can't be started")?;
        for (topic, n_partitions) in [(FEATURES, N_PARTITIONS), (ANOMALIES, 1), (DEAD_LETTERS, 1)] {
            cluster.create_topic(topic, n_partitions, 1).with_context(|| format!("topic `{topic}`"))?;
        }
        Ok(Self(cluster))
    }

    /// Bootstrap address, for any client.
    pub fn brokers(&self) -> String {
        self.0.bootstrap_servers()
    }
}

fn client(brokers: &str) -> ClientConfig {
    let mut client = ClientConfig::new();
    client.set("bootstrap.servers", brokers).set_log_level(RDKafkaLogLevel::Error);
    client
}

/// Where delivered readings stand, by index; shared with the delivery callback.
type Delivered = Arc<Mutex<Vec<(RecordId, usize)>>>;

struct Reports {
    delivered: Delivered,
}

impl ClientContext for Reports {}

impl ProducerContext for Reports {
    type DeliveryOpaque = Box<usize>;

    fn delivery(&self, result: &DeliveryResult<'_>, index: Box<usize>) {
        if let Ok(message) = result {
            let id = RecordId { partition: message.partition().into(), offset: message.offset() };
            self.delivered.lock().unwrap_or_else(PoisonError::into_inner).push((id, *index));
        }
    }
}

/// Produces the plant's readings.
pub struct Feed {
    producer: BaseProducer<Reports>,
    delivered: Delivered,
}

impl Feed {
    /// A producer for the plant.
    pub fn new(brokers: &str) -> anyhow::Result<Self> {
        let delivered = Delivered::default();
        let context = Reports { delivered: Arc::clone(&delivered) };
        let producer = client(brokers).set("linger.ms", "5").create_with_context(context)?;
        Ok(Self { producer, delivered })
    }

    /// Sends a reading, each pump to its own partition so that its readings stay in order.
    pub fn send(&self, reading: &Reading) -> anyhow::Result<()> {
        let (key, value) = (reading.key(), reading.to_json());
        let mut record = BaseRecord::with_opaque_to(FEATURES, Box::new(reading.index))
            .key(&key)
            .payload(&value)
            .partition(reading.pump as i32 % N_PARTITIONS);
        loop {
            match self.producer.send(record) {
                Ok(()) => break,
                Err((KafkaError::MessageProduction(rdkafka::types::RDKafkaErrorCode::QueueFull), back)) => {
                    record = back;
                    self.producer.poll(Duration::from_millis(10));
                }
                Err((error, _)) => return Err(error).context("a reading can't be sent"),
            }
        }
        self.producer.poll(Duration::ZERO);
        Ok(())
    }

    /// Waits until everything that was sent is delivered.
    pub fn flush(&self) -> anyhow::Result<()> {
        self.producer.flush(TIMEOUT).context("readings were not delivered")
    }

    /// Takes the deliveries since the last call.
    pub fn take_delivered(&self) -> Vec<(RecordId, usize)> {
        std::mem::take(&mut self.delivered.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// Reads the anomalies as any subscriber would.
pub struct Subscriber {
    consumer: BaseConsumer,
}

impl Subscriber {
    /// Subscribes from the first anomaly on.
    pub fn new(brokers: &str) -> anyhow::Result<Self> {
        let consumer: BaseConsumer = client(brokers).set("group.id", "demo-subscriber").create()?;
        let mut all = TopicPartitionList::new();
        all.add_partition_offset(ANOMALIES, 0, Offset::Beginning)?;
        consumer.assign(&all)?;
        Ok(Self { consumer })
    }

    /// The next anomaly, if one comes within `timeout`.
    pub fn next(&self, timeout: Duration) -> anyhow::Result<Option<(RecordId, Value)>> {
        let Some(Ok(message)) = self.consumer.poll(timeout) else { return Ok(None) };
        let record: Value = serde_json::from_slice(message.payload().unwrap_or_default())?;
        let source = |key: &str| record["source"][key].as_i64().ok_or_else(|| anyhow!("source.{key} is not there"));
        let id = RecordId { partition: (source("partition")? as i32).into(), offset: source("offset")? };
        Ok(Some((id, record)))
    }
}
