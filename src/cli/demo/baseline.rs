//! The alarm that stands beside strayd: per-sensor z-scores, given their best.
//!
//! It learns mean and standard deviation of every sensor from the same fault-free history, scores a reading by its
//! largest |z|, and alerts on its top scores, exactly as often as strayd did. Two forms are kept, over the whole plant
//! and for each pump by itself; the better one counts. It must never see the labels before it has alerted.

use super::faults::Fault;
use super::plant::{N_PUMPS, Reading};
use super::sensors::N_SENSORS;

/// Mean and reciprocal standard deviation of each sensor.
#[derive(Clone, Debug)]
struct Scale([(f64, f64); N_SENSORS]);

impl Scale {
    fn fit<'a>(readings: impl Iterator<Item = &'a Reading> + Clone) -> Self {
        let mut scale = [(0.0, 0.0); N_SENSORS];
        for (sensor, (mean, inverse_std)) in scale.iter_mut().enumerate() {
            let values = readings.clone().filter_map(|reading| reading.values[sensor]);
            let n = values.clone().count().max(1) as f64;
            *mean = values.clone().sum::<f64>() / n;
            let variance = values.map(|value| (value - *mean).powi(2)).sum::<f64>() / n;
            *inverse_std = if variance > 0.0 { 1.0 / variance.sqrt() } else { 0.0 };
        }
        Self(scale)
    }

    fn largest_z(&self, reading: &Reading) -> f64 {
        let pairs = reading.values.iter().zip(&self.0);
        pairs.fold(0.0, |largest, (value, (mean, inverse_std))| {
            value.map_or(largest, |value| largest.max(((value - mean) * inverse_std).abs()))
        })
    }
}

/// The scores of one reading: the largest |z| over the sensors.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Scores {
    /// Against mean and standard deviation over all pumps.
    pub plant_wide: f64,
    /// Against those of its own pump.
    pub own_pump: f64,
}

/// A per-sensor z-score alarm, fitted to the history.
#[derive(Clone, Debug)]
pub struct Baseline {
    plant_wide: Scale,
    /// `[N_PUMPS]`
    own_pump: Vec<Scale>,
}

impl Baseline {
    /// Learns means and standard deviations from a history without faults.
    pub fn fit(history: &[Reading]) -> Self {
        let own_pump = (0..N_PUMPS).map(|pump| Scale::fit(history.iter().filter(move |reading| reading.pump == pump)));
        Self { plant_wide: Scale::fit(history.iter()), own_pump: own_pump.collect() }
    }

    /// Scores one reading.
    pub fn score(&self, reading: &Reading) -> Scores {
        let own_pump = self.own_pump[reading.pump].largest_z(reading);
        Scores { plant_wide: self.plant_wide.largest_z(reading), own_pump }
    }
}

/// Which of `faults` an alarm finds that alerts on the `n_alerts` largest of `scores` `[live readings]`, the first of
/// which belongs to the reading with index `start`. A fault is found by one alert in its window.
pub fn found(scores: &[f64], start: usize, faults: &[Fault], n_alerts: usize) -> Vec<bool> {
    let mut order: Vec<usize> = (0..scores.len()).collect();
    order.sort_by(|&one, &other| scores[other].total_cmp(&scores[one]));
    order.truncate(n_alerts);
    faults.iter().map(|fault| order.iter().any(|place| fault.covers(start + place))).collect()
}

#[cfg(test)]
mod tests {
    use super::super::plant::Plant;
    use super::*;

    #[test]
    fn score_is_the_largest_z_of_the_sensors_that_are_there() {
        let history = Plant::new(1).history(2400);
        let baseline = Baseline::fit(&history);
        let mut reading = history[0].clone();
        let (mean, inverse_std) = baseline.plant_wide.0[3];
        reading.values = vec![None; N_SENSORS];
        assert_eq!(baseline.score(&reading), Scores { plant_wide: 0.0, own_pump: 0.0 });
        reading.values[3] = Some(mean - 5.0 / inverse_std);
        assert!((baseline.score(&reading).plant_wide - 5.0).abs() < 1e-9);
    }

    #[test]
    fn alerts_are_the_top_scores_and_no_more() {
        let mut plant = Plant::new(2);
        plant.history(12);
        let plan = super::super::schedule::Plan { n_records: 20_000, rate: 1000.0, seed: 2 };
        let faults = super::super::schedule::plan(&plant, &plan);
        let mut scores = vec![0.0; 20_000];
        scores[faults[1].start - 12] = 9.0;
        scores[faults[0].start - 12] = 8.0;
        assert_eq!(found(&scores, 12, &faults, 0), vec![false; faults.len()]);
        assert_eq!(found(&scores, 12, &faults, 1).iter().filter(|found| **found).count(), 1);
        let two = found(&scores, 12, &faults, 2);
        assert!(two[0] && two[1] && !two[2]);
    }
}
