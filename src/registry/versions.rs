//! The registry as it is configured: a directory, or a topic with a copy of it in a directory.
//!
//! With a topic every replica follows what its leader writes; a topic that is away keeps nobody from scoring, and what could
//! not be written is told to whoever wrote. Commands open it like a replica that never leads.

use std::path::PathBuf;
use std::sync::{Mutex, MutexGuard, PoisonError};

use tempfile::TempDir;

use super::topic::{Role, TopicLog};
use super::{Config, Directory, Entry, Labels, Registry, RegistryError};
use crate::kafka;
use crate::model::Model;

/// The registry as it is configured.
pub struct Versions {
    directory: Directory,
    shared: Option<Mutex<Shared>>,
    /// The copy of a command, which goes with it.
    _copy: Option<TempDir>,
}

struct Shared {
    log: TopicLog,
    topic: String,
    /// The last trouble, so that it is told once.
    trouble: Option<String>,
}

impl Shared {
    fn refused(&self, reason: String) -> RegistryError {
        RegistryError::Topic { topic: self.topic.clone(), reason }
    }

    /// Brings the copy up to date as far as possible.
    fn follow(&mut self) {
        let outcome = self.log.pull();
        let trouble = outcome.err().or_else(|| self.log.mirror().trouble());
        match &trouble {
            Some(reason) if self.trouble != trouble => {
                tracing::warn!(
                    topic = self.topic,
                    reason,
                    "the registry can't be followed at the moment; the model stays"
                );
            }
            None if self.trouble.is_some() => tracing::info!(topic = self.topic, "the registry is followed again"),
            _ => {}
        }
        self.trouble = trouble;
    }
}

impl Versions {
    /// Opens the registry for a daemon, which may come to lead.
    ///
    /// Errors: the client's settings are refused, a secret can't be read, or the directory can't be made.
    pub fn open(config: &Config, client: &kafka::Config) -> Result<Self, RegistryError> {
        let Some(topic) = &config.topic else { return Ok(Self::alone(config)) };
        let copy = config.path.join(topic);
        Self::of_topic(config, client, topic, copy, Role::Replica)
    }

    /// Opens the registry for a command, and reads it.
    ///
    /// Errors: as [`Versions::open`], and when a topic can't be read.
    pub fn look(config: &Config, client: &kafka::Config) -> Result<Self, RegistryError> {
        let Some(topic) = &config.topic else { return Ok(Self::alone(config)) };
        let io = |error| RegistryError::Io { path: std::env::temp_dir(), error };
        let copy = tempfile::Builder::new().prefix("strayd-registry-").tempdir().map_err(io)?;
        let opened = Self::of_topic(config, client, topic, copy.path().join("copy"), Role::Command)?;
        let opened = Self { _copy: Some(copy), ..opened };
        if let Some(mut shared) = opened.shared() {
            shared.log.pull().map_err(|reason| shared.refused(reason))?;
        }
        Ok(opened)
    }

    fn alone(config: &Config) -> Self {
        Self { directory: Directory::new(config), shared: None, _copy: None }
    }

    fn of_topic(
        config: &Config,
        client: &kafka::Config,
        topic: &str,
        copy: PathBuf,
        role: Role,
    ) -> Result<Self, RegistryError> {
        let refused = |reason| RegistryError::Topic { topic: topic.to_owned(), reason };
        let log = TopicLog::new(client, topic, &copy, role).map_err(refused)?;
        let directory = Directory::new(&Config { path: copy, ..config.clone() });
        let shared = Shared { log, topic: topic.to_owned(), trouble: None };
        Ok(Self { directory, shared: Some(Mutex::new(shared)), _copy: None })
    }

    /// The directory of a version, or of its copy.
    pub fn path_of(&self, version: u64) -> PathBuf {
        self.directory.path_of(version)
    }

    /// The version that was current before the present one, if it is still there.
    ///
    /// Errors: see [`RegistryError`].
    pub fn before_current(&self) -> Result<Option<u64>, RegistryError> {
        self.directory.before_current()
    }

