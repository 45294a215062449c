//! `strayd doctor`: why nothing is alerted, or too much.
//!
//! It looks at everything that a record goes through, in that order, and says what it has seen and what helps. It changes
//! nothing: it joins no group, commits nothing, writes nothing. What can't be looked at before something else is mended is
//! skipped.

mod cluster;
mod daemon;
mod model;
mod sample;
mod sheet;
mod stream;

use std::io::Write;

use anyhow::{anyhow, bail};
use clap::Args;

use self::sample::Sample;
use self::sheet::{Sheet, Verdict};
use super::shown::escaped;
use super::{ConfigOptions, replay};
use crate::config::Config;
use crate::history::{Bound, History, TopicHistory};

/// Options of `strayd doctor`.
#[derive(Debug, Args)]
#[command(
    after_help = "Ask it with the daemon's own configuration, on the daemon's machine: then it also asks the daemon how it is.\n  \
    strayd doctor --config /etc/strayd/strayd.toml\n\nExit codes: 0 all is well, 1 something fails or is worth a warning."
)]
pub struct Options {
    /// Newest records that are judged again to see how many of them alert
    #[arg(long, default_value_t = 4000, value_parser = clap::value_parser!(u32).range(100..=1_000_000))]
    records: u32,
    /// Prints one JSON document
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    config: ConfigOptions,
}

/// Looks at everything.
pub fn run(options: &Options) -> anyhow::Result<()> {
    let mut sheet = Sheet::default();
    match options.config.load() {
        Ok(config) => {
            let (topic, group) = (&config.input.topic, &config.kafka.group);
            sheet.pass("configuration", format!("it is right: topic `{topic}`, group `{group}`"));
            look(&config, options, &mut sheet);
            daemon::look(&config, &mut sheet);
        }
        Err(problems) => {
            let said: Vec<String> = problems.0.iter().map(|one| format!("{}: {}", one.key, one.message)).collect();
            sheet.fail("configuration", said.join("; "), "mend these keys; `strayd check` looks at them alone");
        }
    }
    let mut out = std::io::stdout().lock();
    if options.json {
        let checks = serde_json::json!({ "checks": sheet.findings() });
        writeln!(out, "{}", escaped(&checks.to_string()))?;
    } else {
        sheet.print(&mut out)?;
    }
    let (failed, warned) = (sheet.named(Verdict::Fail), sheet.named(Verdict::Warn));
    match (failed.is_empty(), warned.is_empty()) {
        (true, true) => Ok(()),
        (true, false) => bail!("look at: {}", warned.join(", ")),
        (false, _) => bail!("wrong: {}", failed.join(", ")),
    }
}

/// The way of a record, as far as it can be followed.
fn look(config: &Config, options: &Options, sheet: &mut Sheet) {
    let reached = cluster::look(config, sheet);
    let model = model::current(config);
    if !reached {
        for check in ["records", "format", "dimension", "clock", "history"] {
            sheet.skip(check, "the topic can't be read");
        }
        model::age(&model, None, sheet);
        for check in ["alerts", "suppression", "lag"] {
            sheet.skip(check, "the topic can't be read");
        }
        return;
    }
    let read = TopicHistory::new(&config.kafka, &config.input.topic, config.history.read_timeout)
        .and_then(|mut history| Sample::read(&mut history).map(|sample| (history, sample)));
    let (mut history, sample) = match read {
        Ok(read) => read,
        Err(reason) => return sheet.fail("records", reason, cluster::READ_CURE),
    };
    stream::records(&sample, sheet);
    let model_found = model.as_ref().ok().and_then(Option::as_ref);
    stream::contents(config, model_found, &sample, sheet);
    stream::clock(&sample, sheet);
    model::history(config, model_found, &sample, sheet);
    model::age(&model, sample.newest_ms(), sheet);
    match (replay::shared(config), model_found) {
        (Ok(shared), Some(model)) => {
            let alerts = model::alerts(&shared, model, &mut history, options.records as usize, sheet);
            model::suppression(&shared, &sample, alerts, sheet);
        }
        (Ok(shared), None) => {
            sheet.skip("alerts", "there is no model to judge by");
            model::suppression(&shared, &sample, None, sheet);
        }
        (Err(error), _) => sheet.fail("suppression", format!("{error:#}"), "mend or remove the commands journal"),
    }
    let settled = history.extents(Bound::Settled).map_err(|reason| anyhow!(reason));
    daemon::lag(config, &sample, settled, sheet);
}
