//! `strayd tap`: samples what comes to the features topic, with its score and its reasons, as it comes.
//!
//! It reads from the end on, in no group, and publishes nothing. Every record goes through a lane of its own, so that the
//! threshold is what the daemon's would be after a restart; few are printed.

use std::collections::BTreeMap;
use std::io::{IsTerminal, Write};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, anyhow};
use clap::Args;
use serde_json::{Value, json};

use super::explain::record_of;
use super::replay::{Output, shared};
use super::shown::{clean, escaped};
use super::{ConfigOptions, progress_bar};
use crate::config::Config;
use crate::history::{Bound, History, Range, TopicHistory};
use crate::model::Model;
use crate::pipeline::Shared;
use crate::pipeline::replay::Replay;
use crate::record::{Partition, RecordId};
use crate::registry::{Registry, Versions};
use crate::shutdown::Shutdown;
use crate::sink::Channel;

/// How often it looks for new records.
const LOOK_INTERVAL: Duration = Duration::from_millis(200);
/// Records of a partition that may wait; what is older is passed over, so that what is printed is live.
const BEHIND_MAX: i64 = 20_000;
/// Reasons of a line.
const REASONS_MAX: usize = 3;

/// Options of `strayd tap`.
#[derive(Debug, Args)]
#[command(
    after_help = "A line: the record's place, its key, its score, that over the threshold, the verdict, and the features that stray \
                        most.\n  strayd tap --config strayd.toml --rate 2\n  strayd tap --config strayd.toml --anomalies --json | jq .score\n\
                        Ctrl-C ends it."
)]
pub struct Options {
    /// Lines a second at most
    #[arg(long, default_value_t = 5.0, value_parser = rate)]
    rate: f64,
    /// Ends after so many lines [default: never]
    #[arg(long)]
    count: Option<u64>,
    /// Prints anomalous records only
    #[arg(long)]
    anomalies: bool,
    /// Prints one JSON object a line
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    config: ConfigOptions,
}

fn rate(text: &str) -> Result<f64, String> {
    let number = text.trim_end_matches("/s").parse::<f64>().ok();
    number
        .filter(|rate| *rate > 0.0 && rate.is_finite())
        .ok_or_else(|| "expected a number above 0, as 5 or 0.2/s".into())
}

/// Samples until it is ended.
pub fn run(options: &Options) -> anyhow::Result<()> {
    let config = options.config.load()?;
    let registry = Versions::look(&config.registry, &config.kafka)?;
    let version =
        registry.current()?.context("there is no model yet; the daemon trains the first one when it starts")?;
    let model = Arc::new(registry.load(version)?);
    let mut tap = Tap::open(&config, &model).map_err(|reason| anyhow!("{}: {reason}", config.kafka.brokers))?;
    if std::io::stderr().is_terminal() {
        eprintln!("model {version}; {} partitions from their ends on", tap.partitions.len());
    }
    let (mut out, mut lines) = (std::io::stdout().lock(), Lines { options, n: 0, due: Instant::now() });
    let pause = Shutdown::default();
    while !lines.are_enough() {
        let scored = tap.look().map_err(|reason| anyhow!("{}: {reason}", config.kafka.brokers))?;
        for output in lines.chosen(scored) {
            let sample = tap.explained(&config, &model, &output)?;
            let line = if options.json { escaped(&sample.to_string()) } else { in_words(&output, &sample) };
            writeln!(out, "{line}")?;
            out.flush()?;
        }
        pause.sleep(LOOK_INTERVAL);
    }
    Ok(())
}

/// The lines that are printed.
struct Lines<'a> {
    options: &'a Options,
    n: u64,
    /// When the next may be printed.
    due: Instant,
}

impl Lines<'_> {
    fn are_enough(&self) -> bool {
        self.options.count.is_some_and(|count| self.n >= count)
    }

    /// Chooses as many of the newest records as the rate allows, spread over them.
    fn chosen(&mut self, mut scored: Vec<Output>) -> Vec<Output> {
        scored.retain(|output| !self.options.anomalies || output.score.ratio > 1.0);
        let now = Instant::now();
        // What nothing came for is not made up for.
        self.due = self.due.max(now.checked_sub(LOOK_INTERVAL).unwrap_or(now));
        let interval = Duration::from_secs_f64(1.0 / self.options.rate);
        let mut room = 0;
        while self.due <= now && room < scored.len() && self.options.count.is_none_or(|count| self.n < count) {
            (room, self.n) = (room + 1, self.n + 1);
            self.due += interval;
        }
        let n = scored.len();
        let places: Vec<usize> = (0..room).map(|i| (i + 1) * n / room - 1).collect();
        let mut at = 0..;
        scored.retain(|_| at.next().is_some_and(|at| places.contains(&at)));
        scored
    }
}

/// The topic from its end on.
struct Tap {
    history: TopicHistory,
    shared: Shared,
    /// A lane for each partition, and where it has come to.
    partitions: BTreeMap<Partition, (Replay, i64)>,
}

