//! Features of every kind: stored and loaded, with the weights and symmetries they must have, and from a CSV file of
//! strings, booleans and hours to the reasons of an anomaly.

#![expect(clippy::unwrap_used, reason = "a test that unwraps nothing fails, as it should")]

use std::f32::consts::TAU;
use std::fmt::Write as _;
use std::ops::ControlFlow;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;

use ndarray::{Array2, ArrayView2, Axis};
use proptest::prelude::*;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde_json::Value;

use strayd::app;
use strayd::config::{Config as Configuration, RawConfig};
use strayd::history::{Head, TableHistory};
use strayd::model::{Model, Workspace, artifact};
use strayd::pipeline;
use strayd::pipeline::trainer::{Ticked, Trainer, TrainerError};
use strayd::preprocess::{Feature, Kind, Preprocessor, Schema};
use strayd::record::{RecordId, Value as Said};
use strayd::registry::Directory;
use strayd::score::mean_squared_residuals;
use strayd::shutdown::Shutdown;
use strayd::telemetry::Metrics;
use strayd::telemetry::health::Health;
use strayd::train::{Config, Rows, fit};

const PROTOCOLS: [&str; 3] = ["tcp", "udp", "icmp"];

fn kinds() -> Vec<Kind> {
    let categories = PROTOCOLS.map(str::to_owned).to_vec();
    let categorical = Kind::Categorical { categories };
    vec![categorical, Kind::Numeric, Kind::Boolean, Kind::Cyclic { period: 24.0 }, Kind::Log]
}

fn schema(kinds: Vec<Kind>) -> Schema {
    let feature = |(i, kind)| Feature { name: format!("f{i}"), kind };
    Schema::from_features(kinds.into_iter().enumerate().map(feature).collect()).unwrap()
}

/// One network flow: its size and whether it is up follow its protocol, its load the hour.
fn flow(rng: &mut ChaCha8Rng) -> [f32; 5] {
    let protocol = rng.random_range(0..3);
    let hour: f32 = rng.random_range(0.0..24.0);
    let noise = |rng: &mut ChaCha8Rng| rng.random_range(-0.3..0.3f32);
    let size = 10.0 * (protocol + 1) as f32 + 5.0 * noise(rng);
    let bytes = (2.0 * (TAU * hour / 24.0).sin() + 5.0 + noise(rng)).exp();
    [protocol as f32, size, f32::from(u8::from(protocol != 2)), hour, bytes]
}

fn rows(n_rows: usize) -> Rows {
    let mut rng = ChaCha8Rng::seed_from_u64(5);
    let mut values = Array2::zeros((n_rows, 5));
    for mut row in values.rows_mut() {
        row.assign(&ndarray::arr1(&flow(&mut rng)));
        if rng.random::<f32>() < 0.05 {
            row[rng.random_range(0..5)] = f32::NAN;
        }
    }
    Rows::new(values, (0..n_rows as i64).map(|offset| RecordId { partition: 0.into(), offset }).collect())
}

fn fitted(schema: Schema, rows: &Rows) -> Model {
    let config = Config { trial_steps: 60, steps: 200, ..Config::default() };
    fit(Arc::new(schema), rows, &config, 3, &mut |_| ControlFlow::Continue(())).unwrap().into_model(7, 1234)
}

fn z(model: &Model, values: &Array2<f32>) -> Vec<f64> {
    let mut workspace = Workspace::new();
    model.score(values.view(), &mut workspace);
    workspace.z().to_vec()
}

#[test]
fn a_model_of_every_kind_comes_back_bit_for_bit() {
    let rows = rows(600);
    for schema in [schema(kinds()), schema(kinds()).with_missing_indicator()] {
        let model = fitted(schema, &rows);
        let dir = tempfile::tempdir().unwrap();
        artifact::save(&model, &dir.path().join("7")).unwrap();
        let back = artifact::load(&dir.path().join("7")).unwrap();
        assert_eq!(back, model);
        let bits = |model: &Model| z(model, &rows.values).into_iter().map(f64::to_bits).collect::<Vec<_>>();
        assert_eq!(bits(&model), bits(&back));
        let other = Schema::new((0..5).map(|i| format!("f{i}"))).unwrap();
        let refused = model.check_schema(&other).unwrap_err().to_string();
        assert!(refused.contains("`f0` is categorical with 3 known values in the model and numeric"), "{refused}");
    }
}

