//! From standardised scores to p-values and alerts.
//!
//! A threshold judges the scores of one partition in their order, and may keep a state of them; it never sees features
//! or the clock. A new kind is one file, its name in [`Kind`], and two lines here: `mod` and an arm of [`build_for`].

mod adaptive_pot;
mod calibration;
mod config;
mod conformal;
mod fdr;
mod fixed;
mod location;
mod peaks;
mod places;
mod quantile;
mod ring;
mod scores;
mod severity;
mod spot;
mod tail;
mod window;

use serde::{Deserialize, Serialize};

pub use adaptive_pot::AdaptivePot;
pub use calibration::{Calibration, median_and_mad};
pub use config::{Config, Kind, Target};
pub use conformal::Conformal;
pub use fdr::{Controlled, Fdr};
pub use fixed::Fixed;
pub use quantile::{Quantile, SlidingQuantile};
pub use severity::Severity;
pub use spot::Spot;
pub use tail::Tail;

/// Scores are cut to this before they are learnt: sums of larger ones aren't finite.
const Z_MAX: f64 = 1e12;
/// Target alert rate of a family under control of the false discovery rate, whose own target is a share of alerts.
const Q_UNDER_FDR: f64 = 1e-3;

/// What a threshold says of one score.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Verdict {
    /// Share of ordinary records that score at least as high, from 1e-12 to 1.
    pub p_value: f64,
    /// Whether the record is anomalous.
    pub anomalous: bool,
    /// The standardised score above which a record was anomalous when this one was judged.
    pub z_at_alert: f64,
    /// Whether fewer scores are known than the target alert rate needs: p-values are coarse until then.
    pub calibrating: bool,
    /// Whether this record confirms that the scores have shifted for good; true once a shift.
    pub shifted: bool,
}

impl Verdict {
    /// The verdict of a rule that alerts above `z_at_alert`.
    ///
    /// The comparison is on z, so that score.ratio > 1 exactly when the record is anomalous; a NaN exceeds nothing.
    fn of(p_value: f64, z: f64, z_at_alert: f64) -> Self {
        Self { p_value, anomalous: z > z_at_alert, z_at_alert, calibrating: false, shifted: false }
    }
}

/// A rule for which scores of one partition are anomalous.
pub trait Threshold: Send {
    /// Judges the standardised score `z` of the partition's next record, and learns from it where the kind learns. A NaN
    /// (too little observed) is never anomalous, has p-value 1 and is not learnt.
    fn judge(&mut self, z: f64) -> Verdict;

    /// The standardised score above which `judge` would alert now.
    fn z_at_alert(&self) -> f64;

    /// The standardised score whose p-value is `p` now.
    fn z_at(&self, p: f64) -> f64;

    /// What judging older records again can't restore; none for a kind that has nothing of the sort.
    fn carried(&self) -> Option<Carried> {
        None
    }

    /// Takes up what another instance carried, after it has judged the records before.
    fn restore(&mut self, _: &Carried) {}
}

/// The part of a threshold's state that travels with a partition's committed offset.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Carried {
    /// The present alert level α_t, between q/4 and 4q.
    pub alpha: f64,
    /// Flagged records that may still be admitted.
    pub tokens: f64,
    /// Moving average of flags, 0 to 1.
    pub shift: f64,
}

/// Builds the configured threshold of one partition, as it begins: on a model's calibration, at the configured rate.
pub fn build(config: &Config, calibration: &Calibration) -> Box<dyn Threshold> {
    build_for(config, calibration, config.target_alert_rate())
}

/// Builds the configured threshold of one partition for the target alert rate `q` that [`Config::target`] gave.
pub fn build_for(config: &Config, calibration: &Calibration, q: f64) -> Box<dyn Threshold> {
    if config.fdr != Fdr::None {
        let beneath = Config { fdr: Fdr::None, target: Target::FalsePositive, ..config.clone() };
        let family = build_for(&beneath, calibration, q.min(Q_UNDER_FDR));
        return Box::new(Controlled::new(family, config.fdr, q));
    }
    let tail = &calibration.tail;
    match config.kind {
        Kind::AdaptivePot => Box::new(AdaptivePot::new(config, q, calibration)),
        Kind::Fixed => Box::new(Fixed::new(config.z, tail.clone())),
        Kind::Quantile if config.window == 0 => Box::new(Quantile::new(q, tail.clone())),
        Kind::Quantile => Box::new(SlidingQuantile::new(q, config.window, tail)),
        Kind::Spot => Box::new(Spot::new(q, tail.clone())),
        Kind::Conformal => Box::new(Conformal::new(q, config.calibration_window, tail)),
    }
}
