//! `strayd train`: trains a model on a CSV file and writes it to a directory, or one of the registry again.

use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, bail};
use clap::Args;

use super::table::{Table, texts_of_wishes, values_of};
use super::{ConfigOptions, progress_bar, reproduce};
use crate::model::{Chunk, artifact};
use crate::preprocess::Kind;
use crate::record::RecordId;
use crate::telemetry::now_ms;
use crate::train::{self, Rows};

/// Options of `strayd train`.
#[derive(Debug, Args)]
pub struct Options {
    /// CSV file with a header, .gz or not
    #[arg(required_unless_present = "from_lineage")]
    file: Option<PathBuf>,
    /// Directory to write the model to; it must not exist yet
    #[arg(long, required_unless_present = "from_lineage")]
    out: Option<PathBuf>,
    /// Trains a version of the registry again, on the same records of the topic, and compares
    #[arg(long, value_name = "VERSION", conflicts_with_all = ["file", "label", "rows", "seed"])]
    from_lineage: Option<u64>,
    /// Column that is no feature
    #[arg(long)]
    label: Option<String>,
    /// Trains on the first rows only [default: all]
    #[arg(long)]
    rows: Option<usize>,
    /// Seed; the same rows, settings and seed give the same model
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// Prints one JSON document
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    config: ConfigOptions,
}

/// Trains a model.
pub fn run(options: &Options) -> anyhow::Result<()> {
    if let Some(out) = options.out.as_ref().filter(|out| out.exists()) {
        bail!("--out {}: it is there already; name a new directory", out.display());
    }
    match (options.from_lineage, &options.file, &options.out) {
        (Some(version), _, out) => reproduce::run(version, out.as_deref(), &options.config, options.json),
        (None, Some(file), Some(out)) => on_file(options, file, out),
        (None, ..) => bail!("a file and --out are needed, or --from-lineage"),
    }
}

fn on_file(options: &Options, file: &Path, out: &Path) -> anyhow::Result<()> {
    let config = options.config.load_for_file()?;
    let wishes = &config.schema.features;
    let mut table = Table::read(file, options.label.as_deref(), &texts_of_wishes(wishes))?;
    table.rows.truncate(options.rows.unwrap_or(usize::MAX));
    let n_rows = table.rows.len();
    let payloads = table.payloads();
    let resolved = table.resolve(&config)?;
    let schema = Arc::new(resolved.schema);
    let ids = (0..n_rows as i64).map(|offset| RecordId { partition: 0.into(), offset }).collect();
    let rows = Rows::new(values_of(&schema, table.format(), &payloads)?, ids);
    let bar = progress_bar(0, "training");
    let mut fitted = train::fit(Arc::clone(&schema), &rows, &config.model, options.seed, &mut |progress| {
        bar.set_length(progress.steps_total);
        bar.set_position(progress.steps_done);
        ControlFlow::Continue(())
    })
    .with_context(|| file.display().to_string())?;
    bar.finish_and_clear();
    fitted.lineage.source = file.display().to_string();
    fitted.lineage.reason = "strayd train".into();
    fitted.lineage.chunks = vec![Chunk::of_payloads(0.into(), 0, payloads.iter().map(Vec::as_slice))];
    let report = fitted.report.clone();
    let model = fitted.into_model(1, now_ms());
    artifact::save(&model, out)?;
    if options.json {
        let mut document = serde_json::to_value(&report)?;
        document["out"] = out.display().to_string().into();
        document["hash"] = model.hash.clone().into();
        document["features"] = serde_json::to_value(schema.features())?;
        document["suggestions"] = serde_json::to_value(&resolved.suggestions)?;
        println!("{document}");
    } else {
        println!("trained on {} of {n_rows} rows, {} held out", report.n_train, report.n_holdout);
        println!(
            "explained variance {:.3}, dead latents {:.1} %",
            report.explained_variance,
            100.0 * report.latents_dead_ratio
        );
        let others = schema.features().iter().filter(|feature| feature.kind != Kind::Numeric);
        for feature in others {
            println!("feature {feature}");
        }
        for (feature, suggestion) in &resolved.suggestions {
            println!("feature {feature}: {suggestion}");
        }
        println!("model {} in {}", model.short_hash(), out.display());
    }
    Ok(())
}