#[test]
fn a_model_whose_inputs_do_not_follow_its_schema_is_refused() {
    let model = fitted(schema(kinds()), &rows(600));
    let mut broken = model.clone();
    broken.schema = Arc::new(schema(vec![Kind::Numeric; 5]));
    let refused = artifact::decode(&artifact::encode(&broken)).unwrap_err().to_string();
    assert!(refused.contains("its sizes or its schema don't agree"), "{refused}");
}

#[test]
fn a_wrong_category_is_the_reason_and_latents_are_named_by_inputs() {
    let rows = rows(1200);
    let model = fitted(schema(kinds()), &rows);
    let mut workspace = Workspace::new();
    // All but the protocol says icmp.
    let strange = ndarray::arr2(&[[0.0, 30.0, 0.0, 6.0, (7f32).exp()]]);
    model.score(strange.view(), &mut workspace);
    let limit = model.calibration.tail.z_at(1e-2);
    assert!(workspace.z()[0] > limit, "{} is not above {limit}", workspace.z()[0]);
    let why = model.explain(strange.row(0), &workspace, 0, 5);
    let names: Vec<&str> = why.features.iter().map(|feature| feature.name.as_str()).collect();
    let mut different = names.clone();
    different.sort_unstable();
    different.dedup();
    assert_eq!(names.len(), different.len(), "a feature is listed once: {names:?}");
    let sum: f64 = why.features.iter().map(|feature| feature.contribution).sum();
    assert!((sum + why.unexplained - 1.0).abs() < 1e-9);
    let protocol = why.features.iter().find(|feature| feature.name == "f0").unwrap();
    assert_eq!(protocol.actual, Some(Said::Text("tcp".into())));
    assert!(model.cards.latents.iter().any(|card| card.name.contains("f0=icmp")), "{:?}", model.cards.latents);
}

#[test]
fn scale_and_shift_of_a_number_leave_the_verdicts() {
    let rows = rows(600);
    let before = z(&fitted(schema(kinds()), &rows), &rows.values);
    let mut moved = rows.values.clone();
    moved.column_mut(1).mapv_inplace(|value| 4.0 * value);
    let scaled = Rows::new(moved.clone(), rows.ids.clone());
    // A power of two costs no digit: the same model to the bit.
    assert_eq!(bits(&z(&fitted(schema(kinds()), &scaled), &moved)), bits(&before));
    moved.column_mut(1).mapv_inplace(|value| value + 64.0);
    let shifted = Rows::new(moved.clone(), rows.ids.clone());
    let model = fitted(schema(kinds()), &shifted);
    let limit = model.calibration.tail.z_at(1e-2);
    let after = z(&model, &moved);
    let differ = before.iter().zip(&after).filter(|(a, b)| (**a > limit) != (**b > limit)).count();
    assert!(differ * 100 <= before.len(), "{differ} of {} verdicts differ", before.len());
}

fn bits(z: &[f64]) -> Vec<u64> {
    z.iter().map(|z| z.to_bits()).collect()
}

/// Fits on rows that were all kept.
fn whole(schema: &Schema, rows: ArrayView2<'_, f32>) -> Preprocessor {
    Preprocessor::fit(schema, rows, rows)
}

fn transformed(preprocessor: &Preprocessor, raw: &Array2<f32>) -> (Array2<f32>, Array2<f32>) {
    let zeros = || Array2::zeros((raw.nrows(), preprocessor.n_inputs()));
    let (mut x, mut mask) = (zeros(), zeros());
    preprocessor.transform(raw.view(), x.view_mut(), mask.view_mut());
    (x, mask)
}

/// The score of rows that are reconstructed as zeros.
fn plain_scores(preprocessor: &Preprocessor, raw: &Array2<f32>) -> Vec<f64> {
    let (x, mask) = transformed(preprocessor, raw);
    let mut scores = Vec::new();
    let recons = Array2::zeros(x.dim());
    mean_squared_residuals(x.view(), recons.view(), mask.view(), preprocessor.column_weights(), &mut scores);
    scores
}

