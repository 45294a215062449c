//! Tests of the Protobuf decoder. That it reads what other tools write is `tests/formats.rs`.

use proptest::prelude::*;

use super::*;

const READING: &str = r#"syntax = "proto3";
import "google/protobuf/timestamp.proto";
import "google/protobuf/wrappers.proto";
import "plant.proto";
message Other {}
message Reading {
    message Inner { repeated double vector = 1; }
    enum State { ON = 0; OFF = 1; }
    double temp = 1;
    optional double gone = 2;
    plant.Pump pump = 3;
    State state = 4;
    google.protobuf.Timestamp at = 5;
    string site = 6;
    google.protobuf.DoubleValue n = 7;
    map<string, int64> tags = 8;
}"#;
const PLANT: &str = "syntax = \"proto3\"; package plant; message Pump { float load = 1; }";

fn config() -> Config {
    let (time_field, passthrough) = (Some("at".into()), vec!["site".into(), "tags".into()]);
    Config { format: Format::Protobuf, time_field, passthrough, ..Config::default() }
}

fn fields() -> Vec<Field> {
    let state = Field::category("state", &["ON".to_owned(), "OFF".to_owned()]);
    vec![Field::number("temp"), Field::number("pump.load"), state, Field::number("gone"), Field::number("n")]
}

fn written(text: &str) -> Written {
    Written {
        kind: WrittenIn::Protobuf,
        text: text.to_owned(),
        references: vec![("plant.proto".to_owned(), PLANT.to_owned())],
    }
}

/// A decoder that knows the schema as 7.
fn decoder(config: &Config, fields: &[Field]) -> Protobuf {
    let mut decoder = Protobuf::new(config, fields);
    decoder.learn(7, &written(READING));
    decoder
}

/// The second message of the file, with these fields.
fn payload(body: &[u8]) -> Vec<u8> {
    [&[0, 0, 0, 0, 7, 2, 2], body].concat()
}

#[test]
fn a_record_is_read_by_the_schema_it_was_written_by() {
    let mut body = vec![9];
    body.extend(0.1f64.to_le_bytes());
    body.extend([26, 5, 13]);
    body.extend(0.25f32.to_le_bytes());
    body.extend([32, 1, 42, 6, 8, 0x80, 0xf2, 0xd6, 0xca, 6]);
    body.extend([50, 5]);
    body.extend(b"north");
    body.extend([58, 0, 66, 5, 10, 1, b'k', 16, 3]);
    let (mut decoder, mut values) = (decoder(&config(), &fields()), [f32::NAN; 5]);
    let decoded = decoder.decode(&payload(&body), &mut values).expect("accepted");
    assert_eq!([values[0], values[1], values[2], values[4]], [0.1, 0.25, 1.0, 0.0]);
    assert!(values[3].is_nan(), "an optional field that isn't set is missing");
    assert_eq!(decoded, Decoded { n_unknown: 0, time_ms: Some(1_767_225_600_000) });
    assert_eq!(decoder.passthrough(), Some(&br#"{"site":"north","tags":{"k":3}}"#[..]));
}

#[test]
fn zeros_that_are_left_out_are_zeros_and_messages_are_missing() {
    let (mut decoder, mut values) = (decoder(&config(), &fields()), [f32::NAN; 5]);
    let decoded = decoder.decode(&payload(&[]), &mut values).expect("accepted");
    assert_eq!((values[0], values[2]), (0.0, 0.0));
    assert!([values[1], values[3], values[4]].iter().all(|value| value.is_nan()));
    assert_eq!(decoded.time_ms, None);
}

#[test]
fn messages_inside_messages_are_found_by_their_place() {
    let config = Config { field: Some("vector".into()), format: Format::Protobuf, ..Config::default() };
    let mut decoder = decoder(&config, &["a", "b"].map(Field::number));
    let mut record = vec![0, 0, 0, 0, 7, 4, 2, 0, 10, 16];
    record.extend([1.5f64, -2.0].iter().flat_map(|value| value.to_le_bytes()));
    let mut values = [f32::NAN; 2];
    decoder.decode(&record, &mut values).expect("accepted");
    assert_eq!(values, [1.5, -2.0]);
    record[6] = 8;
    assert_eq!(decoder.decode(&record, &mut values).expect_err("no such message").reason(), "malformed");
}

#[test]
fn a_schema_that_is_none_rejects_its_records() {
    let mut decoder = decoder(&config(), &fields());
    let mut reason = |schema: &Written| {
        decoder.learn(7, schema);
        decoder.decode(&payload(&[]), &mut [f32::NAN; 5]).expect_err("no schema").to_string()
    };
    assert!(reason(&written("message {")).starts_with("the record is written by schema 7: it can't be read by: "));
    assert!(reason(&Written { kind: WrittenIn::Avro, ..written("") }).contains("no Protobuf schema"));
}

#[test]
fn a_schema_that_is_long_or_deep_ends_no_process() {
    let compiled = |text: String| compile(&written(&text));
    // The lexer calls itself for each of these characters if it isn't built as a state machine; see Cargo.toml.
    let words = "é".repeat(100_000);
    assert!(compiled(format!("// {words}\nmessage M {{}}")).is_ok());
    assert!(compiled(format!("message M {{ optional double a = 1 [json_name = \"{words}\"]; }}")).is_ok());
    let nested = |n: usize| "message M {".repeat(n) + &"}".repeat(n);
    assert_eq!(compiled(nested(30)).expect("not too deep").messages().len(), 1);
    assert!(compiled(nested(100_000)).is_err());
    assert!(compiled("message M {".repeat(100_000)).is_err());
    assert!(compiled(format!("option (a) = {{ {} }};", "b: {".repeat(100_000))).is_err());
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2_000, rng_seed: proptest::test_runner::RngSeed::Fixed(7), ..ProptestConfig::default() })]
    #[test]
    fn rubbish_comes_to_an_end(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        thread_local!(static DECODER: std::cell::RefCell<Protobuf> = std::cell::RefCell::new(decoder(&config(), &fields())));
        DECODER.with_borrow_mut(|decoder| {
            for record in [payload(&bytes), [&[0, 0, 0, 0, 7], &bytes[..]].concat(), bytes.clone()] {
                let _ = (decoder.decode(&record, &mut [f32::NAN; 5]), decoder.transcribe(&record));
            }
        });
    }
}
