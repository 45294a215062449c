//! A model as files: tensors, configuration, calibration, and a manifest with checksums.
//!
//! MODEL 3.8. `model.safetensors` and `cfg.json` carry SAELens' names, so that other tools read them; what is ours is
//! in the `strayd` block. Written to a temporary directory, flushed and renamed, so that a reader finds all or nothing.
//! Loaded back bit for bit; anything altered, truncated or of a newer major format is refused before it is used.

use std::collections::BTreeMap;
use std::fs::{self, File as FsFile};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::bundle::{AdmissionScale, Model};
use super::lineage::Lineage;
use super::reference::Reference;
use super::tensors;
use crate::preprocess::{Preprocessor, Schema};
use crate::sae::{Activation, Kind};
use crate::score::{Cards, Members, MembersConfig, Units};
use crate::threshold::{Calibration, Tail};

/// Format of the files; a reader refuses another major and accepts any minor.
const FORMAT: (u32, u32) = (1, 3);
const MANIFEST: &str = "manifest.json";
const TENSORS: &str = "model.safetensors";
const CFG: &str = "cfg.json";
const CALIBRATION: &str = "calibration.safetensors";

/// One file of an artifact.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct File {
    /// Name inside the artifact's directory.
    pub name: String,
    /// Its contents.
    pub bytes: Vec<u8>,
}

/// Why an artifact was not written or not accepted.
#[derive(Debug, thiserror::Error)]
pub enum ArtifactError {
    /// A file could not be read or written.
    #[error("{path}: {source}", path = path.display())]
    Io {
        /// The file or directory.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// There is no manifest.
    #[error("{path} is not a model: it has no {MANIFEST}; give the directory of a model version", path = path.display())]
    NotAModel {
        /// The directory.
        path: PathBuf,
    },
    /// A file of the manifest isn't there.
    #[error("model file {name} is missing; restore it or use another version of the model")]
    Missing {
        /// The file.
        name: String,
    },
    /// A file is not what was written.
    #[error(
        "model file {name} is damaged: sha256 {found} where the manifest says {expected} ({n_bytes} bytes); \
         restore it or use another version of the model"
    )]
    Checksum {
        /// The file.
        name: String,
        /// Checksum of the manifest.
        expected: String,
        /// Checksum of the file.
        found: String,
        /// Length of the file.
        n_bytes: usize,
    },
    /// The format is of another major version.
    #[error("model format {major}.{minor} is not known to this strayd, which reads {}.x; use the strayd that wrote it, {written_by}, or a newer one", FORMAT.0)]
    Format {
        /// Major version of the artifact.
        major: u32,
        /// Minor version of the artifact.
        minor: u32,
        /// Version of strayd that wrote it.
        written_by: String,
    },
    /// A file has its checksum and still makes no sense.
    #[error("model file {name} can't be used: {reason}")]
    Malformed {
        /// The file.
        name: String,
        /// What is wrong.
        reason: String,
    },
}

#[derive(Serialize, Deserialize)]
struct Manifest {
    format: Format,
    strayd_version: String,
    version: u64,
    trained_at_ms: i64,
    hash: String,
    schema_fingerprint: String,
    files: BTreeMap<String, String>,
    lineage: Lineage,
}

/// The part of a manifest that every version of the format has.
#[derive(Deserialize)]
struct Preamble {
    format: Format,
    #[serde(default)]
    strayd_version: String,
}

#[derive(Clone, Copy, Serialize, Deserialize)]
struct Format {
    major: u32,
    minor: u32,
}

/// `cfg.json`: SAELens' fields first.
#[derive(Serialize, Deserialize)]
struct Cfg {
    architecture: String,
    d_in: usize,
    d_sae: usize,
    k: usize,
    dtype: String,
    apply_b_dec_to_input: bool,
    normalize_activations: String,
    strayd: Block,
}

/// What SAELens has no place for.
#[derive(Serialize, Deserialize)]
struct Block {
    kind: Kind,
    /// Of hidden layers and of the code of `dense`; absent before 1.1.
    #[serde(default)]
    activation: Activation,
    schema: Schema,
    preprocessor: Preprocessor,
    location: f64,
    scale: f64,
    /// Whether nothing was seen beyond the calibration; absent before 1.2.
    #[serde(default)]
    tail_ended: bool,
    admission: AdmissionScale,
    cards: Cards,
    /// Absent before 1.2, and where the autoencoder scores alone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    members: Option<MembersBlock>,
    /// Absent before 1.3.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    reference: Option<Reference>,
}

/// The members but for what they remember, which is in the calibration's tensors.
#[derive(Serialize, Deserialize)]
struct MembersBlock {
    config: MembersConfig,
    units: Units,
}