proptest! {
    #[test]
    fn the_order_of_features_leaves_the_scores(order in Just((0..5usize).collect::<Vec<_>>()).prop_shuffle(), indicator: bool) {
        let rows = rows(80);
        let with = |schema: Schema| if indicator { schema.with_missing_indicator() } else { schema };
        let before = whole(&with(schema(kinds())), rows.values.view());
        let permuted = rows.values.select(Axis(1), &order);
        let after = whole(&with(schema(order.iter().map(|i| kinds()[*i].clone()).collect())), permuted.view());
        for (a, b) in plain_scores(&before, &rows.values).iter().zip(plain_scores(&after, &permuted)) {
            prop_assert!((a - b).abs() <= 1e-4 * a.abs() || a.is_nan() && b.is_nan(), "{a} {b}");
        }
    }

    #[test]
    fn the_inputs_of_a_feature_weigh_as_one_and_are_finite(n_known in 1usize..=32, code in 0f32..40.0, period in 0.01f64..1e6) {
        let categories = (0..n_known).map(|i| i.to_string()).collect();
        let kinds = vec![Kind::Categorical { categories }, Kind::Cyclic { period }, Kind::Boolean, Kind::Log, Kind::Numeric];
        let raw = Array2::from_shape_fn((40, 5), |(i, j)| if j == 2 { (i % 2) as f32 } else { (i % (n_known + 3)) as f32 });
        let schema = schema(kinds);
        let preprocessor = whole(&schema, raw.view());
        for columns in preprocessor.columns() {
            let sum: f32 = preprocessor.column_weights()[columns.clone()].iter().sum();
            prop_assert!((sum - 1.0).abs() < 1e-5);
        }
        let (x, mask) = transformed(&preprocessor, &ndarray::arr2(&[[code.floor(), code, 1.0, code, f32::NAN]]));
        prop_assert!(x.iter().all(|z| z.is_finite() && z.abs() <= 50.0));
        prop_assert_eq!(mask.sum(), (preprocessor.n_inputs() - 1) as f32);
        // A feature that is reconstructed exactly is expected to be what it was.
        let Said::Text(category) = preprocessor.expected(&schema, 0, x.as_slice().unwrap()) else { panic!("text") };
        let wanted = if (code as usize) < n_known { (code as usize).to_string() } else { "other".to_owned() };
        prop_assert_eq!(category, wanted);
    }
}

