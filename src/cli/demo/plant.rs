//! A small plant of twelve pumps that never stops: one reading a pump in turn, the same for the same seed.
//!
//! Each pump wanders through its hidden factors (demand with a daily rhythm, speed, suction, water, ambient, wear);
//! [`physics`] turns them into sensors, noise and missing values are added. It knows nothing of faults, of Kafka or of
//! the clock: time is simulated, a quarter of an hour from one reading of a pump to the next.

use std::f64::consts::TAU;

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use rand_distr::StandardNormal;

use super::sensors::{N_SENSORS, Operation, SENSORS, Values, physics};

/// Pumps of the plant. The reading with index i is of pump i mod 12.
pub const N_PUMPS: usize = 12;
/// Records of history that the demo lays down before the live part: five weeks. The detector calibrates on a fifth of
/// them; from 24,000 records the rate of false alerts came out over twice the target on one seed in five, from these on
/// none of ten. (A partition of librdkafka's mock cluster keeps 5 MB: compress, or take eight partitions.)
pub const HISTORY_RECORDS: usize = 40_000;
/// Readings of one pump in a simulated day: one each quarter of an hour, so that 1152 records are a day.
pub const READINGS_A_DAY: usize = 96;
/// Simulated milliseconds from one record to the next: twelve of them are a quarter of an hour.
pub const RECORD_INTERVAL_MS: i64 = 75_000;
/// Standard deviation of a sensor's noise, in σ of that sensor. Much larger would hide the small faults from everybody;
/// much smaller would leave only a model's own misfit, which has no steady tail.
pub const NOISE_SIGMA: f64 = 0.12;
/// Share of values that don't arrive, at most one of a reading.
pub const MISSING_SHARE: f64 = 0.01;
/// Readings of each pump from which the plant learns what is usual of its sensors: fifteen days.
const N_CALIBRATION: usize = 15 * READINGS_A_DAY;

/// One record of one pump, before it is written.
#[derive(Clone, Debug, PartialEq)]
pub struct Reading {
    /// Index since the plant's start.
    pub index: usize,
    /// Which pump, 0 to 11.
    pub pump: usize,
    /// Simulated milliseconds since the plant's start.
    pub event_offset_ms: i64,
    /// Values `[N_SENSORS]` as sent; `None` did not arrive.
    pub values: Vec<Option<f64>>,
    /// Id of the fault whose window this reading is in.
    pub fault: Option<usize>,
}

impl Reading {
    /// The record's key: `pump-01` to `pump-12`.
    pub fn key(&self) -> String {
        key(self.pump)
    }

    /// The record's value: a JSON object of numbers. Of the missing values every other one is null, the rest absent.
    pub fn to_json(&self) -> String {
        let mut json = String::with_capacity(32 * N_SENSORS);
        json.push('{');
        for (place, (sensor, value)) in SENSORS.iter().zip(&self.values).enumerate() {
            let value = match value {
                Some(value) => serde_json::Number::from_f64(*value).map_or("null".to_owned(), |n| n.to_string()),
                None if (place + self.index).is_multiple_of(2) => "null".to_owned(),
                None => continue,
            };
            if json.len() > 1 {
                json.push(',');
            }
            json.push('"');
            json.push_str(sensor.name);
            json.push_str("\":");
            json.push_str(&value);
        }
        json.push('}');
        json
    }
}

/// The key of pump `pump`, counted from 0.
pub fn key(pump: usize) -> String {
    format!("pump-{:02}", pump + 1)
}

/// What is usual of one sensor of one pump.
#[derive(Clone, Copy, Debug, Default)]
pub struct Usual {
    /// Mean.
    pub mean: f64,
    /// Standard deviation.
    pub std: f64,
    /// Smallest value seen in fifteen days.
    pub low: f64,
    /// Largest value seen in fifteen days.
    pub high: f64,
}

/// One reading as the machine made it: exact, all values there, no fault.
#[derive(Clone, Debug)]
pub struct Sample {
    /// Index since the plant's start.
    pub index: usize,
    /// Which pump.
    pub pump: usize,
    /// The hidden state.
    pub operation: Operation,
    /// Values with noise `[N_SENSORS]`.
    pub values: Values,
}

