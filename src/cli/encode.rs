//! `strayd encode`: the sparse latents of each row of a file, or the row as the model reconstructs it.
//!
//! What people use a sparse autoencoder for beside finding anomalies: a code to cluster or search by, and a denoised
//! copy of the data in which missing values are the expected ones. It judges nothing.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context, anyhow, bail};
use clap::{Args, ValueEnum};
use ndarray::{Array2, ArrayView2, Axis};
use serde::{Serialize, Serializer};

use super::progress_bar;
use super::table::{Table, texts_of_schema};
use crate::model::{Model, Workspace, artifact, interchange};
use crate::preprocess::{Kind, Schema};
use crate::record::Value;
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
    /// NumPy's archive, with the array `latents` or `recons`; categories have no place in it
    Npz,
}

/// Encodes a file.
pub fn run(options: &Options) -> anyhow::Result<()> {
    let format = options.format();
    let model = artifact::load(&options.model)?;
    let table = Table::read(&options.file, options.label.as_deref(), &texts_of_schema(&model.schema))?;
    table.check(&model).with_context(|| {
        format!("{} does not have the features of {}", options.file.display(), options.model.display())
    })?;
    if format == Format::Npz && options.reconstruct {
        check_numbers(&model.schema)?;
    }
    let raw = table.values(&model.schema)?;
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
            encoded.each(&bar, &mut |_, workspace| {
                if !options.reconstruct {
                    return Ok(all.append(Axis(0), workspace.latents())?);
                }
                let rows = (0..workspace.n_rows()).flat_map(|row| model.expected(workspace, row));
                let rows = rows.map(|value| number(&value)).collect();
                Ok(all
                    .append(Axis(0), Array2::from_shape_vec((workspace.n_rows(), model.n_features()), rows)?.view())?)
            })?;
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

/// Refuses features that are no numbers.
fn check_numbers(schema: &Schema) -> anyhow::Result<()> {
    let category = schema.features().iter().find(|feature| matches!(feature.kind, Kind::Categorical { .. }));
    category.map_or(Ok(()), |feature| {
        bail!("feature `{}` is categorical, and an npz archive holds numbers: use csv or jsonl", feature.name)
    })
}

/// A value as a number; a category has none.
fn number(value: &Value) -> f32 {
    match value {
        Value::Number(number) => *number,
        Value::Boolean(yes) => f32::from(u8::from(*yes)),
        Value::Text(_) => f32::NAN,
    }
}

/// A value as a cell.
fn cell(value: &Value) -> String {
    match value {
        Value::Number(number) => number.to_string(),
        Value::Boolean(yes) => yes.to_string(),
        Value::Text(text) => text.clone(),
    }
}

/// Called with the number of a chunk's first row, and what the model made of the chunk.
type OnRows<'a> = &'a mut dyn FnMut(usize, &Workspace) -> anyhow::Result<()>;

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
            take(first, &workspace)?;
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
        self.each(bar, &mut |_, workspace| {
            for row in 0..workspace.n_rows() {
                let cells: Vec<String> = if self.reconstruct {
                    self.model.expected(workspace, row).iter().map(cell).collect()
                } else {
                    workspace.latents_of(row).iter().map(f32::to_string).collect()
                };
                writer.write_record(cells).map_err(io_error)?;
            }
            Ok(())
        })?;
        Ok(writer.flush()?)
    }

    fn jsonl(&self, out: &mut impl Write, bar: &indicatif::ProgressBar) -> anyhow::Result<()> {
        self.each(bar, &mut |first, workspace| {
            for i in 0..workspace.n_rows() {
                let line = if self.reconstruct {
                    let features =
                        Some(Named { schema: &self.model.schema, values: self.model.expected(workspace, i) });
                    Line { row: first + i, latents: None, features }
                } else {
                    let latents = Some(ActiveLatents(workspace.latents_of(i)));
                    Line { row: first + i, latents, features: None }
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
    values: Vec<Value>,
}

impl Serialize for Named<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.schema.names().zip(&self.values))
    }
}
