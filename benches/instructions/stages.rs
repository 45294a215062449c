//! The stages, each with fixed work on seeded data.
//!
//! D = 32. Models are small trainings: what a stage takes depends on sizes, not on what was learnt. Every stage has run
//! before it is counted, so that its buffers have their size.

use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::Duration;

use ndarray::{Array2, ArrayView1, ArrayView2, s};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use rand_distr::StandardNormal;
use strayd::app;
use strayd::batch::{Batch, Carried};
use strayd::config::{Config, RawConfig};
use strayd::decode::{self, Field, Format};
use strayd::model::{Model, Workspace};
use strayd::pipeline::Shared;
use strayd::pipeline::inflight::Settling;
use strayd::pipeline::lane::Lane;
use strayd::pipeline::publish::{Judged, Occasion, Publisher};
use strayd::preprocess::Schema;
use strayd::record::RecordId;
use strayd::sae::{self, Example, Learner, Pace};
use strayd::sink::anomaly::Score;
use strayd::sink::{Outgoing, Receipt, Sink, SinkError};
use strayd::source::{Polled, Position, Raw, Source, SourceError};
use strayd::telemetry::Metrics;
use strayd::telemetry::health::Health;
use strayd::threshold::{self, Calibration, Kind, Severity, Tail};
use strayd::train::{self, Rows};

/// The function within which callgrind collects.
pub const MEASURED: &str = "stage_under_callgrind";

const N_FEATURES: usize = 32;
/// Rows of a batch of the lane and of scoring.
const N_BATCH: usize = 256;
/// Rows that models learn and that stages work on.
const N_ROWS: usize = 1024;

/// Every stage.
pub const NAMES: [&str; 12] = [
    "decode_json_object",
    "decode_json_array",
    "decode_packed",
    "preprocess",
    "score_small",
    "score_default",
    "judge",
    "lane_small",
    "lane_default",
    "explain",
    "write_anomaly",
    "training_step",
];

/// Runs a stage of [`NAMES`].
pub fn run(name: &str) {
    let rows = rows();
    match name {
        "decode_json_object" => decoding(Format::Json, rows.rows().into_iter().map(object).collect()),
        "decode_json_array" => decoding(Format::Json, rows.rows().into_iter().map(array).collect()),
        "decode_packed" => decoding(Format::Packed, rows.rows().into_iter().map(packed).collect()),
        "preprocess" => preprocessing(&model(&rows, &small()), rows.view()),
        "score_small" => scoring(&model(&rows, &small()), rows.view()),
        "score_default" => scoring(&model(&rows, &short()), rows.view()),
        "judge" => judging(),
        "lane_small" => turns(model(&rows, &small()), rows.view()),
        "lane_default" => turns(model(&rows, &short()), rows.view()),
        "explain" => explaining(&model(&rows, &short()), rows.view()),
        "write_anomaly" => writing(model(&rows, &short()), rows.view()),
        "training_step" => training(rows.view()),
        _ => panic!("there is no stage {name}"),
    }
}

/// Runs `stage` once uncounted and then `n_times` counted; prints how many records of `n_records` each that were.
fn measure(n_records: usize, n_times: usize, mut stage: impl FnMut()) {
    stage();
    stage_under_callgrind(&mut stage, n_times);
    println!("{}", n_records * n_times);
}

#[inline(never)]
fn stage_under_callgrind(stage: &mut dyn FnMut(), n_times: usize) {
    (0..n_times).for_each(|_| stage());
}

/// Rows `[N_ROWS, N_FEATURES]` that follow three hidden factors, with a tenth of noise.
fn rows() -> Array2<f32> {
    let mut rng = ChaCha8Rng::seed_from_u64(1);
    let mut normal = |shape| Array2::from_shape_simple_fn(shape, || rng.sample::<f32, _>(StandardNormal));
    normal((N_ROWS, 3)).dot(&normal((3, N_FEATURES))) + 0.1 * normal((N_ROWS, N_FEATURES)) + 20.0
}

fn names() -> impl Iterator<Item = String> {
    (0..N_FEATURES).map(|i| format!("sensor_{i}"))
}

fn packed(row: ArrayView1<'_, f32>) -> Vec<u8> {
    row.iter().flat_map(|value| value.to_le_bytes()).collect()
}

