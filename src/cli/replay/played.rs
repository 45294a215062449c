//! What comes out of a replay: scores are counted, alerts kept.

use std::collections::BTreeMap;

use super::outputs::{Output, Outputs};
use crate::alert::Limit;
use crate::sink::{Channel, Sent};

/// What has come out so far.
#[derive(Debug, Default)]
pub struct Played {
    /// Records scored.
    pub n_scored: u64,
    /// Records above the threshold, withheld or not.
    pub n_flagged: u64,
    /// What would be published.
    pub alerts: Vec<Output>,
    /// Score over threshold of the records of which an anomaly was published, by its id.
    pub ratios: BTreeMap<String, f64>,
}

impl Played {
    /// Takes what a lane has sent of records from offset `from` on.
    pub fn take(&mut self, sent: Vec<Sent>, from: i64, published: &Outputs) {
        for Sent { channel, value, .. } in sent {
            if !matches!(channel, Channel::Scores | Channel::Anomalies) {
                continue;
            }
            let Some(output) = Output::parse(&value).filter(|output| output.source.offset >= from) else { continue };
            if channel == Channel::Anomalies {
                self.alerts.push(output);
                continue;
            }
            self.n_scored += 1;
            self.n_flagged += u64::from(output.score.ratio > 1.0);
            if published.anomalies.contains_key(&output.id) {
                self.ratios.insert(output.id, output.score.ratio);
            }
        }
    }

    /// Puts the alerts in the order of time, and takes out what the rate limit would have withheld. Returns how many.
    pub fn limit(&mut self, per_minute: u32) -> usize {
        self.alerts.sort_by(|a, b| (&a.event_time, &a.id).cmp(&(&b.event_time, &b.id)));
        let (mut limit, n_before) = (Limit::new(per_minute, 1), self.alerts.len());
        let time_ms =
            |alert: &Output| alert.event_time.parse::<jiff::Timestamp>().map_or(0, |time| time.as_millisecond());
        self.alerts.retain(|alert| limit.admits(time_ms(alert)));
        n_before - self.alerts.len()
    }
}
