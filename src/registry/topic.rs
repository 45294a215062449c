//! A compacted topic that carries a directory of models to every replica, file by file.
//!
//! A record holds a piece of a file: its key is `<file>#<piece>`, its headers name the SHA-256 of the whole file and the
//! number of pieces, a tombstone takes it away. What one change writes is one transaction, so a reader that reaches the end
//! has all of it or nothing. Each process keeps a copy of the files in a directory of its own; the topic is the truth, and a
//! copy that could not be written back is made anew from it.
//!
//! Whoever owns the topic's single partition in the group `<group>.trainer` leads: it alone writes, through the
//! `transactional.id` `<group>.trainer`, which fences a leader that has been silent for too long.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Component, Path, PathBuf};
use std::time::{Duration, Instant};

use rdkafka::config::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::KafkaError;
use rdkafka::message::{Header, Headers, Message, OwnedHeaders};
use rdkafka::producer::{BaseProducer, BaseRecord, DeliveryResult, Producer, ProducerContext};
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};
use sha2::{Digest, Sha256};

use super::Versioned;
use crate::kafka::{self, TRANSACTION_TIMEOUT, Transactions};
use crate::record::Topics;

/// How long the end of the topic is waited for.
const END_TIMEOUT: Duration = Duration::from_secs(20);
/// Bytes of a piece: well below the broker's default limit of a megabyte.
const PIECE_BYTES: usize = 512 << 10;
/// Most pieces of a file: half a gigabyte.
const PIECES_MAX: usize = 1024;
/// The file that names the version that scores. It comes last, and only when that version is whole.
const CURRENT: &str = "CURRENT";
const SHA256: &str = "sha256";
const PIECES: &str = "pieces";

/// What this process does with the topic.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// It follows, and leads when it is its turn.
    Replica,
    /// It looks, or changes something once because a person says so.
    Command,
}

/// What the topic holds of a file.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Held {
    sha256: String,
    n_pieces: usize,
}

/// A record that is to be written: its key, and a piece with the file that it belongs to, or nothing.
type Outgoing = (String, Option<(Vec<u8>, Held)>);

/// A file of which not every piece has come.
#[derive(Debug, Default)]
struct Partial {
    sha256: String,
    pieces: BTreeMap<usize, Vec<u8>>,
}

/// A piece that isn't delivered fails its transaction, which says so when it is committed.
impl ProducerContext for kafka::Context {
    type DeliveryOpaque = ();

    fn delivery(&self, _: &DeliveryResult<'_>, (): ()) {}
}

/// The topic, and this process's copy of what it holds.
pub struct TopicLog {
    topic: String,
    root: PathBuf,
    reader: BaseConsumer<kafka::Context>,
    candidate: Option<BaseConsumer<kafka::Context>>,
    /// The writer's settings and its `transactional.id`.
    writing: (ClientConfig, String),
    /// The writer's context.
    context: kafka::Context,
    writer: Option<(BaseProducer<kafka::Context>, Transactions)>,
    leads: bool,
    held: BTreeMap<String, Held>,
    partial: BTreeMap<String, Partial>,
    /// The new contents of [`CURRENT`].
    next_current: Option<Vec<u8>>,
    /// Whether the copy is to be made from the beginning, and whether the end has been seen since.
    is_stale: bool,
    at_end: bool,
    /// Whether the copy has once held all that the topic held since it was begun.
    is_whole: bool,
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
        empty(root).map_err(|error| format!("{}: {error}", root.display()))?;
        Ok(Self {
            topic: topic.to_owned(),
            root: root.to_owned(),
            reader: consumer(reading, "registry")?,
            candidate,
            writing: (writing, id),
            context: kafka::Context::new(client, &client.group, topic),
            writer: None,
            leads: false,
            held: BTreeMap::new(),
            partial: BTreeMap::new(),
            next_current: None,
            is_stale: true,
            at_end: false,
            is_whole: false,
        })
    }

