//! What people call a latent: it follows the latent through rounds, reaches a running daemon, and never falls on another.

use std::fs;
use std::ops::ControlFlow;
use std::path::Path;
use std::sync::Arc;

use ndarray::Array2;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use strayd::app;
use strayd::config::{Config, RawConfig};
use strayd::history::{Head, TableHistory};
use strayd::model::Model;
use strayd::pipeline::trainer::{Ticked, Trainer};
use strayd::preprocess::{Schema, Wish};
use strayd::record::RecordId;
use strayd::registry::{self, Directory, Registry, load_labelled};
use strayd::shutdown::Shutdown;
use strayd::telemetry::Metrics;
use strayd::telemetry::health::Health;
use strayd::train::{self, Admission, Rows};

/// Rows of five features that follow two causes.
fn rows(n_rows: usize) -> Rows {
    let mut rng = ChaCha8Rng::seed_from_u64(5);
    let mut values = Array2::zeros((n_rows, 5));
    for mut row in values.rows_mut() {
        let (a, b): (f32, f32) = (rng.random(), rng.random());
        row.iter_mut()
            .enumerate()
            .for_each(|(j, v)| *v = a * j as f32 - b * (4.0 - j as f32) + 0.1 * rng.random::<f32>());
    }
    Rows::new(values, (0..n_rows as i64).map(|offset| RecordId { partition: 0.into(), offset }).collect())
}

fn fitted(rows: &Rows) -> Model {
    let schema = Arc::new(Schema::new(["a", "b", "c", "d", "e"]).expect("five names"));
    let config = train::Config { trial_steps: 20, steps: 60, ..train::Config::default() };
    let fitted = train::fit(schema, rows, &config, 0, &mut |_| ControlFlow::Continue(()));
    fitted.expect("there are enough rows").into_model(1, 0)
}

/// A round from `champion`, as version `version`.
fn round(champion: &Model, rows: &Rows, version: u64) -> Model {
    let mut admission = Admission::after(rows, &[]);
    let config = train::Config::default();
    let fitted =
        train::refit(
            train::Round::warm(champion, rows, 0),
            &mut admission,
            &config,
            &mut |_| ControlFlow::Continue(()),
        );
    fitted.expect("there are enough rows").into_model(version, 0)
}

fn directory(path: &Path) -> Directory {
    Directory::new(&registry::Config { path: path.to_owned(), keep: 5, topic: None })
}

fn label_of(model: &Model, id: u64) -> Option<&str> {
    let card = model.cards.latents.iter().find(|card| card.id == id).expect("the latent is there");
    card.label.as_deref()
}

#[test]
fn a_round_keeps_the_ids_of_latents_that_are_still_there() {
    let rows = rows(600);
    let first = fitted(&rows);
    let second = round(&first, &rows, 2);
    let kept = first.cards.latents.iter().zip(&second.cards.latents).filter(|(a, b)| a.id == b.id).count();
    assert!(kept * 4 >= first.cards.latents.len() * 3, "{kept} of {} ids are kept", first.cards.latents.len());
    let mut ids: Vec<u64> = second.cards.latents.iter().map(|card| card.id).collect();
    ids.sort_unstable();
    ids.dedup();
    assert_eq!(ids.len(), second.cards.latents.len(), "no id is given twice");
    assert!(ids.last() < Some(&second.cards.next_id));
}

#[test]
fn a_label_survives_a_round_a_restart_and_a_rollback() {
    let (rows, dir) = (rows(600), tempfile::tempdir().expect("a temporary folder"));
    let first = fitted(&rows);
    let mut registry = directory(dir.path());
    registry.store(&first).expect("it can be written");
    let before = fs::read(dir.path().join("v000001/cfg.json")).expect("it is there");
    registry.set_label(3, Some("start-up".into())).expect("it can be written");
    assert_eq!(fs::read(dir.path().join("v000001/cfg.json")).expect("it is there"), before, "models stay as they are");

    let loaded = directory(dir.path()).load(1).expect("it is stored");
    assert_eq!((label_of(&loaded, 3), loaded.hash.as_str()), (Some("start-up"), first.hash.as_str()));
    let second = round(&loaded, &rows, 2);
    assert_eq!(label_of(&second, 3), Some("start-up"), "the round carries it on");
    registry.store(&second).expect("it can be written");
    for version in [1, 2] {
        assert_eq!(label_of(&directory(dir.path()).load(version).expect("it is stored"), 3), Some("start-up"));
        let beside = load_labelled(&dir.path().join(format!("v{version:06}"))).expect("it is stored");
        assert_eq!(label_of(&beside, 3), Some("start-up"));
    }
    registry.set_label(3, None).expect("it can be written");
    assert_eq!(label_of(&registry.load(2).expect("it is stored"), 3), None);
}

