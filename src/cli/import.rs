//! `strayd import`: a model of weights that another tool wrote.
//!
//! Weights reconstruct; what an ordinary residual is they don't say. So an import needs rows to calibrate on, and takes
//! from them the feature names and, where none came along, the scaler.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, bail};
use clap::{Args, ValueEnum};
use ndarray::Array2;

use super::table::Table;
use crate::model::artifact::{self, File};
use crate::model::interchange::{self, Foreign};
use crate::model::{Chunk, Lineage};
use crate::preprocess::{Preprocessor, Schema};
use crate::record::RecordId;
use crate::telemetry::now_ms;
use crate::train::{self, Rows};

/// Options of `strayd import`.
#[derive(Debug, Args)]
pub struct Options {
    /// Directory (saelens, sparsify) or file (npz) that holds the weights
    path: PathBuf,
    /// Form of the weights
    #[arg(long, value_enum)]
    format: Format,
    /// Directory to write the model to; it must not exist yet
    #[arg(long)]
    out: PathBuf,
    /// CSV file of ordinary rows, .gz or not, to calibrate on; its header names the features
    #[arg(long, value_name = "FILE.csv")]
    data: Option<PathBuf>,
    /// Column of the file that is no feature
    #[arg(long, requires = "data")]
    label: Option<String>,
    /// The weights take raw values, where no scaler that came along says so
    #[arg(long)]
    raw_inputs: bool,
    /// Prints one JSON document
    #[arg(long)]
    json: bool,
}

/// Forms that weights can be read in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Format {
    /// SAELens: sae_weights.safetensors and cfg.json, with scaler.json beside if there is one
    Saelens,
    /// EleutherAI's sparsify: sae.safetensors and cfg.json, with scaler.json beside if there is one
    Sparsify,
    /// NumPy archive of W_enc, b_enc, W_dec, b_dec (float32) and k
    Npz,
}

/// Imports weights.
pub fn run(options: &Options) -> anyhow::Result<()> {
    let (path, out) = (options.path.display(), options.out.display());
    if options.out.exists() {
        bail!("--out {out}: it is there already; name a new directory");
    }
    let Some(data) = &options.data else {
        bail!(
            "weights alone can't tell an anomaly: name a file of ordinary rows to calibrate on with --data FILE.csv, at \
             least a few hundred, whose header names the features in the order of the weights' inputs"
        );
    };
    let foreign = read(options).with_context(|| path.to_string())?;
    let table = Table::read(data, options.label.as_deref(), &[])?;
    let n_inputs = foreign.autoencoder.shape().n_inputs;
    if table.names.len() != n_inputs {
        bail!("{}: it has {} features, the weights of {path} take {n_inputs}", data.display(), table.names.len());
    }
    let raw = Array2::from_shape_vec((table.rows.len(), n_inputs), table.rows.concat())?;
    let schema = Schema::new(table.names.iter().cloned())?;
    table.check_kinds(&schema).with_context(|| format!("{}: what is imported takes numbers", data.display()))?;
    let preprocessor = preprocessor_of(&foreign, &schema, &raw)
        .with_context(|| format!("{} and {path} do not go together", data.display()))?;
    let folded = foreign.scaling.as_ref().map_or(options.raw_inputs, |scaling| scaling.folded);
    let autoencoder = foreign.standardised(preprocessor.scalers(), folded);
    let ids = (0..table.rows.len() as i64).map(|offset| RecordId { partition: 0.into(), offset }).collect();
    let mut fitted = train::adopt(Arc::new(schema), preprocessor, autoencoder, &Rows::new(raw, ids))
        .with_context(|| data.display().to_string())?;
    let payloads = table.payloads();
    fitted.lineage = Lineage {
        source: format!("{path}, calibrated on {}", data.display()),
        reason: "strayd import".into(),
        chunks: vec![Chunk::of_payloads(0.into(), 0, payloads.iter().map(Vec::as_slice))],
        ..fitted.lineage
    };
    let report = fitted.report.clone();
    let model = fitted.into_model(1, now_ms());
    artifact::save(&model, &options.out)?;
    if options.json {
        let mut document = serde_json::to_value(&report)?;
        document["out"] = options.out.display().to_string().into();
        document["hash"] = model.hash.clone().into();
        println!("{document}");
    } else {
        println!("calibrated on {} of {} rows", report.n_holdout, report.n_rows);
        println!(
            "explained variance {:.3}, {:.1} latents a row",
            report.explained_variance, report.latents_active_mean
        );
        println!("model {} in {out}", model.short_hash());
    }
    Ok(())
}

/// The scaler that came along, if it is one of these features; else one fitted on the rows `[rows, n_features]`.
fn preprocessor_of(foreign: &Foreign, schema: &Schema, raw: &Array2<f32>) -> anyhow::Result<Preprocessor> {
    let Some(scaling) = &foreign.scaling else { return Ok(Preprocessor::fit(schema, raw.view(), raw.view())) };
    let scaled = Schema::new(scaling.features.iter().map(|feature| feature.name.clone()))?;
    if let Some((at, (scaled, given))) =
        scaled.names().zip(schema.names()).enumerate().find(|(_, (scaled, given))| scaled != given)
    {
        bail!("feature {} is `{scaled}` in the scaler and `{given}` in the file", at + 1);
    }
    if scaled.n_features() != schema.n_features() {
        bail!("the scaler has {} features and the file {}", scaled.n_features(), schema.n_features());
    }
    Ok(scaling.preprocessor()?)
}

fn read(options: &Options) -> anyhow::Result<Foreign> {
    let (format, names): (_, &[&str]) = match options.format {
        Format::Saelens => (interchange::Format::Saelens, &["cfg.json", "sae_weights.safetensors", "scaler.json"]),
        Format::Sparsify => (interchange::Format::Sparsify, &["cfg.json", "sae.safetensors", "scaler.json"]),
        Format::Npz => (interchange::Format::Npz, &[]),
    };
    if names.is_empty() {
        let name = options.path.file_name().map_or_else(String::new, |name| name.to_string_lossy().into_owned());
        return Ok(interchange::import(format, &[File { name, bytes: fs::read(&options.path)? }])?);
    }
    if !options.path.is_dir() {
        bail!("it is not a directory");
    }
    let found = names.iter().filter(|name| options.path.join(name).exists());
    let file = |name: &&str| file_of(&options.path, name);
    Ok(interchange::import(format, &found.map(file).collect::<anyhow::Result<Vec<_>>>()?)?)
}

fn file_of(directory: &Path, name: &str) -> anyhow::Result<File> {
    let bytes = fs::read(directory.join(name)).with_context(|| name.to_owned())?;
    Ok(File { name: name.to_owned(), bytes })
}
