//! A registry in memory: for evaluating a table, which keeps nothing.

use super::{Entry, Registry, RegistryError};
use crate::model::Model;

/// Keeps the latest model and the current one.
#[derive(Debug, Default)]
pub struct MemoryRegistry {
    latest: Option<Model>,
    current: Option<Model>,
    /// Newest version that was stored; an older one may be stored again.
    newest: u64,
}

impl Registry for MemoryRegistry {
    fn current(&self) -> Result<Option<u64>, RegistryError> {
        Ok(self.current.as_ref().map(|model| model.version))
    }

    fn list(&self) -> Result<Vec<Entry>, RegistryError> {
        Ok(Vec::new())
    }

    fn load(&self, version: u64) -> Result<Model, RegistryError> {
        let found = [&self.latest, &self.current].into_iter().flatten().find(|model| model.version == version);
        found.cloned().ok_or_else(|| RegistryError::Unknown { version, path: "memory".into() })
    }

    fn next_version(&self) -> Result<u64, RegistryError> {
        Ok(self.newest + 1)
    }

    fn store(&mut self, model: &Model) -> Result<(), RegistryError> {
        self.latest = Some(model.clone());
        self.newest = self.newest.max(model.version);
        Ok(())
    }

    fn promote(&mut self, version: u64) -> Result<(), RegistryError> {
        self.current = Some(self.load(version)?);
        Ok(())
    }
}
