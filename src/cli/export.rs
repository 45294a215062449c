//! `strayd export`: a model in a form that other tools read.

use std::fs;
use std::path::PathBuf;

use anyhow::{Context, bail};
use clap::{Args, ValueEnum};

use crate::model::artifact;
use crate::model::interchange::{self, Wish};

/// Options of `strayd export`.
#[derive(Debug, Args)]
pub struct Options {
    /// Directory of the model, as `strayd train` or the registry wrote it
    #[arg(long)]
    model: PathBuf,
    /// Form to write
    #[arg(long, value_enum)]
    format: Format,
    /// Directory (saelens, sparsify) or file (npz, onnx) to write; it must not exist yet
    #[arg(long)]
    out: PathBuf,
    /// Folds the scaler into the weights, which then take raw values (without the cut at 50 deviations)
    #[arg(long)]
    fold_scaler: bool,
    /// Writes a saturating model as `topk` all the same: what reads the weights must apply tanh itself
    #[arg(long)]
    force: bool,
    /// Prints one JSON document
    #[arg(long)]
    json: bool,
}

/// Forms that a model can be written in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Format {
    /// SAELens 6: sae_weights.safetensors and cfg.json, with scaler.json beside
    Saelens,
    /// EleutherAI's sparsify: sae.safetensors and cfg.json, with scaler.json beside
    Sparsify,
    /// NumPy archive of plain arrays, with the scaler's
    Npz,
    /// ONNX, opset 17: raw rows to latents, reconstruction and score
    Onnx,
}

impl From<Format> for interchange::Format {
    fn from(format: Format) -> Self {
        match format {
            Format::Saelens => Self::Saelens,
            Format::Sparsify => Self::Sparsify,
            Format::Npz => Self::Npz,
            Format::Onnx => Self::Onnx,
        }
    }
}

/// Exports a model.
pub fn run(options: &Options) -> anyhow::Result<()> {
    let out = options.out.display();
    if options.out.exists() {
        bail!("--out {out}: it is there already; name a new one");
    }
    let model = artifact::load(&options.model)?;
    let wish = Wish { fold_scaler: options.fold_scaler, force: options.force };
    let files = interchange::export(&model, options.format.into(), wish)?;
    let is_directory = matches!(options.format, Format::Saelens | Format::Sparsify);
    if is_directory {
        fs::create_dir_all(&options.out).with_context(|| format!("--out {out}"))?;
    }
    for file in &files {
        let path = if is_directory { options.out.join(&file.name) } else { options.out.clone() };
        fs::write(&path, &file.bytes).with_context(|| format!("--out {}", path.display()))?;
    }
    if options.json {
        let names: Vec<&str> = files.iter().map(|file| file.name.as_str()).collect();
        let files = if is_directory { names } else { Vec::new() };
        println!(
            "{}",
            serde_json::json!({"out": options.out.display().to_string(), "files": files, "hash": model.hash})
        );
    } else {
        println!("model {} in {out}", model.short_hash());
    }
    Ok(())
}
