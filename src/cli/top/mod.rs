//! `strayd top`: what the console shows, in a terminal, over the same API.
//!
//! `state` is what is known and where the person is, `view` draws it, both pure; `link` speaks to the daemon, `terminal` is the loop.

mod keys;
mod link;
mod plain;
mod state;
mod terminal;
mod told;
mod view;
mod words;

#[cfg(test)]
mod state_tests;
#[cfg(test)]
mod view_tests;

use std::io::{IsTerminal, Write};
use std::path::{Path, PathBuf};

use anyhow::Context;
use clap::Args;
use jiff::tz::TimeZone;

use super::ConfigOptions;
use super::healthcheck::reachable;
use super::shown::escaped;
use crate::telemetry::now_ms;
use link::Link;
use state::{Authority, Happened, State};

/// Options of `strayd top`.
#[derive(Debug, Args)]
#[command(after_help = "Keys: ? shows them, q quits. Colours are left out where NO_COLOR is set.\n  \
                        strayd top --config strayd.toml\n  \
                        strayd top --url http://plant-7:8790 --token-file token\n  \
                        strayd top --json | jq .alert_rate")]
pub struct Options {
    /// Address of the daemon's admin server, as http://localhost:8790 [default: admin.listen]
    #[arg(long, value_name = "URL")]
    url: Option<String>,
    /// File that holds the daemon's token, for changes [default: admin.token_file, unless --url is given]
    #[arg(long, value_name = "FILE")]
    token_file: Option<PathBuf>,
    /// Prints one snapshot and ends; so it does where it writes to no terminal
    #[arg(long)]
    once: bool,
    /// Prints the daemon's status as one JSON document and ends
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    config: ConfigOptions,
}

/// Shows the daemon.
pub fn run(options: &Options) -> anyhow::Result<()> {
    let (address, token, authority) = whereabouts(options)?;
    let link = Link::new(&address, token);
    let mut out = std::io::stdout();
    if options.json {
        let status = link.get("/api/v1/status").with_context(|| format!("{address} doesn't answer"))?;
        writeln!(out, "{}", escaped(&status))?;
        return Ok(());
    }
    let mut state = State::new(&address, authority, now_ms());
    state.zone = TimeZone::system();
    state.has_colour = std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
    if !options.once && out.is_terminal() {
        return terminal::run(state, link);
    }
    let look = link.look().with_context(|| format!("{address} doesn't answer"))?;
    let status = link.document("/api/v1/status")?;
    state.update(Happened::Looked(Box::new(look)), now_ms());
    state.update(Happened::Status(Box::new(status)), now_ms());
    for line in plain::lines(&state) {
        writeln!(out, "{line}")?;
    }
    Ok(())
}

/// The daemon's address, the token, and whether changes may be sent.
fn whereabouts(options: &Options) -> anyhow::Result<(String, Option<String>, Authority)> {
    let config = || options.config.load_for_file().map(|config| config.admin.clone());
    // The token of this configuration is not for whoever is at another address.
    let (address, own_file) = match &options.url {
        Some(url) => (with_scheme(url), None),
        None => {
            let admin = config()?;
            (format!("http://{}", reachable(admin.listen)), admin.token_file)
        }
    };
    if let Some(path) = &options.token_file {
        let token = read(path).with_context(|| format!("--token-file {}", path.display()))?;
        return Ok((address, Some(token), Authority::Token));
    }
    Ok(match own_file.map(|path| (read(&path), path)) {
        None => (address, None, Authority::Asked),
        Some((Ok(token), _)) => (address, Some(token), Authority::Token),
        // Whoever may not read the token may look all the same, on the daemon's own machine.
        Some((Err(error), path)) => {
            let why = format!("admin.token_file = {} can't be read ({error})", path.display());
            (address, None, Authority::None(why))
        }
    })
}

fn read(path: &Path) -> std::io::Result<String> {
    std::fs::read_to_string(path).map(|text| text.trim().to_owned())
}

fn with_scheme(url: &str) -> String {
    let url = url.trim_end_matches('/');
    if url.contains("://") { url.to_owned() } else { format!("http://{url}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(url: Option<&str>, token_file: Option<&Path>, own: Option<&Path>) -> Options {
        let config = ConfigOptions::default().with("admin.listen", "0.0.0.0:8790");
        let config = match own {
            Some(path) => config.with("admin.token_file", &path.display().to_string()),
            None => config,
        };
        let (url, token_file) = (url.map(str::to_owned), token_file.map(Path::to_owned));
        Options { url, token_file, once: false, json: false, config }
    }

    #[test]
    fn the_configured_token_goes_to_the_configured_address_alone() {
        let dir = tempfile::tempdir().expect("a temporary folder can be made");
        let path = dir.path().join("token");
        std::fs::write(&path, "s3cret\n").expect("it can be written");
        let known = |options: Options| whereabouts(&options).expect("it is right");
        let (own, secret) = ("http://127.0.0.1:8790".to_owned(), Some("s3cret".to_owned()));
        assert_eq!(known(options(None, None, None)), (own.clone(), None, Authority::Asked));
        assert_eq!(known(options(None, None, Some(&path))), (own.clone(), secret.clone(), Authority::Token));
        let other = "http://plant-7:8790".to_owned();
        assert_eq!(known(options(Some("plant-7:8790/"), None, Some(&path))), (other.clone(), None, Authority::Asked));
        assert_eq!(known(options(Some(&other), Some(&path), None)), (other, secret, Authority::Token));
        let lost = dir.path().join("lost");
        assert!(
            matches!(known(options(None, None, Some(&lost))), (_, None, Authority::None(why)) if why.contains("lost"))
        );
        assert!(whereabouts(&options(None, Some(&lost), None)).is_err());
    }
}
