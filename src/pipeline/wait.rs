//! A lane's wait for its output: it shows that the lane lives, counts the time, and says so once it is long.
//!
//! Room comes when deliveries are acknowledged or expire, and either ends the wait, so that it needs no deadline of its own.

use std::time::{Duration, Instant};

use super::Shared;
use crate::telemetry::now_ms;

/// A wait that is worth telling of: a broker that is busy answers sooner.
const LONG: Duration = Duration::from_secs(5);

/// One wait of a lane for its output.
pub struct Wait<'a> {
    shared: &'a Shared,
    lane: usize,
    began: Instant,
    counted: Instant,
    is_long: bool,
}

impl<'a> Wait<'a> {
    /// A wait of lane `lane` that begins now.
    pub fn new(shared: &'a Shared, lane: usize) -> Self {
        let now = Instant::now();
        Self { shared, lane, began: now, counted: now, is_long: false }
    }

    /// Notes that the lane still waits.
    pub fn goes_on(&mut self) {
        let now = Instant::now();
        self.count(now);
        let health = self.shared.health.lane(self.lane);
        health.progress(now_ms());
        if !self.is_long && now.duration_since(self.began) >= LONG {
            self.is_long = true;
            let trouble = "what it has written is not acknowledged; it goes on by itself once it is";
            health.set_trouble(Some(trouble.to_owned()));
            tracing::warn!(lane = self.lane, "the output is not acknowledged; reading waits, and goes on by itself");
        }
    }

    fn count(&mut self, now: Instant) {
        self.shared.metrics.output_wait_seconds_total.inc_by(now.duration_since(self.counted).as_secs_f64());
        self.counted = now;
    }
}

impl Drop for Wait<'_> {
    fn drop(&mut self) {
        let now = Instant::now();
        self.count(now);
        if self.is_long {
            self.shared.health.lane(self.lane).set_trouble(None);
            let seconds = format!("{:.1}", now.duration_since(self.began).as_secs_f64());
            tracing::info!(lane = self.lane, seconds, "the wait for the output is over");
        }
    }
}
