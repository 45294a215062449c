//! What lies in files and in the broker: notes of commits, models, weights of other tools, configurations.

use std::fs;
use std::ops::ControlFlow;
use std::sync::{Arc, LazyLock};

use ndarray::Array2;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde_json::Value;
use sha2::{Digest, Sha256};
use strayd::config::{Config, Sources};
use strayd::model::artifact::{self, File};
use strayd::model::interchange::{self, Format, Wish};
use strayd::model::{Model, Workspace};
use strayd::pipeline::partition::{Note, Partition, Resume};
use strayd::preprocess::Schema;
use strayd::record::RecordId;
use strayd::threshold;
use strayd::train::{self, Rows};

use super::engine::Target;

const N_FEATURES: usize = 3;
const MANIFEST: &str = "manifest.json";

pub(super) static MODEL: LazyLock<Model> = LazyLock::new(|| {
    let mut rng = ChaCha8Rng::seed_from_u64(5);
    let values = Array2::from_shape_simple_fn((400, N_FEATURES), || rng.random_range(-1.0..1.0));
    let ids = (0..400).map(|offset| RecordId { partition: 0.into(), offset }).collect();
    let schema = Arc::new(Schema::new(["a", "b", "c"]).expect("three names"));
    let config = train::Config { trial_steps: 5, steps: 10, ..train::Config::default() };
    let fitted = train::fit(schema, &Rows::new(values, ids), &config, 0, &mut |_| ControlFlow::Continue(()));
    fitted.expect("400 rows are enough").into_model(1, 0)
});

/// One of several files: the first byte says which, the rest is what it holds.
fn tagged(files: &[File]) -> Vec<Vec<u8>> {
    let tagged = |(i, file): (usize, &File)| [&[i as u8], &file.bytes[..]].concat();
    files.iter().enumerate().map(tagged).collect()
}

/// The files with one of them exchanged, and its place.
fn exchanged(files: &[File], input: &[u8]) -> (Vec<File>, usize) {
    let (tag, bytes) = input.split_first().unwrap_or((&0, &[]));
    let (mut files, at) = (files.to_vec(), usize::from(*tag & 0x7f) % files.len());
    bytes.clone_into(&mut files[at].bytes);
    (files, at)
}

/// Corrects the checksum of a file, so that what reads it is reached.
fn repair(files: &mut [File], at: usize) {
    let sum = Sha256::digest(&files[at].bytes).iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    let name = files[at].name.clone();
    let manifest = files.iter_mut().find(|file| file.name == MANIFEST).expect("a model has a manifest");
    if let Ok(mut value) = serde_json::from_slice::<Value>(&manifest.bytes) {
        value["files"][&name] = sum.into();
        manifest.bytes = value.to_string().into_bytes();
    }
}

/// Models whose files are broken and whose checksums are not: what is loaded must score, explain, and be stored.
pub fn models() -> Target {
    const WORDS: &[&str] = &[
        "{",
        "}",
        "[",
        "]",
        ":",
        ",",
        "\"",
        "null",
        "true",
        "0",
        "-1",
        "1e39",
        "1e308",
        "18446744073709551615",
        "0.0",
        "k",
        "topk",
        "dense",
        "sigmoid",
        "jumprelu",
        "batchtopk",
        "data_offsets",
        "shape",
        "dtype",
        "F64",
        "F32",
    ];
    let files = artifact::encode(&MODEL);
    let seeds = tagged(&files);
    let run = move |input: &[u8]| {
        let (mut files, at) = exchanged(&files, input);
        if files[at].name != MANIFEST && input.first().is_some_and(|tag| tag & 0x80 == 0) {
            repair(&mut files, at);
        }
        let model = match artifact::decode(&files) {
            Ok(model) => model,
            Err(error) => return error.to_string(),
        };
        let mut workspace = Workspace::new();
        let rows = Array2::from_shape_fn((2, model.n_features()), |(i, j)| (i + j) as f32 - 1.0);
        model.score(rows.view(), &mut workspace);
        let finite = workspace.z().iter().all(|z| z.is_finite());
        let why = model.explain(rows.row(0), &workspace, 0, 3);
        let mut threshold = threshold::build(&threshold::Config::default(), &model.calibration);
        let verdict = threshold.judge(workspace.z()[0]);
        assert!(!artifact::encode(&model).is_empty());
        format!("ok {finite} {} {}", verdict.anomalous, why.summary().is_empty())
    };
    Target { name: "models", seeds, words: WORDS, rarity: 40, run: Box::new(run) }
}

/// Weights in the forms of other tools.
pub fn weights() -> Target {
    const WORDS: &[&str] = &[
        "{",
        "}",
        "[",
        "]",
        ":",
        ",",
        "\"",
        "null",
        "topk",
        "standard",
        "jumprelu",
        "W_enc",
        "W_dec",
        "F16",
        "BF16",
        "PK",
        "data_offsets",
        "shape",
        "descr",
        "fortran_order",
        "True",
        "<f4",
        ">f8",
        "|O",
        "(0,)",
        "k",
        "-1",
        "1e99",
    ];
    let forms = [Format::Saelens, Format::Sparsify, Format::Npz];
    let wish = Wish { force: true, ..Wish::default() };
    let exported = forms.map(|form| interchange::export(&MODEL, form, wish).expect("every form can be forced"));
    let places: Vec<(usize, usize)> =
        exported.iter().enumerate().flat_map(|(form, files)| (0..files.len()).map(move |file| (form, file))).collect();
    let seed = |(i, (form, file)): (usize, &(usize, usize))| [&[i as u8], &exported[*form][*file].bytes[..]].concat();
    let seeds = places.iter().enumerate().map(seed).collect();
    let run = move |input: &[u8]| {
        let (tag, bytes) = input.split_first().unwrap_or((&0, &[]));
        let (form, file) = places[usize::from(*tag) % places.len()];
        let mut files = exported[form].clone();
        bytes.clone_into(&mut files[file].bytes);
        match interchange::import(forms[form], &files) {
            Ok(foreign) => {
                let scaling = foreign.scaling.as_ref().map(|scaling| (scaling.preprocessor().is_ok(), scaling.folded));
                let scalers = foreign.scaling.as_ref().map(interchange::Scaling::scalers).unwrap_or_default();
                let fits = scalers.len() == foreign.autoencoder.shape().n_inputs;
                let folded = scaling.is_some_and(|(_, folded)| folded) && fits;
                let autoencoder = foreign.standardised(&scalers, folded);
                format!("ok {scaling:?} {}", autoencoder.shape().n_inputs > 0)
            }
            Err(error) => error.to_string(),
        }
    };
    Target { name: "weights", seeds, words: WORDS, rarity: 10, run: Box::new(run) }
}