fn object(row: ArrayView1<'_, f32>) -> Vec<u8> {
    let fields: Vec<String> = names().zip(row).map(|(name, value)| format!("\"{name}\": {value:.3}")).collect();
    format!("{{{}}}", fields.join(", ")).into_bytes()
}

fn array(row: ArrayView1<'_, f32>) -> Vec<u8> {
    let values: Vec<String> = row.iter().map(|value| format!("{value:.3}")).collect();
    format!("[{}]", values.join(", ")).into_bytes()
}

/// A training of few steps: under callgrind each takes fifty times as long.
fn short() -> train::Config {
    train::Config { steps: 8, trial_steps: 8, ..train::Config::default() }
}

/// The model of the figures that other programs are compared with: M = 64, k = 8, no memory.
fn small() -> train::Config {
    let mut config = short();
    config.sae.n_latents = Some(64);
    config.sae.k = Some(8);
    config.members.memory_rows = 0;
    config
}

fn model(rows: &Array2<f32>, config: &train::Config) -> Arc<Model> {
    let schema = Arc::new(Schema::new(names()).expect("the names differ"));
    let ids = (0..N_ROWS as i64).map(|offset| RecordId { partition: 1.into(), offset }).collect();
    let fitted = train::fit(schema, &Rows::new(rows.clone(), ids), config, 0, &mut |_| ControlFlow::Continue(()));
    Arc::new(fitted.expect("the rows can be learnt").into_model(1, 0))
}

fn decoding(format: Format, payloads: Vec<Vec<u8>>) {
    let features: Vec<Field> = names().map(Field::number).collect();
    let mut decoder = decode::build(&decode::Config { format, ..decode::Config::default() }, &features);
    let mut out = vec![f32::NAN; N_FEATURES];
    measure(payloads.len(), 1, || {
        for payload in &payloads {
            out.fill(f32::NAN);
            decoder.decode(payload, &mut out).expect("a good record");
        }
    });
}

fn preprocessing(model: &Model, rows: ArrayView2<'_, f32>) {
    let (mut out, mut mask) = (Array2::zeros(rows.dim()), Array2::zeros(rows.dim()));
    measure(N_ROWS, 4, || {
        model.preprocessor.transform(rows, out.view_mut(), mask.view_mut());
    });
}

fn scoring(model: &Model, rows: ArrayView2<'_, f32>) {
    let (mut workspace, batch) = (Workspace::new(), rows.slice(s![..N_BATCH, ..]));
    measure(N_BATCH, 8, || model.score(batch, &mut workspace));
}

/// The default threshold on scores with a tail like that of log residuals, its window full.
fn judging() {
    let mut rng = ChaCha8Rng::seed_from_u64(2);
    let scores: Vec<f64> = (0..32_768)
        .map(|_| {
            let noise: f64 = rng.sample(StandardNormal);
            noise + 0.4 * noise.max(0.0).powi(2)
        })
        .collect();
    let tail = Tail::fit(scores.iter().step_by(16).copied().collect());
    let calibration = Calibration { location: 0.0, scale: 1.0, tail };
    let mut rule = threshold::build(&threshold::Config::of(Kind::AdaptivePot, 1e-3), &calibration);
    measure(scores.len(), 1, || scores.iter().for_each(|z| _ = rule.judge(*z)));
}

/// A detector with the default configuration and this model.
fn shared(model: &Arc<Model>) -> Shared {
    let mut raw = RawConfig::default();
    raw.input.topic = "features".into();
    raw.decode.format = Format::Packed;
    let config = Config::check(raw).expect("the configuration is right");
    let shared = app::shared(&config, Arc::new(Metrics::new()), Health::new(1));
    shared.cell.swap(Arc::clone(model));
    shared
}

fn turns(model: Arc<Model>, rows: ArrayView2<'_, f32>) {
    let shared = shared(&model);
    let payloads = rows.rows().into_iter().map(packed).collect();
    let sink: Arc<dyn Sink> = Arc::new(Void);
    let settling = Arc::new(Settling::new(Arc::clone(&sink), Duration::ZERO, 0));
    let mut lane = Lane::new(0, shared, Box::new(Endless { payloads, offset: 0 }), sink, settling);
    (0..16).for_each(|_| _ = lane.step().expect("nothing fails"));
    measure(N_BATCH, 16, || _ = lane.step().expect("nothing fails"));
}

