//! `strayd feedback`: tells the detector what an anomaly really was.
//!
//! The anomaly is looked up first, so that a wrong id is refused here and not by a line in the daemon's log. What is said
//! goes to the feedback journal; a running daemon takes it up within seconds, and the next round learns from it.

use std::io::Write;

use anyhow::{Context, anyhow, bail};
use clap::{Args, ValueEnum};

use super::ConfigOptions;
use crate::app;
use crate::config::Config;
use crate::history::{Bound, History, Range, TopicHistory};
use crate::journal::{Feedback, Journal, Opinion, Place};
use crate::pipeline::decoding::Published;
use crate::record::Topics;
use crate::telemetry::now_ms;

/// Options of `strayd feedback`.
#[derive(Debug, Args)]
pub struct Options {
    /// The anomaly: its id, or its record as partition/offset or topic/partition/offset; none lists what has been said
    record: Option<String>,
    /// What it was
    #[arg(requires = "record")]
    verdict: Option<Word>,
    /// Why, in your words; it is kept with the verdict
    #[arg(long, requires = "verdict")]
    note: Option<String>,
    /// Prints one JSON document
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    config: ConfigOptions,
}

/// A verdict as it is said on the command line.
#[derive(Clone, Copy, Debug, ValueEnum)]
#[value(rename_all = "snake_case")]
enum Word {
    /// An anomaly indeed: every later model must find it
    TruePositive,
    /// Ordinary: later models learn it
    FalsePositive,
    /// Odd and known, as work on the plant: neither learnt nor held against a model
    Expected,
    /// Takes back what was said
    Forget,
}

impl Word {
    fn opinion(self) -> Option<Opinion> {
        match self {
            Self::TruePositive => Some(Opinion::TruePositive),
            Self::FalsePositive => Some(Opinion::FalsePositive),
            Self::Expected => Some(Opinion::Expected),
            Self::Forget => None,
        }
    }
}

/// An anomaly as far as it is shown here.
#[derive(serde::Deserialize)]
struct Found {
    id: String,
    source: Place,
    summary: String,
}

/// Says it, or lists what has been said.
pub fn run(options: &Options) -> anyhow::Result<()> {
    let config = options.config.load()?;
    let mut journal = app::feedback_journal(&config)?;
    let Some(record) = &options.record else { return list(options, journal.as_mut()) };
    let verdict = options.verdict.context("say what it was: true_positive, false_positive, expected or forget")?;
    let (place, found) = look_up(&config, record)?;
    let mut entry = Feedback {
        id: found.as_ref().map(|found| found.id.clone()),
        source: Some(place.clone()),
        verdict: verdict.opinion().unwrap_or(Opinion::Expected),
        note: options.note.clone(),
    }
    .entry(now_ms());
    if verdict.opinion().is_none() {
        entry.value = None;
    }
    journal.append(&entry).map_err(|error| anyhow!("feedback was not stored: {error}"))?;
    let mut out = std::io::stdout().lock();
    if options.json {
        writeln!(out, "{}", serde_json::to_string(&entry)?)?;
        return Ok(());
    }
    match found {
        Some(found) => writeln!(out, "{place}: {}", found.summary)?,
        None => writeln!(out, "{place}: no anomaly was published of this record")?,
    }
    writeln!(out, "stored; a running daemon takes it up within seconds, and the next round learns from it")?;
    Ok(())
}

/// The record that is meant, and the anomaly that was published of it.
fn look_up(config: &Config, record: &str) -> anyhow::Result<(Place, Option<Found>)> {
    let place = place_of(config, record)?;
    let mut anomalies =
        TopicHistory::new(&config.kafka, &Topics::one(&*config.output.anomalies), config.history.read_timeout)
            .map_err(|error| anyhow!("{error}"))?;
    let ranges = anomalies.extents(Bound::Head).map_err(|error| anyhow!("{error}"))?;
    let total: usize = ranges.iter().map(Range::len).sum();
    let bar = super::progress_bar(total as u64, "looking through the anomalies");
    let mut found: Option<Found> = None;
    let wanted = |value: &Found| place.as_ref().map_or(value.id == record, |place| value.source == *place);
    let read = Published::new(&app::schemas(config)).each(&mut anomalies, &ranges, &mut |value| {
        bar.inc(1);
        if wanted(&value) {
            found = Some(value);
        }
    });
    bar.finish_and_clear();
    read.map_err(|error| anyhow!("topic `{}`: {error}", config.output.anomalies))?;
    match (place, found) {
        (Some(place), found) => Ok((place, found)),
        (None, Some(found)) => Ok((found.source.clone(), Some(found))),
        (None, None) => bail!(
            "no anomaly with id `{record}` is in topic `{}` ({total} were looked through); name its record as \
             partition/offset instead",
            config.output.anomalies
        ),
    }
}

/// A record that was named by its place; none where it was named by an id.
fn place_of(config: &Config, record: &str) -> anyhow::Result<Option<Place>> {
    let mut parts = record.rsplitn(3, '/');
    let (offset, partition, topic) = (parts.next().unwrap_or_default(), parts.next(), parts.next());
    let Some(partition) = partition else { return Ok(None) };
    let topics = &config.input.topic;
    let place = Place {
        topic: topic
            .or(topics.only())
            .with_context(|| format!("`{record}`: say its topic, too; several are read"))?
            .to_owned(),
        partition: partition.parse().with_context(|| format!("`{record}`: `{partition}` is no partition"))?,
        offset: offset.parse().with_context(|| format!("`{record}`: `{offset}` is no offset"))?,
    };
    if !topics.matcher().map_err(|error| anyhow!(error))?(&place.topic) {
        bail!("`{record}` is not a record of topic `{topics}`, which is watched");
    }
    Ok(Some(place))
}

/// Prints what has been said, the last of each record.
fn list(options: &Options, journal: &mut dyn Journal) -> anyhow::Result<()> {
    let entries = journal.poll().map_err(|error| anyhow!("feedback can't be read: {error}"))?;
    let last: std::collections::BTreeMap<_, _> = entries.into_iter().map(|entry| (entry.key.clone(), entry)).collect();
    let said = last.into_values().filter(|entry| entry.value.is_some());
    let mut out = std::io::stdout().lock();
    if options.json {
        writeln!(out, "{}", serde_json::to_string(&said.collect::<Vec<_>>())?)?;
        return Ok(());
    }
    for entry in said {
        match Feedback::parse(&entry) {
            Ok(Some(feedback)) => {
                let verdict = serde_json::to_value(feedback.verdict)?;
                let (verdict, note) = (verdict.as_str().unwrap_or_default(), feedback.note.unwrap_or_default());
                writeln!(out, "{}  {verdict:<15} {}  {note}", crate::record::rfc3339(entry.time_ms), entry.key)?;
            }
            Ok(None) => {}
            Err(error) => writeln!(out, "{}  unusable: {error}", entry.key)?,
        }
    }
    Ok(())
}
