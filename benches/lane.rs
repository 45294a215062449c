//! Measures what a lane adds to reading, decoding and scoring: the default threshold alone, and whole turns of the loop.
//!
//! D = 32 packed features from memory, one partition, no anomaly: the pass path. The sink takes nothing, so what remains
//! of a turn beside `score` (benches/score.rs) is the lane's own. It proves nothing: claims of speed compare two runs.

use std::hint::black_box;
use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::Duration;

use criterion::{BenchmarkId, Criterion, Throughput};
use ndarray::Array2;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use rand_distr::StandardNormal;
use strayd::config::{Config, RawConfig};
use strayd::decode::Format;
use strayd::pipeline::inflight::Settling;
use strayd::pipeline::lane::Lane;
use strayd::preprocess::Schema;
use strayd::record::RecordId;
use strayd::sink::{MemorySink, Sink};
use strayd::source::{Polled, Position, Raw, Source, SourceError};
use strayd::telemetry::Metrics;
use strayd::telemetry::health::Health;
use strayd::threshold::{self, Kind};
use strayd::train::{self, Rows};
use strayd::{app, blas};

const N_FEATURES: usize = 32;
/// Rows of the model, enough for its default number of steps.
const N_ROWS: usize = 4_000;
/// Scores that are judged in turn.
const N_SCORES: usize = 1 << 16;

/// Rows `[n_rows, N_FEATURES]` that follow three hidden factors, with a tenth of noise.
fn rows(n_rows: usize) -> Array2<f32> {
    let mut rng = ChaCha8Rng::seed_from_u64(1);
    let mut normal = |shape| Array2::from_shape_simple_fn(shape, || rng.sample::<f32, _>(StandardNormal));
    normal((n_rows, 3)).dot(&normal((3, N_FEATURES))) + 0.1 * normal((n_rows, N_FEATURES)) + 20.0
}

/// Hands the same payloads out for ever, at most `max` at once, and forgets what is settled.
struct Endless {
    payloads: Vec<Vec<u8>>,
    offset: i64,
    max: usize,
}

impl Source for Endless {
    fn poll(&mut self, max: usize, _: Duration, take: &mut dyn FnMut(Raw<'_>)) -> Result<Polled, SourceError> {
        let n = max.min(self.max);
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

/// A lane over rows that its model has learnt, in turns of at most `rows_max` records.
fn lane(config: &train::Config, rows_max: usize) -> Lane {
    let values = rows(N_ROWS);
    let payload = |row: ndarray::ArrayView1<'_, f32>| row.iter().flat_map(|value| value.to_le_bytes()).collect();
    let payloads = values.rows().into_iter().map(payload).collect();
    let schema = Arc::new(Schema::new((0..N_FEATURES).map(|i| format!("sensor_{i}"))).expect("the names differ"));
    let ids = (0..N_ROWS as i64).map(|offset| RecordId { partition: 1.into(), offset }).collect();
    let fitted = train::fit(schema, &Rows::new(values, ids), config, 0, &mut |_| ControlFlow::Continue(()));
    let mut raw = RawConfig::default();
    raw.input.topic = "features".into();
    raw.decode.format = Format::Packed;
    let config = Config::check(raw).expect("the configuration is right");
    let shared = app::shared(&config, Arc::new(Metrics::new()), Health::new(1));
    shared.cell.swap(Arc::new(fitted.expect("the rows can be learnt").into_model(1, 0)));
    let sink: Arc<dyn Sink> = Arc::new(MemorySink::default());
    let settling = Arc::new(Settling::new(Arc::clone(&sink), Duration::ZERO, config.threshold.rewind()));
    Lane::new(0, shared, Box::new(Endless { payloads, offset: 0, max: rows_max }), sink, settling)
}

fn judging(c: &mut Criterion) {
    let mut rng = ChaCha8Rng::seed_from_u64(2);
    // A tail like that of log residuals, and what is typical moves slowly.
    let scores: Vec<f64> = (0..N_SCORES)
        .map(|i| {
            let noise: f64 = rng.sample(StandardNormal);
            noise + 0.4 * noise.max(0.0).powi(2) + (i as f64 / N_SCORES as f64 * std::f64::consts::TAU).sin()
        })
        .collect();
    let calibration = threshold::Calibration {
        location: 0.0,
        scale: 1.0,
        tail: threshold::Tail::fit(scores.iter().step_by(16).copied().collect()),
    };
    let mut group = c.benchmark_group("judge");
    group.throughput(Throughput::Elements(1));
    for kind in Kind::ALL {
        let mut rule = threshold::build(&threshold::Config::of(kind, 1e-3), &calibration);
        scores.iter().for_each(|z| _ = rule.judge(*z));
        let mut next = scores.iter().cycle();
        group.bench_function(BenchmarkId::from_parameter(kind.as_str()), |b| {
            b.iter(|| rule.judge(black_box(*next.next().expect("they go round"))));
        });
    }
    group.finish();
}

fn turns(c: &mut Criterion) {
    let mut small = train::Config::default();
    small.sae.n_latents = Some(64);
    small.sae.k = Some(8);
    small.members.memory_rows = 0;
    let mut group = c.benchmark_group("turn");
    for (name, config) in [("M=64, k=8, no memory", small), ("default model", train::Config::default())] {
        for n_rows in [1, 64, 256] {
            let mut lane = lane(&config, n_rows);
            (0..50_000 / n_rows).for_each(|_| _ = lane.step().expect("nothing fails"));
            group.throughput(Throughput::Elements(n_rows as u64));
            group.bench_function(BenchmarkId::new(name, format!("D={N_FEATURES}, rows={n_rows}")), |b| {
                b.iter(|| lane.step().expect("nothing fails"));
            });
        }
    }
    group.finish();
}

fn main() {
    blas::init(); // one thread, as in the daemon
    let mut c = Criterion::default().configure_from_args();
    judging(&mut c);
    turns(&mut c);
    c.final_summary();
}
