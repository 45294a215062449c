//! Client settings that every Kafka client of strayd shares: brokers, security, tuning, and where its log lines go.
//!
//! The files that talk to Kafka (`source/kafka.rs`, `sink/kafka.rs`, `history/topic.rs`) start from
//! [`Config::client`] and add what is theirs. Nothing else in the crate names librdkafka.

mod access;
#[expect(unsafe_code, reason = "rdkafka has no batches; each block says why it is sound")]
mod batch;
mod oauth;
mod security;
mod topics;
mod transaction;

use std::collections::BTreeMap;
use std::error::Error;
use std::sync::{Arc, LazyLock, Mutex, PoisonError};
use std::time::{Duration, Instant};

use rdkafka::client::{ClientContext, OAuthToken};
use rdkafka::config::{ClientConfig, RDKafkaLogLevel};
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::metadata::MetadataPartition;
use rdkafka::topic_partition_list::{Offset, TopicPartitionList, TopicPartitionListElem};
use serde::{Deserialize, Serialize};

use crate::record::{Partition, Topics};

pub use access::{Access, Right};
pub use batch::{BatchConsumer, Inlet, RawMessage};
pub use security::{Protocol, SecretError, Security};
pub use topics::{check_compacted, ensure_compacted};
pub use transaction::{Broken, Delivery, Ended, TRANSACTION_TIMEOUT, Transactional, Transactions};

/// How to reach the cluster.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Bootstrap servers, separated by commas.
    pub brokers: String,
    /// Consumer group; its committed offsets are the only progress that is kept. `<group>.history` is used to read the
    /// history.
    pub group: String,
    /// Name of this instance, the same after every restart: it takes its partitions back at once (`group.instance.id`
    /// is `<instance>-<lane>`). Two running instances must not share it.
    pub instance: Option<String>,
    /// How long the group waits for a silent member before it gives its partitions away; 1 s to 30 min, within the
    /// broker's limits.
    #[serde(with = "humantime_serde")]
    pub session_timeout: Duration,
    /// What is promised of each record's output; [OPERATING.md](OPERATING.md#what-is-promised) says what each means and
    /// costs.
    pub delivery: Delivery,
    /// How often settled offsets are committed: what a crash repeats at most, beside what is in flight. None: 1 s, with
    /// `exactly_once` 100 ms. With `exactly_once` also how often outputs become visible; at most 5 s then.
    #[serde(with = "humantime_serde")]
    pub commit_interval: Option<Duration>,
    /// How long an output may wait for its acknowledgement; then strayd ends with 1 and its records come again. Less
    /// than `max.poll.interval.ms` (5 min).
    #[serde(with = "humantime_serde")]
    pub delivery_timeout: Duration,
    /// Encryption and authentication.
    pub security: Security,
    /// Any other librdkafka setting, for every client, as text: `"client.rack" = "eu-1a"`. In the environment an
    /// underscore stands for a dot: `STRAYD__KAFKA__LIBRDKAFKA__CLIENT_RACK`. What `debug` asks for shows at `log.level
    /// = "debug"`. Refused: `group.id`, `bootstrap.servers`, `enable.auto.commit`, `enable.auto.offset.store`.
    pub librdkafka: BTreeMap<String, String>,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            brokers: "localhost:9092".into(),
            group: "strayd".into(),
            instance: None,
            session_timeout: Duration::from_secs(45),
            delivery: Delivery::default(),
            commit_interval: None,
            delivery_timeout: Duration::from_secs(120),
            security: Security::default(),
            librdkafka: BTreeMap::new(),
        }
    }
}

impl Config {
    /// How often settled offsets are committed, and outputs become visible.
    pub fn commit_interval(&self) -> Duration {
        self.commit_interval.unwrap_or(match self.delivery {
            Delivery::AtLeastOnce => Duration::from_secs(1),
            Delivery::ExactlyOnce => Duration::from_millis(100),
        })
    }

