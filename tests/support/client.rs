//! What a test does with a broker: make a topic, produce, consume, and read offsets.
//!
//! Every call has a deadline and panics when it passes: a test has no use for an error. No `TopicPartitionList` that a
//! consumer returned outlives that consumer, because its end would then hang.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Mutex;
use std::time::{Duration, Instant};

use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer, ConsumerGroupMetadata};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{Header, Headers, Message, OwnedHeaders};
use rdkafka::producer::{BaseRecord, DeliveryResult, Producer, ProducerContext, ThreadedProducer};
use rdkafka::{ClientConfig, ClientContext, Offset, TopicPartitionList};

use super::{Broker, unique, wait_until};

/// Deadline of a single request.
const REQUEST_MAX: Duration = Duration::from_secs(20);

/// Deadline of everything that is produced by one call.
const DELIVERY_MAX: Duration = Duration::from_secs(120);

/// Size of the largest record the tests send, bytes: 12 MiB, what the broker accepts.
const MESSAGE_BYTES_MAX: &str = "12582912";

/// A record to produce.
#[derive(Clone, Debug, Default)]
pub struct Outgoing {
    /// Kafka key.
    pub key: Option<Vec<u8>>,
    /// Payload; nothing is a tombstone.
    pub value: Option<Vec<u8>>,
    /// Headers in order.
    pub headers: Vec<(String, Vec<u8>)>,
    /// Partition, or the partitioner's choice.
    pub partition: Option<i32>,
    /// Timestamp in milliseconds since the Unix epoch, or now.
    pub timestamp_ms: Option<i64>,
}

impl Outgoing {
    /// A record of a payload alone.
    pub fn value(value: impl Into<Vec<u8>>) -> Self {
        Self { value: Some(value.into()), ..Self::default() }
    }

    /// The same record with a key.
    pub fn key(self, key: impl Into<Vec<u8>>) -> Self {
        Self { key: Some(key.into()), ..self }
    }

    /// The same record for one partition.
    pub fn partition(self, partition: i32) -> Self {
        Self { partition: Some(partition), ..self }
    }

    /// The same record with one more header.
    pub fn header(mut self, name: &str, value: impl Into<Vec<u8>>) -> Self {
        self.headers.push((name.to_owned(), value.into()));
        self
    }
}

/// A record as it was consumed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// Kafka key.
    pub key: Option<Vec<u8>>,
    /// Payload; nothing is a tombstone.
    pub value: Option<Vec<u8>>,
    /// Headers in order; a header may have no value.
    pub headers: Vec<(String, Option<Vec<u8>>)>,
    /// Partition of the topic.
    pub partition: i32,
    /// Offset in the partition.
    pub offset: i64,
    /// Timestamp in milliseconds since the Unix epoch.
    pub timestamp_ms: i64,
}

impl Record {
    /// The first header of this name, as text.
    pub fn header(&self, name: &str) -> Option<&str> {
        let (_, value) = self.headers.iter().find(|(key, _)| key == name)?;
        std::str::from_utf8(value.as_deref()?).ok()
    }

    /// The payload as JSON.
    #[track_caller]
    pub fn json(&self) -> serde_json::Value {
        let value = self.value.as_deref().expect("a record, not a tombstone");
        serde_json::from_slice(value).expect("the payload is JSON")
    }

    fn of(message: &impl Message) -> Self {
        let headers = message.headers().map(|headers| {
            headers.iter().map(|header| (header.key.to_owned(), header.value.map(<[u8]>::to_vec))).collect()
        });
        Self {
            key: message.key().map(<[u8]>::to_vec),
            value: message.payload().map(<[u8]>::to_vec),
            headers: headers.unwrap_or_default(),
            partition: message.partition(),
            offset: message.offset(),
            timestamp_ms: message.timestamp().to_millis().unwrap_or(-1),
        }
    }
}