    /// Whether this process is the one that trains; asked between the steps of a training, too.
    pub fn leads(&mut self) -> bool {
        let Some(candidate) = &self.candidate else { return true };
        // Messages are dropped: the partition is there to be owned.
        while candidate.poll(Duration::ZERO).is_some() {}
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
        if self.is_stale {
            self.begin()?;
        }
        let deadline = Instant::now() + END_TIMEOUT;
        loop {
            let wait = if self.at_end { Duration::ZERO } else { Duration::from_millis(100) };
            match self.reader.poll(wait) {
                Some(Ok(message)) => {
                    let piece = Piece::of(&message);
                    drop(message);
                    if let Some(piece) = piece {
                        self.at_end = false;
                        self.take(piece).map_err(|error| format!("{}: {error}", self.root.display()))?;
                    }
                }
                Some(Err(KafkaError::PartitionEOF(_))) => self.at_end = true,
                Some(Err(error)) => return Err(kafka::explain(&error, "")),
                None if self.at_end => break,
                None if Instant::now() >= deadline => {
                    let reported = self.reader.context().trouble.take();
                    return Err(reported.unwrap_or_else(|| "its end was not reached in time".into()));
                }
                None => {}
            }
        }
        self.turn_to_current().map_err(|error| format!("{}: {error}", self.root.display()))?;
        self.is_whole = true;
        Ok(())
    }

    /// Whether the copy says what the topic holds: one that was never read to the end only looks empty.
    pub fn is_whole(&self) -> bool {
        self.is_whole
    }

    /// Writes what has changed in the copy, as a whole.
    ///
    /// Errors: it was not written, and the copy will be made anew; another replica may lead by now.
    pub fn push(&mut self) -> Result<(), String> {
        let pushed = self.try_push();
        if pushed.is_err() {
            self.is_stale = true;
            self.writer = None;
        }
        pushed
    }

    fn try_push(&mut self) -> Result<(), String> {
        if !self.leads() {
            return Err("another replica leads; this one must not write".into());
        }
        let files = files_of(&self.root).map_err(|error| format!("{}: {error}", self.root.display()))?;
        let mut after = BTreeMap::new();
        let mut records: Vec<Outgoing> = Vec::new();
        for (name, bytes) in files {
            let pieces: Vec<&[u8]> = if bytes.is_empty() { vec![&[]] } else { bytes.chunks(PIECE_BYTES).collect() };
            let held = Held { sha256: hash(&bytes), n_pieces: pieces.len() };
            if self.held.get(&name) != Some(&held) {
                let record = |(i, piece): (usize, &&[u8])| (key(&name, i), Some((piece.to_vec(), held.clone())));
                records.extend(pieces.iter().enumerate().map(record));
            }
            after.insert(name, held);
        }
        for (name, held) in &self.held {
            let n_kept = after.get(name).map_or(0, |held| held.n_pieces);
            records.extend((n_kept..held.n_pieces).map(|i| (key(name, i), None)));
        }
        if records.is_empty() {
            return Ok(());
        }
        self.write(&records)?;
        self.held = after;
        Ok(())
    }

    fn write(&mut self, records: &[Outgoing]) -> Result<(), String> {
        if self.writer.is_none() {
            let (settings, id) = &self.writing;
            let producer: BaseProducer<kafka::Context> =
                settings.create_with_context(self.context.clone()).map_err(|error| error.to_string())?;
            let transactions = Transactions::new(id.clone());
            transactions.init(&producer).map_err(|broken| broken.to_string())?;
            self.writer = Some((producer, transactions));
        }
        let (producer, transactions) = self.writer.as_ref().expect("made above if there was none");
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
        transactions.commit(producer, None).map_err(|broken| broken.to_string())
    }

