//! A lane allocates nothing of its own for ordinary records once it has warmed up, whatever the format and the size of its
//! batches: what a turn allocates is what `Model::score` allocates for the same rows, small products of `ndarray`.
//!
//! The allocator counts what the lane's own thread asks for. The source hands out what it has made before, so that nothing
//! of the count is the test's. What librdkafka allocates in C is not seen, nor is what it takes to store offsets there.

#![allow(unsafe_code, reason = "an allocator that counts is an unsafe trait; each block says why it is sound")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::Duration;

use ndarray::{Array2, ArrayView1, Axis};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use strayd::app;
use strayd::config::{Config, RawConfig};
use strayd::decode::Format;
use strayd::model::{Model, Workspace};
use strayd::pipeline::inflight::Settling;
use strayd::pipeline::lane::{Lane, Step};
use strayd::preprocess::Schema;
use strayd::record::RecordId;
use strayd::sink::{MemorySink, Sink};
use strayd::source::{Headers, Polled, Position, Raw, Source, SourceError};
use strayd::telemetry::Metrics;
use strayd::telemetry::health::Health;
use strayd::train::{self, Rows};

const N_FEATURES: usize = 8;
const N_PARTITIONS: usize = 3;
/// Records of a partition after which its windows are full, so that none grows any more.
const N_WARMUP: usize = N_PARTITIONS * 2_500;
/// Records of which none may cost an allocation.
const N_COUNTED: usize = 10_000;

thread_local! {
    static N_ALLOCATIONS: Cell<u64> = const { Cell::new(0) };
}

/// The system's allocator, which counts what each thread asks for.
struct Counting;

