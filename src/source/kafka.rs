//! The features topics, read as a member of the consumer group.
//!
//! One consumer a lane, polled by the lane's own thread; rebalances run inside that poll, before a batch is taken. Offsets are stored as lists
//! (the single-offset call adds one by itself) and committed by librdkafka every `commit_interval`. A rebalance tells
//! the lane through [`Assignment`], which says what of the leaving partitions may still be stored. With `exactly_once`
//! nothing is committed here: the offsets go with the transaction of the lane's producer.

mod pin;
mod settled;

use std::collections::BTreeMap;
use std::error::Error;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rdkafka::client::{ClientContext, OAuthToken};
use rdkafka::config::{ClientConfig, RDKafkaLogLevel};
use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer, ConsumerContext, RebalanceProtocol};
use rdkafka::error::{KafkaError, KafkaResult, RDKafkaErrorCode};
use rdkafka::statistics::{Broker, Statistics};
use rdkafka::topic_partition_list::{Offset, TopicPartitionList, TopicPartitionListElem};
use rdkafka::types::RDKafkaRespErr;

use super::{Assignment, Config, Headers, Polled, Position, Raw, Source, SourceError};
use crate::kafka::{
    self, Access, BatchConsumer, Broken, Inlet, RawMessage, Right, TRANSACTION_TIMEOUT, Transactional, Trouble,
};
use crate::record::{Partition, RecordId, Topic, Topics};

pub use pin::{Pinned, pin_start};

/// How long a call to the broker may take before it counts as failed and is tried again.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(5);

/// The features topics, read as a member of the consumer group.
pub struct KafkaSource {
    batches: BatchConsumer<Callbacks>,
    topics: Arc<Topics>,
    /// Topics of the messages at hand, by handle; none lives longer than the call that hands its messages over.
    known: Vec<(usize, Topic)>,
}

/// What librdkafka calls back, on the thread that polls.
struct Callbacks {
    topics: Arc<Topics>,
    inlet: Inlet,
    listener: Arc<dyn Assignment>,
    lags: Mutex<BTreeMap<Partition, i64>>,
    trouble: Trouble,
    access: Access,
    connected: AtomicBool,
    /// Whether a topic is gone, until the group gives partitions out again.
    topic_is_gone: AtomicBool,
    /// What offsets are committed with; none: by the consumer itself.
    transactions: Option<Arc<dyn Transactional>>,
    /// Records that were gone before they could be read, since they were asked for.
    n_lost: AtomicU64,
}

impl KafkaSource {
    /// Subscribes lane `lane` to the features topics; with `transactions` offsets are committed through these.
    ///
    /// Errors: the settings are refused, or a secret can't be read.
    pub fn subscribe(
        client: &kafka::Config,
        config: &Config,
        lane: usize,
        listener: Arc<dyn Assignment>,
        transactions: Option<Arc<dyn Transactional>>,
    ) -> Result<Self, SourceError> {
        let fatal = |error: &dyn std::fmt::Display| SourceError::Fatal(error.to_string());
        let topics = Arc::new(config.topic.clone());
        let inlet = Inlet::default();
        let callbacks = Callbacks {
            topics: Arc::clone(&topics),
            inlet: inlet.clone(),
            listener,
            lags: Mutex::default(),
            trouble: Trouble::default(),
            access: Access::new(client),
            connected: AtomicBool::new(true),
            topic_is_gone: AtomicBool::new(false),
            transactions,
            n_lost: AtomicU64::new(0),
        };
        let settings = lane_settings(client, lane).map_err(|error| fatal(&error))?;
        let batches = BatchConsumer::new(&settings, callbacks, &inlet).map_err(|error| fatal(&error))?;
        batches.consumer().subscribe(&topics.subscription()).map_err(|error| fatal(&error))?;
        Ok(Self { batches, topics, known: Vec::new() })
    }

    fn consumer(&self) -> &BaseConsumer<Callbacks> {
        self.batches.consumer()
    }
}

