//! Where models are kept: numbered versions, one of which is current.
//!
//! A registry stores what it is given and promotes what it is told to; it judges nothing. A version is written whole
//! before it can become current.

mod directory;
mod labels;
mod memory;
mod mirror;
mod shelf;
mod topic;
mod versions;

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use thiserror::Error;

pub use directory::Directory;
pub use labels::{Labels, load_labelled};
pub use memory::MemoryRegistry;
pub use mirror::{Mirror, Piece};
pub use shelf::Shelf;
pub use versions::Versions;

use crate::model::Model;
use crate::model::artifact::ArtifactError;

/// Where models are kept.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Directory of the models; by default under `$STATE_DIRECTORY` (systemd sets it), else under the working
    /// directory.
    pub path: PathBuf,
    /// Versions kept; the current one is kept in any case.
    pub keep: usize,
    /// Compacted topic of one partition that carries the models to every replica, made where it is missing;
    /// `registry.path` then holds this process's copy, and `journal.commands` and `journal.feedback` must be topics.
    /// None: each process trains for itself.
    pub topic: Option<String>,
}

impl Default for Config {
    fn default() -> Self {
        let state = std::env::var_os("STATE_DIRECTORY").map(PathBuf::from).unwrap_or_default();
        Self { path: state.join("models"), keep: 5, topic: None }
    }
}

/// A version of the registry, without its parameters.
#[derive(Clone, Debug, Serialize)]
pub struct Entry {
    /// The version.
    pub version: u64,
    /// Whether it is the one that scores.
    pub current: bool,
    /// Whether it ever was.
    pub promoted: bool,
    /// Whether it is pinned.
    pub pinned: bool,
    /// Its model, or why it is refused.
    #[serde(serialize_with = "text_of_error", flatten)]
    pub model: Result<Summary, String>,
}

/// What a list of models shows.
#[derive(Clone, Debug, Serialize)]
pub struct Summary {
    /// Beginning of the SHA-256 of the parameters.
    pub hash: String,
    /// When the training ended, RFC 3339.
    pub trained_at: String,
    /// Number of features.
    pub n_features: usize,
    /// Rows it was trained on.
    pub n_rows_train: u64,
    /// Version it was trained from.
    pub parent: Option<u64>,
    /// Why it was trained.
    pub reason: String,
    /// What the gate's judgement of it ended with; `None` where it was not judged.
    pub decision: Option<String>,
}

fn text_of_error<S: serde::Serializer>(model: &Result<Summary, String>, serializer: S) -> Result<S::Ok, S::Error> {
    #[derive(Serialize)]
    struct Refused<'a> {
        refused: &'a str,
    }
    match model {
        Ok(summary) => summary.serialize(serializer),
        Err(refused) => Refused { refused }.serialize(serializer),
    }
}

/// Why the registry can't do what it is asked to.
#[derive(Debug, Error)]
pub enum RegistryError {
    /// The file system fails.
    #[error("{path}: {error}")]
    Io {
        /// What was touched.
        path: PathBuf,
        /// What went wrong.
        error: std::io::Error,
    },
    /// The version is not there.
    #[error("there is no model version {version} in {path}; `strayd models list` shows what there is")]
    Unknown {
        /// The version that was asked for.
        version: u64,
        /// The registry.
        path: PathBuf,
    },
    /// The artifact of a version is refused.
    #[error("model version {version} is refused: {error}")]
    Artifact {
        /// The version.
        version: u64,
        /// Why.
        error: ArtifactError,
    },
    /// A model outside a registry is refused.
    #[error("{path}: {error}", path = path.display())]
    Directory {
        /// Its directory.
        path: PathBuf,
        /// Why.
        error: ArtifactError,
    },
    /// The file of the latents' labels is damaged.
    #[error("{path} should hold labels by latent, as in {{\"12\": \"start-up\"}}: {reason}")]
    Labels {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// The topic can't be read or written; trying again may help.
    #[error("registry.topic = {topic}: {reason}")]
    Topic {
        /// The topic.
        topic: String,
        /// What is wrong.
        reason: String,
    },
    /// The file that names the current version is damaged.
    #[error("{path} should hold a version number, not `{text}`; `strayd models rollback --to VERSION` mends it")]
    Current {
        /// The file.
        path: PathBuf,
        /// What it holds.
        text: String,
    },
}

/// The versions in a directory, looked at from outside.
struct Versioned<'a>(&'a Path);