fn strayd(dir: &Path, args: &[&str]) -> String {
    let output = Command::new(env!("CARGO_BIN_EXE_strayd")).args(args).current_dir(dir).output().unwrap();
    assert!(output.status.success(), "{args:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// A file of flows in which one in fifty is planted, after the first thousand: its protocol is another one's.
fn file() -> String {
    let mut rng = ChaCha8Rng::seed_from_u64(9);
    let mut text = "proto,size,up,hour,bytes,label\n".to_owned();
    for i in 0..2000 {
        let [protocol, size, up, hour, bytes] = flow(&mut rng);
        let planted = i > 1000 && i % 50 == 0;
        let protocol = if planted { (protocol as usize + 1) % 3 } else { protocol as usize };
        let (name, up) = (PROTOCOLS[protocol], up > 0.0);
        writeln!(text, "{name},{size},{up},{hour},{bytes},{}", u8::from(planted)).unwrap();
    }
    text
}

#[test]
fn a_file_of_every_kind_is_trained_on_scored_evaluated_and_explained() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("flows.csv"), file()).unwrap();
    let toml = "[schema]\nfeatures = [{ name = \"hour\", kind = \"cyclic\", period = 24.0 }, { name = \"bytes\", kind = \"log\" }]\n\
                [model]\ntrial_steps = 100\nsteps = 400\n";
    std::fs::write(dir.path().join("strayd.toml"), toml).unwrap();
    let run = |args: &[&str]| strayd(dir.path(), &[args, &["--config", "strayd.toml"]].concat());

    let said = run(&["train", "flows.csv", "--out", "model", "--label", "label", "--rows", "1000"]);
    for kind in
        ["proto (categorical with 3 known values)", "up (boolean)", "hour (cyclic with period 24)", "bytes (log)"]
    {
        assert!(said.contains(&format!("feature {kind}")), "{said}");
    }
    let scored = run(&["score", "flows.csv", "--model", "model", "--label", "label"]);
    let mut ratios: Vec<(f64, u64)> = scored
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).unwrap())
        .map(|row| (row["score"]["ratio"].as_f64().unwrap(), row["source"]["offset"].as_u64().unwrap()))
        .collect();
    assert_eq!(ratios.len(), 2000);
    ratios.sort_by(|a, b| b.0.total_cmp(&a.0));
    let n_found = ratios[..19].iter().filter(|(_, offset)| *offset > 1000 && offset % 50 == 0).count();
    assert!(n_found >= 17, "{n_found} of 19 planted rows are on top: {:?}", &ratios[..25]);

    let why: Value = serde_json::from_str(&run(&[
        "explain",
        "flows.csv",
        "--model",
        "model",
        "--label",
        "label",
        "--row",
        "1500",
        "--json",
    ]))
    .unwrap();
    let published = include_str!("../docs/schema/anomaly.json");
    let published = jsonschema::validator_for(&serde_json::from_str(published).unwrap()).unwrap();
    assert!(published.is_valid(&why), "{why}");
    let features = why["features"].as_array().unwrap();
    let of = |name: &str| features.iter().find(|feature| feature["name"] == name);
    let protocol = of("proto").unwrap();
    assert!(protocol["actual"].is_string() && protocol["expected"].is_string(), "{protocol}");
    assert!(of("up").is_none_or(|up| up["actual"].is_boolean()), "{why}");
    assert!(features.iter().all(|feature| !feature["name"].as_str().unwrap().contains(['=', ' '])), "{why}");

    let eval = ["eval", "flows.csv", "--warmup", "800", "--json", "--no-retrain"];
    let found: Value = serde_json::from_str(&run(&eval)).unwrap();
    assert!(found["auc_roc"].as_f64().unwrap() > 0.99, "{found}");
}

#[test]
fn other_commands_read_and_write_kinds_or_say_that_they_can_not() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("flows.csv"), file()).unwrap();
    let run = |args: &[&str]| strayd(dir.path(), args);
    let refused = |args: &[&str]| {
        let output = Command::new(env!("CARGO_BIN_EXE_strayd")).args(args).current_dir(dir.path()).output().unwrap();
        assert!(!output.status.success(), "{args:?}");
        String::from_utf8_lossy(&output.stderr).into_owned()
    };
    run(&["train", "flows.csv", "--out", "model", "--label", "label"]);
    let encode = ["encode", "flows.csv", "--model", "model", "--label", "label", "--reconstruct"];
    let printed = run(&encode);
    let mut lines = printed.lines().zip(file().lines().map(str::to_owned).collect::<Vec<_>>());
    assert_eq!(lines.next().unwrap().0, "proto,size,up,hour,bytes");
    let alike = lines.clone().filter(|(recons, row)| recons.split(',').next() == row.split(',').next()).count();
    assert!(alike > 1800, "{alike} of 2000 rows keep their protocol");
    assert!(lines.all(|(recons, _)| ["true", "false"].contains(&recons.split(',').nth(2).unwrap())));
    let why = refused(&[&encode[..], &["--out", "recons.npz"]].concat());
    assert!(why.contains("feature `proto` is categorical"), "{why}");
    for format in ["saelens", "onnx", "npz"] {
        let why = refused(&["export", "--model", "model", "--format", format, "--out", "out", "--force"]);
        assert!(why.contains("feature proto (categorical with 3 known values)"), "{why}");
    }
    let plot = ["models", "plot", "--model", "model", "--data", "flows.csv", "--label", "label", "--out", "model.svg"];
    run(&plot);
    assert!(std::fs::read_to_string(dir.path().join("model.svg")).unwrap().starts_with("<svg"));
}

#[test]
fn a_word_where_the_model_wants_a_number_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let numbers: String = (0..300).map(|i| format!("{},{}\n", i % 7, i % 5)).collect();
    std::fs::write(dir.path().join("numbers.csv"), format!("a,b\n{numbers}")).unwrap();
    std::fs::write(dir.path().join("words.csv"), "a,b\n1,high\n2,low\n").unwrap();
    let quick = ["--set", "model.steps=20", "--set", "model.trial_steps=10"];
    strayd(dir.path(), &[&["train", "numbers.csv", "--out", "model"][..], &quick].concat());
    let args = ["score", "words.csv", "--model", "model"];
    let output = Command::new(env!("CARGO_BIN_EXE_strayd")).args(args).current_dir(dir.path()).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(!output.status.success());
    assert!(said.contains("column `b` holds text such as `high`, and the feature is not categorical"), "{said}");
}