impl Tap {
    /// Takes up every partition at its end, thresholds restored.
    fn open(config: &Config, model: &Arc<Model>) -> Result<Self, String> {
        let history = TopicHistory::new(&config.kafka, &config.input.topic, config.history.read_timeout)?;
        let shared = shared(config).map_err(|error| format!("{error:#}"))?;
        shared.cell.swap(Arc::clone(model));
        let mut tap = Self { history, shared, partitions: BTreeMap::new() };
        let extents = tap.history.extents(Bound::Head)?;
        let bar = progress_bar(extents.len() as u64, "restoring thresholds");
        for extent in extents {
            tap.take_up(extent, extent.end)?;
            bar.inc(1);
        }
        bar.finish_and_clear();
        Ok(tap)
    }

    /// Takes a partition up at `live_from`.
    fn take_up(&mut self, extent: Range, live_from: i64) -> Result<(), String> {
        let mut replay = Replay::new(&self.shared, extent.partition, live_from);
        let past = Range { start: replay.start().max(extent.start), end: live_from, ..extent };
        replay.judge(&self.shared, &mut self.history, past)?;
        self.partitions.insert(extent.partition, (replay, live_from));
        Ok(())
    }

    /// Judges what is new.
    fn look(&mut self) -> Result<Vec<Output>, String> {
        let mut scored = Vec::new();
        for extent in self.history.extents(Bound::Head)? {
            match self.partitions.get(&extent.partition) {
                // Added since, or too far behind, or made anew.
                None => self.take_up(extent, extent.start)?,
                Some((_, next)) if !(0..=BEHIND_MAX).contains(&(extent.end - next)) => {
                    let partition = extent.partition;
                    eprintln!("partition {partition}: offsets {next} to {} are passed over", extent.end - 1);
                    self.take_up(extent, extent.end)?;
                }
                Some(_) => {}
            }
            let (replay, next) = self.partitions.get_mut(&extent.partition).expect("it has been taken up");
            let new = Range { start: *next, ..extent };
            replay.judge(&self.shared, &mut self.history, new)?;
            *next = extent.end;
            let of_scores = replay.take().into_iter().filter(|sent| sent.channel == Channel::Scores);
            scored.extend(of_scores.filter_map(|sent| Output::parse(&sent.value)));
        }
        Ok(scored)
    }

    /// A score with the reasons of its record.
    fn explained(&mut self, config: &Config, model: &Model, output: &Output) -> anyhow::Result<Value> {
        let id: RecordId = output.record(&config.input.topic);
        let range = Range { partition: id.partition, start: id.offset, end: id.offset + 1 };
        let mut payload = None;
        self.history
            .read(&[range], &mut |past| payload = past.payload.map(<[u8]>::to_vec))
            .map_err(|reason| anyhow!(reason))?;
        let mut sample = serde_json::to_value(output)?;
        sample["verdict"] = verdict(output).into();
        // Retention may have been faster.
        let why =
            payload.map(|payload| record_of(config, model, id, &payload)).transpose()?.unwrap_or_else(|| json!({}));
        (sample["features"], sample["summary"]) = (why["features"].clone(), why["summary"].clone());
        Ok(sample)
    }
}

fn verdict(output: &Output) -> &'static str {
    if output.score.ratio > 1.0 { "anomalous" } else { "ordinary" }
}

/// A line for people.
fn in_words(output: &Output, sample: &Value) -> String {
    let reason = |feature: &Value| {
        let (name, share) = (feature["name"].as_str()?, feature["contribution"].as_f64()?);
        let sigma = feature["residual_z"].as_f64().map_or_else(String::new, |sigma| format!(" {sigma:+.1} σ"));
        Some(format!("{name}{sigma} ({:.0} %)", 100.0 * share))
    };
    let features = sample["features"].as_array().map_or(&[][..], Vec::as_slice);
    let reasons: Vec<String> = features.iter().take(REASONS_MAX).filter_map(reason).collect();
    let (place, entity) = (output.place(), output.entity.as_deref().unwrap_or("-"));
    let (raw, ratio, verdict) = (output.score.raw, output.score.ratio, verdict(output));
    clean(&format!(
        "{place:<24} {entity:<12} score {raw:<9.4} {ratio:>6.2} of the threshold  {verdict:<9}  {}",
        reasons.join(", ")
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rate_is_above_nothing() {
        assert_eq!((rate("5"), rate("0.2/s")), (Ok(5.0), Ok(0.2)));
        assert!(rate("0").is_err() && rate("-1").is_err() && rate("fast").is_err());
    }

    #[test]
    fn what_a_record_says_moves_no_terminal() {
        let output = json!({
            "id": "0", "source": {"topic": "t", "partition": 0, "offset": 7}, "entity": "\u{1b}[2Jkey",
            "event_time": "", "score": {"ratio": 2.0, "raw": 1.0, "threshold": 0.5}, "model": {"version": 1},
        });
        let output = Output::parse(output.to_string().as_bytes()).expect("an output");
        let sample = json!({"features": [{"name": "\u{9b}2J", "contribution": 1.0}]});
        let line = in_words(&output, &sample);
        assert!(line.contains("␛[2Jkey") && line.contains("\u{fffd}2J (100 %)"), "{line}");
        assert!(!line.chars().any(char::is_control), "{line:?}");
    }
}
