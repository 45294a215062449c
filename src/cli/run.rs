//! `strayd run`: the daemon.

use clap::Args;

use super::ConfigOptions;
use crate::app::{self, OnSignals};
use crate::shutdown::Shutdown;

/// Options of `strayd run`.
#[derive(Debug, Args)]
pub struct Options {
    #[command(flatten)]
    config: ConfigOptions,
}

/// Runs the daemon until a signal ends it.
pub fn run(options: &Options) -> anyhow::Result<()> {
    let config = options.config.load()?;
    app::init_logs(&config.log);
    app::start(config, Shutdown::default(), OnSignals::DrainAndReload(options.config.sources()))?.wait()
}
