//! Tests of the published schemas: that they hold the same fields, and that records keep what they say.

use apache_avro::Schema;
use apache_avro::reader::datum::GenericDatumReader;
use apache_avro::types::Value as Avro;
use prost_reflect::{FieldDescriptor, Kind, MessageDescriptor};
use serde_json::json;
use serde_json::value::RawValue;

use super::*;
use crate::alert::State;
use crate::decode::{self, Decoder, compile_protobuf};
use crate::record::{self, rfc3339};
use crate::score::{FeatureReason, PatternReason, Role};
use crate::sink::anomaly::{ModelRef, Score, SourceRef};
use crate::sink::incident::IncidentRef;
use crate::threshold::Severity;

const JSON_SCHEMA: &str = include_str!("../../../docs/schema/anomaly.json");

fn tree(text: &str) -> Value {
    serde_json::from_str(text).expect("JSON")
}

fn message() -> MessageDescriptor {
    let schema = Format::Protobuf.schema().expect("it has one");
    compile_protobuf(&schema).expect("it compiles").messages().next().expect("it has messages")
}

/// What stands where a node of the JSON Schema refers to.
fn resolved<'a>(root: &'a Value, node: &'a Value) -> &'a Value {
    let pointer = node["$ref"].as_str().or_else(|| node["anyOf"][0]["$ref"].as_str());
    pointer.map_or(node, |pointer| root.pointer(&pointer[1..]).expect("it refers to something"))
}

/// The types of a node of the JSON Schema, null apart.
fn types(root: &Value, node: &Value) -> Vec<String> {
    let node = resolved(root, node);
    let listed = match (&node["type"], &node["const"]) {
        (Value::Array(types), _) => types.clone(),
        (Value::String(name), _) => vec![name.as_str().into()],
        (_, Value::Bool(_)) => vec!["boolean".into()],
        (_, Value::Number(_)) => vec!["integer".into()],
        _ => vec!["string".into()],
    };
    let names = listed.iter().filter_map(Value::as_str).filter(|name| *name != "null");
    names.map(|name| if node["format"] == "date-time" { "time".to_owned() } else { name.to_owned() }).collect()
}

fn may_be_null(node: &Value) -> bool {
    let lists_null = node["type"].as_array().is_some_and(|types| types.contains(&"null".into()));
    lists_null || node["anyOf"].as_array().is_some_and(|ways| ways.contains(&json!({"type": "null"})))
}

/// What a type of JSON is in Avro and Protobuf; whole numbers are as wide as they need.
fn is_of_type(name: &str, avro: &Value, kind: &Kind) -> bool {
    let full_name = kind.as_message().map_or("", |message| message.full_name()).to_owned();
    match name {
        "string" | "object" => avro == "string" && *kind == Kind::String,
        "number" => avro == "double" && *kind == Kind::Double,
        "boolean" => avro == "boolean" && *kind == Kind::Bool,
        "integer" if avro == "int" => *kind == Kind::Int32,
        "integer" => avro == "long" && *kind == Kind::Int64,
        "time" => avro["logicalType"] == "timestamp-millis" && full_name == "google.protobuf.Timestamp",
        _ => false,
    }
}

/// Holds a record's three schemas together.
fn assert_same_record(root: &Value, node: &Value, avro: &Value, message: &MessageDescriptor) {
    let properties = node["properties"].as_object().expect("an object");
    let required = node["required"].as_array().expect("a list");
    let fields = avro["fields"].as_array().expect("a record");
    let mut names: Vec<&str> = properties.keys().map(String::as_str).collect();
    let mut in_avro: Vec<&str> = fields.iter().map(|field| field["name"].as_str().expect("a name")).collect();
    let in_proto: Vec<FieldDescriptor> = message.fields().collect();
    assert_eq!(in_avro, in_proto.iter().map(FieldDescriptor::name).collect::<Vec<_>>(), "in the same order");
    for (field, in_proto) in fields.iter().zip(&in_proto) {
        let (name, node) = (in_proto.name(), &properties[in_proto.name()]);
        let is_optional = !required.contains(&name.into()) || may_be_null(node);
        assert_eq!(in_proto.containing_oneof().is_some(), is_optional, "`{name}` of {}", message.name());
        assert_same_field(root, node, (field, is_optional), in_proto);
    }
    names.sort_unstable();
    in_avro.sort_unstable();
    assert_eq!(names, in_avro, "{}", message.name());
}

