//! The daemon of this configuration: how far its group has come, and what it says of itself when it answers here.

use std::time::Duration;

use serde_json::Value;

use super::sample::Sample;
use super::sheet::Sheet;
use crate::cli::healthcheck::{get, reachable};
use crate::config::Config;
use crate::history::Range;

/// So many records may wait: as StraydLagGrowing.
const LAG_MAX: i64 = 10_000;
/// How long an answer may take.
const TIMEOUT: Duration = Duration::from_secs(3);

/// Whether the group has come as far as the topic.
pub fn lag(config: &Config, sample: &Sample, settled: anyhow::Result<Vec<Range>>, sheet: &mut Sheet) {
    let group = &config.kafka.group;
    let settled = match settled {
        Ok(settled) => settled,
        Err(reason) => return sheet.skip("lag", format!("group `{group}`: {reason}")),
    };
    let end_of = |extent: &Range| {
        let found = settled.iter().find(|range| range.partition == extent.partition);
        found.map_or(extent.start, |range| range.end)
    };
    let behind = sample.extents.iter().map(|extent| ((extent.end - end_of(extent)).max(0), extent.partition));
    let (n, worst) =
        behind.fold((0, None), |(n, worst), (lag, partition)| (n + lag, worst.max(Some((lag, partition)))));
    let seen = format!("{n} records wait for group `{group}`");
    if n <= LAG_MAX {
        return sheet.pass("lag", seen);
    }
    let worst = worst.map_or_else(String::new, |(lag, partition)| format!(", {lag} of them in partition {partition}"));
    let nothing = settled.iter().all(Range::is_empty);
    let never = if nothing { "; it has settled nothing yet" } else { "" };
    sheet.warn(
        "lag",
        format!("{seen}{worst}{never}"),
        "is the daemon running, in this group? If it is: runbook StraydLagGrowing; more pipeline.lanes, then machines (docs/SIZING.md)",
    );
}

/// What the daemon says of itself.
pub fn look(config: &Config, sheet: &mut Sheet) {
    let address = reachable(config.admin.listen);
    let (status, body) = match get(address, "/readyz", TIMEOUT) {
        Ok(answer) => answer,
        Err(error) => {
            let cure = "start it (`strayd run`), or ask this on its own machine: elsewhere everything above holds all the same";
            return sheet.warn("daemon", format!("http://{address}/readyz doesn't answer: {error:#}"), cure);
        }
    };
    let Ok(ready) = serde_json::from_str::<Value>(&body) else {
        return sheet.warn(
            "daemon",
            format!("http://{address}/readyz answers {status}, and not as strayd does"),
            "see admin.listen",
        );
    };
    let lines = |key: &str| -> Vec<String> {
        let texts = ready[key].as_array().into_iter().flatten().filter_map(Value::as_str);
        texts.chain(ready["reason"].as_str().filter(|_| key == "waiting_for")).map(str::to_owned).collect()
    };
    let phase = ready["phase"].as_str().unwrap_or("unknown");
    if status != 200 {
        return sheet.fail(
            "daemon",
            format!("it is not ready ({phase}): {}", lines("waiting_for").join("; ")),
            "docs/OPERATING.md, Troubleshooting",
        );
    }
    let counted = get(address, "/metrics", TIMEOUT).map(|(_, page)| Counted::of(&page)).unwrap_or_default();
    let seen = format!("it is ready; {counted}");
    let notes = lines("notes");
    if !notes.is_empty() {
        sheet.warn("daemon", format!("{seen}; {}", notes.join("; ")), "/readyz shows these notes");
    } else if counted.reload_failed {
        sheet.warn("daemon", format!("{seen}; the last reload was refused"), "runbook StraydConfigReloadFailed");
    } else {
        sheet.pass("daemon", seen);
    }
}

/// What a daemon has counted since its start.
#[derive(Debug, Default)]
struct Counted {
    n_scored: f64,
    n_rejected: f64,
    n_anomalies: f64,
    n_withheld: f64,
    reload_failed: bool,
}

impl Counted {
    fn of(page: &str) -> Self {
        let samples = |name: &str| -> Vec<f64> {
            let of = |line: &str| {
                let rest = line.strip_prefix(name)?;
                rest.starts_with([' ', '{']).then(|| rest.rsplit(' ').next()?.parse().ok()).flatten()
            };
            page.lines().filter_map(of).collect()
        };
        let sum = |name: &str| samples(name).iter().sum();
        Self {
            n_scored: sum("strayd_records_scored_total"),
            n_rejected: sum("strayd_records_rejected_total"),
            n_anomalies: sum("strayd_anomalies_total"),
            n_withheld: sum("strayd_alerts_suppressed_total"),
            reload_failed: samples("strayd_config_last_reload_successful").contains(&0.0),
        }
    }
}

impl std::fmt::Display for Counted {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { n_scored, n_rejected, n_anomalies, n_withheld, .. } = self;
        write!(
            f,
            "since its start {n_scored} records scored, {n_rejected} rejected, {n_anomalies} anomalies published, {n_withheld} withheld"
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_are_read_from_the_page() {
        let page = "# TYPE strayd_records_scored_total counter\nstrayd_records_scored_total 7\nstrayd_records_scored_total_x 9\n\
                    strayd_anomalies_total{severity=\"low\"} 2\nstrayd_anomalies_total{severity=\"high\"} 1\n\
                    strayd_config_last_reload_successful 0\n";
        let counted = Counted::of(page);
        assert_eq!((counted.n_scored, counted.n_anomalies, counted.reload_failed), (7.0, 3.0, true));
        assert!(!Counted::of("strayd_config_last_reload_successful 1").reload_failed);
    }
}
