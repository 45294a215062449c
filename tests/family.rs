//! The whole family through a first model, its files, a round and scores: nothing is ever infinite, and files hold it all.

#![expect(clippy::unwrap_used, reason = "a test that unwraps nothing fails, as it should")]

use std::cell::Cell;
use std::ops::ControlFlow;
use std::sync::Arc;

use ndarray::Array2;
use proptest::prelude::*;
use proptest::test_runner::{Config as Runs, RngAlgorithm, TestRng, TestRunner};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

use strayd::model::{Model, Workspace, artifact};
use strayd::preprocess::Schema;
use strayd::record::RecordId;
use strayd::sae::{self, Activation, DecoderNorm, Kind, L0Form, Loss, Objective};
use strayd::train::{Admission, Config, Round, Rows, TrainError, fit, refit};

/// Rows that follow one hidden cause, with values missing, and as many gross ones as `gross` says.
fn rows(n_rows: usize, n_features: usize, gross: f64, seed: u64) -> Rows {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let mut values = Array2::zeros((n_rows, n_features));
    for mut row in values.rows_mut() {
        let cause: f32 = rng.random();
        for (j, value) in row.iter_mut().enumerate() {
            *value = match rng.random::<f64>() {
                missing if missing < 0.03 => f32::NAN,
                odd if odd < 0.03 + gross => [1e30, -4e7, 50.0][rng.random_range(0..3)],
                _ if j == 3 => 7.0,
                _ => cause * (j as f32 + 1.0) + 0.1 * rng.random::<f32>(),
            };
        }
    }
    let ids = (0..n_rows).map(|i| RecordId { partition: 0.into(), offset: i as i64 }).collect();
    Rows::new(values, ids)
}

fn fitted(rows: &Rows, sae: sae::Config) -> Result<Model, TrainError> {
    let schema = Schema::new((0..rows.values.ncols()).map(|j| format!("f{j}"))).unwrap();
    let config = Config { trial_steps: 15, steps: 40, sae, ..Config::default() };
    Ok(fit(Arc::new(schema), rows, &config, 3, &mut |_| ControlFlow::Continue(()))?.into_model(1, 0))
}

fn weights(model: &Model) -> impl Iterator<Item = f32> {
    let sae = &model.autoencoder;
    let hidden = sae.hidden.iter().flat_map(|layer| layer.weight.iter().chain(&layer.bias));
    let plain = sae.w_enc.iter().chain(&sae.b_enc).chain(&sae.w_dec).chain(&sae.b_dec).chain(&sae.threshold);
    plain.chain(hidden).copied()
}

fn scores(model: &Model, rows: &Rows) -> Vec<f64> {
    let mut workspace = Workspace::new();
    model.score(rows.values.view(), &mut workspace);
    workspace.z().to_vec()
}

#[test]
fn every_form_comes_back_from_its_files_bit_for_bit_and_goes_on() {
    let rows = rows(400, 6, 0.0, 5);
    let (mut dense, mut sparse) = (0.0, 0.0);
    for kind in Kind::ALL {
        for hidden in [vec![], vec![5, 4]] {
            let sae = sae::Config { kind, hidden, ..sae::Config::default() };
            let config = Config { round_steps: 20, sae: sae.clone(), ..Config::default() };
            let model = fitted(&rows, sae).unwrap();
            let dir = tempfile::tempdir().unwrap();
            let path = dir.path().join("1");
            artifact::save(&model, &path).unwrap();
            let back = artifact::load(&path).unwrap();
            assert_eq!(back, model, "{kind:?}");
            assert_eq!(scores(&back, &rows), scores(&model, &rows), "{kind:?}");
            assert_eq!(artifact::hash(&back), model.hash);
            let mut admission = Admission::after(&rows, &[]);
            let round =
                refit(Round::warm(&back, &rows, 3), &mut admission, &config, &mut |_| ControlFlow::Continue(()))
                    .unwrap();
            assert_eq!(round.autoencoder.kind, kind);
            match kind {
                Kind::Dense => dense = round.report.latents_active_mean,
                Kind::SatTopk => sparse = round.report.latents_active_mean,
                Kind::Batchtopk => assert!(round.autoencoder.topk_threshold > 0.0, "it was learnt"),
                _ => {}
            }
        }
    }
    assert!(sparse <= 6.0, "at most k latents are active: {sparse}, of dense {dense}");
}

#[test]
fn early_stopping_ends_before_the_last_step() {
    let rows = rows(300, 5, 0.0, 6);
    let schema = Arc::new(Schema::new(["a", "b", "c", "d", "e"]).unwrap());
    let n_reports = |early_stopping| {
        let sae = sae::Config { validate_every: 2, patience: 1, early_stopping, lr: 0.5, ..sae::Config::default() };
        let config = Config { trial_steps: 15, steps: 40, sae, ..Config::default() };
        let mut n_reports = 0;
        let mut count = |_| {
            n_reports += 1;
            ControlFlow::Continue(())
        };
        fit(Arc::clone(&schema), &rows, &config, 3, &mut count).unwrap();
        n_reports
    };
    assert!(n_reports(true) < n_reports(false) / 2, "at this rate nothing improves for long");
}

