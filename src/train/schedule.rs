//! When the next online round is due, and why.
//!
//! MODEL 3.3: often while the stream is young, ever more rarely as the score settles, up to `retrain_records`. Counting
//! records and not time makes a replay take the same decisions. What needs a clock, drift and requests are the caller's:
//! it brings them as [`Signs`].

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::config::Config;
use super::drift::Class;

/// Records between the first rounds.
const YOUNG: u64 = 256;
/// The interval is this part of all records seen.
const PART: u64 = 64;

/// Why a round is run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reason {
    /// Enough records have been scored.
    Records,
    /// Enough time has passed.
    Time,
    /// The stream has drifted.
    Drift,
    /// A threshold has seen its scores shift for good.
    Shift,
    /// Somebody asked for it.
    Request,
}

impl Reason {
    /// Its name in lineages and logs.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Records => "records",
            Self::Time => "time",
            Self::Drift => "drift",
            Self::Shift => "shift",
            Self::Request => "request",
        }
    }
}

/// A round that is due.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Trigger {
    /// Why it is run.
    pub reason: Reason,
    /// What has become of the stream, as far as is known.
    pub class: Class,
}

/// What speaks for a round beside the number of records.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Signs {
    /// Time since the last round.
    pub since_round: Duration,
    /// Time since the last round for drift or shift, if there was one.
    pub since_drift: Option<Duration>,
    /// What the monitor of drift has found since the last round.
    pub drift: Class,
    /// Whether a threshold has seen a shift since the last round.
    pub shifted: bool,
    /// Whether somebody asked for a round.
    pub requested: bool,
}

/// How far apart rounds must and may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Longest time between two rounds while records flow.
    pub interval: Duration,
    /// Shortest time between two rounds; a request does not wait for it.
    pub gap: Duration,
    /// Shortest time between two rounds for drift or shift: an attack must not be able to order one after another.
    pub drift_gap: Duration,
}

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

    /// The round that is due, if one is. A request comes first, then what needs another kind of round.
    pub fn due(&self, signs: &Signs, limits: &Limits) -> Option<Trigger> {
        let class = if signs.shifted { Class::Shift } else { signs.drift };
        let trigger = |reason| Some(Trigger { reason, class });
        if signs.requested {
            return trigger(Reason::Request);
        }
        if signs.since_round < limits.gap {
            return None;
        }
        let rested = signs.since_drift.is_none_or(|since| since >= limits.drift_gap);
        match () {
            () if rested && signs.shifted => trigger(Reason::Shift),
            () if rested && signs.drift != Class::None => trigger(Reason::Drift),
            () if self.is_due() => trigger(Reason::Records),
            () if signs.since_round >= limits.interval => trigger(Reason::Time),
            () => None,
        }
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

    const LIMITS: Limits = Limits {
        interval: Duration::from_secs(3600),
        gap: Duration::from_secs(10),
        drift_gap: Duration::from_secs(600),
    };

    fn signs(seconds: u64) -> Signs {
        Signs {
            since_round: Duration::from_secs(seconds),
            since_drift: None,
            drift: Class::None,
            shifted: false,
            requested: false,
        }
    }

    fn due(schedule: &Schedule, signs: Signs) -> Option<(&'static str, Class)> {
        schedule.due(&signs, &LIMITS).map(|trigger| (trigger.reason.as_str(), trigger.class))
    }

    #[test]
    fn each_sign_has_its_reason_and_its_class() {
        let mut schedule = Schedule::new(&Config::default(), 512);
        let none = Class::None;
        assert_eq!(due(&schedule, signs(3599)), None);
        assert_eq!(due(&schedule, signs(3600)), Some(("time", none)));
        let drift = Class::Schema;
        assert_eq!(due(&schedule, Signs { drift, ..signs(3600) }), Some(("drift", drift)));
        assert_eq!(due(&schedule, Signs { drift, shifted: true, ..signs(10) }), Some(("shift", Class::Shift)));
        schedule.record(256);
        assert_eq!(due(&schedule, signs(10)), Some(("records", none)));
    }

    #[test]
    fn only_a_request_ignores_the_gap() {
        let mut schedule = Schedule::new(&Config::default(), 512);
        schedule.record(256);
        let all = Signs { drift: Class::Gradual, shifted: true, ..signs(9) };
        assert_eq!(due(&schedule, all), None);
        assert_eq!(due(&schedule, Signs { requested: true, ..all }), Some(("request", Class::Shift)));
        assert_eq!(due(&schedule, Signs { requested: true, ..signs(0) }), Some(("request", Class::None)));
    }

    #[test]
    fn rounds_for_drift_rest_in_between_and_others_go_on() {
        let mut schedule = Schedule::new(&Config::default(), 512);
        let drifting = Signs { drift: Class::Gradual, since_drift: Some(Duration::from_secs(599)), ..signs(60) };
        assert_eq!(due(&schedule, drifting), None);
        let rested = Signs { since_drift: Some(Duration::from_secs(600)), ..drifting };
        assert_eq!(due(&schedule, rested), Some(("drift", Class::Gradual)));
        schedule.record(256);
        assert_eq!(due(&schedule, drifting), Some(("records", Class::Gradual)));
    }
}
