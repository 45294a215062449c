//! Measures the work of a lane and of a round: decoding a record, scoring a batch, carrying a model on.
//!
//! D = 32 features with the default model (128 latents, 32 of them active). One thread, OpenBLAS included. It proves
//! nothing: claims of speed compare two runs of it on one machine.

use std::hint::black_box;
use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::Duration;

use criterion::{BatchSize, BenchmarkId, Criterion, Throughput};
use ndarray::{Array2, s};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use rand_distr::StandardNormal;
use strayd::blas;
use strayd::decode::{self, Field, Format};
use strayd::model::{Model, Workspace};
use strayd::preprocess::Schema;
use strayd::record::RecordId;
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
    Rows::new(values, (0..n_rows as i64).map(|offset| RecordId { partition: 0, offset }).collect())
}

fn model() -> Model {
    let schema = Arc::new(Schema::new(names()).expect("the names differ"));
    let config = train::Config::default();
    let fitted = train::fit(schema, &rows(N_ROWS), &config, 0, &mut |_| ControlFlow::Continue(()));
    fitted.expect("the rows can be learnt").into_model(1, 0)
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
    let (model, rows, mut workspace) = (model(), rows(256), Workspace::new());
    let mut group = c.benchmark_group("score");
    for n_rows in [1, 64, 256] {
        let batch = rows.values.slice(s![..n_rows, ..]);
        group.throughput(Throughput::Elements(n_rows as u64));
        group.bench_function(BenchmarkId::new("model", format!("D={N_FEATURES}, rows={n_rows}")), |b| {
            b.iter(|| model.score(black_box(batch), &mut workspace));
        });
    }
    group.throughput(Throughput::Elements(1));
    model.score(rows.values.view(), &mut workspace);
    group.bench_function(BenchmarkId::new("explain", format!("D={N_FEATURES}")), |b| {
        b.iter(|| model.explain(black_box(rows.values.row(0)), &workspace, 0, 5));
    });
    group.finish();
}

fn rounds(c: &mut Criterion) {
    let (model, rows, config) = (model(), rows(N_RECENT), train::Config::default());
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
