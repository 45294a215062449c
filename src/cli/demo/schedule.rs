//! When what breaks: plans the faults of the live part by a rehearsal of it.
//!
//! A copy of the plant runs ahead, so that every fault's true size is known before it happens: one that would hardly
//! differ from the truth (a sensor stuck while the machine stands still) is drawn again. It must never alter the plant
//! itself, and faults never overlap.

use std::collections::VecDeque;

use rand::seq::SliceRandom;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use rand_distr::StandardNormal;

use super::faults::{Fault, FaultKind};
use super::plant::{N_PUMPS, Plant, Sample};
use super::sensors::{GROUPS, N_SENSORS, Operation, physics};

/// Seconds without a fault at the start of the live part.
const LEAD_SECONDS: f64 = 2.0;
/// Seconds without a fault at its end, so that the last one can still be published.
const TAIL_SECONDS: f64 = 3.5;
/// Seconds from one fault to the next.
const SPACING_SECONDS: f64 = 3.0;
/// Rounds of the past from which a broken correlation takes its values: two and a half days.
const N_PAST_ROUNDS: usize = 240;
/// Draws for one fault until its size is right.
const N_DRAWS: usize = 400;
/// A fault differs from the truth by this many σ at its largest ...
const SIZE_SIGMA_MIN: f64 = 1.5;
/// ... and by this much on the average (root mean square over the window).
const RMS_SIGMA_MIN: f64 = 0.8;
/// No single sensor of an invisible fault goes further from its mean than this many σ, which healthy ones reach daily.
pub const INVISIBLE_Z_MAX: f64 = 2.2;

/// What to plan for.
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    /// Records in the live part.
    pub n_records: usize,
    /// Records a second, all pumps together.
    pub rate: f64,
    /// Seed of the faults.
    pub seed: u64,
}

/// The kinds in the order of one block of ten: three visible ones, seven that no single sensor shows.
fn block(rng: &mut ChaCha8Rng) -> [FaultKind; 10] {
    use FaultKind::{Bias, BrokenCorrelation, CrossedPumps, Drift, NoiseBurst, Spike, Stuck, SwappedRegime};
    let mut hidden = [Stuck, Drift, BrokenCorrelation, SwappedRegime, CrossedPumps, BrokenCorrelation, SwappedRegime];
    let mut visible = [Spike, Bias, NoiseBurst];
    hidden.shuffle(rng);
    visible.shuffle(rng);
    let [a, b, c, d, e, f, g] = hidden;
    let [x, y, z] = visible;
    [a, x, b, c, y, d, e, z, f, g]
}

/// Plans the faults of the next `n_records` readings of `plant`: one each three seconds, none in the first two seconds
/// and none in the last three and a half, by start.
pub fn plan(plant: &Plant, plan: &Plan) -> Vec<Fault> {
    let mut rng = ChaCha8Rng::seed_from_u64(plan.seed ^ 0x0066_6175_6c74);
    let rounds_a_second = plan.rate / N_PUMPS as f64;
    let seconds = plan.n_records as f64 / plan.rate - LEAD_SECONDS - TAIL_SECONDS;
    let n_faults = (seconds / SPACING_SECONDS).floor().max(0.0) as usize;
    let mut kinds = Vec::new();
    let mut rehearsal = Rehearsal::new(plant);
    let mut faults: Vec<Fault> = Vec::with_capacity(n_faults);
    for place in 0..n_faults {
        if kinds.is_empty() {
            kinds = block(&mut rng).to_vec();
            kinds.reverse();
        }
        let kind = kinds.pop().expect("a block has been drawn when none was left");
        let at = LEAD_SECONDS + SPACING_SECONDS * (place as f64 + rng.random_range(0.0..0.5));
        rehearsal.run_to((at * rounds_a_second).ceil() as usize);
        let window = rehearsal.window(n_readings(kind, plan.rate));
        let last_pump = faults.last().map(|fault| fault.pump);
        if let Some(mut fault) = (0..N_DRAWS).find_map(|_| rehearsal.draw(kind, &window, last_pump, &mut rng)) {
            fault.id = faults.len();
            faults.push(fault);
        }
    }
    faults
}

