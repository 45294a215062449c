//! A directory as registry: `v000012/` is an artifact, `CURRENT` holds the number of the version that scores.
//!
//! `labels.json` holds what people call the latents. For the demo, for `eval` and for a single replica. `CURRENT` is replaced by a rename, so that a reader never sees
//! half of it; a daemon that runs notices the change and swaps.

use std::fs;
use std::path::{Path, PathBuf};

use super::labels::{self, Labels};
use super::{Config, Entry, Registry, RegistryError, Summary};
use crate::model::{Model, artifact};

/// A directory of model versions.
#[derive(Clone, Debug)]
pub struct Directory {
    path: PathBuf,
    keep: usize,
}

impl Directory {
    /// Opens the directory; it is made when the first model is stored.
    pub fn new(config: &Config) -> Self {
        Self { path: config.path.clone(), keep: config.keep.max(1) }
    }

    /// The directory of a version.
    pub fn path_of(&self, version: u64) -> PathBuf {
        self.path.join(format!("v{version:06}"))
    }

    fn versions(&self) -> Result<Vec<u64>, RegistryError> {
        let entries = match fs::read_dir(&self.path) {
            Ok(entries) => entries,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(io(&self.path)(error)),
        };
        let mut versions = Vec::new();
        for entry in entries {
            let name = entry.map_err(io(&self.path))?.file_name();
            let digits = name.to_str().and_then(|name| name.strip_prefix('v'));
            versions.extend(digits.and_then(|digits| digits.parse::<u64>().ok()));
        }
        versions.sort_unstable();
        Ok(versions)
    }

    /// Calls a latent `label`, in every version that has it; without one, it goes by its loadings again.
    ///
    /// Errors: when the labels can't be read or written.
    pub fn set_label(&mut self, latent: u64, label: Option<String>) -> Result<(), RegistryError> {
        let mut labels = labels::read(&self.path)?;
        match label {
            Some(label) => drop(labels.insert(latent, label)),
            None => drop(labels.remove(&latent)),
        }
        labels::write(&self.path, &labels)
    }

    fn artifact(&self, version: u64) -> Result<Model, RegistryError> {
        let path = self.path_of(version);
        if !path.is_dir() {
            return Err(RegistryError::Unknown { version, path: self.path.clone() });
        }
        artifact::load(&path).map_err(|error| RegistryError::Artifact { version, error })
    }

    fn current_file(&self) -> PathBuf {
        self.path.join("CURRENT")
    }

    fn prune(&self, current: u64) -> Result<(), RegistryError> {
        let versions = self.versions()?;
        let n_over = versions.len().saturating_sub(self.keep);
        for version in versions.into_iter().take(n_over).filter(|&version| version != current) {
            let path = self.path_of(version);
            fs::remove_dir_all(&path).map_err(io(&path))?;
        }
        Ok(())
    }
}

impl Registry for Directory {
    fn current(&self) -> Result<Option<u64>, RegistryError> {
        let path = self.current_file();
        match fs::read_to_string(&path) {
            Ok(text) => match text.trim().parse() {
                Ok(version) => Ok(Some(version)),
                Err(_) => Err(RegistryError::Current { path, text: text.trim().chars().take(40).collect() }),
            },
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(io(&path)(error)),
        }
    }

    fn list(&self) -> Result<Vec<Entry>, RegistryError> {
        // A damaged CURRENT must not hide the versions from whoever wants to mend it.
        let current = self.current().unwrap_or_default();
        let entry = |version| Entry {
            version,
            current: current == Some(version),
            model: self.artifact(version).map(|model| summary(&model)).map_err(|error| error.to_string()),
        };
        Ok(self.versions()?.into_iter().map(entry).collect())
    }

    fn load(&self, version: u64) -> Result<Model, RegistryError> {
        let mut model = self.artifact(version)?;
        // After a rollback, what grows from an older version must not give ids that newer ones have given.
        let others = self.versions()?.into_iter().filter(|&other| other != version);
        let given = others.filter_map(|other| Some(self.artifact(other).ok()?.cards.next_id));
        model.cards.next_id = given.fold(model.cards.next_id, u64::max);
        // A damaged file of labels is told by whoever asks for the labels; it must not keep a model from scoring.
        model.cards.set_labels(&self.labels().unwrap_or_default());
        Ok(model)
    }

    fn labels(&self) -> Result<Labels, RegistryError> {
        labels::read(&self.path)
    }

    fn next_version(&self) -> Result<u64, RegistryError> {
        Ok(self.versions()?.last().map_or(1, |version| version + 1))
    }

    fn store(&mut self, model: &Model) -> Result<(), RegistryError> {
        fs::create_dir_all(&self.path).map_err(io(&self.path))?;
        let version = model.version;
        artifact::save(model, &self.path_of(version)).map_err(|error| RegistryError::Artifact { version, error })
    }

    fn promote(&mut self, version: u64) -> Result<(), RegistryError> {
        if !self.path_of(version).is_dir() {
            return Err(RegistryError::Unknown { version, path: self.path.clone() });
        }
        let (path, fresh) = (self.current_file(), self.path.join("CURRENT.new"));
        fs::write(&fresh, format!("{version}\n")).map_err(io(&fresh))?;
        fs::File::open(&fresh).and_then(|file| file.sync_all()).map_err(io(&fresh))?;
        fs::rename(&fresh, &path).map_err(io(&path))?;
        self.prune(version)
    }
}

fn summary(model: &Model) -> Summary {
    Summary {
        hash: model.short_hash().to_owned(),
        trained_at: model.trained_at(),
        n_features: model.n_features(),
        n_rows_train: model.lineage.n_rows_train,
        parent: model.lineage.parent,
        reason: model.lineage.reason.clone(),
    }
}

fn io(path: &Path) -> impl FnOnce(std::io::Error) -> RegistryError {
    let path = path.to_owned();
    move |error| RegistryError::Io { path, error }
}
