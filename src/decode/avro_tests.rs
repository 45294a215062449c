//! Tests of the Avro decoder. That it reads what other tools write is `tests/formats.rs`.

use apache_avro::writer::datum::GenericDatumWriter;
use proptest::prelude::*;
use serde_json::json;

use super::*;

const READING: &str = r#"{"type": "record", "name": "Reading", "fields": [
    {"name": "temp", "type": ["null", "double"], "default": null},
    {"name": "n", "type": "long"},
    {"name": "pump", "type": {"type": "record", "name": "Pump", "fields": [{"name": "load", "type": "float"}]}},
    {"name": "state", "type": {"type": "enum", "name": "State", "symbols": ["on", "off"]}},
    {"name": "at", "type": {"type": "long", "logicalType": "timestamp-micros"}},
    {"name": "site", "type": "string"},
    {"name": "extra", "type": {"type": "array", "items": "bytes"}}]}"#;

fn config() -> Config {
    Config {
        format: Format::Avro,
        time_field: Some("at".into()),
        passthrough: vec!["site".into()],
        ..Config::default()
    }
}

fn fields() -> Vec<Field> {
    let state = Field::category("state", &["on".to_owned(), "off".to_owned()]);
    vec![Field::number("temp"), Field::number("pump.load"), state, Field::number("gone"), Field::number("n")]
}

fn written(text: &str) -> Written {
    Written { kind: WrittenIn::Avro, text: text.to_owned(), references: Vec::new() }
}

/// The record in the wire format, under schema 7.
fn payload(schema: &str, record: &Value) -> Vec<u8> {
    let schema = Schema::parse_str(schema).expect("a schema");
    let value =
        types::Value::try_from(record.clone()).expect("plain values").resolve(&schema).expect("a record of the schema");
    let mut payload = vec![0, 0, 0, 0, 7];
    let writer = GenericDatumWriter::builder(&schema).build().expect("it refers to nothing");
    writer.write_value(&mut payload, value).expect("a record of the schema");
    payload
}

fn decode_by(written: &Written, fields: &[Field], payload: &[u8]) -> Result<(Decoded, Vec<f32>), Reject> {
    let mut decoder = Avro::new(&config(), fields);
    decoder.learn(7, written);
    let mut values = vec![f32::NAN; fields.len()];
    decoder.decode(payload, &mut values).map(|decoded| (decoded, values))
}

fn reading() -> Value {
    json!({"temp": 0.1, "n": -9_007_199_254_740_993_i64, "pump": {"load": 0.25}, "state": "off",
        "at": 1_767_225_600_000_999_i64, "site": "north", "extra": []})
}

#[test]
fn the_end_of_a_record_is_no_null_of_which_an_array_could_hold_a_million() {
    let mut bytes = Bytes { rest: &[2], has_ended: false };
    assert_eq!(bytes.read(&mut [0]).expect("one is there"), 1);
    assert_eq!(bytes.read(&mut [0]).expect_err("none is there").kind(), std::io::ErrorKind::InvalidData);
    assert!(bytes.has_ended);
}

