//! The packed format: raw little-endian `f32`, four bytes a feature, nothing else.
//!
//! `NaN` and the infinities mean missing.

use super::{Config, Decoded, Decoder, Reject, check_size};

/// Decoder of the packed format.
pub struct Packed {
    bytes_max: usize,
}

impl Packed {
    /// Makes the decoder.
    pub fn new(config: &Config) -> Self {
        Self { bytes_max: config.payload_bytes_max }
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
        Ok(Decoded::default())
    }

    fn passthrough(&self) -> Option<&[u8]> {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decode(payload: &[u8]) -> Result<[f32; 2], Reject> {
        let mut values = [f32::NAN; 2];
        Packed::new(&Config::default()).decode(payload, &mut values).map(|_| values)
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
}
