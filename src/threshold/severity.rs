//! How far beyond the target alert rate a record is.
//!
//! MODEL 4.3: severity depends on the p-value and the target alert rate q only, never on the raw score.

use serde::{Deserialize, Serialize};

/// Severity of a published anomaly; later is worse.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Severity {
    /// Every published anomaly.
    Low,
    /// p ≤ q/10.
    Medium,
    /// p ≤ q/100.
    High,
    /// p ≤ q/1000.
    Critical,
}

impl Severity {
    /// All severities, mildest first: the labels of a metric.
    pub const ALL: [Self; 4] = [Self::Low, Self::Medium, Self::High, Self::Critical];

    /// Severity of an anomaly with `p_value` at the target alert rate `q`.
    pub fn of(p_value: f64, q: f64) -> Self {
        match p_value / q {
            ratio if ratio <= 1e-3 => Self::Critical,
            ratio if ratio <= 1e-2 => Self::High,
            ratio if ratio <= 1e-1 => Self::Medium,
            _ => Self::Low,
        }
    }

    /// Name in records, metrics and logs.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Low => "low",
            Self::Medium => "medium",
            Self::High => "high",
            Self::Critical => "critical",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn severity_rises_by_powers_of_ten() {
        let of = |p| Severity::of(p, 1e-3);
        assert_eq!([of(1e-3), of(9e-5), of(9e-6), of(9e-7)], Severity::ALL);
        assert_eq!(serde_json::to_string(&Severity::Critical).unwrap(), "\"critical\"");
        assert!(Severity::ALL.iter().all(|s| serde_json::to_value(s).unwrap() == s.as_str()));
    }
}
