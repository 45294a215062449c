//! Models as other tools write and read them: SAELens, sparsify, NumPy archives, ONNX. Bytes in, bytes out.
//!
//! MODEL 6.3. These forms hold weights and no scaler; ours stands beside them as `scaler.json` (inside an npz as the
//! arrays `mean` and `std`), or is folded into the weights. A form that has no word for an activation refuses it: weights
//! under a wrong name would be another function. Only ONNX holds the whole way from a raw row to its score.

mod fold;
mod npz;
mod onnx;
mod proto;
mod saelens;
mod sparsify;

use serde::{Deserialize, Serialize};

pub use fold::{fold, unfold};
pub use npz::matrix_as_npz;

use super::artifact::File;
use super::bundle::Model;
use crate::preprocess::{CLIP, Feature, Kind as FeatureKind, Preprocessor, Scaler};
use crate::sae::{Autoencoder, Kind};

/// Name of the scaler beside the weights.
const SCALER: &str = "scaler.json";

/// The forms that a model can take outside.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// A directory with `sae_weights.safetensors` and `cfg.json`, as SAELens 6 reads it.
    Saelens,
    /// A directory with `sae.safetensors` and `cfg.json`, as EleutherAI's sparsify reads it.
    Sparsify,
    /// One NumPy archive of plain arrays.
    Npz,
    /// One ONNX graph, opset 17, from raw rows to latents, reconstruction and score; can't be read back.
    Onnx,
}

/// How a model is written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Wish {
    /// Whether the weights take raw values: the scaler is folded into them.
    pub fold_scaler: bool,
    /// Whether an activation that the form has no name for is written as the nearest one that it has.
    pub force: bool,
}

/// Why a model can't be written or read in a form.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct InterchangeError(pub(super) String);

/// A model from outside: weights, and the scaler if it came along. It has no calibration.
#[derive(Clone, Debug, PartialEq)]
pub struct Foreign {
    /// The weights; they take raw values where `scaling` says that it is folded.
    pub autoencoder: Autoencoder<f32>,
    /// How raw values become inputs, where that is known.
    pub scaling: Option<Scaling>,
}

/// What `scaler.json` holds: an input is `(value − mean) / std`, cut at ±clip; a missing value is hidden, not filled.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Scaling {
    /// Largest magnitude of an input; folded weights know no such limit.
    pub clip: f64,
    /// Whether the weights beside it have this scaler inside and take raw values.
    pub folded: bool,
    /// One entry for each input, in order.
    pub features: Vec<ScaledFeature>,
}

/// The scaler of one feature.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ScaledFeature {
    /// Its name.
    pub name: String,
    /// Mean, raw units.
    pub mean: f64,
    /// Standard deviation, raw units.
    pub std: f64,
}

/// Writes a model in a form. A directory's files come with their names, a single file comes alone.
///
/// # Errors
/// When the form can't hold the model.
pub fn export(model: &Model, format: Format, wish: Wish) -> Result<Vec<File>, InterchangeError> {
    let scaling = Scaling { folded: wish.fold_scaler, ..Scaling::of(model)? };
    if format == Format::Onnx {
        if wish.fold_scaler {
            return refuse("an ONNX graph holds the scaler already, as steps of its own; leave --fold-scaler out");
        }
        return Ok(vec![File { name: "model.onnx".into(), bytes: onnx::write(model, &scaling) }]);
    }
    let folded = wish.fold_scaler.then(|| fold(&model.autoencoder, &scaling.scalers()));
    let autoencoder = folded.as_ref().unwrap_or(&model.autoencoder);
    match format {
        Format::Saelens => saelens::write(autoencoder, &scaling, wish.force),
        Format::Sparsify => sparsify::write(autoencoder, &scaling, wish.force),
        Format::Npz | Format::Onnx => npz::write(autoencoder, &scaling),
    }
}

/// Reads weights in a form from a directory's files, or from a single file.
///
/// # Errors
/// When a file is missing, can't be read, or holds what strayd can't compute.
pub fn import(format: Format, files: &[File]) -> Result<Foreign, InterchangeError> {
    match format {
        Format::Saelens => saelens::read(files),
        Format::Sparsify => sparsify::read(files),
        Format::Npz => npz::read(files),
        Format::Onnx => refuse("an ONNX graph can't be read back: import the model's npz or safetensors instead"),
    }
}

impl Foreign {
    /// The weights on standardised inputs, with `scalers` inside no longer.
    pub fn standardised(self, scalers: &[Scaler], folded: bool) -> Autoencoder<f32> {
        if folded { unfold(&self.autoencoder, scalers) } else { self.autoencoder }
    }
}

