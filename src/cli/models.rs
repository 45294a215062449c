//! `strayd models`: what the registry holds, what a model has learnt, and which one scores.

mod change;
mod label;
mod map;
mod picture;
mod plot;
mod show;
mod tsne;

use std::io::Write;
use std::path::PathBuf;

use anyhow::Context;
use clap::{Args, Subcommand};

use super::ConfigOptions;
use crate::model::Model;
use crate::registry::{Entry, Registry, Versions, load_labelled};

/// Options of `strayd models`.
#[derive(Debug, Args)]
pub struct Options {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Lists the versions; * marks the one that scores, ! a pinned one
    List(Common),
    /// Shows one version: its features, calibration, lineage, and with --latents what it has learnt
    Show(show::Options),
    /// Gives a latent a name of your own; it outlives retrains and is in every record from then on
    Label(label::Options),
    /// Draws one: the course of its training, its scores with the threshold, and a map of its latents
    Plot(plot::Options),
    /// Makes a version current, whatever the gate thought of it; a running daemon swaps it in within a second
    Promote {
        /// Version to promote
        version: u64,
        #[command(flatten)]
        common: Common,
    },
    /// Pins a version: nothing is promoted or rolled back automatically until `unpin`
    Pin {
        /// Version to pin; it becomes current, too [default: the current one]
        version: Option<u64>,
        #[command(flatten)]
        common: Common,
    },
    /// Lets challengers take the champion's place again
    Unpin(Common),
    /// Hands a model that was trained elsewhere to the running daemon, which judges it as any challenger
    Submit {
        /// The model's directory, as `strayd train` wrote it
        #[arg(value_name = "DIR")]
        model: PathBuf,
        #[command(flatten)]
        common: Common,
    },
    /// Makes an older version current; a running daemon swaps it in within a second
    Rollback {
        /// Version to go back to [default: the one that was current before]
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
    fn registry(&self) -> anyhow::Result<Versions> {
        let config = self.config.load_for_file()?;
        Ok(Versions::look(&config.registry, &config.kafka)?)
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
    /// Keeps what `path` names.
    _registry: Option<Versions>,
}

impl Which {
    /// Loads it, with the labels of its latents.
    fn load(&self, common: &Common) -> anyhow::Result<Found> {
        if let Some(path) = &self.model {
            return Ok(Found { model: load_labelled(path)?, path: path.clone(), is_current: false, _registry: None });
        }
        let registry = common.registry()?;
        let current = registry.current()?;
        let version = self
            .version
            .or(current)
            .context("there is no model yet; the daemon trains the first one when it starts")?;
        registry.labels()?;
        let path = registry.path_of(version);
        let (model, is_current) = (registry.load(version)?, current == Some(version));
        Ok(Found { model, path, is_current, _registry: Some(registry) })
    }
}

/// Does what is asked for.
pub fn run(options: &Options) -> anyhow::Result<()> {
    match &options.action {
        Action::List(common) => list(common),
        Action::Show(options) => show::run(options),
        Action::Label(options) => label::run(options),
        Action::Plot(options) => plot::run(options),
        Action::Promote { version, common } => change::promote(*version, common),
        Action::Pin { version, common } => change::pin(*version, common),
        Action::Unpin(common) => change::unpin(common),
        Action::Submit { model, common } => change::submit(model, common),
        Action::Rollback { to, common } => change::rollback(*to, common),
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
    let titles = ("version", "trained", "hash", "rows", "parent", "decision");
    writeln!(
        out,
        "  {:>7}  {:<24}  {:<12}  {:>8}  {:>6}  {:<8}  reason",
        titles.0, titles.1, titles.2, titles.3, titles.4, titles.5
    )?;
    for Entry { version, current, pinned, model, .. } in &entries {
        let mark = match (current, pinned) {
            (_, true) => '!',
            (true, false) => '*',
            (false, false) => ' ',
        };
        match model {
            Ok(model) => {
                let parent = model.parent.map_or_else(|| "-".to_owned(), |parent| parent.to_string());
                writeln!(
                    out,
                    "{mark} {version:>7}  {:<24}  {:<12}  {:>8}  {parent:>6}  {:<8}  {}",
                    model.trained_at,
                    model.hash,
                    model.n_rows_train,
                    model.decision.as_deref().unwrap_or("-"),
                    model.reason
                )?;
            }
            Err(refused) => writeln!(out, "{mark} {version:>7}  refused: {refused}")?,
        }
    }
    Ok(())
}

fn or_none(version: Option<u64>) -> String {
    version.map_or_else(|| "none".to_owned(), |version| version.to_string())
}
