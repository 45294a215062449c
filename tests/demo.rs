//! The demo keeps its word: the daemon finds the faults that no single sensor shows, within its budget of alerts.
//!
//! Rounds run while the faults do. When every flagged row could set the threshold, three rounds raised it tenfold and a
//! third of the faults was missed; this test fails then.

use std::process::Command;

use serde_json::Value;

#[test]
fn faults_are_found_within_the_budget_while_the_model_goes_on_learning() {
    let output = Command::new(env!("CARGO_BIN_EXE_strayd"))
        .args(["demo", "--duration", "45s", "--seed", "1", "--json"])
        .output()
        .expect("the demo can be started");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
    let summary: Value = serde_json::from_slice(&output.stdout).expect("one JSON document on stdout");
    let number = |key: &str| summary[key].as_f64().unwrap_or_else(|| panic!("{key} is no number in {summary}"));
    let injected = number("faults_injected");
    assert!(injected >= 10.0, "{summary}");
    assert!(number("faults_found") >= 0.9 * injected, "{summary}\n{said}");
    assert!(number("baseline_faults_found") < 0.7 * injected, "{summary}");
    let budget = 2.0 * number("target_alert_rate") * number("records_scored") + 3.0;
    assert!(number("false_alerts") <= budget, "{summary}");
    assert_eq!(number("records_scored"), 36_000.0, "every reading is scored: {summary}");
}
