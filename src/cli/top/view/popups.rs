//! What stands over the page: a question, or the keys.

use ratatui::Frame;
use ratatui::layout::{Constraint, Rect};
use ratatui::text::{Line, Span};
use ratatui::widgets::{Clear, Paragraph};

use super::Tone;
use crate::cli::top::state::{Authority, Question, State};
use crate::cli::top::words::{left, wrapped};

/// Columns of a question, and of the help.
const QUESTION: u16 = 60;
const HELP: u16 = 66;

const KEYS: [(&str, &str); 12] = [
    ("1 2 3 Tab", "live · models · partitions"),
    ("↑ ↓ j k", "choose, or scroll what is opened; Page, Home, End"),
    ("Enter", "open: actual against expected, patterns, the gate"),
    ("Esc", "back to the list"),
    ("← →", "the anomaly above, the one below"),
    ("f", "a false positive: later models learn it as ordinary"),
    ("t", "a true positive: every later model must find it"),
    ("e", "expected, as work on the plant: no model minds it"),
    ("p r u", "models: promote the chosen one, roll back, unpin"),
    ("y n", "answer a question; nothing is sent without a y"),
    ("?", "this"),
    ("q Ctrl-C", "quit"),
];

/// Draws whichever there is.
pub fn draw(frame: &mut Frame<'_>, state: &State, area: Rect) {
    if let Some(question) = &state.question {
        draw_question(frame, state, question, area);
    } else if state.has_help {
        draw_help(frame, state, area);
    }
}

/// A cleared box in the middle with these lines; as much of them as there is room for.
fn draw_box(frame: &mut Frame<'_>, state: &State, (title, tone): (&str, Tone), lines: Vec<Line<'static>>, place: Rect) {
    frame.render_widget(Clear, place);
    let block = state.framed(tone, title).border_style(state.style(tone));
    frame.render_widget(Paragraph::new(lines).block(block), place);
}

fn middle(area: Rect, width: u16, n_lines: usize) -> Rect {
    let height = u16::try_from(n_lines + 2).unwrap_or(u16::MAX).min(area.height);
    area.centered(Constraint::Length(width.min(area.width)), Constraint::Length(height))
}

fn draw_question(frame: &mut Frame<'_>, state: &State, question: &Question, area: Rect) {
    let room = usize::from(QUESTION.min(area.width)).saturating_sub(4);
    let indented = |text: &str| wrapped(text, room).into_iter().map(|line| Line::from(format!(" {line}")));
    let mut lines: Vec<Line<'static>> = Vec::new();
    if !question.about.is_empty() {
        // What it is about is long at times, and the answer must stay in sight.
        lines.extend(indented(&question.about).take(3));
    }
    lines.extend(indented(question.effect));
    lines.push(Line::default());
    let keys = [(" y", " yes, send it   "), ("n", " no")];
    lines.push(keys.into_iter().flat_map(|(key, what)| [state.span(Tone::Strong, key), Span::raw(what)]).collect());
    let place = middle(area, QUESTION, lines.len());
    draw_box(frame, state, (&question.text, Tone::Warn), lines, place);
}

fn draw_help(frame: &mut Frame<'_>, state: &State, area: Rect) {
    let room = usize::from(HELP.min(area.width)).saturating_sub(4);
    let mut lines: Vec<Line<'static>> = KEYS
        .iter()
        .map(|(key, what)| Line::from(vec![state.span(Tone::Strong, format!(" {}", left(key, 11))), Span::raw(*what)]))
        .collect();
    let about = match &state.authority {
        Authority::Token => "Changes are sent with the token.".to_owned(),
        Authority::Asked => "Changes are sent without a token, which the daemon takes from its own machine.".to_owned(),
        Authority::None(why) => {
            format!("Read-only: {why}. Start it with --token-file FILE, the daemon's admin.token_file.")
        }
    };
    lines.push(Line::default());
    lines.extend(wrapped(&about, room).into_iter().map(|line| state.line(Tone::Quiet, format!(" {line}"))));
    let about = "A score above 1 × the threshold is anomalous. ✓ ✗ ~ mark what you said since the start.";
    lines.extend(wrapped(about, room).into_iter().map(|line| state.line(Tone::Quiet, format!(" {line}"))));
    let place = middle(area, HELP, lines.len());
    draw_box(frame, state, ("Keys", Tone::Strong), lines, place);
}
