//! Stages measured in turn, so that a machine that slows down slows all of them down.

use crate::clock::{median, thread_cpu_ns};

/// Processor time of one turn of a stage in a round, nanoseconds.
const TURN_NS: u64 = 15_000_000;

/// A stage under its name.
pub struct Stage<'a> {
    name: &'a str,
    n_records: usize,
    run: Box<dyn FnMut() + 'a>,
}

impl<'a> Stage<'a> {
    /// A stage that works on `n_records` at a time.
    pub fn new(name: &'a str, n_records: usize, run: impl FnMut() + 'a) -> Self {
        Self { name, n_records, run: Box::new(run) }
    }
}

/// Runs every stage in each of `rounds` rounds. Returns the median processor time of each, nanoseconds a record.
pub fn race(stages: Vec<Stage<'_>>, rounds: usize) -> Vec<(String, f64)> {
    let mut stages: Vec<(Stage<'_>, u64, Vec<f64>)> = stages.into_iter().map(|stage| (stage, 0, Vec::new())).collect();
    for (stage, n, _) in &mut stages {
        // The first turn warms up and says how often a turn is repeated.
        let began = thread_cpu_ns();
        while thread_cpu_ns() - began < TURN_NS {
            (stage.run)();
            *n += 1;
        }
    }
    for _ in 0..rounds {
        for (stage, n, times) in &mut stages {
            let began = thread_cpu_ns();
            (0..*n).for_each(|_| (stage.run)());
            times.push((thread_cpu_ns() - began) as f64 / (*n * stage.n_records as u64) as f64);
        }
    }
    stages.into_iter().map(|(stage, _, times)| (stage.name.to_owned(), median(times))).collect()
}
