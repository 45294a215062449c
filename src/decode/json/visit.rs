//! Reads a record through serde: straight into the row, without a tree, and with a word for whatever is wrong.

use std::fmt;

use serde::de::{self, DeserializeSeed, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;

use super::super::field::Scalar;
use super::super::packed::as_written;
use super::super::transcribe::ToJson;
use super::super::{Decoded, Reject};
use super::names::{Level, Names, Role};
use super::time::event_time;

/// One reading of one record.
pub(in crate::decode) struct Reading<'a> {
    pub(in crate::decode) names: &'a Names,
    pub(in crate::decode) seen: &'a mut [u64],
    pub(in crate::decode) reading: u64,
    pub(in crate::decode) values: &'a mut [f32],
    pub(in crate::decode) passthrough: &'a mut Vec<u8>,
    pub(in crate::decode) decoded: Decoded,
    pub(in crate::decode) has_vector: bool,
    pub(in crate::decode) reject: Option<Reject>,
    /// Where the record isn't JSON: what takes the time field as text, and how many of its units are a millisecond.
    pub(in crate::decode) foreign: Option<Foreign<'a>>,
}

/// What a record that isn't JSON needs to be read.
pub(in crate::decode) struct Foreign<'a> {
    /// Room for a value that becomes JSON text.
    pub(in crate::decode) text: &'a mut Vec<u8>,
    /// Units of the time field in a millisecond.
    pub(in crate::decode) time_units: i64,
}

impl Reading<'_> {
    /// Remembers why the record is refused, and makes the error that stops serde.
    fn refuse<E: de::Error>(&mut self, reject: Reject) -> E {
        let error = E::custom(&reject);
        self.reject = Some(reject);
        error
    }

    fn refuse_type<E: de::Error>(&mut self, place: &Place, got: &'static str) -> E {
        let (field, i) = match *place {
            Place::Feature(i) => (self.names.features[i].name.clone(), i),
            Place::Position(i) => (format!("[{i}]"), i),
        };
        let expected = self.names.features[i].expected();
        self.refuse(Reject::WrongType { field, got, expected })
    }

    fn keep<'de, A: MapAccess<'de>>(&mut self, i: usize, map: &mut A) -> Result<(), A::Error> {
        let Some(foreign) = &mut self.foreign else {
            let raw: &RawValue = map.next_value()?;
            self.names.passthrough[i].append(raw.get(), self.passthrough);
            return Ok(());
        };
        foreign.text.clear();
        map.next_value_seed(ToJson(foreign.text))?;
        let text = std::str::from_utf8(foreign.text).expect("JSON is UTF-8");
        self.names.passthrough[i].append(text, self.passthrough);
        Ok(())
    }

    fn time<'de, A: MapAccess<'de>>(&mut self, map: &mut A) -> Result<(), A::Error> {
        let read = if let Some(foreign) = &mut self.foreign {
            foreign.text.clear();
            map.next_value_seed(ToJson(foreign.text))?;
            let text = std::str::from_utf8(foreign.text).expect("JSON is UTF-8");
            match text.parse::<i64>() {
                Ok(units) if foreign.time_units != 1 => event_time(&(units / foreign.time_units).to_string()),
                _ => event_time(text),
            }
        } else {
            let raw: &RawValue = map.next_value()?;
            event_time(raw.get())
        };
        match read {
            Ok(time_ms) => self.decoded.time_ms = time_ms,
            Err(message) => {
                let field = self.names.time.clone().unwrap_or_default();
                return Err(self.refuse(Reject::BadTime { field, message }));
            }
        }
        Ok(())
    }
}

/// Seed for a whole record, or for the vector inside it.
pub(in crate::decode) struct Record<'r, 'a>(pub(in crate::decode) &'r mut Reading<'a>, pub(in crate::decode) Level);

impl<'de> DeserializeSeed<'de> for Record<'_, '_> {
    type Value = ();

