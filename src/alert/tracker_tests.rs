//! Tests of the tracker: sequences worked by hand, and what must hold for every sequence.

use std::time::Duration;

use proptest::prelude::*;

use super::*;
use crate::record::{RecordId, Value};
use crate::score::FeatureReason;
use crate::threshold::Severity;

/// One record: key, event time in seconds, and how far it strayed.
#[derive(Clone, Copy, Debug)]
enum Is {
    Quiet,
    Restless,
    Flagged(Severity, f64),
}

const LOW: Is = Is::Flagged(Severity::Low, 1.5);

struct Fed {
    tracker: Tracker,
    offset: i64,
    events: Vec<Event>,
}

fn fed(change: impl FnOnce(&mut IncidentConfig)) -> Fed {
    let mut config = IncidentConfig::default();
    change(&mut config);
    config.check().expect("the configuration is right");
    Fed { tracker: Tracker::new(config), offset: 0, events: Vec::new() }
}

impl Fed {
    fn feed(&mut self, key: &str, seconds: i64, is: Is) -> Option<Summary> {
        self.feed_as(key, seconds, is, false)
    }

    fn feed_as(&mut self, key: &str, seconds: i64, is: Is, shifted: bool) -> Option<Summary> {
        let share = |name: &str, contribution| FeatureReason {
            name: name.into(),
            actual: Some(Value::Number(1.0)),
            expected: Value::Number(0.0),
            residual_z: 1.0,
            contribution,
            missing: false,
        };
        // Every other record is mostly about another feature.
        let odd = if self.offset % 2 == 0 { 0.6 } else { 0.2 };
        let features = [share("temp", odd), share("flow", 0.3)];
        let (flagged, ratio, restless) = match is {
            Is::Quiet => (None, 0.3, false),
            Is::Restless => (None, 0.9, true),
            Is::Flagged(severity, ratio) => (Some(Flagged { severity, features: &features }), ratio, true),
        };
        let id = RecordId { partition: 0.into(), offset: self.offset };
        self.offset += 1;
        let key = Some(key.as_bytes());
        let (time_ms, p_value) = (seconds * 1000, 1e-4);
        let seen = Seen { id, time_ms, key, ratio, p_value, restless, shifted, flagged };
        self.tracker.observe(&seen, &mut self.events)
    }

    fn quiet(&mut self, key: &str, seconds: i64, n: usize) {
        (0..n).for_each(|_| assert_eq!(self.feed(key, seconds, Is::Quiet), None));
    }

    /// What was said since the last call: offset of the opener, state, flagged records, why closed.
    fn said(&mut self) -> Vec<(i64, State, u64, Option<Cause>)> {
        let say =
            |event: Event| (event.summary.opened.offset, event.summary.state, event.summary.n_records, event.cause);
        self.events.drain(..).map(say).collect()
    }
}

#[test]
fn flagged_records_of_a_key_join_while_the_gap_is_short() {
    let mut fed = fed(|_| ());
    let first = fed.feed("a", 0, LOW).expect("one of one opens");
    fed.quiet("a", 1, 64);
    let second = fed.feed("a", 60, Is::Flagged(Severity::Low, 2.5)).expect("it joins");
    assert_eq!((first.opened.offset, first.n_records, first.state), (0, 1, State::Open));
    assert_eq!((second.opened.offset, second.n_records, second.peak_ratio), (0, 2, 2.5));
    fed.feed("b", 60, LOW).expect("another key has an incident of its own");
    assert_eq!(fed.said(), [(0, State::Open, 1, None), (66, State::Open, 1, None)]);
    assert_eq!(fed.tracker.n_open(), 2);
}

#[test]
fn a_longer_gap_in_records_or_in_time_opens_the_next() {
    let mut by_records = fed(|_| ());
    by_records.feed("a", 0, LOW);
    by_records.quiet("a", 1, 65);
    by_records.feed("a", 1, LOW);
    let gap = Some(Cause::Gap);
    assert_eq!(by_records.said(), [(0, State::Open, 1, None), (0, State::Closed, 1, gap), (66, State::Open, 1, None)]);
    let mut by_time = fed(|_| ());
    by_time.feed("a", 0, LOW);
    by_time.feed("a", 61, LOW);
    assert_eq!(by_time.said(), [(0, State::Open, 1, None), (0, State::Closed, 1, gap), (1, State::Open, 1, None)]);
}

#[test]
fn restless_records_keep_it_open_and_do_not_count() {
    let mut fed = fed(|_| ());
    fed.feed("a", 0, LOW);
    for _ in 0..5 {
        fed.quiet("a", 1, 60);
        fed.feed("a", 1, Is::Restless);
    }
    assert_eq!(fed.feed("a", 1, LOW).expect("it joins").n_records, 2);
    assert_eq!(fed.said().len(), 1, "only the opening was news");
}

