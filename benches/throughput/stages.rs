//! What each stage costs by itself: processor time of one thread, nanoseconds a record, at a lane's largest batch.
//!
//! The stages of scoring work on what the stages before them left. The whole lane runs over records in memory and a sink
//! that takes everything, so that it is the daemon's own thread without its clients.

use std::hint::black_box;
use std::sync::Arc;
use std::time::Duration;

use ndarray::{Array2, ArrayView2, s};
use serde_json::{Value, json};

use strayd::app;
use strayd::decode;
use strayd::model::{Model, Workspace, features};
use strayd::pipeline::inflight::Settling;
use strayd::pipeline::lane::{Lane, Step};
use strayd::sae::Forward;
use strayd::score::{MemberScores, mean_squared_residuals};
use strayd::sink::Sink;
use strayd::telemetry::Metrics;
use strayd::telemetry::health::Health;

use crate::clock::{median, thread_cpu_ns};
use crate::looped::{Looped, Nowhere};
use crate::peak::{Peak, sgemm};
use crate::race::{Stage, race};
use crate::setup::{N_DISTINCT, Place, Setup, checked};

/// Rows of a batch: the default of `pipeline.rows_max`.
pub const BATCH: usize = 256;
/// Records of a whole lane's run.
const N_LANE: u64 = 200_000;

/// Everything of one setup.
pub fn measure(setup: &Setup, peak: Peak, rounds: usize) -> anyhow::Result<Value> {
    let model = setup.train(&setup.model_config());
    let rows = setup.rows(BATCH, 3);
    let mut stages = decoding(setup, &model, rounds);
    stages.extend(scoring(&model, rows.view(), rounds));
    stages.extend(members(&model, rows.view(), rounds));
    stages.extend(judging(setup, &model, &rows, rounds)?);
    let sizes = [1, 8, 32, 64, 256, 1024].map(|n| (n, whole_score(&model, setup, n, rounds)));
    Ok(json!({
        "setup": setup.name,
        "shape": setup.shape(),
        "memory_rows": setup.memory_rows,
        "stages": stages.into_iter().collect::<serde_json::Map<_, _>>(),
        "score_by_batch": sizes.into_iter().map(|(n, ns)| (n.to_string(), ns.into())).collect::<serde_json::Map<_, _>>(),
        "products": products(&model, peak, rounds),
        "lane": whole_lane(setup, &model, rounds)?,
    }))
}

fn json_of(times: Vec<(String, f64)>) -> Vec<(String, Value)> {
    times.into_iter().map(|(name, ns)| (name, ns.into())).collect()
}

fn decoding(setup: &Setup, model: &Model, rounds: usize) -> Vec<(String, Value)> {
    let payloads = setup.payloads(BATCH);
    let config = decode::Config { format: setup.format, ..Default::default() };
    let mut decoder = decode::build(&config, &features::fields(&model.schema));
    let mut values = vec![f32::NAN; setup.n_features];
    let stage = Stage::new("decode", BATCH, || {
        for payload in &payloads {
            values.fill(f32::NAN);
            decoder.decode(black_box(payload), &mut values).expect("a good record");
        }
    });
    json_of(race(vec![stage], rounds))
}

/// A batch as preprocessing leaves it, and its mask: `[rows, n_inputs]`.
fn standardised(model: &Model, rows: ArrayView2<'_, f32>) -> (Array2<f32>, Array2<f32>) {
    let shape = (rows.nrows(), model.preprocessor.n_inputs());
    let (mut x, mut mask) = (Array2::zeros(shape), Array2::zeros(shape));
    model.preprocessor.transform(rows, x.view_mut(), mask.view_mut());
    (x, mask)
}