fn explaining(model: &Model, rows: ArrayView2<'_, f32>) {
    let (mut workspace, batch) = (Workspace::new(), rows.slice(s![..N_BATCH, ..]));
    model.score(batch, &mut workspace);
    let n_rows = 32; // Each takes as long as the scoring of dozens.
    measure(n_rows, 1, || {
        for (i, row) in batch.rows().into_iter().take(n_rows).enumerate() {
            model.explain(row, &workspace, i, 5);
        }
    });
}

/// The record of one anomaly after another, for the same reasons.
fn writing(model: Arc<Model>, rows: ArrayView2<'_, f32>) {
    let (shared, mut workspace, mut batch) = (shared(&model), Workspace::new(), Batch::new(N_BATCH, N_FEATURES));
    for (offset, row) in rows.rows().into_iter().take(N_BATCH).enumerate() {
        batch.slot().iter_mut().zip(row).for_each(|(slot, value)| *slot = *value);
        let id = RecordId { partition: 0.into(), offset: offset as i64 };
        batch.push(id, id.offset, Carried { key: Some(b"pump-7"), ..Carried::default() });
    }
    model.score(batch.values(), &mut workspace);
    let publisher = Publisher::new(&shared, 0, Arc::new(Void));
    let receipt = Receipt::default();
    let verdict = threshold::build(&shared.threshold, &model.calibration).judge(9.0);
    let severity = Some(Severity::of(verdict.p_value, shared.target(&model)));
    let why = model.explain(batch.values().row(0), &workspace, 0, shared.output.features_max);
    measure(N_BATCH, 2, || {
        let occasion = Occasion::new(&model);
        for i in 0..batch.len() {
            let score = Score::new(workspace.raw()[i], 1.0, workspace.z()[i], &verdict, severity);
            let judged =
                Judged { batch: &batch, workspace: &workspace, at: i, score, headers: None, occasion: &occasion };
            publisher.anomaly(&judged, &why, None, &receipt).expect("the sink takes all");
        }
    });
}

/// A step of the default training.
fn training(rows: ArrayView2<'_, f32>) {
    let n_rows = 64;
    let x = rows.slice(s![..n_rows, ..]).mapv(|value| (value - 20.0) / 2.0);
    let ones = Array2::ones(x.dim());
    let rng = &mut ChaCha8Rng::seed_from_u64(3);
    let input_mask = ones.mapv(|one: f32| if rng.random_bool(0.1) { 0.0 } else { one });
    let config = sae::Config::default();
    let mut model = sae::start(&config, x.view(), ones.view(), rng).expect("the default fits");
    let mut learner = Learner::new(&model, config.method());
    let (sample_weight, column_weight) = (vec![1.0; n_rows], vec![1.0; N_FEATURES]);
    let batch = Example {
        x: x.view(),
        mask: ones.view(),
        input_mask: input_mask.view(),
        sample_weight: &sample_weight,
        column_weight: &column_weight,
        hidden_scale: &[],
    };
    measure(1, 32, || {
        learner.step(&mut model, &batch, Pace { lr: 1e-3, l1_share: 1.0 }).expect("the loss is finite");
    });
}

/// Hands the same payloads out for ever and forgets what is settled.
struct Endless {
    payloads: Vec<Vec<u8>>,
    offset: i64,
}

impl Source for Endless {
    fn poll(&mut self, max: usize, _: Duration, take: &mut dyn FnMut(Raw<'_>)) -> Result<Polled, SourceError> {
        let n = max.min(N_BATCH);
        for _ in 0..n {
            let payload = &self.payloads[self.offset as usize % self.payloads.len()];
            let id = RecordId { partition: 0.into(), offset: self.offset };
            take(Raw { id, time_ms: self.offset, key: Some(b"pump-7"), payload: Some(payload), headers: None });
            self.offset += 1;
        }
        Ok(Polled::Records(n))
    }

    fn store(&mut self, _: &[Position]) -> Result<usize, SourceError> {
        Ok(0)
    }
}

/// Takes everything and keeps nothing.
struct Void;

impl Sink for Void {
    fn send(&self, _: &Outgoing<'_>, _: &Receipt) -> Result<(), SinkError> {
        Ok(())
    }

    fn poll(&self, _: Duration) {}

    fn flush(&self, _: Duration) -> bool {
        true
    }
}
