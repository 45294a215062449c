//! Avro by the published schema (<https://avro.apache.org/docs/1.12.0/specification/>).

use std::sync::LazyLock;

use apache_avro::Schema;
use apache_avro::types::Value as Avro;
use apache_avro::writer::datum::GenericDatumWriter;
use serde_json::Value;

/// The schema as it is published.
pub(super) const TEXT: &str = include_str!("../../../docs/schema/anomaly.avsc");

static SCHEMA: LazyLock<Schema> =
    LazyLock::new(|| Schema::parse_str(TEXT).expect("the published schema is held by tests"));

/// Appends the datum of `document`.
pub(super) fn write(document: &Value, out: &mut Vec<u8>) {
    let writer = GenericDatumWriter::builder(&SCHEMA).build().expect("the schema refers to nothing");
    let written = writer.write_value(out, value(&SCHEMA, document));
    written.expect("the record follows its published schema");
}

/// What `json` is by `schema`; null where it is nothing by it, which no schema takes in silence.
fn value(schema: &Schema, json: &Value) -> Avro {
    let number = json.as_i64();
    match (schema, json) {
        (Schema::Record(record), Value::Object(object)) => {
            let field = |name: &str| object.get(name).unwrap_or(&Value::Null);
            let fields = record.fields.iter();
            Avro::Record(fields.map(|f| (f.name.clone(), value(&f.schema, field(&f.name)))).collect())
        }
        (Schema::Array(array), Value::Array(items)) => {
            Avro::Array(items.iter().map(|item| value(&array.items, item)).collect())
        }
        (Schema::Union(union), _) => {
            let branches = union.variants().iter().map(|branch| value(branch, json));
            let mut branches = (0..).zip(branches);
            match branches.find(|(_, value)| json.is_null() || *value != Avro::Null) {
                Some((index, value)) => Avro::Union(index, Box::new(value)),
                None => Avro::Null,
            }
        }
        (Schema::Double, Value::Number(number)) => number.as_f64().map_or(Avro::Null, Avro::Double),
        // JSON has no other word for what isn't finite.
        (Schema::Double, Value::Null) => Avro::Double(f64::NAN),
        (Schema::Int, _) => number.and_then(|n| i32::try_from(n).ok()).map_or(Avro::Null, Avro::Int),
        (Schema::Long, _) => number.map_or(Avro::Null, Avro::Long),
        (Schema::TimestampMillis, Value::String(text)) => {
            text.parse::<jiff::Timestamp>().map_or(Avro::Null, |time| Avro::TimestampMillis(time.as_millisecond()))
        }
        (Schema::String, Value::String(text)) => Avro::String(text.clone()),
        (Schema::Boolean, Value::Bool(value)) => Avro::Boolean(*value),
        _ => Avro::Null,
    }
}