#[test]
fn a_record_is_read_by_the_schema_it_was_written_by() {
    let mut decoder = Avro::new(&config(), &fields());
    let record = payload(READING, &reading());
    let mut values = [f32::NAN; 5];
    assert_eq!(decoder.decode(&record, &mut values), Err(Reject::NeedSchema(7)));
    decoder.learn(7, &written(READING));
    let decoded = decoder.decode(&record, &mut values).expect("accepted");
    assert_eq!(decoded, Decoded { n_unknown: 1, time_ms: Some(1_767_225_600_000) });
    assert_eq!([values[0], values[1], values[2], values[4]], [0.1, 0.25, 1.0, -9_007_199_254_740_993_i64 as f32]);
    assert!(values[3].is_nan(), "a field that its writer doesn't know is missing");
    assert_eq!(decoder.passthrough(), Some(&br#"{"site":"north"}"#[..]));
    let text = decoder.transcribe(&record).expect("accepted");
    assert!(String::from_utf8(text).expect("JSON").starts_with(r#"{"temp":0.1,"n":-9007199254740993,"pump":{"#));
}

#[test]
fn a_union_holds_its_value_or_nothing() {
    let mut reading = reading();
    reading["temp"] = Value::Null;
    let (_, values) = decode_by(&written(READING), &fields(), &payload(READING, &reading)).expect("accepted");
    assert!(values[0].is_nan());
}

#[test]
fn arrays_of_numbers_are_vectors() {
    let schema = r#"{"type": "array", "items": ["null", "double"]}"#;
    let record = payload(schema, &json!([0.1, null, 3.0]));
    let fields = ["a", "b", "c"].map(Field::number);
    let (_, values) = decode_by(&written(schema), &fields, &record).expect("accepted");
    assert_eq!((values[0], values[1].is_nan(), values[2]), (0.1, true, 3.0));
    let reject = decode_by(&written(schema), &fields[..2], &record).expect_err("too long");
    assert_eq!(reject.reason(), "wrong_length");
}

#[test]
fn decimals_are_numbers() {
    let schema = r#"{"type": "record", "name": "R", "fields": [
        {"name": "temp", "type": {"type": "bytes", "logicalType": "decimal", "precision": 9, "scale": 2}}]}"#;
    // 123.45 as two's complement 12345, one field of two bytes.
    let record = [0, 0, 0, 0, 7, 4, 0x30, 0x39];
    let (_, values) = decode_by(&written(schema), &fields(), &record).expect("accepted");
    assert_eq!(values[0], 123.45);
}

#[test]
fn text_where_a_number_should_be_is_refused_by_name() {
    let schema = r#"{"type": "record", "name": "R", "fields": [{"name": "temp", "type": "string"}]}"#;
    let reject = decode_by(&written(schema), &fields(), &payload(schema, &json!({"temp": "1"}))).expect_err("text");
    assert_eq!(reject.to_string(), "`temp` is a string, expected a number or null");
}

#[test]
fn a_schema_that_is_none_rejects_its_records() {
    let record = payload(READING, &reading());
    let reason = |schema: &Written| decode_by(schema, &fields(), &record).expect_err("no schema").to_string();
    let broken = written(r#"{"type": "recor"}"#);
    assert!(reason(&broken).contains("schema 7: it can't be read by"));
    let json = Written { kind: WrittenIn::Json, ..written("{}") };
    assert!(reason(&json).contains("no Avro schema"));
}

#[test]
fn schemas_that_others_refer_to_are_put_in_their_place() {
    let inner =
        r#"{"type": "record", "name": "Pump", "namespace": "plant", "fields": [{"name": "load", "type": "float"}]}"#;
    let outer = r#"{"type": "record", "name": "R", "fields": [
        {"name": "pump", "type": ["null", "plant.Pump"]}, {"name": "spare", "type": "plant.Pump"}]}"#;
    let written = Written { references: vec![("plant.Pump".into(), inner.into())], ..written(outer) };
    let mut record = vec![0, 0, 0, 0, 7, 2];
    record.extend([0.5f32, 2.0].iter().flat_map(|value| value.to_le_bytes()));
    let (_, values) = decode_by(&written, &fields(), &record).expect("accepted");
    assert_eq!(values[1], 0.5);
}

#[test]
fn what_is_no_whole_record_is_rejected() {
    let record = payload(READING, &reading());
    for n in 1..record.len() {
        assert!(decode_by(&written(READING), &fields(), &record[..n]).is_err(), "{n} of {} bytes", record.len());
    }
    let longer = [&record[..], &[0]].concat();
    let reject = decode_by(&written(READING), &fields(), &longer).expect_err("longer");
    assert_eq!(reject.to_string(), "not a avro record: 1 bytes follow its end");
    let numbers = r#"{"type": "array", "items": "double"}"#;
    let many = [0, 0, 0, 0, 7, 0xfe, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f];
    assert_eq!(decode_by(&written(numbers), &fields(), &many).expect_err("billions").reason(), "malformed");
}

#[test]
fn a_schema_by_which_few_bytes_make_a_large_record_is_not_read_by() {
    let nulls = written(r#"{"type": "array", "items": "null"}"#);
    let reject = decode_by(&nulls, &fields(), &[0, 0, 0, 0, 7, 0]).expect_err("billions");
    assert!(reject.to_string().contains("it can't be read by: the items of an array take no bytes"), "{reject}");
    let pair = |i: u32| {
        let inner = if i == 0 { r#""null""#.to_owned() } else { format!(r#""R{}""#, i - 1) };
        format!(
            r#"{{"type": "record", "name": "R{i}", "fields": [{{"name": "a", "type": {inner}}}, {{"name": "b", "type": {inner}}}]}}"#
        )
    };
    let references = (0..40).map(|i| (format!("R{i}"), pair(i))).collect();
    let doubled = Written { references, ..written(&pair(40)) };
    let reject = decode_by(&doubled, &fields(), &[0, 0, 0, 0, 7, 0]).expect_err("billions");
    assert!(reject.to_string().contains("more than 10000 types"), "{reject}");
}

#[test]
fn a_record_may_hold_itself_a_few_times() {
    let schema = r#"{"type": "record", "name": "R", "fields": [
        {"name": "temp", "type": "double"}, {"name": "again", "type": ["null", "R"]}]}"#;
    let temp = 0.5f64.to_le_bytes();
    let nested = |depth: usize| {
        let outer = (0..depth).flat_map(|_| temp.into_iter().chain([2]));
        [0, 0, 0, 0, 7].into_iter().chain(outer).chain(temp).chain([0]).collect::<Vec<u8>>()
    };
    for depth in [0, 1, 7] {
        let (_, values) = decode_by(&written(schema), &fields(), &nested(depth)).expect("accepted");
        assert_eq!(values[0], 0.5);
    }
    let reject = decode_by(&written(schema), &fields(), &nested(100_000)).expect_err("too deep");
    assert_eq!(reject.reason(), "malformed");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 3_000, rng_seed: proptest::test_runner::RngSeed::Fixed(7), ..ProptestConfig::default() })]
    #[test]
    fn rubbish_comes_to_an_end(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        let record = [&[0, 0, 0, 0, 7], &bytes[..]].concat();
        let _ = decode_by(&written(READING), &fields(), &record);
        let mut decoder = Avro::new(&config(), &fields());
        decoder.learn(7, &written(READING));
        let _ = (decoder.transcribe(&record), decoder.decode(&bytes, &mut [f32::NAN; 5]));
    }
}
