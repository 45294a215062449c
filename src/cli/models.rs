//! `strayd models`: what the registry holds, and going back.

use std::io::Write;

use anyhow::{Context, bail};
use clap::{Args, Subcommand};

use super::ConfigOptions;
use crate::registry::{Directory, Entry, Registry};

/// Options of `strayd models`.
#[derive(Debug, Args)]
pub struct Options {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Lists the versions; * marks the one that scores
    List(Common),
    /// Shows one version: its features, calibration and lineage
    Show {
        /// Version [default: the current one]
        version: Option<u64>,
        #[command(flatten)]
        common: Common,
    },
    /// Makes an older version current; a running daemon swaps it in within a second
    Rollback {
        /// Version to go back to [default: the one before the current one]
        #[arg(long)]
        to: Option<u64>,
        #[command(flatten)]
        common: Common,
    },
}

#[derive(Debug, Args)]
struct Common {
    /// Prints one JSON document
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    config: ConfigOptions,
}

impl Common {
    fn registry(&self) -> anyhow::Result<Directory> {
        Ok(Directory::new(&self.config.load_for_file()?.registry))
    }
}

/// Lists, shows or rolls back.
pub fn run(options: &Options) -> anyhow::Result<()> {
    match &options.action {
        Action::List(common) => list(common),
        Action::Show { version, common } => show(*version, common),
        Action::Rollback { to, common } => rollback(*to, common),
    }
}

fn list(common: &Common) -> anyhow::Result<()> {
    let mut out = std::io::stdout().lock();
    let entries = common.registry()?.list()?;
    if common.json {
        writeln!(out, "{}", serde_json::to_string_pretty(&entries)?)?;
        return Ok(());
    }
    if entries.is_empty() {
        writeln!(out, "no model yet; the daemon trains the first one when it starts")?;
        return Ok(());
    }
    writeln!(out, "  {:>7}  {:<24}  {:<12}  {:>8}  {:>6}  reason", "version", "trained", "hash", "rows", "parent")?;
    for Entry { version, current, model } in &entries {
        let mark = if *current { '*' } else { ' ' };
        match model {
            Ok(model) => {
                let parent = model.parent.map_or_else(|| "-".to_owned(), |parent| parent.to_string());
                writeln!(
                    out,
                    "{mark} {version:>7}  {:<24}  {:<12}  {:>8}  {parent:>6}  {}",
                    model.trained_at, model.hash, model.n_rows_train, model.reason
                )?;
            }
            Err(refused) => writeln!(out, "{mark} {version:>7}  refused: {refused}")?,
        }
    }
    Ok(())
}

fn show(version: Option<u64>, common: &Common) -> anyhow::Result<()> {
    let mut out = std::io::stdout().lock();
    let registry = common.registry()?;
    let current = registry.current()?;
    let version =
        version.or(current).context("there is no model yet; the daemon trains the first one when it starts")?;
    let model = registry.load(version)?;
    let features: Vec<&str> = model.schema.names().collect();
    let document = serde_json::json!({
        "version": version,
        "current": current == Some(version),
        "hash": model.hash,
        "path": registry.path_of(version),
        "trained_at": model.trained_at(),
        "features": features,
        "schema_fingerprint": model.schema.fingerprint(),
        "n_latents": model.autoencoder.b_enc.len(),
        "lineage": model.lineage,
    });
    if common.json {
        writeln!(out, "{}", serde_json::to_string_pretty(&document)?)?;
        return Ok(());
    }
    let lineage = &model.lineage;
    writeln!(out, "version    {version}{}", if current == Some(version) { " (current)" } else { "" })?;
    writeln!(out, "hash       {}", model.hash)?;
    writeln!(
        out,
        "trained    {} on {} rows, {} held out",
        model.trained_at(),
        lineage.n_rows_train,
        lineage.n_rows_holdout
    )?;
    writeln!(out, "reason     {}, seed {}, parent {}", lineage.reason, lineage.seed, or_none(lineage.parent))?;
    writeln!(out, "source     {} in {} stretches", lineage.source, lineage.chunks.len())?;
    writeln!(out, "latents    {}", model.autoencoder.b_enc.len())?;
    let features: Vec<String> = model.schema.features().iter().map(ToString::to_string).collect();
    writeln!(out, "features   {}: {}", features.len(), features.join(", "))?;
    Ok(())
}

fn rollback(to: Option<u64>, common: &Common) -> anyhow::Result<()> {
    let mut out = std::io::stdout().lock();
    let mut registry = common.registry()?;
    let current = registry.current().unwrap_or_default();
    let versions: Vec<u64> = registry.list()?.iter().map(|entry| entry.version).collect();
    let before = || versions.iter().copied().rfind(|&version| Some(version) < current);
    let to = to.or_else(before).context("there is no older version to go back to")?;
    if current == Some(to) {
        bail!("version {to} is the current one already");
    }
    // What is refused must not become current.
    registry.load(to)?;
    registry.promote(to)?;
    if common.json {
        writeln!(out, "{}", serde_json::json!({"from": current, "to": to}))?;
    } else {
        writeln!(out, "version {to} is current now (before: {})", or_none(current))?;
    }
    Ok(())
}

fn or_none(version: Option<u64>) -> String {
    version.map_or_else(|| "none".to_owned(), |version| version.to_string())
}
