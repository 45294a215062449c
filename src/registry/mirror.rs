//! A process's copy of the files that the registry topic holds, and the pieces that files travel in.
//!
//! A record holds a piece of a file: its key is `<file>#<piece>`, its headers name the SHA-256 of the whole file and the
//! number of pieces, a tombstone takes it away. Whatever stands in the topic is foreign: a record that is nothing of ours is passed
//! over, a name never leaves the copy, and a file that is damaged or has pieces missing is told of and never used.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

use super::Versioned;

/// Header with the SHA-256 of the whole file, in hexadecimal.
pub const SHA256: &str = "sha256";
/// Header with the number of pieces of the file.
pub const PIECES: &str = "pieces";
/// Bytes of a piece: well below the broker's default limit of a megabyte.
pub const PIECE_BYTES: usize = 512 << 10;
/// Most pieces of a file: half a gigabyte.
const PIECES_MAX: usize = 1024;
/// Most files of which pieces are awaited: a writer sends file after file.
const PARTIAL_MAX: usize = 16;
/// Most files of the copy: a version has a handful, and `registry.keep` bounds the versions.
const FILES_MAX: usize = 10_000;
/// Longest part of a file's name, and most parts of it: `candidates/<model>/<file>`.
const NAME_BYTES_MAX: usize = 100;
const NAME_PARTS_MAX: usize = 3;
/// The file that names the version that scores. It comes last, and only when that version is whole.
const CURRENT: &str = "CURRENT";

/// What the topic holds of a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Held {
    /// SHA-256 of the whole file, in hexadecimal; empty for one that is damaged, so that the next writer writes it again.
    pub sha256: String,
    /// Number of its pieces.
    pub n_pieces: usize,
}

/// A record that is to be written: its key, and a piece with the file that it belongs to, or nothing.
pub type Outgoing = (String, Option<(Vec<u8>, Held)>);

/// Records that bring the topic up to the copy, and what it holds then.
#[derive(Debug, Default)]
pub struct Changes {
    /// The records, in the order in which they are to be written.
    pub records: Vec<Outgoing>,
    after: BTreeMap<String, Held>,
}

/// A record of the topic.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Piece {
    file: String,
    number: usize,
    value: Option<(Vec<u8>, Held)>,
}

impl Piece {
    /// What a record says; none where it is nothing of ours.
    pub fn parse(key: &str, payload: Option<&[u8]>, header: impl Fn(&str) -> Option<String>) -> Option<Self> {
        let (file, number) = key.rsplit_once('#')?;
        let number = number.parse().ok()?;
        if number >= PIECES_MAX || !is_ours(file) {
            return None;
        }
        let file = file.to_owned();
        let Some(bytes) = payload else { return Some(Self { file, number, value: None }) };
        let held = Held { sha256: header(SHA256)?, n_pieces: header(PIECES)?.parse().ok()? };
        let fits = (1..=PIECES_MAX).contains(&held.n_pieces) && number < held.n_pieces && bytes.len() <= PIECE_BYTES;
        fits.then(|| Self { file, number, value: Some((bytes.to_vec(), held)) })
    }
}

/// A file of which not every piece has come.
#[derive(Debug, Default)]
struct Partial {
    sha256: String,
    n_pieces: usize,
    pieces: BTreeMap<usize, Vec<u8>>,
}

/// A process's copy of the topic's files.
#[derive(Debug)]
pub struct Mirror {
    root: PathBuf,
    held: BTreeMap<String, Held>,
    partial: BTreeMap<String, Partial>,
    damaged: BTreeSet<String>,
    /// The new contents of [`CURRENT`], until the version that it names can be used.
    next_current: Option<Vec<u8>>,
    /// Whether something has come since the last [`Mirror::settle`].
    has_news: bool,
    /// Why the version that the topic names can't be used.
    refusal: Option<String>,
}

impl Mirror {
    /// A copy in `root`, which [`Mirror::clear`] makes and empties.
    pub fn new(root: &Path) -> Self {
        Self {
            root: root.to_owned(),
            held: BTreeMap::new(),
            partial: BTreeMap::new(),
            damaged: BTreeSet::new(),
            next_current: None,
            has_news: false,
            refusal: None,
        }
    }

