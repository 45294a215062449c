//! The output topics, written by one idempotent producer a lane.
//!
//! The lane's own thread serves the delivery reports, so that a receipt is counted down without a lock. A delivery that
//! expires or is refused fails its receipt: the lane stops without settling, and the records come again. With
//! `exactly_once` the producer is transactional, and the lane's source commits through it.

use std::error::Error;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use rdkafka::client::{ClientContext, OAuthToken};
use rdkafka::config::{ClientConfig, RDKafkaLogLevel};
use rdkafka::consumer::ConsumerGroupMetadata;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{DeliveryResult, Header, Message, OwnedHeaders};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer, ProducerContext};
use rdkafka::topic_partition_list::TopicPartitionList;

use super::{Channel, Config, Countdown, Outgoing, Receipt, Sink, SinkError};
use crate::kafka::{self, Access, Broken, Ended, Right, TRANSACTION_TIMEOUT, Transactional, Transactions, Trouble};

/// How often a flush looks whether everything is acknowledged.
const FLUSH_SLICE: Duration = Duration::from_millis(1);

/// The output topics, written by one producer at a time.
pub struct KafkaSink {
    producer: ArcSwap<BaseProducer<Callbacks>>,
    making: Making,
    /// By the number of the channel.
    topics: [Option<String>; Channel::ALL.len()],
    /// None: at least once.
    transactions: Option<Transactions>,
}

/// What a producer is made of.
struct Making {
    settings: ClientConfig,
    access: Access,
    /// Those that are written to.
    topics: Vec<String>,
}

struct Callbacks {
    trouble: Trouble,
    access: Access,
    /// Those that are written to.
    topics: Vec<String>,
    /// What a transaction may not do, until it is aborted.
    denied: Mutex<Option<String>>,
}

impl KafkaSink {
    /// Makes a producer that calls itself `client_id`.
    ///
    /// Errors: the settings are refused, or a secret can't be read.
    pub fn new(client: &kafka::Config, config: &Config, client_id: &str) -> Result<Self, SinkError> {
        Self::with(client, config, client_id, None)
    }

    /// Makes the producer of lane `lane`, transactional where the configuration wants everything exactly once.
    ///
    /// Errors: as [`KafkaSink::new`].
    pub fn of_lane(client: &kafka::Config, config: &Config, lane: usize) -> Result<Self, SinkError> {
        let id = client.is_exactly_once().then(|| client.transactional_id(lane));
        Self::with(client, config, &format!("strayd-out-{lane}"), id)
    }

    fn with(
        client: &kafka::Config,
        config: &Config,
        client_id: &str,
        transactional_id: Option<String>,
    ) -> Result<Self, SinkError> {
        let failed = |error: &dyn std::fmt::Display| SinkError::Failed(error.to_string());
        let mut settings = client.client(client_id).map_err(|error| failed(&error))?;
        let mut delivery_timeout = client.delivery_timeout;
        if let Some(id) = &transactional_id {
            settings.set("transactional.id", id);
            settings.set("transaction.timeout.ms", TRANSACTION_TIMEOUT.as_millis().to_string());
            // What isn't delivered while its transaction lives never will be.
            delivery_timeout = delivery_timeout.min(TRANSACTION_TIMEOUT);
        }
        settings
            .set("enable.idempotence", "true")
            .set("linger.ms", config.linger.as_millis().to_string())
            .set("compression.type", &config.compression)
            .set("delivery.timeout.ms", delivery_timeout.as_millis().to_string())
            // Dead letters may be as large as the records; the broker's own limit decides.
            .set("message.max.bytes", "16000000")
            .set("queue.buffering.max.kbytes", "65536");
        client.pass_through(&mut settings);
        let access = Access::new(client);
        let transactions = transactional_id.map(|id| Transactions::new(id, access.clone()));
        let topics = Channel::ALL.map(|channel| config.topic(channel).map(str::to_owned));
        let making = Making { settings, access, topics: topics.iter().flatten().cloned().collect() };
        let producer = ArcSwap::from_pointee(making.producer().map_err(|error| failed(&error))?);
        Ok(Self { producer, making, topics, transactions })
    }

    /// Checks that every output topic exists; a broker that creates topics by itself creates them now.
    ///
    /// Errors: what is wrong, in words for the user; trying again may help.
    pub fn check_topics(&self, timeout: Duration) -> Result<(), String> {
        let producer = self.producer.load();
        for topic in self.topics.iter().flatten() {
            producer.poll(Duration::ZERO);
            let metadata = producer.client().fetch_metadata(Some(topic), timeout).map_err(|error| {
                let reported = producer.context().trouble.take();
                reported.unwrap_or_else(|| kafka::explain(&error, ""))
            })?;
            let found = metadata.topics().iter().find(|t| t.name() == topic);
            let denied = found.and_then(|t| t.error()).map(RDKafkaErrorCode::from);
            if denied == Some(RDKafkaErrorCode::TopicAuthorizationFailed) {
                return Err(self.making.access.denial(Right::WriteTopic(topic)));
            }
            if !found.is_some_and(|t| t.error().is_none() && !t.partitions().is_empty()) {
                return Err(format!("output topic `{topic}` does not exist; create it"));
            }
        }
        Ok(())
    }
}

impl Making {
    fn producer(&self) -> Result<BaseProducer<Callbacks>, String> {
        let context = Callbacks {
            trouble: Trouble::default(),
            access: self.access.clone(),
            topics: self.topics.clone(),
            denied: Mutex::default(),
        };
        self.settings.create_with_context(context).map_err(|error| kafka::explain(&error, ""))
    }
}