/// The settings of lane `lane`'s consumer.
///
/// Errors: a secret can't be read.
pub fn lane_settings(config: &kafka::Config, lane: usize) -> Result<ClientConfig, kafka::SecretError> {
    let mut client = config.client(&format!("strayd-lane-{lane}"))?;
    client
        .set("group.id", &config.group)
        .set("partition.assignment.strategy", "cooperative-sticky")
        .set("enable.auto.commit", (!config.is_exactly_once()).to_string())
        .set("enable.auto.offset.store", "false")
        .set("auto.commit.interval.ms", config.commit_interval().as_millis().to_string())
        .set("session.timeout.ms", config.session_timeout.as_millis().to_string())
        // Where to start is pinned by commits before the group is joined. A partition without a commit is a new one,
        // and one whose commit has left the topic has lost records already: from the oldest on nothing more is lost.
        .set("auto.offset.reset", "earliest")
        .set("isolation.level", "read_committed")
        // The default of one second starves a fast reader between two fetches; measured 0.15 against 0.54 M/s. Between
        // 1 and 10 ms no difference was found.
        .set("fetch.queue.backoff.ms", "5")
        // A partition's share of one fetch, which lies in the second-level cache until it is read: 277 ns of CPU a
        // record of 128 bytes and 1.9 M/s, against 380 ns and 1.8 M/s with the default of 1 MiB. 64 KiB costs wall time.
        // A larger record comes all the same.
        .set("fetch.message.max.bytes", "262144")
        // Enough to keep a lane busy for tens of milliseconds, little enough to bound memory at any record size; 4 and
        // 64 MiB cost the same. `queued.min.messages` stays: 5,000 loses a quarter of the rate, 20,000 and more nothing.
        .set("queued.max.messages.kbytes", "16384")
        .set("statistics.interval.ms", "5000");
    if let Some(instance) = &config.instance {
        client.set("group.instance.id", format!("{instance}-{lane}"));
    }
    config.pass_through(&mut client);
    Ok(client)
}

impl Source for KafkaSource {
    fn poll(&mut self, max: usize, timeout: Duration, take: &mut dyn FnMut(Raw<'_>)) -> Result<Polled, SourceError> {
        // A rebalance that could not commit has made what was sent useless, and what was read with it.
        if let Some(broken) = self.consumer().context().broken() {
            return Err(broken.into());
        }
        let Self { batches, topics, known } = self;
        known.clear();
        let is_only = topics.only().is_some();
        let taken = batches.take(max, timeout, |message| {
            let topic = if is_only { Topic::default() } else { topic_of(message, topics, known) };
            hand_over(message, topic, take);
        });
        taken.map(Polled::Records).map_err(|error| self.failed(&error))
    }

    fn headers(&self, id: RecordId, visit: &mut dyn FnMut(&str, Option<&[u8]>)) {
        let Partition { topic, number } = id.partition;
        let is_it = |message: &RawMessage<'_>| {
            (message.offset(), message.partition()) == (id.offset, number)
                && self.topics.topic(message.topic()) == topic
        };
        if let Some(message) = self.batches.messages().find(is_it) {
            message.each_header(visit);
        }
    }

    fn store(&mut self, positions: &[Position]) -> Result<usize, SourceError> {
        Ok(self.consumer().context().settle(self.consumer(), positions)?)
    }

    fn rewind(&mut self) -> Result<(), String> {
        self.consumer().context().rewind(self.consumer())
    }

    fn lags(&self) -> Vec<(Partition, i64)> {
        let lags = self.consumer().context().lags.lock().unwrap_or_else(PoisonError::into_inner);
        lags.iter().map(|(&partition, &lag)| (partition, lag)).collect()
    }

    fn has_joined(&self) -> bool {
        !matches!(self.consumer().rebalance_protocol(), RebalanceProtocol::None)
    }

    fn has_recovered(&self) -> bool {
        let context = self.consumer().context();
        context.connected.load(Ordering::Relaxed) && !context.topic_is_gone.load(Ordering::Relaxed)
    }

    fn take_lost(&mut self) -> u64 {
        self.consumer().context().n_lost.swap(0, Ordering::Relaxed)
    }

