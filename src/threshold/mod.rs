//! From standardised scores to p-values and alerts.
//!
//! A threshold judges the scores of one partition in their order, and may keep a state of them; it never sees features
//! or the clock. A new kind is one file and three lines here: `mod`, an arm of [`Config`], an arm of [`build`].

mod calibration;
mod quantile;
mod severity;
mod tail;

use serde::{Deserialize, Serialize};

pub use calibration::{Calibration, median_and_mad};
pub use quantile::{Quantile, QuantileConfig};
pub use severity::Severity;
pub use tail::Tail;

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

/// A rule for which scores of one partition are anomalous.
pub trait Threshold: Send {
    /// Judges the standardised score `z` of the partition's next record, and learns from it where the kind learns. A NaN
    /// (too little observed) is never anomalous, has p-value 1 and is not learnt.
    fn judge(&mut self, z: f64) -> Verdict;

    /// The standardised score above which `judge` would alert now.
    fn z_at_alert(&self) -> f64;

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

/// Which threshold, and its settings.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
#[non_exhaustive]
pub enum Config {
    /// A fixed quantile of the calibrated tail.
    Quantile(QuantileConfig),
}

impl Default for Config {
    fn default() -> Self {
        Self::Quantile(QuantileConfig::default())
    }
}

impl Config {
    /// The share of records that may alert while all is well, q.
    pub fn target_alert_rate(&self) -> f64 {
        match self {
            Self::Quantile(config) => config.target_alert_rate,
        }
    }

    /// Records that must be judged again to restore a threshold.
    pub fn rewind(&self) -> u64 {
        match self {
            Self::Quantile(_) => 0,
        }
    }

    /// Checks every key.
    ///
    /// # Errors
    /// One sentence for each key that is out of range.
    pub fn check(&self) -> Result<(), Vec<String>> {
        let q = self.target_alert_rate();
        let allowed = q > 1e-9 && q <= 0.5;
        let message = || format!("target_alert_rate is {q}, it must be above 1e-9 and at most 0.5");
        if allowed { Ok(()) } else { Err(vec![message()]) }
    }
}

/// Builds the configured threshold of one partition, as it begins: on a model's calibration.
pub fn build(config: &Config, calibration: &Calibration) -> Box<dyn Threshold> {
    match config {
        Config::Quantile(config) => Box::new(Quantile::new(config, calibration.tail.clone())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tag_chooses_the_kind_and_unknown_keys_are_refused() {
        let config: Config = toml::from_str("kind = \"quantile\"\ntarget_alert_rate = 5e-4").unwrap();
        assert_eq!(config.target_alert_rate(), 5e-4);
        assert!(toml::from_str::<Config>("kind = \"quantile\"\nrate = 5e-4").is_err());
        assert!(toml::from_str::<Config>("kind = \"psychic\"").is_err());
        assert!(Config::Quantile(QuantileConfig { target_alert_rate: 0.0 }).check().is_err());
        assert!(Config::default().check().is_ok());
    }
}
