//! The model and what it makes of the newest records: is there one, is it old, does it alert as it should, is it heard.

use std::sync::Arc;

use super::sample::{Sample, span};
use super::sheet::Sheet;
use crate::alert::{Alert, Withheld};
use crate::cli::replay::Played;
use crate::config::Config;
use crate::history::{Bound, History, plan};
use crate::model::Model;
use crate::pipeline::Shared;
use crate::pipeline::replay::{Course, Era, replay};
use crate::registry::{Registry, Versions};
use crate::telemetry::now_ms;
use crate::threshold::Severity;

/// A model is old when the stream has gone on for so long since its training, milliseconds: as StraydModelStale.
const STALE_MS: i64 = 24 * 3_600_000;
/// So many times the target, and so many records at least, are too much: as StraydAlertRateJump.
const JUMP: (f64, u64) = (10.0, 10);
/// By the target alone so many records should alert before none is too few: as StraydAlertRateZero.
const DUE_MIN: f64 = 20.0;

/// How many of the newest records alert.
#[derive(Clone, Copy, Debug)]
pub struct Alerts {
    /// Flagged by the threshold.
    n_flagged: u64,
    /// What would be published of them.
    n_heard: u64,
}

/// The model that scores, or why it can't.
pub fn current(config: &Config) -> Result<Option<Model>, String> {
    let look = || {
        let registry = Versions::look(&config.registry, &config.kafka)?;
        registry.current()?.map(|version| registry.load(version)).transpose()
    };
    look().map_err(|error| error.to_string())
}

/// Whether there is history enough for a first model.
pub fn history(config: &Config, model: Option<&Model>, sample: &Sample, sheet: &mut Sheet) {
    let (n, rows_min) = (sample.n_kept(), config.history.rows_min);
    if model.is_some() || n >= rows_min {
        return sheet.pass("history", format!("{n} records are kept, {rows_min} are wanted for a first model"));
    }
    sheet.fail(
        "history",
        format!("{n} of {rows_min} records are there, and no model before they are"),
        "wait for them, keep more of the topic (retention.ms), or lower history.rows_min",
    );
}

/// Whether there is a model, and whether the stream has left it behind; `newest_ms` is the newest record's timestamp.
pub fn age(model: &Result<Option<Model>, String>, newest_ms: Option<i64>, sheet: &mut Sheet) {
    let model = match model {
        Ok(Some(model)) => model,
        Ok(None) => {
            let cure = "the daemon makes the first one from the topic's history; is registry.path the daemon's own, seen from here?";
            return sheet.fail("model", "there is none yet, and nothing is scored without", cure);
        }
        Err(reason) => {
            return sheet.fail(
                "model",
                reason,
                "strayd models list shows the versions, strayd models rollback takes another",
            );
        }
    };
    let trained = model.trained_at();
    let seen = format!("version {} of {trained}, {} features", model.version, model.schema.n_features());
    let gone_on = newest_ms.unwrap_or_else(now_ms).min(now_ms()) - model.trained_at_ms;
    if gone_on > STALE_MS {
        let cure = "is training.enabled, is a version pinned (strayd models list), are challengers rejected? runbook StraydModelStale";
        sheet.warn("model", format!("{seen}: the stream has gone on for {} since", span(gone_on)), cure);
    } else {
        sheet.pass("model", seen);
    }
}

