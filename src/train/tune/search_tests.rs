//! The search over made-up measurements, so that each rule decides by itself.

use super::*;
use crate::sae;

/// Scores of ten rows that agree across seeds as far as `noise` allows: 0 all, 1 hardly.
fn scores(noise: f64, seed: u64) -> Vec<f64> {
    let jitter = |i: u64| ((i * 7 + seed * 13 + i * i * seed) % 10) as f64;
    (0..10).map(|i| i as f64 * (1.0 - noise) + noise * jitter(i)).collect()
}

/// What passes every gate.
fn fair(noise: f64, seed: u64) -> Measured {
    Measured {
        scores: scores(noise, seed),
        explained_variance: 0.8,
        latents_active_mean: 4.0,
        loss: 0.2,
        auc_swapped: 0.9,
        auc_shifted: 0.9,
        ..Measured::default()
    }
}

/// A configuration that is known by its number of latents.
fn sized(n_latents: usize) -> Config {
    Config { sae: sae::Config { n_latents: Some(n_latents), k: Some(2), ..Default::default() }, ..Config::default() }
}

fn n_latents(trial: &Trial<'_>) -> usize {
    trial.config.sae.n_latents.unwrap_or(0)
}

fn run(measure: Measure<'_>) -> Outcome {
    search(&Config::default(), (1..=9).map(|i| sized(2 + i)).collect(), 8, 0, measure).unwrap()
}

#[test]
fn the_default_wins_ties_and_small_leads() {
    let tied = run(&mut |trial| Ok(fair(0.0, trial.seed)));
    assert_eq!((tied.chosen, tied.criterion), (None, Criterion::Stability));
    assert_eq!(tied.choice().config, Config::default());
    // An average precision of .51 against .50: ahead, but within what counts as nothing.
    let ahead = run(&mut |trial| {
        let precision = if n_latents(&trial) == 0 { 0.50 } else { 0.51 };
        Ok(Measured { average_precision: Some(precision), ..fair(0.0, trial.seed) })
    });
    assert_eq!(ahead.chosen, None);
}

#[test]
fn a_planted_better_candidate_wins() {
    let outcome = run(&mut |trial| Ok(fair(if n_latents(&trial) == 5 { 0.0 } else { 0.6 }, trial.seed)));
    assert_eq!(outcome.choice().n_latents, 5);
    let (chosen, default) = (outcome.choice().summary.unwrap(), outcome.default.summary.unwrap());
    assert!(chosen.stability >= default.stability + LEAD_MIN);
}

#[test]
fn of_equals_the_smallest_wins() {
    let outcome = run(&mut |trial| Ok(fair(if n_latents(&trial) == 0 { 0.6 } else { 0.0 }, trial.seed)));
    // Three of nine climb, in the order of their drawing, and one of three: all are equal up to there.
    assert_eq!(outcome.choice().n_latents, 3);
    let two = [sized(9), sized(4)].to_vec();
    let measure: Measure<'_> = &mut |trial| Ok(fair(if n_latents(&trial) == 0 { 0.6 } else { 0.0 }, trial.seed));
    let mut both: Vec<Candidate> = two.into_iter().map(|config| Candidate::new(config, 8)).collect();
    let mut default = Candidate::new(Config::default(), 8);
    both.iter_mut().chain([&mut default]).for_each(|candidate| candidate.climb(2, 0, measure).unwrap());
    assert_eq!(choose(&both, &[0, 1], &default, Criterion::Stability), Some(1));
}

#[test]
fn what_says_nothing_is_dropped_however_stable() {
    type Spoil = fn(&mut Measured);
    let bad: [(&str, Spoil); 5] = [
        ("explained", |of| of.explained_variance = 0.1),
        ("explained", |of| of.explained_variance = 0.999),
        ("dead", |of| of.latents_dead_ratio = 0.6),
        ("swapped", |of| of.auc_swapped = 0.8),
        ("shifted", |of| of.auc_shifted = 0.8),
    ];
    for (reason, spoil) in bad {
        let outcome = run(&mut |trial| {
            let mut of = fair(if n_latents(&trial) == 0 { 0.6 } else { 0.0 }, trial.seed);
            if n_latents(&trial) > 0 {
                spoil(&mut of);
            }
            Ok(of)
        });
        assert_eq!(outcome.chosen, None, "{reason}");
        assert!(outcome.candidates.iter().all(|of| of.dropped.as_ref().is_some_and(|text| text.contains(reason))));
    }
}

#[test]
fn labels_override_stability() {
    let outcome = run(&mut |trial| {
        let (noise, precision) = match n_latents(&trial) {
            0 => (0.3, 0.5),
            7 => (0.8, 0.9),
            _ => (0.0, 0.4),
        };
        Ok(Measured { average_precision: Some(precision), ..fair(noise, trial.seed) })
    });
    assert_eq!(outcome.criterion, Criterion::AveragePrecision);
    assert_eq!(outcome.choice().n_latents, 7);
    let (chosen, default) = (outcome.choice().summary.unwrap(), outcome.default.summary.unwrap());
    assert!(chosen.stability < default.stability, "both are told");
}

#[test]
fn a_third_climbs_with_the_steps_and_seeds_of_the_rung() {
    let mut trials = Vec::new();
    run(&mut |trial| {
        trials.push((trial.share, trial.seed));
        Ok(fair(0.0, trial.seed))
    });
    let of = |share: f64| trials.iter().filter(|trial| trial.0 == share).count();
    // The default beside nine, three and one.
    assert_eq!([of(1.0 / 9.0), of(1.0 / 3.0), of(1.0)], [2 * 10, 2 * 4, 3 * 2]);
    assert!(trials.iter().all(|trial| trial.1 < 3));
}

#[test]
fn learning_rates_are_compared_by_loss_at_the_end() {
    let outcome = run(&mut |trial| {
        let fast = trial.config.sae.lr > 5e-3;
        let noise = if n_latents(&trial) == 0 { 0.6 } else { 0.0 };
        Ok(Measured { loss: if fast { 0.1 } else { 0.2 }, ..fair(noise, trial.seed) })
    });
    assert_eq!(outcome.candidates.len(), 9 + 2, "two other rates were tried");
    assert!((outcome.choice().config.sae.lr - 9e-3).abs() < 1e-12);
    assert_eq!(outcome.choice().n_latents, 3);
}

#[test]
fn failures_drop_a_candidate_and_end_the_search_for_the_default() {
    let failure = TrainError::TooFewRows { got: 1, needed: 2 };
    let outcome =
        run(&mut |trial| if n_latents(&trial) > 0 { Err(failure.clone()) } else { Ok(fair(0.0, trial.seed)) });
    assert!(outcome.chosen.is_none() && outcome.candidates.iter().all(|of| of.dropped.is_some()));
    let all = search(&Config::default(), vec![sized(3)], 8, 0, &mut |_| Err(failure.clone()));
    assert_eq!(all.unwrap_err(), failure);
    let stopped = search(&Config::default(), vec![sized(3)], 8, 0, &mut |_| Err(TrainError::Stopped));
    assert_eq!(stopped.unwrap_err(), TrainError::Stopped);
}

#[test]
fn the_front_holds_what_nothing_beats() {
    let outcome = run(&mut |trial| {
        let mut of = fair(0.0, trial.seed);
        of.latents_active_mean = if n_latents(&trial) == 0 { 2.0 } else { 4.0 };
        Ok(of)
    });
    assert!(outcome.default.pareto);
    assert!(outcome.candidates.iter().all(|of| !of.pareto), "as much is explained with fewer");
}
