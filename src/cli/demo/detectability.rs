//! Proof that the demo is neither trivial nor impossible: a linear model of the joint structure finds the faults, a
//! per-sensor alarm doesn't. Tests only; it knows nothing of strayd's own model, so it can't be tuned to it.

use ndarray::{Array1, Array2, Axis, Zip, s};
use ndarray_linalg::{Eigh, UPLO};

use super::baseline::{Baseline, found};
use super::faults::Live;
use super::plant::{Plant, Reading};
use super::schedule::{Plan, plan};
use super::sensors::N_SENSORS;

/// Principal components kept: six factors, and two for their bends.
const N_COMPONENTS: usize = 8;
const HISTORY: usize = 6000;
const TARGET: f64 = 5e-4;

struct Pca {
    mean: Array1<f64>,
    std: Array1<f64>,
    /// `[N_SENSORS, N_COMPONENTS]`
    basis: Array2<f64>,
}

impl Pca {
    fn fit(readings: &[Reading]) -> Self {
        let complete: Vec<&Reading> = readings.iter().filter(|r| r.values.iter().all(Option::is_some)).collect();
        let mut rows = Array2::zeros((complete.len(), N_SENSORS));
        for (mut row, reading) in rows.outer_iter_mut().zip(&complete) {
            row.iter_mut().zip(&reading.values).for_each(|(cell, value)| *cell = value.unwrap());
        }
        let (mean, std) = (rows.mean_axis(Axis(0)).unwrap(), rows.std_axis(Axis(0), 0.0));
        let rows = (rows - &mean) / &std;
        let covariance = rows.t().dot(&rows) / complete.len() as f64;
        let (_, vectors) = covariance.eigh(UPLO::Lower).unwrap();
        Self { mean, std, basis: vectors.slice(s![.., N_SENSORS - N_COMPONENTS..]).to_owned() }
    }

    /// Mean squared residual of each reading over what is there; what is missing is filled in by the model itself.
    fn scores(&self, readings: &[Reading]) -> Vec<f64> {
        let raw = readings.iter().flat_map(|reading| &reading.values).map(|value| value.unwrap_or(f64::NAN)).collect();
        let raw = Array2::from_shape_vec((readings.len(), N_SENSORS), raw).unwrap();
        let standardised = (raw - &self.mean) / &self.std;
        let mut rows = standardised.mapv(|z| if z.is_nan() { 0.0 } else { z });
        let mut recons = rows.dot(&self.basis).dot(&self.basis.t());
        for _ in 0..3 {
            Zip::from(&mut rows).and(&standardised).and(&recons).for_each(|row, z, recon| {
                if z.is_nan() {
                    *row = *recon;
                }
            });
            recons = rows.dot(&self.basis).dot(&self.basis.t());
        }
        let n_there = standardised.mapv(|z| if z.is_nan() { 0.0 } else { 1.0 }).sum_axis(Axis(1));
        ((rows - recons).mapv(|residual| residual * residual).sum_axis(Axis(1)) / n_there).to_vec()
    }
}

struct Outcome {
    n_faults: usize,
    n_found: usize,
    n_baseline: usize,
    n_false: usize,
}

fn run(seed: u64, seconds: f64, rate: f64) -> Outcome {
    let mut plant = Plant::new(seed);
    let history = plant.history(HISTORY);
    let (pca, baseline) = (Pca::fit(&history), Baseline::fit(&history));
    let n_records = (seconds * rate) as usize;
    let mut clean: Vec<f64> = pca.scores(&plant.clone().history(20_000));
    clean.sort_by(f64::total_cmp);
    let threshold = clean[(clean.len() as f64 * (1.0 - TARGET)) as usize];
    let faults = plan(&plant, &Plan { n_records, rate, seed });
    let mut live = Live::new(plant, faults.clone());
    let readings: Vec<Reading> = (0..n_records).map(|_| live.reading()).collect();
    let (mut hits, mut n_false) = (vec![0; faults.len()], 0);
    for (reading, score) in readings.iter().zip(pca.scores(&readings)) {
        if score > threshold {
            reading.fault.map_or_else(|| n_false += 1, |id| hits[id] += 1);
        }
    }
    let n_alerts = hits.iter().sum::<usize>() + n_false;
    let scores = readings.iter().map(|reading| baseline.score(reading));
    let (plant_wide, own_pump): (Vec<f64>, Vec<f64>) = scores.map(|of| (of.plant_wide, of.own_pump)).unzip();
    let count = |scores: &[f64]| found(scores, HISTORY, &faults, n_alerts).iter().filter(|found| **found).count();
    let n_baseline = count(&plant_wide).max(count(&own_pump));
    Outcome { n_faults: faults.len(), n_found: hits.iter().filter(|&&n| n > 0).count(), n_baseline, n_false }
}

#[test]
fn joint_structure_shows_the_faults_and_single_sensors_do_not() {
    let (mut n_faults, mut n_found, mut n_baseline) = (0, 0, 0);
    for seed in 1..=10 {
        let outcome = run(seed, 38.0, 500.0);
        assert!(outcome.n_found * 100 >= outcome.n_faults * 95, "seed {seed}: {}", outcome.n_found);
        assert!(outcome.n_baseline * 100 < outcome.n_faults * 70, "seed {seed}: {}", outcome.n_baseline);
        assert!(outcome.n_false <= 2 * 10 + 3, "seed {seed}: {}", outcome.n_false);
        n_faults += outcome.n_faults;
        n_found += outcome.n_found;
        n_baseline += outcome.n_baseline;
    }
    assert!(n_found * 100 >= n_faults * 98 && n_baseline * 100 < n_faults * 60, "{n_found} {n_baseline} {n_faults}");
}
