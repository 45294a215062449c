//! A compacted topic that carries a directory of models to every replica, file by file.
//!
//! What stands in it is in `mirror.rs`. What one change writes is one transaction, so a reader that reaches the end has all of it
//! or nothing. Each process keeps a copy of the files in a directory of its own; the topic is the truth, and a copy that could not be
//! written back is made anew from it. A topic that was made anew and is empty gets from the leader what the copy holds.
//!
//! Whoever owns the topic's single partition in the group `<group>.trainer` leads: it alone writes, through the
//! `transactional.id` `<group>.trainer`. A leader takes that id over before it reads what it is going to change, which ends what
//! another has left open; and each transaction names its place in the group, which a leader that was deposed has not any more.

use std::io;
use std::path::Path;
use std::time::{Duration, Instant};

use rdkafka::config::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::KafkaError;
use rdkafka::message::{BorrowedMessage, Header, Headers, Message, OwnedHeaders};
use rdkafka::producer::{BaseProducer, BaseRecord, DeliveryResult, Producer, ProducerContext};
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};

use super::mirror::{Mirror, Outgoing, PIECES, Piece, SHA256};
use crate::kafka::{self, TRANSACTION_TIMEOUT, Transactions};
use crate::record::Topics;

/// How long the end of the topic is waited for.
const END_TIMEOUT: Duration = Duration::from_secs(20);
/// How often the topic is asked whether it is there: nothing else tells of one that is gone, or made anew.
const PROBE_INTERVAL: Duration = Duration::from_secs(5);
/// How long that may take; commands of operators wait meanwhile.
const PROBE_TIMEOUT: Duration = Duration::from_secs(3);

/// What this process does with the topic.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// It follows, and leads when it is its turn.
    Replica,
    /// It looks, or changes something once because a person says so.
    Command,
}

/// A piece that isn't delivered fails its transaction; why is remembered until that is said.
impl ProducerContext for kafka::Context {
    type DeliveryOpaque = ();

    fn delivery(&self, result: &DeliveryResult<'_>, (): ()) {
        if let Err((error, message)) = result {
            self.undelivered(error, message.topic());
        }
    }
}

/// How far the topic was read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Reading {
    /// The copy is to be made from the beginning.
    Stale,
    /// The end has not been seen since the beginning.
    Begun,
    /// The copy has held all that the topic held.
    Whole,
    /// As before, and the topic is gone or was made anew since: the copy is all there is.
    Orphaned,
}

/// How far a call reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Until {
    /// Until the end of the topic.
    End,
    /// Until nothing more is at hand.
    Nothing,
}

/// The topic, and this process's copy of what it holds.
pub struct TopicLog {
    topic: String,
    mirror: Mirror,
    client: kafka::Config,
    reader: BaseConsumer<kafka::Context>,
    candidate: Option<BaseConsumer<kafka::Context>>,
    /// The writer's settings and its `transactional.id`.
    writing: (ClientConfig, String),
    /// The writer's context.
    context: kafka::Context,
    writer: Option<(BaseProducer<kafka::Context>, Transactions)>,
    leads: bool,
    /// What the candidate has complained of last, so that it is told once.
    trouble: String,
    reading: Reading,
    /// Whether the copy was whole since it was begun: it is worth more than a topic that is gone.
    was_whole: bool,
    at_end: bool,
    /// Offset after the last record that was read.
    next_offset: i64,
    /// When the topic was last asked whether it is there, and whether it was.
    probed: Option<Instant>,
}

