//! `strayd explain --record`: which model scored a record, and why it was or wasn't published.
//!
//! What really happened stands in the output topics, by the record's time and place; they are asked first. The rest is
//! the view of a model now, with its threshold rewound to the record.

use std::sync::Arc;

use anyhow::{Context, anyhow, bail};
use serde_json::{Value, json};

use super::Options;
use crate::app;
use crate::config::Config;
use crate::history::{Bound, History, TopicHistory};
use crate::model::Model;
use crate::pipeline::Shared;
use crate::pipeline::decoding::Published;
use crate::pipeline::hindsight::{Hindsight, Outcome, look_back};
use crate::pipeline::lane;
use crate::pipeline::publish::Publisher;
use crate::record::{RecordId, Topics};
use crate::registry::{Registry, Versions, load_labelled};
use crate::sink::anomaly::{Score, id_of};
use crate::sink::{Channel, MemorySink, Sink};
use crate::telemetry::Metrics;
use crate::telemetry::health::Health;

/// Records of an output topic's partition, from the record's time on, among which its output is looked for.
const OUTPUTS_MAX: usize = 10_000;

/// A record's anomaly record, where it can be scored, and what is to be said of it.
pub fn explain(options: &Options, record: &str) -> anyhow::Result<Value> {
    let (topic, number, offset) = place(record)?;
    let config = config_for(options, topic)?;
    let id = RecordId { partition: config.input.topic.partition(topic, number), offset };
    let open = |topics: &Topics| TopicHistory::new(&config.kafka, topics, config.history.read_timeout);
    let mut history = open(&config.input.topic).map_err(|reason| anyhow!("{record}: {reason}"))?;
    let shared = app::shared(&config, Arc::new(Metrics::new()), Health::new(1));
    let registry = Versions::look(&config.registry, &config.kafka)?;
    let chosen = chosen(options, &registry)?;
    let mut look = |model: &Model, rewind| {
        let seen =
            look_back(&shared, model, &mut history, id, rewind).map_err(|reason| anyhow!("{record}: {reason}"))?;
        seen.with_context(|| format!("{record}: there is no such record; retention may have removed it"))
    };
    let time_ms = look(&chosen, 0)?.time_ms;
    let outputs =
        |output: &str| output_of(open(&Topics::one(output))?, Published::new(&shared.schemas), (topic, id), time_ms);
    let outputs = |topic: &String| outputs(topic).map_err(|reason| anyhow!("topic `{topic}`: {reason}"));
    let scored = config.output.scores.as_ref().map(outputs).transpose()?.flatten();
    let anomaly = outputs(&config.output.anomalies)?;
    let told = scored.as_ref().or(anomaly.as_ref());
    let then = told.and_then(|output| output["model"]["version"].as_u64());
    let is_free = options.model.is_none() && options.version.is_none();
    let model = match then.filter(|version| is_free && *version != chosen.version) {
        Some(version) => registry.load(version).unwrap_or(chosen),
        None => chosen,
    };
    let rewind = usize::try_from(config.threshold.rewind()).unwrap_or(usize::MAX);
    let seen = look(&model, rewind)?;
    let published = anomaly.as_ref().map(|anomaly| anomaly["id"].clone());
    let says = Says { config: &config, topic, id, seen: &seen, told, scored: scored.is_some(), published };
    let mut document = record_of(&shared, &model, &seen)?.unwrap_or_else(
        || json!({ "source": { "topic": topic, "partition": id.partition.number, "offset": id.offset } }),
    );
    let (outcome, text) = says.outcome();
    document["outcome"] = json!({
        "kind": outcome,
        "text": text,
        "model": { "version": model.version, "hash": model.short_hash() },
        "scored_by": then,
        "view": says.view(model.version, then),
        "records_rewound": seen.n_rewound,
    });
    Ok(document)
}

/// The configuration, which need not watch the record's topic.
fn config_for(options: &Options, topic: &str) -> anyhow::Result<Config> {
    if let Ok(config) = options.config.load()
        && config.input.topic.matcher().is_ok_and(|is_read| is_read(topic))
    {
        return Ok(config);
    }
    let mut overridden = options.config.clone();
    overridden.overrides.push(("input.topic".into(), topic.into()));
    Ok(overridden.load()?)
}

/// Topic, partition and offset.
fn place(record: &str) -> anyhow::Result<(&str, i32, i64)> {
    let parts: Vec<&str> = record.rsplitn(3, '/').collect();
    let [offset, partition, topic] = parts[..] else {
        bail!("--record {record}: expected TOPIC/PARTITION/OFFSET");
    };
    let partition = partition.parse().with_context(|| format!("--record {record}: partition `{partition}`"))?;
    let offset = offset.parse().with_context(|| format!("--record {record}: offset `{offset}`"))?;
    Ok((topic, partition, offset))
}

