//! `strayd models`: what the registry holds, what a model has learnt, and going back.

mod label;
mod map;
mod picture;
mod plot;
mod show;
mod tsne;

use std::io::Write;
use std::path::PathBuf;

use anyhow::{Context, bail};
use clap::{Args, Subcommand};

use super::ConfigOptions;
use crate::model::Model;
use crate::registry::{Directory, Entry, Registry, load_labelled};

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
    /// Shows one version: its features, calibration, lineage, and with --latents what it has learnt
    Show(show::Options),
    /// Gives a latent a name of your own; it outlives retrains and is in every record from then on
    Label(label::Options),
    /// Draws one: the course of its training, its scores with the threshold, and a map of its latents
    Plot(plot::Options),
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

/// Which model is meant.
#[derive(Debug, Args)]
struct Which {
    /// Version [default: the current one]
    version: Option<u64>,
    /// A model's directory instead, as `strayd train` wrote it
    #[arg(long, value_name = "DIR", conflicts_with = "version")]
    model: Option<PathBuf>,
}

/// A model and where it is.
struct Found {
    model: Model,
    path: PathBuf,
    is_current: bool,
}

impl Which {
    /// Loads it, with the labels of its latents.
    fn load(&self, common: &Common) -> anyhow::Result<Found> {
        if let Some(path) = &self.model {
            return Ok(Found { model: load_labelled(path)?, path: path.clone(), is_current: false });
        }
        let registry = common.registry()?;
        let current = registry.current()?;
        let version = self
            .version
            .or(current)
            .context("there is no model yet; the daemon trains the first one when it starts")?;
        registry.labels()?;
        let path = registry.path_of(version);
        Ok(Found { model: registry.load(version)?, path, is_current: current == Some(version) })
    }
}

/// Does what is asked for.
pub fn run(options: &Options) -> anyhow::Result<()> {
    match &options.action {
        Action::List(common) => list(common),
        Action::Show(options) => show::run(options),
        Action::Label(options) => label::run(options),
        Action::Plot(options) => plot::run(options),
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
