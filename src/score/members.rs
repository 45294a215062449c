//! The members beside the autoencoder, and how the three become one score.
//!
//! Each member's log is standardised by what is usual of it on held-out accepted rows, and their smooth maximum is put
//! back into the units of the residual, so that a score stays what it was: a mean squared residual, judged higher where
//! the row is far from every remembered one or holds values that none had. A maximum, since what one member sees well
//! the others may not see at all, and a mean would drown it. Measured over ten streams, medians of three seeds, the mean
//! AUC is .931 and .912 (clean and contaminated starts) against .923 and .900 of the autoencoder alone.

use ndarray::{ArrayView1, ArrayView2};
use serde::{Deserialize, Serialize};

use super::memory::{Memory, Near};
use super::tails::Tails;

/// Keeps the log of an exact reconstruction finite; as in the calibration.
const RESIDUAL_FLOOR: f64 = 1e-12;

/// How soft the maximum is, in standard units: below it much like a mean, which has the lighter tail of ordinary rows,
/// above it a maximum, which lets one member speak alone. At 1 to 8 the mean areas are within .001, at 0 (the
/// maximum itself) they are .003 and .005 lower; at 2 a young model alerted twice as often over its target as at 8.
const SOFTNESS: f64 = 8.0;

/// The members beside the autoencoder.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct MembersConfig {
    /// Accepted rows that are remembered beside the autoencoder; 0: it scores alone; else 16 to 65536.
    ///
    /// 1024 ranked the same at twice the cost; 0 halves the cost of scoring.
    pub memory_rows: usize,
    /// Factor of the distance to the nearest remembered rows, where the autoencoder's is 1; 0 to 100.
    pub memory_weight: f64,
    /// Factor of how far out each value is by itself; 0 to 100.
    ///
    /// 0.5 and 1 rank about the same.
    pub tails_weight: f64,
}

impl Default for MembersConfig {
    fn default() -> Self {
        Self { memory_rows: 512, memory_weight: 1.0, tails_weight: 0.7 }
    }
}

impl MembersConfig {
    /// Checks every key.
    ///
    /// # Errors
    /// One sentence for each key that is out of range.
    pub fn check(&self) -> Result<(), Vec<String>> {
        let mut problems = Vec::new();
        let rows = self.memory_rows;
        if rows != 0 && !(16..=65_536).contains(&rows) {
            problems.push(format!("memory_rows is {rows}, it must be 0 or from 16 to 65536"));
        }
        for (name, weight) in [("memory_weight", self.memory_weight), ("tails_weight", self.tails_weight)] {
            if !(0.0..=100.0).contains(&weight) {
                problems.push(format!("{name} is {weight}, it must be from 0 to 100"));
            }
        }
        if problems.is_empty() { Ok(()) } else { Err(problems) }
    }
}

/// Location and scale of a member's log on held-out accepted rows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Unit {
    /// Median of the log.
    pub location: f64,
    /// 1.4826 times its median absolute deviation.
    pub scale: f64,
}

/// The units of all three.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Units {
    /// Of the mean squared residual.
    pub residual: Unit,
    /// Of the distance to the nearest remembered rows.
    pub memory: Unit,
    /// Of the surprise at single values.
    pub tails: Unit,
}

/// Memory, tails and how they are weighed.
#[derive(Clone, Debug, PartialEq)]
pub struct Members {
    memory: Memory,
    tails: Tails,
    /// What is usual of each; not yet known while it is measured.
    pub units: Units,
    /// The weights.
    pub config: MembersConfig,
}

/// The reused buffers, and each member's raw value for the rows of the last batch, `[rows]`.
#[derive(Clone, Debug, Default)]
pub struct MemberScores {
    near: Near,
    /// Mean distance to the nearest remembered rows.
    pub memory: Vec<f64>,
    /// Sum of surprises.
    pub tails: Vec<f64>,
}

impl Unit {
    /// Keeps a member's log finite where the member is 0.
    const FLOOR: f64 = 1e-6;

