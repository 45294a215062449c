//! The autoencoder as a tool, through the command line: encode and reconstruct, export, and import of what was exported.
//!
//! That other programs compute the same is for `tests/onnx.rs` to say; here every model comes back to strayd.

use std::fs;
use std::path::Path;
use std::process::{Command, Output};

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde_json::Value;
use tempfile::TempDir;

const NAMES: [&str; 4] = ["load", "flow, main", "temp", "pressure"];
const N_ROWS: usize = 800;
/// A row with a missing value, and the value that was there.
const HIDDEN: (usize, usize) = (17, 2);

/// Rows that follow one cause.
fn rows() -> Vec<[f32; 4]> {
    let mut rng = ChaCha8Rng::seed_from_u64(31);
    let row = |_| {
        let load: f32 = rng.random_range(40.0..90.0);
        let mut noise = |size: f32| rng.random_range(-size..size);
        [load, 2.0 * load + noise(2.0), 30.0 + 0.5 * load + noise(0.5), 8.0 - 0.05 * load + noise(0.05)]
    };
    (0..N_ROWS).map(row).collect()
}

/// A folder with rows and a trained model of a kind, with more settings on lines of their own.
struct Trained(TempDir);

impl Trained {
    fn new(kind: &str) -> Self {
        let trained = Self(tempfile::tempdir().expect("a temporary folder"));
        let line = |(i, row): (usize, &[f32; 4])| {
            let cell = |(j, value): (usize, &f32)| if (i, j) == HIDDEN { String::new() } else { value.to_string() };
            row.iter().enumerate().map(cell).collect::<Vec<_>>().join(",") + "\n"
        };
        let header = "load,\"flow, main\",temp,pressure\n".to_owned();
        fs::write(trained.path("rows.csv"), header + &rows().iter().enumerate().map(line).collect::<String>())
            .expect("written");
        let settings = format!("model.sae.kind={kind}\nmodel.sae.k=2");
        let settings = settings.lines().flat_map(|setting| ["--set", setting]);
        trained.strayd(&["train", "rows.csv", "--out", "model"].into_iter().chain(settings).collect::<Vec<_>>());
        trained
    }

    fn path(&self, name: &str) -> std::path::PathBuf {
        self.0.path().join(name)
    }

    fn output(&self, args: &[&str]) -> Output {
        let mut command = Command::new(env!("CARGO_BIN_EXE_strayd"));
        command.args(args).current_dir(self.0.path()).output().expect("strayd starts")
    }

