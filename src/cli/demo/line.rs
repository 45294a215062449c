//! One readable line for one published anomaly: what, how much, what was expected, which pattern.
//!
//! Reads the anomaly record as any consumer would, by its public field names. A field that isn't there is left out; it
//! never fails.

use std::fmt::Write as _;

use serde_json::Value;

/// Features named in a line.
const N_FEATURES: usize = 2;
/// A feature after the first is named only with this share of the score.
const CONTRIBUTION_MIN: f64 = 0.15;

/// Writes the anomaly record as one line, such as
/// `12:00:00 pump-07 high ×1.83: temp 91 where 62.4 was expected (7.9 σ); pattern '+load −flow' unexpected`.
pub fn anomaly_line(record: &Value) -> String {
    let text = |pointer: &str| record.pointer(pointer).and_then(Value::as_str);
    let mut line = String::new();
    if let Some(time) = text("/event_time").and_then(|time| time.get(11..19)) {
        let _ = write!(line, "{time} ");
    }
    let _ = write!(line, "{} {}", text("/entity").unwrap_or("-"), text("/score/severity").unwrap_or("-"));
    if let Some(ratio) = record.pointer("/score/ratio").and_then(Value::as_f64) {
        let _ = write!(line, " ×{ratio:.2}");
    }
    let list = |name: &str| record.get(name).and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
    let features = list("features").iter().enumerate().filter(|(place, feature)| {
        *place == 0 || feature["contribution"].as_f64().is_some_and(|share| share >= CONTRIBUTION_MIN)
    });
    let features: Vec<String> = features.take(N_FEATURES).map(|(_, feature)| feature_words(feature)).collect();
    if !features.is_empty() {
        let _ = write!(line, ": {}", features.join(", "));
    }
    if let Some(pattern) = list("patterns").first() {
        let (name, role) = (pattern["name"].as_str().unwrap_or("-"), pattern["role"].as_str().unwrap_or("active"));
        let _ = write!(line, "; pattern '{name}' {role}");
    }
    line
}

fn feature_words(feature: &Value) -> String {
    let name = feature["name"].as_str().unwrap_or("-");
    let number = |key: &str| feature[key].as_f64().map_or("missing".to_owned(), short);
    let mut words = format!("{name} {} where {} was expected", number("actual"), number("expected"));
    if let Some(z) = feature["residual_z"].as_f64() {
        let _ = write!(words, " ({z:.1} σ)");
    }
    words
}

/// A number with as many decimals as its size deserves.
fn short(value: f64) -> String {
    let decimals = match value.abs() {
        size if size >= 1000.0 => 0,
        size if size >= 100.0 => 1,
        size if size >= 10.0 => 2,
        _ => 3,
    };
    format!("{value:.decimals$}")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn line_says_what_how_much_expected_and_which_pattern() {
        let record = json!({
            "entity": "pump-07", "event_time": "2026-01-01T12:34:56.000Z",
            "score": {"ratio": 1.834, "severity": "high"},
            "features": [
                {"name": "temp", "actual": 91.0, "expected": 62.4, "residual_z": 7.91, "contribution": 0.61},
                {"name": "load", "actual": null, "expected": 1480.2, "residual_z": 0.0, "contribution": 0.2},
                {"name": "flow", "actual": 1.0, "expected": 2.0, "residual_z": 1.0, "contribution": 0.16}],
            "patterns": [{"latent": 17, "name": "+load −flow", "role": "unexpected"}]});
        assert_eq!(
            anomaly_line(&record),
            "12:34:56 pump-07 high ×1.83: temp 91.00 where 62.40 was expected (7.9 σ), \
             load missing where 1480 was expected (0.0 σ); pattern '+load −flow' unexpected"
        );
    }

    #[test]
    fn anything_gives_a_line() {
        assert_eq!(anomaly_line(&json!({})), "- -");
        assert_eq!(anomaly_line(&json!({"features": [{}], "patterns": 3, "score": []})).lines().count(), 1);
    }
}
