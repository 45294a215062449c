//! Which threshold, at what target, and its settings.
//!
//! The keys of all kinds stand side by side, as in `model.sae`: a layer of the configuration may set one of them alone,
//! whatever the kind. A kind reads its own and leaves the others.

use serde::{Deserialize, Serialize};

use super::Q_UNDER_FDR;
use super::fdr::Fdr;

/// Settings of the threshold.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// The family: [which threshold](TUNING.md#which-threshold).
    pub kind: Kind,
    /// Alerts per record while all is well, q, a share above 1e-9, at most 0.5. With `fdr`: share of alerts that may be
    /// false.
    pub target_alert_rate: f64,
    /// The same as alerts a day; the pace of the stream makes it a share, from 1e-6 to 0.05.
    pub target_alerts_per_day: Option<f64>,
    /// What `adaptive_pot` holds to q: episodes of alerts, by feedback; or ordinary records alone, without feedback.
    pub target: Target,
    /// Control of the false discovery rate on the p-values: LORD++, SAFFRON (independent records), e-LOND (any).
    pub fdr: Fdr,
    /// Scores of a partition that the p-values of `adaptive_pot` and `conformal` come from; 100 to 1,000,000.
    ///
    /// Fewer follow drift faster and let mild bursts raise the threshold over themselves.
    pub calibration_window: usize,
    /// Scores of a partition that location and scale in `adaptive_pot` come from; 32 to 1,000,000.
    pub location_window: usize,
    /// Latest scores that `quantile` is of; 0: held-out scores of the model; else 100 to 1,000,000.
    pub window: usize,
    /// Standardised score above which `fixed` alerts.
    pub z: f64,
}

/// A family of thresholds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Kind {
    /// Peaks over threshold on rolling scores, with feedback on the rate.
    #[default]
    AdaptivePot,
    /// One standardised score for ever.
    Fixed,
    /// A quantile of the model's calibration, or of the latest scores.
    Quantile,
    /// Streaming peaks over threshold as published.
    Spot,
    /// The rank among the latest scores.
    Conformal,
}

impl Kind {
    /// All families, the default first.
    pub const ALL: [Self; 5] = [Self::AdaptivePot, Self::Fixed, Self::Quantile, Self::Spot, Self::Conformal];

    /// Name in configuration and tables.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::AdaptivePot => "adaptive_pot",
            Self::Fixed => "fixed",
            Self::Quantile => "quantile",
            Self::Spot => "spot",
            Self::Conformal => "conformal",
        }
    }
}

/// What the target is a share of.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Target {
    /// Episodes of alerts: feedback moves the level until their rate is the target.
    #[default]
    AlertRate,
    /// Ordinary records: the level stays at the target, and real anomalies come on top.
    FalsePositive,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            kind: Kind::default(),
            target_alert_rate: 1e-3,
            target_alerts_per_day: None,
            target: Target::default(),
            fdr: Fdr::default(),
            calibration_window: 20_000,
            location_window: 2048,
            window: 0,
            z: 6.0,
        }
    }
}

impl Config {
    /// The default of a family, at the target alert rate `q`.
    pub fn of(kind: Kind, q: f64) -> Self {
        Self { kind, target_alert_rate: q, ..Self::default() }
    }

    /// The configured share of records that may alert, where no number a day is set.
    pub fn target_alert_rate(&self) -> f64 {
        self.target_alert_rate
    }

    /// The share of records that may alert, q, in a stream of `records_per_day`; 0 or less where that is unknown.
    ///
    /// Alerts per day become a share from 1e-6 to 0.05, beyond which no window places a threshold, or nothing is odd.
    pub fn target(&self, records_per_day: f64) -> f64 {
        match self.target_alerts_per_day {
            Some(alerts) if records_per_day > 0.0 => (alerts / records_per_day).clamp(1e-6, 0.05),
            _ => self.target_alert_rate,
        }
    }

