//! `strayd replay`: judges a stretch of the features topic again, and says how that differs from what was published.
//!
//! It goes through the lane of `run` and writes into memory: it joins no group, commits nothing, and leaves topics and
//! registry as they are. The version that judged each record is taken from the output topics, unless one is named.

mod difference;
mod models;
mod moment;
mod outputs;
mod played;
mod report;
mod span;

use std::sync::Arc;

use anyhow::{anyhow, bail};
use clap::Args;

pub use self::outputs::Output;
pub use self::played::Played;

use self::difference::{Accounts, Difference};
use self::models::Models;
use self::moment::Moment;
use self::outputs::Outputs;
use self::report::Report;
use self::span::Span;
use super::{ConfigOptions, progress_bar};
use crate::app;
use crate::config::{Config, RawConfig};
use crate::history::TopicHistory;
use crate::journal::Order;
use crate::pipeline::Shared;
use crate::pipeline::replay::replay;
use crate::telemetry::Metrics;
use crate::telemetry::health::Health;

/// Options of `strayd replay`.
#[derive(Debug, Args)]
#[command(
    after_help = "A TIME is RFC 3339 (2026-03-01T06:00:00Z), so long ago (-2h, -3d), an offset (@1500), start or end.\n\n\
    With the configuration and the models that judged it gives the alerts that were published. What would another threshold \
    have said of yesterday?\n  strayd replay --config strayd.toml --from -24h --set threshold.target_alert_rate=0.0005\n\
    Would the new model have found it?\n  strayd replay --config strayd.toml --from -2h --model 7\n\n\
    docs/OPERATING.md says when a replay is exact."
)]
pub struct Options {
    /// First record
    #[arg(long, value_name = "TIME", allow_hyphen_values = true)]
    from: Moment,
    /// End; the record at this moment is left out [default: the newest record]
    #[arg(long, value_name = "TIME", allow_hyphen_values = true, default_value = "end", hide_default_value = true)]
    to: Moment,
    /// Judge from here on, and tell of what is after --from: exact, if the daemon began here [default: --from]
    #[arg(long, value_name = "TIME", allow_hyphen_values = true)]
    since: Option<Moment>,
    /// Version of the registry, or a model's directory [default: for each record the version that judged it, as far as
    /// the output topics tell, else the current one]
    #[arg(long, value_name = "V")]
    model: Option<String>,
    /// Prints one JSON document
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    config: ConfigOptions,
}

/// Replays.
pub fn run(options: &Options) -> anyhow::Result<()> {
    let config = options.config.load()?;
    let of_brokers = |reason: String| anyhow!("{}: {reason}", config.kafka.brokers);
    let open = TopicHistory::new(&config.kafka, &config.input.topic, config.history.read_timeout);
    let mut history = open.map_err(of_brokers)?;
    let spans = span::spans(options, &mut history).map_err(of_brokers)?;
    if spans.is_empty() {
        bail!("`{}` holds no record from --from to --to", config.input.topic);
    }
    let told: Vec<_> = spans.iter().map(Span::told).collect();
    let outputs = Outputs::read(&config, &told, options.from).map_err(of_brokers)?;
    let mut models = Models::new(options.model.as_deref(), &config)?;
    let shared = shared(&config)?;
    let mut notes = Vec::new();
    let mut played = Played::default();
    let bar = progress_bar(spans.iter().map(|span| span.live.len() as u64).sum(), "replaying");
    for span in &spans {
        let course = models.course(span, &outputs, &mut notes)?;
        let mut take = |sent, n| {
            played.take(sent, span.from, &outputs);
            bar.inc(n);
        };
        let kept = replay(&shared, &mut history, &course, &mut take);
        notes.extend(kept.map_err(|reason| anyhow!("partition {}: {reason}", span.live.partition))?);
    }
    bar.finish_and_clear();
    notes.extend(cautions(&config, options));
    let n_rate_limited = played.limit(config.output.anomalies_per_minute);
    let judged = spans.iter().map(|span| (span.live.partition, span.judged_until(&outputs))).collect();
    let replayed = std::mem::take(&mut played.alerts);
    let n_alerts = replayed.len();
    let topics = &config.input.topic;
    let accounts =
        Accounts { outputs: &outputs, replayed: replayed.clone(), ratios: &played.ratios, judged: &judged, topics };
    let report = Report {
        spans: spans.iter().map(|span| span.named(topics)).collect(),
        models: models.used(),
        target_alert_rate: models.target(&shared),
        n_scored: played.n_scored,
        n_alerts,
        n_withheld: played.n_flagged.saturating_sub((n_alerts + n_rate_limited) as u64),
        n_rate_limited,
        n_published: outputs.anomalies.len(),
        n_repeated: outputs.n_repeated,
        difference: Difference::of(accounts),
        alerts: replayed,
        notes,
    };
    report.tell(options.json, &mut std::io::stdout().lock())
}

/// What a lane needs, with every score told and nothing held back by the rate limit, which is looked at in the end.
///
/// Errors: the commands journal can't be read.
pub fn shared(config: &Config) -> anyhow::Result<Shared> {
    let mut raw: RawConfig = (**config).clone();
    raw.output.scores.get_or_insert_with(|| "scores".into());
    raw.output.score_latents = false;
    raw.output.incidents = None;
    raw.output.anomalies_per_minute = 0;
    let shared = app::shared(&Config::check(raw)?, Arc::new(Metrics::new()), Health::new(1));
    let entries = app::commands_journal(config)?.poll().map_err(|reason| anyhow!("the commands journal: {reason}"))?;
    for entry in entries {
        // What can't be read or is refused is passed over by the daemon, too.
        let _ = match Order::parse(&entry) {
            Ok(Some(Order::Suppress { rule })) => shared.live.order(&rule.name.clone(), Some(rule)),
            Ok(Some(Order::Unsuppress { name })) => shared.live.order(&name, None),
            Ok(_) | Err(_) => Ok(Vec::new()),
        };
    }
    Ok(shared)
}

/// Why verdicts may differ from those of the daemon although everything else is the same.
fn cautions(config: &Config, options: &Options) -> Vec<String> {
    let mut notes = Vec::new();
    let rewind = config.threshold.rewind();
    if rewind > 0 {
        let at = if options.since.is_some() { "--since" } else { "--from" };
        notes.push(format!(
            "the threshold ({}) has a state, restored from up to {rewind} records before {at} as after a restart there; where the \
             daemon ran on instead, a record close to the threshold may be judged otherwise",
            config.threshold.kind.as_str()
        ));
    }
    if config.output.anomalies_per_minute > 0 && config.pipeline.lanes > 1 {
        notes.push(
            "output.anomalies_per_minute is applied as by one lane; each lane of the daemon has its share".into(),
        );
    }
    notes
}
