//! Screens as plain text, compared exactly with `tests/snapshots/top/*.txt`; `RECORD_SNAPSHOTS=1 cargo test --lib cli::top` writes them
//! anew. They are to be looked at.

use std::path::Path;

use ratatui::Terminal;
use ratatui::backend::TestBackend;
use ratatui::buffer::Buffer;
use ratatui::crossterm::event::KeyCode;
use ratatui::style::Color;
use serde_json::json;

use super::link::Look;
use super::state::{Authority, Happened, State};
use super::state_tests::{NOW_MS, ago, anomaly, look, made, model, press, state, status, type_in};
use super::view;

/// What is drawn at this size.
fn drawn(state: &State, (width, height): (u16, u16)) -> Buffer {
    let mut terminal = Terminal::new(TestBackend::new(width, height)).expect("it only draws");
    let draw = |frame: &mut ratatui::Frame<'_>| {
        view::draw(frame, state);
    };
    terminal.draw(draw).expect("it only draws");
    terminal.backend().buffer().clone()
}

fn text(buffer: &Buffer) -> String {
    let width = usize::from(buffer.area.width);
    let line = |cells: &[ratatui::buffer::Cell]| {
        let mut line = String::new();
        let mut skipped = 0;
        for cell in cells {
            // A wide letter has its second column to itself.
            if skipped == 0 {
                line.push_str(cell.symbol());
            }
            skipped = if skipped > 0 { skipped - 1 } else { super::words::width(cell.symbol()).saturating_sub(1) };
        }
        line.trim_end().to_owned() + "\n"
    };
    buffer.content().chunks(width).map(line).collect()
}

#[track_caller]
fn assert_shows(name: &str, state: &State, size: (u16, u16)) {
    assert_same(name, &text(&drawn(state, size)));
}

#[track_caller]
fn assert_same(name: &str, shown: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("tests/snapshots/top/{name}.txt"));
    if std::env::var_os("RECORD_SNAPSHOTS").is_some() {
        std::fs::create_dir_all(path.parent().expect("it has one")).expect("the folder can be made");
        std::fs::write(&path, shown).expect("it can be written");
    }
    let expected = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(shown == expected, "{name} is\n{shown}\nand was\n{expected}");
}

#[test]
fn running_with_anomalies() {
    let mut state = state(12);
    press(&mut state, KeyCode::Down);
    assert_shows("live", &state, (80, 24));
    assert_shows("live-wide", &state, (120, 36));
    assert_shows("live-60x15", &state, (60, 15));
}

#[test]
fn an_opened_anomaly() {
    let mut state = state(12);
    press(&mut state, KeyCode::Enter);
    assert_shows("anomaly", &state, (80, 24));
    assert_shows("anomaly-60x15", &state, (60, 15));
    type_in(&mut state, "f");
    assert_shows("question", &state, (80, 24));
}

#[test]
fn models_and_partitions() {
    let mut state = state(1);
    type_in(&mut state, "2");
    assert_shows("models", &state, (80, 24));
    press(&mut state, KeyCode::Enter);
    state.update(Happened::Model(4, Box::new(Ok(model()))), NOW_MS);
    assert_shows("model", &state, (80, 24));
    type_in(&mut state, "3");
    assert_shows("partitions", &state, (80, 24));
}

#[test]
fn help() {
    let mut state = state(3);
    type_in(&mut state, "?");
    assert_shows("help", &state, (80, 24));
}

fn empty(ready: bool) -> State {
    let mut state = State::new("http://127.0.0.1:8790", Authority::Asked, NOW_MS);
    state.update(Happened::Looked(Box::default()), NOW_MS);
    let mut status = status(12);
    status.ratio = ready.then_some(0.42);
    if !ready {
        status = made(json!({
            "time": ago(0), "started": ago(12), "detector": "pumps", "version": "0.1.0", "ready": false, "phase": "warmup",
            "reason": "topic `features` has 812 of 2000 records that the first model needs", "eta_seconds": 40.2,
            "waiting_for": ["lane 0: no model yet"], "notes": ["lane 1 has no partition"], "n_samples": 12
        }));
    }
    state.update(Happened::Status(Box::new(status)), NOW_MS);
    state
}

#[test]
fn nothing_yet() {
    assert_shows("empty", &empty(true), (80, 24));
    assert_shows("empty-warmup", &empty(false), (80, 24));
}

#[test]
fn away() {
    let mut state = state(3);
    state.update(Happened::Lost("Connection refused".into()), NOW_MS + 4000);
    state.update(Happened::Tick, NOW_MS + 16_000);
    assert_shows("disconnected", &state, (80, 24));
    let mut state = State::new("http://127.0.0.1:8790", Authority::Asked, NOW_MS);
    assert_shows("connecting", &state, (80, 24));
    state.update(Happened::Lost("Connection refused".into()), NOW_MS);
    assert_shows("never-connected", &state, (80, 24));
}

