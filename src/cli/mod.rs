//! The command line: one file a command. Commands print for people on a terminal and one JSON document with `--json`;
//! logs and progress go to stderr.

mod check;
mod compare;
mod completions;
pub mod demo;
mod doctor;
mod encode;
mod eval;
pub mod evaluate;
mod explain;
mod export;
mod feedback;
mod healthcheck;
mod import;
mod kernels;
mod local;
mod man;
mod models;
mod plan;
mod replay;
mod reproduce;
mod run;
mod schema;
mod score;
mod shown;
mod suppress;
mod table;
mod tap;
pub mod threshold;
mod top;
mod train;
mod tune;

use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};

pub use kernels::pick_kernels;
pub use table::Table;

use crate::config::{Config, Problems, RawConfig, Sources};
use crate::decode::{self, Format};

/// Exit code of a configuration that is wrong (`EX_CONFIG`).
const EXIT_CONFIG: u8 = 78;

/// Topic of a pipeline over a file, unless one is set.
const FILE_TOPIC: &str = "file";

/// The command line.
#[derive(Debug, Parser)]
#[command(name = "strayd", version = crate::cli::version(), about, long_about = ABOUT, max_term_width = 100)]
#[command(after_help = "Exit codes: 0 done, 1 failed at run time, 2 wrong usage, 78 wrong configuration.\n\
                        Every configuration key is also an environment variable: STRAYD__SECTION__KEY.")]
pub struct Cli {
    #[command(subcommand)]
    command: Command,
}

const ABOUT: &str = "Finds the records that strayed: reads a Kafka topic of feature vectors, scores each one by how badly a \
                     sparse autoencoder reconstructs it, goes on learning while it runs, and publishes what is anomalous, \
                     with the reasons, to another topic.\n\nNo broker at hand? Try `strayd demo`.";

#[derive(Debug, Subcommand)]
enum Command {
    /// Runs the daemon
    Run(run::Options),
    /// Checks the configuration, and with --connect brokers and topics too
    Check(check::Options),
    /// Says why nothing is alerted, or too much: looks at everything that a record goes through
    Doctor(doctor::Options),
    /// Asks the running daemon how it is: exit code 0 well, 1 not
    Healthcheck(healthcheck::Options),
    /// Shows strayd at work on a simulated plant; needs no broker
    Demo(demo::Options),
    /// Trains a model on a CSV file, or a version of the registry again on its records
    Train(train::Options),
    /// Scores a CSV file with a model, one JSON line a row
    Score(score::Options),
    /// Replays a labelled CSV file through the pipeline and measures what is found
    Eval(eval::Options),
    /// Ranks a CSV file with the configured model and with baselines, and sets them side by side
    Compare(compare::Options),
    /// Searches a CSV file for a better configuration of the model than the configured one
    Tune(tune::Options),
    /// Replays a CSV file of scores through a threshold and measures its alerts, or compares all thresholds
    Threshold(threshold::Options),
    /// Prints the anomaly record of one row or record, whatever its score
    Explain(explain::Options),
    /// Judges a stretch of the topic again, publishes nothing, and prints what differs from what was published
    Replay(replay::Options),
    /// Samples what comes to the topic, with its score and its reasons, as it comes
    Tap(tap::Options),
    /// Shows the running daemon in the terminal: what it does, why it alerted, what it learnt, and takes your word
    Top(top::Options),
    /// Says what machine a stream needs, and what breaks first
    Plan(plan::Options),
    /// Writes the sparse latents of each row of a CSV file, or the denoised rows
    Encode(encode::Options),
    /// Writes a model in a form that other tools read: SAELens, sparsify, npz, ONNX
    Export(export::Options),
    /// Makes a model of weights that another tool wrote: SAELens, sparsify, npz
    Import(import::Options),
    /// Tells the detector what an anomaly really was, or lists what was said
    Feedback(feedback::Options),
    /// Withholds anomalies that are known, while the daemon runs
    Suppress(suppress::Options),
    /// Lists, shows and rolls back the models of the registry
    Models(models::Options),
    /// Prints the JSON Schema of a record that strayd writes
    Schema(schema::Options),
    /// Prints what a shell needs to complete commands and options
    Completions(completions::Options),
    /// Prints the manual page, or writes the pages of all commands
    Man(man::Options),
}

/// Where the configuration comes from.
#[derive(Clone, Debug, Default, Args)]
pub struct ConfigOptions {
    /// TOML file [config/strayd.toml shows every key with its default]
    #[arg(long, short, value_name = "FILE", env = "STRAYD_CONFIG")]
    config: Option<PathBuf>,
    /// Overrides one key, as in --set pipeline.lanes=2 [may be repeated]
    #[arg(long = "set", value_name = "KEY=VALUE", value_parser = key_value)]
    overrides: Vec<(String, String)>,
}

