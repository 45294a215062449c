//! What differs between two configurations, and which of it a running daemon can take up.

use serde_json::Value;
use sha2::{Digest, Sha256};

use super::{Config, RawConfig};

/// Keys, or sections of them, that a reload exchanges. The others decide what is built at the start: clients, threads,
/// models and thresholds, which a restart rebuilds from the log.
pub const RELOADABLE: [&str; 7] =
    ["suppress", "maintenance", "features", "incidents", "training", "output.anomalies_per_minute", "log.level"];

/// Hexadecimal digits of a version: enough to tell two apart, few enough to read out.
const VERSION_DIGITS: usize = 12;

impl Config {
    /// The keys that differ in `next`, in the order of the page that lists them by name.
    pub fn changes(&self, next: &Self) -> Vec<String> {
        let mut keys = Vec::new();
        differing("", tree(self), tree(next), &mut keys);
        keys
    }

    /// What names this configuration: the first digits of the SHA-256 of all its keys with their values.
    pub fn version(&self) -> String {
        let digest = Sha256::digest(tree(self).to_string());
        let digits: String = digest.iter().map(|byte| format!("{byte:02x}")).collect();
        digits[..VERSION_DIGITS].to_owned()
    }
}

/// Whether a running daemon can take up a change of this key.
pub fn is_reloadable(key: &str) -> bool {
    let below = |section: &str| key.strip_prefix(section).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'));
    RELOADABLE.iter().any(|section| below(section))
}

fn tree(raw: &RawConfig) -> Value {
    serde_json::to_value(raw).expect("a configuration has string keys only")
}

/// Adds the paths of all values below `path` that differ; a list is one value.
fn differing(path: &str, old: Value, new: Value, keys: &mut Vec<String>) {
    match (old, new) {
        (Value::Object(old), Value::Object(mut new)) => {
            let below = |key: &str| if path.is_empty() { key.to_owned() } else { format!("{path}.{key}") };
            for (key, value) in old {
                differing(&below(&key), value, new.remove(&key).unwrap_or_default(), keys);
            }
            for (key, value) in new {
                differing(&below(&key), Value::Null, value, keys);
            }
        }
        (old, new) if old != new => keys.push(path.to_owned()),
        _ => {}
    }
}
