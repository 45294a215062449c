//! The transaction of one lane's producer: what the lane publishes and the offsets behind it become visible together, or not
//! at all.
//!
//! Follows KIP-98 and KIP-447. It is begun by the first message, so that an idle lane has none open. Whoever can't go on
//! aborts it and reads again from the committed offsets; a producer that was fenced is of no more use. librdkafka's calls
//! end when their time is over and may be repeated, which is done here up to a deadline.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use rdkafka::consumer::ConsumerGroupMetadata;
use rdkafka::error::{KafkaError, KafkaResult, RDKafkaErrorCode};
use rdkafka::producer::{BaseProducer, Producer, ProducerContext, PurgeConfig};
use rdkafka::topic_partition_list::TopicPartitionList;
use serde::{Deserialize, Serialize};
use thiserror::Error;

use super::{Access, Right};

/// After so long the broker aborts a transaction whose producer is silent; until then readers of committed records wait.
/// A message that can't be delivered within it makes its transaction fail.
pub const TRANSACTION_TIMEOUT: Duration = Duration::from_secs(10);
/// How long one call may take before the lane shows that it is alive, and calls again.
const CALL: Duration = Duration::from_secs(2);

/// What is promised of each record's output.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Delivery {
    /// Nothing is lost; after a crash some of it is published again, under the same ids.
    #[default]
    AtLeastOnce,
    /// Outputs and offsets are committed in one transaction: readers with `read_committed` see each once.
    ExactlyOnce,
}

/// Why a transaction did not come about.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum Broken {
    /// It has to be aborted; what it held comes again.
    #[error("{0}")]
    Abort(String),
    /// The producer can't even abort it; another one of the same id does, and takes its place.
    #[error("{0}")]
    Replace(String),
    /// The producer is of no more use, nor is another one of its id; only a new start helps.
    #[error("{0}")]
    Fatal(String),
}

/// Takes offsets into the open transaction and commits it: what the source of a lane needs of its sink.
pub trait Transactional: Send + Sync {
    /// Commits everything that was sent since the last commit together with `offsets` of the group's member `group`.
    /// Everything sent must have been acknowledged.
    ///
    /// Errors: it has to be aborted, or the producer can't go on.
    fn commit(&self, offsets: &TopicPartitionList, group: &ConsumerGroupMetadata) -> Result<(), Broken>;

    /// Says that the open transaction, if there is one, must not be committed any more.
    fn condemn(&self, reason: &str);

    /// Why the open transaction must not be committed any more, if so.
    fn broken(&self) -> Option<Broken>;
}

/// Transactions ended since the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Ended {
    /// Committed ones.
    pub n_committed: u64,
    /// Aborted ones.
    pub n_aborted: u64,
}

/// The state of a producer's transactions. One thread uses it at a time.
#[derive(Debug)]
pub struct Transactions {
    id: String,
    access: Access,
    is_open: AtomicBool,
    broken: Mutex<Option<Broken>>,
    n_committed: AtomicU64,
    n_aborted: AtomicU64,
}

impl Transactions {
    /// Those of the producer with the `transactional.id` `id`, before the first.
    pub fn new(id: String, access: Access) -> Self {
        Self {
            id,
            access,
            is_open: AtomicBool::new(false),
            broken: Mutex::new(None),
            n_committed: AtomicU64::new(0),
            n_aborted: AtomicU64::new(0),
        }
    }

    /// Registers the producer with the cluster, which ends what an earlier one of the same id has left open.
    ///
    /// Errors: trying again may help, or not.
    pub fn init<C: ProducerContext>(&self, producer: &BaseProducer<C>) -> Result<(), Broken> {
        producer.init_transactions(TRANSACTION_TIMEOUT).map_err(|error| self.say(producer, &error))
    }

    /// Begins a transaction unless one is open.
    ///
    /// Errors: see [`Broken`].
    pub fn open<C: ProducerContext>(&self, producer: &BaseProducer<C>) -> Result<(), Broken> {
        if self.is_open.load(Ordering::Relaxed) {
            return Ok(());
        }
        producer.begin_transaction().map_err(|error| self.explain(producer, &error))?;
        self.is_open.store(true, Ordering::Relaxed);
        Ok(())
    }

    /// Commits the open transaction, or one that holds the offsets of a group's member alone.
    ///
    /// Errors: see [`Broken`].
    pub fn commit<C: ProducerContext>(
        &self,
        producer: &BaseProducer<C>,
        offsets: Option<(&TopicPartitionList, &ConsumerGroupMetadata)>,
    ) -> Result<(), Broken> {
        if let Some(broken) = self.broken() {
            return Err(broken);
        }
        self.open(producer)?;
        let deadline = Instant::now() + TRANSACTION_TIMEOUT;
        if let Some((offsets, group)) = offsets.filter(|(offsets, _)| offsets.count() > 0) {
            self.repeat(producer, deadline, || producer.send_offsets_to_transaction(offsets, group, CALL))?;
        }
        self.repeat(producer, deadline, || producer.commit_transaction(CALL))?;
        self.is_open.store(false, Ordering::Relaxed);
        self.n_committed.fetch_add(1, Ordering::Relaxed);
        Ok(())
    }

