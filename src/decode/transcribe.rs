//! Writes any serde value as JSON text: what a field that is copied, or a sampled record, becomes where the format isn't
//! JSON.
//!
//! Fields keep their order. What JSON can't hold is written as the nearest that it can: numbers that aren't finite as
//! null, bytes as their hexadecimal digits.

use std::fmt;
use std::io::Write;

use serde::de::{self, DeserializeSeed, Deserializer, MapAccess, SeqAccess, Visitor};

/// Seed that appends the value to the text.
pub(super) struct ToJson<'a>(pub(super) &'a mut Vec<u8>);

impl ToJson<'_> {
    fn text<E: de::Error>(self, text: impl fmt::Display) -> Result<(), E> {
        write!(self.0, "{text}").map_err(E::custom)
    }

    fn value<E: de::Error>(self, value: impl serde::Serialize) -> Result<(), E> {
        serde_json::to_writer(self.0, &value).map_err(E::custom)
    }
}

impl<'de> DeserializeSeed<'de> for ToJson<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for ToJson<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("any value")
    }

    fn visit_bool<E: de::Error>(self, value: bool) -> Result<(), E> {
        self.text(value)
    }

    fn visit_i64<E: de::Error>(self, value: i64) -> Result<(), E> {
        self.text(value)
    }

    fn visit_u64<E: de::Error>(self, value: u64) -> Result<(), E> {
        self.text(value)
    }

    fn visit_f32<E: de::Error>(self, value: f32) -> Result<(), E> {
        self.value(value)
    }

    fn visit_f64<E: de::Error>(self, value: f64) -> Result<(), E> {
        self.value(value)
    }

    fn visit_str<E: de::Error>(self, value: &str) -> Result<(), E> {
        self.value(value)
    }

    fn visit_bytes<E: de::Error>(self, value: &[u8]) -> Result<(), E> {
        self.0.push(b'"');
        for byte in value {
            write!(self.0, "{byte:02x}").map_err(E::custom)?;
        }
        self.0.push(b'"');
        Ok(())
    }

    fn visit_unit<E: de::Error>(self) -> Result<(), E> {
        self.text("null")
    }

    fn visit_none<E: de::Error>(self) -> Result<(), E> {
        self.text("null")
    }

    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }

    fn visit_newtype_struct<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<(), A::Error> {
        self.0.push(b'[');
        let start = self.0.len();
        loop {
            let before = self.0.len();
            if before > start {
                self.0.push(b',');
            }
            if seq.next_element_seed(ToJson(self.0))?.is_none() {
                self.0.truncate(before);
                self.0.push(b']');
                return Ok(());
            }
        }
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        self.0.push(b'{');
        let start = self.0.len();
        loop {
            let before = self.0.len();
            if before > start {
                self.0.push(b',');
            }
            if map.next_key_seed(Name(self.0))?.is_none() {
                self.0.truncate(before);
                self.0.push(b'}');
                return Ok(());
            }
            self.0.push(b':');
            map.next_value_seed(ToJson(self.0))?;
        }
    }
}

/// Seed for a field's name: text, or a number as text.
struct Name<'a>(&'a mut Vec<u8>);

impl<'de> DeserializeSeed<'de> for Name<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        let at = self.0.len();
        deserializer.deserialize_any(ToJson(self.0))?;
        match self.0.get(at) {
            Some(b'"') => Ok(()),
            Some(b'{' | b'[') => Err(de::Error::custom("a field's name is neither text nor a number")),
            _ => {
                self.0.insert(at, b'"');
                self.0.push(b'"');
                Ok(())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_json_stays_what_it_was() {
        for text in [r#"{"a":[1,-2.5,null,{"b":true}],"c\"":"é\n"}"#, "[]", "{}", "[[],{}]", "null", "1e300"] {
            let (mut out, mut reader) = (Vec::new(), serde_json::Deserializer::from_str(text));
            ToJson(&mut out).deserialize(&mut reader).expect("any value");
            let of = |text: &[u8]| serde_json::from_slice::<serde_json::Value>(text).expect("JSON");
            assert_eq!(of(&out), of(text.as_bytes()), "{}", String::from_utf8_lossy(&out));
        }
    }

    #[test]
    fn what_json_cannot_hold_becomes_the_nearest() {
        use serde::de::IntoDeserializer;
        use serde::de::value::{BytesDeserializer, Error, MapDeserializer};
        let text = |write: &dyn Fn(ToJson<'_>) -> Result<(), Error>| {
            let mut out = Vec::new();
            write(ToJson(&mut out)).expect("any value");
            String::from_utf8(out).expect("JSON")
        };
        assert_eq!(text(&|seed| seed.deserialize(f64::NAN.into_deserializer())), "null");
        assert_eq!(text(&|seed| seed.deserialize(0.1f32.into_deserializer())), "0.1");
        assert_eq!(text(&|seed| seed.deserialize(BytesDeserializer::new(&[1, 255]))), "\"01ff\"");
        let map = || MapDeserializer::new([(6u64, 1u64)].into_iter());
        assert_eq!(text(&|seed| seed.deserialize(map())), r#"{"6":1}"#);
    }
}