/// A bounded wanderer: a mean-reverting Gaussian walk, folded into [-1, 1] by a sine. So no sensor has a long tail, and
/// the ends of its range are everyday places that the history knows as well as the middle.
#[derive(Clone, Debug)]
struct Walk {
    at: f64,
    keep: f64,
}

impl Walk {
    fn new(readings: f64, rng: &mut ChaCha8Rng) -> Self {
        Self { at: rng.sample(StandardNormal), keep: (-1.0 / readings).exp() }
    }

    fn step(&mut self, rng: &mut ChaCha8Rng) -> f64 {
        let push: f64 = rng.sample(StandardNormal);
        self.at = self.keep * self.at + (1.0 - self.keep * self.keep).sqrt() * push;
        (1.4 * self.at).sin()
    }
}

#[derive(Clone, Debug)]
struct Pump {
    wear: f64,
    /// Load, speed, suction, water, ambient, lubrication.
    walks: [Walk; 6],
}

impl Pump {
    /// Memories in readings: 2 are half an hour, 4 are one. Longer ones would make a history of weeks hold too few
    /// different situations, and the live part would be full of new ones.
    fn new(rng: &mut ChaCha8Rng) -> Self {
        let wear = rng.random_range(-0.15..0.15);
        Self { wear, walks: [2.0, 2.5, 3.0, 4.0, 4.0, 3.0].map(|readings| Walk::new(readings, rng)) }
    }

    fn step(&mut self, day: f64, rng: &mut ChaCha8Rng) -> Operation {
        let [load, speed, suction, water, ambient, lubrication] = self.walks.each_mut().map(|walk| walk.step(rng));
        let rhythm = (TAU * (day - 0.3)).sin();
        Operation {
            load: 0.75 * load + 0.25 * rhythm,
            speed,
            suction: 0.85 * suction - 0.15 * rhythm,
            water: 0.7 * water + 0.3 * (TAU * (day - 0.45)).sin(),
            ambient: 0.5 * ambient + 0.5 * (TAU * (day - 0.4)).sin(),
            wear: self.wear + 0.85 * lubrication,
        }
    }
}

/// The plant: an endless, deterministic source of readings.
#[derive(Clone, Debug)]
pub struct Plant {
    rng: ChaCha8Rng,
    pumps: Vec<Pump>,
    usual: Vec<[Usual; N_SENSORS]>,
    plant_wide: [Usual; N_SENSORS],
    noise: Values,
    index: usize,
}

impl Plant {
    /// Builds the plant of `seed` and lets it run in for fifteen simulated days to learn what is usual.
    pub fn new(seed: u64) -> Self {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let pumps = (0..N_PUMPS).map(|_| Pump::new(&mut rng)).collect();
        let usual = vec![[Usual::default(); N_SENSORS]; N_PUMPS];
        let plant_wide = [Usual::default(); N_SENSORS];
        let mut plant = Self { rng, pumps, usual, plant_wide, noise: [0.0; N_SENSORS], index: 0 };
        plant.calibrate();
        plant.index = 0;
        plant
    }

    /// What is usual of `sensor` of `pump`.
    pub fn usual(&self, pump: usize, sensor: usize) -> Usual {
        self.usual[pump][sensor]
    }

    /// What is usual of `sensor` over all pumps.
    pub fn usual_plant_wide(&self, sensor: usize) -> Usual {
        self.plant_wide[sensor]
    }

    /// Index of the next record.
    pub fn index(&self) -> usize {
        self.index
    }

    /// Makes the next sample: exact values, no fault.
    pub fn sample(&mut self) -> Sample {
        let (index, pump) = (self.index, self.index % N_PUMPS);
        self.index += 1;
        let day = index as f64 / (READINGS_A_DAY * N_PUMPS) as f64;
        let operation = self.pumps[pump].step(day, &mut self.rng);
        let mut values = physics(&operation);
        for (value, noise) in values.iter_mut().zip(self.noise) {
            *value += noise * self.rng.sample::<f64, _>(StandardNormal);
        }
        Sample { index, pump, operation, values }
    }

