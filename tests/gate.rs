//! The gate and the rows that a round learns from: an attack is not learnt, what is bad is rejected, a tie changes nothing.
//!
//! MODEL 3.2's attack: a repeated pattern of three standard deviations in several features. Synthetic streams whose truth
//! is known; the challengers are made by the same rounds that the trainer runs.

#![expect(clippy::unwrap_used, reason = "a test that unwraps nothing fails, as it should")]

use std::ops::ControlFlow;
use std::sync::Arc;

use ndarray::{Array2, Axis, concatenate, s};
use rand::seq::SliceRandom;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use rand_distr::{Distribution, StandardNormal};

use strayd::model::{Model, Workspace};
use strayd::preprocess::Schema;
use strayd::record::RecordId;
use strayd::registry::{self, Directory, Registry};
use strayd::threshold::Tail;
use strayd::train::{
    Admission, Config, Decision, Evidence, Fitted, GateConfig, Opinions, Outcome, Progress, Round, Rows, Selection,
    Start, fit, judge, refit, refresh,
};

const D: usize = 12;
const Q: f64 = 1e-3;
const N_HISTORY: usize = 3000;
const N_WINDOW: usize = 6000;

/// Rows of three hidden causes in twelve features with noise; `turn` changes how they are mixed.
fn ordinary(n_rows: usize, turn: f32, rng: &mut ChaCha8Rng) -> Array2<f32> {
    let normal = |rng: &mut ChaCha8Rng| -> f32 { StandardNormal.sample(rng) };
    let mut values = Array2::zeros((n_rows, D));
    for mut row in values.rows_mut() {
        let causes = [normal(rng), normal(rng), normal(rng)];
        for (j, value) in row.iter_mut().enumerate() {
            let mix = |(c, cause): (usize, &f32)| cause * ((j * 3 + c * 5) as f32 + turn * j as f32).sin();
            *value = 5.0 + causes.iter().enumerate().map(mix).sum::<f32>() + 0.3 * normal(rng);
        }
    }
    values
}

/// Ordinary rows with the attack's pattern: six features moved by three of their deviations, always the same way.
fn attacked(n_rows: usize, rng: &mut ChaCha8Rng) -> Array2<f32> {
    let mut values = ordinary(n_rows, 0.0, rng);
    let deviations = values.std_axis(Axis(0), 0.0);
    for (j, sign) in [(1, 1.0), (3, -1.0), (4, -1.0), (7, 1.0), (8, -1.0), (10, 1.0)] {
        values.column_mut(j).mapv_inplace(|value| value + sign * 3.0 * deviations[j]);
    }
    values
}

fn rows_from(first: usize, values: Array2<f32>) -> Rows {
    let ids = (first..first + values.nrows()).map(|i| RecordId { partition: 0.into(), offset: i as i64 }).collect();
    Rows::new(values, ids)
}

fn go_on(_: Progress) -> ControlFlow<()> {
    ControlFlow::Continue(())
}

/// A champion of clean rows, and the admission after it.
fn champion(rng: &mut ChaCha8Rng) -> (Model, Admission) {
    let schema = Arc::new(Schema::new((0..D).map(|j| format!("f{j}"))).unwrap());
    let rows = rows_from(0, ordinary(N_HISTORY, 0.0, rng));
    let fitted = fit(schema, &rows, &Config::default(), 1, &mut go_on).unwrap();
    let admission = Admission::after(&rows, &fitted.rejected);
    (fitted.into_model(1, 0), admission)
}

/// A window after the history with `share` of its rows attacked, in random places.
fn window(share: f64, rng: &mut ChaCha8Rng) -> Rows {
    let n_attacked = (N_WINDOW as f64 * share) as usize;
    let clean = ordinary(N_WINDOW - n_attacked, 0.0, rng);
    let all = concatenate(Axis(0), &[clean.view(), attacked(n_attacked, rng).view()]).unwrap();
    let mut order: Vec<usize> = (0..N_WINDOW).collect();
    order.shuffle(rng);
    rows_from(N_HISTORY, all.select(Axis(0), &order))
}

fn round(champion: &Model, rows: &Rows, admission: &mut Admission, start: Start) -> Fitted {
    let round = Round { start, ..Round::warm(champion, rows, 3) };
    refit(round, admission, &Config::default(), &mut go_on).unwrap()
}

/// An admission that lets everything in, and never learns better.
fn gullible() -> Admission {
    serde_json::from_value(serde_json::json!({"threshold": 1e12})).unwrap()
}

fn z(model: &Model, values: &Array2<f32>) -> Vec<f64> {
    let mut workspace = Workspace::new();
    model.score(values.view(), &mut workspace);
    workspace.z().to_vec()
}

