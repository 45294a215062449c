//! Tests of the preprocessor: each kind by hand, there and back.

use ndarray::{Array2, array};

use super::*;
use crate::preprocess::Feature;

fn numeric(n: usize) -> Schema {
    Schema::new((0..n).map(|i| format!("f{i}"))).unwrap()
}

fn schema(kinds: Vec<Kind>) -> Schema {
    let feature = |(i, kind)| Feature { name: format!("f{i}"), kind };
    Schema::from_features(kinds.into_iter().enumerate().map(feature).collect()).unwrap()
}

/// Fits on rows that were all kept.
fn fit(schema: &Schema, raw: ArrayView2<'_, f32>) -> Preprocessor {
    Preprocessor::fit(schema, raw, raw)
}

fn transform(preprocessor: &Preprocessor, raw: &Array2<f32>) -> (Array2<f32>, Array2<f32>, Counts) {
    let shape = (raw.nrows(), preprocessor.n_inputs());
    let (mut out, mut mask) = (Array2::from_elem(shape, 9.0), Array2::from_elem(shape, 9.0));
    let counts = preprocessor.transform(raw.view(), out.view_mut(), mask.view_mut());
    (out, mask, counts)
}

fn categorical(list: &[&str]) -> Kind {
    Kind::Categorical { categories: list.iter().map(|category| (*category).to_owned()).collect() }
}

#[test]
fn z_scores_use_the_population_deviation_of_observed_values() {
    let fitted = fit(&numeric(2), array![[1.0, f32::NAN], [3.0, 5.0], [f32::NAN, 7.0]].view());
    assert_eq!((fitted.scalers()[0].mean, fitted.scalers()[0].std), (2.0, 1.0));
    let (out, mask, counts) = transform(&fitted, &array![[4.0, f32::INFINITY], [2.0, 6.0]]);
    assert_eq!(out, array![[2.0, 0.0], [0.0, 0.0]]);
    assert_eq!(mask, array![[1.0, 0.0], [1.0, 1.0]]);
    assert_eq!(counts, Counts { missing: 1, clipped: 0 });
    assert_eq!(fitted.expected(&numeric(2), 0, &[2.0, 0.0]), Value::Number(4.0));
}

#[test]
fn rows_that_are_not_contiguous_are_scaled_alike() {
    let values = Array2::from_shape_fn((40, 33), |(i, j)| match (i * 7 + j) % 19 {
        0 => f32::NAN,
        1 => f32::NEG_INFINITY,
        2 => 1e9,
        _ => ((i * 31 + j * 17) % 101) as f32 * 0.37 - 9.0,
    });
    let kept = values.mapv(|value| if value.abs() < 1e6 { value } else { f32::NAN });
    let fitted = fit(&numeric(33), kept.view());
    let (plain, mask, counts) = transform(&fitted, &values);
    let (mut out, mut other) = (Array2::zeros(values.dim()), Array2::zeros(values.dim()));
    let columns_first = values.t().as_standard_layout().into_owned();
    assert_eq!(fitted.transform(columns_first.t(), out.view_mut(), other.view_mut()), counts);
    assert_eq!((out, other), (plain, mask), "a division says the same as a product with the inverse");
    assert!(counts.missing > 0 && counts.clipped > 0);
}

#[test]
fn the_largest_floats_give_finite_inputs() {
    for kind in [Kind::Numeric, Kind::Log, Kind::Cyclic { period: 24.0 }] {
        let schema = schema(vec![kind, Kind::Numeric]);
        let fitted = fit(&schema, array![[f32::MAX, 1.0], [f32::MIN, 1.0]].view());
        let (out, _, counts) = transform(&fitted, &array![[f32::MAX, f32::MAX], [f32::MIN, f32::MIN]]);
        assert!(out.iter().all(|z| z.is_finite()), "{out}");
        assert_eq!(counts, Counts { missing: 0, clipped: 2 });
        assert_eq!(out[[0, fitted.n_inputs() - 1]], 50.0);
        let Value::Number(back) = fitted.expected(&schema, 0, &[50.0; 3]) else { panic!("a number") };
        assert!(back.is_finite());
    }
}