    /// Sends a sample: rounds as the transmitters do; now and then one of them misses its turn.
    pub fn send(&mut self, sample: &Sample, fault: Option<usize>) -> Reading {
        let lost = self.rng.random_bool(MISSING_SHARE * N_SENSORS as f64).then(|| self.rng.random_range(0..N_SENSORS));
        let values = sample.values.iter().zip(SENSORS).enumerate().map(|(place, (&value, sensor))| {
            let scale = 10.0_f64.powi(sensor.decimals);
            (lost != Some(place)).then_some((value * scale).round() / scale)
        });
        Reading {
            values: values.collect(),
            index: sample.index,
            pump: sample.pump,
            event_offset_ms: sample.index as i64 * RECORD_INTERVAL_MS,
            fault,
        }
    }

    /// Makes and sends the next reading, without a fault.
    pub fn reading(&mut self) -> Reading {
        let sample = self.sample();
        self.send(&sample, None)
    }

    /// Makes the next `n_records` readings, without faults: the history.
    pub fn history(&mut self, n_records: usize) -> Vec<Reading> {
        (0..n_records).map(|_| self.reading()).collect()
    }

    fn calibrate(&mut self) {
        let mut columns = vec![vec![Vec::new(); N_SENSORS]; N_PUMPS];
        for _ in 0..N_CALIBRATION * N_PUMPS {
            let sample = self.sample();
            for (column, value) in columns[sample.pump].iter_mut().zip(sample.values) {
                column.push(value);
            }
        }
        for sensor in 0..N_SENSORS {
            for (pump, columns) in columns.iter().enumerate() {
                self.usual[pump][sensor] = usual_of(&columns[sensor]);
            }
            let all: Vec<f64> = columns.iter().flat_map(|columns| &columns[sensor]).copied().collect();
            self.plant_wide[sensor] = usual_of(&all);
        }
        for (sensor, noise) in self.noise.iter_mut().enumerate() {
            let mean_std = self.usual.iter().map(|pump| pump[sensor].std).sum::<f64>() / N_PUMPS as f64;
            *noise = NOISE_SIGMA * mean_std;
        }
    }
}

fn usual_of(column: &[f64]) -> Usual {
    let n = column.len() as f64;
    let mean = column.iter().sum::<f64>() / n;
    let std = (column.iter().map(|value| (value - mean).powi(2)).sum::<f64>() / n).sqrt();
    let low = column.iter().copied().fold(f64::INFINITY, f64::min);
    let high = column.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    Usual { mean, std, low, high }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn same_seed_makes_the_same_readings() {
        let (mut one, mut other) = (Plant::new(7), Plant::new(7));
        assert_eq!(one.history(500), other.history(500));
        assert_ne!(one.reading().values, Plant::new(8).reading().values);
    }

    #[test]
    fn about_one_value_in_a_hundred_is_missing() {
        let readings = Plant::new(1).history(2000);
        let n_missing = readings.iter().flat_map(|reading| &reading.values).filter(|value| value.is_none()).count();
        let share = n_missing as f64 / (2000 * N_SENSORS) as f64;
        assert!((0.008..0.012).contains(&share), "{share}");
    }

    #[test]
    fn json_holds_the_values_as_sent() {
        let mut reading = Plant::new(1).reading();
        reading.values[0] = None;
        reading.values[1] = None;
        let parsed: serde_json::Value = serde_json::from_str(&reading.to_json()).unwrap();
        assert!(parsed["inlet_pressure_bar"].is_null() && parsed.get("inlet_pressure_bar").is_some());
        assert!(parsed.get("outlet_pressure_bar").is_none());
        assert_eq!(parsed["flow_m3h"].as_f64(), reading.values[3]);
        assert_eq!(reading.key(), "pump-01");
    }

    #[test]
    fn no_sensor_has_a_long_tail() {
        let mut plant = Plant::new(3);
        for _ in 0..6000 {
            let sample = plant.sample();
            for (sensor, value) in sample.values.iter().enumerate() {
                let usual = plant.usual(sample.pump, sensor);
                assert!(((value - usual.mean) / usual.std).abs() < 4.5, "{}", SENSORS[sensor].name);
            }
        }
    }
}
