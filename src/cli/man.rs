//! `strayd man`: the manual pages, made of the same words as `--help`.

use std::io::Write;
use std::path::PathBuf;

use anyhow::Context;
use clap::{Args, CommandFactory};

/// Options of `strayd man`.
#[derive(Debug, Args)]
pub struct Options {
    /// Writes a page for strayd and one for each command into this folder, instead of printing strayd's
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
}

/// Prints or writes the pages.
pub fn run(options: &Options) -> anyhow::Result<()> {
    let command = super::Cli::command().version(env!("CARGO_PKG_VERSION"));
    if let Some(dir) = &options.out {
        std::fs::create_dir_all(dir).with_context(|| format!("{}", dir.display()))?;
        return clap_mangen::generate_to(command, dir).with_context(|| format!("{}", dir.display()));
    }
    let mut page = Vec::new();
    clap_mangen::Man::new(command).render(&mut page)?;
    std::io::stdout().write_all(&page)?;
    Ok(())
}
