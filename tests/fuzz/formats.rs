//! Records in the formats that tools other than strayd describe: CSV, MessagePack, Avro and Protobuf.

use serde_json::json;
use strayd::decode::{Decoder, Format, Written, WrittenIn};

use super::engine::Target;
use super::wire::{decoded, decoders};

const PLANT: &str = r#"syntax = "proto3"; package plant; message Inner { double temp = 1; repeated float all = 2; }"#;
pub const PROTO: &str = r#"syntax = "proto3";
import "google/protobuf/timestamp.proto";
import "google/protobuf/wrappers.proto";
import "plant.proto";
message Reading {
    message Rows { repeated double vector = 1; google.protobuf.Timestamp at = 2; }
    enum State { on = 0; off = 1; }
    optional double temp = 1;
    google.protobuf.BoolValue open = 2;
    State state = 3;
    google.protobuf.Timestamp at = 4;
    map<string, sint64> site = 5;
    plant.Inner vector = 6;
    repeated fixed32 extra = 7;
    Reading again = 8;
    oneof either { string a = 9; bytes b = 10; }
}"#;
pub const AVRO: [&str; 3] = [
    r#"{"type": "record", "name": "Reading", "fields": [
        {"name": "temp", "type": ["null", "double"]},
        {"name": "open", "type": "boolean"},
        {"name": "state", "type": {"type": "enum", "name": "State", "symbols": ["on", "off"]}},
        {"name": "at", "type": {"type": "long", "logicalType": "timestamp-micros"}},
        {"name": "site", "type": {"type": "map", "values": ["null", "string", "bytes"]}},
        {"name": "again", "type": ["null", "Reading"]}]}"#,
    r#"{"type": "array", "items": ["null", "double", "string", "boolean"]}"#,
    r#"{"type": "record", "name": "Rows", "fields": [
        {"name": "vector", "type": {"type": "array", "items": ["null", "float"]}},
        {"name": "price", "type": {"type": "bytes", "logicalType": "decimal", "precision": 9, "scale": 2}},
        {"name": "none", "type": {"type": "array", "items": "boolean"}}]}"#,
];

/// Decoders that know the schemas 0, 1, …
fn taught(format: Format, schemas: &[Written]) -> Vec<Box<dyn Decoder>> {
    let mut all = decoders(format);
    for decoder in &mut all {
        schemas.iter().enumerate().for_each(|(id, schema)| decoder.learn(id as u32, schema));
    }
    all
}

/// Reads each input by one decoder, and transcribes some.
fn target(name: &'static str, mut decoders: Vec<Box<dyn Decoder>>, seeds: Vec<Vec<u8>>) -> Target {
    const WORDS: &[&str] =
        &["\0\0\0\0\0", "\0\0\0\0\x01", "\0", "\x02", "\x7f", ",", "\"", "\"\"", "\n", "nan", "1e999", "on"];
    // Seeds that nobody reads would lead nowhere.
    for seed in &seeds {
        let said: Vec<String> = decoders.iter_mut().map(|decoder| decoded(&mut **decoder, seed)).collect();
        assert!(
            said.iter().any(|said| said.starts_with("ok ")),
            "{name}: {} is refused: {said:?}",
            seed.escape_ascii()
        );
    }
    let mut n = 0_usize;
    let run = move |payload: &[u8]| {
        n += 1;
        let at = n % decoders.len();
        if n.is_multiple_of(4)
            && let Ok(text) = decoders[at].transcribe(payload)
        {
            serde_json::from_slice::<serde_json::Value>(&text).expect("a record is transcribed as JSON");
        }
        decoded(&mut *decoders[at], payload)
    };
    Target { name, seeds, words: WORDS, rarity: 1, run: Box::new(run) }
}

/// A schema that others refer to: its name, and its text.
pub fn plant() -> (String, String) {
    ("plant.proto".to_owned(), PLANT.to_owned())
}

fn written(kind: WrittenIn, text: &str) -> Written {
    let references = if kind == WrittenIn::Protobuf { vec![plant()] } else { Vec::new() };
    Written { kind, text: text.to_owned(), references }
}

/// Lines of cells.
pub fn csv() -> Target {
    let seeds = ["21.5;true;on;-1e-3;1767225600500;north", "21.5,,\"o\"\"ff\",nan,2026-01-01T00:00:00.5Z,\"a,b\"\r\n"];
    target("csv", decoders(Format::Csv), seeds.map(|seed| seed.as_bytes().to_vec()).to_vec())
}

/// Records in MessagePack.
pub fn msgpack() -> Target {
    let seeds = [
        json!({"temp": 21.5, "open": true, "state": "on", "é": -1, "at": 1_767_225_600_500_i64, "site": {"a": [1]}}),
        json!({"at": "2026-01-01T00:00:00.5Z", "vector": {"temp": 21.5, "open": 0, "state": 6}, "site": null}),
        json!({"vector": [21.5, 1, "off", null], "a\"b": "x"}),
        json!([21.5, false, "on", 3]),
    ];
    let seeds = seeds.map(|seed| rmp_serde::to_vec(&seed).expect("MessagePack"));
    target("msgpack", decoders(Format::Msgpack), seeds.to_vec())
}

/// Records in Avro.
pub fn avro() -> Target {
    let rows = [
        json!({"temp": 21.5, "open": true, "state": "off", "at": 1_767_225_600_500_000_i64, "site": {"a": null, "b": "x"},
            "again": null}),
        json!([21.5, true, "on", null]),
        json!({"vector": [21.5, null, 0.0, 3.0], "price": "1.25", "none": []}),
    ];
    let seed = |(id, record): (usize, &serde_json::Value)| {
        // The bytes of a decimal are bytes.
        let schema = AVRO[id].replace(r#", "logicalType": "decimal", "precision": 9, "scale": 2"#, "");
        let schema = apache_avro::Schema::parse_str(&schema).expect("a schema");
        let value = apache_avro::types::Value::try_from(record.clone())
            .expect("plain values")
            .resolve(&schema)
            .expect("a record of the schema");
        let mut payload = vec![0, 0, 0, 0, id as u8];
        let writer = apache_avro::writer::datum::GenericDatumWriter::builder(&schema).build().expect("it is whole");
        writer.write_value(&mut payload, value).expect("a record of the schema");
        payload
    };
    let seeds = rows.iter().enumerate().map(seed).collect();
    target("avro", taught(Format::Avro, &AVRO.map(|text| written(WrittenIn::Avro, text))), seeds)
}

/// Records in Protobuf.
pub fn protobuf() -> Target {
    let head = |indexes: &[u8], body: &[u8]| [&[0, 0, 0, 0, 0], indexes, body].concat();
    let temp = [&[9][..], &21.5f64.to_le_bytes()].concat();
    let mut body =
        [&temp[..], &[18, 2, 8, 1, 24, 1, 34, 6, 8, 0x80, 0xf2, 0xd6, 0xca, 6, 42, 5, 10, 1, b'k', 16, 6]].concat();
    body.extend([58, 4, 1, 0, 0, 0, 66, temp.len() as u8]);
    body.extend(&temp);
    body.extend([82, 2, 0xff, 0]);
    let inner = [&[50, temp.len() as u8][..], &temp].concat();
    let vector: Vec<u8> =
        [10, 32].into_iter().chain([1.5f64; 4].iter().flat_map(|value| value.to_le_bytes())).collect();
    let seeds = vec![head(&[0], &body), head(&[0], &inner), head(&[4, 0, 0], &vector), head(&[0], &[])];
    target("protobuf", taught(Format::Protobuf, &[written(WrittenIn::Protobuf, PROTO)]), seeds)
}