fn scoring(model: &Model, rows: ArrayView2<'_, f32>, rounds: usize) -> Vec<(String, Value)> {
    let (preprocessor, sae) = (&model.preprocessor, &model.autoencoder);
    let weights = preprocessor.column_weights();
    let (x, mask) = standardised(model, rows);
    let mut forward = Forward::default();
    sae.encode(x.view(), mask.view(), &mut forward);
    // What is selected from is gone afterwards: a copy of the pre-activations is selected from again.
    let encoded = forward.clone();
    sae.activate(&mut forward);
    let mut activated = forward.clone();
    sae.decode(&mut forward);
    let (mut fresh, mut seen) = (x.clone(), mask.clone());
    let (mut scratch, mut residuals) = (Forward::default(), Vec::new());
    let stages = vec![
        Stage::new("preprocess", BATCH, || {
            preprocessor.transform(black_box(rows), fresh.view_mut(), seen.view_mut());
        }),
        Stage::new("encode", BATCH, || sae.encode(black_box(x.view()), mask.view(), &mut scratch)),
        Stage::new("copy", BATCH, || drop(black_box(encoded.clone()))),
        Stage::new("select", BATCH, || {
            let mut copied = encoded.clone();
            sae.activate(black_box(&mut copied));
        }),
        Stage::new("decode product", BATCH, || sae.decode(black_box(&mut activated))),
        Stage::new("residual", BATCH, || {
            mean_squared_residuals(black_box(x.view()), forward.recons(), mask.view(), weights, &mut residuals);
        }),
    ];
    let mut times = race(stages, rounds);
    let copy = times.remove(2).1;
    times[2].1 -= copy;
    json_of(times)
}

fn members(model: &Model, rows: ArrayView2<'_, f32>, rounds: usize) -> Vec<(String, Value)> {
    let Some(members) = &model.members else { return Vec::new() };
    let weights = model.preprocessor.column_weights();
    let (x, mask) = standardised(model, rows);
    let [mut memory, mut tails, mut both] = [(); 3].map(|()| MemberScores::default());
    members.measure(x.view(), mask.view(), weights, &mut both);
    let mut raw = vec![0.0; BATCH];
    let stages = vec![
        Stage::new("memory", BATCH, || {
            members.measure_memory(black_box(x.view()), mask.view(), weights, &mut memory);
        }),
        Stage::new("tails", BATCH, || {
            members.measure_tails(black_box(x.view()), mask.view(), weights, &mut tails);
        }),
        Stage::new("combine", BATCH, || {
            raw.fill(0.01);
            members.combine(black_box(&both), &mut raw);
        }),
    ];
    json_of(race(stages, rounds))
}

/// Thresholds and anomalies; the explanation and the record of an anomaly are given an anomaly, not a record.
fn judging(setup: &Setup, model: &Model, rows: &Array2<f32>, rounds: usize) -> anyhow::Result<Vec<(String, Value)>> {
    let shared = app::shared(&checked(nowhere(setup))?, Arc::new(Metrics::new()), Health::new(1));
    let mut workspace = Workspace::new();
    model.score(rows.view(), &mut workspace);
    let mut threshold = shared.threshold_of(model);
    let scores = workspace.z().to_vec();
    let stages = vec![
        Stage::new("threshold", BATCH, || {
            for &z in &scores {
                black_box(threshold.judge(black_box(z)));
            }
        }),
        Stage::new("explain an anomaly", 1, || {
            black_box(model.explain(rows.row(0), &workspace, 0, shared.output.features_max));
        }),
    ];
    Ok(json_of(race(stages, rounds)))
}

/// Scoring a batch of `n_rows`, nanoseconds a record.
pub fn whole_score(model: &Model, setup: &Setup, n_rows: usize, rounds: usize) -> f64 {
    let rows = setup.rows(n_rows, 3);
    let mut workspace = Workspace::new();
    let stage = Stage::new("score", n_rows, || model.score(black_box(rows.view()), &mut workspace));
    race(vec![stage], rounds)[0].1
}

