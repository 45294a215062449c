//! The monitor on streams whose changes are known.

use std::sync::Arc;

use ndarray::Array2;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::*;
use crate::preprocess::Schema;
use crate::record::RecordId;
use crate::train::{Config, fit};

const N_FEATURES: usize = 6;

/// Rows of a plane: six features of two hidden causes, plus noise, moved by `offset` in the first feature.
fn rows(rng: &mut ChaCha8Rng, from: i64, n: usize, offset: f32) -> Rows {
    let mut values = Array2::zeros((n, N_FEATURES));
    for mut row in values.rows_mut() {
        let (a, b): (f32, f32) = (rng.random(), rng.random());
        for (j, value) in row.iter_mut().enumerate() {
            let noise: f32 = rng.random::<f32>() + rng.random::<f32>() - 1.0;
            *value = a * (j as f32 + 1.0) - b * (N_FEATURES - j) as f32 + 0.2 * noise;
        }
        row[0] += offset;
    }
    Rows::new(values, (from..from + n as i64).map(|offset| RecordId { partition: 0.into(), offset }).collect())
}

fn model(seed: u64) -> Model {
    let names = ["a", "b", "c", "d", "e", "f"];
    let schema = Arc::new(Schema::new(names).expect("six names"));
    let rows = rows(&mut ChaCha8Rng::seed_from_u64(seed), 0, 2000, 0.0);
    let config = Config { steps: 100, trial_steps: 50, ..Config::default() };
    fit(schema, &rows, &config, seed, &mut |_| std::ops::ControlFlow::Continue(())).expect("a model").into_model(1, 0)
}

/// Looks every 256 rows; returns the rows after which something was found, and what.
fn found(drift: &mut Drift, model: &Model, rows: &Rows) -> Vec<(usize, Class)> {
    let mut found = Vec::new();
    for from in (0..rows.len()).step_by(256) {
        let to = (from + 256).min(rows.len());
        let part = rows.values.slice(ndarray::s![from..to, ..]).to_owned();
        drift.observe(model, &Rows::new(part, rows.ids[from..to].to_vec()));
        let finding = drift.look(model);
        assert_eq!(finding.class != Class::None && finding.class != Class::Schema, finding.statistic >= 1.0);
        if finding.class != Class::None {
            found.push((to, finding.class));
        }
    }
    found
}

#[test]
fn a_stream_that_stays_has_no_drift_and_one_that_moves_has_it_once() {
    for seed in 0..3 {
        let model = model(seed);
        let mut rng = ChaCha8Rng::seed_from_u64(100 + seed);
        let mut drift = Drift::new(&model);
        assert_eq!(found(&mut drift, &model, &rows(&mut rng, 2000, 8000, 0.0)), []);
        let seen = found(&mut drift, &model, &rows(&mut rng, 10_000, 4000, 0.5));
        assert!(matches!(seen[..], [(at, _)] if at <= 1024), "seed {seed}: {seen:?}");
    }
}

#[test]
fn a_jump_far_away_is_a_shift_and_a_feature_that_goes_is_another_schema() {
    let model = model(7);
    let mut rng = ChaCha8Rng::seed_from_u64(8);
    let mut drift = Drift::new(&model);
    assert_eq!(found(&mut drift, &model, &rows(&mut rng, 2000, 4000, 0.0)), []);
    let seen = found(&mut drift.clone(), &model, &rows(&mut rng, 6000, 2000, 8.0));
    assert!(matches!(seen[..], [(at, Class::Shift), ..] if at <= 768), "{seen:?}");

    let mut gone = rows(&mut rng, 6000, 6000, 0.0);
    gone.values.column_mut(3).fill(f32::NAN);
    let seen = found(&mut drift, &model, &gone);
    assert_eq!(seen.iter().filter(|(_, class)| *class == Class::Schema).count(), 1, "{seen:?}");
}

#[test]
fn a_change_without_a_second_sign_is_none() {
    let model = model(3);
    let mut drift = Drift::new(&model);
    drift.change = Some((Cut { before: 0.5, after: 0.6 }, 0));
    let finding = drift.look(&model);
    assert_eq!((finding.class, finding.adwin, finding.statistic), (Class::None, 1.0, 0.0));
}

/// Places of a stationary series whose neighbours depend on each other: a wave under noise, and an autoregression.
fn dependent(kind: usize, seed: u64) -> impl FnMut() -> f64 {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let (mut level, mut i) = (0.5_f64, 0.0_f64);
    move || {
        i += 1.0;
        let noise: f64 = rng.random();
        if kind == 0 {
            return 0.5 + 0.3 * (i / 31.7).sin() + 0.2 * (noise - 0.5);
        }
        // Stays where it is nine times of ten: autocorrelation .9 at lag 1, uniform at any time.
        if rng.random::<f64>() < 0.1 {
            level = noise;
        }
        level
    }
}

#[test]
fn waves_and_slow_series_are_no_drift_and_still_drift_is_seen_in_them() {
    let model = model(5);
    for (kind, seed) in [(0, 0), (0, 1), (0, 2), (1, 0), (1, 1), (1, 2), (1, 3), (1, 4)] {
        let mut drift = Drift::new(&model);
        let mut next = dependent(kind, seed);
        let largest = (0..30_000).map(|_| {
            drift.follow(next());
            drift.finding(&model).statistic
        });
        let largest = largest.fold(0.0, f64::max);
        assert!(largest < 1.0, "kind {kind}, seed {seed}: {largest}");
        let moved = (0..10_000).position(|_| {
            drift.follow((next() + 0.25).clamp(0.0, 1.0));
            drift.finding(&model).statistic >= 1.0
        });
        assert!(moved.is_some_and(|n| n < 6000), "kind {kind}, seed {seed}: {moved:?}");
    }
}

#[test]
fn a_place_counts_ties_half() {
    assert_eq!([-1.0, 0.0, 0.5, 2.0, 9.0].map(|z| place(&[0.0, 1.0, 2.0, 2.0], z)), [0.0, 0.125, 0.25, 0.75, 1.0]);
}

#[test]
fn only_the_latest_rows_are_remembered() {
    let model = model(4);
    let mut drift = Drift::new(&model);
    drift.observe(&model, &rows(&mut ChaCha8Rng::seed_from_u64(1), 0, RECENT + 300, 0.0));
    assert_eq!(drift.recent.len(), RECENT);
    assert!(drift.counts.iter().all(|counts| counts.iter().sum::<u32>() as usize == RECENT));
}
