//! The lane over a source and a sink in memory: what is settled when, with deliveries that the test acknowledges.

use std::ops::ControlFlow;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use ndarray::Array2;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use strayd::app;
use strayd::config::{Config, RawConfig};
use strayd::pipeline::inflight::Settling;
use strayd::pipeline::lane::{Lane, LaneError, Step};
use strayd::preprocess::Schema;
use strayd::record::RecordId;
use strayd::sink::{Channel, MemorySink, Sink};
use strayd::source::{MemorySource, Polled, Position, Raw, Source, SourceError, Stored};
use strayd::telemetry::Metrics;
use strayd::telemetry::health::Health;
use strayd::train::{self, Rows};

const N_FEATURES: usize = 4;

/// Rows around a line in four dimensions.
fn ordinary(n_rows: usize) -> Array2<f32> {
    let mut rng = ChaCha8Rng::seed_from_u64(7);
    let mut rows = Array2::zeros((n_rows, N_FEATURES));
    for mut row in rows.rows_mut() {
        let cause: f32 = rng.random_range(-2.0..2.0);
        row.iter_mut().enumerate().for_each(|(j, v)| *v = cause * (j as f32 + 1.0) + rng.random_range(-0.1..0.1));
    }
    rows
}

struct Bench {
    lane: Lane,
    sink: Arc<MemorySink>,
    metrics: Arc<Metrics>,
    settled: Arc<Mutex<Vec<Position>>>,
}

/// A lane with a trained model over `payloads` of one partition, whose deliveries wait for the test.
fn bench(payloads: &[Option<&str>]) -> Bench {
    let source = memory(payloads);
    let settled = source.settled();
    over(Box::new(source), settled)
}

fn memory(payloads: &[Option<&str>]) -> MemorySource {
    let stored =
        |payload: Option<&str>| Stored { payload: payload.map(|p| p.as_bytes().to_vec()), ..Stored::default() };
    MemorySource::new(payloads.iter().copied().map(stored).collect())
}

/// The same over any source, which settles into `settled`.
fn over(source: Box<dyn Source>, settled: Arc<Mutex<Vec<Position>>>) -> Bench {
    let values = ordinary(600);
    let ids = (0..600).map(|offset| RecordId { partition: 0.into(), offset }).collect();
    let schema = Arc::new(Schema::new(["a", "b", "c", "d"]).expect("four names"));
    let fitted =
        train::fit(schema, &Rows { values, ids }, &train::Config::default(), 0, &mut |_| ControlFlow::Continue(()));
    let mut raw = RawConfig::default();
    raw.input.topic = "features".into();
    raw.pipeline.rows_max = 4;
    let config = Config::check(raw).expect("the configuration is right");
    let shared = app::shared(&config, Arc::new(Metrics::new()), Health::new(1));
    shared.cell.swap(Arc::new(fitted.expect("600 rows are enough").into_model(1, 0)));
    let metrics = Arc::clone(&shared.metrics);
    let sink = Arc::new(MemorySink::withholding());
    let settling = Arc::new(Settling::new(Arc::clone(&sink) as Arc<dyn Sink>, Duration::ZERO, 0));
    let lane = Lane::new(0, shared, source, Arc::clone(&sink) as Arc<dyn Sink>, settling);
    Bench { lane, sink, metrics, settled }
}

impl Bench {
    fn settled(&self) -> Vec<i64> {
        self.settled.lock().expect("nobody panicked").iter().map(|position| position.next.offset).collect()
    }

    fn sent(&self, channel: Channel) -> usize {
        self.sink.take().iter().filter(|sent| sent.channel == channel).count()
    }
}

const ORDINARY: Option<&str> = Some("[1.0, 2.0, 3.0, 4.0]");
const ANOMALOUS: Option<&str> = Some("[2.0, -4.0, 6.0, -8.0]");
const BAD: Option<&str> = Some("[1.0, 2.0");

#[test]
fn a_batch_without_output_is_settled_at_once() {
    let mut bench = bench(&[ORDINARY, None, ORDINARY]);
    assert_eq!(bench.lane.step(), Ok(Step::Read(3)));
    assert_eq!(bench.settled(), [3]);
}

#[test]
fn offsets_are_settled_only_after_every_delivery_is_acknowledged() {
    let mut bench = bench(&[ORDINARY, ANOMALOUS, BAD, ORDINARY, ORDINARY]);
    assert_eq!(bench.lane.step(), Ok(Step::Read(4)));
    assert_eq!(bench.lane.step(), Ok(Step::Read(1)));
    assert_eq!(bench.settled(), [] as [i64; 0], "an anomaly and a dead letter are under way, and what follows waits");
    bench.sink.release();
    assert_eq!(bench.lane.step(), Ok(Step::End));
    assert_eq!(bench.settled(), [5]);
}

#[test]
fn a_failed_delivery_ends_the_lane_and_settles_nothing() {
    let mut bench = bench(&[ANOMALOUS, ORDINARY]);
    assert_eq!(bench.lane.step(), Ok(Step::Read(2)));
    assert_eq!(bench.sent(Channel::Anomalies), 1);
    bench.sink.fail("topic `anomalies`: expired");
    assert_eq!(bench.lane.step(), Err(LaneError::Delivery("topic `anomalies`: expired".into())));
    let page = bench.metrics.encode(0, &Health::new(1));
    assert!(page.contains("strayd_produce_errors_total{reason=\"delivery\"} 1\n"), "{page}");
    assert_eq!(bench.settled(), [] as [i64; 0]);
}

/// Has joined when it is asked for the second time, and counts how often it is.
struct Joining {
    source: MemorySource,
    n_asked: Arc<AtomicUsize>,
}

impl Source for Joining {
    fn poll(&mut self, max: usize, wait: Duration, take: &mut dyn FnMut(Raw<'_>)) -> Result<Polled, SourceError> {
        self.source.poll(max, wait, take)
    }

    fn store(&mut self, positions: &[Position]) -> Result<usize, SourceError> {
        self.source.store(positions)
    }

    fn has_joined(&self) -> bool {
        self.n_asked.fetch_add(1, Ordering::Relaxed) > 0
    }
}

#[test]
fn a_client_is_asked_whether_it_has_joined_until_it_has() {
    let n_asked = Arc::new(AtomicUsize::new(0));
    let source = memory(&[ORDINARY; 20]);
    let settled = source.settled();
    let mut bench = over(Box::new(Joining { source, n_asked: Arc::clone(&n_asked) }), settled);
    for _ in 0..5 {
        assert_eq!(bench.lane.step(), Ok(Step::Read(4)));
    }
    assert_eq!(n_asked.load(Ordering::Relaxed), 2, "the answer is another thread's, which a turn would wait for");
}
