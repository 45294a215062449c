//! Draws the state: header, what is wrong, one of three pages, keys. Pure, and for every size of terminal.

mod anomalies;
mod charts;
mod models;
mod partitions;
mod popups;

use ratatui::Frame;
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::style::{Color, Modifier, Style};
use ratatui::text::{Line, Span};
use ratatui::widgets::{Block, Padding, Paragraph};

pub use anomalies::row as anomaly_row;
pub use models::row as model_row;

use super::state::{Connection, Screen, State};
use super::told::Status;
use super::words::{age, clock, cut, joined, millis, percent, short, short_or_dash, width, wrapped};

/// Below this there is room for a sentence only.
const WIDTH_MIN: u16 = 24;
const HEIGHT_MIN: u16 = 6;
/// From this height on the header has its third line.
const HEIGHT_FULL: u16 = 16;
/// Lines of what is wrong, and of what was said, at most; the page has the rest.
const BANNER_MAX: usize = 3;

/// How something is meant. Only named colours, on the terminal's own ground, so that it can be read on dark and light.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tone {
    Plain,
    Quiet,
    Strong,
    Good,
    Warn,
    Bad,
    Curve,
    Chosen,
}

impl State {
    /// How a tone looks here: without colours it is told by weight alone.
    pub fn style(&self, tone: Tone) -> Style {
        let (colour, modifier) = match tone {
            Tone::Plain => (None, Modifier::empty()),
            Tone::Quiet => (None, Modifier::DIM),
            Tone::Strong => (None, Modifier::BOLD),
            Tone::Good => (Some(Color::Green), Modifier::BOLD),
            Tone::Warn => (Some(Color::Yellow), Modifier::BOLD),
            Tone::Bad => (Some(Color::Red), Modifier::BOLD),
            Tone::Curve => (Some(Color::Cyan), Modifier::empty()),
            Tone::Chosen => (None, Modifier::REVERSED),
        };
        let style = Style::new().add_modifier(modifier);
        colour.filter(|_| self.has_colour).map_or(style, |colour| style.fg(colour))
    }

    /// Text in a tone.
    pub fn span(&self, tone: Tone, text: impl Into<String>) -> Span<'static> {
        Span::styled(text.into(), self.style(tone))
    }

    /// A line in one tone.
    pub fn line(&self, tone: Tone, text: impl Into<String>) -> Line<'static> {
        Line::from(self.span(tone, text))
    }

    /// A frame with a title.
    pub fn frame(&self, title: &str) -> Block<'static> {
        self.framed(Tone::Strong, title)
    }

    /// A frame with a title in a tone.
    pub fn framed(&self, tone: Tone, title: &str) -> Block<'static> {
        let title = self.line(tone, format!(" {title} "));
        Block::bordered().border_style(self.style(Tone::Quiet)).title_top(title)
    }

    /// A frame with a title, for text.
    pub fn page(&self, title: &str) -> Block<'static> {
        self.frame(title).padding(Padding::horizontal(1))
    }

    /// A time as it is shown.
    pub fn time(&self, text: &str) -> String {
        millis(text).map_or_else(|| "–".into(), |time_ms| clock(time_ms, self.now_ms, &self.zone))
    }

    /// How old something is.
    pub fn age_of(&self, text: &str) -> String {
        millis(text).map_or_else(|| "–".into(), |then_ms| age(self.now_ms, then_ms))
    }
}

/// Draws it all. Returns how many lines what is scrolled can be moved up by.
pub fn draw(frame: &mut Frame<'_>, state: &State) -> usize {
    let area = frame.area();
    if area.width < WIDTH_MIN || area.height < HEIGHT_MIN {
        small(frame, state, area);
        return 0;
    }
    let n_head = if area.height >= HEIGHT_FULL { 3 } else { 2 };
    let banner = banner(state, usize::from(area.width));
    let n_banner = banner.len().min(usize::from(area.height) - HEIGHT_MIN as usize + 1) as u16;
    let footer = footer(state, usize::from(area.width));
    let n_foot = footer.len() as u16;
    let sizes = [n_head, n_banner].map(Constraint::Length).into_iter();
    let sizes = sizes.chain([Constraint::Min(0), Constraint::Length(n_foot)]);
    let [head, below, page, foot] = Layout::vertical(sizes).areas(area);
    frame.render_widget(Paragraph::new(header(state, usize::from(area.width))), head);
    frame.render_widget(Paragraph::new(banner), below);
    let scroll_max = match state.screen {
        Screen::Live => anomalies::draw(frame, state, page),
        Screen::Models => models::draw(frame, state, page),
        Screen::Partitions => partitions::draw(frame, state, page),
    };
    frame.render_widget(Paragraph::new(footer), foot);
    popups::draw(frame, state, area);
    scroll_max
}