/// Which records a reader sees, in Kafka's words.
#[derive(Clone, Copy)]
struct Isolation(&'static str);

const COMMITTED: Isolation = Isolation("read_committed");
const UNCOMMITTED: Isolation = Isolation("read_uncommitted");

/// What a group has committed for a partition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Committed {
    /// The next offset to be read.
    pub offset: i64,
    /// Text that was committed along with it.
    pub metadata: String,
}

/// Remembers the first record that couldn't be delivered: a panic would be lost in librdkafka's thread.
#[derive(Default)]
struct Deliveries {
    failure: Mutex<Option<String>>,
}

impl ClientContext for Deliveries {}

impl ProducerContext for Deliveries {
    type DeliveryOpaque = ();

    fn delivery(&self, result: &DeliveryResult<'_>, (): ()) {
        if let Err((error, message)) = result {
            let text = format!("partition {}: {error}", message.partition());
            self.failure.lock().expect("no panic under this lock").get_or_insert(text);
        }
    }
}

impl Broker {
    /// Makes a topic with a name that no other test uses, and returns the name.
    #[track_caller]
    pub fn new_topic(&self, stem: &str, n_partitions: i32) -> String {
        let name = unique(stem);
        self.create_topic(&name, n_partitions, &[]);
        name
    }

    /// Makes a topic with one replica and waits until it can be used; records of 10 MB fit unless `configs` disagrees.
    #[track_caller]
    pub fn create_topic(&self, name: &str, n_partitions: i32, configs: &[(&str, &str)]) {
        let admin: AdminClient<DefaultClientContext> = self.client().create().expect("these settings are valid");
        let topic = NewTopic::new(name, n_partitions, TopicReplication::Fixed(1));
        let topic = topic.set("max.message.bytes", MESSAGE_BYTES_MAX);
        let topic = configs.iter().fold(topic, |topic, (key, value)| topic.set(key, value));
        let options = AdminOptions::new().operation_timeout(Some(REQUEST_MAX)).request_timeout(Some(REQUEST_MAX));
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime starts");
        let made = runtime.block_on(admin.create_topics([&topic], &options)).expect("the request is answered");
        made[0].as_ref().expect("the topic can be made");
        wait_until(REQUEST_MAX, "the new topic's partitions", || self.partitions(name).len() == n_partitions as usize);
    }

    /// Produces the records in order and returns how many, after the broker has acknowledged all of them.
    #[track_caller]
    pub fn produce(&self, topic: &str, records: impl IntoIterator<Item = Outgoing>) -> usize {
        let sender = self.sender(topic);
        let n_sent = records.into_iter().map(|record| sender.send(&record)).count();
        sender.finish();
        n_sent
    }

    /// A producer of one topic for records that come over time; it outlasts a broker that is away for minutes.
    pub fn sender(&self, topic: &str) -> Sender {
        let producer = self
            .client()
            .set("enable.idempotence", "true")
            .set("linger.ms", "5")
            .set("reconnect.backoff.max.ms", "1000")
            .set("message.max.bytes", MESSAGE_BYTES_MAX)
            .create_with_context(Deliveries::default())
            .expect("these settings are valid");
        Sender { producer, topic: topic.to_owned() }
    }

    /// Consumes all partitions from their start until `n` records are there, and panics at the deadline.
    ///
    /// Sorted by partition and offset. Records of open and aborted transactions are not seen.
    #[track_caller]
    pub fn consume(&self, topic: &str, n: usize, deadline: Duration) -> Vec<Record> {
        let mut records = Vec::new();
        self.visit_while(topic, COMMITTED, deadline, |n_seen, _| n_seen < n, |record| records.push(record));
        records.sort_by_key(|record: &Record| (record.partition, record.offset));
        assert!(records.len() >= n, "{} of {n} records of {topic} within {deadline:?}", records.len());
        records
    }

    /// Consumes all partitions from their start to the end at which they stand now, and panics at the deadline.
    #[track_caller]
    pub fn consume_to_end(&self, topic: &str, deadline: Duration) -> Vec<Record> {
        let mut records = Vec::new();
        self.visit_to_end(topic, deadline, |record| records.push(record));
        records.sort_by_key(|record: &Record| (record.partition, record.offset));
        records
    }