#[test]
fn quiet_records_in_a_row_close_it() {
    let mut fed = fed(|_| ());
    fed.feed("a", 0, LOW);
    fed.quiet("a", 7, 127);
    assert_eq!(fed.tracker.n_open(), 1);
    fed.quiet("b", 7, 500);
    assert_eq!(fed.tracker.n_open(), 1, "other keys don't count");
    fed.quiet("a", 8, 1);
    let closed = fed.events.last().expect("it was closed").clone();
    assert_eq!((closed.cause, closed.time_ms, closed.last_ms, closed.sequence), (Some(Cause::Records), 8000, 0, 1));
    assert!(!fed.tracker.is_active(), "nothing is remembered");
}

#[test]
fn a_silent_key_is_closed_by_the_time_of_its_partition() {
    let mut fed = fed(|_| ());
    fed.feed("a", 10, LOW);
    fed.quiet("b", 310, 1);
    fed.tracker.sweep(&mut fed.events);
    assert_eq!(fed.tracker.n_open(), 1, "five minutes are not yet over");
    fed.quiet("b", 311, 1);
    fed.tracker.sweep(&mut fed.events);
    let closed = fed.events.last().expect("it was closed");
    assert_eq!((closed.cause, closed.time_ms), (Some(Cause::Time), 310_000), "as of its deadline");
}

#[test]
fn severity_only_rises_and_each_rise_is_news() {
    let mut fed = fed(|_| ());
    let (medium, high) = (Is::Flagged(Severity::Medium, 2.0), Is::Flagged(Severity::High, 3.0));
    let states: Vec<State> =
        [LOW, medium, LOW, high, medium].map(|is| fed.feed("a", 0, is).expect("it joins").state).to_vec();
    use State::{Escalated, Open};
    assert_eq!(states, [Open, Escalated, Escalated, Escalated, Escalated]);
    let rises: Vec<_> = fed.events.iter().map(|e| (e.severity, e.sequence, e.summary.n_records)).collect();
    assert_eq!(rises, [(Severity::Low, 0, 1), (Severity::Medium, 1, 2), (Severity::High, 2, 4)]);
    let last = &fed.events[2];
    assert_eq!((last.worst.offset, last.summary.peak_ratio), (3, 3.0));
    // temp: (0.6 + 0.2 + 0.6 + 0.2) / 4.
    let expected = [("temp", 0.4), ("flow", 0.3)];
    for ((name, mean), (expected_name, expected_mean)) in last.features.iter().zip(expected) {
        assert!(name == expected_name && (mean - expected_mean).abs() < 1e-12, "{:?}", last.features);
    }
}

#[test]
fn m_of_n_records_of_the_key_open() {
    let mut fed = fed(|config| (config.m, config.n) = (3, 5));
    assert_eq!(fed.feed("a", 0, LOW), None);
    fed.feed("b", 0, LOW);
    assert_eq!(fed.feed("a", 0, LOW), None);
    fed.quiet("a", 0, 3);
    assert_eq!(fed.feed("a", 0, LOW), None, "the first two are no longer among the last five");
    fed.quiet("a", 0, 1);
    assert_eq!(fed.feed("a", 0, LOW), None);
    let opened = fed.feed("a", 0, LOW).expect("three of the last five");
    assert_eq!((opened.opened.offset, opened.n_records), (9, 1));
    fed.quiet("b", 0, 5);
    fed.quiet("a", 0, 128);
    assert!(!fed.tracker.is_active(), "empty windows are forgotten");
}

#[test]
fn other_settings_hold_for_what_is_open() {
    let mut fed = fed(|config| config.close_time = Duration::from_secs(300));
    fed.feed("a", 0, LOW);
    fed.feed("b", 1, LOW);
    fed.feed("c", 2, LOW);
    fed.events.clear();
    let config = IncidentConfig { open_max: 1, close_time: Duration::from_secs(60), ..IncidentConfig::default() };
    fed.tracker.adopt(&config);
    assert_eq!(fed.tracker.n_open(), 3, "nothing closes by the change itself");
    fed.feed("a", 61, LOW);
    let closed = |offset, cause| (offset, State::Closed, 1, Some(cause));
    let said = fed.said();
    assert_eq!(said[..1], [closed(0, Cause::Time)], "by the new time, and not a second before");
    assert_eq!(said[1..3], [closed(1, Cause::Displaced), closed(2, Cause::Displaced)], "down to the new bound");
    assert_eq!((said.len(), fed.tracker.n_open()), (4, 1));
}

#[test]
fn beyond_the_cap_the_oldest_goes() {
    let mut fed = fed(|config| config.open_max = 2);
    for key in ["a", "b", "a", "c"] {
        fed.feed(key, 0, LOW);
    }
    assert_eq!(fed.tracker.n_open(), 2);
    let displaced = (0, State::Closed, 2, Some(Cause::Displaced));
    assert_eq!(fed.said()[2..], [displaced, (3, State::Open, 1, None)]);
}

