//! `strayd threshold`: replays scores through the families of thresholds.

pub mod replay;
pub mod scenarios;
