//! What is shipped for Prometheus and Grafana, read for tests: rules, dashboards, and the metrics that they name.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;

use strayd::telemetry::Metrics;

/// The rules, from the package's root.
pub const RULES: &str = "deploy/prometheus/strayd.rules.yml";
/// The folder of the dashboards, from the package's root.
pub const DASHBOARDS: &str = "deploy/grafana/dashboards";

/// A file of the package, by its path from the root.
pub fn shipped(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

/// The text of a shipped file.
#[track_caller]
pub fn shipped_text(path: &str) -> String {
    fs::read_to_string(shipped(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// Every rule: those that record have `record`, the others `alert`.
pub fn rules() -> Vec<Value> {
    let file: Value = serde_norway::from_str(&shipped_text(RULES)).expect("the rules are YAML");
    let groups = file["groups"].as_array().expect("groups").iter();
    groups.flat_map(|group| group["rules"].as_array().expect("rules").clone()).collect()
}

/// The rules that alert.
pub fn alerts() -> Vec<Value> {
    rules().into_iter().filter(|rule| rule["alert"].is_string()).collect()
}

/// Every dashboard with its file's name, in the names' order.
pub fn dashboards() -> Vec<(String, Value)> {
    let entries = fs::read_dir(shipped(DASHBOARDS)).expect("dashboards are shipped");
    let mut files: Vec<PathBuf> = entries.map(|entry| entry.expect("an entry").path()).collect();
    files.sort();
    let read = |file: PathBuf| {
        let name = file.file_name().expect("a file has a name").to_string_lossy().into_owned();
        let text = fs::read_to_string(&file).expect("it is text");
        (name, serde_json::from_str(&text).unwrap_or_else(|error| panic!("{}: {error}", file.display())))
    };
    files.into_iter().map(read).collect()
}

/// The panels of a dashboard that show something: no rows.
pub fn panels(dashboard: &Value) -> Vec<Value> {
    let all = dashboard["panels"].as_array().expect("panels").iter();
    all.filter(|panel| panel["type"] != "row").cloned().collect()
}

/// The queries of a panel.
pub fn targets(panel: &Value) -> Vec<String> {
    let all = panel["targets"].as_array().cloned().unwrap_or_default();
    all.iter().map(|target| target["expr"].as_str().expect("an expression").to_owned()).collect()
}

/// The metrics of strayd that an expression names, histograms without their suffix.
pub fn metrics_of(expression: &str) -> BTreeSet<String> {
    let words = expression.split(|c: char| !(c.is_ascii_alphanumeric() || c == '_' || c == ':'));
    let histogram = |word: &str| {
        let stem = ["_bucket", "_sum", "_count"].iter().find_map(|suffix| word.strip_suffix(suffix));
        stem.filter(|stem| Metrics::DECLARED.iter().any(|m| m.name == *stem && m.kind() == "histogram"))
            .map(str::to_owned)
    };
    words.filter(|w| w.starts_with("strayd_")).map(|w| histogram(w).unwrap_or_else(|| w.to_owned())).collect()
}