    #[track_caller]
    fn strayd(&self, args: &[&str]) -> String {
        let output = self.output(args);
        assert!(output.status.success(), "{args:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).expect("strayd prints UTF-8")
    }

    /// What strayd says when it refuses.
    #[track_caller]
    fn refusal(&self, args: &[&str]) -> String {
        let output = self.output(args);
        assert_eq!(output.status.code(), Some(1), "{args:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stderr).expect("strayd prints UTF-8")
    }

    fn json(&self, args: &[&str]) -> Vec<Value> {
        self.strayd(args).lines().map(|line| serde_json::from_str(line).expect("a line of JSON")).collect()
    }

    /// Latents of every row under a model, dense.
    fn latents(&self, model: &str) -> Vec<Vec<f32>> {
        let printed = self.strayd(&["encode", "rows.csv", "--model", model, "--format", "csv"]);
        let mut lines = printed.lines();
        let n = lines.next().expect("a header").split(',').count();
        let row = |line: &str| line.split(',').map(|cell| cell.parse().expect("a number")).collect::<Vec<f32>>();
        let rows: Vec<Vec<f32>> = lines.map(row).collect();
        assert!(rows.iter().all(|row| row.len() == n) && rows.len() == N_ROWS);
        rows
    }
}

#[track_caller]
fn assert_close(a: &[Vec<f32>], b: &[Vec<f32>], tolerance: f32) {
    assert_eq!(a.len(), b.len());
    for (i, (a, b)) in a.iter().zip(b).enumerate() {
        let same = a.len() == b.len() && a.iter().zip(b).all(|(a, b)| (a - b).abs() <= tolerance);
        assert!(same, "row {i}: {a:?} and {b:?}");
    }
}

#[test]
fn the_forms_of_the_latents_agree() {
    let trained = Trained::new("sat_topk");
    let dense = trained.latents("model");
    let lines = trained.json(&["encode", "rows.csv", "--model", "model"]);
    assert_eq!(lines.len(), N_ROWS);
    for (i, (line, dense)) in lines.iter().zip(&dense).enumerate() {
        assert_eq!(line["row"], i);
        let mut row = vec![0.0; dense.len()];
        for pair in line["latents"].as_array().expect("a list") {
            row[pair[0].as_u64().expect("a number") as usize] = pair[1].as_f64().expect("a number") as f32;
        }
        assert_eq!(&row, dense, "row {i}");
        assert!(dense.iter().filter(|f| **f != 0.0).count() <= 2, "k is 2: {dense:?}");
    }
    trained.strayd(&["encode", "rows.csv", "--model", "model", "--out", "latents.npz"]);
    let file = fs::File::open(trained.path("latents.npz")).expect("the archive");
    let mut npz = ndarray_npy::NpzReader::new(file).expect("an archive");
    let archived: ndarray::Array2<f32> = npz.by_name("latents").expect("the array");
    assert_eq!(archived.outer_iter().map(|row| row.to_vec()).collect::<Vec<_>>(), dense);
    let why = trained.refusal(&["encode", "rows.csv", "--model", "model", "--format", "npz"]);
    assert!(why.contains("--out"), "{why}");
}

#[test]
fn a_missing_value_is_reconstructed_as_the_expected_one() {
    let trained = Trained::new("sat_topk");
    let printed = trained.strayd(&["encode", "rows.csv", "--model", "model", "--reconstruct"]);
    let mut reader = csv::Reader::from_reader(printed.as_bytes());
    assert_eq!(reader.headers().expect("a header"), NAMES.to_vec(), "the input's columns");
    let recons: Vec<Vec<f32>> = reader
        .records()
        .map(|row| row.expect("a row").iter().map(|cell| cell.parse().expect("a number")).collect())
        .collect();
    let (truth, (row, column)) = (rows(), HIDDEN);
    // The temperature has a standard deviation of 7; one cause explains nearly all of it.
    let off = (recons[row][column] - truth[row][column]).abs();
    assert!(off < 5.0, "{} where {} was hidden", recons[row][column], truth[row][column]);
    let mean_off =
        |j: usize| recons.iter().zip(&truth).map(|(r, t)| f64::from((r[j] - t[j]).abs())).sum::<f64>() / N_ROWS as f64;
    assert!(mean_off(0) < 5.0 && mean_off(1) < 10.0, "{} and {}", mean_off(0), mean_off(1));
    let lines = trained.json(&["encode", "rows.csv", "--model", "model", "--reconstruct", "--format", "jsonl"]);
    assert_eq!(lines[row]["features"]["flow, main"].as_f64().map(|v| v as f32), Some(recons[row][1]));
}

#[test]
fn every_form_comes_back_and_encodes_alike() {
    let trained = Trained::new("topk");
    let dense = trained.latents("model");
    for (format, folds) in [("saelens", false), ("saelens", true), ("sparsify", true), ("npz", false), ("npz", true)] {
        let (out, back) = (format!("{format}-{folds}"), format!("{format}-{folds}-back"));
        let mut export = vec!["export", "--model", "model", "--format", format, "--out", &out];
        export.extend(folds.then_some("--fold-scaler"));
        trained.strayd(&export);
        let why = trained.refusal(&export);
        assert!(why.contains("it is there already"), "{why}");
        let import = ["import", "--format", format, &out, "--out", &back, "--data", "rows.csv", "--json"];
        let said = trained.json(&import).remove(0);
        assert!(said["explained_variance"].as_f64().expect("a number") > 0.8, "{said}");
        assert_close(&trained.latents(&back), &dense, if folds { 1e-4 } else { 0.0 });
        let scored = trained.json(&["score", "rows.csv", "--model", &back]);
        assert_eq!(scored.len(), N_ROWS, "an imported model scores");
        let n_anomalous = scored.iter().filter(|r| r["score"]["ratio"].as_f64().expect("a number") > 1.0).count();
        assert!(n_anomalous < N_ROWS / 20, "{n_anomalous} of its own ordinary rows are anomalous");
    }
}

#[test]
fn every_kind_comes_back_in_the_forms_that_hold_it() {
    let forms: [(&str, &[&str]); 7] = [
        ("batchtopk", &["saelens", "npz"]),
        ("jumprelu", &["saelens", "npz"]),
        ("relu", &["saelens", "npz"]),
        ("sigmoid", &["npz"]),
        ("dense", &["npz"]),
        ("pca", &["npz"]),
        ("relu\nmodel.sae.hidden=[6]", &["npz"]),
    ];
    for (settings, formats) in forms {
        let trained = Trained::new(settings);
        let dense = trained.latents("model");
        assert!(dense.iter().flatten().any(|f| *f != 0.0), "{settings} has latents");
        for format in ["saelens", "sparsify", "npz"] {
            let (out, back) = (format!("{format}-out"), format!("{format}-back"));
            let export = ["export", "--model", "model", "--format", format, "--out", &out];
            if formats.contains(&format) {
                trained.strayd(&export);
                trained.strayd(&["import", "--format", format, &out, "--out", &back, "--data", "rows.csv"]);
                assert_close(&trained.latents(&back), &dense, 0.0);
            } else {
                let why = trained.refusal(&export);
                assert!(why.contains("export npz or onnx"), "{settings} as {format}: {why}");
            }
        }
    }
}

#[test]
fn a_saturating_model_is_not_passed_off_as_another() {
    let trained = Trained::new("sat_topk");
    for format in ["saelens", "sparsify"] {
        let why = trained.refusal(&["export", "--model", "model", "--format", format, "--out", "out"]);
        assert!(why.contains("tanh") && why.contains("--force"), "{why}");
        assert!(!trained.path("out").exists());
    }
    trained.strayd(&["export", "--model", "model", "--format", "saelens", "--out", "forced", "--force"]);
    trained.strayd(&["import", "--format", "saelens", "forced", "--out", "back", "--data", "rows.csv"]);
    assert_close(&trained.latents("back"), &trained.latents("model"), 0.0);
}

#[test]
fn an_import_says_what_it_lacks() {
    let trained = Trained::new("topk");
    trained.strayd(&["export", "--model", "model", "--format", "saelens", "--out", "weights"]);
    let import = ["import", "--format", "saelens", "weights", "--out", "back"];
    let why = trained.refusal(&import);
    assert!(why.contains("--data FILE.csv"), "{why}");
    let with = |data: &str, text: &str| {
        fs::write(trained.path(data), text).expect("written");
        trained.refusal(&[&import[..], &["--data", data]].concat())
    };
    let why = with("narrow.csv", "load,temp\n1,2\n");
    assert!(why.contains("it has 2 features, the weights of weights take 4"), "{why}");
    let why = with("other.csv", "load,\"flow, main\",temperature,pressure\n1,2,3,4\n");
    assert!(why.contains("feature 3 is `temp`"), "{why}");
    let why = with("short.csv", "load,\"flow, main\",temp,pressure\n1,2,3,4\n");
    assert!(why.contains("at least 32 rows"), "{why}");
    let why = trained.refusal(&["export", "--model", "model", "--format", "onnx", "--fold-scaler", "--out", "m.onnx"]);
    assert!(why.contains("leave --fold-scaler out"), "{why}");
    assert!(!Path::new(&trained.path("back")).exists());
}

#[test]
fn a_scaler_that_did_not_come_along_is_fitted_on_the_rows() {
    let trained = Trained::new("topk");
    let dense = trained.latents("model");
    let import = |weights: &str, out: &str, more: &[&str]| {
        fs::remove_file(trained.path(weights).join("scaler.json")).expect("it was there");
        let import = ["import", "--format", "saelens", weights, "--out", out, "--data", "rows.csv"];
        trained.strayd(&[&import[..], more].concat());
        trained.latents(out)
    };
    let export = ["export", "--model", "model", "--format", "saelens", "--out"];
    trained.strayd(&[&export[..], &["weights"]].concat());
    // The scaler of a training leaves rows out, this one doesn't: close calls between two latents may go another way.
    let back = import("weights", "back", &[]);
    let active = |row: &Vec<f32>| row.iter().map(|f| *f != 0.0).collect::<Vec<_>>();
    let n_alike = back.iter().zip(&dense).filter(|(a, b)| active(a) == active(b)).count();
    assert!(n_alike * 10 > N_ROWS * 9, "{n_alike} of {N_ROWS} rows");

    // Weights that take raw values compute the same whatever scaler they are then given.
    trained.strayd(&[&export[..], &["raw", "--fold-scaler"]].concat());
    assert_close(&import("raw", "raw-back", &["--raw-inputs"])[..HIDDEN.0], &dense[..HIDDEN.0], 1e-4);
}
