//! The first page: charts, and the list of anomalies; or one of them, opened.

use ratatui::Frame;
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::text::{Line, Span};
use ratatui::widgets::{Padding, Paragraph};
use serde_json::Value;

use super::{Tone, charts, first_seen, scrolled, waits};
use crate::cli::top::state::{Connection, State};
use crate::cli::top::told::{Anomaly, Feature};
use crate::cli::top::words::{cut, left, measured, percent, right, said_of, short, sigmas, width, wrapped};
use crate::journal::Opinion;

/// Rows of the charts, and the height of a page that has room for them, and for a strip.
const CHARTS: u16 = 8;
const HEIGHT_CHARTS: u16 = 17;
const HEIGHT_STRIP: u16 = 7;
/// Columns of a severity, a score, a time and a key.
const SEVERITY: usize = 8;
const SCORE: usize = 7;
const TIME: usize = 8;
const KEY: usize = 14;
/// From this width on an anomaly's line has its time.
const WIDTH_TIME: usize = 64;

/// Draws the page. Returns how far what is opened can be scrolled.
pub fn draw(frame: &mut Frame<'_>, state: &State, area: Rect) -> usize {
    if let Some(anomaly) = &state.opened {
        return draw_opened(frame, state, anomaly, area);
    }
    let n_chart = match area.height {
        HEIGHT_CHARTS.. => CHARTS,
        HEIGHT_STRIP.. => 1,
        _ => 0,
    };
    let [above, list] = Layout::vertical([Constraint::Length(n_chart), Constraint::Min(0)]).areas(area);
    match n_chart {
        0 => {}
        1 => charts::draw_strip(frame, state, above),
        _ => charts::draw(frame, state, above),
    }
    draw_list(frame, state, list);
    0
}

/// Whether the page has nothing but its reasons to show.
pub fn is_empty(state: &State) -> bool {
    state.screen == super::Screen::Live && state.opened.is_none() && state.anomalies.is_empty()
}

fn draw_list(frame: &mut Frame<'_>, state: &State, area: Rect) {
    let n = state.anomalies.len();
    let title = if n == 0 { "Anomalies".into() } else { format!("Anomalies, {n}, the newest first") };
    let block = if n == 0 { state.page(&title) } else { state.frame(&title) };
    let inner = block.inner(area);
    frame.render_widget(block, area);
    let room = usize::from(inner.width);
    if n == 0 {
        let lines = nothing(state).into_iter().flat_map(|text| wrapped(&text, room));
        return frame.render_widget(Paragraph::new(lines.map(Line::from).collect::<Vec<_>>()), inner);
    }
    let (height, chosen) = (usize::from(inner.height), state.place());
    let from = first_seen(chosen, n, height);
    let seen = state.anomalies.iter().enumerate().skip(from).take(height);
    let lines = seen.map(|(at, anomaly)| {
        let line = row(state, anomaly, room);
        if at == chosen { line.style(state.style(Tone::Chosen)) } else { line }
    });
    frame.render_widget(Paragraph::new(lines.collect::<Vec<_>>()), inner);
}

/// Why there is none.
fn nothing(state: &State) -> Vec<String> {
    let Some(status) = &state.status else {
        return vec![match state.connection {
            Connection::Lost(..) => "Nothing was heard of it yet.".into(),
            _ => "Nothing is known yet.".into(),
        }];
    };
    if !status.ready {
        let waits = waits(status);
        let reason = if waits.is_empty() { "it doesn't say why".into() } else { waits.join("; ") };
        return vec!["Nothing is scored yet. It waits:".into(), reason];
    }
    let highest = status
        .ratio
        .map_or_else(String::new, |ratio| format!(", the highest at {} × the threshold just now", short(ratio)));
    vec![
        format!("None since this process started, {}.", state.time(&status.started)),
        format!("{} records were scored{highest}.", short(status.n_scored as f64)),
    ]
}

fn tone_of(severity: &str) -> Tone {
    match severity {
        "critical" | "high" => Tone::Bad,
        "medium" => Tone::Warn,
        _ => Tone::Plain,
    }
}

/// An anomaly in one line of at most `room` columns.
pub fn row(state: &State, anomaly: &Anomaly, room: usize) -> Line<'static> {
    let mark = match state.said.get(&anomaly.id) {
        None => " ",
        Some(Opinion::TruePositive) => "✓",
        Some(Opinion::FalsePositive) => "✗",
        Some(Opinion::Expected) => "~",
    };
    let severity = anomaly.score.severity.as_deref().unwrap_or("low");
    let mut spans = vec![
        state.span(Tone::Strong, mark),
        state.span(tone_of(severity), left(severity, SEVERITY + 1)),
        state.span(Tone::Strong, right(&format!("{} ×", short(anomaly.score.ratio)), SCORE)),
    ];
    if room >= WIDTH_TIME {
        let time = state.time(&anomaly.event_time);
        // Of another day, the day.
        let time = time.split(' ').next().unwrap_or_default();
        spans.push(state.span(Tone::Quiet, format!("  {}", left(time, TIME))));
    }
    spans.push(Span::raw(format!("  {}  ", left(anomaly.entity.as_deref().unwrap_or("–"), KEY))));
    let used: usize = spans.iter().map(Span::width).sum();
    spans.push(Span::raw(left(&because(anomaly), room.saturating_sub(used))));
    Line::from(spans)
}

