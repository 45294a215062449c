//! What breaks in the plant: labelled faults, each with its window, its size in σ and whether one sensor shows it.
//!
//! A fault holds the values it puts in place of the true ones, worked out when it was planned; applying it is a
//! look-up. It must never touch a reading outside its window, nor another pump's.

use std::fmt;

use super::plant::{N_PUMPS, Plant, Reading, Sample, key};
use super::sensors::SENSORS;

/// The kinds of fault. The first three show in a single sensor, the others break only the relations between sensors.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum FaultKind {
    /// A few readings far outside the usual.
    Spike,
    /// A constant is added.
    Bias,
    /// The noise of one sensor is many times its usual.
    NoiseBurst,
    /// The sensor goes on showing the last value it had.
    Stuck,
    /// The sensor slowly moves off, towards the middle of its range.
    Drift,
    /// The sensor shows values of its own past, at random: the same distribution, no relation to the others.
    BrokenCorrelation,
    /// A group of sensors behaves as at another load.
    SwappedRegime,
    /// A group of sensors is wired to another pump.
    CrossedPumps,
}

impl FaultKind {
    /// Whether a single sensor leaves its usual range.
    pub fn is_visible(self) -> bool {
        matches!(self, Self::Spike | Self::Bias | Self::NoiseBurst)
    }

    /// The kind in words.
    pub fn name(self) -> &'static str {
        match self {
            Self::Spike => "spike",
            Self::Bias => "bias",
            Self::NoiseBurst => "noise burst",
            Self::Stuck => "stuck sensor",
            Self::Drift => "slow drift",
            Self::BrokenCorrelation => "broken correlation",
            Self::SwappedRegime => "swapped regime",
            Self::CrossedPumps => "crossed pumps",
        }
    }
}

/// One labelled fault of one pump.
#[derive(Clone, Debug)]
pub struct Fault {
    /// Place in the schedule, from 0.
    pub id: usize,
    /// What it is.
    pub kind: FaultKind,
    /// Which pump has it.
    pub pump: usize,
    /// Which sensors show wrong values.
    pub sensors: Vec<usize>,
    /// Index of its first reading.
    pub start: usize,
    /// One past the index of its last reading.
    pub end: usize,
    /// Largest distance of a shown value from the true one, in σ of its sensor at this pump.
    pub size_sigma: f64,
    /// Largest distance of a shown value from its sensor's mean, in σ: what a per-sensor alarm could see.
    pub peak_z: f64,
    /// Shown values `[readings, sensors]`.
    pub(super) shown: Vec<Vec<f64>>,
}

impl Fault {
    /// Whether the reading with this index is in the window: by time and by pump.
    pub fn covers(&self, index: usize) -> bool {
        (self.start..self.end).contains(&index) && index % N_PUMPS == self.pump
    }

    /// Readings in the window.
    pub fn n_readings(&self) -> usize {
        self.shown.len()
    }

    /// Puts the wrong values in place of the true ones, if `sample` is in the window.
    pub fn apply(&self, sample: &mut Sample) {
        if self.covers(sample.index) {
            let shown = &self.shown[(sample.index - self.start) / N_PUMPS];
            for (&sensor, &value) in self.sensors.iter().zip(shown) {
                sample.values[sensor] = value;
            }
        }
    }

    /// Names of the affected sensors.
    pub fn sensor_names(&self) -> String {
        self.sensors.iter().map(|&sensor| SENSORS[sensor].name).collect::<Vec<_>>().join(", ")
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (kind, pump, sensors) = (self.kind.name(), key(self.pump), self.sensor_names());
        let n = self.n_readings();
        write!(out, "fault {}: {kind} of {:.1} σ on {pump} {sensors} for {n} readings", self.id + 1, self.size_sigma)?;
        write!(out, " (largest single-sensor z {:.1})", self.peak_z)
    }
}

/// The live part: the plant with its faults.
#[derive(Clone, Debug)]
pub struct Live {
    plant: Plant,
    faults: Vec<Fault>,
    start: usize,
}

impl Live {
    /// Joins a plant, which has made its history, with the faults that were planned for it.
    pub fn new(plant: Plant, faults: Vec<Fault>) -> Self {
        Self { start: plant.index(), plant, faults }
    }

    /// Index of the first live reading.
    pub fn start(&self) -> usize {
        self.start
    }

    /// Index of the next reading.
    pub fn index(&self) -> usize {
        self.plant.index()
    }

    /// The planned faults, by start.
    pub fn faults(&self) -> &[Fault] {
        &self.faults
    }

    /// Makes the next reading, spoilt and labelled where a fault covers it.
    pub fn reading(&mut self) -> Reading {
        let mut sample = self.plant.sample();
        let fault = self.faults.iter().find(|fault| fault.covers(sample.index));
        if let Some(fault) = fault {
            fault.apply(&mut sample);
        }
        let label = fault.map(|fault| fault.id);
        self.plant.send(&sample, label)
    }
}

#[cfg(test)]
mod tests {
    use super::super::schedule::{Plan, plan};
    use super::*;

    fn live(seed: u64) -> (Live, Plant) {
        let mut plant = Plant::new(seed);
        plant.history(1200);
        let faults = plan(&plant, &Plan { n_records: 20_000, rate: 800.0, seed });
        (Live::new(plant.clone(), faults), plant)
    }

    #[test]
    fn fault_changes_its_own_sensors_in_its_own_window_only() {
        let (mut live, mut clean) = live(5);
        for _ in 0..20_000 {
            let (shown, truth) = (live.reading(), clean.reading());
            let fault = shown.fault.map(|id| &live.faults()[id]);
            for sensor in 0..SENSORS.len() {
                let spoilt = fault.is_some_and(|fault| fault.sensors.contains(&sensor));
                assert!(spoilt || shown.values[sensor] == truth.values[sensor]);
            }
            assert!(fault.is_none_or(|fault| fault.pump == shown.pump));
        }
    }

    #[test]
    fn every_reading_of_a_window_is_labelled() {
        let (mut live, _) = live(6);
        let mut n_labelled = vec![0; live.faults().len()];
        for _ in 0..20_000 {
            if let Some(id) = live.reading().fault {
                n_labelled[id] += 1;
            }
        }
        for (fault, n) in live.faults().iter().zip(n_labelled) {
            assert_eq!(fault.n_readings(), n, "{fault}");
        }
    }
}