    /// The share of records that may alert, in a stream of `records_per_day`: the target, or, where that is a share of
    /// alerts, what the family beneath is held to.
    pub fn alert_rate(&self, records_per_day: f64) -> f64 {
        let target = self.target(records_per_day);
        if self.fdr == Fdr::None { target } else { target.min(Q_UNDER_FDR) }
    }

    /// Records of a partition that must be judged again to restore its threshold.
    pub fn rewind(&self) -> u64 {
        let records = match self.kind {
            Kind::AdaptivePot => self.calibration_window.max(self.location_window),
            Kind::Conformal | Kind::Spot => self.calibration_window,
            Kind::Quantile => self.window,
            Kind::Fixed => 0,
        };
        records as u64
    }

    /// Checks every key.
    ///
    /// # Errors
    /// One sentence for each key that is out of range.
    pub fn check(&self) -> Result<(), Vec<String>> {
        let mut problems = Vec::new();
        let mut need = |holds: bool, message: String| {
            if !holds {
                problems.push(message);
            }
        };
        let q = self.target_alert_rate;
        need(q > 1e-9 && q <= 0.5, format!("target_alert_rate is {q}, it must be above 1e-9 and at most 0.5"));
        if let Some(alerts) = self.target_alerts_per_day {
            need(alerts > 0.0 && alerts.is_finite(), format!("target_alerts_per_day is {alerts}, it must be above 0"));
        }
        for (key, value, min) in
            [("calibration_window", self.calibration_window, 100), ("location_window", self.location_window, 32)]
        {
            need((min..=1_000_000).contains(&value), format!("{key} is {value}, it must be from {min} to 1000000"));
        }
        let window = self.window;
        need(
            window == 0 || (100..=1_000_000).contains(&window),
            format!("window is {window}, it must be 0 or from 100 to 1000000"),
        );
        need(self.z.is_finite(), format!("z is {}, it must be a number", self.z));
        if problems.is_empty() { Ok(()) } else { Err(problems) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kind_is_chosen_by_its_name_and_unknown_keys_are_refused() {
        let config: Config = toml::from_str("kind = \"quantile\"\ntarget_alert_rate = 5e-4\nfdr = \"lord\"").unwrap();
        assert_eq!((config.kind, config.target_alert_rate(), config.fdr), (Kind::Quantile, 5e-4, Fdr::Lord));
        assert!(toml::from_str::<Config>("kind = \"quantile\"\nrate = 5e-4").is_err());
        assert!(toml::from_str::<Config>("kind = \"psychic\"").is_err());
        assert!(Kind::ALL.iter().all(|kind| serde_json::to_value(kind).unwrap() == kind.as_str()));
    }

    #[test]
    fn every_bad_key_is_named() {
        assert!(Config::default().check().is_ok());
        let bad = Config {
            target_alert_rate: 0.0,
            target_alerts_per_day: Some(-1.0),
            calibration_window: 1,
            location_window: 0,
            window: 7,
            z: f64::NAN,
            ..Config::default()
        };
        let named: Vec<String> =
            bad.check().unwrap_err().iter().map(|line| line.split(' ').next().unwrap().to_owned()).collect();
        let keys =
            ["target_alert_rate", "target_alerts_per_day", "calibration_window", "location_window", "window", "z"];
        assert_eq!(named, keys);
    }

    #[test]
    fn alerts_a_day_become_a_share_where_the_pace_is_known() {
        let config = Config { target_alerts_per_day: Some(50.0), ..Config::default() };
        assert_eq!(config.target(1e6), 5e-5);
        assert_eq!((config.target(10.0), config.target(1e12)), (0.05, 1e-6));
        assert_eq!((config.target(0.0), Config::default().target(1e6)), (1e-3, 1e-3));
        let controlled = Config { fdr: Fdr::Lord, target_alert_rate: 0.1, ..Config::default() };
        assert_eq!(
            (controlled.target(0.0), controlled.alert_rate(0.0)),
            (0.1, 1e-3),
            "a tenth of alerts, not of records"
        );
        assert_eq!(config.alert_rate(1e6), 5e-5);
    }
}