#[test]
fn constant_and_unseen_features_are_scaled_by_one() {
    let fitted = fit(&numeric(2), array![[1e6, f32::NAN], [1e6, f32::NAN]].view());
    assert!(fitted.scalers()[0].constant && fitted.scalers()[1].constant);
    assert_eq!(fitted.scalers()[1].n_observed, 0);
    let (out, mask, _) = transform(&fitted, &array![[1e6 + 3.0, 2.0]]);
    assert_eq!((out, mask), (array![[3.0, 2.0]], array![[1.0, 1.0]]));
}

#[test]
fn categories_share_one_weight_and_are_scaled_by_their_probability() {
    let schema = schema(vec![categorical(&["tcp", "udp"]), Kind::Numeric]);
    let fitted = fit(&schema, array![[0.0, 1.0], [0.0, 3.0], [1.0, 1.0], [1.0, 3.0]].view());
    assert_eq!(fitted.input_names(&schema), ["f0=tcp", "f0=udp", "f0=other", "f1"]);
    assert_eq!(fitted.columns(), [0..3, 3..4]);
    assert_eq!(fitted.column_weights(), [1.0 / 3.0, 1.0 / 3.0, 1.0 / 3.0, 1.0]);
    // `other` was never seen in four rows: its probability is an eighth of one, z = ±√7.
    let root = 7f32.sqrt();
    let (out, mask, counts) = transform(&fitted, &array![[1.0, 2.0], [2.0, 2.0], [77.0, 2.0], [f32::NAN, 2.0]]);
    let wanted =
        array![[-1.0, 1.0, -1.0 / root, 0.0], [-1.0, -1.0, root, 0.0], [-1.0, -1.0, root, 0.0], [0.0, 0.0, 0.0, 0.0]];
    assert!((&out - &wanted).iter().all(|d| d.abs() < 1e-6), "{out}");
    assert_eq!(mask.row(3), array![0.0, 0.0, 0.0, 1.0]);
    assert_eq!(counts, Counts { missing: 1, clipped: 0 });
    for (i, category) in ["tcp", "udp", "other"].into_iter().enumerate() {
        let (out, ..) = transform(&fitted, &array![[i as f32, 1.0]]);
        let recons = out.row(0).to_vec();
        assert_eq!(fitted.expected(&schema, 0, &recons), Value::Text(category.into()));
        assert_eq!(fitted.actual(&schema, 0, i as f32), Some(Value::Text(category.into())));
    }
    assert_eq!(fitted.actual(&schema, 0, f32::NAN), None);
}

#[test]
fn a_dominant_category_is_cut_where_it_is_missed() {
    let schema = schema(vec![categorical(&["tcp"])]);
    let fitted = fit(&schema, Array2::zeros((5000, 1)).view());
    let (out, _, counts) = transform(&fitted, &array![[1.0]]);
    assert_eq!((out, counts.clipped), (array![[-50.0, 50.0]], 1));
    let (out, _, counts) = transform(&fitted, &array![[0.0]]);
    assert!(out.iter().all(|z| z.abs() < 0.011) && counts.clipped == 0, "{out}");
}

#[test]
fn booleans_are_one_input_that_is_scaled_by_its_probability() {
    let schema = schema(vec![Kind::Boolean]);
    let fitted = fit(&schema, array![[0.0], [0.0], [0.0], [1.0], [f32::NAN]].view());
    let (out, ..) = transform(&fitted, &array![[1.0], [0.0]]);
    assert!((out[[0, 0]] - 3f32.sqrt()).abs() < 1e-6 && (out[[1, 0]] + 1.0 / 3f32.sqrt()).abs() < 1e-6, "{out}");
    assert_eq!(fitted.expected(&schema, 0, &[0.5]), Value::Boolean(false));
    assert_eq!(fitted.expected(&schema, 0, &[1.5]), Value::Boolean(true));
}

#[test]
fn logs_are_z_scores_of_sign_times_log() {
    let schema = schema(vec![Kind::Log]);
    let raw = array![[0.0], [(1f32.exp() - 1.0)], [-(1f32.exp() - 1.0)]];
    let fitted = fit(&schema, raw.view());
    let std = (2.0f64 / 3.0).sqrt();
    assert!((fitted.scalers()[0].std - std).abs() < 1e-6 && fitted.scalers()[0].mean.abs() < 1e-6);
    let (out, ..) = transform(&fitted, &array![[1000.0]]);
    assert!((f64::from(out[[0, 0]]) - 1001f64.ln() / std).abs() < 1e-4);
    let Value::Number(back) = fitted.expected(&schema, 0, &[out[[0, 0]]]) else { panic!("a number") };
    assert!((back - 1000.0).abs() < 0.1, "{back}");
}

