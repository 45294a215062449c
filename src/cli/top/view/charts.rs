//! The last minutes as bars: scores against their threshold, rate and lag.

use ratatui::Frame;
use ratatui::buffer::Buffer;
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::text::Line;

use super::Tone;
use crate::cli::top::state::{SECONDS, State};
use crate::cli::top::told::Beat;
use crate::cli::top::words::{right, short, short_or_dash};

/// A bar's last cell, by eighths.
const EIGHTHS: [&str; 9] = [" ", "▁", "▂", "▃", "▄", "▅", "▆", "▇", "█"];
/// Columns of the numbers beside the scores.
const AXIS: u16 = 6;

/// From what to what a chart goes.
#[derive(Clone, Copy, Debug)]
struct Scale {
    low: f64,
    high: f64,
    /// Whether it goes by powers.
    is_log: bool,
}

impl Scale {
    /// Place of a value between bottom, 0, and top, 1.
    fn part(&self, value: f64) -> f64 {
        let at = |value: f64| if self.is_log { value.max(1e-12).ln() } else { value };
        ((at(value) - at(self.low)) / (at(self.high) - at(self.low))).clamp(0.0, 1.0)
    }
}

/// What a column shows of a second.
type Reading = fn(&Beat) -> Option<f64>;

/// Draws the three of them.
pub fn draw(frame: &mut Frame<'_>, state: &State, area: Rect) {
    let [scores, rest] = Layout::horizontal([Constraint::Percentage(60), Constraint::Percentage(40)]).areas(area);
    draw_scores(frame, state, scores);
    let [rate, lag] = Layout::vertical([Constraint::Fill(1), Constraint::Fill(1)]).areas(rest);
    let status = state.status.as_ref();
    let now = status.map_or_else(|| "–".into(), |status| short(status.rate));
    draw_plain(frame, state, rate, ("Records a second", &now), |beat| Some(beat.rate));
    let now = status.map_or_else(|| "–".into(), |status| short(status.lag as f64));
    draw_plain(frame, state, lag, ("Lag", &now), |beat| Some(beat.lag as f64));
}

/// The same in one line, where there is no room.
pub fn draw_strip(frame: &mut Frame<'_>, state: &State, area: Rect) {
    let ratio = state.status.as_ref().and_then(|status| status.ratio);
    let title = format!("score {} × ", short_or_dash(ratio));
    let [name, bars] =
        Layout::horizontal([Constraint::Length(title.chars().count() as u16), Constraint::Min(0)]).areas(area);
    frame.render_widget(Line::from(title), name);
    let values = columns(state, bars.width, |beat| beat.ratio);
    draw_bars(frame.buffer_mut(), bars, &values, (score_scale(state), Some(1.0)), state);
}

fn draw_scores(frame: &mut Frame<'_>, state: &State, area: Rect) {
    let ratio = state.status.as_ref().and_then(|status| status.ratio);
    let tone = if ratio > Some(1.0) { Tone::Bad } else { Tone::Strong };
    let now = ratio.map_or_else(|| "–".into(), |ratio| format!("{} ×", short(ratio)));
    let now = state.line(tone, format!(" {now} ")).right_aligned();
    let ends = [state.line(Tone::Quiet, " 5 min ago "), state.line(Tone::Quiet, " now ").right_aligned()];
    let [past, present] = ends;
    let block = state.frame("Highest score ÷ threshold").title_top(now).title_bottom(past).title_bottom(present);
    let inner = block.inner(area);
    frame.render_widget(block, area);
    let [axis, bars] = Layout::horizontal([Constraint::Length(AXIS), Constraint::Min(0)]).areas(inner);
    let scale = score_scale(state);
    let values = columns(state, bars.width, |beat| beat.ratio);
    draw_bars(frame.buffer_mut(), bars, &values, (scale, Some(1.0)), state);
    let limit = limit_row(bars.height, scale, 1.0);
    for row in 0..axis.height {
        let text = match row {
            row if row == limit => "1 ×".into(),
            0 => format!("{} ×", short(scale.high)),
            row if row + 1 == axis.height => format!("{} ×", short(scale.low)),
            _ => continue,
        };
        let text = right(&text, usize::from(AXIS) - 1);
        frame.buffer_mut().set_stringn(axis.x, axis.y + row, text, usize::from(axis.width), state.style(Tone::Quiet));
    }
}

fn draw_plain(frame: &mut Frame<'_>, state: &State, area: Rect, (title, now): (&str, &str), reading: Reading) {
    let block = state.frame(title).title_top(state.line(Tone::Strong, format!(" {now} ")).right_aligned());
    let inner = block.inner(area);
    frame.render_widget(block, area);
    let values = columns(state, inner.width, reading);
    let high = values.iter().flatten().fold(1.0, |high: f64, value| high.max(*value));
    let scale = Scale { low: 0.0, high, is_log: false };
    draw_bars(frame.buffer_mut(), inner, &values, (scale, None), state);
}

/// Powers of ten around the threshold, as far as scores go.
fn score_scale(state: &State) -> Scale {
    let highest = state.beats.iter().filter_map(|beat| beat.ratio).fold(1.0, f64::max);
    Scale { low: 0.1, high: 10_f64.powf(highest.log10().ceil().max(1.0)), is_log: true }
}

/// The highest of what each of `width` columns stands for, the last one now; none where there was nothing.
fn columns(state: &State, width: u16, reading: Reading) -> Vec<Option<f64>> {
    let n = usize::from(width);
    let mut columns = vec![None; n];
    let Some(newest) = state.beats.back().filter(|_| n > 0) else { return columns };
    // By the clock, so that a bar keeps its seconds while it moves; two at least, as seconds aren't met exactly.
    let span_ms = SECONDS.div_ceil(n).max(2) as i64 * 1000;
    let last = newest.time_ms.div_euclid(span_ms);
    for beat in &state.beats {
        let ago = usize::try_from(last - beat.time_ms.div_euclid(span_ms)).unwrap_or(0);
        let (Some(at), Some(value)) = (n.checked_sub(ago + 1), reading(beat)) else { continue };
        columns[at] = Some(columns[at].map_or(value, |known: f64| known.max(value)));
    }
    columns
}

/// The row from the top that a limit lies in.
fn limit_row(height: u16, scale: Scale, limit: f64) -> u16 {
    let from_below = (scale.part(limit) * f64::from(height)) as u16;
    height.saturating_sub(1).saturating_sub(from_below)
}

/// Draws a bar for each value; what is above the limit stands out, and the limit is a line behind them.
fn draw_bars(
    buffer: &mut Buffer,
    area: Rect,
    values: &[Option<f64>],
    (scale, limit): (Scale, Option<f64>),
    state: &State,
) {
    let limit_at = limit.filter(|_| area.height > 1).map(|limit| limit_row(area.height, scale, limit));
    for (x, value) in (area.x..area.right()).zip(values) {
        let eighths =
            value.map_or(0, |value| (scale.part(value) * f64::from(area.height) * 8.0).round().max(1.0) as u16);
        let is_high = value.zip(limit).is_some_and(|(value, limit)| value > limit);
        let style = state.style(if is_high { Tone::Bad } else { Tone::Curve });
        for row in 0..area.height {
            let below = (area.height - 1 - row) * 8;
            let filled = eighths.saturating_sub(below).min(8);
            let y = area.y + row;
            if filled > 0 {
                buffer.set_stringn(x, y, EIGHTHS[usize::from(filled)], 1, style);
            } else if limit_at == Some(row) {
                buffer.set_stringn(x, y, "╌", 1, state.style(Tone::Quiet));
            }
        }
    }
}
