//! How many anomalies are published at once: a token bucket in event time.
//!
//! Event time makes a replay say what the first run said, however fast it runs.

/// Late records move no clock; one that is late by more than this shows that the clock had been wrong, milliseconds.
const LATE_MS_MAX: i64 = 3_600_000;

/// A token bucket: a minute's worth of anomalies at once, refilled as event time passes.
#[derive(Clone, Debug)]
pub struct Limit {
    per_minute: f64,
    tokens: f64,
    newest_ms: Option<i64>,
}

impl Limit {
    /// A limit of `per_minute` anomalies a minute, shared evenly by `n_lanes` lanes; 0 never withholds anything.
    pub fn new(per_minute: u32, n_lanes: usize) -> Self {
        let per_minute = f64::from(per_minute) / n_lanes.max(1) as f64;
        Self { per_minute, tokens: per_minute.max(1.0), newest_ms: None }
    }

    /// Whether one more anomaly may be published at event time `time_ms`.
    pub fn admits(&mut self, time_ms: i64) -> bool {
        if self.per_minute == 0.0 {
            return true;
        }
        let newest_ms = *self.newest_ms.get_or_insert(time_ms);
        let elapsed_ms = time_ms.saturating_sub(newest_ms);
        if !(-LATE_MS_MAX..=0).contains(&elapsed_ms) {
            let refill = self.per_minute * elapsed_ms.max(0) as f64 / 60_000.0;
            self.tokens = (self.tokens + refill).min(self.per_minute.max(1.0));
            self.newest_ms = Some(time_ms);
        }
        let admits = self.tokens >= 1.0;
        if admits {
            self.tokens -= 1.0;
        }
        admits
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_minutes_worth_passes_at_once_and_then_as_time_does() {
        let mut limit = Limit::new(6, 1);
        let passed = |limit: &mut Limit, time_ms| (0..20).filter(|_| limit.admits(time_ms)).count();
        assert_eq!(passed(&mut limit, 1_000), 6);
        assert_eq!(passed(&mut limit, 10_999), 0, "ten seconds make one of six a minute");
        assert_eq!(passed(&mut limit, 11_000), 1);
        assert_eq!(passed(&mut limit, 5_000), 0, "a late record brings nothing");
        assert_eq!(passed(&mut limit, 600_000), 6, "never more than a minute's worth");
    }

    #[test]
    fn lanes_share_it_and_none_is_no_limit() {
        let mut limit = Limit::new(6, 3);
        assert_eq!((0..20).filter(|_| limit.admits(0)).count(), 2);
        let mut slow = Limit::new(1, 4);
        assert!(slow.admits(0), "one may pass at first, however small the share");
        assert!(!slow.admits(239_999) && slow.admits(240_000));
        let mut none = Limit::new(0, 1);
        assert!((0..10_000).all(|_| none.admits(0)));
    }

    #[test]
    fn a_time_far_ahead_does_not_silence_for_ever() {
        let mut limit = Limit::new(1, 1);
        assert!(limit.admits(i64::MAX / 2));
        assert!(!limit.admits(0), "the clock goes back, the bucket is empty");
        assert!(limit.admits(60_000));
    }
}
