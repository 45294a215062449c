//! `strayd models promote`, `rollback`, `pin`, `unpin` and `submit`: a person decides which model scores.
//!
//! The files of the registry are all that changes; a running daemon follows them within a second. What is refused never
//! becomes current.

use std::io::Write;
use std::path::Path;

use anyhow::{Context, bail};
use serde_json::json;

use super::{Common, or_none};
use crate::registry::{Registry, load_labelled};

/// Makes a stored version current.
pub(super) fn promote(version: u64, common: &Common) -> anyhow::Result<()> {
    let mut registry = common.registry()?;
    let current = registry.current().unwrap_or_default();
    if current == Some(version) {
        bail!("version {version} is the current one already");
    }
    registry.load(version)?;
    registry.promote(version)?;
    let words = format!("version {version} is current now (before: {})", or_none(current));
    say(common, &json!({"from": current, "to": version}), &words)
}

/// Makes the version current that was so before, or `to`.
pub(super) fn rollback(to: Option<u64>, common: &Common) -> anyhow::Result<()> {
    let registry = common.registry()?;
    let before = || registry.before_current().unwrap_or_default();
    let to = to.or_else(before).context("there is no older version to go back to")?;
    promote(to, common)
}

/// Pins a version and makes it current.
pub(super) fn pin(version: Option<u64>, common: &Common) -> anyhow::Result<()> {
    let mut registry = common.registry()?;
    let current = registry.current()?;
    let version = version.or(current).context("there is no model yet to pin")?;
    if current != Some(version) {
        registry.load(version)?;
        registry.promote(version)?;
    }
    registry.pin(Some(version))?;
    let words = format!("version {version} is pinned: nothing is promoted until `strayd models unpin`");
    say(common, &json!({"pinned": version}), &words)
}

/// Removes the pin.
pub(super) fn unpin(common: &Common) -> anyhow::Result<()> {
    let mut registry = common.registry()?;
    let pinned = registry.pinned()?;
    registry.pin(None)?;
    let words = match pinned {
        Some(version) => format!("version {version} is no longer pinned"),
        None => "nothing was pinned".to_owned(),
    };
    say(common, &json!({"unpinned": pinned}), &words)
}

/// Hands a model over to be judged.
pub(super) fn submit(model: &Path, common: &Common) -> anyhow::Result<()> {
    let mut registry = common.registry()?;
    let model = load_labelled(model)?;
    let current = registry.current()?.context("there is no champion yet to judge it against")?;
    if let Some(difference) = registry.load(current)?.schema.difference(&model.schema) {
        bail!("it does not fit version {current}: {difference}");
    }
    let path = registry.submit(&model)?;
    let words = format!("{} waits in {} to be judged", model.short_hash(), path.display());
    say(common, &json!({"submitted": model.short_hash(), "path": path}), &words)
}

fn say(common: &Common, document: &serde_json::Value, words: &str) -> anyhow::Result<()> {
    let mut out = std::io::stdout().lock();
    if common.json {
        writeln!(out, "{document}")?
    } else {
        writeln!(out, "{words}")?
    }
    Ok(())
}
