//! `strayd check`: says what is wrong with the configuration before the daemon does.

use anyhow::anyhow;
use clap::Args;

use super::ConfigOptions;
use crate::app;
use crate::preprocess::Wish;

/// Options of `strayd check`.
#[derive(Debug, Args)]
pub struct Options {
    #[command(flatten)]
    config: ConfigOptions,
    /// Asks the brokers for the topics, too
    #[arg(long)]
    connect: bool,
    /// Prints the effective configuration as JSON (it holds no secret)
    #[arg(long)]
    json: bool,
}

/// Checks the configuration.
pub fn run(options: &Options) -> anyhow::Result<()> {
    let config = options.config.load()?;
    if options.connect {
        app::check_cluster(&config).map_err(|reason| anyhow!("{}: {reason}", config.kafka.brokers))?;
    }
    if options.json {
        println!("{}", serde_json::to_string_pretty(&*config)?);
    } else {
        let (topic, brokers) = (&config.input.topic, &config.kafka.brokers);
        let reached = if options.connect { "reached, topics exist" } else { "not asked; --connect does" };
        println!("the configuration is right: topic `{topic}`, group `{}`", config.kafka.group);
        println!("brokers {brokers}: {reached}");
        println!("features: {}", features(&config.schema.features));
    }
    Ok(())
}

/// Features and their kinds, as far as they are known before a sample is read.
fn features(wishes: &[Wish]) -> String {
    if wishes.is_empty() {
        return "learnt from a sample of the history; the log line `schema settled` says which, and their kinds".into();
    }
    let words: Vec<String> = wishes.iter().map(|wish| format!("{} ({wish})", wish.name)).collect();
    words.join(", ")
}