    fn close(&mut self) {
        if self.consumer().context().transactions.is_some() {
            return self.consumer().unsubscribe();
        }
        match self.consumer().commit_consumer_state(CommitMode::Sync) {
            Ok(()) | Err(KafkaError::ConsumerCommit(RDKafkaErrorCode::NoOffset)) => {}
            Err(error) => tracing::warn!(%error, "the last offsets were not committed; their records will be repeated"),
        }
        self.consumer().unsubscribe();
    }
}

impl KafkaSource {
    fn failed(&self, error: &KafkaError) -> SourceError {
        self.consumer().context().connected.store(false, Ordering::Relaxed);
        let reported = self.consumer().context().trouble.take().unwrap_or_default();
        match self.consumer().client().fatal_error() {
            Some((RDKafkaErrorCode::FencedInstanceId, _)) => {
                let fenced = "fenced: another strayd with the same kafka.instance has taken this one's place in the group; \
                              if both are to run, give each its own kafka.instance";
                return SourceError::Fatal(fenced.to_owned());
            }
            Some((code, reason)) => return SourceError::Fatal(format!("the consumer failed: {code}: {reason}")),
            None => {}
        }
        if kafka::is_gone(error) {
            self.consumer().context().topic_is_gone.store(true, Ordering::Relaxed);
            return SourceError::Retry(self.consumer().context().explain(error, ""));
        }
        SourceError::Retry(self.consumer().context().explain(error, &reported))
    }
}

/// The topic of a message, one of several: its name is looked at once for each topic of a batch.
fn topic_of(message: &RawMessage<'_>, topics: &Topics, known: &mut Vec<(usize, Topic)>) -> Topic {
    let handle = message.topic_handle();
    // Records of a topic come in runs, so the last one is looked at first.
    if let Some(&(_, topic)) = known.iter().rfind(|(of, _)| *of == handle) {
        return topic;
    }
    let topic = topics.topic(message.topic());
    known.push((handle, topic));
    topic
}

fn hand_over(message: &RawMessage<'_>, topic: Topic, take: &mut dyn FnMut(Raw<'_>)) {
    take(Raw {
        id: RecordId { partition: Partition { topic, number: message.partition() }, offset: message.offset() },
        time_ms: message.time_ms().unwrap_or(0),
        key: message.key(),
        payload: message.payload(),
        headers: Some(message),
    });
}

impl Headers for RawMessage<'_> {
    fn each(&self, visit: &mut dyn FnMut(&str, Option<&[u8]>)) {
        self.each_header(visit);
    }
}

/// Stores `positions` and returns how many of them are for partitions that are not ours any more.
fn store<C: ConsumerContext>(consumer: &BaseConsumer<C>, topics: &Topics, positions: &[Position]) -> usize {
    if positions.is_empty() {
        return 0;
    }
    let refused = |positions: &[Position]| consumer.store_offsets(&list_of(topics, positions)).is_err();
    if !refused(positions) {
        return 0;
    }
    // One partition that has left must not keep the others from being settled.
    positions.iter().filter(|&position| refused(std::slice::from_ref(position))).count()
}

fn list_of(topics: &Topics, positions: &[Position]) -> TopicPartitionList {
    let mut list = TopicPartitionList::with_capacity(positions.len());
    for position in positions {
        let Partition { topic, number } = position.next.partition;
        let mut element = list.add_partition(topics.name(topic), number);
        element.set_offset(Offset::Offset(position.next.offset)).expect("an offset of a record is a valid offset");
        element.set_metadata(&position.metadata);
    }
    list
}

impl ClientContext for Callbacks {
    const ENABLE_REFRESH_OAUTH_TOKEN: bool = true;

    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        kafka::log(level, facility, message);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        self.trouble.report(self.explain(&error, reason));
    }

    fn generate_oauth_token(&self, _config: Option<&str>) -> Result<OAuthToken, Box<dyn Error>> {
        self.access.token()
    }

    fn stats(&self, statistics: Statistics) {
        let answers = |broker: &Broker| broker.nodeid >= 0 && broker.state == "UP";
        self.connected.store(statistics.brokers.values().any(answers), Ordering::Relaxed);
        let mut lags = self.lags.lock().unwrap_or_else(PoisonError::into_inner);
        for (partition, known) in lags.iter_mut() {
            let topic = statistics.topics.get(self.topics.name(partition.topic));
            let Some(shown) = topic.and_then(|topic| topic.partitions.get(&partition.number)) else { continue };
            let lag = if shown.consumer_lag_stored >= 0 { shown.consumer_lag_stored } else { shown.consumer_lag };
            if lag >= 0 {
                *known = lag;
            }
        }
    }
}