/// Readings that a fault lasts. It grows with the square root of the rate: were it longer, a random alarm at the same
/// number of alerts would hit most windows by luck, and the comparison would say nothing.
fn n_readings(kind: FaultKind, rate: f64) -> usize {
    let base = (0.85 * rate.sqrt()).clamp(12.0, 32.0);
    let factor = match kind {
        FaultKind::Spike => return 4,
        FaultKind::Drift | FaultKind::Stuck => 1.4,
        _ => 1.0,
    };
    (base * factor).round() as usize
}

/// A copy of the plant that runs ahead and remembers two and a half days.
struct Rehearsal {
    plant: Plant,
    start: usize,
    /// Rounds `[N_PUMPS]`, oldest first.
    past: VecDeque<Vec<Sample>>,
}

impl Rehearsal {
    fn new(plant: &Plant) -> Self {
        let mut plant = plant.clone();
        let mut past = VecDeque::with_capacity(N_PAST_ROUNDS);
        // Live parts may start within a round; the rehearsal starts with the next whole one.
        while !plant.index().is_multiple_of(N_PUMPS) {
            step(&mut plant);
        }
        past.push_back(round(&mut plant));
        Self { start: plant.index(), plant, past }
    }

    /// Runs on until round `n` of the live part is the next one.
    fn run_to(&mut self, n: usize) {
        while self.plant.index() < self.start + n * N_PUMPS {
            let round = round(&mut self.plant);
            self.remember(round);
        }
    }

    fn remember(&mut self, round: Vec<Sample>) {
        if self.past.len() == N_PAST_ROUNDS {
            self.past.pop_front();
        }
        self.past.push_back(round);
    }

    /// The next `n` rounds, without going there.
    fn window(&self, n: usize) -> Vec<Vec<Sample>> {
        let mut ahead = self.plant.clone();
        (0..n).map(|_| round(&mut ahead)).collect()
    }

    /// Draws one fault of `kind` over `window`; `None` if its size isn't right.
    fn draw(
        &self,
        kind: FaultKind,
        window: &[Vec<Sample>],
        last_pump: Option<usize>,
        rng: &mut ChaCha8Rng,
    ) -> Option<Fault> {
        let pump = rng.random_range(0..N_PUMPS);
        let sensors = match kind {
            FaultKind::SwappedRegime | FaultKind::CrossedPumps => GROUPS[rng.random_range(0..GROUPS.len())].to_vec(),
            _ => vec![rng.random_range(0..N_SENSORS)],
        };
        let shown = self.shown(kind, window, pump, &sensors, rng);
        let (start, end) = (window.first()?[pump].index, window.last()?[pump].index + 1);
        let mut fault = Fault { id: 0, kind, pump, sensors, start, end, size_sigma: 0.0, peak_z: 0.0, shown };
        let rms = self.measure(&mut fault, window);
        let fits = kind.is_visible() == (fault.peak_z > INVISIBLE_Z_MAX) && fault.size_sigma >= SIZE_SIGMA_MIN;
        (fits && rms >= RMS_SIGMA_MIN && last_pump != Some(pump)).then_some(fault)
    }

    /// Values `[readings, sensors]` that the fault shows.
    fn shown(
        &self,
        kind: FaultKind,
        window: &[Vec<Sample>],
        pump: usize,
        sensors: &[usize],
        rng: &mut ChaCha8Rng,
    ) -> Vec<Vec<f64>> {
        let sign = if rng.random_bool(0.5) { 1.0 } else { -1.0 };
        let sigmas = sign
            * match kind {
                FaultKind::Spike => rng.random_range(6.0..9.0),
                FaultKind::Drift => rng.random_range(2.0..2.8),
                _ => rng.random_range(4.0..5.0),
            };
        let other = (pump + rng.random_range(1..N_PUMPS)) % N_PUMPS;
        let last = self.past.back().expect("a rehearsal starts with one round");
        let mut shown = Vec::with_capacity(window.len());
        for (place, round) in window.iter().enumerate() {
            let sample = &round[pump];
            let elsewhere = physics(&at_another_load(&sample.operation));
            let here = physics(&sample.operation);
            let values = sensors.iter().map(|&sensor| {
                let usual = self.plant.usual(pump, sensor);
                let truth = sample.values[sensor];
                match kind {
                    FaultKind::Spike | FaultKind::Bias => truth + sigmas * usual.std,
                    FaultKind::NoiseBurst => truth + 2.5 * usual.std * rng.sample::<f64, _>(StandardNormal),
                    FaultKind::Stuck => last[pump].values[sensor],
                    FaultKind::Drift => {
                        let grown = ((place + 1) as f64 / (0.7 * window.len() as f64)).min(1.0);
                        let reach = INVISIBLE_Z_MAX * 0.95 * usual.std;
                        let (low, high) = (usual.mean - reach, usual.mean + reach);
                        (truth + grown * sigmas * usual.std).clamp(low.min(truth), high.max(truth))
                    }
                    FaultKind::BrokenCorrelation => {
                        self.past[rng.random_range(0..self.past.len())][pump].values[sensor]
                    }
                    FaultKind::SwappedRegime => truth + elsewhere[sensor] - here[sensor],
                    FaultKind::CrossedPumps => round[other].values[sensor],
                }
            });
            shown.push(values.collect());
        }
        shown
    }

