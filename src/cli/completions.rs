//! `strayd completions`: what a shell needs to complete strayd's commands and options.

use clap::{Args, CommandFactory};
use clap_complete::Shell;

/// Options of `strayd completions`.
#[derive(Debug, Args)]
#[command(after_help = "For this user's bash: strayd completions bash > \
                        ~/.local/share/bash-completion/completions/strayd\nThe Debian package installs them.")]
pub struct Options {
    /// The shell
    #[arg(value_enum)]
    shell: Shell,
}

/// Prints the completions.
pub fn run(options: &Options) -> anyhow::Result<()> {
    clap_complete::generate(options.shell, &mut super::Cli::command(), "strayd", &mut std::io::stdout());
    Ok(())
}
