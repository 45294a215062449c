//! Measures what it costs to decode one record, and what serde_json costs for the same bytes.
//!
//! Records have 8, 32 or 128 features, most of three decimals, some of seventeen digits as Python writes them. The
//! comparison (`serde_json`) reads the same bytes into a vector of `f32` by the names of a hash table, or by position,
//! and ignores the rest: the least that any reader on serde does. One thread. It proves nothing: claims of speed compare
//! lines of one run on one machine.

use std::collections::HashMap;
use std::fmt;
use std::hint::black_box;

use criterion::{BenchmarkId, Criterion, Throughput};
use rand::seq::SliceRandom;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use strayd::decode::{self, Config, Field, Format};

/// Records of one shape; more than one, so that no branch predictor learns their digits by heart.
const N_RECORDS: usize = 256;

/// Payloads of one shape, and how they are decoded.
struct Shape {
    name: &'static str,
    config: Config,
    payloads: Vec<Vec<u8>>,
}

fn name(i: usize) -> String {
    format!("sensor_{i}")
}

/// Makes one payload from a row's values as text.
fn payloads(n_features: usize, seed: u64, mut make: impl FnMut(&[String], &mut ChaCha8Rng) -> String) -> Vec<Vec<u8>> {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let mut record = |_| {
        let values = (0..n_features).map(|_| format!("{:.3}", 20.0 + 40.0 * (rng.random::<f64>() - 0.5)));
        let values: Vec<String> = values.collect();
        make(&values, &mut rng).into_bytes()
    };
    (0..N_RECORDS).map(&mut record).collect()
}

fn members(values: &[String]) -> Vec<String> {
    values.iter().enumerate().map(|(i, value)| format!("\"{}\": {value}", name(i))).collect()
}

fn object(members: &[String]) -> String {
    format!("{{{}}}", members.join(", "))
}

/// The shapes of a record with `n` features.
fn shapes(n: usize) -> Vec<Shape> {
    let json = |name, payloads| Shape { name, config: Config::default(), payloads };
    let mut order: Vec<usize> = (0..n).collect();
    order.shuffle(&mut ChaCha8Rng::seed_from_u64(7));
    let reordered = |members: Vec<String>| order.iter().map(|&i| members[i].clone()).collect::<Vec<_>>();
    let beside = Config { time_field: Some("at".into()), passthrough: vec!["site".into()], ..Config::default() };
    let full = |values: &[String]| {
        let rest = object(&members(values));
        let extra = r#""at": 1767225600500, "site": "north", "trace": {"id": "5d1f0a7a", "hops": [1, 2]}, "#;
        format!("{{{extra}{}", &rest[1..])
    };
    vec![
        json("in_order", payloads(n, 1, |values, _| object(&members(values)))),
        json("other_order", payloads(n, 2, |values, _| object(&reordered(members(values))))),
        json("shuffled", {
            payloads(n, 3, |values, rng| {
                let mut members = members(values);
                members.shuffle(rng);
                object(&members)
            })
        }),
        json("seventeen_digits", {
            payloads(n, 4, |values, rng| {
                let long = values.iter().map(|_| (20.0 + 40.0 * (rng.random::<f64>() - 0.5)).to_string());
                object(&members(&long.collect::<Vec<_>>()))
            })
        }),
        Shape { name: "time_and_unknown", config: beside, payloads: payloads(n, 5, |values, _| full(values)) },
        json("array", payloads(n, 6, |values, _| format!("[{}]", values.join(", ")))),
    ]
}

fn packed(n_features: usize) -> Shape {
    let mut rng = ChaCha8Rng::seed_from_u64(8);
    let mut record = |_| (0..n_features).flat_map(|_| rng.random::<f32>().to_le_bytes()).collect();
    let payloads = (0..N_RECORDS).map(&mut record).collect();
    Shape { name: "packed", config: Config { format: Format::Packed, ..Config::default() }, payloads }
}

/// What any reader on serde does at least: a name is looked up, a number is stored, the rest is ignored.
struct Plain<'a> {
    index: &'a HashMap<String, usize>,
    out: &'a mut [f32],
}

impl<'de> DeserializeSeed<'de> for Plain<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Plain<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object or an array")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        while let Some(name) = map.next_key::<&str>()? {
            match self.index.get(name) {
                Some(&i) => self.out[i] = map.next_value::<f64>()? as f32,
                None => drop(map.next_value::<IgnoredAny>()?),
            }
        }
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<(), A::Error> {
        let mut i = 0;
        while let Some(value) = seq.next_element::<f64>()? {
            self.out[i] = value as f32;
            i += 1;
        }
        Ok(())
    }
}

fn serde_json_reads(index: &HashMap<String, usize>, payload: &[u8], out: &mut [f32]) {
    let mut reader = serde_json::Deserializer::from_slice(payload);
    Plain { index, out }.deserialize(&mut reader).and_then(|()| reader.end()).expect("a good record");
}

fn measure(c: &mut Criterion, n_features: usize, shape: &Shape) {
    let id = |reader: &str| BenchmarkId::new(format!("{}/{reader}", shape.name), format!("D={n_features}"));
    let fields: Vec<Field> = (0..n_features).map(|i| Field::number(name(i))).collect();
    let index: HashMap<String, usize> = (0..n_features).map(|i| (name(i), i)).collect();
    let mut decoder = decode::build(&shape.config, &fields);
    let mut out = vec![f32::NAN; n_features];
    let mut group = c.benchmark_group("decode");
    group.throughput(Throughput::Elements(1));
    let mut next = shape.payloads.iter().cycle();
    group.bench_function(id("strayd"), |b| {
        b.iter(|| {
            out.fill(f32::NAN);
            decoder.decode(black_box(next.next().expect("a cycle")), &mut out).expect("a good record")
        });
    });
    if shape.config.format == Format::Json {
        group.bench_function(id("serde_json"), |b| {
            b.iter(|| serde_json_reads(&index, black_box(next.next().expect("a cycle")), &mut out));
        });
    }
    group.finish();
}

fn main() {
    let mut c = Criterion::default().configure_from_args();
    for n_features in [8, 32, 128] {
        for shape in shapes(n_features).iter().chain([&packed(n_features)]) {
            measure(&mut c, n_features, shape);
        }
    }
    c.final_summary();
}