impl From<Broken> for SourceError {
    fn from(broken: Broken) -> Self {
        match broken {
            Broken::Abort(reason) | Broken::Replace(reason) => Self::Aborted(reason),
            Broken::Fatal(reason) => Self::Fatal(reason),
        }
    }
}

impl Callbacks {
    fn broken(&self) -> Option<Broken> {
        self.transactions.as_ref()?.broken()
    }

    fn explain(&self, error: &KafkaError, reason: &str) -> String {
        let topics = self.topics.to_string();
        let needed = [Right::ReadGroup(self.access.group()), Right::ReadTopic(&topics)];
        self.access.explain(error, reason, &needed)
    }

    fn partitions_of(&self, list: &TopicPartitionList) -> Vec<Partition> {
        let of = |element: &TopicPartitionListElem<'_>| self.topics.partition(element.topic(), element.partition());
        list.elements().iter().map(of).collect()
    }

    /// Commits `positions` with the open transaction, or stores them for the consumer to commit. Returns how many came too
    /// late.
    fn settle(&self, consumer: &BaseConsumer<Self>, positions: &[Position]) -> Result<usize, Broken> {
        if let Some(transactions) = &self.transactions {
            let group = consumer.group_metadata().expect("a consumer always has a group");
            transactions.commit(&list_of(&self.topics, positions), &group)?;
        }
        // With a transaction for the lag alone: nothing commits what is stored here.
        Ok(store(consumer, &self.topics, positions))
    }

    /// Takes the assigned partitions up again at their committed offsets.
    ///
    /// They are sought and not assigned anew: an assignment would answer a rebalance that waits to be served, and keep
    /// partitions whose next owner reads them already.
    fn rewind(&self, consumer: &BaseConsumer<Self>) -> Result<(), String> {
        let failed = |error: &KafkaError| format!("what is committed can't be read again: {}", self.explain(error, ""));
        let mut list = TopicPartitionList::new();
        for element in consumer.assignment().map_err(|error| failed(&error))?.elements() {
            list.add_partition(element.topic(), element.partition());
        }
        if list.count() == 0 {
            return Ok(());
        }
        let committed = consumer.committed_offsets(list.clone(), self.patience()).map_err(|error| failed(&error))?;
        // What of them is settled and not committed is what comes again.
        let _ = self.listener.revoked(&self.partitions_of(&list), true);
        self.assigned(consumer, &mut list, &committed);
        for mut element in list.elements() {
            if element.offset() == Offset::Invalid {
                let found = committed.find_partition(element.topic(), element.partition()).map(|found| found.offset());
                let start = found.filter(|offset| matches!(offset, Offset::Offset(_))).unwrap_or(Offset::Beginning);
                element.set_offset(start).expect("a committed offset is a valid one");
            }
        }
        let sought = consumer.seek_partitions(list, REQUEST_TIMEOUT).map_err(|error| failed(&error))?;
        // One that is not being fetched has not been read either: it will begin where it was told to, or it is leaving.
        let is_refused = |error: &KafkaError| {
            !matches!(error.rdkafka_error_code(), Some(RDKafkaErrorCode::State | RDKafkaErrorCode::PreviousInProgress))
        };
        let refused = sought.elements().into_iter().find_map(|element| element.error().err().filter(is_refused));
        refused.map_or(Ok(()), |error| Err(failed(&error)))
    }

