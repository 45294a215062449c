//! A model through its files: bit for bit, and everything damaged refused with words that help.
//!
//! Fits one small model on synthetic rows; no data set is needed.

#![expect(clippy::unwrap_used, reason = "a test that unwraps nothing fails, as it should")]

use std::fs;
use std::ops::ControlFlow;
use std::path::Path;
use std::sync::Arc;

use ndarray::{Array2, s};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

use strayd::model::{ArtifactError, Model, Workspace, artifact};
use strayd::preprocess::Schema;
use strayd::record::{RecordId, Value};
use strayd::train::{Admission, Config, Round, Rows, fit, refit};

/// Rows of six features that follow two hidden causes, with a missing value now and then.
fn rows(n_rows: usize) -> Rows {
    let mut rng = ChaCha8Rng::seed_from_u64(11);
    let mut values = Array2::zeros((n_rows, 6));
    for mut row in values.rows_mut() {
        let (a, b): (f32, f32) = (rng.random(), rng.random());
        for (j, value) in row.iter_mut().enumerate() {
            let noise: f32 = rng.random::<f32>() * 0.1;
            *value = 10.0 + a * j as f32 + b * (5.0 - j as f32) + noise;
            if rng.random::<f32>() < 0.02 {
                *value = f32::NAN;
            }
        }
    }
    let ids = (0..n_rows).map(|i| RecordId { partition: ((i % 2) as i32).into(), offset: (i / 2) as i64 }).collect();
    Rows::new(values, ids)
}

fn fitted(rows: &Rows) -> Model {
    let schema = Arc::new(Schema::new(["a", "b", "c", "d", "e", "f"]).unwrap());
    let config = Config { trial_steps: 20, steps: 60, ..Config::default() };
    fit(schema, rows, &config, 3, &mut |_| ControlFlow::Continue(())).unwrap().into_model(7, 1234)
}

fn scores(model: &Model, rows: &Rows) -> Vec<u64> {
    let mut workspace = Workspace::new();
    model.score(rows.values.view(), &mut workspace);
    workspace.z().iter().map(|z| z.to_bits()).collect()
}

