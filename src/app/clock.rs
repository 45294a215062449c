//! Notices that the wall clock was set back.
//!
//! librdkafka's threads wait until times of the wall clock (its issue 2145, open since 2018). When the clock is set back
//! in the middle of a wait, that wait is longer by as much: connections that are lost don't come again, and nothing is
//! committed, for an hour if it was an hour. Nothing from outside wakes them, so the process ends, and the records come
//! again.

use std::time::{Duration, Instant, SystemTime};

/// A smaller step is waited for: it stalls for no longer than a broker that starts again, and well within a session.
const STEP_MAX: Duration = Duration::from_secs(5);

/// The wall clock as it stood at the last look, beside the clock that nobody sets.
pub struct WallClock {
    wall: SystemTime,
    monotonic: Instant,
}

impl WallClock {
    /// Looks for the first time.
    pub fn new() -> Self {
        Self { wall: SystemTime::now(), monotonic: Instant::now() }
    }

    /// By how much the clock was set back since the last look, if that is too much to wait for.
    pub fn set_back(&mut self) -> Option<Duration> {
        self.look(SystemTime::now(), Instant::now())
    }

    fn look(&mut self, wall: SystemTime, monotonic: Instant) -> Option<Duration> {
        let expected = self.wall + monotonic.saturating_duration_since(self.monotonic);
        *self = Self { wall, monotonic };
        expected.duration_since(wall).ok().filter(|step| *step > STEP_MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_large_step_back_is_told_and_only_once() {
        const HOUR: Duration = Duration::from_secs(3600);
        let mut clock = WallClock::new();
        let (mut wall, mut monotonic) = (clock.wall, clock.monotonic);
        let mut look = |pass: Duration, set: &dyn Fn(SystemTime) -> SystemTime| {
            (wall, monotonic) = (set(wall + pass), monotonic + pass);
            clock.look(wall, monotonic)
        };
        let tick = Duration::from_millis(100);
        assert_eq!(look(tick, &|wall| wall), None);
        assert_eq!(look(HOUR, &|wall| wall), None, "a process that stood still");
        assert_eq!(look(tick, &|wall| wall + HOUR), None, "forth");
        assert_eq!(look(tick, &|wall| wall - STEP_MAX), None, "a little back");
        assert_eq!(look(tick, &|wall| wall - HOUR), Some(HOUR));
        assert_eq!(look(tick, &|wall| wall), None, "once");
    }
}
