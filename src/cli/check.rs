//! `strayd check`: says what is wrong with the configuration before the daemon does.

use anyhow::anyhow;
use clap::Args;

use super::ConfigOptions;
use crate::app;

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
    }
    Ok(())
}