    /// Whether outputs and offsets are committed together.
    pub fn is_exactly_once(&self) -> bool {
        self.delivery == Delivery::ExactlyOnce
    }

    /// The `transactional.id` of lane `lane`. With an instance it stays the same over restarts, and a new start fences what is
    /// left of the old one at once; without, the broker does after the transaction's timeout.
    pub fn transactional_id(&self, lane: usize) -> String {
        static OF_PROCESS: LazyLock<String> = LazyLock::new(|| format!("{:016x}", rand::random::<u64>()));
        format!("{}.{}.{lane}", self.group, self.instance.as_deref().unwrap_or(&OF_PROCESS))
    }

    /// The settings of a client called `<client.id>`, before consumer or producer add theirs.
    ///
    /// Errors: a secret can't be read.
    pub fn client(&self, client_id: &str) -> Result<ClientConfig, SecretError> {
        let mut client = ClientConfig::new();
        client.set("bootstrap.servers", &self.brokers).set("client.id", client_id);
        // A broker that is away is reported by strayd itself, once, with what follows from it.
        client.set("log.connection.close", "false");
        client.set("reconnect.backoff.max.ms", "5000");
        self.security.apply(&mut client)?;
        client.set_log_level(RDKafkaLogLevel::Info);
        Ok(client)
    }

    /// Adds the user's own librdkafka settings; called last, so that they win.
    pub fn pass_through(&self, client: &mut ClientConfig) {
        for (key, value) in &self.librdkafka {
            client.set(key, value);
        }
        if self.librdkafka.contains_key("debug") {
            client.set_log_level(RDKafkaLogLevel::Debug);
        }
    }
}

/// The last trouble that a client reported, for `/readyz` and the log. Shared with the client's callbacks.
#[derive(Clone, Debug, Default)]
pub struct Trouble(Arc<Mutex<Option<String>>>);

impl Trouble {
    /// Remembers `what`. That no broker answers follows from whatever was reported before it, and says less.
    pub fn report(&self, what: String) {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if known.is_none() || !what.starts_with(NO_BROKER) {
            *known = Some(what);
        }
    }

    /// Takes the trouble reported since the last call.
    pub fn take(&self) -> Option<String> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

/// Context of consumers that need no callbacks but log lines, errors and tokens.
#[derive(Clone, Debug)]
pub struct Context {
    /// Where errors are reported.
    pub trouble: Trouble,
    access: Access,
    group: String,
    topic: String,
}

impl Context {
    /// The context of a consumer in `group` that reads `topic`.
    pub fn new(config: &Config, group: &str, topic: &str) -> Self {
        let (access, group, topic) = (Access::new(config), group.to_owned(), topic.to_owned());
        Self { trouble: Trouble::default(), access, group, topic }
    }

    /// Hears that a message was not delivered to `topic`; told is what is not told otherwise.
    pub fn undelivered(&self, error: &KafkaError, topic: &str) {
        if error.rdkafka_error_code() == Some(RDKafkaErrorCode::TopicAuthorizationFailed) {
            self.trouble.report(self.access.denial(Right::WriteTopic(topic)));
        }
    }

    /// How the client authenticates.
    pub fn access(&self) -> &Access {
        &self.access
    }

    /// Says what an error means, and of a missing right, which one it is.
    pub fn explain(&self, error: &KafkaError, reason: &str) -> String {
        self.access.explain(error, reason, &[Right::ReadGroup(&self.group), Right::ReadTopic(&self.topic)])
    }
}

impl ClientContext for Context {
    const ENABLE_REFRESH_OAUTH_TOKEN: bool = true;

    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        if denies(facility, message, &self.topic) {
            self.trouble.report(self.access.denial(Right::WriteTopic(&self.topic)));
        }
        log(level, facility, message);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        self.trouble.report(self.explain(&error, reason));
    }

