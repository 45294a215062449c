//! What comes over the wire: records, and what people say.

use std::collections::BTreeMap;

use serde_json::value::RawValue;
use strayd::alert::{Alert, Rules};
use strayd::decode::{self, Config, Decoder, Field, Format, Hints, infer};
use strayd::journal::{Entry, Feedback, Order};
use strayd::threshold::Severity;

use super::engine::Target;

const JSON: &[&str] = &[
    "{",
    "}",
    "[",
    "]",
    ":",
    ",",
    "\"",
    "\\",
    "\\u0000",
    "\\ud83d",
    "null",
    "true",
    "false",
    "NaN",
    "-Infinity",
    "1e400",
    "-0",
    "0.1",
    "18446744073709551616",
    "\"temp\"",
    "\"at\"",
    "\"site\"",
    "\"vector\"",
    "\"on\"",
    "é",
    " ",
];

fn fields() -> Vec<Field> {
    let categories = ["on", "off", "6"].map(str::to_owned);
    vec![Field::number("temp"), Field::boolean("open"), Field::category("state", &categories), Field::number("é")]
}

/// Decoders of one format, with every setting that changes how it reads.
pub fn decoders(format: Format) -> Vec<Box<dyn Decoder>> {
    let plain = Config { format, ..Config::default() };
    let settings = [
        plain.clone(),
        Config { time_field: Some("at".into()), passthrough: vec!["site".into(), "a\"b".into()], ..plain.clone() },
        Config { field: Some("vector".into()), time_field: Some("at".into()), payload_bytes_max: 4096, ..plain },
    ];
    if format == Format::Csv {
        return of_lines(&settings);
    }
    settings.iter().map(|config| decode::build(config, &fields())).collect()
}

/// The same for a format without fields inside fields, whose columns have names.
fn of_lines(settings: &[Config]) -> Vec<Box<dyn Decoder>> {
    let columns = ["temp", "open", "state", "é", "at", "site"].map(str::to_owned).to_vec();
    let named = |config: &Config| Config { columns: columns.clone(), delimiter: ';', field: None, ..config.clone() };
    let all = [settings[0].clone(), named(&settings[1]), Config { delimiter: ',', ..named(&settings[1]) }];
    all.iter().map(|config| decode::build(config, &fields())).collect()
}

/// Decodes, and holds what was accepted to what every later stage relies on.
pub fn decoded(decoder: &mut dyn Decoder, payload: &[u8]) -> String {
    let mut values = vec![f32::NAN; fields().len()];
    match decoder.decode(payload, &mut values) {
        Ok(decoded) => {
            assert!(values.iter().all(|value| !value.is_infinite()), "{values:?}");
            let carried = decoder.passthrough();
            if let Some(carried) = carried {
                serde_json::from_slice::<&RawValue>(carried).expect("what is passed through is JSON");
            }
            let n_missing = values.iter().filter(|value| value.is_nan()).count();
            let letters = ["none", "one", "two", "three", "all"];
            let (unknown, timed) = (decoded.n_unknown > 0, decoded.time_ms.is_some());
            format!("ok {} {unknown} {timed} {}", letters[n_missing], carried.is_some())
        }
        Err(reject) => format!("{} {reject}", reject.reason()),
    }
}

