//! Tests of the JSON decoder: every kind of bad input has one defined end.

use super::*;

fn fields() -> Vec<Field> {
    ["temp", "load", "flow"].map(Field::number).to_vec()
}

fn decode_with(config: &Config, payload: &str) -> Result<(Decoded, Vec<f32>, Option<String>), Reject> {
    let mut decoder = Json::new(config, &fields());
    let mut values = vec![f32::NAN; 3];
    let decoded = decoder.decode(payload.as_bytes(), &mut values)?;
    let carried = decoder.passthrough().map(|bytes| String::from_utf8(bytes.to_vec()).expect("JSON is UTF-8"));
    Ok((decoded, values, carried))
}

fn decode(payload: &str) -> Result<Vec<f32>, Reject> {
    decode_with(&Config::default(), payload).map(|(_, values, _)| values)
}

fn reason(payload: &str) -> &'static str {
    decode(payload).expect_err("the record is bad").reason()
}

#[test]
fn an_object_is_read_in_any_order() {
    assert_eq!(decode(r#"{"flow": 3, "temp": 1.5, "load": -2}"#), Ok(vec![1.5, -2.0, 3.0]));
}

#[test]
fn an_array_is_read_in_the_order_of_the_schema() {
    assert_eq!(decode("[1, 2.5, 3e2]"), Ok(vec![1.0, 2.5, 300.0]));
}

#[test]
fn a_vector_under_a_field_is_read_in_both_forms() {
    let config = Config { field: Some("x".into()), ..Config::default() };
    let inner = decode_with(&config, r#"{"x": {"load": 7}, "temp": 9}"#).expect("accepted");
    assert_eq!(inner.1[1], 7.0);
    assert!(inner.1[0].is_nan(), "a feature's name outside the field is another thing");
    assert_eq!(inner.0.n_unknown, 1);
    assert_eq!(decode_with(&config, r#"{"x": [1, 2, 3]}"#).expect("accepted").1, vec![1.0, 2.0, 3.0]);
    assert_eq!(decode_with(&config, "{}").expect_err("no field").reason(), "malformed");
    assert_eq!(decode_with(&config, "[1,2,3]").expect_err("no object").reason(), "malformed");
    assert_eq!(decode_with(&config, r#"{"x":[1,2,3],"x":[1,2,3]}"#).expect_err("twice").reason(), "duplicate_name");
}

#[test]
fn null_absent_and_non_finite_values_are_missing() {
    for text in ["{}", r#"{"temp": null}"#, r#"{"temp": NaN}"#, r#"{"temp": -Infinity}"#, r#"{"temp":1e400}"#] {
        let values = decode(text).expect(text);
        assert!(values.iter().all(|v| v.is_nan()), "{text} gave {values:?}");
    }
    let values = decode(r#"{"temp": -1e999, "load": 2, "no\"te": "NaN 1e400"}"#).expect("accepted");
    assert!(values[0].is_nan());
    assert_eq!(values[1], 2.0);
}

#[test]
fn numbers_too_large_for_f32_stay_scored() {
    assert_eq!(decode(r#"{"temp": 1e300, "load": -1e39, "flow": 0}"#), Ok(vec![f32::MAX, f32::MIN, 0.0]));
}

#[test]
fn unknown_names_are_counted_whatever_they_hold() {
    let (decoded, values, _) =
        decode_with(&Config::default(), r#"{"a": [1, {"b": 2}], "temp": 1, "c": "x"}"#).expect("accepted");
    assert_eq!((decoded.n_unknown, values[0]), (2, 1.0));
}

#[test]
fn bad_records_are_refused_with_their_reason() {
    assert_eq!(reason(""), "empty");
    assert_eq!(reason("{\"temp\": 1"), "malformed");
    assert_eq!(reason("hello"), "malformed");
    assert_eq!(reason("12"), "malformed");
    assert_eq!(reason("\"temp\""), "malformed");
    assert_eq!(reason("{\"temp\": 1} x"), "malformed");
    assert_eq!(reason("[1, 2]"), "wrong_length");
    assert_eq!(reason("[1, 2, 3, 4]"), "wrong_length");
    assert_eq!(reason(r#"{"temp": "hot"}"#), "wrong_type");
    assert_eq!(reason(r#"{"temp": true}"#), "wrong_type");
    assert_eq!(reason(r#"{"temp": {"value": 1}}"#), "wrong_type");
    assert_eq!(reason(r#"[1, [2], 3]"#), "wrong_type");
    assert_eq!(reason(r#"{"temp": 1, "temp": 2}"#), "duplicate_name");
    assert_eq!(reason("NaN"), "malformed");
}

#[test]
fn reasons_name_the_field_and_what_was_found() {
    let reject = decode(r#"{"load": "full"}"#).expect_err("wrong type");
    assert_eq!(reject.to_string(), "`load` is a string, expected a number or null");
    let reject = decode("[1, 2]").expect_err("short");
    assert_eq!(reject.to_string(), "the vector has 2 values, the schema has 3");
}

#[test]
fn invalid_utf8_is_told_from_bad_json() {
    let mut values = vec![f32::NAN; 3];
    let mut decoder = Json::new(&Config::default(), &fields());
    for (payload, at) in [
        (&b"{\"temp\": 1, \"\xff\": 2}"[..], 13),
        (b"{\"temp\": 1, \"x\": \"\xff\"}", 18),
        (b"{\"temp\": 1, \"x\": [{\"\xff\": 2}]}", 20),
    ] {
        assert_eq!(decoder.decode(payload, &mut values), Err(Reject::InvalidUtf8 { at }));
    }
}

#[test]
fn a_payload_over_the_limit_is_refused_unread() {
    let config = Config { payload_bytes_max: 10, ..Config::default() };
    let reject = decode_with(&config, r#"{"temp": 1.5}"#).expect_err("too large");
    assert_eq!(reject, Reject::TooLarge { bytes: 13, bytes_max: 10 });
}

#[test]
fn time_and_passthrough_are_taken_from_the_record() {
    let config =
        Config { time_field: Some("at".into()), passthrough: vec!["site".into(), "tags".into()], ..Config::default() };
    let text = r#"{"at": "2026-01-01T00:00:00.5Z", "temp": 1, "site": "north", "tags": ["a", 1]}"#;
    let (decoded, _, carried) = decode_with(&config, text).expect("accepted");
    assert_eq!(decoded.time_ms, Some(1_767_225_600_500));
    assert_eq!(decoded.n_unknown, 0);
    assert_eq!(carried.as_deref(), Some(r#"{"site":"north","tags":["a", 1]}"#));
    assert_eq!(decode_with(&config, r#"{"at": 1767225600500}"#).expect("ms").0.time_ms, decoded.time_ms);
    assert_eq!(decode_with(&config, r#"{"at": "noon"}"#).expect_err("no time").reason(), "bad_time");
}

#[test]
fn a_refused_record_leaves_nothing_behind() {
    let mut decoder = Json::new(&Config::default(), &fields());
    let mut values = vec![f32::NAN; 3];
    decoder.decode(br#"{"temp": 1, "load": "x"}"#, &mut values).expect_err("wrong type");
    values.fill(f32::NAN);
    decoder.decode(br#"{"temp": 2}"#, &mut values).expect("a good record after a bad one");
    assert_eq!(values[0], 2.0);
}
