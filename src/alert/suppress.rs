//! What is withheld though it is anomalous: rules, maintenance, and features of which one direction or a size is unwatched.
//!
//! Nothing is withheld in silence: the caller counts each ruling, and the record's score goes where scores go. Event time
//! decides whether a rule holds, so that a replay withholds what the first run withheld.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use wildmatch::WildMatch;

use crate::record::Value;
use crate::score::FeatureReason;
use crate::threshold::Severity;

/// Reasons that count are those with at least this share of the first one's contribution: half as much is a part of the
/// story, less is usually what the first one's fault does to its neighbours.
const LEADING_SHARE: f64 = 0.5;

/// A rule that withholds anomalies. All of its conditions must hold; one that is not given always does.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Suppression {
    /// Its name, unique.
    pub name: String,
    /// Entities, `*` and `?` standing for what they do in file names. A record without a key matches `*` only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub entity: Option<String>,
    /// Name of a feature, with `*` and `?`: one of the leading reasons has it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub feature: Option<String>,
    /// Worst severity that is withheld.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub severity_max: Option<Severity>,
    /// Event time from which it holds, RFC 3339.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<String>,
    /// Event time at which it expires, RFC 3339.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<String>,
    /// Why it exists.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

/// A time in which anomalies are expected.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Maintenance {
    /// Event time at which it begins, RFC 3339.
    pub from: String,
    /// Event time at which it is over, RFC 3339.
    pub until: String,
    /// Entities, with `*` and `?`. Default none: all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub entity: Option<String>,
    /// What is done.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

/// Which deviations of a numeric feature are worth an alert.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct FeatureLimit {
    /// Direction that is watched: `both`, `up` (above the expectation) or `down`. Default `both`.
    pub direction: Direction,
    /// Least distance from the expectation, raw units, at least 0. Default 0.
    pub deviation_min: f64,
    /// Least distance from the expectation as a share of it, at least 0. Default 0.
    pub deviation_share_min: f64,
}

/// A direction that is watched.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Direction {
    /// Both.
    #[default]
    Both,
    /// Above the expectation.
    Up,
    /// Below the expectation.
    Down,
}

/// Why an anomaly was withheld: the labels of a metric.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Withheld {
    /// A rule.
    Rule,
    /// Maintenance.
    Maintenance,
    /// Its leading features deviate in a direction that is not watched.
    Direction,
    /// Its leading features deviate by too little.
    Deviation,
    /// Too many at once.
    RateLimit,
}

impl Withheld {
    /// All of them, in the order of their numbers.
    pub const ALL: [Self; 5] = [Self::Rule, Self::Maintenance, Self::Direction, Self::Deviation, Self::RateLimit];

    /// Name in metrics and records.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Rule => "rule",
            Self::Maintenance => "maintenance",
            Self::Direction => "direction",
            Self::Deviation => "deviation",
            Self::RateLimit => "rate_limit",
        }
    }
}

/// A decision to withhold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ruling<'a> {
    /// Why.
    pub withheld: Withheld,
    /// Name of the rule, reason of the maintenance, or the feature.
    pub by: &'a str,
}

/// An anomaly, as far as rules go by it.
#[derive(Clone, Copy, Debug)]
pub struct Alert<'a> {
    /// Key of the record as text.
    pub entity: Option<&'a str>,
    /// Its event time, milliseconds since the epoch.
    pub time_ms: i64,
    /// Its severity.
    pub severity: Severity,
    /// The features that explain it, the largest contribution first.
    pub features: &'a [FeatureReason],
}

/// Rules in force, checked.
#[derive(Clone, Debug, Default)]
pub struct Rules {
    suppressions: Vec<(Suppression, Scope)>,
    maintenances: Vec<(Maintenance, Scope)>,
    limits: BTreeMap<String, FeatureLimit>,
}

/// When and for whom a rule holds.
#[derive(Clone, Debug)]
struct Scope {
    entity: Option<WildMatch>,
    feature: Option<WildMatch>,
    from_ms: i64,
    until_ms: i64,
}