#[test]
fn topk_with_as_many_latents_as_features_is_refused() {
    let rows = rows(100, 4, 0.0, 7);
    let sae = sae::Config { kind: Kind::Topk, k: Some(4), ..sae::Config::default() };
    let message = fitted(&rows, sae.clone()).unwrap_err().to_string();
    assert!(message.starts_with("model.sae.k is 4 with 4 inputs") && message.contains("allow_large_k"), "{message}");
    assert!(fitted(&rows, sae::Config { allow_large_k: true, ..sae }).is_ok());
}

/// Any configuration that `check` accepts, within what a test has time for.
fn any_config() -> impl Strategy<Value = sae::Config> {
    let activations =
        [Activation::Relu, Activation::LeakyRelu, Activation::Tanh, Activation::Silu, Activation::Sigmoid];
    let form = (
        prop::sample::select(Kind::ALL.to_vec()),
        prop::option::of((1_usize..40).prop_flat_map(|m| (Just(m), 1..=m))),
        prop::collection::vec(1_usize..12, 0..3),
        prop::option::of(prop::sample::select(activations.to_vec())),
        any::<[bool; 6]>(),
    );
    let rates = (-4.0..0.0_f64, 0.0..=1.0_f64, 0.0..=1.0_f64, 0.0..=1.0_f64, 0.0..=1.0_f64);
    let noise = (1_usize..100, 0.0..0.95_f64, 0.0..0.95_f64, 1_u64..20, 0.01..=1.0_f64, 0.001..100.0_f64);
    let penalties = (0.0..10.0_f64, 0.0..10.0_f64, 0.001..0.999_f64, 0.0..10.0_f64, 0.001..10.0_f64, 0.0..10.0_f64);
    (form, rates, noise, penalties, 0.01..10.0_f64, 1_u64..200).prop_map(
        |(form, rates, noise, penalties, delta, dead)| {
            let (kind, sizes, hidden, activation, [tied, unit, stop, huber, nested, linear]) = form;
            let (lr, lr_warmup, lr_decay, lr_floor, decay) = rates;
            let (batch_rows, input_masking, dropout, validate_every, pca_variance, threshold) = noise;
            let (l1, kl, kl_rate, l0, bandwidth, aux) = penalties;
            sae::Config {
                kind,
                n_latents: sizes.map(|(m, _)| m),
                k: sizes.map(|(_, k)| k),
                allow_large_k: true,
                tied: tied && hidden.is_empty(),
                hidden,
                activation,
                decoder_norm: if unit { DecoderNorm::Unit } else { DecoderNorm::Free },
                lr: 10.0_f64.powf(lr),
                lr_warmup,
                lr_decay,
                lr_floor,
                weight_decay: Some(decay),
                batch_rows,
                input_masking,
                dropout,
                early_stopping: stop,
                validate_every,
                patience: 2,
                pca_variance,
                threshold,
                objective: Objective {
                    loss: if huber { Loss::Huber } else { Loss::Mse },
                    huber_delta: delta,
                    matryoshka: nested,
                    l1,
                    kl,
                    kl_rate,
                    l0,
                    l0_form: if linear { L0Form::Linear } else { L0Form::Quadratic },
                    bandwidth,
                    aux,
                    dead_rows: dead,
                },
            }
        },
    )
}

#[test]
fn no_configuration_gives_a_weight_or_a_score_that_is_not_finite() {
    const RUNS: u32 = 96;
    let runs = Runs { cases: RUNS, failure_persistence: None, ..Runs::default() };
    let mut runner = TestRunner::new_with_rng(runs, TestRng::deterministic_rng(RngAlgorithm::ChaCha));
    let n_models = Cell::new(0);
    let shapes = (60_usize..200, 1_usize..9, 0.0..0.05_f64, any::<u64>());
    let outcome = runner.run(&(any_config(), shapes), |(config, (n_rows, n_features, gross, seed))| {
        prop_assert_eq!(config.check(), Ok(()));
        let rows = rows(n_rows, n_features, gross, seed);
        match fitted(&rows, config) {
            Ok(model) => {
                n_models.set(n_models.get() + 1);
                prop_assert!(weights(&model).all(f32::is_finite), "a weight is not finite");
                for (z, row) in scores(&model, &rows).into_iter().zip(rows.values.rows()) {
                    let n_observed = row.iter().filter(|value| value.is_finite()).count();
                    prop_assert!(z.is_finite() || 2 * n_observed < row.len(), "{z} for {row}");
                }
            }
            Err(TrainError::TooFewRows { .. } | TrainError::NotFinite { .. }) => {}
            Err(error) => prop_assert!(false, "{error}"),
        }
        Ok(())
    });
    outcome.unwrap();
    assert!(n_models.get() > RUNS * 9 / 10, "only {} of {RUNS} gave a model", n_models.get());
}