// SAFETY: every call is handed on to the system's allocator as it came; counting touches a thread-local number that needs
// neither an allocation nor a destructor.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        N_ALLOCATIONS.with(|n| n.set(n.get() + 1));
        // SAFETY: the caller keeps the contract of `alloc`.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, memory: *mut u8, layout: Layout) {
        // SAFETY: `memory` came from `System` with this layout.
        unsafe { System.dealloc(memory, layout) }
    }

    unsafe fn realloc(&self, memory: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        N_ALLOCATIONS.with(|n| n.set(n.get() + 1));
        // SAFETY: `memory` came from `System` with this layout, and the caller keeps the contract of `realloc`.
        unsafe { System.realloc(memory, layout, size) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

fn n_allocations() -> u64 {
    N_ALLOCATIONS.with(Cell::get)
}

/// A header of each record.
struct Traced;

impl Headers for Traced {
    fn each(&self, visit: &mut dyn FnMut(&str, Option<&[u8]>)) {
        visit("traceparent", Some(b"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"));
    }
}

/// Hands out the same payloads again and again, in runs over a few partitions.
struct Endless {
    payloads: Vec<Vec<u8>>,
    n: usize,
}

impl Source for Endless {
    fn poll(&mut self, max: usize, _: Duration, take: &mut dyn FnMut(Raw<'_>)) -> Result<Polled, SourceError> {
        for _ in 0..max {
            let (partition, offset) = (self.n / 5 % N_PARTITIONS, self.n / N_PARTITIONS);
            take(Raw {
                id: RecordId { partition: (partition as i32).into(), offset: offset as i64 },
                time_ms: self.n as i64,
                key: Some([&b"pump-1"[..], b"pump-22"][self.n % 2]),
                payload: Some(&self.payloads[self.n % self.payloads.len()]),
                headers: Some(&Traced),
            });
            self.n += 1;
        }
        Ok(Polled::Records(max))
    }

    fn store(&mut self, positions: &[Position]) -> Result<usize, SourceError> {
        assert!(positions.iter().all(|position| position.metadata.contains("alpha")), "{positions:?}");
        Ok(0)
    }
}

/// Rows around a line.
fn rows(n_rows: usize) -> Array2<f32> {
    let mut rng = ChaCha8Rng::seed_from_u64(7);
    let mut rows = Array2::zeros((n_rows, N_FEATURES));
    for mut row in rows.rows_mut() {
        let cause: f32 = rng.random_range(-2.0..2.0);
        row.iter_mut().enumerate().for_each(|(j, v)| *v = cause * (j as f32 + 1.0) + rng.random_range(-0.1..0.1));
    }
    rows
}

fn model(rows: &Array2<f32>) -> Model {
    let ids = (0..rows.nrows() as i64).map(|offset| RecordId { partition: 9.into(), offset }).collect();
    let schema = Arc::new(Schema::new((0..N_FEATURES).map(|i| format!("f{i}"))).expect("the names differ"));
    let config = train::Config::default();
    let fitted = train::fit(schema, &Rows::new(rows.clone(), ids), &config, 0, &mut |_| ControlFlow::Continue(()));
    fitted.expect("the rows can be learnt").into_model(1, 0)
}

/// Those of `rows` in the middle of the model's scores.
fn ordinary(model: &Model, rows: &Array2<f32>) -> Array2<f32> {
    let mut workspace = Workspace::new();
    model.score(rows.view(), &mut workspace);
    let places: Vec<usize> = (0..rows.nrows()).filter(|i| workspace.z()[*i].abs() < 1.5).collect();
    rows.select(Axis(0), &places)
}

fn payloads(rows: &Array2<f32>, format: Format) -> Vec<Vec<u8>> {
    let of = |row: ArrayView1<'_, f32>| match format {
        Format::Packed => row.iter().flat_map(|value| value.to_le_bytes()).collect(),
        _ => {
            let fields: Vec<String> = row.iter().enumerate().map(|(i, value)| format!("\"f{i}\": {value}")).collect();
            format!("{{{}}}", fields.join(", ")).into_bytes()
        }
    };
    rows.rows().into_iter().map(of).collect()
}

/// How many allocations the counted records cost in batches of `rows_max`, and how many of them alerted.
fn measured(model: &Arc<Model>, rows: &Array2<f32>, format: Format, rows_max: usize) -> (u64, u64) {
    let mut raw = RawConfig::default();
    raw.input.topic = "features".into();
    raw.decode.format = format;
    // The default holds its rate of alerts whatever the scores: one so small is none.
    raw.threshold.target_alert_rate = 1e-6;
    raw.threshold.calibration_window = 2_000;
    raw.pipeline.rows_max = rows_max;
    let config = Config::check(raw).expect("the configuration is right");
    let shared = app::shared(&config, Arc::new(Metrics::new()), Health::new(1));
    shared.cell.swap(Arc::clone(model));
    let source = Endless { payloads: payloads(rows, format), n: 0 };
    let sink: Arc<dyn Sink> = Arc::new(MemorySink::default());
    let settling = Arc::new(Settling::new(Arc::clone(&sink), Duration::ZERO, config.threshold.rewind()));
    let mut lane = Lane::new(0, shared.clone(), Box::new(source), sink, settling);
    let mut read = |n: usize| {
        let steps = (0..n.div_ceil(rows_max)).map(|_| lane.step().expect("nothing fails"));
        steps.for_each(|step| assert_eq!(step, Step::Read(rows_max)));
    };
    read(N_WARMUP);
    let (n_alerts, before) = (shared.n_alerts(), n_allocations());
    read(N_COUNTED);
    let (of_lane, n_alerts) = (n_allocations() - before, shared.n_alerts() - n_alerts);
    (of_lane, n_alerts)
}

#[test]
fn ordinary_records_cost_no_allocation_in_batches_of_any_size() {
    let rows = rows(2000);
    let model = Arc::new(model(&rows));
    let rows = ordinary(&model, &rows);
    for format in [Format::Packed, Format::Json] {
        for rows_max in [1, 7, 256] {
            assert_eq!(measured(&model, &rows, format, rows_max), (0, 0), "{format:?} in batches of {rows_max}");
        }
    }
}

#[test]
fn what_is_allocated_is_counted() {
    let before = n_allocations();
    let text = std::hint::black_box("fifteen letters".to_owned());
    assert_eq!((n_allocations() - before, text.len()), (1, 15));
}