    /// Where it is.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Begins the copy anew.
    ///
    /// Errors: the file system's.
    pub fn clear(&mut self) -> io::Result<()> {
        let root = std::mem::take(&mut self.root);
        *self = Self::new(&root);
        if self.root.exists() {
            fs::remove_dir_all(&self.root)?;
        }
        fs::create_dir_all(&self.root)
    }

    /// Forgets what the topic held, and keeps the files: the topic was made anew.
    pub fn forget_topic(&mut self) {
        self.held.clear();
        self.partial.clear();
        self.damaged.clear();
    }

    /// Whether nothing of ours stands in the topic.
    pub fn is_empty(&self) -> bool {
        self.held.is_empty() && self.partial.is_empty()
    }

    /// Takes a piece in.
    ///
    /// Errors: the file system's; the copy is to be begun anew then.
    pub fn take(&mut self, piece: Piece) -> io::Result<()> {
        self.has_news = true;
        let Piece { file, number, value } = piece;
        let Some((bytes, held)) = value else { return self.remove(&file, number) };
        let is_damaged = self.damaged.contains(&file);
        if self.held.get(&file) == Some(&held) && !self.partial.contains_key(&file) && !is_damaged {
            return Ok(());
        }
        if !self.partial.contains_key(&file)
            && (self.partial.len() >= PARTIAL_MAX || self.held.len() + self.partial.len() >= FILES_MAX)
        {
            self.damaged.insert(file);
            return Ok(());
        }
        let partial = self.partial.entry(file.clone()).or_default();
        if (&partial.sha256, partial.n_pieces) != (&held.sha256, held.n_pieces) {
            *partial = Partial { sha256: held.sha256.clone(), n_pieces: held.n_pieces, pieces: BTreeMap::new() };
        }
        partial.pieces.insert(number, bytes);
        if partial.pieces.len() < held.n_pieces {
            return Ok(());
        }
        let whole: Vec<u8> =
            self.partial.remove(&file).into_iter().flat_map(|of| of.pieces).flat_map(|of| of.1).collect();
        if hash(&whole) != held.sha256 {
            self.held.insert(file.clone(), Held { sha256: String::new(), ..held });
            self.damaged.insert(file);
            return Ok(());
        }
        if file == CURRENT {
            self.next_current = Some(whole);
        } else if !write(&self.root, &file, &whole)? {
            self.damaged.insert(file);
            return Ok(());
        }
        self.damaged.remove(&file);
        self.held.insert(file, held);
        Ok(())
    }

    fn remove(&mut self, file: &str, number: usize) -> io::Result<()> {
        if let Some(partial) = self.partial.get_mut(file) {
            partial.pieces.remove(&number);
        }
        // A longer file that has become shorter loses its last pieces only.
        if number > 0 {
            return Ok(());
        }
        self.partial.remove(file);
        self.damaged.remove(file);
        if file == CURRENT {
            self.next_current = None;
        }
        if self.held.remove(file).is_some() { remove(&self.root, file) } else { Ok(()) }
    }

    /// Makes the version current that the topic names, once it can be used. Asked when the topic was read to its end.
    ///
    /// Errors: the file system's; it is tried again.
    pub fn settle(&mut self) -> io::Result<()> {
        if !std::mem::take(&mut self.has_news) {
            return Ok(());
        }
        let Some(bytes) = &self.next_current else { return Ok(()) };
        let version = std::str::from_utf8(bytes).ok().and_then(|text| text.trim().parse().ok());
        self.refusal = match version {
            None => Some("it names no version as the current one; `strayd models promote VERSION` does".to_owned()),
            Some(version) => Versioned(&self.root).refusal(version).map(|reason| {
                format!("its current version {version} can't be used: {reason}; `strayd models promote VERSION` takes another")
            }),
        };
        if self.refusal.is_none() {
            let written = write(&self.root, CURRENT, bytes);
            self.has_news = written.is_err();
            written?;
            self.next_current = None;
        }
        Ok(())
    }

    /// Why the version that scores is not the one that the topic names.
    pub fn refusal(&self) -> Option<&str> {
        self.refusal.as_deref()
    }

