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
}

impl Real for f32 {
    fn of(value: f64) -> Self {
        value as f32
    }

    fn wide(self) -> f64 {
        f64::from(self)
    }
}

impl Real for f64 {
    fn of(value: f64) -> Self {
        value
    }

    fn wide(self) -> f64 {
        self
    }
}
