//! The same in plain lines, for pipes and files: one snapshot.

use super::state::State;
use super::view::{anomaly_row, figures, model_row, mood, reasons};

/// Columns of a line.
const ROOM: usize = 120;
/// Anomalies and models that are listed.
const LISTED: usize = 10;

/// How things stand, line by line.
pub fn lines(state: &State) -> Vec<String> {
    let detector = state.status.as_ref().map_or("strayd", |status| status.detector.as_str());
    let mut lines = vec![format!("{detector}: {}", mood(state).0)];
    lines.extend(figures(state).map(|parts| parts.join(" · ")));
    lines.extend(reasons(state).into_iter().map(|(_, text)| text));
    lines.push(String::new());
    if state.anomalies.is_empty() {
        lines.push("no anomaly since the daemon started".into());
    } else {
        lines.push("the latest anomalies".into());
        lines.extend(state.anomalies.iter().take(LISTED).map(|anomaly| anomaly_row(state, anomaly, ROOM).to_string()));
    }
    lines.push(String::new());
    lines.push(if state.models.is_empty() { "no model yet" } else { "models" }.into());
    lines.extend(state.models.iter().take(LISTED).map(|model| model_row(state, model, ROOM).to_string()));
    lines.into_iter().map(|line| line.trim_end().to_owned()).collect()
}