fn recall(model: &Model, attack: &Array2<f32>) -> f64 {
    let limit = model.calibration.tail.z_at(Q);
    let scores = z(model, attack);
    scores.iter().filter(|z| **z > limit).count() as f64 / scores.len() as f64
}

/// Which of `rows` the champion itself admits.
fn admitted(champion: &Model, admission: &Admission, rows: &Rows) -> Vec<bool> {
    let nobody = Opinions::none(rows.values.ncols());
    Selection::new(champion, rows, &nobody, &mut admission.clone(), &Config::default()).admitted
}

/// What the gate says of `challenger`, on the rows that the champion itself admits.
fn verdict(champion: &Model, challenger: &Model, admission: &Admission, rows: &Rows) -> Decision {
    let gate = GateConfig::default();
    let admitted = admitted(champion, admission, rows);
    judge(champion, challenger, &Evidence::new(rows, &admitted, Q, 5, &gate), &gate)
}

#[test]
fn an_attack_in_the_retraining_window_is_not_learnt() {
    for (seed, share) in [11, 12].into_iter().flat_map(|seed| [0.02, 0.1, 0.3].map(|share| (seed, share))) {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let (champion, admission) = champion(&mut rng);
        let attack = attacked(500, &mut rng);
        assert!(recall(&champion, &attack) >= 0.95, "before: {}", recall(&champion, &attack));
        let rows = window(share, &mut rng);
        for start in [Start::Warm, Start::Fresh] {
            let fitted = round(&champion, &rows, &mut admission.clone(), start);
            let kept = refresh(&champion, &rows, &fitted.selection, &Config::default()).into_model(3, 0);
            let challenger = fitted.into_model(2, 0);
            let (of_challenger, of_kept) = (recall(&challenger, &attack), recall(&kept, &attack));
            assert!(of_challenger >= 0.95, "{share} attacked, {start:?}: recall {of_challenger}");
            assert!(of_kept >= 0.95, "{share} attacked, refreshed: recall {of_kept}");
        }
    }
}

#[test]
fn a_challenger_that_learnt_the_attack_is_rejected() {
    let mut rng = ChaCha8Rng::seed_from_u64(12);
    let (champion, admission) = champion(&mut rng);
    for share in [0.02, 0.1, 0.3] {
        let rows = window(share, &mut rng);
        let mut challenger = round(&champion, &rows, &mut gullible(), Start::Fresh).into_model(2, 0);
        challenger.calibration.tail = Tail::fit(z(&challenger, &rows.values));
        let decision = verdict(&champion, &challenger, &admission, &rows);
        assert_eq!(decision.outcome, Outcome::Reject, "{share} attacked: {decision:?}");
        let check = decision.checks.iter().find(|check| check.name.contains("quarantined")).unwrap();
        assert!(!check.passed, "{share} attacked: {check}");
    }
}

#[test]
fn bad_challengers_are_rejected_and_a_tie_keeps_the_champion() {
    let mut rng = ChaCha8Rng::seed_from_u64(13);
    let (champion, admission) = champion(&mut rng);
    let rows = window(0.0, &mut rng);
    let outcome = |challenger: &Model| verdict(&champion, challenger, &admission, &rows);

    let tie = outcome(&champion);
    assert_eq!(tie.outcome, Outcome::Keep, "{tie:?}");
    assert_eq!(tie.n_holdout, GateConfig::default().holdout_rows);

    let mut diverged = champion.clone();
    diverged.autoencoder.w_dec.fill(f32::NAN);
    let mut noisy = champion.clone();
    noisy.autoencoder.w_dec.mapv_inplace(|w| w + 0.3 * rng.random_range(-1.0_f32..1.0));
    let mut mute = champion.clone();
    mute.autoencoder.b_enc.fill(-1e6);
    let untrained = Config { trial_steps: 1, steps: 1, ..Config::default() };
    let untrained = fit(champion.schema.clone(), &rows, &untrained, 2, &mut go_on).unwrap().into_model(2, 0);
    let mut blunt = champion.clone();
    blunt.calibration.tail = Tail::fit(vec![1e3; 100]);
    let bad = [("diverged", diverged), ("noisy", noisy), ("mute", mute)];
    for (name, challenger) in &bad {
        let decision = outcome(challenger);
        assert_eq!(decision.outcome, Outcome::Reject, "{name}: {decision:?}");
        assert!(!decision.reason.is_empty() && decision.checks.iter().any(|check| !check.passed), "{name}");
    }
    // Weights start near the principal components: hardly trained, they do no great harm, and don't win.
    let decision = outcome(&untrained);
    assert_ne!(decision.outcome, Outcome::Promote, "{decision:?}");
    // One that alerts on nothing is caught by what is known to be anomalous.
    let gate = GateConfig::default();
    let admitted = admitted(&champion, &admission, &rows);
    let mut evidence = Evidence::new(&rows, &admitted, Q, 5, &gate);
    evidence.canaries = attacked(50, &mut rng);
    let decision = judge(&champion, &blunt, &evidence, &gate);
    assert_eq!(decision.outcome, Outcome::Reject, "{decision:?}");
    assert!(decision.reason.contains("canaries"), "{}", decision.reason);
}