/// The two products of scoring beside a bare `cblas_sgemm` of the same shape, and beside the peak.
fn products(model: &Model, peak: Peak, rounds: usize) -> Value {
    let shape = model.autoencoder.shape();
    let (d, m) = (shape.n_inputs, shape.n_latents);
    let mut found = serde_json::Map::new();
    for n_rows in [64, 256, 1024] {
        let rows = Array2::from_shape_fn((n_rows, d), |(i, j)| ((i * 31 + j * 17) % 97) as f32 / 97.0 - 0.5);
        let latents = Array2::from_shape_fn((n_rows, m), |(i, j)| ((i * 13 + j * 7) % 89) as f32 / 89.0);
        let bare_rows = rows.as_slice().expect("standard layout");
        let (w_enc, w_dec) = (&model.autoencoder.w_enc, &model.autoencoder.w_dec);
        let (w_enc_bare, w_dec_bare) =
            (w_enc.as_slice().expect("standard layout"), w_dec.as_slice().expect("standard layout"));
        let (mut out, mut bare) = (vec![0.0; n_rows * m], vec![0.0; n_rows * d]);
        let (mut pre, mut recons) = (Array2::<f32>::zeros((n_rows, m)), Array2::<f32>::zeros((n_rows, d)));
        let bare_latents = latents.as_slice().expect("standard layout");
        let stages = vec![
            Stage::new("encode bare", n_rows, || sgemm((n_rows, m, d), bare_rows, w_enc_bare, black_box(&mut out))),
            Stage::new("encode", n_rows, || {
                ndarray::linalg::general_mat_mul(
                    1.0,
                    &rows,
                    w_enc,
                    1.0,
                    black_box(&mut pre.slice_mut(s![..n_rows, ..])),
                );
            }),
            Stage::new("decode bare", n_rows, || sgemm((n_rows, d, m), bare_latents, w_dec_bare, black_box(&mut bare))),
            Stage::new("decode", n_rows, || {
                let mut recons = recons.slice_mut(s![..n_rows, ..]);
                ndarray::linalg::general_mat_mul(1.0, &latents, w_dec, 1.0, black_box(&mut recons));
            }),
        ];
        let times = race(stages, rounds);
        let flops = (2 * d * m) as f64;
        let of = |i: usize| times[i].1;
        found.insert(
            n_rows.to_string(),
            json!({
                "encode_of_bare": of(0) / of(1),
                "decode_of_bare": of(2) / of(3),
                "of_bare": (of(0) + of(2)) / (of(1) + of(3)),
                "gflops": 2.0 * flops / (of(1) + of(3)),
                "bare_gflops": 2.0 * flops / (of(0) + of(2)),
                "of_avx2_peak": peak.avx2.map(|peak| 2.0 * flops / (of(1) + of(3)) / peak),
                "of_highest_peak": 2.0 * flops / (of(1) + of(3)) / peak.highest(),
            }),
        );
    }
    found.into()
}

/// A configuration that names no world.
fn nowhere(setup: &Setup) -> strayd::config::RawConfig {
    let name = |text: &str| text.to_owned();
    let place = Place {
        brokers: name("127.0.0.1:1"),
        topic: name("features"),
        anomalies: name("anomalies"),
        dead_letters: name("dead-letters"),
        group: name("group"),
        registry: "models".into(),
    };
    place.raw_config(setup, 1)
}

/// A lane over records in memory, everything on but Kafka.
pub fn whole_lane(setup: &Setup, model: &Model, rounds: usize) -> anyhow::Result<Value> {
    let model = Arc::new(model.clone());
    let (mut times, mut share) = (Vec::new(), 0.0);
    for _ in 0..rounds.max(1) {
        let config = checked(nowhere(setup))?;
        let shared = app::shared(&config, Arc::new(Metrics::new()), Health::new(1));
        shared.cell.swap(Arc::clone(&model));
        let sink: Arc<dyn Sink> = Arc::new(Nowhere);
        let settling = Arc::new(Settling::new(Arc::clone(&sink), Duration::from_secs(1), 0));
        let source = Looped::new(setup.payloads(N_DISTINCT), N_LANE);
        let mut lane = Lane::new(0, shared.clone(), Box::new(source), sink, settling);
        // The first records warm it up.
        while shared.n_scored() < 10_000 {
            lane.step()?;
        }
        let (began, before) = (thread_cpu_ns(), shared.n_scored());
        while lane.step()? != Step::End {}
        times.push((thread_cpu_ns() - began) as f64 / (shared.n_scored() - before) as f64);
        share = shared.n_alerts() as f64 / shared.n_scored() as f64;
    }
    Ok(json!({ "ns": median(times), "alert_share": share }))
}
