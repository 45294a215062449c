//! The second page: models with where they come from and what the gate said, or one of them, opened.

use ratatui::Frame;
use ratatui::layout::Rect;
use ratatui::text::{Line, Span};
use ratatui::widgets::Paragraph;

use super::{Tone, first_seen, scrolled};
use crate::cli::top::state::State;
use crate::cli::top::told::{Entry, Latent, Lineage, Model};
use crate::cli::top::words::{cut, left, percent, right, short, width, wrapped};

/// Columns of a version with its mark, of what it comes from, and of its age.
const VERSION: usize = 18;
const PARENT: usize = 7;
const AGE: usize = 8;
const ROWS: usize = 8;

/// Draws the page. Returns how far what is opened can be scrolled.
pub fn draw(frame: &mut Frame<'_>, state: &State, area: Rect) -> usize {
    match &state.model {
        Some((version, model)) => {
            let block = state.page(&format!("Model {version}"));
            let inner = block.inner(area);
            frame.render_widget(block, area);
            let lines = match model {
                None => vec![Line::from("Reading …")],
                Some(Err(failure)) => {
                    wrapped(&failure.to_string(), usize::from(inner.width)).into_iter().map(Line::from).collect()
                }
                Some(Ok(model)) => opened(state, model, usize::from(inner.width)),
            };
            scrolled(frame, lines, state.scroll, inner)
        }
        None => {
            draw_list(frame, state, area);
            0
        }
    }
}

fn draw_list(frame: &mut Frame<'_>, state: &State, area: Rect) {
    let title = "Models, the newest first";
    let block = if state.models.is_empty() { state.page(title) } else { state.frame(title) };
    let inner = block.inner(area);
    frame.render_widget(block, area);
    let room = usize::from(inner.width);
    if state.models.is_empty() {
        let text = "There is none yet: the daemon trains the first one on the topic's history.";
        let lines: Vec<Line<'_>> = wrapped(text, room).into_iter().map(Line::from).collect();
        return frame.render_widget(Paragraph::new(lines), inner);
    }
    let title = format!(
        "{} {} {} {}  why, and what the gate said",
        left(" version", VERSION),
        left("from", PARENT),
        right("age", AGE),
        right("rows", ROWS)
    );
    let mut lines = vec![state.line(Tone::Quiet, cut(&title, room))];
    let (n, chosen) = (state.models.len(), state.model_place());
    let height = usize::from(inner.height).saturating_sub(1);
    let from = first_seen(chosen, n, height);
    lines.extend(state.models.iter().enumerate().skip(from).take(height).map(|(at, model)| {
        let line = row(state, model, room);
        if at == chosen { line.style(state.style(Tone::Chosen)) } else { line }
    }));
    frame.render_widget(Paragraph::new(lines), inner);
}

/// A model in one line.
pub fn row(state: &State, model: &Entry, room: usize) -> Line<'static> {
    let (mark, tone) = match model {
        Entry { current: true, pinned: true, .. } => ("scores, pinned", Tone::Good),
        Entry { current: true, .. } => ("scores", Tone::Good),
        Entry { refused: Some(_), .. } => ("refused", Tone::Bad),
        Entry { pinned: true, .. } => ("pinned", Tone::Warn),
        Entry { promoted: true, .. } => ("scored", Tone::Quiet),
        _ => ("", Tone::Plain),
    };
    let version = format!(" {}", model.version);
    let spans = vec![
        state.span(Tone::Strong, version.clone()),
        state.span(tone, left(&format!(" {mark}"), VERSION.saturating_sub(width(&version)))),
    ];
    let mut line = Line::from(spans);
    let (parent, age, rows, why) = match &model.refused {
        Some(refused) => ("–".into(), "–".into(), "–".into(), refused.clone()),
        None => (
            model.parent.map_or_else(|| "–".into(), |parent| parent.to_string()),
            state.age_of(&model.trained_at),
            short(model.n_rows_train as f64),
            [Some(model.reason.replace('_', " ")), model.decision.clone()]
                .into_iter()
                .flatten()
                .collect::<Vec<_>>()
                .join(", "),
        ),
    };
    line.push_span(Span::raw(format!(" {} {} {}  ", left(&parent, PARENT), right(&age, AGE), right(&rows, ROWS))));
    let used = line.width();
    line.push_span(Span::raw(left(&why, room.saturating_sub(used))));
    line
}

fn opened(state: &State, model: &Model, room: usize) -> Vec<Line<'static>> {
    let Lineage { parent, reason, n_rows_train, n_rows_holdout, source, decision } = &model.lineage;
    let from = parent.map_or_else(|| "no other".into(), |parent| format!("version {parent}"));
    let verdict = decision
        .as_ref()
        .map_or_else(|| "did not judge it".into(), |decision| format!("{}: {}", decision.ending, decision.reason));
    let form =
        format!("{}, {} features, {} patterns, {} active", model.kind, model.features.len(), model.n_latents, model.k);
    let facts = [
        ("trained", format!("{} ago, {}", state.age_of(&model.trained_at), reason.replace('_', " "))),
        ("from", from),
        ("rows", format!("{} of {source}, {} held out", short(*n_rows_train as f64), short(*n_rows_holdout as f64))),
        ("form", form),
        ("hash", model.hash.chars().take(16).collect()),
        ("the gate", verdict),
    ];
    let mut lines = Vec::new();
    for (name, text) in facts {
        for (i, part) in wrapped(&text, room.saturating_sub(10)).into_iter().enumerate() {
            let name = if i == 0 { name } else { "" };
            lines.push(Line::from(vec![state.span(Tone::Quiet, left(name, 10)), Span::raw(part)]));
        }
    }
    lines.extend(checks(state, model, room));
    lines.extend(patterns(state, &model.latents, room));
    lines
}

/// What the gate looked at.
fn checks(state: &State, model: &Model, room: usize) -> Vec<Line<'static>> {
    let Some(decision) = model.lineage.decision.as_ref().filter(|decision| !decision.checks.is_empty()) else {
        return Vec::new();
    };
    let name = room.saturating_sub(38).clamp(8, 32);
    let title =
        format!("{} {:>9} {:>9} {:>9}  holds", left("the gate looked at", name), "champion", "this one", "limit");
    let mut lines = vec![Line::default(), state.line(Tone::Quiet, title)];
    lines.extend(decision.checks.iter().map(|check| {
        let [champion, own, limit] =
            [check.champion, check.challenger, check.limit].map(|value| right(&short(value), 9));
        let (mark, tone) = if check.passed { ("yes", Tone::Good) } else { ("no", Tone::Bad) };
        let text = format!("{} {champion} {own} {limit}  ", left(&check.name.replace('_', " "), name));
        Line::from(vec![Span::raw(text), state.span(tone, mark)])
    }));
    lines
}

/// What it has learnt.
fn patterns(state: &State, latents: &[Latent], room: usize) -> Vec<Line<'static>> {
    let name = room.saturating_sub(24).clamp(8, 80);
    let title = format!("{} {:>11} {:>9}", left("patterns that it has learnt", name), "importance", "fires in");
    let mut lines = vec![Line::default(), state.line(Tone::Quiet, title)];
    lines.extend(latents.iter().map(|latent| {
        let shown = match &latent.label {
            Some(label) => format!("{label} ({})", latent.name),
            None => latent.name.clone(),
        };
        let [importance, frequency] = [latent.importance, latent.frequency].map(|part| percent(Some(part)));
        Line::from(format!("{} {} {}", left(&shown, name), right(&importance, 11), right(&frequency, 9)))
    }));
    lines
}