    /// Hands a model over as a challenger. Returns where it waits.
    ///
    /// Errors: see [`RegistryError`].
    pub fn submit(&mut self, model: &Model) -> Result<PathBuf, RegistryError> {
        self.change(|directory| directory.submit(model))
    }

    fn shared(&self) -> Option<MutexGuard<'_, Shared>> {
        Some(self.shared.as_ref()?.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Changes the directory, or the copy and then the topic.
    fn change<T>(&mut self, act: impl FnOnce(&mut Directory) -> Result<T, RegistryError>) -> Result<T, RegistryError> {
        if let Some(mut shared) = self.shared() {
            let ready = shared.log.prepare().and_then(|()| shared.log.pull());
            ready.map_err(|reason| shared.refused(reason))?;
        }
        let acted = act(&mut self.directory);
        if let (Err(_), Some(mut shared)) = (&acted, self.shared()) {
            // Half of a change must not be written with the next one.
            shared.log.doubt();
        }
        let changed = acted?;
        if let Some(mut shared) = self.shared() {
            shared.log.push().map_err(|reason| shared.refused(reason))?;
        }
        Ok(changed)
    }
}

impl Registry for Versions {
    fn leads(&mut self) -> bool {
        self.shared().is_none_or(|mut shared| shared.log.leads())
    }

    fn current(&self) -> Result<Option<u64>, RegistryError> {
        if let Some(mut shared) = self.shared() {
            shared.follow();
            // A registry that can't be read is not an empty one, for which a first model would be trained.
            if !shared.log.is_whole() {
                let reason = shared.trouble.clone().unwrap_or_default();
                return Err(shared.refused(reason));
            }
            // Nor is one whose version can't be used.
            let refusal = shared.log.mirror().refusal().map(str::to_owned);
            if let (Some(reason), None) = (refusal, self.directory.current()?) {
                return Err(shared.refused(reason));
            }
        }
        self.directory.current()
    }

    fn trouble(&self) -> Option<String> {
        let shared = self.shared()?;
        shared.trouble.clone().map(|reason| shared.refused(reason).to_string())
    }

    fn list(&self) -> Result<Vec<Entry>, RegistryError> {
        self.directory.list()
    }

    fn load(&self, version: u64) -> Result<Model, RegistryError> {
        self.directory.load(version)
    }

    fn labels(&self) -> Result<Labels, RegistryError> {
        self.directory.labels()
    }

    fn set_label(&mut self, latent: u64, label: Option<String>) -> Result<(), RegistryError> {
        self.change(|directory| directory.set_label(latent, label))
    }

    fn next_version(&self) -> Result<u64, RegistryError> {
        self.directory.next_version()
    }

    fn store(&mut self, model: &Model) -> Result<(), RegistryError> {
        self.change(|directory| directory.store(model))
    }

    fn promote(&mut self, version: u64) -> Result<(), RegistryError> {
        self.change(|directory| directory.promote(version))
    }

    fn forget(&mut self) -> Result<(), RegistryError> {
        self.change(|directory| directory.forget())
    }

    fn pinned(&self) -> Result<Option<u64>, RegistryError> {
        self.directory.pinned()
    }

    fn pin(&mut self, version: Option<u64>) -> Result<(), RegistryError> {
        self.change(|directory| directory.pin(version))
    }

    fn take_candidate(&mut self) -> Result<Option<Model>, RegistryError> {
        let waits = self.directory.has_candidate();
        if waits { self.change(|directory| directory.take_candidate()) } else { Ok(None) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_topic_that_was_never_read_is_no_empty_registry() {
        let folder = tempfile::tempdir().unwrap();
        let config = Config { path: folder.path().to_owned(), keep: 5, topic: Some("models".into()) };
        let nobody = kafka::Config { brokers: "127.0.0.1:1".into(), ..kafka::Config::default() };
        let registry = Versions::open(&config, &nobody).unwrap();
        assert!(matches!(registry.current(), Err(RegistryError::Topic { .. })));
    }
}
