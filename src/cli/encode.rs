//! `strayd encode`: the sparse latents of each row of a file, or the row as the model reconstructs it.
//!
//! What people use a sparse autoencoder for beside finding anomalies: a code to cluster or search by, and a denoised
//! copy of the data in which missing values are the expected ones. It judges nothing.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context, anyhow, bail};
use clap::{Args, ValueEnum};
use ndarray::{Array2, ArrayView1, ArrayView2, Axis};
use serde::{Serialize, Serializer};

use super::progress_bar;
use super::table::Table;
use crate::model::{Model, Workspace, artifact, interchange};
use crate::preprocess::Schema;
use crate::sink::anomaly::ActiveLatents;

/// Rows that are encoded at a time.
const CHUNK: usize = 1024;

/// Options of `strayd encode`.
#[derive(Debug, Args)]
pub struct Options {
    /// CSV file with a header, .gz or not
    file: PathBuf,
    /// Directory of the model, as `strayd train` or the registry wrote it
    #[arg(long)]
    model: PathBuf,
    /// Writes the denoised rows in raw units instead of the latents; missing values become the expected ones
    #[arg(long)]
    reconstruct: bool,
    /// File to write to [default: standard output]
    #[arg(long)]
    out: Option<PathBuf>,
    /// Form of the output [default: what the name of --out ends with; else csv with --reconstruct, jsonl without]
    #[arg(long, value_enum)]
    format: Option<Format>,
    /// Column that is no feature; it is left out
    #[arg(long)]
    label: Option<String>,
}

/// Forms of the output.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Format {
    /// One column for each latent or feature
    Csv,
    /// {"row": 0, "latents": [[number, activation], …]}, the active latents only; {"row": 0, "features": {…}}
    Jsonl,
    /// NumPy's archive, with the array `latents` or `recons`
    Npz,
}

/// Encodes a file.
pub fn run(options: &Options) -> anyhow::Result<()> {
    let format = options.format();
    let model = artifact::load(&options.model)?;
    let table = Table::read(&options.file, options.label.as_deref())?;
    model.check_schema(&Schema::new(table.names.iter().cloned())?).with_context(|| {
        format!("{} does not have the features of {}", options.file.display(), options.model.display())
    })?;
    let raw = Array2::from_shape_vec((table.rows.len(), table.names.len()), table.rows.concat())?;
    let bar = progress_bar(raw.nrows() as u64, "encoding");
    let mut out: Box<dyn Write> = match &options.out {
        Some(path) => Box::new(File::create(path).with_context(|| format!("--out {}", path.display()))?),
        None if format == Format::Npz => bail!("an npz archive is not for standard output: name a file with --out"),
        None => Box::new(std::io::stdout().lock()),
    };
    let mut out = BufWriter::new(&mut out);
    let encoded = Encoded { model: &model, raw: raw.view(), reconstruct: options.reconstruct };
    match format {
        Format::Csv => encoded.csv(&mut out, &bar)?,
        Format::Jsonl => encoded.jsonl(&mut out, &bar)?,
        Format::Npz => {
            let mut all = Array2::zeros((0, encoded.n_columns()));
            encoded.each(&bar, &mut |_, rows| Ok(all.append(Axis(0), rows)?))?;
            let name = if options.reconstruct { "recons" } else { "latents" };
            out.write_all(&interchange::matrix_as_npz(name, all.view())?)?;
        }
    }
    out.flush()?;
    bar.finish_and_clear();
    Ok(())
}

impl Options {
    fn format(&self) -> Format {
        let ending = self.out.as_deref().and_then(Path::extension).and_then(|ending| ending.to_str());
        let of_name = ending.and_then(|ending| Format::from_str(ending, true).ok());
        let usual = if self.reconstruct { Format::Csv } else { Format::Jsonl };
        self.format.or(of_name).unwrap_or(usual)
    }
}

/// Called with the number of a chunk's first row and the chunk, `[rows, n_latents]` or `[rows, n_features]`.
type OnRows<'a> = &'a mut dyn FnMut(usize, ArrayView2<'_, f32>) -> anyhow::Result<()>;

/// The rows of a file as a model sees them.
struct Encoded<'a> {
    model: &'a Model,
    raw: ArrayView2<'a, f32>,
    reconstruct: bool,
}

impl Encoded<'_> {
    fn n_columns(&self) -> usize {
        if self.reconstruct { self.model.n_features() } else { self.model.autoencoder.shape().n_latents }
    }

    fn each(&self, bar: &indicatif::ProgressBar, take: OnRows<'_>) -> anyhow::Result<()> {
        let mut workspace = Workspace::new();
        let mut first = 0;
        for chunk in self.raw.axis_chunks_iter(Axis(0), CHUNK) {
            self.model.score(chunk, &mut workspace);
            if self.reconstruct {
                let expected = (0..chunk.nrows()).flat_map(|row| self.model.expected(&workspace, row)).collect();
                take(first, Array2::from_shape_vec((chunk.nrows(), self.n_columns()), expected)?.view())?;
            } else {
                take(first, workspace.latents())?;
            }
            first += chunk.nrows();
            bar.inc(chunk.nrows() as u64);
        }
        Ok(())
    }

    fn csv(&self, out: &mut impl Write, bar: &indicatif::ProgressBar) -> anyhow::Result<()> {
        let mut writer = csv::Writer::from_writer(out);
        if self.reconstruct {
            writer.write_record(self.model.schema.names())?;
        } else {
            writer.write_record((0..self.n_columns()).map(|i| format!("latent_{i}")))?;
        }
        self.each(bar, &mut |_, rows| {
            let mut rows = rows.rows().into_iter();
            rows.try_for_each(|row| writer.write_record(row.iter().map(f32::to_string))).map_err(io_error)
        })?;
        Ok(writer.flush()?)
    }

    fn jsonl(&self, out: &mut impl Write, bar: &indicatif::ProgressBar) -> anyhow::Result<()> {
        self.each(bar, &mut |first, rows| {
            for (i, values) in rows.rows().into_iter().enumerate() {
                let line = if self.reconstruct {
                    let features = Some(Named { schema: &self.model.schema, values });
                    Line { row: first + i, latents: None, features }
                } else {
                    Line { row: first + i, latents: Some(ActiveLatents(values)), features: None }
                };
                // Not to_writer: a broken pipe must stay an I/O error, which is no failure.
                writeln!(out, "{}", serde_json::to_string(&line)?)?;
            }
            Ok(())
        })
    }
}

/// The I/O error inside a csv error, which doesn't show it: a broken pipe must be known for what it is.
fn io_error(error: csv::Error) -> anyhow::Error {
    if !error.is_io_error() {
        return error.into();
    }
    match error.into_kind() {
        csv::ErrorKind::Io(error) => error.into(),
        other => anyhow!("{other:?}"),
    }
}

/// One line of the output.
#[derive(Serialize)]
struct Line<'a> {
    row: usize,
    #[serde(skip_serializing_if = "Option::is_none")]
    latents: Option<ActiveLatents<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    features: Option<Named<'a>>,
}

/// Values `[n_features]`, written as an object with the features' names.
struct Named<'a> {
    schema: &'a Schema,
    values: ArrayView1<'a, f32>,
}

impl Serialize for Named<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.schema.names().zip(self.values))
    }
}