    /// Moves the starts of partitions that come, and tells who listens.
    fn assigned(&self, consumer: &BaseConsumer<Self>, list: &mut TopicPartitionList, committed: &TopicPartitionList) {
        self.topic_is_gone.store(false, Ordering::Relaxed);
        let partitions = self.partitions_of(list);
        let (settled, n_lost) = settled::settled(self, consumer, list, &partitions, committed);
        self.n_lost.fetch_add(n_lost, Ordering::Relaxed);
        let starts = self.listener.assigned(&settled);
        for start in &starts {
            // Where the offset has left the topic, reading starts with the oldest record there is.
            let Partition { topic, number } = start.partition;
            list.set_partition_offset(self.topics.name(topic), number, Offset::Offset(start.offset))
                .expect("the partition is in the list, and the offset is that of a record");
        }
        let mut lags = self.lags.lock().unwrap_or_else(PoisonError::into_inner);
        lags.extend(partitions.iter().map(|&partition| (partition, 0)));
        tracing::info!(partitions = words(&partitions), n_rewound = starts.len(), "partitions assigned");
    }

    /// How long committed offsets are asked for: they are hidden while a transaction that holds newer ones is open, which
    /// one whose producer was killed is until its time is over.
    fn patience(&self) -> Duration {
        let open = self.transactions.as_ref().map_or(Duration::ZERO, |_| TRANSACTION_TIMEOUT);
        REQUEST_TIMEOUT + open
    }

    /// Settles what is acknowledged of partitions that leave.
    fn revoked(&self, consumer: &BaseConsumer<Self>, list: &TopicPartitionList) {
        let partitions = self.partitions_of(list);
        let lost = consumer.assignment_lost();
        let settled = self.listener.revoked(&partitions, lost);
        match (&self.transactions, settled) {
            // A failure is remembered by the transaction, and found when the next batch is read.
            (Some(_), Ok(positions)) if !positions.is_empty() => drop(self.settle(consumer, &positions)),
            (Some(transactions), Err(reason)) => transactions.condemn(&reason),
            (None, Ok(positions)) => drop(store(consumer, &self.topics, &positions)),
            (_, Ok(_) | Err(_)) => {}
        }
        let mut lags = self.lags.lock().unwrap_or_else(PoisonError::into_inner);
        lags.retain(|partition, _| !partitions.contains(partition));
        tracing::info!(partitions = words(&partitions), lost, "partitions revoked");
    }
}

impl ConsumerContext for Callbacks {
    /// As rdkafka's own, but an assignment's starts can be moved before it takes effect.
    fn rebalance(&self, consumer: &BaseConsumer<Self>, kind: RDKafkaRespErr, list: &mut TopicPartitionList) {
        let cooperative = matches!(consumer.rebalance_protocol(), RebalanceProtocol::Cooperative);
        let done = match kind {
            RDKafkaRespErr::RD_KAFKA_RESP_ERR__ASSIGN_PARTITIONS => {
                let committed = consumer.committed_offsets(list.clone(), self.patience()).unwrap_or_else(|error| {
                    tracing::warn!(%error, "committed offsets can't be read: thresholds begin with the model's calibration");
                    TopicPartitionList::new()
                });
                self.assigned(consumer, list, &committed);
                self.inlet.forward(consumer, list);
                if cooperative { consumer.incremental_assign(list) } else { consumer.assign(list) }
            }
            RDKafkaRespErr::RD_KAFKA_RESP_ERR__REVOKE_PARTITIONS => {
                self.revoked(consumer, list);
                if cooperative { consumer.incremental_unassign(list) } else { consumer.unassign() }
            }
            error => {
                tracing::error!(error = %RDKafkaErrorCode::from(error), "a rebalance failed");
                if cooperative { consumer.incremental_unassign(list) } else { consumer.unassign() }
            }
        };
        if let Err(error) = done {
            tracing::error!(%error, "an assignment can't be taken up");
        }
    }

    fn commit_callback(&self, result: KafkaResult<()>, _: &TopicPartitionList) {
        match result {
            Ok(()) | Err(KafkaError::ConsumerCommit(RDKafkaErrorCode::NoOffset)) => {}
            Err(error) => {
                let error = self.explain(&error, "");
                tracing::warn!(error, "a commit failed; librdkafka tries again");
            }
        }
    }

    fn main_queue_min_poll_interval(&self) -> rdkafka::util::Timeout {
        rdkafka::util::Timeout::After(Duration::from_millis(200))
    }
}

/// Partitions as a line of the log shows them.
fn words(partitions: &[Partition]) -> String {
    partitions.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ")
}
