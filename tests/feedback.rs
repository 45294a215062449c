//! What people say has an effect: a false positive is learnt by the next round, and a true one is never learnt.

use std::ops::ControlFlow;
use std::sync::Arc;

use ndarray::{Array2, Axis, concatenate};
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use rand_distr::{Distribution, StandardNormal};

use strayd::model::Model;
use strayd::preprocess::Schema;
use strayd::record::RecordId;
use strayd::train::{Admission, Config, Opinions, Progress, Round, Rows, fit, refit};

const D: usize = 8;
const Q: f64 = 1e-3;
const N_HISTORY: usize = 3000;
/// Newer rows: enough that one odd row held out does not set the level at 1 in 1000.
const N_NEWER: usize = 12_000;
/// Rows of the pattern that people speak of, right after the newer ones.
const N_ODD: usize = 30;

fn ordinary(n_rows: usize, rng: &mut ChaCha8Rng) -> Array2<f32> {
    let mut normal = || -> f32 { StandardNormal.sample(rng) };
    let mut values = Array2::zeros((n_rows, D));
    for mut row in values.rows_mut() {
        let (a, b) = (normal(), normal());
        row.iter_mut().enumerate().for_each(|(j, value)| {
            *value = a * (j as f32).sin() + b * (j as f32).cos() + 0.2 * normal();
        });
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

/// A champion, its admission, newer rows, and odd rows that stand right after them.
fn stage() -> (Model, Admission, Rows, Rows) {
    let mut rng = ChaCha8Rng::seed_from_u64(4);
    let schema = Arc::new(Schema::new((0..D).map(|j| format!("f{j}"))).expect("eight names"));
    let history = rows_from(0, ordinary(N_HISTORY, &mut rng));
    let fitted = fit(schema, &history, &Config::default(), 1, &mut go_on).expect("there are enough rows");
    let admission = Admission::after(&history, &fitted.rejected);
    let newer = ordinary(N_NEWER, &mut rng);
    let mut odd = ordinary(N_ODD, &mut rng);
    odd.column_mut(2).mapv_inplace(|value| value + 8.0);
    odd.column_mut(5).mapv_inplace(|value| value - 8.0);
    let rows = rows_from(N_HISTORY, concatenate(Axis(0), &[newer.view(), odd.view()]).expect("equal widths"));
    (fitted.into_model(1, 0), admission, rows, rows_from(N_HISTORY + N_NEWER, odd))
}

/// The model after three rounds under `opinions`.
fn after_rounds(champion: &Model, mut admission: Admission, rows: &Rows, opinions: &Opinions) -> Model {
    let mut model = champion.clone();
    for version in 2..5 {
        let round = Round { opinions: Some(opinions), ..Round::warm(&model, rows, version) };
        let fitted = refit(round, &mut admission, &Config::default(), &mut go_on).expect("there are enough rows");
        model = fitted.into_model(version, 0);
    }
    model
}

#[test]
fn false_positives_are_ordinary_after_the_next_rounds_and_what_nobody_spoke_of_is_not() {
    let (champion, admission, rows, odd) = stage();
    assert!(champion.flagged(odd.values.view(), Q) >= N_ODD * 9 / 10, "they are anomalies at first");
    let silence = Opinions::none(D);
    let unsaid = after_rounds(&champion, admission.clone(), &rows, &silence);
    assert!(unsaid.flagged(odd.values.view(), Q) >= N_ODD * 9 / 10, "rounds alone don't learn them");
    let said = Opinions { ordinary: odd.clone(), ..silence };
    let told = after_rounds(&champion, admission, &rows, &said);
    let n_flagged = told.flagged(odd.values.view(), Q);
    assert!(n_flagged <= N_ODD / 10, "{n_flagged} of {N_ODD} are still flagged");
}

#[test]
fn a_true_positive_is_not_admitted_whatever_the_champion_thinks_of_it() {
    let (champion, mut admission, rows, _) = stage();
    let ordinary = rows_from(N_HISTORY, rows.values.slice(ndarray::s![..50, ..]).to_owned());
    let opinions = Opinions { anomalous: ordinary.clone(), ..Opinions::none(D) };
    let round = Round { opinions: Some(&opinions), ..Round::warm(&champion, &rows, 2) };
    let fitted = refit(round, &mut admission, &Config::default(), &mut go_on).expect("there are enough rows");
    assert!(ordinary.ids.iter().all(|id| fitted.rejected.contains(id)), "people's word stands above the champion's");
}