/// Its reasons in short: the first feature in full, the others by how far they stray.
fn because(anomaly: &Anomaly) -> String {
    let Some((first, others)) = anomaly.features.split_first() else { return anomaly.summary.clone() };
    let Feature { name, actual, expected, missing, .. } = first;
    let brief = |value: &Value| value.as_f64().map_or_else(|| measured(value), short);
    let actual = if *missing { "missing".into() } else { brief(actual) };
    let first = format!("{name} {actual}, not {}", brief(expected));
    // What hardly strays is no reason.
    let others = others.iter().filter(|feature| feature.residual_z.abs() >= 1.0);
    let others = others.map(|feature| format!("{} {}", feature.name, sigmas(feature.residual_z)));
    [first].into_iter().chain(others).collect::<Vec<_>>().join(" · ")
}

fn draw_opened(frame: &mut Frame<'_>, state: &State, anomaly: &Anomaly, area: Rect) -> usize {
    let severity = anomaly.score.severity.as_deref().unwrap_or("low");
    let key = anomaly.entity.as_deref().unwrap_or("no key");
    let title = format!(
        "{severity} · {} × the threshold · {key} · {}",
        short(anomaly.score.ratio),
        state.time(&anomaly.event_time)
    );
    let title = cut(&title, usize::from(area.width).saturating_sub(6));
    let block = state.framed(tone_of(severity), &title).padding(Padding::horizontal(1));
    let block = match state.said.get(&anomaly.id) {
        None => block,
        Some(verdict) => block.title_bottom(state.line(Tone::Good, format!(" ✓ noted as {} ", said_of(*verdict)))),
    };
    let inner = block.inner(area);
    frame.render_widget(block, area);
    let lines = opened(state, anomaly, usize::from(inner.width));
    scrolled(frame, lines, state.scroll, inner)
}

/// An anomaly with all its reasons.
fn opened(state: &State, anomaly: &Anomaly, room: usize) -> Vec<Line<'static>> {
    let mut lines: Vec<Line<'static>> = wrapped(&anomaly.summary, room).into_iter().map(Line::from).collect();
    // A name takes what the numbers leave.
    let name = room.saturating_sub(58).clamp(8, 64);
    lines.push(Line::default());
    let title =
        format!("{} {:>11} {:>11} {:>9}  share of the score", left("feature", name), "actual", "expected", "deviation");
    lines.push(state.line(Tone::Quiet, title));
    for feature in &anomaly.features {
        let actual = if feature.missing { "missing".into() } else { measured(&feature.actual) };
        lines.push(Line::from(vec![
            Span::raw(left(&feature.name, name)),
            state.span(Tone::Strong, format!(" {}", right(&actual, 11))),
            Span::raw(format!(
                " {} {}  ",
                right(&measured(&feature.expected), 11),
                right(&sigmas(feature.residual_z), 9)
            )),
            state.span(Tone::Curve, bar(feature.contribution)),
            Span::raw(format!(" {}", percent(Some((feature.contribution * 100.0).round() / 100.0)))),
        ]));
    }
    if !anomaly.patterns.is_empty() {
        lines.push(Line::default());
        let title = format!("{} {:>11} {:>11} {:>9}  share", left("pattern", name), "is", "now", "usually");
        lines.push(state.line(Tone::Quiet, title));
    }
    for pattern in &anomaly.patterns {
        lines.push(Line::from(vec![
            Span::raw(left(&pattern.name, name)),
            state.span(Tone::Strong, format!(" {}", right(&pattern.role, 11))),
            Span::raw(format!(" {} {}  ", right(&short(pattern.activation), 11), right(&short(pattern.usual), 9))),
            state.span(Tone::Curve, bar(pattern.contribution)),
            Span::raw(format!(" {}", percent(Some((pattern.contribution * 100.0).round() / 100.0)))),
        ]));
    }
    lines.push(Line::default());
    lines.extend(facts(state, anomaly, room));
    lines
}

/// A share as eight cells.
fn bar(part: f64) -> String {
    let n = if part.is_finite() { (part.clamp(0.0, 1.0) * 8.0).round() as usize } else { 0 };
    "█".repeat(n) + &"░".repeat(8 - n)
}

fn facts(state: &State, anomaly: &Anomaly, room: usize) -> Vec<Line<'static>> {
    let Anomaly { score, source, .. } = anomaly;
    let incident = anomaly.incident.as_ref().map_or_else(
        || "none".into(),
        |incident| {
            let (n, peak) = (incident.n_records, short(incident.peak_ratio));
            format!("{}, {n} {}, peak {peak} ×", incident.state, if n == 1 { "record" } else { "records" })
        },
    );
    let facts = [
        ("score", format!("{}, threshold {}, p-value {:.1e}", short(score.raw), short(score.threshold), score.p_value)),
        ("record", format!("{} / {} / {}", source.topic, source.partition, source.offset)),
        ("model", format!("version {}", anomaly.model.version)),
        ("incident", incident),
        ("unexplained", percent(anomaly.unexplained)),
        ("id", anomaly.id.clone()),
    ];
    let line = |(name, text): (&str, String)| {
        let name = left(name, 13);
        let text = cut(&text, room.saturating_sub(width(&name)));
        Line::from(vec![state.span(Tone::Quiet, name), Span::raw(text)])
    };
    facts.into_iter().map(line).collect()
}
