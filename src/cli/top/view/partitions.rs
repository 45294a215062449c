//! The third page: the partitions that this process reads.

use ratatui::Frame;
use ratatui::layout::Rect;
use ratatui::text::Line;
use ratatui::widgets::Paragraph;

use super::{Tone, scrolled};
use crate::cli::top::state::State;
use crate::cli::top::words::{cut, left, right, short_or_dash, wrapped};

/// Draws the page. Returns how far it can be scrolled.
pub fn draw(frame: &mut Frame<'_>, state: &State, area: Rect) -> usize {
    let block = state.page(&format!("Partitions, {}", state.partitions.len()));
    let mut inner = block.inner(area);
    frame.render_widget(block, area);
    let room = usize::from(inner.width);
    if state.partitions.is_empty() {
        let text = "This process reads none: the group has given them to others, or hasn't been joined yet.";
        let lines: Vec<Line<'_>> = wrapped(text, room).into_iter().map(Line::from).collect();
        frame.render_widget(Paragraph::new(lines), inner);
        return 0;
    }
    let topic = room.saturating_sub(52).clamp(8, 40);
    let line = |cells: [&str; 6]| {
        let [name, partition, lane, settled, lag, threshold] = cells;
        let numbers = [(partition, 10), (lane, 5), (settled, 13), (lag, 9), (threshold, 10)];
        let numbers: String = numbers.iter().map(|(text, room)| format!(" {}", right(text, *room))).collect();
        cut(&format!("{}{numbers}", left(name, topic)), room)
    };
    let titles = line(["topic", "partition", "lane", "settled up to", "lag", "threshold"]);
    frame.render_widget(state.line(Tone::Quiet, titles), inner);
    (inner.y, inner.height) = (inner.y + inner.height.min(1), inner.height.saturating_sub(1));
    let rows = state.partitions.iter().map(|one| {
        let settled = one.next_offset.map_or_else(|| "–".into(), |offset| offset.to_string());
        let [number, lane, lag] = [one.partition.to_string(), one.lane.to_string(), one.lag.to_string()];
        Line::from(line([&one.topic, &number, &lane, &settled, &lag, &short_or_dash(one.threshold)]))
    });
    scrolled(frame, rows.collect(), state.scroll, inner)
}