#[test]
fn a_model_comes_back_bit_for_bit() {
    let rows = rows(600);
    let model = fitted(&rows);
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("7");
    artifact::save(&model, &path).unwrap();
    artifact::save(&model, &path).unwrap();
    let back = artifact::load(&path).unwrap();
    assert_eq!(back, model);
    assert_eq!(scores(&back, &rows), scores(&model, &rows));
    assert_eq!(artifact::hash(&back), model.hash);
    let left: Vec<_> = fs::read_dir(dir.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(left, ["7"], "no temporary directory stays");
}

#[test]
fn equal_rows_configuration_and_seed_give_equal_bytes() {
    let rows = rows(600);
    let (first, second) = (fitted(&rows), fitted(&rows));
    assert_eq!(artifact::encode(&first), artifact::encode(&second));
    let round = |champion: &Model| {
        let config = Config::default();
        let mut admission = Admission::after(&rows, &[]);
        let go_on = &mut |_| ControlFlow::Continue(());
        artifact::encode(
            &refit(Round::warm(champion, &rows, 3), &mut admission, &config, go_on).unwrap().into_model(8, 0),
        )
    };
    assert_eq!(round(&first), round(&second));
}

/// Saves a model, damages its directory and returns why it is refused.
fn refused(damage: impl FnOnce(&Path)) -> ArtifactError {
    let model = fitted(&rows(300));
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("model");
    artifact::save(&model, &path).unwrap();
    damage(&path);
    artifact::load(&path).unwrap_err()
}

#[test]
fn a_truncated_file_is_refused_by_name() {
    let error = refused(|dir| {
        let path = dir.join("model.safetensors");
        let bytes = fs::read(&path).unwrap();
        fs::write(&path, &bytes[..bytes.len() / 2]).unwrap();
    });
    assert!(matches!(&error, ArtifactError::Checksum { name, .. } if name == "model.safetensors"), "{error}");
    assert!(error.to_string().contains("restore it or use another version"), "{error}");
}

#[test]
fn one_altered_bit_is_refused() {
    for file in ["model.safetensors", "cfg.json", "calibration.safetensors"] {
        let error = refused(|dir| {
            let mut bytes = fs::read(dir.join(file)).unwrap();
            let at = bytes.len() - 2;
            bytes[at] ^= 1;
            fs::write(dir.join(file), bytes).unwrap();
        });
        assert!(matches!(&error, ArtifactError::Checksum { name, .. } if name == file), "{error}");
    }
}

#[test]
fn missing_files_and_other_directories_are_refused() {
    let error = refused(|dir| fs::remove_file(dir.join("cfg.json")).unwrap());
    assert_eq!(error.to_string(), "model file cfg.json is missing; restore it or use another version of the model");
    let error = refused(|dir| fs::remove_file(dir.join("manifest.json")).unwrap());
    assert!(error.to_string().contains("is not a model"), "{error}");
    let error = artifact::load(Path::new("/nonexistent/model")).unwrap_err();
    assert!(matches!(error, ArtifactError::NotAModel { .. }), "{error}");
    let error = refused(|dir| fs::write(dir.join("manifest.json"), "{").unwrap());
    assert!(matches!(&error, ArtifactError::Malformed { name, .. } if name == "manifest.json"), "{error}");
}

#[test]
fn a_newer_format_is_refused_and_a_newer_minor_is_not() {
    let edit = |dir: &Path, from: &str, to: &str| {
        let text = fs::read_to_string(dir.join("manifest.json")).unwrap();
        assert!(text.contains(from), "{text}");
        fs::write(dir.join("manifest.json"), text.replace(from, to)).unwrap();
    };
    let error = refused(|dir| edit(dir, "\"major\": 1", "\"major\": 2"));
    assert!(error.to_string().starts_with("model format 2.3 is not known"), "{error}");

    let model = fitted(&rows(300));
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("model");
    artifact::save(&model, &path).unwrap();
    edit(&path, "\"minor\": 3", "\"minor\": 9");
    assert_eq!(artifact::load(&path).unwrap(), model);
}

#[test]
fn another_schema_is_refused_in_words() {
    let model = fitted(&rows(300));
    let topic = Schema::new(["a", "b", "flow", "d", "e", "f"]).unwrap();
    let message = model.check_schema(&topic).unwrap_err().to_string();
    assert_eq!(message, "model 7 does not fit the topic: feature 3 is `c` in the model and `flow` in the topic");
    assert_eq!(model.check_schema(&model.schema), Ok(()));
}

#[test]
fn a_row_scores_alike_alone_and_in_a_batch_and_explains_itself() {
    let rows = rows(300);
    let model = fitted(&rows);
    let mut workspace = Workspace::new();
    model.score(rows.values.view(), &mut workspace);
    let (together, mut strange) = (workspace.z()[17], rows.values.row(17).to_owned());
    model.score(rows.values.slice(s![17..18, ..]), &mut workspace);
    assert!((workspace.z()[0] - together).abs() < 1e-3);

    strange.fill(12.0);
    strange[2] = 40.0;
    let batch = strange.clone().insert_axis(ndarray::Axis(0));
    model.score(batch.view(), &mut workspace);
    assert!(workspace.z()[0] > model.calibration.tail.z_at(1e-3));
    let explanation = model.explain(strange.view(), &workspace, 0, 3);
    assert_eq!(explanation.features[0].name, "c");
    assert!(matches!(explanation.features[0].expected, Value::Number(expected) if expected < 20.0), "{explanation:?}");
    assert!(explanation.summary().starts_with("c is 40.0 where "), "{}", explanation.summary());

    strange.fill(f32::NAN);
    model.score(strange.insert_axis(ndarray::Axis(0)).view(), &mut workspace);
    assert!(workspace.z()[0].is_nan());
    assert_eq!((workspace.rows_insufficient(), workspace.counts().missing), (1, 6));
}

#[test]
fn a_constant_feature_that_changes_is_finite_and_anomalous() {
    let mut rows = rows(600);
    rows.values.column_mut(4).fill(5.0);
    let model = fitted(&rows);
    let mut changed = rows.values.slice(s![17..18, ..]).to_owned();
    let mut workspace = Workspace::new();
    for value in [9.0, 1e30, f32::MAX, f32::MIN] {
        changed[[0, 4]] = value;
        model.score(changed.view(), &mut workspace);
        let z = workspace.z()[0];
        assert!(z.is_finite() && z > model.calibration.tail.z_at(1e-3), "{value}: {z}");
        let explanation = model.explain(changed.row(0), &workspace, 0, 6);
        assert!(explanation.features.iter().any(|feature| feature.name == "e"), "{value}: {explanation:?}");
        assert!(
            explanation.features.iter().all(|feature| matches!(feature.expected, Value::Number(v) if v.is_finite())),
            "{value}: {explanation:?}"
        );
    }
}
