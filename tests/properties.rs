//! What must not matter to a score: the rows that share its batch, their order, and how many of them there are.
//!
//! A batch is what happened to be there when a lane polled, so a score that depended on it could never be replayed. The
//! order of features, and scale and shift of a number, are held to in `kinds.rs`; equal bytes in `artifact.rs`.

#![expect(clippy::unwrap_used, reason = "a test that unwraps nothing fails, as it should")]

use std::ops::ControlFlow;
use std::sync::{Arc, OnceLock};

use ndarray::{Array2, ArrayView2, Axis, concatenate};
use proptest::prelude::*;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

use strayd::model::{Model, Workspace};
use strayd::preprocess::Schema;
use strayd::record::RecordId;
use strayd::train::{Config, Rows, fit};

const N_FEATURES: usize = 7;

/// Rows of two causes; one in `one_in_odd` has a value far out.
fn rows(n: usize, seed: u64, one_in_odd: u32) -> Array2<f32> {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let mut values = Array2::zeros((n, N_FEATURES));
    for mut row in values.rows_mut() {
        let causes = [rng.random_range(-1.0..1.0_f32), rng.random_range(-1.0..1.0_f32)];
        for (j, value) in row.iter_mut().enumerate() {
            let of_causes = causes[0] * (j as f32).sin() + causes[1] * (j as f32).cos();
            *value = 10.0 * of_causes + rng.random_range(-0.5..0.5_f32);
        }
        if one_in_odd > 0 && rng.random_ratio(1, one_in_odd) {
            row[rng.random_range(0..N_FEATURES)] += rng.random_range(-40.0..40.0_f32);
        }
    }
    values
}

fn model() -> &'static Model {
    static MODEL: OnceLock<Model> = OnceLock::new();
    MODEL.get_or_init(|| {
        strayd::blas::init();
        let values = rows(800, 1, 0);
        let ids = (0..800).map(|offset| RecordId { partition: 0.into(), offset }).collect();
        let schema = Arc::new(Schema::new((0..N_FEATURES).map(|j| format!("f{j}"))).unwrap());
        let go_on = &mut |_| ControlFlow::Continue(());
        let fitted = fit(schema, &Rows::new(values, ids), &Config::default(), 3, go_on).unwrap();
        let model = fitted.into_model(1, 0);
        assert!(model.members.is_some(), "the default has members beside the autoencoder");
        model
    })
}

fn scores(values: ArrayView2<'_, f32>) -> Vec<f64> {
    let mut workspace = Workspace::new();
    model().score(values, &mut workspace);
    workspace.z().to_vec()
}

/// Sums of other orders round differently; a verdict never hangs on so little.
fn assert_close(a: &[f64], b: &[f64]) -> Result<(), TestCaseError> {
    prop_assert_eq!(a.len(), b.len());
    for (i, (a, b)) in a.iter().zip(b).enumerate() {
        prop_assert!((a - b).abs() <= 1e-3 * (1.0 + a.abs()), "row {}: {} and {}", i, a, b);
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    #[test]
    fn the_order_of_rows_in_a_batch_leaves_their_scores(
        seed in 0..1000_u64,
        order in Just((0..40_usize).collect::<Vec<_>>()).prop_shuffle(),
    ) {
        let values = rows(40, seed, 4);
        let (plain, shuffled) = (scores(values.view()), scores(values.select(Axis(0), &order).view()));
        assert_close(&order.iter().map(|&i| plain[i]).collect::<Vec<_>>(), &shuffled)?;
    }

    #[test]
    fn a_batch_of_one_scores_as_a_batch_of_many(seed in 0..1000_u64) {
        let values = rows(9, seed, 3);
        let singly: Vec<f64> = values.axis_chunks_iter(Axis(0), 1).flat_map(scores).collect();
        assert_close(&scores(values.view()), &singly)?;
    }

    /// So a round scores its rows; the last batch has fewer.
    #[test]
    fn rows_in_many_batches_score_as_in_one_and_keep_their_places(seed in 0..1000_u64, n in 0..200_usize) {
        let values = rows(n, seed, 4);
        let mut in_batches = vec![f64::NAN; n];
        model().score_all(values.view(), |first, workspace| {
            in_batches[first..][..workspace.z().len()].copy_from_slice(workspace.z());
        });
        prop_assert!(in_batches.iter().all(|z| z.is_finite()), "every row is scored");
        assert_close(&scores(values.view()), &in_batches)?;
    }

    #[test]
    fn duplicates_in_a_batch_score_alike_and_leave_the_others(seed in 0..1000_u64, n in 1..5_usize) {
        let values = rows(12, seed, 4);
        let again = values.select(Axis(0), &vec![5; n]);
        let all = scores(concatenate(Axis(0), &[values.view(), again.view()]).unwrap().view());
        assert_close(&scores(values.view()), &all[..12])?;
        assert_close(&vec![all[5]; n], &all[12..])?;
    }

    /// A row that lacks a value sends the whole batch another way through the memory.
    #[test]
    fn a_mask_of_all_ones_is_no_mask(seed in 0..1000_u64, hidden in 0..N_FEATURES) {
        let values = rows(10, seed, 4);
        let mut lacking = rows(1, seed + 7, 0);
        lacking[[0, hidden]] = f32::NAN;
        let all = scores(concatenate(Axis(0), &[values.view(), lacking.view()]).unwrap().view());
        assert_close(&scores(values.view()), &all[..10])?;
        prop_assert!(all[10].is_finite());
    }

    #[test]
    fn contributions_and_the_unexplained_rest_sum_to_one(seed in 0..1000_u64, top_n in 0..9_usize) {
        let values = rows(6, seed, 2);
        let mut workspace = Workspace::new();
        model().score(values.view(), &mut workspace);
        for (i, row) in values.rows().into_iter().enumerate() {
            let why = model().explain(row, &workspace, i, top_n);
            prop_assert!(why.features.iter().all(|feature| (0.0..=1.0).contains(&feature.contribution)));
            let listed: f64 = why.features.iter().map(|feature| feature.contribution).sum();
            prop_assert!((listed + why.unexplained - 1.0).abs() < 1e-9, "{} and {}", listed, why.unexplained);
        }
    }
}