/// The most important, where there is no room for more.
fn small(frame: &mut Frame<'_>, state: &State, area: Rect) {
    let (mark, tone) = mood(state);
    let n = state.anomalies.len();
    let text = [format!("● {mark}"), format!("{n} anomalies"), "more room, please".into(), "q quits".into()];
    let lines = text.iter().flat_map(|line| wrapped(line, usize::from(area.width)));
    let lines: Vec<Line<'_>> = lines.map(|line| state.line(tone, line)).collect();
    frame.render_widget(Paragraph::new(lines), area);
}

/// How it is, in a word.
pub fn mood(state: &State) -> (&'static str, Tone) {
    match (&state.connection, &state.status) {
        (Connection::Opening(_), _) => ("connecting", Tone::Warn),
        (Connection::Lost(..), _) => ("disconnected", Tone::Bad),
        (Connection::Live, None) => ("connected", Tone::Warn),
        (Connection::Live, Some(status)) if status.stuck.is_some() => ("stuck", Tone::Bad),
        (Connection::Live, Some(status)) if status.ready => ("scoring", Tone::Good),
        (Connection::Live, Some(status)) => match status.phase.as_str() {
            "starting" => ("starting", Tone::Warn),
            "warmup" => ("warming up", Tone::Warn),
            "draining" => ("ending", Tone::Warn),
            _ => ("waiting", Tone::Warn),
        },
    }
}

fn header(state: &State, room: usize) -> Vec<Line<'static>> {
    let (mark, tone) = mood(state);
    let detector = state.status.as_ref().map_or("", |status| status.detector.as_str());
    let detector = if detector.is_empty() || detector == "strayd" { String::new() } else { format!(" {detector}") };
    let mut first = vec![state.span(Tone::Strong, "strayd"), state.span(Tone::Plain, cut(&detector, room / 3))];
    first.push(state.span(tone, format!("  ● {mark}")));
    let pages: Vec<Span<'static>> = Screen::ALL
        .into_iter()
        .zip(1..)
        .map(|(screen, n)| {
            let tone = if screen == state.screen { Tone::Chosen } else { Tone::Plain };
            state.span(tone, format!(" {n} {} ", screen.name()))
        })
        .collect();
    let used = |spans: &[Span<'_>]| spans.iter().map(Span::width).sum::<usize>();
    if let Some(gap) = room.checked_sub(used(&first) + used(&pages)).filter(|gap| *gap > 0) {
        first.push(" ".repeat(gap).into());
        first.extend(pages);
    }
    let [figures, facts] = figures(state);
    vec![Line::from(first), Line::from(joined(&figures, room)), state.line(Tone::Quiet, joined(&facts, room))]
}

/// What stands in the second line, and in the third.
pub fn figures(state: &State) -> [Vec<String>; 2] {
    let Some(status) = &state.status else { return [vec![state.address.clone()], Vec::new()] };
    let Status { rate, lag, alert_rate, target_alert_rate: target, incidents_open: n_open, .. } = status;
    let incidents = if *n_open == 1 { "incident" } else { "incidents" };
    let first = vec![
        format!("{} records/s", short(*rate)),
        format!("lag {}", short(*lag as f64)),
        format!("alert rate {}, target {}", percent(*alert_rate), percent(*target)),
        format!("{n_open} {incidents} open"),
    ];
    let model = status.model.as_ref().map_or_else(
        || "no model yet".into(),
        |model| format!("model {}, {} old", model.version, state.age_of(&model.trained_at)),
    );
    let second = vec![
        model,
        format!("threshold {}", short_or_dash(status.threshold)),
        format!("{} of {} records published", short(status.n_published as f64), short(status.n_scored as f64)),
        format!("{} at {}", status.version, state.address),
    ];
    [first, second]
}