fn records(name: &'static str, format: Format, seeds: Vec<Vec<u8>>, words: &'static [&'static str]) -> Target {
    let (mut decoders, mut n) = (decoders(format), 0);
    let run = move |payload: &[u8]| {
        n += 1;
        let at = n % decoders.len();
        decoded(&mut *decoders[at], payload)
    };
    Target { name, seeds, words, rarity: 1, run: Box::new(run) }
}

fn texts(seeds: &[&str]) -> Vec<Vec<u8>> {
    seeds.iter().map(|seed| seed.as_bytes().to_vec()).collect()
}

const RECORDS: &[&str] = &[
    r#"{"temp": 21.5, "open": true, "state": "on", "é": -1e-3, "at": 1767225600500, "site": {"a": [1]}}"#,
    r#"{"at": "2026-01-01T00:00:00.5Z", "vector": {"temp": 21.5, "open": 0, "state": 6}, "site": null}"#,
    r#"{"vector": [21.5, 1, "off", null], "a\"b": "x"}"#,
    "[21.5, false, \"on\", 3]",
    "[NaN, null, null, Infinity]",
];

/// Records in JSON.
pub fn json() -> Target {
    records("json", Format::Json, texts(RECORDS), JSON)
}

/// Records of packed floats.
pub fn packed() -> Target {
    let row = |row: [f32; 4]| row.iter().flat_map(|value| value.to_le_bytes()).collect();
    let seeds = vec![row([21.5, 1.0, 6.0, -1.0]), row([f32::NAN, 0.0, 2.0, f32::INFINITY]), row([1.0; 4])];
    records("packed", Format::Packed, seeds, &[])
}

/// Samples of records, one a line, from which features are learnt.
pub fn samples() -> Target {
    let mut n = 0_usize;
    let run = move |sample: &[u8]| {
        n += 1;
        let format = [Format::Json, Format::Json, Format::Packed][n % 3];
        let config = Config { format, time_field: Some("at".into()), ..Config::default() };
        let sample: Vec<Vec<u8>> = sample.split(|byte| *byte == b'\n').map(<[u8]>::to_vec).collect();
        let named = ["temp".to_owned(), "state".to_owned()];
        let names = if n.is_multiple_of(5) { &named[..] } else { &[] };
        match infer(&config, Hints { names, categorical: &named[1..], categories_max: 3 }, &sample) {
            Ok(inferred) => {
                assert!(!inferred.fields.is_empty() && inferred.fields.iter().all(|f| f.categories.len() <= 3));
                format!("ok {:?}", inferred.fields.iter().map(|field| field.holds).collect::<Vec<_>>())
            }
            Err(error) => error.to_string(),
        }
    };
    let seeds = vec![RECORDS.join("\n").into_bytes(), [RECORDS[3]; 20].join("\n").into_bytes(), vec![0; 48]];
    Target { name: "samples", seeds, words: JSON, rarity: 4, run: Box::new(run) }
}

/// Entries of the commands journal, and the rules that are ordered there.
pub fn orders() -> Target {
    const WORDS: &[&str] = &[
        "{",
        "}",
        ":",
        ",",
        "\"",
        "null",
        "true",
        "promote",
        "rollback",
        "suppress",
        "*",
        "?",
        "**",
        "pump-*",
        "command",
        "version",
        "from",
        "until",
        "2026-01-01T00:00:00Z",
        "-9999-01-01T00:00:00Z",
        "severity_max",
        "high",
        "entity",
    ];
    let seeds = texts(&[
        r#"{"key": "model", "value": {"command": "promote", "version": 3}, "time_ms": 5}"#,
        r#"{"key": "pin", "value": null, "time_ms": 5}"#,
        r#"{"key": "x", "value": {"command": "rollback"}, "time_ms": -1}"#,
        r#"{"key": "suppression/a", "value": {"command": "suppress", "rule": {"name": "a", "entity": "p*-?", "feature": "*",
            "severity_max": "low", "from": "2026-01-01T00:00:00Z", "until": "2027-01-01T00:00:00Z"}}, "time_ms": 5}"#,
    ]);
    let run = |bytes: &[u8]| {
        let entry: Entry = match serde_json::from_slice(bytes) {
            Ok(entry) => entry,
            Err(error) => return error.to_string(),
        };
        match Order::parse(&entry) {
            Ok(Some(order)) => {
                assert_eq!(Order::parse(&order.entry(entry.time_ms)), Ok(Some(order.clone())), "it comes back");
                let Order::Suppress { rule } = order else { return "ok".into() };
                match Rules::new(&[rule], &[], &BTreeMap::new()) {
                    Ok(rules) => {
                        let alert = |entity| Alert { entity, time_ms: 1, severity: Severity::Low, features: &[] };
                        let long = "pump-7".repeat(20);
                        let held = [None, Some("pump-7"), Some(&long)].map(|key| rules.withhold(&alert(key)).is_some());
                        format!("rule {held:?}")
                    }
                    Err(wrong) => wrong.join(" "),
                }
            }
            Ok(None) => "taken back".into(),
            Err(error) => error,
        }
    };
    Target { name: "orders", seeds, words: WORDS, rarity: 1, run: Box::new(run) }
}

/// Entries of the feedback journal.
pub fn feedback() -> Target {
    const WORDS: &[&str] = &[
        "{",
        "}",
        ":",
        ",",
        "\"",
        "null",
        "id",
        "source",
        "topic",
        "verdict",
        "expected",
        "false_positive",
        "-1",
        "1e9",
    ];
    let seeds = texts(&[
        r#"{"key": "ab", "value": {"id": "ab", "verdict": "true_positive", "note": "leak"}, "time_ms": 5}"#,
        r#"{"key": "t/1/9", "value": {"source": {"topic": "t", "partition": 1, "offset": 9}, "verdict": "expected"}, "time_ms": 5}"#,
    ]);
    let run = |bytes: &[u8]| match serde_json::from_slice::<Entry>(bytes).map_err(|error| error.to_string()) {
        Ok(entry) => match Feedback::parse(&entry) {
            Ok(Some(feedback)) => {
                assert_eq!(Feedback::parse(&feedback.entry(5)), Ok(Some(feedback.clone())), "it comes back");
                format!("ok {:?}", feedback.verdict)
            }
            Ok(None) => "taken back".into(),
            Err(error) => error,
        },
        Err(error) => error,
    };
    Target { name: "feedback", seeds, words: WORDS, rarity: 1, run: Box::new(run) }
}
