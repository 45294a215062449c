//! The clusters: a real Kafka as the tests start it, and librdkafka's mock in this process; and what fills their topics.

use std::time::Duration;

use anyhow::{Context, bail};
use rdkafka::config::ClientConfig;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::mocking::MockCluster;
use rdkafka::producer::{BaseProducer, BaseRecord, DefaultProducerContext, Producer};

use crate::setup::Place;
use crate::support::{Broker, Extra, unique};

/// How long the broker may take to acknowledge everything.
const DELIVERY_MAX: Duration = Duration::from_secs(120);

/// What a topic is filled with.
#[derive(Clone, Copy, Debug)]
pub struct Filling {
    /// Number of records.
    pub n: u64,
    /// Number of different keys; 0: none.
    pub n_keys: u64,
}

/// A cluster with a name.
pub enum World {
    /// Apache Kafka, one node.
    Kafka(Broker),
    /// librdkafka's mock, one broker; it keeps 5 MiB a partition.
    Mock(MockCluster<'static, DefaultProducerContext>),
}

impl World {
    /// Starts the cluster called `name`; none, and it has been said why, where there is no Kafka.
    pub fn start(name: &str) -> anyhow::Result<Option<Self>> {
        match name {
            "kafka" => Ok(Broker::own_with(&Extra { is_lasting: true, ..Extra::default() }).map(Self::Kafka)),
            "mock" => Ok(Some(Self::Mock(MockCluster::new(1).context("the mock cluster can't be started")?))),
            other => bail!("--clusters {other}: kafka or mock"),
        }
    }

    /// Its name.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Kafka(_) => "kafka",
            Self::Mock(_) => "mock",
        }
    }

    /// Bootstrap address.
    pub fn brokers(&self) -> String {
        match self {
            Self::Kafka(broker) => broker.brokers().to_owned(),
            Self::Mock(cluster) => cluster.bootstrap_servers(),
        }
    }

    /// Makes a topic.
    pub fn topic(&self, stem: &str, n_partitions: i32) -> anyhow::Result<String> {
        match self {
            Self::Kafka(broker) => Ok(broker.new_topic(stem, n_partitions)),
            Self::Mock(cluster) => {
                let name = unique(stem);
                cluster.create_topic(&name, n_partitions, 1)?;
                Ok(name)
            }
        }
    }

    /// How many records of so many bytes a topic of `n_partitions` can hold, at most `wanted`.
    pub fn capacity(&self, wanted: u64, n_partitions: i32, bytes: usize) -> u64 {
        /// What the mock keeps of a partition, with a tenth of slack for its own headers.
        const MOCK_BYTES: u64 = 5 * 1024 * 1024 * 9 / 10;
        match self {
            Self::Kafka(_) => wanted,
            Self::Mock(_) => wanted.min(n_partitions as u64 * MOCK_BYTES / (bytes as u64 + 12)),
        }
    }

    /// A new group that reads `topic` and writes to topics of its own.
    pub fn place(&self, topic: &str, registry: &std::path::Path) -> anyhow::Result<Place> {
        Ok(Place {
            brokers: self.brokers(),
            topic: topic.to_owned(),
            anomalies: self.topic("anomalies", 1)?,
            dead_letters: self.topic("dead-letters", 1)?,
            group: unique("group"),
            registry: registry.to_owned(),
        })
    }

    /// Produces records, the payloads over and over, evenly over the partitions, and waits for every acknowledgement.
    pub fn fill(&self, topic: &str, n_partitions: i32, payloads: &[Vec<u8>], filling: Filling) -> anyhow::Result<()> {
        let producer: BaseProducer = ClientConfig::new()
            .set("bootstrap.servers", self.brokers())
            .set("linger.ms", "20")
            .set("batch.num.messages", "2000")
            .set("queue.buffering.max.messages", "200000")
            .create()?;
        let Filling { n, n_keys } = filling;
        for (i, payload) in (0..n).zip(payloads.iter().cycle()) {
            // Batches as a busy topic has them: a partition's turn lasts 500 records.
            let partition = (i / 500 % n_partitions as u64) as i32;
            let key = (n_keys > 0).then(|| format!("entity-{}", i % n_keys));
            let record = BaseRecord::to(topic).payload(payload).partition(partition);
            match &key {
                Some(key) => send(&producer, record.key(key))?,
                None => send(&producer, record)?,
            }
        }
        producer.flush(DELIVERY_MAX).context("the records were not acknowledged in time")
    }
}

/// Hands a record to the producer, and waits while its buffer is full.
pub fn send(producer: &BaseProducer, mut record: BaseRecord<'_, String, Vec<u8>>) -> anyhow::Result<()> {
    loop {
        match producer.send(record) {
            Ok(()) => return Ok(()),
            Err((KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull), back)) => {
                record = back;
                producer.poll(Duration::from_millis(5));
            }
            Err((error, _)) => return Err(error).context("a record can't be sent"),
        }
    }
}