    /// What of the topic can't be used, in words for the user.
    pub fn trouble(&self) -> Option<String> {
        let incomplete = self.partial.iter().map(|(file, partial)| {
            format!(
                "{} of {} pieces of `{file}` are missing",
                partial.n_pieces - partial.pieces.len(),
                partial.n_pieces
            )
        });
        let damaged = self.damaged.iter().map(|file| format!("`{file}` is damaged and not used"));
        let mut all = self.refusal.iter().cloned().chain(damaged).chain(incomplete);
        let first = all.next()?;
        let n_more = all.count();
        Some(if n_more == 0 { first } else { format!("{first}; and {n_more} more like it") })
    }

    /// What is to be written for the topic to hold what the copy holds.
    ///
    /// Errors: the file system's.
    pub fn changes(&self) -> io::Result<Changes> {
        let mut changes = Changes::default();
        for (name, bytes) in files_of(&self.root)? {
            let pieces: Vec<&[u8]> = if bytes.is_empty() { vec![&[]] } else { bytes.chunks(PIECE_BYTES).collect() };
            let held = Held { sha256: hash(&bytes), n_pieces: pieces.len() };
            if self.held.get(&name) != Some(&held) {
                let record = |(i, piece): (usize, &&[u8])| (key(&name, i), Some((piece.to_vec(), held.clone())));
                changes.records.extend(pieces.iter().enumerate().map(record));
            }
            changes.after.insert(name, held);
        }
        for (name, held) in &self.held {
            // One that the topic names and that can't be used is no file of the copy, and not ours to take away.
            if name == CURRENT && self.next_current.is_some() {
                continue;
            }
            let n_kept = changes.after.get(name).map_or(0, |held| held.n_pieces);
            changes.records.extend((n_kept..held.n_pieces).map(|i| (key(name, i), None)));
        }
        Ok(changes)
    }

    /// Notes that the changes were written.
    pub fn wrote(&mut self, changes: Changes) {
        for file in changes.after.keys() {
            self.damaged.remove(file);
        }
        if changes.after.contains_key(CURRENT) {
            (self.next_current, self.refusal) = (None, None);
        }
        self.held = changes.after;
    }
}

/// Whether it is a name that strayd may have given: it stays inside the copy, whoever wrote it.
fn is_ours(file: &str) -> bool {
    let is_plain = |part: &str| {
        let may_stand = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
        (1..=NAME_BYTES_MAX).contains(&part.len()) && !part.starts_with('.') && part.chars().all(may_stand)
    };
    file.split('/').count() <= NAME_PARTS_MAX && file.split('/').all(is_plain) && !file.ends_with(".new")
}

fn key(file: &str, number: usize) -> String {
    format!("{file}#{number}")
}

fn hash(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Writes a file. Returns false where its name is taken by a directory, or a file stands where its directory should be.
fn write(root: &Path, file: &str, bytes: &[u8]) -> io::Result<bool> {
    let path = root.join(file);
    let fresh = path.with_extension("new");
    let parent = path.parent().unwrap_or(root);
    let written = fs::create_dir_all(parent).and_then(|()| fs::write(&fresh, bytes)).and_then(|()| {
        fs::rename(&fresh, &path).inspect_err(|_| {
            // It is of no use, and goes with the copy at the latest.
            let _ = fs::remove_file(&fresh);
        })
    });
    match written {
        Ok(()) => Ok(true),
        Err(error) if is_taken(&error) => Ok(false),
        Err(error) => Err(error),
    }
}

fn is_taken(error: &io::Error) -> bool {
    use io::ErrorKind::{AlreadyExists, DirectoryNotEmpty, IsADirectory, NotADirectory};
    matches!(error.kind(), AlreadyExists | DirectoryNotEmpty | IsADirectory | NotADirectory)
}

/// Removes a file, and the directories that it leaves empty.
fn remove(root: &Path, file: &str) -> io::Result<()> {
    let path = root.join(file);
    match fs::remove_file(&path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound && !is_taken(&error) => return Err(error),
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
#[path = "mirror_tests.rs"]
mod tests;