/// The model as files, manifest last; equal models give equal bytes.
pub fn encode(model: &Model) -> Vec<File> {
    let mut files = contents(model);
    let manifest = Manifest {
        format: Format { major: FORMAT.0, minor: FORMAT.1 },
        strayd_version: env!("CARGO_PKG_VERSION").to_owned(),
        version: model.version,
        trained_at_ms: model.trained_at_ms,
        hash: hash_of(&files),
        schema_fingerprint: model.schema.fingerprint(),
        files: files.iter().map(|file| (file.name.clone(), sha256(&file.bytes))).collect(),
        lineage: model.lineage.clone(),
    };
    files.push(File { name: MANIFEST.to_owned(), bytes: json(&manifest) });
    files
}

/// SHA-256 over everything that decides a score, hexadecimal; neither version nor time nor lineage are in it.
pub fn hash(model: &Model) -> String {
    hash_of(&contents(model))
}

/// Makes a model of its files, in any order.
///
/// # Errors
/// When a file is missing, altered, truncated, of a newer major format, or makes no sense.
pub fn decode(files: &[File]) -> Result<Model, ArtifactError> {
    let bytes = |name: &str| {
        let file = files.iter().find(|file| file.name == name);
        file.map(|file| file.bytes.as_slice()).ok_or_else(|| ArtifactError::Missing { name: name.to_owned() })
    };
    let manifest = read_manifest(bytes(MANIFEST)?)?;
    for (name, expected) in &manifest.files {
        let (name, expected) = (name.clone(), expected.clone());
        let content = bytes(&name)?;
        let (found, n_bytes) = (sha256(content), content.len());
        if found != expected {
            return Err(ArtifactError::Checksum { name, expected, found, n_bytes });
        }
    }
    let malformed = |name: &str, reason: String| ArtifactError::Malformed { name: name.to_owned(), reason };
    let cfg: Cfg = serde_json::from_slice(bytes(CFG)?).map_err(|e| malformed(CFG, e.to_string()))?;
    let (mut autoencoder, since_fired) =
        tensors::read_weights(bytes(TENSORS)?, cfg.strayd.kind).map_err(|reason| malformed(TENSORS, reason))?;
    autoencoder.activation = cfg.strayd.activation;
    autoencoder.k = cfg.k;
    let (tail, remembered) =
        tensors::read_calibration(bytes(CALIBRATION)?).map_err(|reason| malformed(CALIBRATION, reason))?;
    let (shape, block) = (autoencoder.shape(), cfg.strayd);
    let n = block.preprocessor.n_inputs();
    let consistent = (shape.n_inputs, shape.n_latents) == (cfg.d_in, cfg.d_sae)
        && block.preprocessor.fits(&block.schema)
        && n == shape.n_inputs
        && (block.cards.residual_scale.len(), block.admission.variance.len()) == (n, n)
        && block.cards.latents.len() == shape.n_latents
        && remembered.as_ref().is_none_or(|rows| rows.ncols() == n)
        && remembered.is_some() == block.members.is_some()
        && block.reference.as_ref().is_none_or(|reference| reference.n_features() == block.schema.n_features())
        && block.schema.fingerprint() == manifest.schema_fingerprint;
    if !consistent {
        return Err(malformed(CFG, "its sizes or its schema don't agree with the tensors and the manifest".into()));
    }
    let weights = block.preprocessor.column_weights();
    let members = block.members.zip(remembered).map(|(block, rows)| {
        let mut members = Members::new(&block.config, rows, weights);
        members.units = block.units;
        members
    });
    Ok(Model {
        version: manifest.version,
        hash: manifest.hash,
        trained_at_ms: manifest.trained_at_ms,
        schema: Arc::new(block.schema),
        preprocessor: block.preprocessor,
        autoencoder,
        calibration: Calibration {
            location: block.location,
            scale: block.scale,
            tail: Tail::with_end(tail, block.tail_ended),
        },
        members,
        cards: block.cards.numbered(),
        admission: block.admission,
        reference: block.reference,
        since_fired,
        lineage: manifest.lineage,
    })
}