    fn deserialize<D: de::Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Record<'_, '_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object or an array of numbers")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        let Self(state, level) = self;
        while let Some(role) = map.next_key_seed(Key { names: state.names, level })? {
            match role {
                Role::Feature(i) => {
                    if std::mem::replace(&mut state.seen[i], state.reading) == state.reading {
                        let name = state.names.features[i].name.clone();
                        return Err(state.refuse(Reject::DuplicateName(name)));
                    }
                    map.next_value_seed(Single { state, place: Place::Feature(i), out: i })?;
                }
                Role::Vector if state.has_vector => {
                    let name = state.names.field.clone().unwrap_or_default();
                    return Err(state.refuse(Reject::DuplicateName(name)));
                }
                Role::Vector => {
                    state.has_vector = true;
                    map.next_value_seed(Record(state, Level::Vector))?;
                }
                Role::Time => state.time(&mut map)?,
                Role::Passthrough(i) => state.keep(i, &mut map)?,
                Role::Inner(i) => map.next_value_seed(Inner(state, i))?,
                Role::Unknown => {
                    state.decoded.n_unknown += 1;
                    map.next_value::<IgnoredAny>()?;
                }
            }
        }
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<(), A::Error> {
        let Self(state, level) = self;
        if level == Level::Outer && state.names.field.is_some() {
            let message = "the record is an array, decode.field asks for an object".to_owned();
            return Err(state.refuse(Reject::Malformed(message)));
        }
        let expected = state.values.len();
        for i in 0..expected {
            let seed = Single { state, place: Place::Position(i), out: i };
            if seq.next_element_seed(seed)?.is_none() {
                return Err(state.refuse(Reject::WrongLength { got: i, expected }));
            }
        }
        let mut n_more = 0;
        while seq.next_element::<IgnoredAny>()?.is_some() {
            n_more += 1;
        }
        if n_more > 0 {
            return Err(state.refuse(Reject::WrongLength { got: expected + n_more, expected }));
        }
        Ok(())
    }
}

/// Seed for an inner record with features under dotted names, or null for one that isn't there.
struct Inner<'r, 'a>(&'r mut Reading<'a>, usize);

impl<'de> DeserializeSeed<'de> for Inner<'_, '_> {
    type Value = ();

    fn deserialize<D: de::Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Inner<'_, '_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = self.0.names.inner_name(self.1);
        write!(f, "a record or null under `{name}`, since features have names that begin with `{name}.`")
    }

    fn visit_unit<E: de::Error>(self) -> Result<(), E> {
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<(), A::Error> {
        Record(self.0, Level::Inner(self.1)).visit_map(map)
    }
}

/// Seed for a field's name: looks it up without copying it.
struct Key<'a> {
    names: &'a Names,
    level: Level,
}

impl<'de> DeserializeSeed<'de> for Key<'_> {
    type Value = Role;

    fn deserialize<D: de::Deserializer<'de>>(self, deserializer: D) -> Result<Role, D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl Visitor<'_> for Key<'_> {
    type Value = Role;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a field name")
    }

    fn visit_str<E: de::Error>(self, name: &str) -> Result<Role, E> {
        Ok(self.names.role(self.level, name))
    }
}

/// Where a value stands in the record.
#[derive(Clone, Copy)]
enum Place {
    Feature(usize),
    Position(usize),
}

/// Seed for one feature's value.
struct Single<'r, 'a> {
    state: &'r mut Reading<'a>,
    place: Place,
    out: usize,
}

impl Single<'_, '_> {
    fn put<E: de::Error>(self, scalar: Scalar<'_>) -> Result<(), E> {
        match self.state.names.features[self.out].read(scalar) {
            Ok(value) => self.state.values[self.out] = value,
            Err(got) => return Err(self.state.refuse_type(&self.place, got)),
        }
        Ok(())
    }
}

impl<'de> DeserializeSeed<'de> for Single<'_, '_> {
    type Value = ();

    fn deserialize<D: de::Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Single<'_, '_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a single value or null")
    }

    fn visit_f64<E: de::Error>(self, value: f64) -> Result<(), E> {
        self.put(Scalar::Float(value))
    }

    fn visit_f32<E: de::Error>(self, value: f32) -> Result<(), E> {
        // A category is what a person would write: 0.1, not 0.100000001490116.
        let is_number = self.state.names.features[self.out].is_number();
        self.put(Scalar::Float(if is_number { f64::from(value) } else { as_written(value) }))
    }

    fn visit_i64<E: de::Error>(self, value: i64) -> Result<(), E> {
        self.put(Scalar::Signed(value))
    }

    fn visit_u64<E: de::Error>(self, value: u64) -> Result<(), E> {
        self.put(Scalar::Unsigned(value))
    }

    fn visit_unit<E: de::Error>(self) -> Result<(), E> {
        Ok(())
    }

    fn visit_bool<E: de::Error>(self, value: bool) -> Result<(), E> {
        self.put(Scalar::Boolean(value))
    }

    fn visit_str<E: de::Error>(self, value: &str) -> Result<(), E> {
        self.put(Scalar::Text(value))
    }

    fn visit_bytes<E: de::Error>(self, _: &[u8]) -> Result<(), E> {
        Err(self.state.refuse_type(&self.place, "a string of bytes"))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, _: A) -> Result<(), A::Error> {
        Err(self.state.refuse_type(&self.place, "an array"))
    }

    fn visit_map<A: MapAccess<'de>>(self, _: A) -> Result<(), A::Error> {
        Err(self.state.refuse_type(&self.place, "an object"))
    }
}