#[test]
fn no_token() {
    let mut state = State::new("http://127.0.0.1:8790", Authority::Asked, NOW_MS);
    state.update(Happened::Looked(Box::new(look(3))), NOW_MS);
    state.update(Happened::Status(Box::new(status(300))), NOW_MS);
    assert_shows("no-token", &state, (80, 24));
    type_in(&mut state, "f");
    assert_shows("no-token-asked", &state, (80, 24));
}

#[test]
fn one_snapshot_in_plain_lines() {
    assert_same("once", &(super::plain::lines(&state(2)).join("\n") + "\n"));
}

/// States of every kind.
fn all() -> Vec<State> {
    let mut states =
        vec![state(0), state(12), empty(true), empty(false), State::new("http://x", Authority::Asked, NOW_MS)];
    let after = |keys: &[KeyCode]| {
        let mut state = state(12);
        keys.iter().for_each(|key| drop(press(&mut state, *key)));
        state.update(Happened::Model(4, Box::new(Ok(model()))), NOW_MS);
        state
    };
    let letter = KeyCode::Char;
    states.push(after(&[KeyCode::End, KeyCode::Enter]));
    states.push(after(&[KeyCode::Enter, KeyCode::End]));
    states.push(after(&[letter('f')]));
    states.push(after(&[letter('?')]));
    states.push(after(&[letter('2')]));
    states.push(after(&[letter('2'), KeyCode::Enter]));
    states.push(after(&[letter('3')]));
    let mut lost = state(3);
    lost.update(Happened::Lost("a long reason ".repeat(20)), NOW_MS);
    lost.update(Happened::Tick, NOW_MS + 90_000_000);
    states.push(lost);
    states
}

#[test]
fn every_size_is_borne() {
    for state in all() {
        for width in [0, 1, 2, 5, 10, 23, 24, 25, 40, 60, 80, 100, 161, 320] {
            for height in [0, 1, 2, 5, 6, 7, 8, 10, 15, 16, 17, 24, 40] {
                drawn(&state, (width, height));
            }
        }
    }
}

#[test]
fn colours_are_named_ones_on_the_terminals_ground_and_none_where_none_are_wanted() {
    let named = [Color::Reset, Color::Red, Color::Green, Color::Yellow, Color::Cyan];
    for mut state in all() {
        let buffer = drawn(&state, (100, 30));
        assert!(buffer.content().iter().all(|cell| named.contains(&cell.fg) && cell.bg == Color::Reset));
        state.has_colour = false;
        let buffer = drawn(&state, (100, 30));
        assert!(buffer.content().iter().all(|cell| cell.fg == Color::Reset && cell.bg == Color::Reset));
    }
}

#[test]
fn strangers_words_order_no_terminal_about() {
    let mut wild = serde_json::to_value(json!({
        "id": "1", "entity": "\u{1b}[2J\u{1b}]0;pwned\u{7}key", "event_time": ago(1), "summary": "\u{9b}31m\u{202e}summary",
        "score": {"ratio": 2.0, "severity": "\u{1b}cbad"}, "source": {"topic": "\u{1b}[1mt", "partition": 0, "offset": 1}
    }))
    .expect("JSON");
    wild["features"] =
        json!([{"name": "\u{1b}[31mname", "actual": "\u{8}\u{8}", "expected": "\u{1b}", "residual_z": 1.0}]);
    wild["patterns"] = json!([{"name": "\u{7f}pattern\u{1b}[5n", "role": "\u{1b}"}]);
    let mut state = State::new("http://127.0.0.1:8790", Authority::Token, NOW_MS);
    let look = Look { anomalies: vec![made(wild)], ..look(0) };
    state.update(Happened::Looked(Box::new(look)), NOW_MS);
    let harmless = |state: &State| {
        let shown = text(&drawn(state, (120, 30)));
        let is_tame = |letter: char| letter == '\n' || !(letter.is_control() || letter == '\u{202e}');
        assert!(shown.chars().all(is_tame), "{shown:?}");
        assert!(shown.contains("␛[2J␛]0;pwne"), "it is seen for what it is: {shown}");
    };
    harmless(&state);
    press(&mut state, KeyCode::Enter);
    harmless(&state);
    type_in(&mut state, "f");
    harmless(&state);
    let lines = super::plain::lines(&state).join("\n");
    assert!(lines.chars().all(|letter| letter == '\n' || !letter.is_control()), "{lines:?}");
}

#[test]
fn a_bar_above_the_threshold_stands_out() {
    let buffer = drawn(&state(1), (80, 24));
    let bars: Vec<_> = buffer.content().iter().filter(|cell| "▁▂▃▄▅▆▇█".contains(cell.symbol())).collect();
    assert!(bars.iter().any(|cell| cell.fg == Color::Red) && bars.iter().any(|cell| cell.fg == Color::Cyan));
    let opened = text(&drawn(
        &{
            let mut state = state(1);
            press(&mut state, KeyCode::Enter);
            state
        },
        (80, 24),
    ));
    assert!(opened.contains(&anomaly(1).summary[..40]), "{opened}");
}
