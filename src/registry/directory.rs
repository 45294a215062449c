//! A directory as registry: `v000012/` is an artifact, `CURRENT` holds the number of the version that scores.
//!
//! `labels.json` holds what people call the latents. For the demo, for `eval` and for a single replica. `CURRENT` is replaced by a rename, so that a reader never sees
//! half of it; a daemon that runs notices the change and swaps.

use std::fs;
use std::path::{Path, PathBuf};

use super::labels::{self, Labels};
use super::{Config, Entry, Registry, RegistryError, Summary};
use crate::model::{Model, artifact};

/// File that names the pinned version.
const PINNED: &str = "PINNED";
/// File that lists the versions that were current, in that order.
const PROMOTED: &str = "PROMOTED";
/// Promotions that are remembered.
const PROMOTED_MAX: usize = 1000;
/// Directory in which submitted models wait to be judged.
const CANDIDATES: &str = "candidates";

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

    /// Every version, oldest first, with what `summarise` says of it.
    pub(super) fn list_with(
        &self,
        summarise: impl Fn(u64) -> Result<Summary, String>,
    ) -> Result<Vec<Entry>, RegistryError> {
        // A damaged CURRENT must not hide the versions from whoever wants to mend it.
        let current = self.current().unwrap_or_default();
        let (promoted, pinned) = (self.promoted()?, self.pinned().unwrap_or_default());
        let entry = |version| Entry {
            version,
            current: current == Some(version),
            promoted: promoted.is_empty() || promoted.contains(&version),
            pinned: pinned == Some(version),
            model: summarise(version),
        };
        Ok(self.versions()?.into_iter().map(entry).collect())
    }

    /// What a list shows of a version, or why it is refused.
    pub(super) fn summary(&self, version: u64) -> Result<Summary, String> {
        self.artifact(version).map(|model| summary(&model)).map_err(|error| error.to_string())
    }

    /// Loads a version for whoever looks at it, with the labels of its latents.
    pub(super) fn look_at(&self, version: u64) -> Result<Model, RegistryError> {
        let mut model = self.artifact(version)?;
        model.cards.set_labels(&self.labels().unwrap_or_default());
        Ok(model)
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

    /// Versions that were current at some time, in the order in which they became so.
    fn promoted(&self) -> Result<Vec<u64>, RegistryError> {
        let lines = read_or_none(&self.path.join(PROMOTED))?.unwrap_or_default();
        Ok(lines.lines().filter_map(|line| line.trim().parse().ok()).collect())
    }

    /// The version that was current before the present one, if it is still there.
    ///
    /// Errors: see [`RegistryError`].
    pub fn before_current(&self) -> Result<Option<u64>, RegistryError> {
        let (current, versions) = (self.current()?, self.versions()?);
        let there = |version: &u64| Some(*version) != current && versions.contains(version);
        let promoted = self.promoted()?;
        let until = promoted.iter().rposition(|version| Some(*version) == current).unwrap_or(promoted.len());
        let older = || versions.iter().copied().rfind(|&version| Some(version) < current);
        Ok(promoted[..until].iter().copied().rfind(there).or_else(|| older().filter(|_| promoted.is_empty())))
    }

    /// Hands a model over as a challenger: it is judged by whoever trains here. Returns where it waits.
    ///
    /// Errors: when it can't be written.
    pub fn submit(&mut self, model: &Model) -> Result<PathBuf, RegistryError> {
        let waiting = self.path.join(CANDIDATES);
        fs::create_dir_all(&waiting).map_err(io(&waiting))?;
        let path = waiting.join(format!("{}-{}", model.trained_at_ms, model.short_hash()));
        artifact::save(model, &path).map_err(|error| RegistryError::Directory { path: path.clone(), error })?;
        Ok(path)
    }

    /// Whether a submitted model waits.
    pub fn has_candidate(&self) -> bool {
        fs::read_dir(self.path.join(CANDIDATES)).is_ok_and(|mut waiting| waiting.next().is_some())
    }

    /// Removes the oldest versions beyond what is kept.
    fn prune(&self) -> Result<(), RegistryError> {
        let (versions, promoted) = (self.versions()?, self.promoted()?);
        let current = self.current()?;
        let parent = current.and_then(|version| self.artifact(version).ok()?.lineage.parent);
        let stays = [current, parent, self.pinned()?];
        // A registry without the list is older than the list: all of it was promoted.
        let (were, others): (Vec<u64>, Vec<u64>) =
            versions.into_iter().partition(|version| promoted.is_empty() || promoted.contains(version));
        for family in [were, others] {
            let n_over = family.len().saturating_sub(self.keep);
            for version in family.into_iter().take(n_over).filter(|version| !stays.contains(&Some(*version))) {
                let path = self.path_of(version);
                fs::remove_dir_all(&path).map_err(io(&path))?;
            }
        }
        Ok(())
    }

    /// Adds to the list of promoted versions, and drops from it what is gone.
    fn note_promotion(&self, version: u64) -> Result<(), RegistryError> {
        let (there, mut promoted) = (self.versions()?, self.promoted()?);
        if promoted.is_empty() {
            // The first entry of a list speaks for all that came before there was one.
            promoted = self.current()?.map_or_else(Vec::new, |current| {
                there.iter().copied().filter(|other| *other < version && *other <= current).collect()
            });
        }
        promoted.retain(|other| there.contains(other));
        promoted.push(version);
        let newest = promoted.len().saturating_sub(PROMOTED_MAX);
        let lines: Vec<String> = promoted[newest..].iter().map(|version| format!("{version}\n")).collect();
        replace(&self.path.join(PROMOTED), &lines.concat())
    }
}

