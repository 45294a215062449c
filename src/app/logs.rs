//! Where log lines go: stderr, as text on a terminal and as JSON otherwise.

use std::io::IsTerminal;

use tracing_subscriber::EnvFilter;

use crate::config::{Log, LogFormat};

/// Sets up the log of the process, once. `RUST_LOG` wins over the configuration.
pub fn init(config: &Log) {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new(&config.level));
    let log = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    let is_text = match config.format {
        LogFormat::Auto => std::io::stderr().is_terminal(),
        LogFormat::Text => true,
        LogFormat::Json => false,
    };
    // A second set-up in one process (tests) keeps the first one's.
    let _ = if is_text {
        log.with_target(false).with_ansi(std::io::stderr().is_terminal()).try_init()
    } else {
        log.json().flatten_event(true).with_current_span(false).with_span_list(false).try_init()
    };
}