/// The model that was asked for, else the one that scores now.
fn chosen(options: &Options, registry: &Versions) -> anyhow::Result<Model> {
    if let Some(directory) = &options.model {
        return Ok(load_labelled(directory)?);
    }
    let version = match options.version {
        Some(version) => version,
        None => registry.current()?.context("there is no model yet; name one by --model")?,
    };
    Ok(registry.load(version)?)
}

/// What an output topic holds of a record of `source`.
fn output_of(
    mut outputs: TopicHistory,
    mut published: Published,
    (topic, id): (&str, RecordId),
    time_ms: i64,
) -> Result<Option<Value>, String> {
    let ends = outputs.extents(Bound::Head)?;
    let mut ranges = outputs.since(time_ms, &ends)?;
    ranges.iter_mut().for_each(|range| range.end = range.end.min(range.start + OUTPUTS_MAX as i64));
    let mut found = None;
    published.each(&mut outputs, &ranges, &mut |value: Value| {
        let source = &value["source"];
        if source["topic"] == topic && source["partition"] == id.partition.number && source["offset"] == id.offset {
            found = Some(value);
        }
    })?;
    Ok(found)
}

/// The anomaly record as the daemon would publish it; `None` where the record can't be scored.
fn record_of(shared: &Shared, model: &Model, seen: &Hindsight) -> anyhow::Result<Option<Value>> {
    let Some((_, verdict)) = seen.judged else { return Ok(None) };
    let sink = Arc::new(MemorySink::default());
    let publisher = Publisher::new(shared, 0, Arc::clone(&sink) as Arc<dyn Sink>);
    lane::explain(shared, model, &seen.batch, Some(verdict), &publisher)?;
    let sent = sink.take().into_iter().find(|sent| sent.channel == Channel::Anomalies);
    Ok(sent.map(|sent| serde_json::from_slice(&sent.value)).transpose()?)
}

/// What is known of a record.
struct Says<'a> {
    config: &'a Config,
    topic: &'a str,
    id: RecordId,
    seen: &'a Hindsight,
    /// What an output topic holds of it.
    told: Option<&'a Value>,
    /// Whether that is its score.
    scored: bool,
    /// Id of its anomaly, where the topic holds it.
    published: Option<Value>,
}

impl Says<'_> {
    /// Why it was or wasn't published: a word and a sentence.
    fn outcome(&self) -> (&'static str, String) {
        if let Some(id) = &self.published {
            return ("published", format!("published as anomaly {}", id.as_str().unwrap_or_default()));
        }
        match (&self.seen.outcome, &self.seen.judged) {
            (Outcome::Tombstone, _) => ("tombstone", "not scored: it has no payload".into()),
            (Outcome::Rejected(reason), _) => {
                let topic = &self.config.output.dead_letters;
                ("rejected", format!("not scored: {reason}; it goes to the dead letters in `{topic}`"))
            }
            (Outcome::Insufficient, _) | (Outcome::Scored, None) => {
                ("insufficient", "not scored: fewer than half of its features are observed".into())
            }
            (Outcome::Scored, Some((score, _))) => self.of_score(score),
        }
    }

    fn of_score(&self, score: &Score) -> (&'static str, String) {
        let then = self.told.filter(|_| self.scored).map(|told| &told["score"]);
        let number = |field: &str, now: f64| then.and_then(|then| then[field].as_f64()).unwrap_or(now);
        let (ratio, raw) = (number("ratio", score.ratio), number("raw", score.raw));
        let (threshold, p) = (number("threshold", score.threshold), number("p_value", score.p_value));
        let numbers = format!("score {raw:.4}, threshold {threshold:.4}, p = {p:.2e}");
        if ratio <= 1.0 {
            let short = threshold - raw;
            return (
                "below_threshold",
                format!("not published: below the threshold by {short:.4}, at {ratio:.2} of it ({numbers})"),
            );
        }
        let topic = &self.config.output.anomalies;
        if then.is_some() {
            return (
                "withheld",
                format!(
                    "flagged and not in `{topic}`: withheld by a rule (`strayd suppress list`, `suppress`, `maintenance` and `features` of the \
                     configuration) or a limit, or removed by retention ({numbers})"
                ),
            );
        }
        let id = id_of(self.topic, self.id, &self.config.detector.name);
        ("anomalous", format!("this model finds it anomalous, as {id}; `{topic}` does not hold it ({numbers})"))
    }

    /// Whose view this is.
    fn view(&self, version: u64, then: Option<u64>) -> String {
        match then {
            Some(then) if then == version => format!("version {version} scored it"),
            Some(then) => format!("version {then} scored it; the figures below are those of version {version}"),
            None if self.config.output.scores.is_some() => {
                format!("the view of version {version}: `output.scores` holds nothing of it")
            }
            None => format!("the view of version {version}: without output.scores, which one scored it isn't kept"),
        }
    }
}
