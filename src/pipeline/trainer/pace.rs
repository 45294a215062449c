//! How gently a round runs beside the lanes: its share of one core, and when it gives way altogether.
//!
//! MODEL 3.4. After every stretch of steps that took t it sleeps t·(1 − c)/c; once the 99th percentile of the scoring
//! time since the round began exceeds the limit, the round is given up. It never touches a lane.

use std::ops::ControlFlow;
use std::time::{Duration, Instant};

use prometheus::Histogram;
use prometheus::core::Metric;

use super::Trainer;
use crate::shutdown::Shutdown;

/// Batches that must have been scored in a round before their times say anything.
const BATCHES_MIN: u64 = 100;

/// Longest stretch of steps that is rested for: one that took longer was held up, by a busy machine or a signal.
const STRETCH_MAX: Duration = Duration::from_secs(1);

/// The pace of one round.
pub(super) struct Pace {
    shutdown: Shutdown,
    cpu_share: f64,
    since: Instant,
    latency: Option<Latency>,
    aborted: Option<String>,
}

/// The scoring times since the round began, and their limit.
struct Latency {
    limit: Duration,
    times: Histogram,
    before: Vec<(f64, u64)>,
}

impl Trainer {
    /// The pace of a round that begins now.
    pub(super) fn pace(&self) -> Pace {
        let config = &self.settings.trainer;
        let latency = config.latency_max.map(|limit| {
            let times = self.shared.metrics.score_duration_seconds.clone();
            Latency { limit, before: buckets(&times), times }
        });
        let shutdown = self.shutdown.clone();
        Pace { shutdown, cpu_share: config.cpu_share, since: Instant::now(), latency, aborted: None }
    }
}

impl Pace {
    /// Called after some steps: sleeps for the lanes' share, and says whether the round goes on.
    pub(super) fn after_steps(&mut self) -> ControlFlow<()> {
        let rest = self.since.elapsed().min(STRETCH_MAX).mul_f64((1.0 - self.cpu_share) / self.cpu_share);
        let begun = if rest.is_zero() { self.shutdown.begun() } else { self.shutdown.sleep(rest) };
        self.since = Instant::now();
        if let Some(p99) = self.latency.as_ref().and_then(Latency::exceeded) {
            let limit = self.latency.as_ref().map_or(Duration::ZERO, |latency| latency.limit);
            self.aborted = Some(format!(
                "the round was given up: scoring a batch takes up to {p99} s, training.latency_max is {}",
                humantime::format_duration(limit)
            ));
            return ControlFlow::Break(());
        }
        if begun { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    }

    /// Why the round was given up for the lanes' sake, if it was.
    pub(super) fn aborted(self) -> Option<String> {
        self.aborted
    }
}

impl Latency {
    /// The 99th percentile of the times since the beginning, where it is above the limit.
    fn exceeded(&self) -> Option<f64> {
        let now = buckets(&self.times);
        let since: Vec<(f64, u64)> =
            now.iter().zip(&self.before).map(|(now, before)| (now.0, now.1 - before.1)).collect();
        percentile_99(&since).filter(|p99| *p99 > self.limit.as_secs_f64())
    }
}

/// Upper bound and cumulative count of each bucket; the last bound is infinite.
fn buckets(times: &Histogram) -> Vec<(f64, u64)> {
    let metric = times.metric();
    let histogram = metric.get_histogram();
    let finite = histogram.get_bucket().iter().map(|bucket| (bucket.upper_bound(), bucket.cumulative_count()));
    finite.chain([(f64::INFINITY, histogram.get_sample_count())]).collect()
}

/// The lower bound of the bucket that holds the 99th percentile, so that what is given is surely exceeded; `None` of too
/// few times.
fn percentile_99(buckets: &[(f64, u64)]) -> Option<f64> {
    let n = buckets.last()?.1;
    let at = buckets.iter().position(|(_, count)| *count as f64 >= 0.99 * n as f64)?;
    (n >= BATCHES_MIN).then(|| at.checked_sub(1).map_or(0.0, |below| buckets[below].0))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pace(cpu_share: f64, latency: Option<Latency>) -> Pace {
        Pace { shutdown: Shutdown::default(), cpu_share, since: Instant::now(), latency, aborted: None }
    }

    #[test]
    fn a_percentile_is_the_lower_bound_of_its_bucket() {
        assert_eq!(percentile_99(&[(0.01, 98), (0.1, 99), (1.0, 100), (f64::INFINITY, 100)]), Some(0.01));
        assert_eq!(percentile_99(&[(0.01, 98), (0.1, 98), (1.0, 100), (f64::INFINITY, 100)]), Some(0.1));
        assert_eq!(percentile_99(&[(0.01, 100), (f64::INFINITY, 100)]), Some(0.0));
        assert_eq!(percentile_99(&[(0.01, 5), (f64::INFINITY, 5)]), None);
    }

    #[test]
    fn a_round_that_slows_scoring_is_given_up_and_says_so() {
        let times = Histogram::with_opts(prometheus::HistogramOpts::new("t", "t").buckets(vec![0.01, 0.1])).unwrap();
        (0..1000).for_each(|_| times.observe(5.0));
        let limit = Duration::from_millis(50);
        let latency = || Latency { limit, before: buckets(&times), times: times.clone() };
        let (mut early, latency_late) = (pace(1.0, Some(latency())), latency());
        assert!(early.after_steps().is_continue(), "what was before the round is not its fault");
        (0..1000).for_each(|_| times.observe(5.0));
        let mut late = pace(1.0, Some(latency_late));
        assert!(late.after_steps().is_break());
        assert!(late.aborted().is_some_and(|reason| reason.contains("50ms")));
    }

    #[test]
    fn half_a_core_sleeps_as_long_as_it_works() {
        let mut pace = pace(0.5, None);
        pace.since = Instant::now().checked_sub(Duration::from_millis(40)).unwrap();
        let began = Instant::now();
        assert!(pace.after_steps().is_continue());
        assert!(began.elapsed() >= Duration::from_millis(40));
    }
}