impl Scaling {
    fn of(model: &Model) -> Result<Self, InterchangeError> {
        let feature = |(feature, scaler): (&Feature, &Scaler)| match feature.kind {
            FeatureKind::Numeric => {
                Ok(ScaledFeature { name: feature.name.clone(), mean: scaler.mean, std: scaler.std })
            }
            _ => refuse(format!(
                "feature {feature}: other tools have no word for how it becomes inputs; only models of numeric features \
                 are exported"
            )),
        };
        if model.schema.missing_indicator() {
            return refuse("the model has inputs for missing values, which other tools have no word for");
        }
        let pairs = model.schema.features().iter().zip(model.preprocessor.scalers());
        Ok(Self { clip: CLIP, folded: false, features: pairs.map(feature).collect::<Result<_, _>>()? })
    }

    /// As scalers of ours.
    pub fn scalers(&self) -> Vec<Scaler> {
        let scaler =
            |feature: &ScaledFeature| Scaler { mean: feature.mean, std: feature.std, constant: false, n_observed: 0 };
        self.features.iter().map(scaler).collect()
    }

    /// As a preprocessor; refuses what can't scale.
    ///
    /// # Errors
    /// Names the feature whose mean is not finite or whose deviation is not above 0.
    pub fn preprocessor(&self) -> Result<Preprocessor, InterchangeError> {
        for ScaledFeature { name, mean, std } in &self.features {
            if !mean.is_finite() || !std.is_finite() || *std <= 0.0 {
                return refuse(format!(
                    "{SCALER}: feature `{name}` has mean {mean} and std {std}, std must be above 0"
                ));
            }
        }
        Ok(Preprocessor::from_scalers(self.scalers()))
    }
}

fn refuse<T>(why: impl Into<String>) -> Result<T, InterchangeError> {
    Err(InterchangeError(why.into()))
}

/// The bytes of a file of a directory.
fn file<'a>(files: &'a [File], name: &str) -> Result<&'a [u8], InterchangeError> {
    let found = files.iter().find(|file| file.name == name);
    found.map_or_else(|| refuse(format!("there is no {name}")), |file| Ok(file.bytes.as_slice()))
}

/// The scaler beside the weights, if there is one.
fn scaling(files: &[File]) -> Result<Option<Scaling>, InterchangeError> {
    let Ok(bytes) = file(files, SCALER) else { return Ok(None) };
    serde_json::from_slice(bytes).map(Some).or_else(|e| refuse(format!("{SCALER}: {e}")))
}

/// k as long as it fits the weights.
fn checked_k(k: usize, autoencoder: &Autoencoder<f32>) -> Result<usize, InterchangeError> {
    let n_latents = autoencoder.b_enc.len();
    if (1..=n_latents).contains(&k) { Ok(k) } else { refuse(format!("k is {k}, it must be from 1 to {n_latents}")) }
}

/// Refuses to call an activation by another's name, unless it is wished.
fn must_be_topk(autoencoder: &Autoencoder<f32>, format: &str, force: bool) -> Result<(), InterchangeError> {
    must_be_flat(autoencoder, format)?;
    match autoencoder.kind {
        Kind::Topk => Ok(()),
        Kind::SatTopk if force => Ok(()),
        Kind::SatTopk => refuse(format!(
            "the model is {}: its latents go through tanh, which {format} has no name for; as its `topk` they would be \
             other numbers. Export npz or onnx, train with model.sae.kind = \"topk\", or take --force if what reads the \
             weights applies tanh itself",
            autoencoder.kind.as_str()
        )),
        kind => no_name(kind, format),
    }
}

/// Refuses hidden layers, which only npz and ONNX have a place for.
fn must_be_flat(autoencoder: &Autoencoder<f32>, format: &str) -> Result<(), InterchangeError> {
    match autoencoder.hidden.len() {
        0 => Ok(()),
        n => refuse(format!("the model has {n} hidden layers, which {format} has no place for; export npz or onnx")),
    }
}

fn no_name<T>(kind: Kind, format: &str) -> Result<T, InterchangeError> {
    refuse(format!("the model is {}, which {format} has no name for; export npz or onnx", kind.as_str()))
}

fn json(name: &str, value: &impl Serialize) -> File {
    let mut bytes = serde_json::to_vec_pretty(value).expect("plain structs with string keys are always JSON");
    bytes.push(b'\n');
    File { name: name.to_owned(), bytes }
}