    /// Begins the copy anew.
    fn begin(&mut self) -> Result<(), String> {
        let topics = Topics::from(self.topic.as_str());
        let partitions = kafka::partitions(&self.reader, &topics, kafka::Absent::Awaited, Duration::from_secs(5))?;
        if partitions.len() != 1 {
            return Err(format!("it has {} partitions, a registry has one: whoever owns it trains", partitions.len()));
        }
        let mut list = TopicPartitionList::new();
        list.add_partition_offset(&self.topic, partitions[0].number, Offset::Beginning)
            .map_err(|error| error.to_string())?;
        self.reader.assign(&list).map_err(|error| kafka::explain(&error, ""))?;
        empty(&self.root).map_err(|error| format!("{}: {error}", self.root.display()))?;
        (self.held, self.partial, self.next_current) = (BTreeMap::new(), BTreeMap::new(), None);
        (self.is_stale, self.at_end, self.is_whole) = (false, false, false);
        Ok(())
    }

    fn take(&mut self, piece: Piece) -> io::Result<()> {
        let Piece { file, number, value } = piece;
        let Some((bytes, held)) = value else {
            // A longer file that has become shorter loses its last pieces only.
            if number == 0 && self.held.remove(&file).is_some() {
                remove(&self.root, &file)?;
            }
            return Ok(());
        };
        if self.held.get(&file) == Some(&held) && !self.partial.contains_key(&file) {
            return Ok(());
        }
        let partial = self.partial.entry(file.clone()).or_default();
        if partial.sha256 != held.sha256 {
            *partial = Partial { sha256: held.sha256.clone(), pieces: BTreeMap::new() };
        }
        partial.pieces.insert(number, bytes);
        if partial.pieces.len() < held.n_pieces {
            return Ok(());
        }
        let whole: Vec<u8> =
            self.partial.remove(&file).into_iter().flat_map(|of| of.pieces).flat_map(|of| of.1).collect();
        if hash(&whole) != held.sha256 {
            tracing::error!(topic = self.topic, file, "a file of the registry is damaged and is passed over");
            return Ok(());
        }
        if file == CURRENT {
            self.next_current = Some(whole);
        } else {
            write(&self.root, &file, &whole)?;
        }
        self.held.insert(file, held);
        Ok(())
    }

    /// Makes the version current that the topic names, once it can be used.
    fn turn_to_current(&mut self) -> io::Result<()> {
        let Some(bytes) = self.next_current.take() else { return Ok(()) };
        let version = std::str::from_utf8(&bytes).ok().and_then(|text| text.trim().parse().ok());
        match version.map(|version| Versioned(&self.root).refusal(version)) {
            Some(None) => write(&self.root, CURRENT, &bytes),
            Some(Some(reason)) => {
                tracing::error!(
                    topic = self.topic,
                    version,
                    reason,
                    "the current version can't be used; the one before stays"
                );
                Ok(())
            }
            None => {
                tracing::error!(
                    topic = self.topic,
                    "the registry names no version as the current one; the one before stays"
                );
                Ok(())
            }
        }
    }
}

/// A record of the topic.
struct Piece {
    file: String,
    number: usize,
    value: Option<(Vec<u8>, Held)>,
}

impl Piece {
    /// What a record says; none where it is nothing of ours.
    fn of(message: &impl Message) -> Option<Self> {
        let key = std::str::from_utf8(message.key()?).ok()?;
        Self::parse(key, message.payload(), |name| {
            let headers = message.headers()?;
            let value = headers.iter().find(|header| header.key == name)?.value?;
            Some(std::str::from_utf8(value).ok()?.to_owned())
        })
    }

    fn parse(key: &str, payload: Option<&[u8]>, header: impl Fn(&str) -> Option<String>) -> Option<Self> {
        let (file, number) = key.rsplit_once('#')?;
        let number = number.parse().ok()?;
        // A name must stay inside the copy, whoever wrote it.
        let is_plain = Path::new(file).components().all(|part| matches!(part, Component::Normal(_)));
        if file.is_empty() || !is_plain {
            return None;
        }
        let file = file.to_owned();
        let Some(bytes) = payload else { return Some(Self { file, number, value: None }) };
        let held = Held { sha256: header(SHA256)?, n_pieces: header(PIECES)?.parse().ok()? };
        let fits = (1..=PIECES_MAX).contains(&held.n_pieces) && number < held.n_pieces;
        fits.then(|| Self { file, number, value: Some((bytes.to_vec(), held)) })
    }
}