/// Metadata of commits, which anybody who may write to the group's offsets can write.
pub fn notes() -> Target {
    const WORDS: &[&str] = &[
        "{",
        "}",
        ":",
        ",",
        "null",
        "from",
        "carried",
        "alpha",
        "tokens",
        "shift",
        "0",
        "-1",
        "1e999",
        "-1e300",
        "1e-320",
        "9223372036854775807",
        "-9223372036854775808",
        "NaN",
    ];
    let seeds =
        [r#"{"from":100,"carried":{"alpha":0.001,"tokens":4.5,"shift":0.01}}"#, r#"{"from":null,"carried":null}"#];
    let config = threshold::Config::default();
    let mut n = 0_u64;
    let run = move |bytes: &[u8]| {
        let text = String::from_utf8_lossy(bytes);
        let note = Note::parse(&text);
        n += 1;
        let settled = [0, 1, 5000, i64::MAX][(n % 4) as usize];
        let resume = Resume::new(settled, note, [0, 20_000, u64::MAX][(n % 3) as usize]);
        assert!(resume.start >= 0 && resume.start <= settled, "{resume:?} for {note:?}");
        let threshold = threshold::build(&config, &MODEL.calibration);
        let mut partition = Partition::new(0, Some(resume), config.rewind(), threshold);
        let mut judged = String::new();
        for (i, z) in [0.5, 1e9, -3.0, f64::NAN].into_iter().enumerate() {
            let id = RecordId { partition: 0.into(), offset: settled.saturating_add(i as i64) };
            let verdict = partition.judge(id, z, false);
            assert!(
                verdict.is_none_or(|verdict| !verdict.p_value.is_nan() && !verdict.z_at_alert.is_nan()),
                "{verdict:?}"
            );
            judged.push(if verdict.is_some_and(|verdict| verdict.anomalous) { 'a' } else { 'o' });
        }
        let mut written = String::new();
        partition.note().write(&mut written);
        assert_eq!(Note::parse(&written), partition.note(), "{written}");
        format!("{judged} {}", note == Note::default())
    };
    let seeds = seeds.iter().map(|seed| seed.as_bytes().to_vec()).collect();
    Target { name: "notes", seeds, words: WORDS, rarity: 20, run: Box::new(run) }
}

/// Configurations: every file is refused with the key that is wrong, or is one that a daemon could run with.
pub fn configurations() -> Target {
    const WORDS: &[&str] = &[
        "[",
        "]",
        "[[suppress]]",
        "=",
        "\"",
        "\n",
        "-1",
        "0",
        "1e308",
        "nan",
        "true",
        "\"5 s\"",
        "\"\"",
        "1979-05-27",
        "lanes",
        "rows_max",
        "input.topic",
        "threshold.",
        "name",
        "entity",
        "{",
        "}",
        ",",
        "*",
        "18446744073709551615",
    ];
    let shipped = include_str!("../../config/strayd.toml");
    let seeds = vec![
        b"[input]\ntopic = \"x\"\nstart = \"2026-01-01T00:00:00Z\"\n[pipeline]\nlanes = 2\nrows_max = 64\n".to_vec(),
        b"input.topic = \"x\"\nthreshold.kind = \"spot\"\nthreshold.target_alert_rate = 1e-4\nmodel.latents = 8\n"
            .to_vec(),
        b"input.topic = \"x\"\n[[suppress]]\nname = \"a\"\nentity = \"p-*\"\n[features.temp]\ndeviation_min = 2\n"
            .to_vec(),
        b"input.topic = \"x\"\nkafka.librdkafka.\"fetch.wait.max.ms\" = \"5\"\n[incidents]\nm = 2\nn = 3\n".to_vec(),
        shipped.as_bytes().to_vec(),
    ];
    let dir = tempfile::tempdir().expect("a temporary folder can be made");
    let run = move |bytes: &[u8]| {
        let file = dir.path().join("strayd.toml");
        fs::write(&file, bytes).expect("the temporary folder can be written");
        let text = String::from_utf8_lossy(bytes);
        // A file's words on the command line, too.
        let pairs = text.lines().take(3).filter_map(|line| line.split_once('='));
        let overrides = pairs.map(|(key, value)| (key.trim().to_owned(), value.trim().to_owned())).collect();
        for (file, overrides) in [(Some(file.clone()), Vec::new()), (None, overrides)] {
            match Config::load(&Sources { file, environment: Vec::new(), overrides }) {
                Ok(config) => drop(config.version()),
                Err(problems) => {
                    assert!(!problems.0.is_empty());
                    return problems.0.iter().take(2).map(|problem| problem.message.as_str()).collect();
                }
            }
        }
        "ok".into()
    };
    Target { name: "configurations", seeds, words: WORDS, rarity: 200, run: Box::new(run) }
}