impl TopicLog {
    /// Makes the clients; `root` is emptied and belongs to this process. Nothing is asked of the brokers yet.
    ///
    /// Errors: the settings are refused, a secret can't be read, or the directory can't be made.
    pub fn new(client: &kafka::Config, topic: &str, root: &Path, role: Role) -> Result<Self, String> {
        let of = |name: &str| client.client(name).map_err(|error| error.to_string());
        let consumer = |mut settings: ClientConfig, group: &str| -> Result<BaseConsumer<kafka::Context>, String> {
            let group = format!("{}.{group}", client.group);
            settings
                .set("group.id", &group)
                .set("enable.auto.commit", "false")
                .set("isolation.level", "read_committed")
                .set("session.timeout.ms", client.session_timeout.as_millis().to_string());
            client.pass_through(&mut settings);
            let context = kafka::Context::new(client, &group, topic);
            settings.create_with_context(context).map_err(|error| error.to_string())
        };
        let mut reading = of("strayd-registry")?;
        reading.set("enable.partition.eof", "true").set("auto.offset.reset", "earliest").set("fetch.wait.max.ms", "50");
        let candidate = match role {
            Role::Command => None,
            Role::Replica => {
                let mut standing = of("strayd-leader")?;
                // Who leads goes on leading when another one comes.
                standing.set("partition.assignment.strategy", "cooperative-sticky");
                let candidate = consumer(standing, "trainer")?;
                candidate.subscribe(&[topic]).map_err(|error| error.to_string())?;
                Some(candidate)
            }
        };
        let id = match role {
            Role::Replica => format!("{}.trainer", client.group),
            Role::Command => format!("{}.command.{:016x}", client.group, rand::random::<u64>()),
        };
        let mut writing = of("strayd-registry")?;
        writing
            .set("transactional.id", &id)
            .set("transaction.timeout.ms", TRANSACTION_TIMEOUT.as_millis().to_string())
            .set("compression.type", "lz4");
        client.pass_through(&mut writing);
        let mut mirror = Mirror::new(root);
        mirror.clear().map_err(|error| format!("{}: {error}", root.display()))?;
        Ok(Self {
            topic: topic.to_owned(),
            mirror,
            client: client.clone(),
            reader: consumer(reading, "registry")?,
            candidate,
            writing: (writing, id),
            context: kafka::Context::new(client, &client.group, topic),
            writer: None,
            leads: false,
            trouble: String::new(),
            reading: Reading::Stale,
            was_whole: false,
            at_end: false,
            next_offset: 0,
            probed: None,
        })
    }

    /// Whether this process is the one that trains; asked between the steps of a training, too.
    pub fn leads(&mut self) -> bool {
        let Some(candidate) = &self.candidate else { return true };
        // Messages are dropped: the partition is there to be owned.
        while let Some(polled) = candidate.poll(Duration::ZERO) {
            let Err(error) = polled else { continue };
            candidate.context().trouble.report(candidate.context().explain(&error, ""));
        }
        if let Some(reason) = candidate.context().trouble.take().filter(|reason| *reason != self.trouble) {
            tracing::warn!(topic = self.topic, reason, "this replica can't stand for the trainer's leadership");
            self.trouble = reason;
        }
        let owns = match candidate.assignment() {
            Ok(assigned) if assigned.count() > 0 => {
                if !self.leads
                    && let Err(error) = candidate.pause(&assigned)
                {
                    tracing::debug!(%error, "the owned partition can't be paused; its records are dropped");
                }
                true
            }
            _ => false,
        };
        if owns != self.leads {
            tracing::info!(topic = self.topic, leads = owns, "the trainer's leadership has changed");
            (self.leads, self.writer) = (owns, None);
        }
        owns
    }

    /// Brings the copy up to date.
    ///
    /// Errors: what is wrong, in words for the user; the copy stays as it is, and trying again may help.
    pub fn pull(&mut self) -> Result<(), String> {
        // A client that shows tokens gets them by being polled, and before it has one it is told nothing.
        if self.reading == Reading::Stale {
            // What comes is read again from the beginning.
            drop(self.reader.poll(Duration::ZERO));
        } else {
            self.read(Until::Nothing)?;
        }
        self.probe()?;
        if self.reading == Reading::Stale {
            self.begin()?;
        }
        self.read(Until::End)?;
        if self.reading == Reading::Begun {
            (self.reading, self.was_whole) = (Reading::Whole, true);
        }
        if self.reading == Reading::Orphaned {
            self.restore()?;
        }
        self.mirror.settle().map_err(|error| of_disk(&self.mirror, &error))
    }

