//! Detection quality on public labelled streams: score first, learn after, as a daemon does.
//!
//! The data are not part of the project: they are looked for in `STRAYD_DATA_DIR` or beside the checkout, and a test
//! that lacks them says SKIPPED. `cargo test --release --test quality -- --ignored --nocapture` prints every set under
//! both protocols. Labels rank and report only; nothing here is tuned by set.

#![expect(clippy::unwrap_used, reason = "a test that unwraps nothing fails, as it should")]

use std::io::{Read, Write};
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use flate2::read::GzDecoder;
use ndarray::{Array2, ArrayView2, Axis, concatenate, s};

use strayd::model::{Model, Workspace};
use strayd::preprocess::Schema;
use strayd::record::RecordId;
use strayd::train::{Admission, Config, Rows, Schedule, fit, refit};

const SETS: [&str; 10] = [
    "memstream_ionosphere",
    "cardio",
    "satellite",
    "mammography",
    "cover",
    "kdd99_ds20",
    "thyroid",
    "pendigits",
    "shuttle",
    "skab_valve1",
];

/// The first rows are history, whatever their labels; or the first normal rows are, and all rows are scored.
#[derive(Clone, Copy, PartialEq, Debug)]
enum Protocol {
    Prefix,
    Normal,
}

struct Stream {
    values: Array2<f32>,
    labels: Vec<bool>,
}

struct Outcome {
    auc: f64,
    alert_rate_normal: f64,
    recall: f64,
}

fn data_dir() -> Option<PathBuf> {
    let beside = Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/data");
    let configured = std::env::var_os("STRAYD_DATA_DIR").map(PathBuf::from);
    configured.or(Some(beside)).filter(|dir| dir.is_dir())
}

fn skipped(test: &str) {
    let mut stderr = std::io::stderr();
    writeln!(stderr, "SKIPPED {test}: no data sets, set STRAYD_DATA_DIR").unwrap();
}

fn read(dir: &Path, set: &str) -> Stream {
    let mut text = String::new();
    let file = std::fs::File::open(dir.join(format!("{set}.csv.gz"))).unwrap();
    GzDecoder::new(file).read_to_string(&mut text).unwrap();
    let mut values = Vec::new();
    let mut labels = Vec::new();
    let mut n_features = 0;
    for line in text.lines().skip(1) {
        let row: Vec<f32> = line.split(',').map(|field| field.parse().unwrap_or(f32::NAN)).collect();
        let (label, features) = row.split_last().unwrap();
        n_features = features.len();
        values.extend_from_slice(features);
        labels.push(*label > 0.5);
    }
    Stream { values: Array2::from_shape_vec((labels.len(), n_features), values).unwrap(), labels }
}

fn rows(values: ArrayView2<'_, f32>, from: usize) -> Rows {
    let id = |i: usize| RecordId { partition: 0, offset: i64::try_from(i).unwrap() };
    Rows::new(values.to_owned(), (from..from + values.nrows()).map(id).collect())
}

/// Replays a stream: rounds as the schedule has them, every row scored before anything learns from it.
fn replay(stream: &Stream, protocol: Protocol, config: &Config, seed: u64) -> Outcome {
    let n = stream.labels.len();
    let n_warm = 2048.min(256.max(n / 10)).min(n / 2);
    let normal: Vec<usize> = (0..n).filter(|&i| !stream.labels[i]).take(n_warm).collect();
    let (all, first) = match protocol {
        Protocol::Prefix => (stream.values.clone(), 0),
        Protocol::Normal => {
            let warm = stream.values.select(Axis(0), &normal);
            (concatenate(Axis(0), &[warm.view(), stream.values.view()]).unwrap(), n_warm)
        }
    };
    let schema = Arc::new(Schema::new((0..all.ncols()).map(|j| format!("f{j}"))).unwrap());
    let warm = rows(all.slice(s![..n_warm, ..]), 0);
    let go_on = &mut |_| ControlFlow::Continue(());
    let first_model = fit(schema, &warm, config, seed, go_on).unwrap();
    let mut admission = Admission::after(&warm, &first_model.rejected);
    let mut model: Model = first_model.into_model(1, 0);
    let mut schedule = Schedule::new(config, n_warm as u64);
    let mut workspace = Workspace::new();
    let (mut scores, mut alerts, mut at) = (Vec::new(), Vec::new(), n_warm);
    while at < all.nrows() {
        let to = (at + usize::try_from(schedule.until_due()).unwrap().max(1)).min(all.nrows());
        model.score(all.slice(s![at..to, ..]), &mut workspace);
        scores.extend_from_slice(workspace.z());
        let z_at_alert = model.calibration.tail.z_at(1e-3);
        alerts.extend(workspace.z().iter().map(|z| *z > z_at_alert));
        schedule.record((to - at) as u64);
        at = to;
        if schedule.is_due() {
            let from = at.saturating_sub(config.rows_max);
            let newest = rows(all.slice(s![from..at, ..]), from);
            let fitted = refit(&model, &newest, &mut admission, config, seed, go_on).unwrap();
            model = fitted.into_model(model.version + 1, 0);
            schedule.done();
        }
    }
    let labels = &stream.labels[if first == 0 { n_warm } else { 0 }..];
    assert_eq!(scores.len(), labels.len());
    let n_of = |wanted: bool| labels.iter().filter(|label| **label == wanted).count() as f64;
    let alerts_of = |wanted: bool| labels.iter().zip(&alerts).filter(|(l, a)| **l == wanted && **a).count() as f64;
    Outcome {
        auc: auc(&scores, labels),
        alert_rate_normal: alerts_of(false) / n_of(false),
        recall: alerts_of(true) / n_of(true),
    }
}

