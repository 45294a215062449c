//! Formats against the tools that write them: confluent-kafka's serialisers and MessagePack's, with a schema registry over
//! HTTP that both sides speak to; evolution, authentication, TLS; and a registry that is away while a lane runs.

mod support;

use std::fs;
use std::ops::ControlFlow;
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

use ndarray::Array2;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde_json::Value;
use strayd::app;
use strayd::config::{Config, RawConfig};
use strayd::decode::{Decoder, Field, Format, Reject};
use strayd::pipeline::decoding::decoder;
use strayd::pipeline::inflight::Settling;
use strayd::pipeline::lane::{Lane, Step};
use strayd::preprocess::Schema;
use strayd::record::RecordId;
use strayd::schema_registry::{self, HttpRegistry, Schemas};
use strayd::sink::{Channel, MemorySink, Sent, Sink};
use strayd::source::{MemorySource, Stored};
use strayd::telemetry::Metrics;
use strayd::telemetry::health::{Health, Phase};
use strayd::threshold::Kind;
use strayd::train::{self, Rows};
use support::{Registry, Sample, free_port, written};

const NAMES: [&str; 6] = ["temp", "flow", "n", "on", "rpm", "pump.load"];

fn reader(format: Format, config: &schema_registry::Config) -> Box<dyn Decoder> {
    let field = |name| if name == "on" { Field::boolean(name) } else { Field::number(name) };
    let schemas = HttpRegistry::new(config).map(|registry| Schemas::new(Box::new(registry))).unwrap_or_default();
    let config = strayd::decode::Config { format, ..Default::default() };
    decoder(&config, &NAMES.map(field), &schemas)
}

fn at(url: String) -> schema_registry::Config {
    schema_registry::Config { url: Some(url), timeout: Duration::from_secs(2), ..Default::default() }
}

/// What a row must hold for a value that was written.
fn expected(value: &Value) -> Option<f32> {
    match value {
        Value::Bool(value) => Some(f32::from(u8::from(*value))),
        // As the decoder does: whole numbers and fractions through f64.
        value => value.as_i64().map(|whole| whole as f64 as f32).or(value.as_f64().map(|value| value as f32)),
    }
}

#[track_caller]
fn assert_reads(decoder: &mut dyn Decoder, sample: &Sample) {
    let mut row = [f32::NAN; NAMES.len()];
    decoder.decode(&sample.payload, &mut row).unwrap_or_else(|reject| panic!("{}: {reject}", sample.values));
    for (name, value) in NAMES.iter().zip(row) {
        let read = (!value.is_nan()).then(|| value.to_bits());
        assert_eq!(read, expected(&sample.values[*name]).map(f32::to_bits), "`{name}` of {}", sample.values);
    }
}

#[test]
fn what_confluents_serialisers_write_is_read_bit_by_bit() {
    // `STRAYD_SCHEMA_REGISTRY` names a real registry instead, an empty one.
    let Some(registry) = Registry::start(None, &[]) else { return };
    let real = std::env::var("STRAYD_SCHEMA_REGISTRY").ok();
    let url = real.clone().unwrap_or_else(|| registry.url());
    let mut avro = reader(Format::Avro, &at(url.clone()));
    let mut protobuf = reader(Format::Protobuf, &at(url.clone()));
    let mut msgpack = reader(Format::Msgpack, &at(url.clone()));
    let samples = written(&[&url]);
    assert_eq!(
        samples.len(),
        251,
        "two versions of a schema in Avro and Protobuf, one that refers to another, MessagePack"
    );
    for sample in &samples {
        let reader = match &*sample.kind {
            "avro" => &mut avro,
            "protobuf" => &mut protobuf,
            _ => &mut msgpack,
        };
        assert_reads(&mut **reader, sample);
    }
    let unknown = [&[0, 0, 0, 3, 231], &samples[0].payload[5..]].concat();
    let reject = avro.decode(&unknown, &mut [f32::NAN; NAMES.len()]).expect_err("no such schema");
    assert_eq!(reject.reason(), "unknown_schema");
    let said = reject.to_string();
    assert!(said.starts_with("the record is written by schema 999: the registry answers 404: "), "{said}");
}

#[test]
fn a_registry_may_want_a_password_and_be_reached_over_tls() {
    let dir = tempfile::tempdir().expect("a folder");
    let (pem, password) = (dir.path().join("registry.pem"), dir.path().join("password"));
    let mut openssl = Command::new("openssl");
    openssl.args(["req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=127.0.0.1"]);
    openssl.args(["-addext", "subjectAltName=IP:127.0.0.1", "-keyout"]).arg(&pem).arg("-out").arg(&pem);
    let made = openssl.output().expect("openssl is installed");
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    fs::write(&password, "hunter2\n").expect("written");
    let pem_text = pem.display().to_string();
    let Some(registry) = Registry::start(None, &["--user", "me:hunter2", "--certificate", &pem_text]) else { return };
    let url = format!("https://127.0.0.1:{}", registry.port);
    let mut config = at(url.clone());
    config.ca_file = Some(pem);
    config.username = Some("me".to_owned());
    config.password_file = Some(password.clone());
    let samples = written(&[&url, "me:hunter2", &pem_text]);
    assert_reads(&mut *reader(Format::Avro, &config), &samples[0]);
    // Wrong words, or no trust: no verdict on the record, and the reason holds no secret.
    let trouble = |config: &schema_registry::Config| {
        let schemas = HttpRegistry::new(config).map(|registry| Schemas::new(Box::new(registry))).expect("an address");
        let error = schemas.get(1).expect_err("refused").to_string();
        assert!(!error.contains("hunter"), "{error}");
        let reject = reader(Format::Avro, config).decode(&samples[0].payload, &mut [f32::NAN; NAMES.len()]);
        assert_eq!(reject, Err(Reject::NeedSchema(1)));
        error
    };
    assert!(trouble(&schema_registry::Config { ca_file: None, ..config.clone() }).contains("certificate"));
    fs::write(&password, "hunter3\n").expect("written");
    assert!(trouble(&config).contains("is answered by 401"));
}