#[test]
fn a_challenger_of_a_stream_that_has_turned_is_promoted_and_no_decision_is_left_to_chance() {
    let mut rng = ChaCha8Rng::seed_from_u64(14);
    let (champion, mut admission) = champion(&mut rng);
    let rows = rows_from(N_HISTORY, ordinary(N_WINDOW, 0.05, &mut rng));
    let mut challenger: Option<Model> = None;
    for version in 2..6 {
        let round = Round { challenger: challenger.as_ref(), ..Round::warm(&champion, &rows, version) };
        let fitted = refit(round, &mut admission, &Config::default(), &mut go_on).unwrap();
        challenger = Some(fitted.into_model(version, 0));
    }
    let challenger = challenger.unwrap();
    let decision = verdict(&champion, &challenger, &admission, &rows);
    assert_eq!(decision.outcome, Outcome::Promote, "{decision:?}");
    assert_eq!(decision, verdict(&champion, &challenger, &admission, &rows));
    let back: Decision = serde_json::from_str(&serde_json::to_string(&decision).unwrap()).unwrap();
    assert_eq!(back, decision);
    // The other way round it is a plain loss.
    let backwards = verdict(&challenger, &champion, &admission, &rows);
    assert_ne!(backwards.outcome, Outcome::Promote, "{backwards:?}");
}

#[test]
fn units_are_common_so_that_a_larger_scale_wins_nothing() {
    let mut rng = ChaCha8Rng::seed_from_u64(15);
    let (champion, admission) = champion(&mut rng);
    let rows = window(0.0, &mut rng);
    let wide = rows.values.slice(s![..1000, ..]).mapv(|value| 5.0 + 3.0 * (value - 5.0));
    let mut challenger = champion.clone();
    challenger.preprocessor = strayd::preprocess::Preprocessor::fit(&champion.schema, wide.view(), wide.view());
    challenger.autoencoder =
        strayd::train::rescale(&champion.autoencoder, &champion.preprocessor, &challenger.preprocessor);
    let decision = verdict(&champion, &challenger, &admission, &rows);
    let gain = decision.checks.iter().find(|check| check.name == "improvement").unwrap();
    assert!(gain.challenger.abs() < 1e-4, "the same function in other units is no gain: {gain}");
}

#[test]
fn a_registry_keeps_what_scored_apart_from_what_did_not_and_never_loses_current_parent_or_pinned() {
    let (mut model, _) = champion(&mut ChaCha8Rng::seed_from_u64(16));
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().to_owned();
    let mut registry = Directory::new(&registry::Config { path, keep: 2, topic: None });
    let store = |registry: &mut Directory, model: &mut Model, version, parent| {
        (model.version, model.lineage.parent) = (version, parent);
        registry.store(model).unwrap();
    };
    for version in 1..=4 {
        store(&mut registry, &mut model, version, None);
        registry.promote(version).unwrap();
    }
    let versions = |registry: &Directory| registry.list().unwrap().iter().map(|e| e.version).collect::<Vec<_>>();
    assert_eq!(versions(&registry), [3, 4]);
    registry.pin(Some(3)).unwrap();
    assert_eq!(registry.pinned().unwrap(), Some(3));
    // 5 to 8 are challengers that stayed behind; 9 goes on from 5 and is promoted.
    for version in 5..=8 {
        store(&mut registry, &mut model, version, Some(4));
    }
    store(&mut registry, &mut model, 9, Some(5));
    registry.promote(9).unwrap();
    assert_eq!(versions(&registry), [3, 4, 5, 7, 8, 9], "3 is pinned, 5 the parent, 6 too old");
    assert_eq!(registry.before_current().unwrap(), Some(4), "not a challenger that never scored");
    registry.pin(None).unwrap();
    store(&mut registry, &mut model, 10, Some(9));
    registry.promote(10).unwrap();
    assert_eq!(versions(&registry), [7, 8, 9, 10]);
    let promoted: Vec<bool> = registry.list().unwrap().iter().map(|entry| entry.promoted).collect();
    assert_eq!(promoted, [false, false, true, true]);

    let waits = registry.submit(&model).unwrap();
    assert!(waits.is_dir());
    assert_eq!(registry.take_candidate().unwrap().map(|model| model.hash), Some(model.hash.clone()));
    assert!(registry.take_candidate().unwrap().is_none(), "it is not taken twice");
}