/// Writes the model to `directory`, which appears whole or not at all; one that is there is replaced.
///
/// # Errors
/// When a file can't be written.
pub fn save(model: &Model, directory: &Path) -> Result<(), ArtifactError> {
    let io = |path: &Path| {
        let path = path.to_owned();
        move |source| ArtifactError::Io { path, source }
    };
    let parent = directory.parent().filter(|path| !path.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let name = directory.file_name().map_or_else(|| "model".into(), |name| name.to_string_lossy().into_owned());
    let temporary = parent.join(format!(".{name}.tmp-{}", std::process::id()));
    if temporary.exists() {
        fs::remove_dir_all(&temporary).map_err(io(&temporary))?;
    }
    let sync = |path: &Path| FsFile::open(path).and_then(|dir| dir.sync_all()).map_err(io(path));
    let written = fs::create_dir_all(&temporary).map_err(io(&temporary)).and_then(|()| {
        for file in encode(model) {
            let path = temporary.join(&file.name);
            let write = || -> io::Result<()> {
                let mut out = FsFile::create(&path)?;
                out.write_all(&file.bytes)?;
                out.sync_all()
            };
            write().map_err(io(&path))?;
        }
        sync(&temporary)
    });
    if let Err(error) = written {
        // On a disk that is full, what is half written takes the room of what could be.
        drop(fs::remove_dir_all(&temporary));
        return Err(error);
    }
    if directory.exists() {
        fs::remove_dir_all(directory).map_err(io(directory))?;
    }
    fs::rename(&temporary, directory).map_err(io(directory))?;
    sync(parent)
}

/// Reads the model in `directory`.
///
/// # Errors
/// As [`decode`], and when a file can't be read.
pub fn load(directory: &Path) -> Result<Model, ArtifactError> {
    let mut files = Vec::new();
    for name in [MANIFEST, CFG, TENSORS, CALIBRATION] {
        let path = directory.join(name);
        match fs::read(&path) {
            Ok(bytes) => files.push(File { name: name.to_owned(), bytes }),
            Err(e) if e.kind() == io::ErrorKind::NotFound && name == MANIFEST => {
                return Err(ArtifactError::NotAModel { path: directory.to_owned() });
            }
            Err(e) if e.kind() == io::ErrorKind::NotFound => {}
            Err(source) => return Err(ArtifactError::Io { path, source }),
        }
    }
    decode(&files)
}

fn read_manifest(bytes: &[u8]) -> Result<Manifest, ArtifactError> {
    let malformed = |e: serde_json::Error| ArtifactError::Malformed { name: MANIFEST.into(), reason: e.to_string() };
    let preamble: Preamble = serde_json::from_slice(bytes).map_err(malformed)?;
    let Format { major, minor } = preamble.format;
    if major != FORMAT.0 {
        return Err(ArtifactError::Format { major, minor, written_by: preamble.strayd_version });
    }
    serde_json::from_slice(bytes).map_err(malformed)
}

/// SAELens' name of the form that scores alike, or ours where it has none.
fn architecture(kind: Kind) -> &'static str {
    match kind {
        Kind::SatTopk | Kind::Topk => "topk",
        Kind::Batchtopk | Kind::Jumprelu => "jumprelu",
        Kind::Relu => "standard",
        Kind::Sigmoid | Kind::Dense | Kind::Pca => kind.as_str(),
    }
}

/// Every file but the manifest.
fn contents(model: &Model) -> Vec<File> {
    let shape = model.autoencoder.shape();
    let cfg = Cfg {
        architecture: architecture(model.autoencoder.kind).to_owned(),
        d_in: shape.n_inputs,
        d_sae: shape.n_latents,
        k: shape.k,
        dtype: "float32".to_owned(),
        apply_b_dec_to_input: true,
        normalize_activations: "none".to_owned(),
        strayd: Block {
            kind: model.autoencoder.kind,
            activation: model.autoencoder.activation,
            schema: Schema::clone(&model.schema),
            preprocessor: model.preprocessor.clone(),
            location: model.calibration.location,
            scale: model.calibration.scale,
            tail_ended: model.calibration.tail.ended(),
            admission: model.admission.clone(),
            cards: model.cards.clone(),
            members: model
                .members
                .as_ref()
                .map(|members| MembersBlock { config: members.config.clone(), units: members.units }),
            reference: model.reference.clone(),
        },
    };
    let file = |name: &str, bytes| File { name: name.to_owned(), bytes };
    vec![
        file(CFG, json(&cfg)),
        file(TENSORS, tensors::write_weights(&model.autoencoder, &model.since_fired)),
        file(
            CALIBRATION,
            tensors::write_calibration(&model.calibration.tail, model.members.as_ref().map(Members::rows)),
        ),
    ]
}

fn hash_of(files: &[File]) -> String {
    let mut hasher = Sha256::new();
    for file in files {
        hasher.update((file.bytes.len() as u64).to_le_bytes());
        hasher.update(&file.bytes);
    }
    hex(&hasher.finalize())
}

fn sha256(bytes: &[u8]) -> String {
    hex(&Sha256::digest(bytes))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn json(value: &impl Serialize) -> Vec<u8> {
    let mut bytes = serde_json::to_vec_pretty(value).expect("plain structs with string keys are always JSON");
    bytes.push(b'\n');
    bytes
}