#[test]
fn the_end_of_a_cycle_is_near_its_beginning() {
    let schema = schema(vec![Kind::Cyclic { period: 24.0 }]);
    let hours = Array2::from_shape_fn((24, 1), |(i, _)| i as f32);
    let fitted = fit(&schema, hours.view());
    assert_eq!(fitted.input_names(&schema), ["f0 sin", "f0 cos"]);
    assert_eq!(fitted.column_weights(), [0.5, 0.5]);
    let (out, ..) = transform(&fitted, &array![[23.5], [0.5], [12.0], [24.5], [-0.5]]);
    let distance = |a: usize, b: usize| (&out.row(a) - &out.row(b)).mapv(|d| d * d).sum();
    assert!(distance(0, 1) < 0.2 && distance(0, 2) > 7.0, "{out}");
    assert!(distance(1, 3) < 1e-9 && distance(0, 4) < 1e-9);
    for hour in [0.0, 0.25, 5.5, 12.0, 23.75] {
        let (out, ..) = transform(&fitted, &array![[hour]]);
        let Value::Number(back) = fitted.expected(&schema, 0, &out.row(0).to_vec()) else { panic!("a number") };
        assert!((0.0..24.0).contains(&back) && (back - hour).abs().min(24.0 - (back - hour).abs()) < 1e-3, "{back}");
    }
}

#[test]
fn an_indicator_is_observed_where_its_value_is_missing() {
    let schema = schema(vec![Kind::Numeric, categorical(&["a"])]).with_missing_indicator();
    let fitted = fit(&schema, array![[1.0, 0.0], [3.0, 0.0], [f32::NAN, 1.0], [2.0, 1.0]].view());
    assert_eq!(fitted.input_names(&schema), ["f0", "f0 missing", "f1=a", "f1=other", "f1 missing"]);
    let (out, mask, counts) = transform(&fitted, &array![[f32::NAN, 0.0]]);
    assert_eq!(mask.row(0), array![0.0, 1.0, 1.0, 1.0, 1.0]);
    assert!((out[[0, 1]] - 3f32.sqrt()).abs() < 1e-6, "{out}");
    assert_eq!(counts.missing, 1);
    let weights = fitted.column_weights();
    let indicators: f32 = weights[1] + weights[4];
    assert!(indicators < 0.5 * weights.iter().sum::<f32>(), "a row of nothing stays too little");
}

#[test]
fn what_is_stored_comes_back_and_numbers_are_stored_as_ever() {
    let kinds = vec![Kind::Numeric, Kind::Log, Kind::Boolean, categorical(&["a"]), Kind::Cyclic { period: 7.0 }];
    let raw = array![[1.0, 2.0, 0.0, 0.0, 1.0], [2.0, 9.0, 1.0, 1.0, 4.0]];
    for schema in [schema(kinds.clone()), schema(kinds).with_missing_indicator()] {
        let fitted = fit(&schema, raw.view());
        let text = serde_json::to_string(&fitted).unwrap();
        let back: Preprocessor = serde_json::from_str(&text).unwrap();
        assert_eq!(back, fitted);
        assert!(back.fits(&schema) && !back.fits(&numeric(5)));
        let cut = text.replacen("\"log\"", "\"log\",\"number\"", 1);
        assert!(serde_json::from_str::<Preprocessor>(&cut).is_err(), "an input without a scaler");
    }
    let plain = serde_json::to_value(fit(&numeric(5), raw.view())).unwrap();
    assert_eq!(plain.as_object().unwrap().keys().collect::<Vec<_>>(), ["scalers"]);
}

#[test]
fn a_category_that_was_left_out_keeps_its_share() {
    let schema = schema(vec![categorical(&["tcp", "udp"]), Kind::Boolean, Kind::Numeric]);
    let all = array![[0.0, 1.0, 1.0], [0.0, 1.0, 3.0], [0.0, 1.0, 1.0], [1.0, 0.0, 9.0]];
    let kept = all.slice(ndarray::s![..3, ..]);
    let fitted = Preprocessor::fit(&schema, kept, all.view());
    assert_eq!((fitted.scalers()[1].mean, fitted.scalers()[3].mean), (0.25, 0.75));
    assert_eq!(fitted.scalers()[4], fit(&numeric(1), kept.slice(ndarray::s![.., 2..])).scalers()[0]);
}
