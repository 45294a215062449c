//! What the default threshold must do: calibration, admission, feedback, shifts, constant series.

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::*;
use crate::threshold::{Kind, Tail};

const Q: f64 = 1e-3;

fn exponential(rng: &mut ChaCha8Rng) -> f64 {
    -(1.0 - rng.random::<f64>()).ln()
}

fn calibration(z: Vec<f64>) -> Calibration {
    Calibration { location: 0.0, scale: 1.0, tail: Tail::fit(z) }
}

/// A state that knows `n` exponential scores, and the source of more.
fn exponential_state(n: usize, q: f64) -> (AdaptivePot, ChaCha8Rng) {
    let mut rng = ChaCha8Rng::seed_from_u64(9);
    let seen = (0..n).map(|_| exponential(&mut rng)).collect();
    (AdaptivePot::new(&Config::of(Kind::AdaptivePot, q), q, &calibration(seen)), rng)
}

fn alerts(state: &mut AdaptivePot, scores: impl Iterator<Item = f64>) -> usize {
    scores.filter(|z| state.judge(*z).anomalous).count()
}

#[test]
fn it_begins_where_the_calibration_puts_it() {
    for (n, slack) in [(500, 0.1), (5000, 0.08), (50_000, 0.1)] {
        let (state, mut rng) = exponential_state(n, Q);
        let seen = (0..n).map(|_| exponential(&mut rng)).collect();
        let state_of_others = AdaptivePot::new(&Config::default(), Q, &calibration(seen));
        let exact = 1000_f64.ln();
        for state in [state, state_of_others] {
            assert!((state.z_at_alert() / exact - 1.0).abs() < 2.0 * slack, "{n}: {}", state.z_at_alert());
        }
    }
}

#[test]
fn p_values_fall_with_the_score_and_agree_with_the_threshold() {
    let (state, _) = exponential_state(5000, Q);
    let mut last = 1.0;
    for i in 0..3000 {
        let z = f64::from(i) * 0.01;
        let verdict = state.clone().judge(z);
        assert!(verdict.p_value <= last && verdict.p_value > 0.0, "{z}: {verdict:?}");
        assert_eq!(verdict.anomalous, z > state.z_at_alert());
        assert_eq!(verdict.anomalous, verdict.p_value <= Q * (1.0 + 1e-6), "{z}: {verdict:?}");
        last = verdict.p_value;
    }
}

#[test]
fn it_is_calibrating_until_it_knows_twice_the_inverse_of_the_target() {
    let (mut state, mut rng) = exponential_state(1000, Q);
    assert!(state.judge(0.5).calibrating);
    alerts(&mut state, (0..1100).map(|_| exponential(&mut rng)));
    assert!(!state.judge(0.5).calibrating);
    let (mut rare, _) = exponential_state(20_000, 1e-5);
    assert!(!rare.judge(0.5).calibrating, "a full window can't know more");
}

#[test]
fn flags_are_learnt_once_an_episode() {
    let (mut state, _) = exponential_state(20_000, Q);
    let learnt = |state: &AdaptivePot| state.n_admitted;
    assert!(state.judge(50.0).anomalous);
    assert_eq!(learnt(&state), 1, "the first flag of an episode is learnt");
    assert!(state.scores.values().iter().all(|z| *z < 40.0), "and is cut to the score of p = 1e-5");
    let n = alerts(&mut state, (0..200).map(|_| 50.0));
    assert_eq!((n, learnt(&state)), (200, 1), "those that follow are flagged and not learnt");
    alerts(&mut state, (0..64).map(|_| 0.5));
    assert_eq!(learnt(&state), 1, "what lies amid a burst is not learnt");
    assert!(state.judge(50.0).anomalous);
    assert_eq!(learnt(&state), 2, "64 ordinary ones end an episode");
    alerts(&mut state, (0..10).map(|_| 0.5));
    assert_eq!(learnt(&state), 12, "one flag is no burst");
}

#[test]
fn noise_that_grows_for_good_is_learnt() {
    // Before it is known, one record in ten is flagged: too few for a shift, and bursts without end.
    let (mut state, mut rng) = exponential_state(20_000, Q);
    let mut wider = || 3.0 * exponential(&mut rng);
    assert!(alerts(&mut state, (0..500).map(|_| wider())) > 25, "it is seen");
    alerts(&mut state, (0..40_000).map(|_| wider()));
    let n = alerts(&mut state, (0..20_000).map(|_| wider()));
    assert!(n < 60, "{n} alerts of 20,000 once it is known");
}

#[test]
fn tokens_bound_what_is_learnt_of_flags() {
    let (mut state, _) = exponential_state(20_000, Q);
    let mut n_flags = 0;
    for _ in 0..40 {
        n_flags += alerts(&mut state, std::iter::once(50.0).chain((0..64).map(|_| 0.5)));
    }
    // Ten were saved, and 2600 records earned five more.
    let n_flags_learnt = state.n_admitted - 40 * 64;
    assert_eq!((n_flags, n_flags_learnt), (40, 15));
}

