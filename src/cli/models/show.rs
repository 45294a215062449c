//! `strayd models show`: everything that is known of one model, and with `--latents` of each of its latents.

use std::io::{self, Write};

use clap::Args;
use serde_json::{Value, json};

use super::{Common, Found, Which, or_none};
use crate::model::Model;
use crate::model::document::{self, place};
use crate::sae::{Autoencoder, Kind, Shape};
use crate::train::Check;

/// Options of `strayd models show`.
#[derive(Debug, Args)]
pub struct Options {
    #[command(flatten)]
    which: Which,
    /// Lists the latents, the most important first
    #[arg(long)]
    latents: bool,
    #[command(flatten)]
    common: Common,
}

/// Shows one model.
pub fn run(options: &Options) -> anyhow::Result<()> {
    let found = options.which.load(&options.common)?;
    let mut out = io::stdout().lock();
    match (options.common.json, options.latents) {
        (true, _) => {
            let mut document = document(&found);
            if options.latents {
                document["latents"] = document::latents(&found.model);
            }
            writeln!(out, "{}", serde_json::to_string_pretty(&document)?)?;
        }
        (false, true) => print_latents(&found.model, &mut out)?,
        (false, false) => print_model(&found, &mut out)?,
    }
    Ok(())
}

fn document(found: &Found) -> Value {
    let mut document = document::document(&found.model);
    document["current"] = json!(found.is_current);
    document["path"] = json!(found.path);
    document
}

fn print_model(found: &Found, out: &mut impl Write) -> io::Result<()> {
    let model = &found.model;
    let lineage = &model.lineage;
    let mut line = |name: &str, text: String| writeln!(out, "{name:<12} {text}");
    line("version", format!("{}{}", model.version, if found.is_current { " (current)" } else { "" }))?;
    line("hash", model.hash.clone())?;
    line("path", found.path.display().to_string())?;
    line("trained", model.trained_at())?;
    line("reason", format!("{}, seed {}", lineage.reason, lineage.seed))?;
    line("parent", or_none(lineage.parent))?;
    let n_records: u64 = lineage.chunks.iter().map(|chunk| chunk.n_records).sum();
    line("source", format!("{}: {n_records} records in {} stretches", lineage.source, lineage.chunks.len()))?;
    line("rows", format!("{} trained on, {} held out", lineage.n_rows_train, lineage.n_rows_holdout))?;
    // Of a model without a report there is none to show.
    for (name, value) in lineage.report.as_object().into_iter().flatten().filter(|(name, _)| !name.starts_with("n_")) {
        let value = value.as_f64().map_or_else(|| value.to_string(), |value| format!("{value:.4}"));
        line("", format!("{} {value}", name.replace('_', " ")))?;
    }
    let decision = &lineage.decision;
    if let (Some(ending), Some(why)) = (decision["ending"].as_str(), decision["reason"].as_str()) {
        line(
            "decision",
            format!("{ending}: {why} ({} held-out rows, against {})", decision["n_holdout"], decision["champion"]),
        )?;
    }
    let checks: Vec<Check> = serde_json::from_value(decision["checks"].clone()).unwrap_or_default();
    for check in checks {
        line("", check.to_string())?;
    }
    line("form", form(&model.autoencoder))?;
    let calibration = &model.calibration;
    line("calibrated", format!("on {} scores, median {:.4}", calibration.tail.sorted().len(), calibration.raw(0.0)))?;
    let n_labels = model.cards.latents.iter().filter(|card| card.label.is_some()).count();
    line("labels", format!("{n_labels} of {} latents", model.cards.latents.len()))?;
    let features: Vec<String> = model.schema.features().iter().map(ToString::to_string).collect();
    line("features", format!("{} ({})", features.len(), features.join(", ")))
}

/// Kind and sizes in words.
fn form(autoencoder: &Autoencoder) -> String {
    let Shape { n_inputs, n_latents, k } = autoencoder.shape();
    let of_k = match autoencoder.kind {
        Kind::SatTopk | Kind::Topk => format!(", {k} active at most"),
        Kind::Batchtopk | Kind::Jumprelu => format!(", about {k} active"),
        Kind::Relu | Kind::Sigmoid | Kind::Dense | Kind::Pca => String::new(),
    };
    let hidden: String =
        autoencoder.hidden.iter().map(|layer| format!(" {} hidden units,", layer.bias.len())).collect();
    format!("{}, {n_inputs} inputs,{hidden} {n_latents} latents{of_k}", autoencoder.kind.as_str())
}

fn print_latents(model: &Model, out: &mut impl Write) -> io::Result<()> {
    let titles: Vec<&str> = model.cards.latents.iter().map(|card| card.title()).collect();
    let width = titles.iter().map(|title| title.chars().count()).max().unwrap_or(0).clamp(6, 60);
    writeln!(
        out,
        "{:>6}  {:<width$}  {:>10}  {:>6}  {:>8}  {:>8}  {:>6}  {:>7}  {:>6}  strongest record",
        "latent", "name", "importance", "fires", "mean", "99 %", "purity", "enc-dec", "silent"
    )?;
    for i in model.cards.by_importance() {
        let card = &model.cards.latents[i];
        let cosine = card.encoder_cosine.map_or_else(|| "-".to_owned(), |cosine| format!("{cosine:.2}"));
        let top = card.top.first().map_or_else(|| "-".to_owned(), |id| place(&model.lineage, *id));
        writeln!(
            out,
            "{:>6}  {:<width$}  {:>8.2} %  {:>4.0} %  {:>8.4}  {:>8.4}  {:>6.2}  {cosine:>7}  {:>6}  {top}",
            card.id,
            card.title(),
            100.0 * card.importance,
            100.0 * card.frequency,
            card.usual,
            card.p99,
            card.purity,
            model.since_fired[i],
        )?;
    }
    Ok(())
}
