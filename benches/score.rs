//! Measures the work of a lane and of a round: decoding a record, scoring a batch, carrying a model on.
//!
//! D = 32 features with the default model (128 latents, 32 of them active, memory and tails) and with the autoencoder
//! alone (64 latents, 8 active), whole and stage by stage. One thread, OpenBLAS included. It proves nothing: claims of
//! speed compare two runs of it on one machine.

use std::hint::black_box;
use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::Duration;

use criterion::{BatchSize, BenchmarkGroup, BenchmarkId, Criterion, Throughput, measurement::WallTime};
use ndarray::{Array2, ArrayView2, s};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use rand_distr::StandardNormal;
use strayd::blas;
use strayd::decode::{self, Field, Format};
use strayd::model::{Model, Workspace};
use strayd::preprocess::Schema;
use strayd::record::RecordId;
use strayd::sae::Forward;
use strayd::score::{MemberScores, mean_squared_residuals};
use strayd::train::{self, Admission, Rows};

const N_FEATURES: usize = 32;
/// Rows of the first model, enough for its default number of steps.
const N_ROWS: usize = 4_000;
/// Rows that a round reads: the default of `history.recent_rows`.
const N_RECENT: usize = 20_000;

fn names() -> Vec<String> {
    (0..N_FEATURES).map(|i| format!("sensor_{i}")).collect()
}

/// Rows `[n_rows, N_FEATURES]` that follow three hidden factors, with a tenth of noise.
fn rows(n_rows: usize) -> Rows {
    let mut rng = ChaCha8Rng::seed_from_u64(1);
    let mut normal = |shape| Array2::from_shape_simple_fn(shape, || rng.sample::<f32, _>(StandardNormal));
    let values = normal((n_rows, 3)).dot(&normal((3, N_FEATURES))) + 0.1 * normal((n_rows, N_FEATURES)) + 20.0;
    Rows::new(values, (0..n_rows as i64).map(|offset| RecordId { partition: 0.into(), offset }).collect())
}

fn model(config: &train::Config) -> Model {
    let schema = Arc::new(Schema::new(names()).expect("the names differ"));
    let fitted = train::fit(schema, &rows(N_ROWS), config, 0, &mut |_| ControlFlow::Continue(()));
    fitted.expect("the rows can be learnt").into_model(1, 0)
}