/// A trainer over a history of 600 flows as JSON objects, with its models in `path`.
fn trainer(path: &Path, schema: Value) -> (Trainer, pipeline::Shared) {
    let mut rng = ChaCha8Rng::seed_from_u64(6);
    let mut payload = |i: usize| {
        let [protocol, size, up, hour, bytes] = flow(&mut rng);
        let (name, up) = (PROTOCOLS[protocol as usize], up > 0.0);
        format!(r#"{{"proto":"{name}","size":{size},"up":{up},"hour":{hour},"bytes":{bytes},"id":"flow-{i}","site":"north"}}"#)
            .into_bytes()
    };
    let payloads: Vec<Vec<u8>> = (0..600).map(&mut payload).collect();
    let mut raw = RawConfig { schema: serde_json::from_value(schema).unwrap(), ..RawConfig::default() };
    raw.input.topic = "flows".into();
    raw.registry.path = path.to_owned();
    raw.history.rows_min = 600;
    (raw.model.trial_steps, raw.model.steps) = (20, 40);
    let config = Configuration::check(raw).unwrap();
    let shared = app::shared(&config, Arc::new(Metrics::new()), Health::new(1));
    let head = Head::default();
    head.advance_to(600);
    let history = Box::new(TableHistory::new("flows", Arc::new(payloads), head));
    let registry = Box::new(Directory::new(&config.registry));
    (Trainer::new(shared.clone(), history, registry, app::settings(&config), Shutdown::default()), shared)
}

#[test]
fn a_schema_is_learnt_with_kinds_and_a_stored_model_keeps_them() {
    let dir = tempfile::tempdir().unwrap();
    let (mut first, shared) = trainer(dir.path(), serde_json::json!({}));
    assert_eq!(first.tick().unwrap(), Ticked::Promoted(1));
    let schema = Arc::clone(&shared.cell.load().unwrap().schema);
    let words: Vec<String> = schema.features().iter().map(ToString::to_string).collect();
    let wanted = [
        "proto (categorical with 3 known values)",
        "size (numeric)",
        "up (boolean)",
        "hour (numeric)",
        "bytes (numeric)",
    ];
    assert_eq!(words, wanted, "neither an id nor what never changes is a feature");

    let names = ["proto", "size", "up", "hour", "bytes"];
    let (mut same, shared) = trainer(dir.path(), serde_json::json!({ "features": names }));
    assert_eq!(same.tick().unwrap(), Ticked::Promoted(1));
    assert_eq!(shared.cell.load().unwrap().schema, schema);

    let cyclic = serde_json::json!({"name": "hour", "kind": "cyclic", "period": 24});
    let wishes = serde_json::json!(["proto", "size", "up", cyclic, "bytes"]);
    let others = [
        (serde_json::json!({ "features": wishes }), "feature `hour` is numeric in the model and cyclic with period 24"),
        (serde_json::json!({ "missing_indicator": true }), "its schema.missing_indicator is false, configured is true"),
    ];
    for (schema, wanted) in others {
        let (mut other, _) = trainer(dir.path(), schema);
        match other.tick() {
            Err(TrainerError::Schema { version: 1, difference }) => {
                assert!(difference.contains(wanted), "{difference}")
            }
            otherwise => panic!("{otherwise:?}"),
        }
    }
}

#[test]
fn a_category_that_no_sampled_record_holds_is_waited_for() {
    let dir = tempfile::tempdir().unwrap();
    let wish = serde_json::json!({"features": ["size", {"name": "gone", "kind": "categorical"}]});
    let (mut trainer, _) = trainer(dir.path(), wish);
    let Ticked::Waiting(reason) = trainer.tick().unwrap() else { panic!("nothing to train on") };
    assert!(reason.contains("`gone` is categorical and none of the sampled records holds it"), "{reason}");
}
