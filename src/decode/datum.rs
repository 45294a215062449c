//! An Avro value as a serde deserialiser, so that it is read as any other format with names; and the schemas that allow it.

use apache_avro::schema::{NamesRef, UnionSchema};
use apache_avro::types::Value;
use apache_avro::{BigDecimal, Schema};
use serde::de::value::{Error, MapDeserializer, SeqDeserializer};
use serde::de::{Deserializer, IntoDeserializer, Visitor};

/// Types of a schema at most, each counted wherever it stands: names may refer to what refers to others, twice each time.
const TYPES_MAX: usize = 10_000;
/// How deep a record may hold itself; what is deeper is no record of its schema. Reading goes as deep as the record does.
const DEPTH_MAX: usize = 8;

/// A value with the schema that it was written by, in which every name stands for itself.
#[derive(Clone, Copy)]
pub(super) struct Datum<'a> {
    pub(super) schema: &'a Schema,
    pub(super) value: &'a Value,
}

impl<'de> Deserializer<'de> for Datum<'_> {
    type Error = Error;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        match (self.value, self.schema) {
            (Value::Union(branch, value), Schema::Union(union)) => {
                Datum { schema: &union.variants()[*branch as usize], value }.deserialize_any(visitor)
            }
            (Value::Record(values), Schema::Record(record)) => {
                let fields = values.iter().zip(&record.fields);
                let fields =
                    fields.map(|((name, value), field)| (name.as_str(), Datum { schema: &field.schema, value }));
                MapDeserializer::<_, Error>::new(fields).deserialize_any(visitor)
            }
            (Value::Array(items), Schema::Array(array)) => {
                let items = items.iter().map(|value| Datum { schema: &array.items, value });
                SeqDeserializer::<_, Error>::new(items).deserialize_any(visitor)
            }
            (Value::Map(entries), Schema::Map(map)) => {
                let mut entries: Vec<(&str, Datum<'_>)> =
                    entries.iter().map(|(key, value)| (key.as_str(), Datum { schema: &map.types, value })).collect();
                // The same record is always read in the same order.
                entries.sort_unstable_by_key(|(key, _)| *key);
                MapDeserializer::<_, Error>::new(entries.into_iter()).deserialize_any(visitor)
            }
            (Value::Decimal(decimal), Schema::Decimal(of)) => {
                visitor.visit_f64(nearest(&BigDecimal::new(decimal.clone().into(), of.scale as i64)))
            }
            (value, _) => single(value, visitor),
        }
    }

    serde::forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf option unit unit_struct
        newtype_struct seq tuple tuple_struct map struct enum identifier ignored_any
    }
}

impl IntoDeserializer<'_, Error> for Datum<'_> {
    type Deserializer = Self;

    fn into_deserializer(self) -> Self {
        self
    }
}

/// A value that holds no others.
fn single<'de, V: Visitor<'de>>(value: &Value, visitor: V) -> Result<V::Value, Error> {
    match value {
        Value::Boolean(value) => visitor.visit_bool(*value),
        Value::Int(value) | Value::Date(value) | Value::TimeMillis(value) => visitor.visit_i32(*value),
        Value::Long(value)
        | Value::TimeMicros(value)
        | Value::TimestampMillis(value)
        | Value::TimestampMicros(value)
        | Value::TimestampNanos(value)
        | Value::LocalTimestampMillis(value)
        | Value::LocalTimestampMicros(value)
        | Value::LocalTimestampNanos(value) => visitor.visit_i64(*value),
        Value::Float(value) => visitor.visit_f32(*value),
        Value::Double(value) => visitor.visit_f64(*value),
        Value::BigDecimal(value) => visitor.visit_f64(nearest(value)),
        Value::Bytes(bytes) | Value::Fixed(_, bytes) => visitor.visit_bytes(bytes),
        Value::Duration(duration) => visitor.visit_bytes(&<[u8; 12]>::from(*duration)),
        Value::String(text) | Value::Enum(_, text) => visitor.visit_str(text),
        Value::Uuid(uuid) => visitor.visit_string(uuid.to_string()),
        _ => visitor.visit_unit(),
    }
}

/// The `f64` that is nearest to a decimal.
fn nearest(decimal: &BigDecimal) -> f64 {
    decimal.to_string().parse().unwrap_or(f64::NAN)
}

/// `schema` with the type itself in the place of each name that refers to it.
///
/// Errors: it is not to be read by, since a few bytes could make a record of any size.
pub(super) fn spelt_out(schema: &Schema, names: &NamesRef<'_>) -> Result<Schema, String> {
    Speller { names, open: Vec::new(), n_types: 0 }.spell(schema, None)
}

struct Speller<'a> {
    names: &'a NamesRef<'a>,
    /// The records that the type stands in.
    open: Vec<String>,
    n_types: usize,
}

impl Speller<'_> {
    fn spell(&mut self, schema: &Schema, namespace: Option<&str>) -> Result<Schema, String> {
        self.n_types += 1;
        if self.n_types > TYPES_MAX {
            return Err(format!("it has more than {TYPES_MAX} types"));
        }
        match schema {
            Schema::Ref { name } => {
                let name = name.fully_qualified_name(namespace);
                if self.open.iter().filter(|open| **open == name.to_string()).count() > DEPTH_MAX {
                    // Nothing stands for the name: it has no values.
                    return Ok(schema.clone());
                }
                let found = self.names.get(&*name).ok_or_else(|| format!("`{name}` is not defined"))?;
                self.spell(found, name.namespace())
            }
            Schema::Record(record) => {
                let name = record.name.fully_qualified_name(namespace);
                self.open.push(name.to_string());
                let mut record = record.clone();
                for field in &mut record.fields {
                    field.schema = self.spell(&field.schema, name.namespace())?;
                }
                self.open.pop();
                Ok(Schema::Record(record))
            }
            Schema::Array(array) => {
                let items = self.spell(&array.items, namespace)?;
                if takes_no_bytes(&items) {
                    return Err("the items of an array take no bytes".to_owned());
                }
                Ok(Schema::array(items).build())
            }
            Schema::Map(map) => Ok(Schema::map(self.spell(&map.types, namespace)?).build()),
            Schema::Union(union) => {
                let branches = union.variants().iter().map(|branch| self.spell(branch, namespace));
                let branches = branches.collect::<Result<Vec<Schema>, String>>()?;
                UnionSchema::new(branches).map(Schema::Union).map_err(|error| error.to_string())
            }
            schema => Ok(schema.clone()),
        }
    }
}

fn takes_no_bytes(schema: &Schema) -> bool {
    match schema {
        Schema::Null => true,
        Schema::Record(record) => record.fields.iter().all(|field| takes_no_bytes(&field.schema)),
        Schema::Fixed(fixed) => fixed.size == 0,
        _ => false,
    }
}
