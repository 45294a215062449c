//! `strayd models` by its command line, on a model of a small file: what it shows, labels and draws.

use std::fmt::Write;
use std::fs;
use std::path::Path;
use std::process::{Command, Output};

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde_json::Value;

fn strayd(dir: &Path, args: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_strayd"));
    command.current_dir(dir).args(args).output().expect("strayd starts")
}

/// What a command that must succeed prints.
#[track_caller]
fn printed(dir: &Path, args: &[&str]) -> String {
    let output = strayd(dir, args);
    assert!(output.status.success(), "{args:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).expect("UTF-8")
}

/// What a command that must fail says.
#[track_caller]
fn refused(dir: &Path, args: &[&str]) -> String {
    let output = strayd(dir, args);
    assert_eq!(output.status.code(), Some(1), "{args:?}");
    String::from_utf8(output.stderr).expect("UTF-8")
}

/// A directory with `rows.csv` and a registry `models` that holds a model of it.
fn with_model() -> tempfile::TempDir {
    let dir = tempfile::tempdir().expect("a temporary folder");
    let mut rng = ChaCha8Rng::seed_from_u64(9);
    let mut csv = "temp,flow,load,label\n".to_owned();
    for i in 0..400 {
        let (load, noise): (f32, f32) = (rng.random(), rng.random());
        writeln!(csv, "{},{},{load},{}", 20.0 + 30.0 * load + noise, 5.0 - 2.0 * load, i32::from(i == 7))
            .expect("text");
    }
    fs::write(dir.path().join("rows.csv"), csv).expect("written");
    printed(dir.path(), &["train", "rows.csv", "--label", "label", "--out", "models/v000001"]);
    fs::write(dir.path().join("models/CURRENT"), "1\n").expect("written");
    dir
}

#[test]
fn latents_are_shown_by_importance_and_go_by_their_labels() {
    let dir = with_model();
    let dir = dir.path();
    let latents = || -> Vec<Value> {
        let shown: Value =
            serde_json::from_str(&printed(dir, &["models", "show", "--latents", "--json"])).expect("JSON");
        shown["latents"].as_array().expect("a list").clone()
    };
    let before = latents();
    let importance: Vec<f64> = before.iter().map(|one| one["importance"].as_f64().expect("a number")).collect();
    assert_eq!(importance.len(), 12, "four a feature");
    assert!(importance[0] > 0.0 && importance.is_sorted_by(|a, b| a >= b), "{importance:?}");
    let top = before[0]["top"][0].as_str().expect("a place");
    assert!(top.starts_with("rows.csv/0/"), "{top}");

    let id = before[0]["id"].to_string();
    printed(dir, &["models", "label", &id, " under load "]);
    assert_eq!(latents()[0]["label"], "under load");
    let table = printed(dir, &["models", "show", "--latents"]);
    assert!(table.lines().nth(1).expect("a first latent").contains("under load"), "{table}");
    let (_, row) = top.rsplit_once('/').expect("a place has a row");
    let explain = ["explain", "rows.csv", "--label", "label", "--model", "models/v000001", "--row", row];
    assert!(printed(dir, &explain).contains("under load"), "what activates it most is explained by it");
    printed(dir, &["models", "label", &id, ""]);
    assert_eq!(latents()[0]["label"], Value::Null);

    assert!(refused(dir, &["models", "label", "999", "x"]).contains("version 1 has no latent 999"));
    assert!(refused(dir, &["models", "label", &id, &"x".repeat(61)]).contains("at most 60 characters"));
    assert!(printed(dir, &["models", "show"]).contains("explained variance 0."));
}

#[test]
fn a_model_is_drawn_alike_every_time() {
    let dir = with_model();
    let dir = dir.path();
    let draw = |out: &str, more: &[&str]| {
        printed(dir, &[&["models", "plot", "--out", out], more].concat());
        fs::read(dir.join(out)).expect("it was written")
    };
    let svg = draw("a.svg", &[]);
    assert_eq!(draw("b.svg", &["--model", "models/v000001"]), svg);
    let text = String::from_utf8(svg).expect("UTF-8");
    for words in ["Model 1 of rows.csv", "settle", "threshold", "12 latents", "first principal component"] {
        assert!(text.contains(words), "{words} is missing");
    }
    let map = ["--data", "rows.csv", "--label", "label", "--map", "tsne", "--seed", "3"];
    let (first, second) = (draw("c.svg", &map), draw("d.svg", &map));
    assert_eq!(first, second);
    let text = String::from_utf8(first).expect("UTF-8");
    for words in ["400 rows", "labelled ringed", "distances between clusters mean nothing"] {
        assert!(text.contains(words), "{words} is missing");
    }
    assert!(draw("e.png", &[]).starts_with(b"\x89PNG"));
    assert!(refused(dir, &["models", "plot", "--out", "f.jpg"]).contains("its ending must be .svg or .png"));
}