    fn read(&mut self, until: Until) -> Result<(), String> {
        let deadline = Instant::now() + END_TIMEOUT;
        loop {
            let is_over = self.at_end || until == Until::Nothing;
            let wait = if is_over { Duration::ZERO } else { Duration::from_millis(100) };
            match self.reader.poll(wait) {
                Some(Ok(message)) => {
                    let (next, piece) = (message.offset() + 1, piece_of(&message));
                    drop(message);
                    (self.next_offset, self.at_end) = (next, false);
                    if let Some(Err(error)) = piece.map(|piece| self.mirror.take(piece)) {
                        // It is not in the copy, and does not come again.
                        self.doubt();
                        return Err(of_disk(&self.mirror, &error));
                    }
                }
                Some(Err(KafkaError::PartitionEOF(_))) => self.at_end = true,
                Some(Err(error)) if kafka::is_of_group(&error) => {}
                Some(Err(error)) => return Err(self.failed(&error)),
                None if is_over => return Ok(()),
                None if Instant::now() >= deadline => {
                    let reported = self.reader.context().trouble.take();
                    return Err(reported.unwrap_or_else(|| "its end was not reached in time".into()));
                }
                None => {}
            }
        }
    }

    /// What an error means; the topic is asked again at once after one.
    fn failed(&mut self, error: &KafkaError) -> String {
        self.probed = None;
        self.reader.context().explain(error, "")
    }

    /// Asks now and then, and after every failure, whether the topic is there and the one that was read.
    fn probe(&mut self) -> Result<(), String> {
        if self.probed.is_some_and(|probed| probed.elapsed() < PROBE_INTERVAL) {
            return Ok(());
        }
        self.probed = None;
        match self.reader.fetch_watermarks(&self.topic, 0, PROBE_TIMEOUT) {
            Ok((_, end)) if end < self.next_offset && self.was_whole => self.take_up_anew()?,
            Ok(_) => {}
            Err(error) => {
                if kafka::is_gone(&error) && self.was_whole {
                    self.reading = Reading::Orphaned;
                    if self.leads() {
                        tracing::warn!(topic = self.topic, "the registry topic is gone; it is made again");
                        kafka::ensure_compacted(&self.client, &self.topic)?;
                        self.take_up_anew()?;
                    }
                }
                return Err(self.failed(&error));
            }
        }
        self.probed = Some(Instant::now());
        Ok(())
    }

    /// Reads a topic that was made anew from its beginning, and keeps the copy: it may be all that is left.
    fn take_up_anew(&mut self) -> Result<(), String> {
        tracing::warn!(topic = self.topic, "the registry topic was made anew");
        self.mirror.forget_topic();
        self.reading = Reading::Orphaned;
        self.assign()
    }

    /// Gives a topic that was made anew and is empty what the copy holds, or follows it where it holds something.
    fn restore(&mut self) -> Result<(), String> {
        if !self.mirror.is_empty() {
            self.reading = Reading::Stale;
            self.begin()?;
            self.read(Until::End)?;
            (self.reading, self.was_whole) = (Reading::Whole, true);
        } else if self.leads() {
            self.write_changes()?;
            self.reading = Reading::Whole;
            tracing::warn!(topic = self.topic, "the registry topic was empty and holds this replica's models now");
        }
        Ok(())
    }

    /// Whether the copy says what the topic holds: one that was never read to the end only looks empty.
    pub fn is_whole(&self) -> bool {
        matches!(self.reading, Reading::Whole | Reading::Orphaned)
    }

    /// The copy.
    pub fn mirror(&self) -> &Mirror {
        &self.mirror
    }

    /// Says that the copy may not be what the topic holds: it is made anew before it is used again.
    pub fn doubt(&mut self) {
        self.reading = Reading::Stale;
        self.writer = None;
    }

    /// Takes the right to write, before the copy is brought up to date and changed: whoever had it can't write any more.
    ///
    /// Errors: another replica leads, or the brokers can't be asked.
    pub fn prepare(&mut self) -> Result<(), String> {
        if !self.leads() {
            return Err("another replica leads; this one must not write".into());
        }
        if self.writer.is_none() {
            let (settings, id) = &self.writing;
            let producer: BaseProducer<kafka::Context> =
                settings.create_with_context(self.context.clone()).map_err(|error| error.to_string())?;
            let transactions = Transactions::new(id.clone(), self.context.access().clone());
            transactions.init(&producer).map_err(|broken| broken.to_string())?;
            self.writer = Some((producer, transactions));
        }
        Ok(())
    }