    fn generate_oauth_token(&self, _config: Option<&str>) -> Result<OAuthToken, Box<dyn Error>> {
        self.access.token()
    }
}

impl rdkafka::consumer::ConsumerContext for Context {}

/// Whether a line of librdkafka's log says that a transaction may not write to `topic`. Nowhere else does it name the topic:
/// delivery reports speak of the purge that follows.
pub fn denies(facility: &str, message: &str, topic: &str) -> bool {
    facility == "ADDPARTS"
        && message.contains("Topic authorization failed")
        && message.contains(&format!("\"{topic}\""))
}

/// Forwards a line of librdkafka's own log. Broken connections are debug lines here: whoever waits for the broker
/// says so at WARN, once, with what follows from it.
pub fn log(level: RDKafkaLogLevel, facility: &str, message: &str) {
    let is_connection = matches!(facility, "FAIL" | "ERROR" | "TERMINATE");
    match level {
        _ if is_connection => tracing::debug!(target: "librdkafka", facility, "{message}"),
        RDKafkaLogLevel::Emerg | RDKafkaLogLevel::Alert | RDKafkaLogLevel::Critical | RDKafkaLogLevel::Error => {
            tracing::error!(target: "librdkafka", facility, "{message}");
        }
        RDKafkaLogLevel::Warning | RDKafkaLogLevel::Notice => {
            tracing::warn!(target: "librdkafka", facility, "{message}");
        }
        RDKafkaLogLevel::Info | RDKafkaLogLevel::Debug => tracing::debug!(target: "librdkafka", facility, "{message}"),
    }
}

/// What it means that the client has no connection.
const NO_BROKER: &str = "no broker answers; check kafka.brokers and that the brokers run";

/// How brokers turn a client's certificate down, or the lack of one, in OpenSSL's words.
const CERTIFICATE_ALERTS: [&str; 5] =
    ["bad certificate", "certificate required", "unknown ca", "certificate expired", "certificate unknown"];

/// The files that librdkafka opens, by its setting, and the keys to look at when it can't use one.
const FILES: [(&str, &str); 3] = [
    ("ssl.key.location", "kafka.security.key_file can't be used; check it and kafka.security.key_password_file"),
    ("ssl.certificate.location", "kafka.security.certificate_file can't be used"),
    ("ssl.ca.location", "kafka.security.ca_file can't be used"),
];

/// Says what an error means for the user, with the cure where there is one.
pub fn explain(error: &KafkaError, reason: &str) -> String {
    if let KafkaError::ClientCreation(why) = error
        && let Some((_, cure)) = FILES.iter().find(|(setting, _)| why.contains(setting))
    {
        return format!("{cure} ({why})");
    }
    let cure = match error.rdkafka_error_code() {
        _ if CERTIFICATE_ALERTS.iter().any(|alert| reason.contains(&format!("alert {alert}"))) => {
            "the broker wants a client's certificate that it trusts; check kafka.security.certificate_file and key_file"
        }
        Some(RDKafkaErrorCode::AllBrokersDown | RDKafkaErrorCode::BrokerTransportFailure) => NO_BROKER,
        Some(RDKafkaErrorCode::Authentication | RDKafkaErrorCode::SaslAuthenticationFailed) => {
            "authentication failed; check kafka.security.sasl_mechanism, username and password_file, or the token of \
             kafka.security.oauth_token_url or oauth_token_file"
        }
        Some(RDKafkaErrorCode::Resolve) => "the host name of a broker can't be resolved; check kafka.brokers",
        Some(RDKafkaErrorCode::SSL) => {
            "TLS failed; kafka.security.ca_file must hold the authority of the broker's certificate, and that must name the host \
             of kafka.brokers (kafka.security.verify_hostname)"
        }
        Some(RDKafkaErrorCode::UnknownTopicOrPartition | RDKafkaErrorCode::UnknownTopic) => "the topic does not exist",
        Some(RDKafkaErrorCode::TopicAuthorizationFailed) => "the user may not use the topic; grant it by an ACL",
        Some(RDKafkaErrorCode::GroupAuthorizationFailed) => "the user may not use the group; grant it by an ACL",
        _ => return if reason.is_empty() { error.to_string() } else { format!("{error}: {reason}") },
    };
    if reason.is_empty() { format!("{cure} ({error})") } else { format!("{cure} ({reason})") }
}