/// Area under the ROC curve: the share of (anomalous, normal) pairs in the right order, ties half.
fn auc(scores: &[f64], labels: &[bool]) -> f64 {
    let mut order: Vec<usize> = (0..scores.len()).collect();
    order.sort_by(|&a, &b| scores[a].total_cmp(&scores[b]));
    let (mut rank_sum, mut at) = (0.0, 0);
    while at < order.len() {
        let mut to = at;
        while to < order.len() && scores[order[to]] == scores[order[at]] {
            to += 1;
        }
        let rank = (at + 1 + to) as f64 / 2.0;
        rank_sum += rank * order[at..to].iter().filter(|&&i| labels[i]).count() as f64;
        at = to;
    }
    let n_anomalous = labels.iter().filter(|label| **label).count() as f64;
    let n_normal = labels.len() as f64 - n_anomalous;
    (rank_sum - n_anomalous * (n_anomalous + 1.0) / 2.0) / (n_anomalous * n_normal)
}

#[test]
fn small_sets_are_ranked_well() {
    let Some(dir) = data_dir() else { return skipped("small_sets_are_ranked_well") };
    strayd::blas::init();
    for (set, least) in [("cardio", 0.88), ("memstream_ionosphere", 0.88), ("thyroid", 0.96)] {
        let outcome = replay(&read(&dir, set), Protocol::Prefix, &Config::default(), 0);
        assert!(outcome.auc >= least, "{set}: {:.3}", outcome.auc);
    }
}

#[test]
#[ignore = "a measurement of a minute, printed and not judged"]
fn every_set_under_both_protocols() {
    let Some(dir) = data_dir() else { return skipped("every_set_under_both_protocols") };
    strayd::blas::init();
    let config: Config =
        std::env::var("STRAYD_TRAIN").map_or_else(|_| Config::default(), |t| toml::from_str(&t).unwrap());
    let n_seeds: u64 = std::env::var("STRAYD_SEEDS").map_or(1, |n| n.parse().unwrap());
    let only = std::env::var("STRAYD_SETS").unwrap_or_default();
    let mut out = std::io::stdout();
    for protocol in [Protocol::Normal, Protocol::Prefix] {
        let mut means = vec![0.0; usize::try_from(n_seeds).unwrap()];
        for set in SETS.into_iter().filter(|set| only.is_empty() || only.split(',').any(|part| set.contains(part))) {
            let stream = read(&dir, set);
            let started = std::time::Instant::now();
            write!(out, "{protocol:?} {set:22}").unwrap();
            for seed in 0..n_seeds {
                let outcome = replay(&stream, protocol, &config, seed);
                means[seed as usize] += outcome.auc / SETS.len() as f64;
                let (auc, rate, recall) = (outcome.auc, outcome.alert_rate_normal, outcome.recall);
                write!(out, "  auc {auc:.3} false {rate:.4} recall {recall:.2}").unwrap();
            }
            writeln!(out, "  {:.1} s", started.elapsed().as_secs_f64()).unwrap();
        }
        writeln!(out, "{protocol:?} mean {means:.3?}").unwrap();
    }
}
