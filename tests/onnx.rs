//! Holds exported models to what other programs compute of them: onnxruntime, and numpy over safetensors and npz.
//!
//! Everything goes through the command line: train, encode, score, export. The other side is
//! `tests/support/python/compare.py`, in an environment that PyPI gives; where that can't be had the test says SKIPPED.

mod support;

use std::fs;
use std::path::Path;
use std::process::Command;

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde_json::{Value, json};

use support::python;

/// What every comparison must stay within, relative to itself where above 1: latents, reconstructions in standard
/// deviations, scores.
const TOLERANCE: f64 = 1e-5;
/// Every form, each activation of hidden layers at least once, and the forms that other formats have a name for.
const MODELS: [(&str, &[&str], &[&str]); 13] = [
    ("topk", &[], &["saelens", "sparsify"]),
    ("sat_topk", &[], &["saelens", "sparsify"]),
    ("batchtopk", &[], &["saelens"]),
    ("jumprelu", &[], &["saelens"]),
    ("relu", &[], &["saelens"]),
    ("sigmoid", &[], &[]),
    ("dense", &[], &[]),
    ("pca", &[], &[]),
    ("sat_topk", &["hidden=[8, 5]"], &[]),
    ("jumprelu", &["hidden=[8]", "activation=leaky_relu"], &[]),
    ("batchtopk", &["hidden=[8]", "activation=relu"], &[]),
    ("relu", &["hidden=[8]", "activation=tanh"], &[]),
    ("dense", &["hidden=[8, 5]", "activation=sigmoid", "n_latents=4"], &[]),
];
const N_ROWS: usize = 600;
const NAMES: [&str; 6] = ["load", "flow", "temp", "pressure", "current", "vibration"];

/// Rows that follow two causes, on scales from a hundredth to a hundred thousand, with missing values, values beyond the
/// cut and rows with too little to be scored.
fn rows() -> Vec<Vec<Option<f32>>> {
    let mut rng = ChaCha8Rng::seed_from_u64(21);
    let mut rows: Vec<Vec<Option<f32>>> = (0..N_ROWS)
        .map(|_| {
            let (a, b): (f32, f32) = (rng.random_range(-1.0..1.0), rng.random_range(-1.0..1.0));
            let mut noise = || rng.random_range(-0.1..0.1_f32);
            let row = [a, b, a + b, a - b, 0.5 * a, 0.3 * b].map(|v| v + noise());
            let scaled = row.iter().zip([1e5, 60.0, 5.0, 1.0, 0.2, 0.01]).map(|(v, s)| 3.0 * s + v * s);
            scaled.map(|v| (rng.random_range(0.0..1.0) >= 0.03).then_some(v)).collect()
        })
        .collect();
    rows[5] = vec![Some(1e9), Some(180.0), Some(15.0), Some(3.0), Some(-1e9), None];
    rows[6] = vec![Some(3e5), None, None, None, None, Some(0.03)];
    rows[7] = vec![None; 6];
    rows
}

fn strayd(dir: &Path, args: &[&str]) -> String {
    let output = Command::new(env!("CARGO_BIN_EXE_strayd")).args(args).current_dir(dir).output().expect("it starts");
    assert!(output.status.success(), "{args:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).expect("strayd prints UTF-8")
}

/// A short training, and an autoencoder that scores alone: what is exported is the autoencoder.
const OTHER_SETTINGS: [&str; 3] = ["model.trial_steps=50", "model.steps=100", "model.members.memory_rows=0"];

/// Trains a model and writes everything that compare.py wants of it to the folder `name`.
fn prepare(dir: &Path, name: &str, (kind, settings, formats): (&str, &[&str], &[&str])) {
    let of_model = |file: &str| format!("{name}/{file}");
    let model = of_model("trained");
    let of_kind = format!("kind={kind}");
    let settings = [&[of_kind.as_str(), "k=4"], settings].concat();
    let settings = settings.iter().map(|setting| format!("model.sae.{setting}"));
    let settings: Vec<String> = settings.chain(OTHER_SETTINGS.map(String::from)).collect();
    let mut train = vec!["train", "rows.csv", "--out", &model];
    train.extend(settings.iter().flat_map(|setting| ["--set", setting]));
    strayd(dir, &train);
    let export = |format: &str, out: &str, more: &[&str]| {
        let out = of_model(out);
        strayd(dir, &[&["export", "--model", &model, "--format", format, "--out", &out], more].concat());
    };
    // The Python side applies tanh itself, which is what --force asks for.
    let force: &[&str] = if kind == "sat_topk" { &["--force"] } else { &[] };
    formats.iter().for_each(|format| export(format, format, force));
    export("npz", "model.npz", &[]);
    export("npz", "folded.npz", &["--fold-scaler"]);
    export("onnx", "model.onnx", &[]);
    strayd(dir, &["encode", "rows.csv", "--model", &model, "--out", &of_model("latents.npz")]);
    strayd(dir, &["encode", "rows.csv", "--model", &model, "--reconstruct", "--out", &of_model("recons.npz")]);
    let mut scores = vec![Value::Null; N_ROWS];
    for line in strayd(dir, &["score", "rows.csv", "--model", &model]).lines() {
        let record: Value = serde_json::from_str(line).expect("JSON");
        let row = record["source"]["offset"].as_u64().expect("an offset") as usize;
        scores[row] = record["score"]["raw"].clone();
    }
    assert_eq!(scores.iter().filter(|score| score.is_null()).count(), 2, "rows 6 and 7 have too little observed");
    fs::write(dir.join(of_model("score.json")), Value::Array(scores).to_string()).expect("written");
}

#[test]
fn other_programs_compute_what_strayd_computes() {
    let Some(python) = python() else { return };
    let dir = tempfile::tempdir().expect("a temporary folder");
    let rows = rows();
    let cell = |value: &Option<f32>| value.map_or_else(String::new, |value| value.to_string());
    let line = |row: &Vec<Option<f32>>| row.iter().map(cell).collect::<Vec<_>>().join(",") + "\n";
    let csv = NAMES.join(",") + "\n" + &rows.iter().map(line).collect::<String>();
    fs::write(dir.path().join("rows.csv"), csv).expect("written");
    fs::write(dir.path().join("rows.json"), json!(rows).to_string()).expect("written");
    let names: Vec<String> = MODELS.iter().enumerate().map(|(i, (kind, ..))| format!("{i}-{kind}")).collect();
    for (name, model) in names.iter().zip(MODELS) {
        prepare(dir.path(), name, model);
    }

    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/support/python/compare.py");
    let output = Command::new(python).arg(script).arg(dir.path()).output().expect("Python starts");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
    let found: Value = serde_json::from_slice(&output.stdout).expect("one JSON object");
    println!("largest differences: {found:#}");
    for (name, (.., formats)) in names.iter().zip(MODELS) {
        let always = ["model.npz", "folded.npz", "model.onnx", "model.onnx score", "model.onnx alone"];
        for what in always.iter().chain(formats) {
            let difference = found[name][what].as_f64().unwrap_or(f64::INFINITY);
            assert!(difference <= TOLERANCE, "{name} as {what}: {difference:e} against {TOLERANCE:e}\n{found:#}");
        }
        assert_eq!(found[name].as_object().map(serde_json::Map::len), Some(always.len() + formats.len()));
    }
}