    /// Log of a member's raw value.
    pub fn log(raw: f64) -> f64 {
        (raw + Self::FLOOR).ln()
    }

    fn z(self, log: f64) -> f64 {
        (log - self.location) / self.scale
    }
}

impl Members {
    /// Remembers standardised `rows` `[n, n_inputs]` under the inputs' `weights`.
    pub fn new(config: &MembersConfig, rows: ndarray::Array2<f32>, weights: &[f32]) -> Self {
        let tails = Tails::new(rows.view());
        let memory = Memory::new(rows, weights);
        Self { memory, tails, units: Units::default(), config: config.clone() }
    }

    /// The remembered rows, `[n, n_inputs]`, standardised.
    pub fn rows(&self) -> ArrayView2<'_, f32> {
        self.memory.rows()
    }

    /// Measures memory and tails for each row of a batch; `x` and `mask` are `[rows, n_inputs]`, `weights` `[n_inputs]`.
    pub fn measure(
        &self,
        x: ArrayView2<'_, f32>,
        mask: ArrayView2<'_, f32>,
        weights: &[f32],
        scores: &mut MemberScores,
    ) {
        self.measure_memory(x, mask, weights, scores);
        self.measure_tails(x, mask, weights, scores);
    }

    /// The part of [`measure`](Self::measure) that asks the memory.
    pub fn measure_memory(
        &self,
        x: ArrayView2<'_, f32>,
        mask: ArrayView2<'_, f32>,
        weights: &[f32],
        scores: &mut MemberScores,
    ) {
        scores.memory.clear();
        self.memory.distances(x, mask, weights, &mut scores.near, &mut scores.memory);
    }

    /// The part of [`measure`](Self::measure) that asks the tails.
    pub fn measure_tails(
        &self,
        x: ArrayView2<'_, f32>,
        mask: ArrayView2<'_, f32>,
        weights: &[f32],
        scores: &mut MemberScores,
    ) {
        scores.tails.clear();
        self.tails.surprises(x, mask, weights, &mut scores.tails);
    }

    /// Turns the mean squared residuals `raw` of the measured rows into scores of all three, in the same units.
    pub fn combine(&self, scores: &MemberScores, raw: &mut [f64]) {
        for ((raw, memory), tails) in raw.iter_mut().zip(&scores.memory).zip(&scores.tails) {
            *raw = self.joint(*raw, *memory, *tails);
        }
    }

    fn joint(&self, raw: f64, memory: f64, tails: f64) -> f64 {
        let z = self.standardised(raw, memory, tails);
        let largest = z[0].max(z[1]).max(z[2]);
        let sum = z.map(|z| ((z - largest) / SOFTNESS).exp()).iter().sum::<f64>();
        let joint = largest + SOFTNESS * (sum / 3.0).ln();
        (self.units.residual.location + joint * self.units.residual.scale).exp()
    }

    /// The members' standardised logs, weighted.
    fn standardised(&self, raw: f64, memory: f64, tails: f64) -> [f64; 3] {
        let units = &self.units;
        [
            units.residual.z((raw + RESIDUAL_FLOOR).ln()),
            self.config.memory_weight * units.memory.z(Unit::log(memory)),
            self.config.tails_weight * units.tails.z(Unit::log(tails)),
        ]
    }

    /// Gives each input its part of one row's score, `[n_inputs]`, none below 0: a member counts by how odd it finds the
    /// row against the oddest of them, e-fold for each deviation. `residuals` are the weighted squared ones, `[n_inputs]`.
    pub fn attribute(
        &self,
        x: ArrayView1<'_, f32>,
        mask: ArrayView1<'_, f32>,
        weights: &[f32],
        residuals: &[f64],
    ) -> Vec<f64> {
        let row = |view: ArrayView1<'_, f32>| view.to_owned().insert_axis(ndarray::Axis(0));
        let mut scores = MemberScores::default();
        self.measure(row(x).view(), row(mask).view(), weights, &mut scores);
        let observed: f64 = mask.iter().zip(weights).map(|(m, c)| f64::from(m * c)).sum();
        let raw = residuals.iter().sum::<f64>() / observed.max(f64::MIN_POSITIVE);
        let z = self.standardised(raw, scores.memory[0], scores.tails[0]);
        let largest = z[0].max(z[1]).max(z[2]);
        let [residual, memory, tails] = z.map(|z| (z - largest).exp());
        let mut parts = vec![0.0; residuals.len()];
        super::add_shares(residuals, residual, &mut parts);
        self.memory.attribute(x, mask, weights, memory, &mut parts);
        self.tails.attribute(x, mask, weights, tails, &mut parts);
        parts
    }
}