    /// Writes what has changed in the copy, as a whole.
    ///
    /// Errors: it was not written, and the copy will be made anew; another replica may lead by now.
    pub fn push(&mut self) -> Result<(), String> {
        self.write_changes().inspect_err(|_| self.doubt())
    }

    fn write_changes(&mut self) -> Result<(), String> {
        self.prepare()?;
        let changes = self.mirror.changes().map_err(|error| of_disk(&self.mirror, &error))?;
        if !changes.records.is_empty() {
            self.context.trouble.take();
            let written = self.write(&changes.records);
            let written = written.map_err(|reason| self.context.trouble.take().unwrap_or(reason));
            if let (Err(_), Some((producer, transactions))) = (&written, self.writer.take_if(|_| written.is_err())) {
                // Else readers would wait until the broker gives it up. One that was fenced has none open.
                let _ = transactions.abort(&producer);
            }
            written?;
        }
        self.mirror.wrote(changes);
        Ok(())
    }

    fn write(&self, records: &[Outgoing]) -> Result<(), String> {
        let (producer, transactions) = self.writer.as_ref().expect("prepared before");
        transactions.open(producer).map_err(|broken| broken.to_string())?;
        for (key, value) in records {
            let mut record: BaseRecord<'_, str, [u8]> = BaseRecord::to(&self.topic).key(key.as_str());
            if let Some((bytes, held)) = value {
                let header = |key, value| Header { key, value: Some(value) };
                let pieces = held.n_pieces.to_string();
                let headers = OwnedHeaders::new().insert(header(SHA256, held.sha256.as_str()));
                record = record.payload(bytes).headers(headers.insert(header(PIECES, pieces.as_str())));
            }
            producer.send(record).map_err(|(error, _)| transactions.explain(producer, &error).to_string())?;
        }
        producer.flush(TRANSACTION_TIMEOUT).map_err(|error| transactions.explain(producer, &error).to_string())?;
        // An offset that nobody reads: the group refuses it, and with it the transaction, from a leader that was deposed.
        let mut place = TopicPartitionList::new();
        place.add_partition_offset(&self.topic, 0, Offset::Offset(self.next_offset)).map_err(|e| e.to_string())?;
        let group = self.candidate.as_ref().and_then(Consumer::group_metadata);
        let committed = transactions.commit(producer, group.as_ref().map(|group| (&place, group)));
        committed.map_err(|broken| broken.to_string())
    }

    /// Begins the copy anew.
    fn begin(&mut self) -> Result<(), String> {
        let topics = Topics::from(self.topic.as_str());
        let partitions = kafka::partitions(&self.reader, &topics, kafka::Absent::Awaited, Duration::from_secs(5))?;
        if partitions.len() != 1 {
            return Err(format!("it has {} partitions, a registry has one: whoever owns it trains", partitions.len()));
        }
        self.assign()?;
        self.mirror.clear().map_err(|error| of_disk(&self.mirror, &error))?;
        (self.reading, self.was_whole) = (Reading::Begun, false);
        Ok(())
    }

    /// Reads from the beginning on.
    fn assign(&mut self) -> Result<(), String> {
        (self.next_offset, self.at_end) = (0, false);
        let mut list = TopicPartitionList::new();
        list.add_partition_offset(&self.topic, 0, Offset::Beginning).map_err(|error| error.to_string())?;
        self.reader.assign(&list).map_err(|error| kafka::explain(&error, ""))
    }
}

/// What a record says; none where it is nothing of ours.
fn piece_of(message: &BorrowedMessage<'_>) -> Option<Piece> {
    let key = std::str::from_utf8(message.key()?).ok()?;
    Piece::parse(key, message.payload(), |name| {
        let headers = message.headers()?;
        let value = headers.iter().find(|header| header.key == name)?.value?;
        Some(std::str::from_utf8(value).ok()?.to_owned())
    })
}

fn of_disk(mirror: &Mirror, error: &io::Error) -> String {
    format!("{}: {error}", mirror.root().display())
}