    /// Sets the fault's size and its largest z, own pump's or plant-wide, and returns the root mean square deviation in
    /// σ of the sensor that deviates most.
    fn measure(&self, fault: &mut Fault, window: &[Vec<Sample>]) -> f64 {
        let mut rms_max: f64 = 0.0;
        for (column, &sensor) in fault.sensors.iter().enumerate() {
            let (own, all) = (self.plant.usual(fault.pump, sensor), self.plant.usual_plant_wide(sensor));
            let mut squares = 0.0;
            for (round, shown) in window.iter().zip(&fault.shown) {
                let (truth, shown) = (round[fault.pump].values[sensor], shown[column]);
                let size = ((shown - truth) / own.std).abs();
                squares += size * size;
                let z = ((shown - own.mean) / own.std).abs().max(((shown - all.mean) / all.std).abs());
                fault.size_sigma = fault.size_sigma.max(size);
                fault.peak_z = fault.peak_z.max(z);
            }
            rms_max = rms_max.max((squares / window.len() as f64).sqrt());
        }
        rms_max
    }
}

/// The same pump at a load on the other side of the rated point: both are everyday loads.
fn at_another_load(at: &Operation) -> Operation {
    Operation { load: if at.load > 0.0 { -0.55 } else { 0.55 }, ..*at }
}

fn step(plant: &mut Plant) -> Sample {
    let sample = plant.sample();
    plant.send(&sample, None);
    sample
}

fn round(plant: &mut Plant) -> Vec<Sample> {
    (0..N_PUMPS).map(|_| step(plant)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn faults(seed: u64, n_records: usize, rate: f64) -> (Vec<Fault>, usize) {
        let mut plant = Plant::new(seed);
        plant.history(6000);
        (plan(&plant, &Plan { n_records, rate, seed }), plant.index())
    }

    #[test]
    fn forty_seconds_have_ten_faults_well_inside_and_apart() {
        for seed in 1..=3 {
            let (faults, start) = faults(seed, 38_000, 1000.0);
            assert!(faults.len() >= 10, "{}", faults.len());
            assert!(faults[0].start >= start + 2000);
            assert!(faults.last().unwrap().end <= start + 38_000 - 2000);
            assert!(faults.windows(2).all(|pair| pair[0].end <= pair[1].start));
        }
    }

    #[test]
    fn most_faults_are_invisible_to_any_single_sensor() {
        for seed in 1..=3 {
            let (faults, _) = faults(seed, 38_000, 1000.0);
            let hidden: Vec<&Fault> = faults.iter().filter(|fault| !fault.kind.is_visible()).collect();
            assert!(hidden.len() * 10 >= faults.len() * 6);
            assert!(hidden.iter().all(|fault| fault.peak_z <= INVISIBLE_Z_MAX));
            assert!(faults.iter().all(|fault| fault.size_sigma >= SIZE_SIGMA_MIN));
        }
    }

    #[test]
    fn short_or_slow_runs_are_planned_too() {
        assert!(faults(1, 1000, 1000.0).0.is_empty());
        assert!(faults(1, 3000, 100.0).0.len() >= 7);
    }
}
