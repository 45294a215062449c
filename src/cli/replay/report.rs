//! What `strayd replay` says: one JSON document, or a page for people.

use std::io::Write;

use serde::Serialize;

use super::difference::{Difference, line};
use super::outputs::Output;
use super::span::Named;
use crate::cli::shown::escaped;

/// Alerts that are printed where there is nothing to compare them with.
const LINES_MAX: usize = 20;

/// What has come out.
#[derive(Debug, Serialize)]
pub struct Report {
    /// What was replayed, a span a partition.
    pub spans: Vec<Named>,
    /// The versions that judged.
    pub models: Vec<u64>,
    /// The share of records that may alert.
    pub target_alert_rate: Option<f64>,
    /// Records scored.
    pub n_scored: u64,
    /// Alerts that would be published.
    pub n_alerts: usize,
    /// Flagged records that a rule withholds.
    pub n_withheld: u64,
    /// Alerts that the rate limit withholds.
    pub n_rate_limited: usize,
    /// Anomalies that were published.
    pub n_published: usize,
    /// Repetitions among them, which are not counted.
    pub n_repeated: u64,
    /// What the two have not in common.
    pub difference: Difference,
    /// Every alert that would be published, in the order of time.
    pub alerts: Vec<Output>,
    /// What keeps the replay from being exact.
    pub notes: Vec<String>,
}

impl Report {
    /// Prints it.
    ///
    /// Errors: the output can't be written.
    pub fn tell(&self, json: bool, out: &mut impl Write) -> anyhow::Result<()> {
        if json {
            writeln!(out, "{}", escaped(&serde_json::to_string_pretty(self)?))?;
        } else {
            self.print(out)?;
        }
        Ok(())
    }

    fn print(&self, out: &mut impl Write) -> std::io::Result<()> {
        for Named { topic, partition, start, end } in &self.spans {
            writeln!(out, "{topic}/{partition}: offsets {start} to {}", end - 1)?;
        }
        let models: Vec<String> = self.models.iter().map(u64::to_string).collect();
        let rate = 100.0 * self.n_alerts as f64 / self.n_scored.max(1) as f64;
        let target = self.target_alert_rate.map_or_else(String::new, |q| format!(", target {:.3} %", 100.0 * q));
        writeln!(out, "scored: {} records, by model {}", self.n_scored, models.join(", "))?;
        writeln!(out, "would be published: {} anomalies ({rate:.3} % of the records{target})", self.n_alerts)?;
        if self.n_withheld > 0 || self.n_rate_limited > 0 {
            let (rules, limit) = (self.n_withheld, self.n_rate_limited);
            writeln!(out, "withheld: {rules} by rules, {limit} by output.anomalies_per_minute")?;
        }
        writeln!(out, "was published: {} anomalies\n", self.n_published)?;
        self.difference.print(out)?;
        if self.difference.n_same > 0 && self.difference.is_none() {
            writeln!(out)?;
            self.alerts.iter().take(LINES_MAX).try_for_each(|alert| writeln!(out, "{}", line(' ', alert, None)))?;
            if let n @ 1.. = self.alerts.len().saturating_sub(LINES_MAX) {
                writeln!(out, "    … and {n} more; --json has them all")?;
            }
        }
        self.notes.iter().try_for_each(|note| writeln!(out, "\nnote: {note}"))
    }
}
