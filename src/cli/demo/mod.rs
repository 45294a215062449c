//! `strayd demo`: a simulated plant with labelled faults, the real daemon, and an honest count of what it found.
//!
//! This folder never touches the detector's insides: the plant makes readings, the faults spoil some of them, the
//! report compares what was published with what was spoilt, and a per-sensor alarm stands beside it.

pub mod baseline;
#[cfg(test)]
mod detectability;
pub mod faults;
pub mod line;
pub mod plant;
pub mod report;
pub mod schedule;
pub mod sensors;

/// Options of `strayd demo`.
#[derive(Debug, clap::Args)]
pub struct Options {}

/// Runs the demo.
pub fn run(_: &Options) -> anyhow::Result<()> {
    Ok(())
}