fn assert_same_field(root: &Value, node: &Value, field: (&Value, bool), in_proto: &FieldDescriptor) {
    let (name, (field, is_optional), kind) = (in_proto.name(), field, in_proto.kind());
    let mut avro = field["type"].clone();
    if is_optional {
        assert_eq!(field.get("default"), Some(&Value::Null), "`{name}` may be absent");
        let branches = avro.as_array_mut().expect("a union");
        assert_eq!(branches.remove(0), "null", "`{name}`: the default is of the first branch");
        if branches.len() == 1 {
            avro = branches[0].clone();
        }
    }
    let (node, types) = (resolved(root, node), types(root, node));
    match (&types[..], node.get("properties")) {
        ([_], Some(_)) => assert_same_record(root, node, &avro, kind.as_message().expect("a message")),
        ([of], _) if of == "array" => {
            assert!(in_proto.is_list() && avro["type"] == "array", "`{name}`");
            assert_same_record(root, &node["items"], &avro["items"], kind.as_message().expect("a message"));
        }
        ([of], _) => assert!(is_of_type(of, &avro, &kind), "`{name}`: {of} is {avro}, {kind:?}"),
        (several, _) => {
            let branches: Vec<&str> = avro.as_array().expect("a union").iter().filter_map(Value::as_str).collect();
            let known = several.iter().map(|of| if of == "number" { "double" } else { of });
            assert_eq!(known.collect::<Vec<_>>(), branches, "`{name}`");
            assert_eq!(kind.as_message().map(MessageDescriptor::full_name), Some("google.protobuf.Value"), "`{name}`");
        }
    }
}

#[test]
fn the_three_schemas_hold_the_same_fields_of_the_same_types_and_the_same_may_be_absent() {
    let json = tree(JSON_SCHEMA);
    assert_same_record(&json, &json, &tree(avro::TEXT), &message());
}