    /// Gives up what the open transaction holds; without one nothing is to be done.
    ///
    /// Errors: it could not be aborted in time, or the producer can't go on.
    pub fn abort<C: ProducerContext>(&self, producer: &BaseProducer<C>) -> Result<(), Broken> {
        let mut broken = self.broken.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(useless @ (Broken::Fatal(_) | Broken::Replace(_))) = &*broken {
            return Err(useless.clone());
        }
        *broken = None;
        drop(broken);
        if !self.is_open.load(Ordering::Relaxed) {
            return Ok(());
        }
        let deadline = Instant::now() + TRANSACTION_TIMEOUT;
        // An abort waits for messages that are under way, and serves no delivery reports meanwhile.
        producer.purge(PurgeConfig::default().queue().inflight());
        while producer.in_flight_count() > 0 && Instant::now() < deadline {
            producer.poll(Duration::from_millis(10));
        }
        self.repeat(producer, deadline, || producer.abort_transaction(CALL))?;
        self.aborted();
        Ok(())
    }

    /// Lets `heir` take the place of a producer that can't abort: registering it ends what that one has left open.
    ///
    /// Errors: it could not be registered yet, or never will be.
    pub fn replace<C: ProducerContext>(&self, heir: &BaseProducer<C>) -> Result<(), Broken> {
        self.init(heir)?;
        *self.broken.lock().unwrap_or_else(PoisonError::into_inner) = None;
        self.aborted();
        Ok(())
    }

    fn aborted(&self) {
        if self.is_open.swap(false, Ordering::Relaxed) {
            self.n_aborted.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Says that the open transaction, if there is one, must not be committed any more.
    pub fn condemn(&self, reason: &str) {
        if self.is_open.load(Ordering::Relaxed) {
            let mut broken = self.broken.lock().unwrap_or_else(PoisonError::into_inner);
            broken.get_or_insert_with(|| Broken::Abort(reason.to_owned()));
        }
    }

    /// Why the open transaction must not be committed any more, if so.
    pub fn broken(&self) -> Option<Broken> {
        self.broken.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Transactions ended since the start.
    pub fn ended(&self) -> Ended {
        let [n_committed, n_aborted] = [&self.n_committed, &self.n_aborted].map(|n| n.load(Ordering::Relaxed));
        Ended { n_committed, n_aborted }
    }

    /// Puts an error in words, and remembers what makes the open transaction useless.
    pub fn explain<C: ProducerContext>(&self, producer: &BaseProducer<C>, error: &KafkaError) -> Broken {
        let broken = self.say(producer, error);
        *self.broken.lock().unwrap_or_else(PoisonError::into_inner) = Some(broken.clone());
        broken
    }

    fn say<C: ProducerContext>(&self, producer: &BaseProducer<C>, error: &KafkaError) -> Broken {
        let fatal = producer.client().fatal_error();
        let is_fatal = fatal.is_some() || matches!(error, KafkaError::Transaction(error) if error.is_fatal());
        let code = fatal.as_ref().map(|(code, _)| *code).or_else(|| error.rdkafka_error_code());
        let id = &self.id;
        match code {
            Some(
                RDKafkaErrorCode::Fenced | RDKafkaErrorCode::ProducerFenced | RDKafkaErrorCode::InvalidProducerEpoch,
            ) => Broken::Fatal(format!(
                "fenced: another producer has taken over transactional.id `{id}`, or this one was silent for longer than \
                 {} s; nothing of its open transaction is visible. If two instances run, give each its own kafka.instance",
                TRANSACTION_TIMEOUT.as_secs()
            )),
            Some(RDKafkaErrorCode::TransactionalIdAuthorizationFailed) => {
                Broken::Fatal(self.access.denial(Right::WriteTransactions(self.access.group())))
            }
            _ => {
                let reason = fatal.map(|(_, reason)| reason).unwrap_or_default();
                let needed = [Right::ReadGroup(self.access.group())];
                let text = format!("transaction of `{id}`: {}", self.access.explain(error, &reason, &needed));
                match code {
                    Some(RDKafkaErrorCode::ClusterAuthorizationFailed) => Broken::Fatal(text),
                    _ if is_fatal => Broken::Replace(text),
                    _ => Broken::Abort(text),
                }
            }
        }
    }

    /// Calls until it succeeds, the time is over, or repeating is no use.
    fn repeat<C: ProducerContext>(
        &self,
        producer: &BaseProducer<C>,
        deadline: Instant,
        mut call: impl FnMut() -> KafkaResult<()>,
    ) -> Result<(), Broken> {
        loop {
            match call() {
                Ok(()) => return Ok(()),
                Err(KafkaError::Transaction(error)) if error.is_retriable() && Instant::now() < deadline => {
                    producer.poll(Duration::from_millis(10));
                }
                Err(error) => return Err(self.explain(producer, &error)),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_an_open_transaction_is_condemned() {
        let transactions = Transactions::new("strayd-a-0".into(), Access::default());
        transactions.condemn("the partitions are lost");
        assert_eq!(transactions.broken(), None);
        transactions.is_open.store(true, Ordering::Relaxed);
        transactions.condemn("the partitions are lost");
        transactions.condemn("a later reason");
        assert_eq!(transactions.broken(), Some(Broken::Abort("the partitions are lost".into())));
    }
}
