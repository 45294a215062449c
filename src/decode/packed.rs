//! The packed format: raw little-endian `f32`, four bytes a feature, nothing else.
//!
//! `NaN` and the infinities mean missing. A category is found by the value: 6.0 is the category `6`.

use super::field::{Field, Scalar};
use super::{Config, Decoded, Decoder, Reject, check_size};

/// Decoder of the packed format.
pub struct Packed {
    bytes_max: usize,
    /// Features that aren't numbers, with their places.
    others: Vec<(usize, Field)>,
}

impl Packed {
    /// Makes the decoder for `fields`, the features in the order of the schema.
    pub fn new(config: &Config, fields: &[Field]) -> Self {
        let others = fields.iter().enumerate().filter(|(_, field)| !field.is_number());
        let others = others.map(|(i, field)| (i, field.clone())).collect();
        Self { bytes_max: config.payload_bytes_max, others }
    }
}

impl Decoder for Packed {
    fn decode(&mut self, payload: &[u8], values: &mut [f32]) -> Result<Decoded, Reject> {
        check_size(payload, self.bytes_max)?;
        if !payload.len().is_multiple_of(4) {
            let message = format!("{} bytes are not a whole number of f32 values", payload.len());
            return Err(Reject::Malformed(message));
        }
        if payload.len() / 4 != values.len() {
            return Err(Reject::WrongLength { got: payload.len() / 4, expected: values.len() });
        }
        for (value, bytes) in values.iter_mut().zip(payload.chunks_exact(4)) {
            let read = f32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]);
            *value = if read.is_finite() { read } else { f32::NAN };
        }
        for (i, field) in &self.others {
            values[*i] = field.read(Scalar::Float(as_written(values[*i]))).map_err(|got| Reject::WrongType {
                field: field.name.clone(),
                got,
                expected: field.expected(),
            })?;
        }
        Ok(Decoded::default())
    }

    fn passthrough(&self) -> Option<&[u8]> {
        None
    }
}

/// The number that a person would write for `value`: 0.1, not 0.100000001490116.
pub(super) fn as_written(value: f32) -> f64 {
    let wide = f64::from(value);
    if wide.fract() == 0.0 { wide } else { value.to_string().parse().unwrap_or(wide) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decode(payload: &[u8]) -> Result<[f32; 2], Reject> {
        let mut values = [f32::NAN; 2];
        Packed::new(&Config::default(), &["a", "b"].map(Field::number)).decode(payload, &mut values).map(|_| values)
    }

    #[test]
    fn values_are_read_in_order() {
        let payload: Vec<u8> = [1.5f32, -2.0].iter().flat_map(|v| v.to_le_bytes()).collect();
        assert_eq!(decode(&payload), Ok([1.5, -2.0]));
    }

    #[test]
    fn nan_and_infinity_are_missing() {
        let payload: Vec<u8> = [f32::NEG_INFINITY, f32::NAN].iter().flat_map(|v| v.to_le_bytes()).collect();
        assert!(decode(&payload).expect("accepted").iter().all(|v| v.is_nan()));
    }

    #[test]
    fn other_lengths_are_rejected() {
        assert_eq!(decode(&[0; 12]), Err(Reject::WrongLength { got: 3, expected: 2 }));
        assert_eq!(decode(&[0; 7]).map_err(|r| r.reason()), Err("malformed"));
        assert_eq!(decode(&[]), Err(Reject::Empty));
    }

    #[test]
    fn categories_and_booleans_are_read_by_value() {
        let fields = [Field::category("c", &["7", "6", "0.1"].map(str::to_owned)), Field::boolean("b")];
        let read = |row: [f32; 2]| {
            let payload: Vec<u8> = row.iter().flat_map(|v| v.to_le_bytes()).collect();
            let mut values = [f32::NAN; 2];
            Packed::new(&Config::default(), &fields).decode(&payload, &mut values).map(|_| values)
        };
        assert_eq!(read([6.0, 1.0]), Ok([1.0, 1.0]));
        assert_eq!(read([0.1, 0.0]), Ok([2.0, 0.0]));
        assert_eq!(read([6.5, 0.0]), Ok([3.0, 0.0]));
        assert!(read([f32::NAN, f32::NAN]).expect("accepted").iter().all(|v| v.is_nan()));
        assert_eq!(read([6.0, 2.0]).map_err(|reject| reject.reason()), Err("wrong_type"));
    }
}