impl Registry for Directory {
    fn current(&self) -> Result<Option<u64>, RegistryError> {
        read_version(&self.current_file())
    }

    fn list(&self) -> Result<Vec<Entry>, RegistryError> {
        self.list_with(|version| self.summary(version))
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

    fn set_label(&mut self, latent: u64, label: Option<String>) -> Result<(), RegistryError> {
        let mut labels = labels::read(&self.path)?;
        match label {
            Some(label) => drop(labels.insert(latent, label)),
            None => drop(labels.remove(&latent)),
        }
        labels::write(&self.path, &labels)
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
        self.note_promotion(version)?;
        replace(&self.current_file(), &format!("{version}\n"))?;
        self.prune()
    }

    fn forget(&mut self) -> Result<(), RegistryError> {
        self.prune()
    }

    fn pin(&mut self, version: Option<u64>) -> Result<(), RegistryError> {
        let path = self.path.join(PINNED);
        match version {
            Some(version) if !self.path_of(version).is_dir() => {
                Err(RegistryError::Unknown { version, path: self.path.clone() })
            }
            Some(version) => replace(&path, &format!("{version}\n")),
            None => match fs::remove_file(&path) {
                Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(io(&path)(error)),
                _ => Ok(()),
            },
        }
    }

    fn pinned(&self) -> Result<Option<u64>, RegistryError> {
        read_version(&self.path.join(PINNED))
    }

    fn take_candidate(&mut self) -> Result<Option<Model>, RegistryError> {
        let waiting = self.path.join(CANDIDATES);
        let entries = match fs::read_dir(&waiting) {
            Ok(entries) => entries,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(io(&waiting)(error)),
        };
        let mut paths = entries.map(|entry| entry.map(|entry| entry.path())).collect::<Result<Vec<_>, _>>();
        // A directory that is being written has another name until it is whole.
        let paths =
            paths.as_mut().map_err(|error| io(&waiting)(std::io::Error::new(error.kind(), error.to_string())))?;
        paths.retain(|path| path.is_dir() && path.extension().is_none());
        let Some(path) = paths.iter().min() else { return Ok(None) };
        let model = artifact::load(path).map_err(|error| RegistryError::Directory { path: path.clone(), error });
        fs::remove_dir_all(path).map_err(io(path))?;
        model.map(Some)
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
        decision: model.lineage.decision["ending"].as_str().map(str::to_owned),
    }
}

/// The version that a file holds; none where there is no file.
fn read_version(path: &Path) -> Result<Option<u64>, RegistryError> {
    let Some(text) = read_or_none(path)? else { return Ok(None) };
    let damaged = || RegistryError::Current { path: path.to_owned(), text: text.trim().chars().take(40).collect() };
    text.trim().parse().map(Some).map_err(|_| damaged())
}

fn read_or_none(path: &Path) -> Result<Option<String>, RegistryError> {
    match fs::read_to_string(path) {
        Ok(text) => Ok(Some(text)),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(io(path)(error)),
    }
}

/// Replaces a file as a whole.
fn replace(path: &Path, text: &str) -> Result<(), RegistryError> {
    let fresh = path.with_extension("new");
    fs::write(&fresh, text).map_err(io(&fresh))?;
    fs::File::open(&fresh).and_then(|file| file.sync_all()).map_err(io(&fresh))?;
    fs::rename(&fresh, path).map_err(io(path))
}

fn io(path: &Path) -> impl FnOnce(std::io::Error) -> RegistryError {
    let path = path.to_owned();
    move |error| RegistryError::Io { path, error }
}
