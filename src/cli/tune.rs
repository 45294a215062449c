//! `strayd tune`: searches for a better configuration of the model on a file, without labels or with them.
//!
//! The search is [`crate::train::tune`]; here are the file, the progress, the table, and the choice as TOML.

use std::cmp::Reverse;
use std::io::Write;
use std::path::PathBuf;
use std::sync::Arc;

use anyhow::{Context, bail};
use clap::Args;
use serde_json::{Map, Value, json};

use super::evaluate::read_table;
use super::{ConfigOptions, FILE_TOPIC, progress_bar};
use crate::config::{Config, RawConfig};
use crate::record::RecordId;
use crate::train::Rows;
use crate::train::tune::{self, Bench, Candidate, Criterion, Outcome, SEEDS, STEPS};

/// Options of `strayd tune`.
#[derive(Debug, Args)]
pub struct Options {
    /// CSV file with a header, .gz or not; rows in time order
    file: PathBuf,
    /// Column that says which rows are anomalies [default: `label`, if there is one]
    #[arg(long)]
    label: Option<String>,
    /// Random configurations that are tried beside the configured one
    #[arg(long, default_value_t = 24, value_parser = clap::value_parser!(u16).range(1..=1000))]
    budget: u16,
    /// Seed of the search and, counted on from it, of the trainings
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// Writes the chosen configuration to this file; it must not exist yet
    #[arg(long)]
    out: Option<PathBuf>,
    /// Prints one JSON document
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    config: ConfigOptions,
}

/// Searches.
pub fn run(options: &Options) -> anyhow::Result<()> {
    let config = options.config.load_for_file()?;
    if let Some(out) = options.out.as_ref().filter(|out| out.exists()) {
        bail!("--out {}: it is there already; name a new file", out.display());
    }
    let table = read_table(&options.file, options.label.as_deref(), &config)?;
    let schema = Arc::new(table.resolve(&config)?.schema);
    let ids = (0..table.rows.len() as i64).map(|offset| RecordId { partition: 0.into(), offset }).collect();
    let rows = Rows::new(table.values(&schema)?, ids);
    let of_file = || options.file.display().to_string();
    let bench = Bench::new(schema, &rows, &table.labels, options.seed).with_context(of_file)?;

    let n_drawn = usize::from(options.budget);
    let candidates = tune::candidates(&config.model, bench.n_inputs(), n_drawn, options.seed);
    let bar = progress_bar(n_trainings(n_drawn), "tuning");
    let outcome = tune::search(&config.model, candidates, bench.n_inputs(), options.seed, &mut |trial| {
        let measured = bench.measure(trial);
        bar.inc(1);
        measured
    });
    bar.finish_and_clear();
    let outcome = outcome.with_context(of_file)?;
    let text = chosen_toml(&config, &outcome, options)?;
    if let Some(out) = &options.out {
        std::fs::write(out, &text).with_context(|| format!("--out {}", out.display()))?;
    }
    let seeds: Vec<u64> = (0..SEEDS[SEEDS.len() - 1]).map(|i| options.seed.wrapping_add(i)).collect();
    let mut stdout = std::io::stdout().lock();
    if options.json {
        let (n_train, n_validation) = bench.n_rows();
        let mut document = serde_json::to_value(&outcome)?;
        document["chosen_config"] = serde_json::to_value(&outcome.choice().config)?;
        document["rows_train"] = n_train.into();
        document["rows_validation"] = n_validation.into();
        document["seeds"] = json!(seeds);
        document["toml"] = text.into();
        writeln!(stdout, "{document}")?;
    } else {
        print_outcome(&mut stdout, &outcome, &bench, &seeds)?;
        match &options.out {
            Some(out) => writeln!(stdout, "\nwritten to {}", out.display())?,
            None => write!(stdout, "\n{text}")?,
        }
    }
    Ok(())
}

/// Most trainings that a search of `n_drawn` candidates takes.
fn n_trainings(n_drawn: usize) -> u64 {
    let mut climbing = n_drawn as u64;
    let mut total = 2 * SEEDS[SEEDS.len() - 1];
    for seeds in SEEDS {
        total += seeds * (climbing + 1);
        climbing = climbing.div_ceil(3);
    }
    total
}

/// The configuration with the chosen model, as far as it isn't the default.
fn chosen_toml(config: &Config, outcome: &Outcome, options: &Options) -> anyhow::Result<String> {
    let mut raw: RawConfig = (**config).clone();
    raw.model = outcome.choice().config.clone();
    let default = serde_json::to_value(RawConfig::default())?;
    let differing = difference(serde_json::to_value(&raw)?, &default).unwrap_or_default();
    let table = toml::Table::try_from(differing)?;
    let topic =
        if raw.input.topic.only() == Some(FILE_TOPIC) { "\n# input.topic is not known here: name yours." } else { "" };
    Ok(format!("# Chosen by strayd tune, --budget {} --seed {}.{topic}\n{table}", options.budget, options.seed))
}