fn key_value(text: &str) -> Result<(String, String), String> {
    let (key, value) = text.split_once('=').ok_or("expected KEY=VALUE")?;
    Ok((key.trim().to_owned(), value.trim().to_owned()))
}

impl ConfigOptions {
    /// The same with one more override.
    pub fn with(mut self, key: &str, value: &str) -> Self {
        self.overrides.push((key.into(), value.into()));
        self
    }

    fn load(&self) -> Result<Config, Problems> {
        Config::load(&self.sources())
    }

    /// For commands that read a file instead of a topic: `input.topic` need not be set.
    ///
    /// Errors: everything that is wrong with the configuration.
    pub fn load_for_file(&self) -> Result<Config, Problems> {
        let mut sources = self.sources();
        sources.overrides.insert(0, ("input.topic".into(), FILE_TOPIC.into()));
        Config::load(&sources)
    }

    fn sources(&self) -> Sources {
        Sources::of_process(self.config.as_deref(), self.overrides.clone())
    }
}

/// Parses the process's arguments, runs the command, and says what became of it.
pub fn main() -> ExitCode {
    pick_kernels();
    crate::blas::init();
    let cli = Cli::parse();
    let outcome = match &cli.command {
        Command::Run(options) => run::run(options),
        Command::Check(options) => check::run(options),
        Command::Doctor(options) => doctor::run(options),
        Command::Healthcheck(options) => healthcheck::run(options),
        Command::Demo(options) => demo::run(options),
        Command::Train(options) => train::run(options),
        Command::Score(options) => score::run(options),
        Command::Eval(options) => eval::run(options),
        Command::Compare(options) => compare::run(options),
        Command::Tune(options) => tune::run(options),
        Command::Threshold(options) => threshold::run(options),
        Command::Explain(options) => explain::run(options),
        Command::Replay(options) => replay::run(options),
        Command::Tap(options) => tap::run(options),
        Command::Top(options) => top::run(options),
        Command::Plan(options) => plan::run(options),
        Command::Encode(options) => encode::run(options),
        Command::Export(options) => export::run(options),
        Command::Import(options) => import::run(options),
        Command::Feedback(options) => feedback::run(options),
        Command::Suppress(options) => suppress::run(options),
        Command::Models(options) => models::run(options),
        Command::Schema(options) => schema::run(options),
        Command::Completions(options) => completions::run(options),
        Command::Man(options) => man::run(options),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        // Whoever read the output has had enough of it: `strayd score … | head`.
        Err(error) if is_broken_pipe(&error) => ExitCode::SUCCESS,
        Err(error) => {
            // Standard error may be a file on a full disk: the exit code is what the supervisor goes by.
            let _ = writeln!(std::io::stderr(), "strayd: {error:#}");
            let is_config = error.chain().any(|cause| cause.is::<Problems>());
            if is_config { ExitCode::from(EXIT_CONFIG) } else { ExitCode::FAILURE }
        }
    }
}

fn is_broken_pipe(error: &anyhow::Error) -> bool {
    let io = error.chain().find_map(|cause| cause.downcast_ref::<std::io::Error>());
    io.is_some_and(|error| error.kind() == std::io::ErrorKind::BrokenPipe)
}

fn version() -> &'static str {
    static TEXT: std::sync::OnceLock<String> = std::sync::OnceLock::new();
    TEXT.get_or_init(|| {
        let kafka = crate::kafka::library_version();
        let (version, revision) = (env!("CARGO_PKG_VERSION"), env!("STRAYD_REVISION"));
        format!("{version} (revision {revision}, {}, librdkafka {kafka})", crate::blas::info())
    })
}

/// A bar of `n` steps on stderr, invisible when stderr is no terminal.
fn progress_bar(n: u64, what: &'static str) -> indicatif::ProgressBar {
    let style =
        indicatif::ProgressStyle::with_template("{msg} {wide_bar} {pos}/{len} {eta}").expect("the template is valid");
    indicatif::ProgressBar::new(n).with_style(style).with_message(what)
}

/// Defaults under `raw` for a pipeline over a file of payloads in `format`.
fn file_config(config: &Config, format: Format) -> RawConfig {
    RawConfig { decode: file_decode(format), ..(**config).clone() }
}

/// How the rows of a file are decoded: each is a vector and nothing else.
fn file_decode(format: Format) -> decode::Config {
    decode::Config { format, payload_bytes_max: usize::MAX, ..decode::Config::default() }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_sound() {
        Cli::command().debug_assert();
    }
}