impl Sink for KafkaSink {
    fn send(&self, message: &Outgoing<'_>, receipt: &Receipt) -> Result<(), SinkError> {
        let topic = self.topics[message.channel as usize].as_deref();
        let topic = topic.expect("the lane sends only what its configuration asks for");
        let mut headers = OwnedHeaders::new_with_capacity(message.headers.len());
        for (key, value) in message.headers {
            headers = headers.insert(Header { key, value: *value });
        }
        let mut record: BaseRecord<'_, [u8], [u8], Arc<Countdown>> =
            BaseRecord::with_opaque_to(topic, Arc::clone(&receipt.0))
                .payload(message.value)
                .timestamp(message.time_ms)
                .headers(headers);
        if let Some(key) = message.key {
            record = record.key(key);
        }
        let producer = self.producer.load();
        if let Some(transactions) = &self.transactions {
            transactions.open(&producer)?;
        }
        receipt.expect();
        producer.send(record).map_err(|(error, _)| {
            receipt.acknowledge();
            match (error.rdkafka_error_code(), &self.transactions) {
                (Some(RDKafkaErrorCode::QueueFull), _) => SinkError::Full,
                (_, Some(transactions)) => self.denied(transactions.explain(&producer, &error)).into(),
                _ => SinkError::Failed(format!("topic `{topic}`: {}", kafka::explain(&error, ""))),
            }
        })
    }

    fn poll(&self, timeout: Duration) {
        self.producer.load().poll(timeout);
    }

    fn flush(&self, timeout: Duration) -> bool {
        let (producer, deadline) = (self.producer.load(), Instant::now() + timeout);
        // rdkafka's flush waits for as long as it was given, even when all is acknowledged after a moment.
        while producer.flush(FLUSH_SLICE).is_err() {
            if Instant::now() >= deadline {
                return false;
            }
        }
        true
    }

    fn prepare(&self) -> Result<(), SinkError> {
        let Some(transactions) = &self.transactions else { return Ok(()) };
        match transactions.init(&self.producer.load()) {
            Err(Broken::Replace(reason)) => self.replace_producer(transactions, &reason),
            ended => Ok(ended?),
        }
    }

    fn abort(&self) -> Result<(), SinkError> {
        let Some(transactions) = &self.transactions else { return Ok(()) };
        let aborted = transactions.abort(&self.producer.load()).map_err(|broken| self.denied(broken));
        match aborted {
            Err(Broken::Replace(reason)) => self.replace_producer(transactions, &reason)?,
            ended => ended?,
        }
        *self.producer.load().context().denied.lock().unwrap_or_else(PoisonError::into_inner) = None;
        Ok(())
    }

    fn transactions(&self) -> Option<Ended> {
        self.transactions.as_ref().map(Transactions::ended)
    }
}

impl KafkaSink {
    fn replace_producer(&self, transactions: &Transactions, reason: &str) -> Result<(), SinkError> {
        tracing::warn!(reason, "the transactional producer can't go on; another one takes its place");
        let heir = self.making.producer().map_err(SinkError::Failed)?;
        transactions.replace(&heir)?;
        self.producer.store(Arc::new(heir));
        Ok(())
    }

    /// Says of a transaction that failed for want of a right, which one it is.
    fn denied(&self, broken: Broken) -> Broken {
        let denied = self.producer.load().context().denied.lock().unwrap_or_else(PoisonError::into_inner).clone();
        match (denied, broken) {
            (Some(denied), Broken::Abort(_)) => Broken::Abort(denied),
            (Some(denied), Broken::Replace(_)) => Broken::Replace(denied),
            (Some(denied), Broken::Fatal(_)) => Broken::Fatal(denied),
            (None, broken) => broken,
        }
    }
}

impl From<Broken> for SinkError {
    fn from(broken: Broken) -> Self {
        match broken {
            Broken::Abort(reason) | Broken::Replace(reason) => Self::Aborted(reason),
            Broken::Fatal(reason) => Self::Failed(reason),
        }
    }
}

impl Transactional for KafkaSink {
    fn commit(&self, offsets: &TopicPartitionList, group: &ConsumerGroupMetadata) -> Result<(), Broken> {
        let Some(transactions) = &self.transactions else { return Ok(()) };
        transactions.commit(&self.producer.load(), Some((offsets, group))).map_err(|broken| self.denied(broken))
    }

    fn condemn(&self, reason: &str) {
        self.transactions.iter().for_each(|transactions| transactions.condemn(reason));
    }

    fn broken(&self) -> Option<Broken> {
        self.transactions.as_ref().and_then(Transactions::broken)
    }
}

impl ClientContext for Callbacks {
    const ENABLE_REFRESH_OAUTH_TOKEN: bool = true;

    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        if let Some(topic) = self.topics.iter().find(|topic| kafka::denies(facility, message, topic)) {
            let denial = self.access.denial(Right::WriteTopic(topic));
            *self.denied.lock().unwrap_or_else(PoisonError::into_inner) = Some(denial);
        }
        kafka::log(level, facility, message);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        self.trouble.report(kafka::explain(&error, reason));
    }

    fn generate_oauth_token(&self, _config: Option<&str>) -> Result<OAuthToken, Box<dyn Error>> {
        self.access.token()
    }
}

impl ProducerContext for Callbacks {
    type DeliveryOpaque = Arc<Countdown>;

    fn delivery(&self, result: &DeliveryResult<'_>, countdown: Arc<Countdown>) {
        let receipt = Receipt(countdown);
        match result {
            Ok(_) => receipt.acknowledge(),
            Err((error, message)) => {
                let topic = message.topic();
                let denied = self.denied.lock().unwrap_or_else(PoisonError::into_inner).clone();
                let why = denied.unwrap_or_else(|| self.access.explain(error, "", &[Right::WriteTopic(topic)]));
                receipt.fail(format!("topic `{topic}`: {why}"));
            }
        }
    }
}
