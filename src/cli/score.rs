//! `strayd score`: scores a CSV file with a model, one JSON line a row.

use std::io::Write;
use std::path::PathBuf;

use anyhow::Context;
use clap::Args;

use super::local::Local;
use super::table::{Table, texts_of_schema};
use super::{ConfigOptions, progress_bar};
use crate::model::artifact;
use crate::sink::Channel;

/// Options of `strayd score`.
#[derive(Debug, Args)]
pub struct Options {
    /// CSV file with a header, .gz or not
    file: PathBuf,
    /// Directory of the model, as `strayd train` or the registry wrote it
    #[arg(long)]
    model: PathBuf,
    /// Column that is no feature
    #[arg(long)]
    label: Option<String>,
    /// Prints the full record of anomalies instead of every row's score
    #[arg(long)]
    anomalies: bool,
    #[command(flatten)]
    config: ConfigOptions,
}

/// Scores a file.
pub fn run(options: &Options) -> anyhow::Result<()> {
    let config = options.config.load_for_file()?;
    let model = artifact::load(&options.model)?;
    let table = Table::read(&options.file, options.label.as_deref(), &texts_of_schema(&model.schema))?;
    table.check(&model).with_context(|| {
        format!("{} does not have the features of {}", options.file.display(), options.model.display())
    })?;
    let rows: Vec<usize> = (0..table.rows.len()).collect();
    let name = options.file.file_name().map_or_else(|| "file".into(), |name| name.to_string_lossy());
    let mut local = Local::new(&config, &name, &table, &[], &rows)?;
    local.use_model(model);
    let wanted = if options.anomalies { Channel::Anomalies } else { Channel::Scores };
    let bar = progress_bar(rows.len() as u64, "scoring");
    let mut out = std::io::BufWriter::new(std::io::stdout().lock());
    while let Some(n) = local.step(&mut |channel, value| {
        if channel == wanted {
            out.write_all(value)?;
            out.write_all(b"\n")?;
        }
        Ok(())
    })? {
        bar.inc(n as u64);
    }
    out.flush()?;
    bar.finish_and_clear();
    Ok(())
}
