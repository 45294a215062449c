//! The floats that the autoencoder is generic over.
//!
//! Only what ndarray's own bounds lack: conversion to and from f64 and the saturating function.

use ndarray::NdFloat;

/// f32 or f64.
pub trait Real: NdFloat {
    /// The nearest value to `value`.
    fn of(value: f64) -> Self;

    /// This value as f64, exactly.
    fn wide(self) -> f64;

    /// tanh of every entry of `row`, none of which is negative; 0 stays 0.
    fn saturate(row: &mut [Self]);

    /// tanh of every entry of `row`.
    fn squash(row: &mut [Self]);
}

impl Real for f32 {
    fn of(value: f64) -> Self {
        value as f32
    }

    fn wide(self) -> f64 {
        f64::from(self)
    }

    #[inline(always)]
    fn saturate(row: &mut [Self]) {
        for a in row {
            *a = tanh(*a);
        }
    }

    #[inline(always)]
    fn squash(row: &mut [Self]) {
        for a in row {
            *a = tanh(a.abs()).copysign(*a);
        }
    }
}

impl Real for f64 {
    fn of(value: f64) -> Self {
        value
    }

    fn wide(self) -> f64 {
        self
    }

    #[inline(always)]
    fn saturate(row: &mut [Self]) {
        for a in row.iter_mut().filter(|a| **a > 0.0) {
            *a = a.tanh();
        }
    }

    #[inline(always)]
    fn squash(row: &mut [Self]) {
        for a in row {
            *a = a.tanh();
        }
    }
}

/// tanh of a value from 0 up, within 2e-7, as 1 − 2/(e^2a + 1) without a branch, so that loops over it become wide.
///
/// e^y = 2^n · e^r with |r| ≤ ln 2 / 2 and e^r by its series to the sixth power.
#[inline(always)]
fn tanh(a: f32) -> f32 {
    /// Adding and subtracting it rounds to the nearest integer: 1.5 · 2^23.
    const ROUND: f32 = 12_582_912.0;
    let y = 2.0 * if a < 10.0 { a } else { 10.0 };
    let shifted = y * std::f32::consts::LOG2_E + ROUND;
    let n = shifted - ROUND;
    let r = y - n * std::f32::consts::LN_2;
    let series = 1.0 + r * (1.0 + r * (0.5 + r * (1.0 / 6.0 + r * (1.0 / 24.0 + r * (1.0 / 120.0 + r / 720.0)))));
    // n is 0 to 29 and the low bits of `shifted` hold it: shifted left they raise the exponent of 1.
    let power = f32::from_bits((shifted.to_bits() << 23).wrapping_add(1.0_f32.to_bits()));
    1.0 - 2.0 / (power * series + 1.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_wide_tanh_is_close_everywhere() {
        for i in 0..40_000 {
            let a = i as f32 * 5e-4;
            assert!((tanh(a) - a.tanh()).abs() < 3e-7, "{a}: {}", tanh(a));
        }
        assert_eq!((tanh(0.0), tanh(f32::INFINITY), tanh(1e30)), (0.0, tanh(10.0), tanh(10.0)));
    }
}
