//! MessagePack records (<https://msgpack.org>): a map with text as keys, an array, or a map with the vector under a
//! configured field.

use super::described::{Described, to_json};
use super::field::Field;
use super::{Config, Decoded, Decoder, Format, Reject, check_size};

/// Records nested deeper are refused: an end to what a few bytes can ask of the stack.
const DEPTH_MAX: usize = 64;

/// Decoder of MessagePack records.
pub struct MessagePack {
    reader: Described,
    bytes_max: usize,
}

impl MessagePack {
    /// Makes the decoder for `fields`, the features in the order of the schema.
    pub fn new(config: &Config, fields: &[Field]) -> Self {
        Self { reader: Described::new(config, fields), bytes_max: config.payload_bytes_max }
    }
}

impl Decoder for MessagePack {
    fn decode(&mut self, payload: &[u8], values: &mut [f32]) -> Result<Decoded, Reject> {
        check_size(payload, self.bytes_max)?;
        let mut rest = payload;
        let mut deserializer = rmp_serde::Deserializer::new(&mut rest);
        deserializer.set_max_depth(DEPTH_MAX);
        let decoded = self.reader.read(&mut deserializer, 1, values)?;
        drop(deserializer);
        self.reader.check_end(rest.len())?;
        Ok(decoded)
    }

    fn passthrough(&self) -> Option<&[u8]> {
        self.reader.passthrough()
    }

    fn transcribe(&mut self, payload: &[u8]) -> Result<Vec<u8>, Reject> {
        let mut deserializer = rmp_serde::Deserializer::new(payload);
        deserializer.set_max_depth(DEPTH_MAX);
        to_json(Format::Msgpack.name(), &mut deserializer)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::decode::described_tests::{Records, hold_to_json};

    #[test]
    fn records_mean_what_they_mean_as_json() {
        hold_to_json(&Records {
            config: Config { format: Format::Msgpack, ..Config::default() },
            write: &|record| rmp_serde::to_vec(record).expect("MessagePack"),
        });
    }

    #[test]
    fn what_is_no_whole_record_is_rejected() {
        let fields = ["a", "b"].map(Field::number);
        let mut decoder = MessagePack::new(&Config { format: Format::Msgpack, ..Config::default() }, &fields);
        let mut reason = |payload: &[u8]| decoder.decode(payload, &mut [f32::NAN; 2]).expect_err("bad").reason();
        let whole = rmp_serde::to_vec(&serde_json::json!({"a": 1, "b": 2})).expect("MessagePack");
        for n in 1..whole.len() {
            assert_eq!(reason(&whole[..n]), "malformed", "{n} bytes of {}", whole.len());
        }
        assert_eq!(reason(&[&whole[..], &[0xc0]].concat()), "malformed");
        assert_eq!(reason(&[&b"\x81\xa1x"[..], &[0x91; 4096]].concat()), "malformed", "arrays in arrays have an end");
        assert_eq!(reason(b"\x81\xa1a\xc4\x01x"), "wrong_type");
        assert_eq!(reason(b"\x82\xa1a\x01\xa1a\x01"), "duplicate_name");
        assert_eq!(reason(b""), "empty");
    }
}