/// What of `value` is not the default; nothing if all of it is. What is unset can't be written, nor need it be.
fn difference(value: Value, default: &Value) -> Option<Value> {
    match (value, default) {
        (value, default) if value == *default || value.is_null() => None,
        (Value::Object(table), Value::Object(default)) => {
            let entry = |(key, value): (String, Value)| {
                let value = difference(value, default.get(&key).unwrap_or(&Value::Null))?;
                Some((key, value))
            };
            Some(Value::Object(table.into_iter().filter_map(entry).collect::<Map<_, _>>()))
        }
        (value, _) => Some(value),
    }
}

fn print_outcome(out: &mut impl Write, outcome: &Outcome, bench: &Bench, seeds: &[u64]) -> std::io::Result<()> {
    let (n_train, n_validation) = bench.n_rows();
    let by = match outcome.criterion {
        Criterion::Stability => "J, the agreement of seeds (no labels of both kinds among the newest rows)",
        Criterion::AveragePrecision => "average precision against the labels of the newest rows",
    };
    writeln!(out, "{n_train} rows to train on, the newest {n_validation} to measure by; seeds {seeds:?}")?;
    writeln!(out, "chosen by {by}\n")?;
    writeln!(
        out,
        "  {:9} {:>5} {:>4} {:>6} {:>7} {:>4} {:>4} {:>6} {:>6} {:>6} {:>6} {:>5} {:>7} {:>7}",
        "form", "M", "k", "λ", "lr", "mask", "rung", "J", "AP", "EV", "active", "dead", "swapped", "shifted"
    )?;
    print_candidate(out, 'd', &outcome.default)?;
    let mut order: Vec<usize> = (0..outcome.candidates.len()).collect();
    let measured = |of: &Candidate| of.summary.map_or(f64::NEG_INFINITY, |summary| summary.stability);
    order.sort_by(|&a, &b| {
        let (a, b) = (&outcome.candidates[a], &outcome.candidates[b]);
        Reverse(a.rungs).cmp(&Reverse(b.rungs)).then(measured(b).total_cmp(&measured(a)))
    });
    for i in order {
        let mark = if outcome.chosen == Some(i) { '*' } else { ' ' };
        print_candidate(out, mark, &outcome.candidates[i])?;
    }
    writeln!(out, "\nd: as configured; *: chosen; p: nothing fully trained explains more with fewer active latents")?;
    match outcome.chosen {
        Some(_) => writeln!(out, "the choice leads the configured model by at least {}", tune::LEAD_MIN),
        None => writeln!(out, "the configured model stays: nothing leads it by {}", tune::LEAD_MIN),
    }
}

fn print_candidate(out: &mut impl Write, mark: char, of: &Candidate) -> std::io::Result<()> {
    let sae = &of.config.sae;
    let is_relu = sae.kind == crate::sae::Kind::Relu;
    let l1 = if is_relu { format!("{:.3}", sae.objective.l1) } else { "-".into() };
    let k = if is_relu { "-".into() } else { of.k.to_string() };
    let head = format!(
        "{mark}{}{:9} {:>5} {k:>4} {l1:>6} {:>7.1e} {:>4} {:>2}/{}",
        if of.pareto { 'p' } else { ' ' },
        sae.kind.as_str(),
        of.n_latents,
        sae.lr,
        sae.input_masking,
        of.rungs,
        STEPS.len()
    );
    let figures = of.summary.map(|of| {
        let precision = of.average_precision.map_or_else(|| "-".into(), |value| format!("{value:.3}"));
        format!(
            " {:>6.3} {precision:>6} {:>6.3} {:>6.1} {:>5.2} {:>7.3} {:>7.3}",
            of.stability,
            of.explained_variance,
            of.latents_active_mean,
            of.latents_dead_ratio,
            of.auc_swapped,
            of.auc_shifted
        )
    });
    let dropped = of.dropped.as_ref().map(|reason| format!("  dropped: {reason}"));
    writeln!(out, "{head}{}{}", figures.unwrap_or_default(), dropped.unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_differs_is_written() {
        let default = json!({ "a": 1, "b": { "c": 2, "d": null }, "e": {} });
        assert_eq!(difference(default.clone(), &default), None);
        let value = json!({ "a": 1, "b": { "c": 3, "d": null }, "e": { "f": 4 } });
        assert_eq!(difference(value, &default), Some(json!({ "b": { "c": 3 }, "e": { "f": 4 } })));
    }

    #[test]
    fn a_budget_has_its_number_of_trainings() {
        // 25 with 2 seeds, 9 with 2, 4 with 3, and two learning rates with 3.
        assert_eq!(n_trainings(24), 50 + 18 + 12 + 6);
    }
}
