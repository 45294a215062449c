//! The versions as whoever looks at them from beside the trainer sees them: files alone, of the directory or of this process's
//! copy of a topic.
//!
//! A list reads each artifact once; it changes nothing and asks no broker.

use std::collections::BTreeMap;
use std::fs;
use std::sync::{Mutex, PoisonError};
use std::time::SystemTime;

use super::{Config, Directory, Entry, Registry, RegistryError, Summary};
use crate::model::Model;

/// What was read of a version.
#[derive(Clone, Debug)]
struct Read {
    /// When its directory had changed last.
    changed: SystemTime,
    summary: Result<Summary, String>,
}

/// The files of the versions.
#[derive(Debug)]
pub struct Shelf {
    directory: Directory,
    /// What was read of each version.
    read: Mutex<BTreeMap<u64, Read>>,
}

impl Shelf {
    /// The versions of the registry that is configured so.
    pub fn new(config: &Config) -> Self {
        let path = config.topic.as_ref().map_or_else(|| config.path.clone(), |topic| config.path.join(topic));
        Self { directory: Directory::new(&Config { path, ..config.clone() }), read: Mutex::default() }
    }

    /// Every version, oldest first.
    ///
    /// Errors: see [`RegistryError`].
    pub fn list(&self) -> Result<Vec<Entry>, RegistryError> {
        let entries = self.directory.list_with(|version| self.summary(version))?;
        let mut read = self.read.lock().unwrap_or_else(PoisonError::into_inner);
        read.retain(|version, _| entries.iter().any(|entry| entry.version == *version));
        Ok(entries)
    }

    /// Whether there is such a version.
    pub fn has(&self, version: u64) -> bool {
        self.directory.path_of(version).is_dir()
    }

    /// The current version, if there is one.
    ///
    /// Errors: see [`RegistryError`].
    pub fn current(&self) -> Result<Option<u64>, RegistryError> {
        self.directory.current()
    }

    /// Loads a version, with the labels of its latents.
    ///
    /// Errors: see [`RegistryError`].
    pub fn load(&self, version: u64) -> Result<Model, RegistryError> {
        self.directory.look_at(version)
    }

    fn summary(&self, version: u64) -> Result<Summary, String> {
        let path = self.directory.path_of(version);
        let changed = fs::metadata(&path).and_then(|metadata| metadata.modified()).unwrap_or(SystemTime::UNIX_EPOCH);
        let mut read = self.read.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = read.get(&version).filter(|known| known.changed == changed) {
            return known.summary.clone();
        }
        let summary = self.directory.summary(version);
        read.insert(version, Read { changed, summary: summary.clone() });
        summary
    }
}
