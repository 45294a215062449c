//! Holds formats that name their fields to JSON: the same record, written in either, means the same.

use proptest::prelude::*;
use proptest::test_runner::{Config as Cases, RngAlgorithm, RngSeed, TestRunner};
use serde_json::{Value, json};

use super::{Config, Decoder, Field, Json, Reject, build};

/// How a format writes records.
pub(super) struct Records<'a> {
    /// How they are decoded.
    pub(super) config: Config,
    /// Writes a record.
    pub(super) write: &'a dyn Fn(&Value) -> Vec<u8>,
}

/// What a decoder made of a record.
type Read = Result<(Vec<Option<u32>>, Option<i64>, u32, Option<Value>), &'static str>;

fn read(decoder: &mut dyn Decoder, payload: &[u8]) -> Read {
    let mut values = vec![f32::NAN; 4];
    let decoded = decoder.decode(payload, &mut values).map_err(|reject: Reject| reject.reason())?;
    let carried = decoder.passthrough().map(|json| serde_json::from_slice(json).expect("JSON"));
    let bits = values.iter().map(|value| (!value.is_nan()).then(|| value.to_bits())).collect();
    Ok((bits, decoded.time_ms, decoded.n_unknown, carried))
}

fn fields() -> Vec<Field> {
    let categories = ["tcp", "6", "true"].map(str::to_owned);
    vec![Field::number("a"), Field::boolean("b"), Field::category("c", &categories), Field::number("d")]
}

fn value() -> impl Strategy<Value = Value> {
    prop_oneof![
        4 => any::<f64>().prop_map(|value| json!(value)),
        2 => any::<i64>().prop_map(|value| json!(value)),
        2 => prop_oneof![Just(json!(0)), Just(json!(1)), Just(json!(6)), Just(json!("tcp")), Just(json!(u64::MAX))],
        1 => Just(Value::Null),
        2 => any::<bool>().prop_map(|value| json!(value)),
        1 => ".{0,6}".prop_map(|value| json!(value)),
        1 => Just(json!([1, [2], {"x": null}])),
        1 => Just(json!({"x": [1.5, "y"]})),
    ]
}

fn record() -> impl Strategy<Value = Value> {
    let name = prop_oneof![6 => "[abcd]", 1 => Just("at".to_owned()), 1 => Just("site".to_owned()), 1 => ".{0,3}"];
    let object = proptest::collection::btree_map(name, value(), 0..7).boxed();
    let time =
        prop_oneof![Just(json!(1_767_225_600_000_i64)), Just(json!("2026-01-01T00:00:00.5Z")), Just(Value::Null)];
    prop_oneof![
        4 => object.clone().prop_map(|fields| json!(fields)),
        2 => (object, time).prop_map(|(mut fields, time)| { fields.insert("at".into(), time); json!(fields) }),
        2 => proptest::collection::vec(value(), 3..6).prop_map(Value::from),
        1 => value(),
    ]
}

/// Records of every kind, whole and cut short, with bytes that were changed.
pub(super) fn hold_to_json(records: &Records<'_>) {
    let seed = RngSeed::Fixed(20_261_127);
    let cases = Cases { cases: 2_000, rng_algorithm: RngAlgorithm::ChaCha, rng_seed: seed, ..Cases::default() };
    let config = Config { time_field: Some("at".into()), passthrough: vec!["site".into()], ..records.config.clone() };
    let mut runner = TestRunner::new(cases);
    let strategy = (record(), any::<prop::sample::Index>(), any::<u8>());
    let outcome = runner.run(&strategy, |(record, at, byte)| {
        let (mut json, mut other) = (Json::new(&config, &fields()), build(&config, &fields()));
        let mut payload = (records.write)(&record);
        let text = serde_json::to_vec(&record).expect("JSON");
        prop_assert_eq!(read(&mut *other, &payload), read(&mut json, &text), "{}", record);
        // What it makes of rubbish is its own affair, but it must come to an end.
        let at = at.index(payload.len());
        payload[at] = byte;
        let _ = (read(&mut *other, &payload), other.transcribe(&payload));
        let _ = read(&mut *other, &payload[..at]);
        Ok(())
    });
    outcome.expect("the same record means the same");
}
