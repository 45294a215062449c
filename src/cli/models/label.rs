//! `strayd models label`: what people call a latent.
//!
//! The label is kept by the registry under the latent's id, which follows the latent through every retrain. No model
//! file is touched; a running daemon takes it up within a second.

use std::io::Write;

use anyhow::{Context, anyhow, bail};
use clap::Args;

use super::Common;
use crate::journal::check_label;
use crate::registry::Registry;

/// Options of `strayd models label`.
#[derive(Debug, Args)]
pub struct Options {
    /// Id of the latent, as `strayd models show --latents` and records have it
    latent: u64,
    /// What to call it; "" takes the label away
    text: String,
    /// Version to look the latent up in [default: the current one]
    #[arg(long, value_name = "VERSION")]
    of: Option<u64>,
    #[command(flatten)]
    common: Common,
}

/// Labels a latent.
pub fn run(options: &Options) -> anyhow::Result<()> {
    let (latent, label) = (options.latent, options.text.trim());
    check_label(label).map_err(|wrong| anyhow!(wrong))?;
    let mut registry = options.common.registry()?;
    let version = options.of.or(registry.current()?);
    let version = version.context("there is no model yet, so there are no latents")?;
    let model = registry.load(version)?;
    let Some(card) = model.cards.latents.iter().find(|card| card.id == latent) else {
        bail!("version {version} has no latent {latent}; `strayd models show {version} --latents` lists them");
    };
    let before = registry.labels()?.remove(&latent);
    registry.set_label(latent, (!label.is_empty()).then(|| label.to_owned()))?;
    let mut out = std::io::stdout().lock();
    if options.common.json {
        let after = (!label.is_empty()).then_some(label);
        writeln!(out, "{}", serde_json::json!({"latent": latent, "name": card.name, "from": before, "to": after}))?;
    } else if label.is_empty() {
        writeln!(out, "latent {latent} is called {} again", card.name)?;
    } else {
        writeln!(out, "latent {latent} ({}) is called {label} now", card.name)?;
    }
    Ok(())
}