impl Rules {
    /// Checks rules and makes them ready to judge.
    ///
    /// # Errors
    /// One sentence for each that is wrong, which begins with its key path.
    pub fn new(
        suppressions: &[Suppression],
        maintenances: &[Maintenance],
        limits: &BTreeMap<String, FeatureLimit>,
    ) -> Result<Self, Vec<String>> {
        let mut rules = Self { limits: limits.clone(), ..Self::default() };
        let mut wrong = Vec::new();
        for (i, rule) in suppressions.iter().enumerate() {
            let known = |(other, _): &(Suppression, Scope)| other.name == rule.name;
            if rule.name.trim().is_empty() || rules.suppressions.iter().any(known) {
                wrong.push(format!(
                    "suppress[{i}].name `{}` is empty or taken; give each rule a name of its own",
                    rule.name
                ));
            }
            let scope = Scope::new(rule.entity.as_ref(), rule.from.as_ref(), rule.until.as_ref());
            match scope {
                Ok(scope) => {
                    let feature = rule.feature.as_deref().map(WildMatch::new);
                    rules.suppressions.push((rule.clone(), Scope { feature, ..scope }));
                }
                Err(problem) => wrong.push(format!("suppress[{i}].{problem}")),
            }
        }
        for (i, window) in maintenances.iter().enumerate() {
            match Scope::new(window.entity.as_ref(), Some(&window.from), Some(&window.until)) {
                Ok(scope) => rules.maintenances.push((window.clone(), scope)),
                Err(problem) => wrong.push(format!("maintenance[{i}].{problem}")),
            }
        }
        for (name, limit) in limits {
            for (key, value) in
                [("deviation_min", limit.deviation_min), ("deviation_share_min", limit.deviation_share_min)]
            {
                if !(value >= 0.0 && value.is_finite()) {
                    wrong.push(format!("features.{name}.{key} is {value}, it must be at least 0"));
                }
            }
        }
        if wrong.is_empty() { Ok(rules) } else { Err(wrong) }
    }

    /// Whether an anomaly is withheld, and by what: maintenance first, then rules in their order, then features.
    pub fn withhold(&self, alert: &Alert<'_>) -> Option<Ruling<'_>> {
        let leading = leading(alert.features);
        for (window, scope) in &self.maintenances {
            if scope.holds(alert) {
                let by = window.reason.as_deref().unwrap_or("maintenance");
                return Some(Ruling { withheld: Withheld::Maintenance, by });
            }
        }
        for (rule, scope) in &self.suppressions {
            let mild = rule.severity_max.is_none_or(|max| alert.severity <= max);
            let named = scope.feature.as_ref().is_none_or(|feature| leading.iter().any(|r| feature.matches(&r.name)));
            if mild && named && scope.holds(alert) {
                return Some(Ruling { withheld: Withheld::Rule, by: &rule.name });
            }
        }
        let unwatched = |reason: &FeatureReason| {
            let (name, limit) = self.limits.get_key_value(&reason.name)?;
            Some(Ruling { withheld: limit.excludes(reason)?, by: name })
        };
        let first = unwatched(leading.first()?)?;
        leading.iter().all(|reason| unwatched(reason).is_some()).then_some(first)
    }
}

impl Scope {
    fn new(entity: Option<&String>, from: Option<&String>, until: Option<&String>) -> Result<Self, String> {
        let time = |key: &str, text: Option<&String>, default: i64| match text {
            None => Ok(default),
            Some(text) => match text.parse::<Timestamp>() {
                Ok(time) => Ok(time.as_millisecond()),
                Err(_) => Err(format!("{key} `{text}` is not an RFC 3339 time such as 2026-01-31T08:00:00Z")),
            },
        };
        let (from_ms, until_ms) = (time("from", from, i64::MIN)?, time("until", until, i64::MAX)?);
        if from_ms >= until_ms {
            return Err("until must be later than `from`".into());
        }
        Ok(Self { entity: entity.map(|pattern| WildMatch::new(pattern)), feature: None, from_ms, until_ms })
    }

    fn holds(&self, alert: &Alert<'_>) -> bool {
        let concerned = self.entity.as_ref().is_none_or(|pattern| pattern.matches(alert.entity.unwrap_or_default()));
        concerned && (self.from_ms..self.until_ms).contains(&alert.time_ms)
    }
}

impl FeatureLimit {
    /// Why this reason is not worth an alert. Only a number that was there has a direction and a size.
    fn excludes(&self, reason: &FeatureReason) -> Option<Withheld> {
        let (Some(Value::Number(actual)), Value::Number(expected)) = (&reason.actual, &reason.expected) else {
            return None;
        };
        let (actual, expected) = (f64::from(*actual), f64::from(*expected));
        let is_watched = match self.direction {
            Direction::Both => true,
            Direction::Up => actual > expected,
            Direction::Down => actual < expected,
        };
        let least = self.deviation_min.max(self.deviation_share_min * expected.abs());
        match (is_watched, (actual - expected).abs() >= least) {
            (false, _) => Some(Withheld::Direction),
            (true, false) => Some(Withheld::Deviation),
            (true, true) => None,
        }
    }
}

/// The reasons that count: the first one and those that have at least half of its contribution.
fn leading(features: &[FeatureReason]) -> &[FeatureReason] {
    let least = features.first().map_or(0.0, |first| LEADING_SHARE * first.contribution);
    let n = features.iter().take_while(|reason| reason.contribution >= least).count();
    &features[..n]
}
