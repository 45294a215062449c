//! What people call latents: `labels.json` beside the versions, `{"12": "pump start-up"}`, by latent id.
//!
//! Ids follow a latent through every round, so one small file serves all versions, and a label outlives the model it
//! was given for. Models themselves stay as they were written: a label is put in when a model is loaded.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use super::RegistryError;
use crate::model::{Model, artifact};

/// What people call latents, by latent id.
pub type Labels = BTreeMap<u64, String>;

const FILE: &str = "labels.json";

/// Reads the labels in a registry's `directory`; none where there is no file.
///
/// # Errors
/// When the file can't be read or is not what [`write`] writes.
pub(super) fn read(directory: &Path) -> Result<Labels, RegistryError> {
    let path = directory.join(FILE);
    let text = match fs::read_to_string(&path) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Labels::new()),
        Err(error) => return Err(RegistryError::Io { path, error }),
    };
    serde_json::from_str(&text).map_err(|error| RegistryError::Labels { path, reason: error.to_string() })
}

/// Replaces the labels in a registry's `directory` as a whole.
///
/// # Errors
/// When the file can't be written.
pub(super) fn write(directory: &Path, labels: &Labels) -> Result<(), RegistryError> {
    let (path, fresh) = (directory.join(FILE), directory.join("labels.json.new"));
    let io = |path: &PathBuf| {
        let path = path.clone();
        move |error| RegistryError::Io { path, error }
    };
    let mut text = serde_json::to_string_pretty(labels).expect("numbers and texts are always JSON");
    text.push('\n');
    fs::write(&fresh, text).map_err(io(&fresh))?;
    fs::File::open(&fresh).and_then(|file| file.sync_all()).map_err(io(&fresh))?;
    fs::rename(&fresh, &path).map_err(io(&path))
}

/// Reads the model in `directory`, with the labels that lie beside it.
///
/// # Errors
/// When the model is refused or the labels can't be read.
pub fn load_labelled(directory: &Path) -> Result<Model, RegistryError> {
    let refused = |error| RegistryError::Directory { path: directory.to_owned(), error };
    let mut model = artifact::load(directory).map_err(refused)?;
    // `models/v000012/` has the parent `models`, `v000012` the working directory, `.` is resolved first.
    let directory = directory.canonicalize().unwrap_or_else(|_| directory.to_owned());
    model.cards.set_labels(&directory.parent().map(read).transpose()?.unwrap_or_default());
    Ok(model)
}
