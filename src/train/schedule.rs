//! When the next online round is due, counted in records.
//!
//! MODEL 3.3: often while the stream is young, ever more rarely as the score settles, up to `retrain_records`. Counting
//! records and not time makes a replay take the same decisions. Time, drift and requests are the caller's.

use serde::{Deserialize, Serialize};

use super::config::Config;

/// Records between the first rounds.
const YOUNG: u64 = 256;
/// The interval is this part of all records seen.
const PART: u64 = 64;

/// Counts records between rounds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Schedule {
    records_seen: u64,
    since_round: u64,
    retrain_records: u64,
}

impl Schedule {
    /// Starts after a first model made of `records_seen` records.
    pub fn new(config: &Config, records_seen: u64) -> Self {
        Self { records_seen, since_round: 0, retrain_records: config.retrain_records }
    }

    /// Counts `n` records that were scored.
    pub fn record(&mut self, n: u64) {
        self.records_seen += n;
        self.since_round += n;
    }

    /// Records between two rounds at present.
    pub fn interval(&self) -> u64 {
        (self.records_seen / PART).clamp(YOUNG, self.retrain_records.max(YOUNG))
    }

    /// Records until the next round; 0 when it is due.
    pub fn until_due(&self) -> u64 {
        self.interval().saturating_sub(self.since_round)
    }

    /// Whether a round is due.
    pub fn is_due(&self) -> bool {
        self.until_due() == 0
    }

    /// Starts counting anew after a round, whatever it ended with.
    pub fn done(&mut self) {
        self.since_round = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rounds_become_rarer_up_to_the_limit() {
        let mut schedule = Schedule::new(&Config::default(), 512);
        assert_eq!(schedule.until_due(), 256);
        schedule.record(256);
        assert!(schedule.is_due());
        schedule.done();
        assert!(!schedule.is_due());
        schedule.record(64_000);
        assert_eq!(schedule.interval(), 64_768 / 64);
        schedule.record(100_000_000);
        assert_eq!(schedule.interval(), 20_000);
    }
}
