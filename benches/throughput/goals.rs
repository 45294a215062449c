//! The goals, and what was reached of each: the table at the head of docs/PERFORMANCE.md.

use serde_json::Value;

/// A goal beside what was reached.
pub struct Goal {
    /// What is measured.
    pub figure: String,
    /// The goal in words.
    pub goal: String,
    /// What was reached, in the goal's unit.
    pub reached: String,
    /// Whether it is met.
    pub is_met: bool,
}

/// Which side of the limit is good.
#[derive(Clone, Copy)]
enum Side {
    AtMost,
    AtLeast,
}

/// A goal of one number.
fn goal(figure: &str, value: Option<f64>, (side, limit): (Side, f64), text: impl Fn(f64) -> String) -> Option<Goal> {
    let value = value.filter(|value| value.is_finite())?;
    let (sign, is_met) = match side {
        Side::AtMost => ("≤", value <= limit),
        Side::AtLeast => ("≥", value >= limit),
    };
    Some(Goal { figure: figure.to_owned(), goal: format!("{sign} {}", text(limit)), reached: text(value), is_met })
}

fn times(value: f64) -> String {
    format!("{value:.2} ×")
}

fn share(value: f64) -> String {
    format!("{value:.2}")
}

fn millions(value: f64) -> String {
    format!("{:.2} M/s", value / 1e6)
}

fn micros(value: f64) -> String {
    format!("{value:.0} µs")
}

/// The entry of a list whose `key` is `name`.
fn entry<'a>(list: &'a Value, key: &str, name: &str) -> &'a Value {
    list.as_array().into_iter().flatten().find(|entry| entry[key] == name).unwrap_or(&Value::Null)
}

/// Every goal of which the document holds the figure.
pub fn goals(document: &Value) -> Vec<Goal> {
    use Side::{AtLeast, AtMost};
    let mut goals = Vec::new();
    for cluster in ["kafka", "mock"] {
        let runs = &document["throughput"][cluster];
        for (name, limit, wall) in [
            ("small, raw f32", 1.35, Some(1.2e6)),
            ("default, raw f32", 1.8, None),
            ("small, JSON", 1.7, Some(0.9e6)),
            ("default, JSON", f64::INFINITY, None),
        ] {
            let run = entry(runs, "setup", name);
            let figure = format!("processor time ÷ bare consumer, {name}, {cluster}");
            let found = goal(&figure, run["ratio"].as_f64(), (AtMost, limit), times);
            // Nothing was asked of the default model on JSON: it is stated.
            goals.extend(found.map(|found| if limit.is_finite() { found } else { Goal { goal: "–".into(), ..found } }));
            let lanes = run["strayd"].as_object().into_iter().flatten();
            let fastest = lanes.filter_map(|(_, run)| run["per_second"].as_f64()).reduce(f64::max);
            if let Some(limit) = wall {
                goals.extend(goal(&format!("wall, {name}, {cluster}"), fastest, (AtLeast, limit), millions));
            }
        }
    }
    for delivery in document["delivery"].as_array().into_iter().flatten() {
        let figure =
            format!("exactly once ÷ at least once, records/s, {}", delivery["outputs"].as_str().unwrap_or_default());
        goals.extend(goal(&figure, delivery["ratio"].as_f64(), (AtLeast, 0.85), share));
    }
    for stages in document["stages"].as_array().into_iter().flatten() {
        let (products, shape) = (&stages["products"]["256"], stages["shape"].as_str().unwrap_or_default());
        if stages["setup"].as_str().is_some_and(|name| name.ends_with("raw f32")) {
            let figure = |of: &str| format!("sgemm of scoring ÷ {of}, {shape}, batch 256");
            goals.extend(goal(&figure("bare cblas_sgemm"), products["of_bare"].as_f64(), (AtLeast, 0.97), share));
            goals.extend(goal(&figure("AVX2 peak"), products["of_avx2_peak"].as_f64(), (AtLeast, 0.85), share));
        }
    }
    for (batch, limit) in [("1", 30.0), ("256", 1.5)] {
        for peer in ["ONNX Runtime", "PyTorch"] {
            let value = &document["peers"][0]["batches"][batch]["peers"][peer]["times_strayd"];
            goals.extend(goal(&format!("{peer} ÷ strayd, batch {batch}"), value.as_f64(), (AtLeast, limit), times));
        }
    }
    for latency in document["latency"].as_array().into_iter().flatten() {
        let name = latency["setup"].as_str().unwrap_or_default();
        for (load, quantile, limit) in [("1,000/s", "p99", 500.0), ("50 %", "p99", 1000.0), ("50 %", "p999", 5000.0)] {
            let value = entry(&latency["loads"], "load", load)["added_us"][quantile].as_f64();
            let figure = format!("added latency at {load}, {quantile}, {name}");
            goals.extend(goal(&figure, value, (AtMost, limit), micros));
        }
        let beside = entry(&latency["beside_trainer"], "load", "50 %")["ratio"].as_f64();
        goals.extend(goal(&format!("p99 beside a busy trainer ÷ alone, 50 %, {name}"), beside, (AtMost, 1.5), times));
    }
    goals
}