/// The models that are scored with, by name: the default, and 64 latents of which 8 are active without memory and tails.
fn models() -> [(&'static str, Model); 2] {
    let mut alone = train::Config::default();
    (alone.sae.n_latents, alone.sae.k, alone.members.memory_rows) = (Some(64), Some(8), 0);
    [("default", model(&train::Config::default())), ("alone", model(&alone))]
}

fn decoding(c: &mut Criterion) {
    let rows = rows(1);
    let row: Vec<f32> = rows.values.row(0).to_vec();
    let fields: Vec<String> = names().iter().zip(&row).map(|(name, value)| format!("\"{name}\": {value:.3}")).collect();
    let values: Vec<String> = row.iter().map(|value| format!("{value:.3}")).collect();
    let payloads = [
        ("json_object", Format::Json, format!("{{{}}}", fields.join(", ")).into_bytes()),
        ("json_array", Format::Json, format!("[{}]", values.join(", ")).into_bytes()),
        ("packed", Format::Packed, row.iter().flat_map(|value| value.to_le_bytes()).collect()),
    ];
    let mut group = c.benchmark_group("decode");
    for (name, format, payload) in payloads {
        let features: Vec<Field> = names().into_iter().map(Field::number).collect();
        let mut decoder = decode::build(&decode::Config { format, ..decode::Config::default() }, &features);
        let mut out = vec![f32::NAN; N_FEATURES];
        group.throughput(Throughput::Elements(1));
        group.bench_function(BenchmarkId::new(name, format!("D={N_FEATURES}")), |b| {
            b.iter(|| {
                out.fill(f32::NAN);
                decoder.decode(black_box(&payload), &mut out).expect("a good record")
            });
        });
    }
    group.finish();
}

fn scoring(c: &mut Criterion) {
    let rows = rows(N_ROWS);
    for (name, model) in models() {
        let mut group = c.benchmark_group(format!("score/{name}"));
        for n_rows in [1, 64, 256] {
            let batch = rows.values.slice(s![..n_rows, ..]);
            group.throughput(Throughput::Elements(n_rows as u64));
            let mut workspace = Workspace::new();
            group.bench_function(BenchmarkId::new("model", n_rows), |b| {
                b.iter(|| model.score(black_box(batch), &mut workspace));
            });
            stages(&mut group, &model, batch);
        }
        group.throughput(Throughput::Elements(1));
        let mut workspace = Workspace::new();
        model.score(rows.values.slice(s![..1, ..]), &mut workspace);
        group.bench_function("explain", |b| {
            b.iter(|| model.explain(black_box(rows.values.row(0)), &workspace, 0, 5));
        });
        group.finish();
    }
}

/// Each stage of [`Model::score`] on its own, over a batch that the stages before it have seen.
fn stages(group: &mut BenchmarkGroup<'_, WallTime>, model: &Model, batch: ArrayView2<'_, f32>) {
    let (preprocessor, sae) = (&model.preprocessor, &model.autoencoder);
    let weights = preprocessor.column_weights();
    let id = |stage: &str| BenchmarkId::new(stage, batch.nrows());
    let (mut x, mut mask) = (Array2::zeros(batch.dim()), Array2::zeros(batch.dim()));
    preprocessor.transform(batch, x.view_mut(), mask.view_mut());
    group.bench_function(id("preprocess"), |b| {
        b.iter(|| preprocessor.transform(black_box(batch), x.view_mut(), mask.view_mut()));
    });
    let (mut forward, mut raw) = (Forward::default(), Vec::new());
    group.bench_function(id("encode"), |b| b.iter(|| sae.encode(black_box(x.view()), mask.view(), &mut forward)));
    // What is selected from is gone afterwards, so that it takes a copy of the pre-activations to select again.
    sae.encode(x.view(), mask.view(), &mut forward);
    let encoded = forward.clone();
    group.bench_function(id("activate"), |b| {
        b.iter_batched_ref(|| encoded.clone(), |forward| sae.activate(forward), BatchSize::SmallInput);
    });
    sae.activate(&mut forward);
    group.bench_function(id("decode"), |b| b.iter(|| sae.decode(black_box(&mut forward))));
    group.bench_function(id("residual"), |b| {
        b.iter(|| mean_squared_residuals(black_box(x.view()), forward.recons(), mask.view(), weights, &mut raw));
    });
    let Some(members) = &model.members else { return };
    let mut scores = MemberScores::default();
    group.bench_function(id("memory"), |b| {
        b.iter(|| members.measure_memory(black_box(x.view()), mask.view(), weights, &mut scores));
    });
    group.bench_function(id("tails"), |b| {
        b.iter(|| members.measure_tails(black_box(x.view()), mask.view(), weights, &mut scores));
    });
    let residuals = raw.clone();
    group.bench_function(id("combine"), |b| {
        b.iter(|| {
            raw.copy_from_slice(black_box(&residuals));
            members.combine(&scores, &mut raw);
        });
    });
}

fn rounds(c: &mut Criterion) {
    let config = train::Config::default();
    let (model, rows) = (model(&config), rows(N_RECENT));
    let mut group = c.benchmark_group("train");
    group.sample_size(10).measurement_time(Duration::from_secs(5));
    group.bench_function(BenchmarkId::new("refit", format!("D={N_FEATURES}, rows={N_RECENT}")), |b| {
        let mut go_on = |_| ControlFlow::Continue(());
        let round = |mut admission: Admission| {
            train::refit(train::Round::warm(&model, black_box(&rows), 1), &mut admission, &config, &mut go_on)
                .expect("rows are admitted")
        };
        b.iter_batched(Admission::default, round, BatchSize::PerIteration);
    });
    group.finish();
}

fn main() {
    blas::init(); // one thread, as in the daemon
    let mut c = Criterion::default().configure_from_args();
    decoding(&mut c);
    scoring(&mut c);
    rounds(&mut c);
    c.final_summary();
}