impl Versioned<'_> {
    /// Why a version can't be used; none: it can.
    fn refusal(&self, version: u64) -> Option<String> {
        let directory = Directory::new(&Config { path: self.0.to_owned(), ..Config::default() });
        directory.load(version).err().map(|error| error.to_string())
    }
}

impl RegistryError {
    /// Whether trying again may help: the file system or the topic failed, and no model is refused.
    pub fn may_pass(&self) -> bool {
        match self {
            Self::Io { .. } | Self::Topic { .. } => true,
            Self::Artifact { error, .. } | Self::Directory { error, .. } => matches!(error, ArtifactError::Io { .. }),
            Self::Unknown { .. } | Self::Labels { .. } | Self::Current { .. } => false,
        }
    }
}

/// Numbered models, one of which is current.
pub trait Registry: Send {
    /// Whether this process is the one that trains and writes; asked between the steps of a training, too.
    fn leads(&mut self) -> bool {
        true
    }

    /// What keeps the registry from being followed, although it could be asked: its model scores meanwhile.
    fn trouble(&self) -> Option<String> {
        None
    }

    /// The current version, if there is one.
    ///
    /// Errors: see [`RegistryError`].
    fn current(&self) -> Result<Option<u64>, RegistryError>;

    /// Every version, oldest first.
    ///
    /// Errors: see [`RegistryError`]; a version that is refused is an entry, not an error.
    fn list(&self) -> Result<Vec<Entry>, RegistryError>;

    /// Loads a version and checks it.
    ///
    /// Errors: see [`RegistryError`].
    fn load(&self, version: u64) -> Result<Model, RegistryError>;

    /// What people call latents; none where a registry keeps no labels.
    ///
    /// Errors: see [`RegistryError`].
    fn labels(&self) -> Result<Labels, RegistryError> {
        Ok(Labels::new())
    }

    /// Calls a latent `label`, in every version that has it; without one, it goes by its loadings again.
    ///
    /// Errors: see [`RegistryError`].
    fn set_label(&mut self, _latent: u64, _label: Option<String>) -> Result<(), RegistryError> {
        Ok(())
    }

    /// The number that the next stored model must have.
    ///
    /// Errors: see [`RegistryError`].
    fn next_version(&self) -> Result<u64, RegistryError>;

    /// Stores a model under its version, whole or not at all, without making it current.
    ///
    /// Errors: see [`RegistryError`].
    fn store(&mut self, model: &Model) -> Result<(), RegistryError>;

    /// Makes a stored version current, and forgets the oldest beyond what is kept.
    ///
    /// Errors: see [`RegistryError`].
    fn promote(&mut self, version: u64) -> Result<(), RegistryError>;

    /// Forgets the oldest of those beyond what is kept: of the promoted ones and, apart from them, of the others. The
    /// current version, its parent and a pinned one always stay.
    ///
    /// Errors: see [`RegistryError`].
    fn forget(&mut self) -> Result<(), RegistryError> {
        Ok(())
    }

    /// The version that a person has pinned: while there is one, nothing is promoted or rolled back automatically.
    ///
    /// Errors: see [`RegistryError`].
    fn pinned(&self) -> Result<Option<u64>, RegistryError> {
        Ok(None)
    }

    /// Pins a version, or unpins.
    ///
    /// Errors: see [`RegistryError`].
    fn pin(&mut self, _version: Option<u64>) -> Result<(), RegistryError> {
        Ok(())
    }

    /// Takes the oldest model that was submitted as a challenger, if there is one; it is not taken again.
    ///
    /// Errors: see [`RegistryError`].
    fn take_candidate(&mut self) -> Result<Option<Model>, RegistryError> {
        Ok(None)
    }
}
