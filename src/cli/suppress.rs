//! `strayd suppress`: withholds anomalies that are known, while the daemon runs.
//!
//! What is said goes to the commands journal, which every replica reads; the configuration's own rules stay beside it.

use std::collections::BTreeMap;
use std::io::Write;

use anyhow::{anyhow, bail};
use clap::{Args, Subcommand};

use super::ConfigOptions;
use crate::alert::{Rules, Suppression};
use crate::app;
use crate::journal::{Journal, Order};
use crate::telemetry::now_ms;
use crate::threshold::Severity;

/// Options of `strayd suppress`.
#[derive(Debug, Args)]
pub struct Options {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Lists the rules that were added at run time
    List(Common),
    /// Adds a rule, or replaces the one of that name; all of its conditions must hold
    Add {
        /// Its name
        name: String,
        /// Entities (record keys), with * and ?
        #[arg(long)]
        entity: Option<String>,
        /// A feature among the leading reasons, with * and ?
        #[arg(long)]
        feature: Option<String>,
        /// Worst severity that is withheld: low, medium, high or critical
        #[arg(long, value_parser = severity)]
        severity_max: Option<Severity>,
        /// Event time from which it holds, RFC 3339
        #[arg(long)]
        from: Option<String>,
        /// Event time at which it expires, RFC 3339
        #[arg(long)]
        until: Option<String>,
        /// Why, in your words
        #[arg(long)]
        reason: Option<String>,
        #[command(flatten)]
        common: Common,
    },
    /// Takes a rule back
    Remove {
        /// Its name
        name: String,
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

fn severity(text: &str) -> Result<Severity, String> {
    let known = Severity::ALL.into_iter().find(|severity| severity.as_str() == text);
    known.ok_or_else(|| "expected low, medium, high or critical".to_owned())
}

/// Adds, removes or lists.
pub fn run(options: &Options) -> anyhow::Result<()> {
    match &options.action {
        Action::List(common) => list(common),
        Action::Add { name, entity, feature, severity_max, from, until, reason, common } => {
            let rule = Suppression {
                name: name.clone(),
                entity: entity.clone(),
                feature: feature.clone(),
                severity_max: *severity_max,
                from: from.clone(),
                until: until.clone(),
                reason: reason.clone(),
            };
            Rules::new(std::slice::from_ref(&rule), &[], &BTreeMap::new())
                .map_err(|wrong| anyhow!(wrong.join("; ")))?;
            let words = format!("`{name}` withholds from now on; `strayd suppress remove {name}` takes it back");
            say(common, &Order::Suppress { rule }, &words)
        }
        Action::Remove { name, common } => {
            if !rules(common)?.contains_key(name) {
                bail!("no rule `{name}` was added at run time; one of the configuration is removed there");
            }
            say(common, &Order::Unsuppress { name: name.clone() }, &format!("`{name}` withholds nothing any more"))
        }
    }
}

/// The rules that hold by the journal, by name.
fn rules(common: &Common) -> anyhow::Result<BTreeMap<String, Suppression>> {
    let mut journal = journal(common)?;
    let entries = journal.poll().map_err(|error| anyhow!("commands can't be read: {error}"))?;
    let mut rules = BTreeMap::new();
    for entry in entries {
        match Order::parse(&entry) {
            Ok(Some(Order::Suppress { rule })) => drop(rules.insert(rule.name.clone(), rule)),
            Ok(Some(Order::Unsuppress { name })) => drop(rules.remove(&name)),
            _ => {}
        }
    }
    Ok(rules)
}

fn journal(common: &Common) -> anyhow::Result<Box<dyn Journal>> {
    app::commands_journal(&common.config.load()?)
}

fn say(common: &Common, order: &Order, words: &str) -> anyhow::Result<()> {
    let entry = order.entry(now_ms());
    journal(common)?.append(&entry).map_err(|error| anyhow!("the command was not stored: {error}"))?;
    let mut out = std::io::stdout().lock();
    if common.json {
        writeln!(out, "{}", serde_json::to_string(&entry)?)?;
    } else {
        writeln!(out, "{words}")?;
    }
    Ok(())
}

fn list(common: &Common) -> anyhow::Result<()> {
    let rules = rules(common)?;
    let mut out = std::io::stdout().lock();
    if common.json {
        writeln!(out, "{}", serde_json::to_string(&rules.into_values().collect::<Vec<_>>())?)?;
        return Ok(());
    }
    for rule in rules.into_values() {
        writeln!(out, "{}", toml::to_string(&rule)?.trim().replace('\n', "  "))?;
    }
    Ok(())
}