/// What a lane was given, and what it has done.
struct Bench {
    lane: Lane,
    health: Health,
    settled: Arc<std::sync::Mutex<Vec<strayd::source::Position>>>,
    sink: Arc<MemorySink>,
}

/// A lane over Avro records of one partition, each with its number as a trace, with a model of their two features to which
/// everything is an anomaly.
fn lane(payloads: Vec<Vec<u8>>, url: String) -> Bench {
    let mut rng = ChaCha8Rng::seed_from_u64(7);
    let values = Array2::from_shape_fn((600, 2), |_| rng.random_range(-1.0..1.0f32));
    let stored = |(i, payload): (usize, Vec<u8>)| {
        let headers = vec![("traceparent".to_owned(), i.to_string().into_bytes())];
        Stored { payload: Some(payload), headers, ..Stored::default() }
    };
    let source = MemorySource::new(payloads.into_iter().enumerate().map(stored).collect());
    let rows = Rows { values, ids: (0..600).map(|offset| RecordId { partition: 0.into(), offset }).collect() };
    let schema = Arc::new(Schema::new(["temp", "flow"]).expect("two names"));
    let fitted = train::fit(schema, &rows, &train::Config::default(), 0, &mut |_| ControlFlow::Continue(()));
    let mut raw = RawConfig::default();
    raw.input.topic = "features".into();
    raw.decode.format = Format::Avro;
    raw.schema_registry = at(url);
    raw.pipeline.rows_max = 16;
    (raw.threshold.kind, raw.threshold.z) = (Kind::Fixed, -1e6);
    let config = Config::check(raw).expect("the configuration is right");
    let health = Health::new(1);
    let shared = app::shared(&config, Arc::new(Metrics::new()), health.clone());
    shared.cell.swap(Arc::new(fitted.expect("600 rows are enough").into_model(1, 0)));
    let sink = Arc::new(MemorySink::default());
    let shown = Arc::clone(&sink) as Arc<dyn Sink>;
    let settling = Arc::new(Settling::new(Arc::clone(&shown), Duration::ZERO, 0));
    let settled = source.settled();
    Bench { lane: Lane::new(0, shared, Box::new(source), shown, settling), health, settled, sink }
}

#[test]
fn records_wait_for_a_registry_that_is_away_and_none_is_lost() {
    let port = free_port();
    let Some(registry) = Registry::start(Some(port), &[]) else { return };
    let samples = written(&[&registry.url()]);
    let payloads: Vec<Vec<u8>> =
        samples.into_iter().filter(|sample| sample.kind == "avro").map(|sample| sample.payload).take(100).collect();
    let url = registry.url();
    drop(registry);
    let Bench { mut lane, health, settled, sink } = lane(payloads, url.clone());
    let last = |settled: &std::sync::Mutex<Vec<strayd::source::Position>>| {
        settled.lock().expect("nobody panicked").last().map(|position| position.next.offset)
    };
    assert!(matches!(lane.step(), Ok(Step::Read(_))));
    for _ in 0..3 {
        assert_eq!(lane.step(), Ok(Step::Idle));
    }
    assert_eq!(last(&settled), None, "what waits is not settled");
    health.enter(Phase::Running);
    let said = format!("{:?}", health.readiness());
    assert!(said.contains("schema registry http://127.0.0.1"), "{said}");

    let _registry = Registry::start(Some(port), &[]).expect("as before");
    written(&[&url]);
    let deadline = Instant::now() + Duration::from_secs(30);
    while last(&settled) != Some(100) {
        assert!(Instant::now() < deadline, "settled: {:?}", settled.lock());
        lane.step().expect("the lane goes on");
    }
    // What has waited keeps its headers, as what was read with it does.
    let anomalies: Vec<Sent> = sink.take().into_iter().filter(|sent| sent.channel == Channel::Anomalies).collect();
    for anomaly in &anomalies {
        let value: Value = serde_json::from_slice(&anomaly.value).expect("JSON");
        let offset = value["source"]["offset"].to_string().into_bytes();
        assert!(anomaly.headers.contains(&("traceparent".to_owned(), Some(offset))), "{:?}", anomaly.headers);
    }
    assert!(anomalies.len() > 50, "{} anomalies", anomalies.len());
}
