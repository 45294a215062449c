//! Tests of what withholds an anomaly: each condition by itself, with the boundary on both sides.

use std::collections::BTreeMap;

use super::*;
use crate::record::Value;
use crate::score::FeatureReason;
use crate::threshold::Severity;

const NOON: i64 = 1_767_268_800_000; // 2026-01-01T12:00:00Z

fn reason(name: &str, actual: f32, expected: f32, contribution: f64) -> FeatureReason {
    FeatureReason {
        name: name.into(),
        actual: Some(Value::Number(actual)),
        expected: Value::Number(expected),
        residual_z: 5.0,
        contribution,
        missing: false,
    }
}

/// Temperature too low, flow along with it, and a load that has little part in it.
fn features() -> Vec<FeatureReason> {
    vec![reason("temp", 50.0, 60.0, 0.5), reason("flow", 90.0, 100.0, 0.3), reason("load", 70.0, 71.0, 0.1)]
}

fn alert(features: &[FeatureReason]) -> Alert<'_> {
    Alert { entity: Some("pump-42"), time_ms: NOON, severity: Severity::High, features }
}

fn rule(change: impl FnOnce(&mut Suppression)) -> Rules {
    let mut rule = Suppression { name: "known".into(), ..Suppression::default() };
    change(&mut rule);
    Rules::new(&[rule], &[], &BTreeMap::new()).expect("the rule is right")
}

fn withheld(rules: &Rules, alert: &Alert<'_>) -> Option<Withheld> {
    rules.withhold(alert).map(|ruling| ruling.withheld)
}

fn text(text: &str) -> Option<String> {
    Some(text.into())
}

fn limits(table: &str) -> Rules {
    let limits: BTreeMap<String, FeatureLimit> = toml::from_str(table).expect("a table of limits");
    Rules::new(&[], &[], &limits).expect("the limits are right")
}

#[test]
fn a_rule_withholds_what_meets_all_its_conditions() {
    let features = features();
    let given = alert(&features);
    assert_eq!(Rules::default().withhold(&given), None);
    let everything = rule(|_| ());
    assert_eq!(everything.withhold(&given), Some(Ruling { withheld: Withheld::Rule, by: "known" }));
    for (entity, holds) in [("pump-4?", true), ("pump*", true), ("pump-4", false), ("*-43", false)] {
        assert_eq!(rule(|r| r.entity = text(entity)).withhold(&given).is_some(), holds, "{entity}");
    }
    let keyless = Alert { entity: None, ..given };
    assert!(rule(|r| r.entity = text("*")).withhold(&keyless).is_some());
    assert!(rule(|r| r.entity = text("pump*")).withhold(&keyless).is_none());
    for (feature, holds) in [("temp", true), ("fl*", true), ("load", false), ("pressure", false)] {
        assert_eq!(rule(|r| r.feature = text(feature)).withhold(&given).is_some(), holds, "{feature}");
    }
    for (worst, holds) in [(Severity::Critical, true), (Severity::High, true), (Severity::Medium, false)] {
        assert_eq!(rule(|r| r.severity_max = Some(worst)).withhold(&given).is_some(), holds, "{worst:?}");
    }
    let both = rule(|r| (r.entity, r.feature) = (text("pump*"), text("pressure")));
    assert_eq!(both.withhold(&given), None, "one condition that fails is enough");
}

#[test]
fn event_time_decides_when_rules_and_maintenance_hold() {
    let features = features();
    let at = |time_ms| Alert { time_ms, ..alert(&features) };
    let expiring = rule(|r| r.until = text("2026-01-01T12:00:00Z"));
    assert!(expiring.withhold(&at(NOON - 1)).is_some() && expiring.withhold(&at(NOON)).is_none());
    let window = Maintenance {
        from: "2026-01-01T12:00:00Z".into(),
        until: "2026-01-01T14:00:00+01:00".into(),
        entity: text("pump-*"),
        reason: text("new bearings"),
    };
    let rules = Rules::new(&[], &[window], &BTreeMap::new()).expect("the window is right");
    assert_eq!(rules.withhold(&at(NOON)), Some(Ruling { withheld: Withheld::Maintenance, by: "new bearings" }));
    assert!(rules.withhold(&at(NOON + 3_599_999)).is_some());
    assert!(rules.withhold(&at(NOON - 1)).is_none() && rules.withhold(&at(NOON + 3_600_000)).is_none());
    assert!(rules.withhold(&Alert { entity: Some("valve-1"), ..at(NOON) }).is_none());
}

#[test]
fn a_direction_that_is_not_watched_withholds_only_if_nothing_else_leads() {
    let features = features();
    let rules = limits("temp.direction = 'up'");
    assert_eq!(withheld(&rules, &alert(&features)), None, "flow has more than half of temp's share");
    let rules = limits("temp.direction = 'up'\nflow.direction = 'up'");
    assert_eq!(rules.withhold(&alert(&features)), Some(Ruling { withheld: Withheld::Direction, by: "temp" }));
    let up = vec![reason("temp", 70.0, 60.0, 0.9)];
    assert_eq!(withheld(&rules, &alert(&up)), None);
    assert_eq!(withheld(&limits("temp.direction = 'down'"), &alert(&up)), Some(Withheld::Direction));
}

#[test]
fn a_deviation_below_the_least_is_withheld() {
    let features = vec![reason("temp", 50.0, 60.0, 0.9)];
    for (limit, expected) in [
        ("temp.deviation_min = 10.0", None),
        ("temp.deviation_min = 10.5", Some(Withheld::Deviation)),
        ("temp.deviation_share_min = 0.16", None),
        ("temp.deviation_share_min = 0.17", Some(Withheld::Deviation)),
        ("temp = { deviation_min = 1.0, deviation_share_min = 0.17 }", Some(Withheld::Deviation)),
        ("temp = { direction = 'up', deviation_min = 20.0 }", Some(Withheld::Direction)),
        ("flow.deviation_min = 1e6", None),
    ] {
        assert_eq!(withheld(&limits(limit), &alert(&features)), expected, "{limit}");
    }
    let mut missing = features.clone();
    (missing[0].actual, missing[0].missing) = (None, true);
    assert_eq!(withheld(&limits("temp.deviation_min = 1e6"), &alert(&missing)), None, "a gap has no size");
    assert_eq!(withheld(&limits("temp.deviation_min = 1e6"), &alert(&[])), None);
}

#[test]
fn wrong_rules_are_all_named_with_their_keys() {
    let named =
        |name: &str, until: &str| Suppression { name: name.into(), until: text(until), ..Suppression::default() };
    let (from, until) = ("2026-01-02T00:00:00Z".to_owned(), "2026-01-01T00:00:00Z".to_owned());
    let backwards = Maintenance { from, until, entity: None, reason: None };
    let limit = FeatureLimit { deviation_min: f64::NAN, ..FeatureLimit::default() };
    let rules = [named("a", "2026-01-01T00:00:00Z"), named("a", "tomorrow")];
    let wrong = Rules::new(&rules, &[backwards], &[("temp".to_owned(), limit)].into()).expect_err("four problems");
    let keys: Vec<&str> = wrong.iter().map(|line| line.split(' ').next().expect("a word")).collect();
    let expected = ["suppress[1].name", "suppress[1].until", "maintenance[0].until", "features.temp.deviation_min"];
    assert_eq!(keys, expected, "{wrong:?}");
}

#[test]
fn labels_stand_in_the_order_of_their_numbers() {
    assert!(Withheld::ALL.iter().enumerate().all(|(i, withheld)| *withheld as usize == i));
}
