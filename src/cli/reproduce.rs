//! `strayd train --from-lineage`: trains a version of the registry again from the topic, and compares.

use std::ops::ControlFlow;
use std::path::Path;

use anyhow::{anyhow, bail};

use super::{ConfigOptions, progress_bar};
use crate::app;
use crate::history::TopicHistory;
use crate::model::artifact;
use crate::pipeline::reproduce::{Reproduced, reproduce};
use crate::registry::Versions;

/// Trains `version` again; writes it to `out`, if given.
pub fn run(version: u64, out: Option<&Path>, config: &ConfigOptions, json: bool) -> anyhow::Result<()> {
    let config = config.load()?;
    let registry = Versions::look(&config.registry, &config.kafka)?;
    let mut history = TopicHistory::new(&config.kafka, &config.input.topic, config.history.read_timeout)
        .map_err(|reason| anyhow!(reason))?;
    let bar = progress_bar(0, "training");
    let reproduced = reproduce(version, &registry, &mut history, &app::schemas(&config), &mut |progress| {
        bar.set_length(progress.steps_total);
        bar.set_position(progress.steps_done);
        ControlFlow::Continue(())
    })?;
    bar.finish_and_clear();
    if let Some(out) = out {
        artifact::save(&reproduced.model, out)?;
    }
    let same = reproduced.is_same();
    let Reproduced { model, stored_hash, differences } = reproduced;
    if json {
        let document = serde_json::json!({
            "version": version, "same": same, "hash": model.hash, "stored_hash": stored_hash,
            "differences": differences, "out": out,
        });
        println!("{document}");
    } else if same {
        println!("version {version} came out the same: {}", model.hash);
    }
    if !same {
        let why = if differences.is_empty() { "nothing known differs".to_owned() } else { differences.join("; ") };
        bail!("version {version} came out another: {} where the registry has {stored_hash}; {why}", model.hash);
    }
    Ok(())
}