/// Judges the newest `n` records again, and compares how many alert with the target.
pub fn alerts(
    shared: &Shared,
    model: &Model,
    history: &mut dyn History,
    n: usize,
    sheet: &mut Sheet,
) -> Option<Alerts> {
    let played = match judge(shared, model, history, n) {
        Ok(played) if played.n_scored > 0 => played,
        Ok(_) => {
            sheet.skip("alerts", "none of the newest records can be scored");
            return None;
        }
        Err(reason) => {
            sheet.fail("alerts", reason, super::cluster::READ_CURE);
            return None;
        }
    };
    let (n, target) = (played.n_scored, shared.target(model));
    let alerts = Alerts { n_flagged: played.n_flagged, n_heard: played.alerts.len() as u64 };
    let (share, due) = (alerts.n_flagged as f64 / n as f64, target * n as f64);
    let seen = format!(
        "{} of the newest {n} records are anomalous ({:.3} %, target {:.3} %)",
        alerts.n_flagged,
        100.0 * share,
        100.0 * target
    );
    if alerts.n_flagged > JUMP.1 && share > JUMP.0 * target {
        let cure = "something has happened at the source, or the model has been left behind: runbook StraydAlertRateJump; \
                    strayd replay --model shows what another version says";
        sheet.warn("alerts", seen, cure);
    } else if alerts.n_flagged == 0 && due >= DUE_MIN {
        sheet.warn("alerts", seen, "the threshold is out of reach: runbook StraydAlertRateZero, docs/TUNING.md");
    } else {
        sheet.pass("alerts", seen);
    }
    Some(alerts)
}

fn judge(shared: &Shared, model: &Model, history: &mut dyn History, n: usize) -> Result<Played, String> {
    let extents = history.extents(Bound::Head)?;
    let mut played = Played::default();
    let model = Arc::new(model.clone());
    for live in plan::latest(&extents, n).into_iter().filter(|live| !live.is_empty()) {
        let oldest =
            extents.iter().find(|extent| extent.partition == live.partition).map_or(live.start, |kept| kept.start);
        let eras = vec![Era { from: live.start, model: Arc::clone(&model) }];
        let course = Course { live, oldest, eras };
        replay(shared, history, &course, &mut |sent, _| played.take(sent, live.start, &Default::default()))?;
    }
    Ok(played)
}

/// Whether what is anomalous would be heard of: rules, maintenance and limits.
pub fn suppression(shared: &Shared, sample: &Sample, alerts: Option<Alerts>, sheet: &mut Sheet) {
    let rules = shared.live.rules();
    let withheld_by = |key: Option<&[u8]>, time_ms: i64| {
        let entity = key.map(String::from_utf8_lossy);
        // The gravest anomaly there is, of no feature in particular.
        let alert = Alert { entity: entity.as_deref(), time_ms, severity: Severity::Critical, features: &[] };
        rules.withhold(&alert).map(|ruling| match ruling.withheld {
            Withheld::Maintenance => format!("maintenance ({})", ruling.by),
            _ => format!("rule `{}`", ruling.by),
        })
    };
    let probes = sample.records.iter().map(|record| (record.key.as_deref(), record.time_ms));
    let probes: Vec<_> = probes.chain(sample.records.is_empty().then(|| (None, now_ms()))).collect();
    let mut by: Vec<String> = probes.iter().filter_map(|(key, time_ms)| withheld_by(*key, *time_ms)).collect();
    let n = by.len();
    by.sort();
    by.dedup();
    let by = by.join(", ");
    let cure =
        "strayd suppress list, `strayd suppress remove NAME`, [[suppress]] and [[maintenance]] of the configuration";
    if n == probes.len() {
        return sheet.fail(
            "suppression",
            format!("an anomaly of any of {n} newest records would be withheld, by {by}"),
            cure,
        );
    }
    if let Some(Alerts { n_flagged: n_flagged @ 1.., n_heard: 0 }) = alerts {
        let seen = format!("each of the {n_flagged} newest anomalies is withheld");
        return sheet.fail(
            "suppression",
            seen,
            format!("{cure}; [features] may leave a direction or a size unwatched"),
        );
    }
    if 2 * n > probes.len() {
        return sheet.warn(
            "suppression",
            format!("anomalies of {n} of {} newest records would be withheld, by {by}", probes.len()),
            cure,
        );
    }
    sheet.pass(
        "suppression",
        format!("anomalies of {} of {} newest records would be heard of", probes.len() - n, probes.len()),
    );
}