/// Whether an error says that a topic, or the partition of one, is not there.
pub fn is_gone(error: &KafkaError) -> bool {
    use RDKafkaErrorCode::{UnknownPartition, UnknownTopic, UnknownTopicOrPartition};
    matches!(error.rdkafka_error_code(), Some(UnknownPartition | UnknownTopic | UnknownTopicOrPartition))
}

/// What becomes of a topic of a list that isn't there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Absent {
    /// Without it nothing begins.
    Awaited,
    /// It is left out while another one is there.
    LeftOut,
}

/// The partitions of the topics that are read, by topic and number.
///
/// Errors: what keeps a topic from being used, in words for the user; trying again may help.
pub fn partitions(
    consumer: &BaseConsumer<Context>,
    topics: &Topics,
    absent: Absent,
    timeout: Duration,
) -> Result<Vec<Partition>, String> {
    // A client that shows tokens gets its first one by being polled.
    consumer.poll(Duration::ZERO);
    let mut found = Vec::new();
    let mut missing = None;
    for name in topics.names() {
        match numbers(consumer, name, timeout)? {
            Some(numbers) => found.extend(numbers.into_iter().map(|number| topics.partition(name, number))),
            None => missing = missing.or(Some(name)),
        }
    }
    if let Some(name) = missing
        && (absent == Absent::Awaited || found.is_empty() && !topics.has_pattern())
    {
        return Err(format!("topic `{name}` does not exist; create it"));
    }
    if topics.has_pattern() {
        found.extend(matching(consumer, topics, timeout)?);
        found.sort_unstable();
        found.dedup();
    }
    if found.is_empty() {
        return Err(format!("no topic matches `{topics}` yet; create one"));
    }
    Ok(found)
}

/// Numbers of a topic's partitions; none where there is no such topic.
fn numbers(consumer: &BaseConsumer<Context>, topic: &str, timeout: Duration) -> Result<Option<Vec<i32>>, String> {
    let explain = |error: &KafkaError| consumer.context().access.explain(error, "", &[Right::ReadTopic(topic)]);
    let metadata = consumer.fetch_metadata(Some(topic), timeout).map_err(|error| explain(&error))?;
    let found = metadata.topics().iter().find(|t| t.name() == topic);
    match found.map(|t| (t.error().map(RDKafkaErrorCode::from), t.partitions())) {
        Some((None, []) | (Some(RDKafkaErrorCode::UnknownTopicOrPartition), _)) | None => Ok(None),
        Some((None, partitions)) => Ok(Some(partitions.iter().map(MetadataPartition::id).collect())),
        Some((Some(code), _)) => Err(format!("topic `{topic}`: {}", explain(&KafkaError::MetadataFetch(code)))),
    }
}

/// Partitions of the topics that a pattern matches.
fn matching(consumer: &BaseConsumer<Context>, topics: &Topics, timeout: Duration) -> Result<Vec<Partition>, String> {
    let matches = topics.matcher()?;
    let metadata = consumer.fetch_metadata(None, timeout).map_err(|error| explain(&error, ""))?;
    let usable = metadata.topics().iter().filter(|topic| topic.error().is_none() && matches(topic.name()));
    let partitions = usable.flat_map(|topic| {
        let of = |partition: &MetadataPartition| topics.partition(topic.name(), partition.id());
        topic.partitions().iter().map(of).collect::<Vec<_>>()
    });
    Ok(partitions.collect())
}