#[test]
fn feedback_moves_the_level_within_its_range() {
    let (mut state, _) = exponential_state(20_000, Q);
    let alpha = |state: &AdaptivePot| state.carried().unwrap().alpha;
    state.judge(50.0);
    assert!((alpha(&state) / Q - (0.1 * (Q - 1.0)).exp()).abs() < 1e-12);
    alerts(&mut state, (0..30_000).map(|_| 0.5));
    assert!((alpha(&state) / (4.0 * Q) - 1.0).abs() < 1e-9, "{}", alpha(&state));
    let still = Config { target: Target::FalsePositive, ..Config::default() };
    let mut still = AdaptivePot::new(&still, Q, &calibration((0..5000).map(|i| f64::from(i) * 1e-3).collect()));
    still.judge(1e6);
    assert!((alpha(&still) / Q - 1.0).abs() < 1e-12);
}

#[test]
fn what_is_carried_is_taken_up_and_kept_in_range() {
    let (mut state, _) = exponential_state(5000, Q);
    let carried = Carried { alpha: 3e-3, tokens: 4.5, shift: 0.25 };
    state.restore(&carried);
    let back = state.carried().unwrap();
    assert!((back.alpha - 3e-3).abs() < 1e-15 && (back.tokens, back.shift) == (4.5, 0.25), "{back:?}");
    assert!((state.judge(0.1).z_at_alert - state.z_at(3e-3)).abs() < 1e-9);
    state.restore(&Carried { alpha: f64::NAN, tokens: 1e9, shift: -1.0 });
    let back = state.carried().unwrap();
    assert!((back.alpha - Q).abs() < 1e-15 && (back.tokens, back.shift) == (10.0, 0.0), "{back:?}");
}

#[test]
fn infinite_and_missing_scores_poison_nothing() {
    let (mut state, mut rng) = exponential_state(5000, Q);
    let before = state.z_at_alert();
    let nan = state.judge(f64::NAN);
    assert!(!nan.anomalous && nan.p_value == 1.0 && state.n_admitted == 0);
    // Infinite is learnt as any other score that is far out: cut.
    let mut with_large = state.clone();
    for _ in 0..10 {
        assert!(state.judge(f64::INFINITY).anomalous && with_large.judge(1e6).anomalous);
        assert!(!state.judge(f64::NEG_INFINITY).anomalous && !with_large.judge(-1e6).anomalous);
        let ordinary: Vec<f64> = (0..1000).map(|_| exponential(&mut rng)).collect();
        assert_eq!(alerts(&mut state, ordinary.iter().copied()), alerts(&mut with_large, ordinary.iter().copied()),);
    }
    let after = state.z_at_alert();
    assert_eq!(after, with_large.z_at_alert());
    assert!((after / before - 1.0).abs() < 0.6, "{before} became {after}");
}

#[test]
fn a_shift_is_confirmed_once_and_not_alerted_for_ever() {
    let (mut state, mut rng) = exponential_state(20_000, Q);
    let verdicts: Vec<Verdict> = (0..40_000).map(|_| state.judge(30.0 + 2.0 * exponential(&mut rng))).collect();
    let at: Vec<usize> = (0..verdicts.len()).filter(|i| verdicts[*i].shifted).collect();
    assert_eq!(at.len(), 1, "{at:?}");
    assert!((4096..5000).contains(&at[0]), "{at:?}");
    let n_after = verdicts[at[0] + 1..].iter().filter(|verdict| verdict.anomalous).count();
    assert!((10..90).contains(&n_after), "{n_after} alerts of 35,000 after it");
    assert!(verdicts[at[0] - 100..at[0]].iter().all(|verdict| verdict.anomalous));
}

#[test]
fn a_constant_series_never_alerts_and_its_first_change_is_not_missed() {
    for value in [0.0, 0.1, -7.3, 12345.6789, 7e8] {
        for n in [0, 1, 40, 5000] {
            let mut state = AdaptivePot::new(&Config::default(), Q, &calibration(vec![value; n]));
            let begins = if n == 0 && value > 1.0 { 20_000 } else { 0 };
            alerts(&mut state, (0..begins).map(|_| value));
            assert_eq!(alerts(&mut state, (0..5000).map(|_| value)), 0, "{value} {n}");
            let changed = value + 1e-2 * f64::max(value.abs(), 1.0);
            let verdict = state.judge(changed);
            assert!(verdict.anomalous && verdict.p_value < 1e-3, "{value} {n}: {verdict:?}");
            // The change is for good: it is said once, and then no more.
            let verdicts: Vec<Verdict> = (0..20_000).map(|_| state.judge(changed)).collect();
            assert_eq!(verdicts.iter().filter(|verdict| verdict.shifted).count(), 1, "{value} {n}");
            assert!(!verdicts[6000..].iter().any(|verdict| verdict.anomalous), "{value} {n}");
        }
    }
}

#[test]
fn a_constant_series_that_turns_noisy_is_learnt() {
    let mut rng = ChaCha8Rng::seed_from_u64(3);
    let mut state = AdaptivePot::new(&Config::default(), Q, &calibration(vec![0.0; 5000]));
    let mut noise = || exponential(&mut rng) - exponential(&mut rng);
    assert!(alerts(&mut state, (0..1000).map(|_| noise())) > 100, "the change is seen");
    alerts(&mut state, (0..40_000).map(|_| noise()));
    let n = alerts(&mut state, (0..20_000).map(|_| noise()));
    assert!(n < 60, "{n} alerts of 20,000 once it is known");
}