#[test]
fn when_most_records_are_flagged_the_partition_has_one_incident() {
    let mut fed = fed(|_| ());
    let keys = ["a", "b", "c", "d"];
    for i in 0..3000 {
        fed.feed(keys[i % 4], i as i64 / 100, LOW);
    }
    assert_eq!(fed.tracker.n_open(), 1);
    let said = fed.said();
    // 1 − (511/512)^n is above one half from n = 355 on.
    let merged: Vec<_> = (0..4).map(|i| (i, State::Closed, if i < 2 { 89 } else { 88 }, Some(Cause::Merged))).collect();
    assert_eq!(said[4..8], merged);
    assert_eq!(said[8..], [(354, State::Open, 1, None)]);
    assert_eq!(fed.feed_as("b", 30, LOW, true).expect("it joins").n_records, 2647);
    let shift = fed.events.pop().expect("the shift is told of");
    assert_eq!((shift.kind, shift.key, shift.summary.state), (Kind::Shift, None, State::Escalated));
    fed.quiet("c", 31, 64);
    fed.quiet("d", 31, 64);
    assert_eq!(fed.said(), [(354, State::Closed, 2647, Some(Cause::Records))]);
    fed.feed("a", 31, LOW);
    assert_eq!(fed.events[0].kind, Kind::Entity, "afterwards keys count again");
}

#[test]
fn a_shift_is_told_once_even_where_nothing_else_is_open() {
    let mut fed = fed(|_| ());
    let summary = fed.feed_as("a", 0, Is::Quiet, true).expect("it opens");
    assert_eq!((summary.state, fed.events.len(), fed.events[0].kind), (State::Open, 1, Kind::Shift));
}

#[test]
fn a_partition_without_keys_keeps_its_incident_when_most_records_are_flagged() {
    let mut fed = fed(|_| ());
    (0..1000).for_each(|_| assert!(fed.feed("", 0, LOW).is_some()));
    assert_eq!(fed.said(), [(0, State::Open, 1, None)]);
}

#[test]
fn one_time_far_ahead_does_not_close_for_ever() {
    let mut fed = fed(|_| ());
    fed.feed("a", 1_000_000_000, LOW);
    fed.quiet("a", 0, 128);
    fed.feed("a", 1, LOW);
    fed.tracker.sweep(&mut fed.events);
    assert_eq!(fed.tracker.n_open(), 1);
}

#[test]
fn settings_out_of_range_are_named() {
    let config =
        IncidentConfig { m: 3, n: 2, gap_time: Duration::from_secs(301), open_max: 0, ..IncidentConfig::default() };
    let wrong = config.check().expect_err("three problems");
    let keys: Vec<&str> = wrong.iter().map(|line| line.split(' ').next().expect("a word")).collect();
    assert_eq!(keys, ["m", "gap_time", "open_max"]);
}

fn anything() -> impl Strategy<Value = Vec<(u8, i64, u8)>> {
    prop::collection::vec((0..4_u8, 0..40_i64, 0..8_u8), 1..400)
}

/// What is said of the records with a sweep after every `batch` of them, by opener and place.
fn told(records: &[(u8, i64, u8)], batch: usize) -> Vec<Event> {
    let mut fed = fed(|config| {
        (config.m, config.n, config.open_max) = (2, 6, 3);
        (config.gap_records, config.close_records) = (3, 6);
    });
    let mut seconds = 0;
    for (i, (key, step, kind)) in records.iter().enumerate() {
        seconds += step * step / 8;
        let is = match kind {
            0..5 => Is::Quiet,
            5 => Is::Restless,
            6 => LOW,
            _ => Is::Flagged(Severity::High, 3.0),
        };
        // Key c is ten minutes late.
        fed.feed(["", "a", "b", "c"][usize::from(*key)], seconds - 200 * i64::from(*key), is);
        if i % batch == 0 {
            fed.tracker.sweep(&mut fed.events);
        }
        assert!(fed.tracker.n_open() <= 3);
    }
    fed.tracker.sweep(&mut fed.events);
    fed.events
}

proptest! {
    #[test]
    fn the_same_records_give_the_same_events_wherever_batches_end(records in anything(), batch in 1..50_usize) {
        let once = told(&records, 1);
        prop_assert_eq!(&once, &told(&records, batch));
        let mut once = once;
        once.sort_by_key(|event| (event.summary.opened, event.sequence));
        for (i, event) in once.iter().enumerate() {
            let follows = i > 0 && once[i - 1].summary.opened == event.summary.opened;
            prop_assert_eq!(event.sequence, if follows { once[i - 1].sequence + 1 } else { 0 });
            prop_assert!(!follows || once[i - 1].severity <= event.severity);
            prop_assert!(!follows || once[i - 1].summary.state != State::Closed, "nothing follows the end");
        }
    }
}