    /// Shows `visit` all records from the start of each partition, in its order, to the end at which it stands now, and
    /// panics at the deadline.
    #[track_caller]
    pub fn visit_to_end(&self, topic: &str, deadline: Duration, visit: impl FnMut(Record)) {
        let n_partitions = self.partitions(topic).len();
        let mut n_ended = 0;
        let more = |_, ended| {
            n_ended = ended;
            ended < n_partitions
        };
        self.visit_while(topic, COMMITTED, deadline, more, visit);
        assert_eq!(n_ended, n_partitions, "partitions of {topic} read to the end within {deadline:?}");
    }

    /// Consumes as [`Broker::consume_to_end`] does, records of open and aborted transactions too.
    #[track_caller]
    pub fn consume_uncommitted(&self, topic: &str, deadline: Duration) -> Vec<Record> {
        let (n_partitions, mut records) = (self.partitions(topic).len(), Vec::new());
        self.visit_while(topic, UNCOMMITTED, deadline, |_, ended| ended < n_partitions, |record| records.push(record));
        records
    }

    /// The end offset of every partition: the one that the next record gets.
    #[track_caller]
    pub fn end_offsets(&self, topic: &str) -> BTreeMap<i32, i64> {
        let consumer = self.reader("strayd-test-offsets");
        let end = |partition| {
            let marks = consumer.fetch_watermarks(topic, partition, REQUEST_MAX);
            (partition, marks.expect("the broker knows the end of a partition").1)
        };
        self.partitions(topic).into_iter().map(end).collect()
    }

    /// Whether a topic holds records of a transaction that has not ended.
    #[track_caller]
    pub fn has_open_transaction(&self, topic: &str) -> bool {
        let settings = self.reader_settings("strayd-test-offsets").set("isolation.level", UNCOMMITTED.0).to_owned();
        let consumer: BaseConsumer = settings.create().expect("these settings are valid");
        let is_stable = |(partition, stable)| {
            let marks = consumer.fetch_watermarks(topic, partition, REQUEST_MAX);
            marks.expect("the broker knows the end of a partition").1 <= stable
        };
        !self.end_offsets(topic).into_iter().all(is_stable)
    }

    /// How a member of a group that reads nothing calls itself.
    pub fn group_metadata(&self, group: &str) -> ConsumerGroupMetadata {
        self.reader(group).group_metadata().expect("a consumer always has a group")
    }

    /// What a group has committed, by partition; one without a committed offset is left out.
    #[track_caller]
    pub fn committed(&self, group: &str, topic: &str) -> BTreeMap<i32, Committed> {
        let consumer = self.reader(group);
        let mut wanted = TopicPartitionList::new();
        for partition in self.partitions(topic) {
            wanted.add_partition(topic, partition);
        }
        let list = consumer.committed_offsets(wanted, REQUEST_MAX).expect("the coordinator answers");
        let found = list.elements().into_iter().filter_map(|entry| {
            let Offset::Offset(offset) = entry.offset() else { return None };
            Some((entry.partition(), Committed { offset, metadata: entry.metadata().to_owned() }))
        });
        let found = found.collect();
        drop(list); // before its consumer
        found
    }

    /// Commits the end of every partition of a topic for a group without members.
    #[track_caller]
    pub fn commit_ends(&self, group: &str, topic: &str) {
        let consumer = self.reader(group);
        let mut list = TopicPartitionList::new();
        for (partition, offset) in self.end_offsets(topic) {
            list.add_partition_offset(topic, partition, Offset::Offset(offset)).expect("the offset is not negative");
        }
        consumer.commit(&list, CommitMode::Sync).expect("the coordinator takes it");
    }

    /// The partitions of a topic; none when there is no such topic.
    #[track_caller]
    pub fn partitions(&self, topic: &str) -> Vec<i32> {
        let consumer = self.reader("strayd-test-metadata");
        let metadata = consumer.fetch_metadata(Some(topic), REQUEST_MAX).expect("the broker answers");
        let found = metadata.topics().iter().find(|found| found.name() == topic && found.error().is_none());
        found.map(|topic| topic.partitions().iter().map(|partition| partition.id()).collect()).unwrap_or_default()
    }

