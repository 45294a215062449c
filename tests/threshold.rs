//! The default threshold on the scenarios of MODEL 4.1: the rate it holds, and what it finds.

use strayd::cli::threshold::replay::{Outcome, judge, measure};
use strayd::cli::threshold::scenarios::{N_WARMUP, Scenario};
use strayd::threshold::{Config, Kind};

const Q: f64 = 1e-3;
const SEEDS: u64 = 3;

fn outcomes(kind: Kind, scenario: Scenario) -> Vec<Outcome> {
    let of = |seed| {
        let stream = scenario.stream(seed);
        let (_, verdicts) = judge(&Config::of(kind, Q), &stream.log_scores, N_WARMUP);
        measure(&verdicts, &stream.truth[N_WARMUP..], Q)
    };
    (0..SEEDS).map(of).collect()
}

fn mean(outcomes: &[Outcome], of: impl Fn(&Outcome) -> f64) -> f64 {
    outcomes.iter().map(of).sum::<f64>() / outcomes.len() as f64
}

fn assert_rate_is_held(scenario: Scenario) -> Vec<Outcome> {
    let of = outcomes(Kind::AdaptivePot, scenario);
    for one in &of {
        assert!((0.7..=1.3).contains(&one.rate), "{scenario:?}: {one:?}");
    }
    of
}

#[test]
fn the_rate_is_held_through_every_drift() {
    use Scenario::{Diurnal, Jump, Ramp, Slow, Spread, Stationary, Tail};
    for scenario in [Stationary, Slow, Ramp, Jump, Diurnal, Spread, Tail] {
        let of = assert_rate_is_held(scenario);
        let within = mean(&of, |one| one.windows_within_2x.expect("the stream has windows"));
        assert!(within >= 0.9, "{scenario:?}: {within} of the windows: {of:?}");
    }
}

#[test]
fn bursts_are_found_from_end_to_end() {
    for (scenario, least) in [(Scenario::Burst6, 0.95), (Scenario::Burst, 0.85)] {
        let of = assert_rate_is_held(scenario);
        let recall = mean(&of, |one| one.recall.expect("there are anomalies"));
        assert!(recall >= least, "{scenario:?}: {recall}");
    }
}

#[test]
fn a_big_jump_is_told_once_and_then_learnt() {
    for one in assert_rate_is_held(Scenario::BigJump) {
        assert_eq!(one.n_shifts, 1, "{one:?}");
        assert!(one.n_alerts - one.n_false_alerts < 6000, "{one:?}");
    }
}

#[test]
fn a_rule_that_never_learns_fails_the_same_measure() {
    let of = outcomes(Kind::Quantile, Scenario::Ramp);
    assert!(mean(&of, |one| one.rate) > 1.3 && mean(&of, |one| one.windows_within_2x.unwrap_or(1.0)) < 0.9, "{of:?}");
    let of = outcomes(Kind::Conformal, Scenario::Burst);
    assert!(mean(&of, |one| one.recall.unwrap_or(1.0)) < 0.5, "a burst raises it over itself: {of:?}");
}