/// What a consumer without an assignment has to say of its trouble. Errors arrive by polling, among lines of its log.
pub fn heard(consumer: &BaseConsumer<Context>) -> Option<String> {
    const EVENTS_MAX: usize = 64;
    // A poll ends with an error or when nothing has come for so long.
    let quiet = Duration::from_millis(10);
    for _ in 0..EVENTS_MAX {
        if consumer.poll(quiet).is_none() {
            break;
        }
    }
    consumer.context().trouble.take()
}

/// Committed offsets of the consumer's group, none where a partition has none. The consumer has no assignment: what it
/// is polled for while it waits is the news of its clients.
///
/// Errors: as [`partitions`].
pub fn committed(
    consumer: &BaseConsumer<Context>,
    topics: &Topics,
    partitions: &[Partition],
    timeout: Duration,
) -> Result<Vec<(Partition, Option<i64>)>, String> {
    let mut asked = TopicPartitionList::new();
    for &partition in partitions {
        asked.add_partition(topics.name(partition.topic), partition.number);
    }
    let deadline = Instant::now() + timeout;
    // Copied out at once: a list from the client that outlives its consumer hangs the consumer's end.
    let found = loop {
        match consumer.committed_offsets(asked.clone(), timeout) {
            Ok(found) => break found,
            // On a young cluster, and after a broker is gone, the group's coordinator is found only a moment later.
            Err(error) if is_coordinator_moving(&error) && Instant::now() < deadline => {
                consumer.poll(Duration::from_millis(200));
            }
            // A coordinator that may not be asked for is one that is never found: what was reported says more.
            Err(error) => return Err(heard(consumer).unwrap_or_else(|| consumer.context().explain(&error, ""))),
        }
    };
    let offset_of = |element: &TopicPartitionListElem<'_>| match element.offset() {
        Offset::Offset(offset) => (topics.partition(element.topic(), element.partition()), Some(offset)),
        _ => (topics.partition(element.topic(), element.partition()), None),
    };
    Ok(found.elements().iter().map(offset_of).collect())
}

/// Whether an error is of a consumer's group only. librdkafka assigns only with a group's id, and looks for its coordinator;
/// whoever neither joins nor commits has no use for an answer, and needs no right to one.
pub fn is_of_group(error: &KafkaError) -> bool {
    error.rdkafka_error_code() == Some(RDKafkaErrorCode::GroupAuthorizationFailed)
}

fn is_coordinator_moving(error: &KafkaError) -> bool {
    use RDKafkaErrorCode::{CoordinatorLoadInProgress, CoordinatorNotAvailable, NotCoordinator};
    matches!(error.rdkafka_error_code(), Some(CoordinatorLoadInProgress | CoordinatorNotAvailable | NotCoordinator))
}

/// Version of librdkafka.
pub fn library_version() -> String {
    rdkafka::util::get_rdkafka_version().1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_named_instance_keeps_its_transactional_ids() {
        let named = Config { instance: Some("a".into()), ..Config::default() };
        assert_eq!(named.transactional_id(1), "strayd.a.1");
        let unnamed = Config::default();
        assert_eq!(unnamed.transactional_id(0), unnamed.transactional_id(0));
        assert_ne!(unnamed.transactional_id(0), unnamed.transactional_id(1));
    }

    #[test]
    fn settings_passed_through_win() {
        let librdkafka = [("client.id".to_owned(), "mine".to_owned())].into();
        let config = Config { librdkafka, ..Config::default() };
        let mut client = config.client("ours").expect("no secret");
        config.pass_through(&mut client);
        assert_eq!(client.get("client.id"), Some("mine"));
    }

    #[test]
    fn errors_come_with_their_cure() {
        let error = KafkaError::MessageConsumption(RDKafkaErrorCode::AllBrokersDown);
        assert!(explain(&error, "2/2 brokers are down").starts_with("no broker answers; check kafka.brokers"));
    }
}