    fn client(&self) -> ClientConfig {
        let mut config = ClientConfig::new();
        config.set("bootstrap.servers", self.brokers());
        config
    }

    /// A consumer that joins no group and commits nothing by itself, quick to fetch.
    fn reader(&self, group: &str) -> BaseConsumer {
        self.reader_settings(group).create().expect("these settings are valid")
    }

    fn reader_settings(&self, group: &str) -> ClientConfig {
        let mut config = self.client();
        config
            .set("group.id", group)
            .set("enable.auto.commit", "false")
            .set("enable.partition.eof", "true")
            .set("fetch.wait.max.ms", "50")
            .set("fetch.queue.backoff.ms", "5");
        config
    }

    /// Reads on while `more(records seen, partitions at their end)` says so and the deadline hasn't passed.
    fn visit_while(
        &self,
        topic: &str,
        isolation: Isolation,
        deadline: Duration,
        mut more: impl FnMut(usize, usize) -> bool,
        mut visit: impl FnMut(Record),
    ) {
        let until = Instant::now() + deadline;
        let settings = self.reader_settings("strayd-test-reader").set("isolation.level", isolation.0).to_owned();
        let consumer: BaseConsumer = settings.create().expect("these settings are valid");
        let mut all = TopicPartitionList::new();
        for partition in self.partitions(topic) {
            all.add_partition_offset(topic, partition, Offset::Beginning).expect("the offset is valid");
        }
        consumer.assign(&all).expect("the partitions exist");
        let (mut n_seen, mut ended) = (0, BTreeSet::new());
        while more(n_seen, ended.len()) && Instant::now() < until {
            match consumer.poll(Duration::from_millis(100)) {
                None => {}
                Some(Ok(message)) => {
                    n_seen += 1;
                    visit(Record::of(&message));
                }
                Some(Err(KafkaError::PartitionEOF(partition))) => {
                    ended.insert(partition);
                }
                Some(Err(error)) => panic!("consuming {topic}: {error}"),
            }
        }
    }
}

/// Produces to one topic.
pub struct Sender {
    producer: ThreadedProducer<Deliveries>,
    topic: String,
}

impl Sender {
    /// Hands over one record, and waits where the producer's queue is full.
    #[track_caller]
    pub fn send(&self, record: &Outgoing) {
        send(&self.producer, &self.topic, record);
    }

    /// Waits until the broker has acknowledged everything.
    #[track_caller]
    pub fn finish(self) {
        let Self { producer, topic } = self;
        producer.flush(DELIVERY_MAX).expect("everything is acknowledged in time");
        let failure = producer.context().failure.lock().expect("no panic under this lock").take();
        assert_eq!(failure, None, "a record was not delivered to {topic}");
    }
}

/// Hands one record to the producer, and waits where its queue is full.
fn send(producer: &ThreadedProducer<Deliveries>, topic: &str, record: &Outgoing) {
    let add =
        |headers: OwnedHeaders, (key, value): &(String, Vec<u8>)| headers.insert(Header { key, value: Some(value) });
    let mut next = BaseRecord::<[u8], [u8]>::to(topic);
    next.key = record.key.as_deref();
    next.payload = record.value.as_deref();
    next.partition = record.partition;
    next.timestamp = record.timestamp_ms;
    next.headers = (!record.headers.is_empty()).then(|| record.headers.iter().fold(OwnedHeaders::new(), add));
    let mut slot = Some(next);
    wait_until(DELIVERY_MAX, "room in the producer's queue", || {
        let next = slot.take().expect("put back below when the queue was full");
        match producer.send(next) {
            Ok(()) => true,
            Err((KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull), next)) => {
                slot = Some(next);
                false
            }
            Err((error, _)) => panic!("producing to {topic}: {error}"),
        }
    });
}
