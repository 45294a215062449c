//! Where log lines go: stderr, as text on a terminal and as JSON otherwise.

use std::io::IsTerminal;
use std::sync::OnceLock;

use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, Layer, Registry, fmt, reload};

use crate::config::{Log, LogFormat};

/// The filter of the process's log, which a reload exchanges.
static FILTER: OnceLock<reload::Handle<EnvFilter, Registry>> = OnceLock::new();

/// Sets up the log of the process, once. `RUST_LOG` wins over the configuration.
pub fn init(config: &Log) {
    let (filter, handle) = reload::Layer::new(filter(config));
    let lines = fmt::layer().with_writer(std::io::stderr);
    let is_text = match config.format {
        LogFormat::Auto => std::io::stderr().is_terminal(),
        LogFormat::Text => true,
        LogFormat::Json => false,
    };
    let lines = if is_text {
        lines.with_target(false).with_ansi(std::io::stderr().is_terminal()).boxed()
    } else {
        lines.json().flatten_event(true).with_current_span(false).with_span_list(false).boxed()
    };
    // A second set-up in one process (tests) keeps the first one's.
    if tracing_subscriber::registry().with(filter).with(lines).try_init().is_ok() {
        FILTER.get_or_init(|| handle);
    }
}

/// Goes on with another level.
pub fn follow(config: &Log) {
    if let Some(Err(error)) = FILTER.get().map(|handle| handle.reload(filter(config))) {
        tracing::warn!(%error, "the log's level can't be changed");
    }
}

fn filter(config: &Log) -> EnvFilter {
    EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new(&config.level))
}