/// Why nothing is scored, and what should be known, one reason each; and whether it is grave.
pub fn reasons(state: &State) -> Vec<(Tone, String)> {
    let mut reasons = Vec::new();
    let of = state.status.as_ref().map(|status| format!(" What is shown is of {}.", state.time(&status.time)));
    match &state.connection {
        Connection::Opening(_) => reasons.push((Tone::Warn, format!("Connecting to {} …", state.address))),
        Connection::Lost(since, why) => {
            let (at, long) = (clock(*since, state.now_ms, &state.zone), age(state.now_ms, *since));
            let of = of.unwrap_or_default();
            reasons.push((Tone::Bad, format!("Disconnected since {at} ({long}): {why}. Trying again …{of}")));
        }
        Connection::Live => {}
    }
    let Some(status) = &state.status else { return reasons };
    reasons.extend(status.stuck.iter().map(|stuck| (Tone::Bad, stuck.clone())));
    reasons.extend(waits(status).into_iter().map(|reason| (Tone::Warn, reason)));
    if status.promotions_stopped {
        let text = "Promotions are stopped until somebody promotes, rolls back or unpins.";
        reasons.push((Tone::Warn, text.into()));
    }
    reasons.extend(status.notes.iter().map(|note| (Tone::Plain, format!("Note: {note}"))));
    reasons
}

/// What it waits for before records are scored.
pub fn waits(status: &Status) -> Vec<String> {
    let eta = status.eta_seconds.map_or_else(String::new, |seconds| format!(" (about {seconds:.0} s)"));
    let reason = status.reason.iter().filter(|_| status.phase != "running").map(|reason| format!("{reason}{eta}"));
    reason.chain(status.waiting_for.iter().cloned()).collect()
}

fn banner(state: &State, room: usize) -> Vec<Line<'static>> {
    let told = state.status.as_ref().map(waits).filter(|_| anomalies::is_empty(state)).unwrap_or_default();
    // What an empty page says itself needs no saying twice.
    let reasons = reasons(state).into_iter().filter(|(_, text)| !told.contains(text));
    let lines = reasons.flat_map(|(tone, text)| wrapped(&text, room).into_iter().map(move |line| (tone, line)));
    lines.take(BANNER_MAX).map(|(tone, text)| state.line(tone, text)).collect()
}

/// What was said last; else the keys that matter here.
fn footer(state: &State, room: usize) -> Vec<Line<'static>> {
    if let Some(notice) = &state.notice {
        let (mark, tone) = if notice.is_bad { ("✗", Tone::Bad) } else { ("✓", Tone::Good) };
        let lines = wrapped(&format!("{mark} {}", notice.text), room).into_iter().take(BANNER_MAX);
        return lines.map(|line| state.line(tone, line)).collect();
    }
    let (mut line, mut used) = (Line::default(), 0);
    for (key, what) in state.hints() {
        let size = width(key) + width(what) + if key.is_empty() { 2 } else { 3 };
        if used + size > room {
            break;
        }
        used += size;
        line.push_span(state.span(Tone::Strong, key));
        let tone = if key.is_empty() { Tone::Warn } else { Tone::Quiet };
        line.push_span(state.span(tone, format!("{}{what}  ", if key.is_empty() { "" } else { " " })));
    }
    vec![line]
}

/// Draws lines from `scroll` on, and says how far they can be moved.
fn scrolled(frame: &mut Frame<'_>, lines: Vec<Line<'static>>, scroll: usize, area: Rect) -> usize {
    let scroll_max = lines.len().saturating_sub(usize::from(area.height));
    let from = scroll.min(scroll_max);
    let seen: Vec<Line<'_>> = lines.into_iter().skip(from).take(usize::from(area.height)).collect();
    frame.render_widget(Paragraph::new(seen), area);
    scroll_max
}

/// The first entry of `n` that is drawn, so that the chosen one is in sight.
fn first_seen(chosen: usize, n: usize, height: usize) -> usize {
    chosen.saturating_sub(height / 2).min(n.saturating_sub(height))
}