/// Calls `look` with a record that has everything, at `time`.
fn full(time: &str, look: &mut dyn FnMut(&Anomaly<'_>)) {
    let feature = |name: &str, actual, expected| FeatureReason {
        name: name.into(),
        actual,
        expected,
        residual_z: -10.519616,
        contribution: 0.6408539495962623,
        missing: name == "gone",
    };
    let number = record::Value::Number;
    let features = [
        feature("temp", Some(number(63.05477)), number(-0.0)),
        feature("proto", Some(record::Value::Text("tcp".into())), record::Value::Text("udp".into())),
        feature("up", Some(record::Value::Boolean(true)), record::Value::Boolean(false)),
        feature("gone", None, number(1e-9)),
    ];
    let patterns = [PatternReason {
        latent: 1 << 40,
        name: "+current −flow".into(),
        activation: 0.7626099,
        usual: 0.0,
        p99: 0.1,
        role: Role::Stronger,
        contribution: 0.21334472077606922,
    }];
    let incident = IncidentRef {
        id: "0c35d2a0e1b3a2a7c1f7d7c6d1b1f3a9".into(),
        state: State::Escalated,
        start_time: time.into(),
        n_records: 4,
        peak_ratio: 3.5,
    };
    let model = ModelRef { version: 1, hash: "0e14529f1721", trained_at: rfc3339(1_767_225_600_001) };
    // No number that serde_json holds, and deeper than it reads.
    let passthrough = format!("{{\"huge\": 1e999, \"deep\": {}{}}}", "[".repeat(300), "]".repeat(300));
    look(&Anomaly {
        schema_version: 1,
        id: "81b5b08fb5d8aea6015ec1bc266e721a",
        detector: "pumps",
        entity: Some("pump-42"),
        event_time: time,
        scored_time: "2026-11-23T15:22:52.855Z",
        source: SourceRef { topic: "features", partition: 1, offset: i64::MAX },
        score: Score {
            ratio: 3.58343935723594,
            raw: 0.6729372342427572,
            threshold: 0.18779088109414036,
            z: 5.4761893138443805,
            p_value: 3.647631843003392e-06,
            severity: Some(Severity::High),
            calibrating: true,
        },
        features: &features,
        patterns: &patterns,
        unexplained: 0.2566689466564769,
        incident: Some(&incident),
        model: &model,
        top_feature: Some("temp"),
        top_feature_contribution: Some(0.6408539495962623),
        passthrough: Some(&RawValue::from_string(passthrough).expect("JSON")),
        summary: "temp is 52.0 where 63.1 was expected",
    });
}

/// The same with nothing that may be absent.
fn bare(anomaly: &Anomaly<'_>) -> Anomaly<'static> {
    static MODEL: ModelRef<'static> = ModelRef { version: 0, hash: "", trained_at: String::new() };
    let score = Score { severity: None, calibrating: false, ..anomaly.score };
    Anomaly {
        schema_version: 1,
        id: "",
        detector: "",
        entity: None,
        event_time: "1970-01-01T00:00:00.000Z",
        scored_time: "1970-01-01T00:00:00.000Z",
        source: SourceRef { topic: "", partition: 0, offset: 0 },
        score,
        features: &[],
        patterns: &[],
        unexplained: 0.0,
        incident: None,
        model: &MODEL,
        top_feature: None,
        top_feature_contribution: None,
        passthrough: None,
        summary: "",
    }
}

/// What is absent, left out, and what Protobuf wraps, taken out.
fn plain(value: Value) -> Value {
    match value {
        Value::Object(mut object) if object.contains_key("number_value") => {
            let kinds = ["number_value", "string_value", "bool_value"].map(|kind| object.remove(kind));
            kinds.into_iter().flatten().find(|value| !value.is_null()).unwrap_or_default()
        }
        Value::Object(object) => {
            let fields = object.into_iter().map(|(name, value)| (name, plain(value)));
            Value::Object(fields.filter(|(_, value)| !value.is_null()).collect())
        }
        Value::Array(items) => items.into_iter().map(plain).collect(),
        value => value,
    }
}

/// The record as its JSON says it, with its times in milliseconds.
fn said(anomaly: &Anomaly<'_>) -> Value {
    let mut document = document(anomaly, &mut Vec::new());
    for place in ["/event_time", "/scored_time", "/incident/start_time", "/model/trained_at"] {
        if let Some(time) = document.pointer_mut(place) {
            let parsed: jiff::Timestamp = time.as_str().expect("text").parse().expect("a time");
            *time = parsed.as_millisecond().into();
        }
    }
    plain(document)
}

/// The record as a decoder of the features topic reads it.
fn read_back(format: Format, anomaly: &Anomaly<'_>) -> Value {
    let input = if format == Format::Avro { decode::Format::Avro } else { decode::Format::Protobuf };
    let mut decoder: Box<dyn Decoder> = decode::build(&decode::Config { format: input, ..Default::default() }, &[]);
    decoder.learn(7, &format.schema().expect("it has one"));
    let mut value = b"what was here before".to_vec();
    Encoder::new(format, 7).write(anomaly, &mut value);
    plain(tree(&String::from_utf8(decoder.transcribe(&value).expect("a record")).expect("text")))
}

#[test]
fn a_record_says_the_same_in_every_format() {
    full("2026-11-23T15:22:52.802Z", &mut |anomaly| {
        assert_eq!(read_back(Format::Avro, anomaly), said(anomaly));
        assert_eq!(read_back(Format::Protobuf, anomaly), said(anomaly));
        let bare = Anomaly { model: anomaly.model, ..bare(anomaly) };
        assert_eq!(read_back(Format::Avro, &bare), said(&bare));
        assert_eq!(read_back(Format::Protobuf, &bare), said(&bare));
        let mut value = Vec::new();
        Encoder::default().write(anomaly, &mut value);
        assert_eq!(value, serde_json::to_vec(anomaly).expect("JSON"));
    });
}

#[test]
fn any_time_of_a_record_can_be_written() {
    for time_ms in [i64::MIN, -377_705_023_201_000, -62_135_596_800_001, -62_135_596_800_000, 253_402_207_200_999] {
        full(&rfc3339(time_ms), &mut |anomaly| {
            assert_eq!(read_back(Format::Avro, anomaly), said(anomaly), "{time_ms}");
            let (read, mut said) = (read_back(Format::Protobuf, anomaly), said(anomaly));
            if said["event_time"].as_i64().is_some_and(|time_ms| time_ms < -62_135_596_800_000) {
                (said["event_time"], said["incident"]["start_time"]) = (0.into(), 0.into());
            }
            assert_eq!(read, said, "{time_ms}");
        });
    }
}

#[test]
fn a_reader_may_know_an_older_schema_or_a_newer_one() {
    let mut value = Vec::new();
    full("2026-11-23T15:22:52.802Z", &mut |anomaly| Encoder::new(Format::Avro, 7).write(anomaly, &mut value));
    let (mut older, mut newer) = (tree(avro::TEXT), tree(avro::TEXT));
    let fields = |schema: &mut Value| schema["fields"].as_array_mut().expect("a record").to_owned();
    older["fields"] = fields(&mut older).into_iter().filter(|field| field["name"] != "incident").collect();
    let added = json!({"name": "added", "type": ["null", "string"], "default": null});
    newer["fields"] = fields(&mut newer).into_iter().chain([added]).collect();
    let read_as = |reader: &Value| {
        let [writer, reader] = [avro::TEXT.to_owned(), reader.to_string()].map(|text| Schema::parse_str(&text));
        let (writer, reader) = (writer.expect("a schema"), reader.expect("a schema"));
        let datum = GenericDatumReader::builder(&writer).reader_schema(&reader).build().expect("two schemas");
        let Ok(Avro::Record(fields)) = datum.read_value(&mut &value[5..]) else { panic!("no record") };
        fields
    };
    let names = |fields: &[(String, Avro)]| fields.iter().map(|(name, _)| name.clone()).collect::<Vec<_>>();
    assert!(!names(&read_as(&older)).contains(&"incident".to_owned()));
    let absent = Avro::Union(0, Box::new(Avro::Null));
    assert_eq!(read_as(&newer).last(), Some(&("added".to_owned(), absent)));
}
