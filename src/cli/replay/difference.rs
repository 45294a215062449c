//! What a replay says and the daemon did not, and the other way round.

use std::collections::BTreeMap;
use std::io::Write;

use serde::Serialize;

use super::outputs::{Output, Outputs};
use crate::cli::shown::clean;
use crate::record::{Partition, Topics};

/// Two scores are the same up to here: the size of a batch decides the order of a sum, and so the last bits.
const RELATIVE_TOLERANCE: f64 = 1e-5;
/// Lines of each list that are printed.
const LINES_MAX: usize = 20;

/// An anomaly that was published and does not come out.
#[derive(Debug, Serialize)]
pub struct Missing {
    /// As it was published.
    pub published: Output,
    /// Score over threshold in the replay; none where it was not scored.
    pub ratio: Option<f64>,
    /// What has become of it in the replay.
    pub why: &'static str,
}

/// An anomaly with two scores.
#[derive(Debug, Serialize)]
pub struct Moved {
    /// As it was published.
    pub published: Output,
    /// As it comes out.
    pub replayed: Output,
}

/// What two accounts of a span have not in common.
#[derive(Debug, Default, Serialize)]
pub struct Difference {
    /// Anomalies that both have, with the same score.
    pub n_same: usize,
    /// Anomalies that both have, with another score.
    pub moved: Vec<Moved>,
    /// Anomalies of the replay that were not published.
    pub only_replayed: Vec<Output>,
    /// Anomalies that were published and don't come out.
    pub only_published: Vec<Missing>,
    /// Anomalies of the replay in records that the daemon had not judged yet.
    pub not_yet_judged: Vec<Output>,
}

/// The two accounts.
pub struct Accounts<'a> {
    /// What was published.
    pub outputs: &'a Outputs,
    /// Anomalies of the replay.
    pub replayed: Vec<Output>,
    /// Score over threshold in the replay of records that were published.
    pub ratios: &'a BTreeMap<String, f64>,
    /// Where the daemon has come to in each partition: the first offset that it had not judged.
    pub judged: &'a BTreeMap<Partition, i64>,
    /// The features topics.
    pub topics: &'a Topics,
}

impl Difference {
    /// Compares.
    pub fn of(accounts: Accounts<'_>) -> Self {
        let Accounts { outputs, replayed, ratios, judged, topics } = accounts;
        let mut difference = Self::default();
        let mut published = outputs.anomalies.clone();
        for alert in replayed {
            let record = alert.record(topics);
            match published.remove(&alert.id) {
                Some(then) if is_near(then.score.raw, alert.score.raw) => difference.n_same += 1,
                Some(then) => difference.moved.push(Moved { published: then, replayed: alert }),
                None if judged.get(&record.partition).is_some_and(|&until| record.offset < until) => {
                    difference.only_replayed.push(alert);
                }
                None => difference.not_yet_judged.push(alert),
            }
        }
        let missing = |published: Output| {
            let ratio = ratios.get(&published.id).copied();
            let why = match ratio {
                None => "not scored",
                Some(ratio) if ratio > 1.0 => "withheld by a rule or the rate limit",
                Some(_) => "below the threshold",
            };
            Missing { published, ratio, why }
        };
        difference.only_published = published.into_values().map(missing).collect();
        difference.only_published.sort_by(|a, b| a.published.event_time.cmp(&b.published.event_time));
        difference
    }

    /// Whether both say the same of what the daemon has judged.
    pub fn is_none(&self) -> bool {
        self.moved.is_empty() && self.only_replayed.is_empty() && self.only_published.is_empty()
    }

    /// Prints it for people.
    ///
    /// Errors: the output can't be written.
    pub fn print(&self, out: &mut impl Write) -> std::io::Result<()> {
        let n_same = self.n_same;
        if self.is_none() {
            match n_same {
                0 => writeln!(out, "the same: nothing was published, and nothing comes out")?,
                1 => writeln!(out, "the same: the one published anomaly comes out, with the same score")?,
                n => writeln!(out, "the same: all {n} published anomalies come out, with the same scores")?,
            }
        } else {
            writeln!(out, "{n_same} published anomalies come out with the same score")?;
        }
        list(out, "would be published, and was not", &self.only_replayed, |alert| line('+', alert, None))?;
        list(out, "was published, and would not be", &self.only_published, |missing| {
            let now = missing.ratio.map_or_else(String::new, |ratio| format!(", at {ratio:.2} of it"));
            line('-', &missing.published, Some(&format!("now {}{now}", missing.why)))
        })?;
        list(out, "with another score", &self.moved, |moved| {
            let was = format!(
                "was {:.2} of the threshold, by version {}",
                moved.published.score.ratio, moved.published.model.version
            );
            line('~', &moved.replayed, Some(&was))
        })?;
        list(out, "in records that the daemon had not judged yet", &self.not_yet_judged, |alert| line(' ', alert, None))
    }
}

/// Whether two scores are the same.
fn is_near(a: f64, b: f64) -> bool {
    a == b || (a - b).abs() <= RELATIVE_TOLERANCE * a.abs().max(b.abs())
}

fn list<T>(out: &mut impl Write, title: &str, all: &[T], line: impl Fn(&T) -> String) -> std::io::Result<()> {
    if all.is_empty() {
        return Ok(());
    }
    writeln!(out, "\n{title} ({}):", all.len())?;
    for one in all.iter().take(LINES_MAX) {
        writeln!(out, "{}", line(one))?;
    }
    match all.len().saturating_sub(LINES_MAX) {
        0 => Ok(()),
        n => writeln!(out, "  … and {n} more; --json has them all"),
    }
}

/// One anomaly in a line; `beside` stands in place of its summary.
pub fn line(mark: char, alert: &Output, beside: Option<&str>) -> String {
    let place = alert.place();
    let Output { event_time, entity, score, summary, .. } = alert;
    let entity = entity.as_deref().unwrap_or("-");
    let severity = score.severity.as_deref().unwrap_or("-");
    let beside = beside.unwrap_or(summary);
    clean(&format!("  {mark} {place:<24} {event_time}  {entity:<12} {:>7.2} {severity:<8} {beside}", score.ratio))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_record_says_moves_no_terminal() {
        let alert = serde_json::json!({
            "id": "0", "source": {"topic": "t", "partition": 0, "offset": 7}, "entity": "\u{1b}[2Jkey", "event_time": "",
            "score": {"ratio": 2.0, "raw": 1.0, "threshold": 0.5}, "model": {"version": 1}, "summary": "\u{9b}0c",
        });
        let alert = Output::parse(alert.to_string().as_bytes()).expect("an output");
        let line = line('+', &alert, None);
        assert!(line.contains("␛[2Jkey") && line.ends_with("\u{fffd}0c"), "{line}");
    }
}