fn key(file: &str, number: usize) -> String {
    format!("{file}#{number}")
}

fn hash(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

fn empty(root: &Path) -> io::Result<()> {
    if root.exists() {
        fs::remove_dir_all(root)?;
    }
    fs::create_dir_all(root)
}

fn write(root: &Path, file: &str, bytes: &[u8]) -> io::Result<()> {
    let path = root.join(file);
    let fresh = path.with_extension("new");
    fs::create_dir_all(path.parent().unwrap_or(root))?;
    fs::write(&fresh, bytes)?;
    fs::rename(&fresh, &path)
}

/// Removes a file, and the directories that it leaves empty.
fn remove(root: &Path, file: &str) -> io::Result<()> {
    let path = root.join(file);
    match fs::remove_file(&path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    for parent in path.ancestors().skip(1).take_while(|parent| *parent != root) {
        if fs::remove_dir(parent).is_err() {
            break;
        }
    }
    Ok(())
}

/// Every whole file below `root` with its contents, by its name: what names a version comes before the version's manifest.
fn files_of(root: &Path) -> io::Result<Vec<(String, Vec<u8>)>> {
    let mut found = Vec::new();
    let mut folders = vec![root.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder)? {
            let path = entry?.path();
            let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
            if name.starts_with('.') || name.ends_with(".new") {
                continue;
            }
            if path.is_dir() {
                folders.push(path);
            } else if let Ok(inside) = path.strip_prefix(root) {
                found.push((inside.to_string_lossy().into_owned(), fs::read(&path)?));
            }
        }
    }
    // The manifest makes a version, and CURRENT makes it score: both come last.
    found.sort_by_key(|(name, _)| (name == CURRENT, name.ends_with("manifest.json"), name.clone()));
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_piece_is_what_its_key_and_headers_say_and_anything_else_is_passed_over() {
        let header = |name: &str| Some(if name == SHA256 { "ab".to_owned() } else { "2".to_owned() });
        let piece = Piece::parse("v000001/model.safetensors#1", Some(b"xy"), header).expect("it is one of ours");
        assert_eq!((piece.file.as_str(), piece.number), ("v000001/model.safetensors", 1));
        assert_eq!(piece.value, Some((b"xy".to_vec(), Held { sha256: "ab".into(), n_pieces: 2 })));
        assert!(Piece::parse("CURRENT#0", None, |_| None).is_some_and(|piece| piece.value.is_none()));
        for strange in ["CURRENT", "#0", "../up#0", "/etc/passwd#0", "a/../../b#0", "CURRENT#x", "CURRENT#2"] {
            assert!(Piece::parse(strange, Some(b"x"), header).is_none(), "{strange}");
        }
        assert!(Piece::parse("CURRENT#0", Some(b"x"), |_| None).is_none());
        let endless = |name: &str| Some(if name == SHA256 { "ab".to_owned() } else { "99999999".to_owned() });
        assert!(Piece::parse("CURRENT#0", Some(b"x"), endless).is_none(), "memory is bounded");
    }

    #[test]
    fn files_come_with_the_manifest_behind_its_version_and_current_last() {
        let folder = tempfile::tempdir().unwrap();
        for name in ["CURRENT", "PROMOTED", "v000001/manifest.json", "v000001/model.safetensors"] {
            write(folder.path(), name, b"x").unwrap();
        }
        fs::write(folder.path().join("v000001/cfg.json.new"), b"half").unwrap();
        let names: Vec<String> = files_of(folder.path()).unwrap().into_iter().map(|(name, _)| name).collect();
        assert_eq!(names, ["PROMOTED", "v000001/model.safetensors", "v000001/manifest.json", "CURRENT"]);
        remove(folder.path(), "v000001/manifest.json").unwrap();
        remove(folder.path(), "v000001/model.safetensors").unwrap();
        assert!(folder.path().join("PROMOTED").exists());
    }
}