#[test]
fn what_grows_from_an_older_version_gives_no_id_of_a_newer_one() {
    let (rows, dir) = (rows(600), tempfile::tempdir().expect("a temporary folder"));
    let (mut registry, first) = (directory(dir.path()), fitted(&rows));
    let mut second = fitted(&rows);
    (second.version, second.cards.next_id) = (2, 77);
    registry.store(&first).expect("it can be written");
    registry.store(&second).expect("it can be written");
    assert_eq!(registry.load(1).expect("it is stored").cards.next_id, 77);
}

#[test]
fn damaged_labels_are_named_and_keep_no_model_from_scoring() {
    let (rows, dir) = (rows(600), tempfile::tempdir().expect("a temporary folder"));
    let mut registry = directory(dir.path());
    registry.store(&fitted(&rows)).expect("it can be written");
    fs::write(dir.path().join("labels.json"), "{\"three\": \"start-up\"}").expect("written");
    assert!(registry.load(1).is_ok());
    let error = registry.labels().expect_err("it is damaged").to_string();
    assert!(error.contains("labels.json should hold labels by latent, as in {\"12\": \"start-up\"}"), "{error}");
}

#[test]
fn a_running_trainer_takes_up_labels_and_new_latents_get_none_of_old_ones() {
    let (rows, dir) = (rows(600), tempfile::tempdir().expect("a temporary folder"));
    let mut raw = RawConfig::default();
    raw.input.topic = "t".into();
    raw.decode.format = strayd::decode::Format::Packed;
    raw.schema.features = ["a", "b", "c", "d", "e"].map(Wish::auto).to_vec();
    (raw.history.rows_min, raw.training.enabled) = (600, false);
    let config = Config::check(raw).expect("the configuration is right");
    let shared = app::shared(&config, Arc::new(Metrics::new()), Health::new(1));
    let pack = |row: ndarray::ArrayView1<'_, f32>| row.iter().flat_map(|v| v.to_le_bytes()).collect::<Vec<u8>>();
    let payloads: Vec<Vec<u8>> = rows.values.rows().into_iter().map(pack).collect();
    let head = Head::default();
    head.advance_to(600);
    let history = TableHistory::new("t", Arc::new(payloads), head);

    // A label of a model that somebody has deleted.
    fs::write(dir.path().join("labels.json"), "{\"2\": \"of old\"}").expect("written");
    let registry = Box::new(directory(dir.path()));
    let mut trainer =
        Trainer::new(shared.clone(), Box::new(history), registry, app::settings(&config), Shutdown::default());
    assert_eq!(trainer.tick().expect("a model is trained"), Ticked::Promoted(1));
    let model = shared.cell.load().expect("it was promoted");
    assert_eq!(model.cards.latents[0].id, 3, "ids go on after those that have labels");
    assert!(model.cards.latents.iter().all(|card| card.label.is_none()));

    directory(dir.path()).set_label(4, Some("idle".into())).expect("it can be written");
    assert_eq!(trainer.tick().expect("nothing fails"), Ticked::Nothing);
    let labelled = shared.cell.load().expect("it is still there");
    assert_eq!(label_of(&labelled, 4), Some("idle"));
    assert_eq!((labelled.version, &labelled.hash), (model.version, &model.hash));
    assert_eq!(directory(dir.path()).labels().expect("they are read").into_keys().collect::<Vec<_>>(), [2, 4]);
}
