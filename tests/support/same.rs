//! Whether two records say the same: what is computed again may differ in its last bits.

use serde_json::Value;

/// Batch sizes decide the order in which a product is summed, and so the last bits of a score.
const RELATIVE_TOLERANCE: f64 = 1e-3;

/// Compares two records; numbers may differ in their last bits, everything else is equal.
pub fn says_the_same(a: &Value, b: &Value) -> bool {
    match (a, b) {
        (Value::Number(x), Value::Number(y)) => {
            let (x, y) = (x.as_f64().expect("finite"), y.as_f64().expect("finite"));
            (x - y).abs() <= RELATIVE_TOLERANCE * (1.0 + x.abs().max(y.abs()))
        }
        (Value::Array(x), Value::Array(y)) => x.len() == y.len() && x.iter().zip(y).all(|(x, y)| says_the_same(x, y)),
        (Value::Object(x), Value::Object(y)) => {
            x.keys().eq(y.keys()) && x.values().zip(y.values()).all(|(x, y)| says_the_same(x, y))
        }
        _ => a == b,
    }
}