#[cfg(test)]
mod tests {
    use ndarray::{Array2, aview1};

    use super::*;

    /// A hundred rows on a diagonal, and units under which every member's usual is about 0.
    fn members() -> Members {
        let rows = Array2::from_shape_fn((100, 2), |(i, _)| i as f32 / 50.0 - 1.0);
        let mut members = Members::new(&MembersConfig::default(), rows, &[1.0, 1.0]);
        let unit = |location: f64| Unit { location, scale: 1.0 };
        members.units = Units { residual: unit(-3.0), memory: unit(-3.0), tails: unit(0.5) };
        members
    }

    #[test]
    fn a_score_keeps_the_units_of_the_residual_and_rises_with_each_member() {
        let members = members();
        let usual = members.joint((-3.0_f64).exp(), (-3.0_f64).exp(), 0.5_f64.exp());
        assert!((usual.ln() + 3.0).abs() < 1e-4, "three usual members give the usual residual");
        let higher = |raw: f64, memory: f64, tails: f64| members.joint(raw, memory, tails) > 1.4 * usual;
        let (raw, memory, tails) = ((-3.0_f64).exp(), (-3.0_f64).exp(), 0.5_f64.exp());
        assert!(
            higher(9.0 * raw, memory, tails) && higher(raw, 9.0 * memory, tails) && higher(raw, memory, 9.0 * tails)
        );
    }

    #[test]
    fn too_little_observed_stays_without_a_score() {
        assert!(members().joint(f64::NAN, 1.0, 1.0).is_nan());
    }

    #[test]
    fn parts_are_not_negative_and_name_the_input_that_left_the_memory() {
        let members = members();
        let parts = members.attribute(aview1(&[0.0, 9.0]), aview1(&[1.0, 1.0]), &[1.0, 1.0], &[0.001, 0.001]);
        assert!(parts.iter().all(|part| *part >= 0.0 && part.is_finite()), "{parts:?}");
        assert!(parts[1] > 5.0 * parts[0], "{parts:?}");
        let residual = members.attribute(aview1(&[0.0, 0.0]), aview1(&[1.0, 1.0]), &[1.0, 1.0], &[9e9, 1e9]);
        assert!((residual[0] / residual[1] - 9.0).abs() < 0.1, "a huge residual is the reason: {residual:?}");
    }

    #[test]
    fn what_one_member_sees_is_not_drowned_by_the_others() {
        let (usual, odd) = ((-3.0_f64).exp(), (3.0_f64).exp());
        let seen = members().joint(odd, usual, 0.5_f64.exp()).ln();
        // The smooth maximum by hand: 6, 0 and 0 standard units above the usual of −3.
        let expected = -3.0 + SOFTNESS * (((6.0 / SOFTNESS).exp() + 2.0) / 3.0).ln();
        assert!((seen - expected).abs() < 1e-3 && seen > -3.0 + 6.0 / 3.0, "{seen}: more than a mean gives");
    }

    #[test]
    fn bad_keys_are_named() {
        let config = MembersConfig { memory_rows: 3, memory_weight: -1.0, tails_weight: f64::NAN };
        assert_eq!(config.check().unwrap_err().len(), 3);
        assert!(MembersConfig::default().check().is_ok());
    }
}
