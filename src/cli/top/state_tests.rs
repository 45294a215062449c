//! What happens, and where keys lead.

use ratatui::crossterm::event::{KeyCode, KeyEvent, KeyModifiers};
use serde_json::json;

use super::link::{Failure, Look};
use super::state::{Authority, Change, Connection, Happened, Screen, Sending, State, Wish};
use super::told::{Anomaly, Beat, Entry, Model, Partition, Status};
use crate::journal::{Feedback, Opinion, Order};

/// 2026-11-28 15:23:00 UTC.
pub const NOW_MS: i64 = 1_795_879_380_000;

/// A time so many seconds before now.
pub fn ago(seconds: i64) -> String {
    crate::record::rfc3339(NOW_MS - seconds * 1000)
}

/// A document out of its JSON, as the daemon says it.
pub fn made<T: serde::de::DeserializeOwned>(document: serde_json::Value) -> T {
    super::told::parsed(&document.to_string()).expect("it is as the daemon says it")
}

/// A status of a daemon that scores.
pub fn status(n_samples: u64) -> Status {
    made(json!({
        "time": ago(0), "started": ago(3600), "detector": "pumps", "version": "0.1.0", "ready": true, "phase": "running",
        "stuck": null, "n_samples": n_samples, "rate": 774.2, "lag": 12, "ratio": 3.58, "threshold": 0.18779,
        "n_scored": 16000, "n_alerts": 67, "n_published": 67, "alert_rate": 0.0011, "target_alert_rate": 0.0005,
        "incidents_open": 2, "promotions_stopped": false,
        "model": {"version": 3, "hash": "0e14529f1721", "trained_at": ago(720), "n_features": 6}
    }))
}

/// An anomaly of `pump-…`, the higher `n` the newer.
pub fn anomaly(n: i64) -> Anomaly {
    let severity = ["low", "medium", "high", "critical"][n as usize % 4];
    made(json!({
        "id": format!("{n:032x}"), "entity": format!("pump-{n}"), "event_time": ago(60 - n),
        "source": {"topic": "features", "partition": 1, "offset": 5500 + n},
        "score": {"ratio": 1.5 * n as f64 + 0.08, "raw": 0.67294, "threshold": 0.18779, "z": 5.4, "p_value": 3.6e-6, "severity": severity},
        "features": [
            {"name": "temp", "actual": 52.0, "expected": 63.05477, "residual_z": -10.519616, "contribution": 0.64085, "missing": false},
            {"name": "vibration", "actual": 1.88, "expected": 1.7865368, "residual_z": 4.654151, "contribution": 0.10247, "missing": false},
            {"name": "mode", "actual": null, "expected": "auto", "residual_z": 1.5, "contribution": 0.01, "missing": true}
        ],
        "patterns": [
            {"latent": 12, "name": "+current +flow −pressure", "activation": 0.7626, "usual": 0.0652, "role": "stronger", "contribution": 0.21334},
            {"latent": 18, "name": "under load", "activation": 0.0, "usual": 0.3682895, "role": "absent", "contribution": 0.0821}
        ],
        "unexplained": 0.25667, "incident": {"state": "open", "n_records": 4, "peak_ratio": 3.58},
        "model": {"version": 3, "hash": "0e14529f1721", "trained_at": ago(720)},
        "summary": "temp is 52.0 where 63.1 was expected (10.5 σ); pattern '+current +flow −pressure' is stronger than usual"
    }))
}

fn models() -> Vec<Entry> {
    let entry = |version: u64, current: bool, parent: Option<u64>, decision: Option<&str>, reason: &str| {
        made(json!({
            "version": version, "current": current, "promoted": decision != Some("rejected"), "pinned": false, "hash": "0e14529f1721",
            "trained_at": ago(4000 - 800 * version as i64), "n_features": 6, "n_rows_train": 2500 * version, "parent": parent,
            "reason": reason, "decision": decision
        }))
    };
    vec![
        entry(1, false, None, None, "first"),
        entry(2, false, Some(1), Some("promoted"), "records"),
        entry(3, true, Some(2), Some("promoted"), "feature_drift"),
        entry(4, false, Some(3), Some("rejected"), "request"),
    ]
}

/// A model that was opened.
pub fn model() -> Model {
    let check = |name: &str, challenger: f64, limit: f64| json!({"name": name, "champion": 0.412, "challenger": challenger, "limit": limit, "passed": challenger <= limit});
    made(json!({
        "hash": "0e14529f17210e14529f1721", "trained_at": ago(800), "kind": "sat_topk",
        "features": ["temp", "vibration"], "n_latents": 24, "k": 4, "n_calibration": 512,
        "lineage": {"source": "features", "parent": 3, "reason": "request", "n_rows_train": 10000, "n_rows_holdout": 1024,
                    "decision": {"ending": "rejected", "reason": "it finds fewer of the anomalies that people confirmed",
                                 "checks": [check("loss", 0.398, 0.42), check("confirmed_missed", 0.5, 0.0)]}},
        "latents": [
            {"id": 14, "name": "+flow +vibration +temp", "label": "under load", "importance": 0.0649, "frequency": 0.55},
            {"id": 17, "name": "−load −flow", "label": null, "importance": 0.0346, "frequency": 0.42}
        ]
    }))
}

/// Everything that was before, with `n` anomalies.
pub fn look(n: i64) -> Look {
    let beats = (0..300).map(|i| Beat {
        time_ms: NOW_MS - 1000 * (300 - i),
        rate: 700.0 + 80.0 * (i as f64 / 20.0).sin(),
        lag: i % 50,
        ratio: (i % 97 != 0).then(|| if i % 61 == 0 { 3.6 } else { 0.5 + 0.3 * (i as f64 / 7.0).sin() }),
    });
    let partition = |number: i32| {
        made::<Partition>(json!({
            "topic": "features", "partition": number, "lane": number % 2, "next_offset": 918_273 + number, "lag": 6, "threshold": 0.1878
        }))
    };
    Look {
        anomalies: (1..=n).rev().map(anomaly).collect(),
        beats: beats.collect(),
        models: models(),
        partitions: (0..3).map(partition).collect(),
        wants_token: true,
    }
}

/// A console that has been open for a while.
pub fn state(n: i64) -> State {
    let mut state = State::new("http://127.0.0.1:8790", Authority::Token, NOW_MS);
    state.update(Happened::Looked(Box::new(look(n))), NOW_MS);
    state.update(Happened::Status(Box::new(status(300))), NOW_MS);
    state
}

/// Presses a key.
pub fn press(state: &mut State, code: KeyCode) -> Option<Wish> {
    state.update(Happened::Key(KeyEvent::new(code, KeyModifiers::NONE)), NOW_MS)
}

/// Presses the keys of a word.
pub fn type_in(state: &mut State, letters: &str) -> Option<Wish> {
    letters.chars().map(|letter| press(state, KeyCode::Char(letter))).last().flatten()
}

#[track_caller]
fn sending(wish: Option<Wish>) -> Sending {
    match wish {
        Some(Wish::Send(sending)) => sending,
        other => panic!("something to send was expected, not {other:?}"),
    }
}

fn feedback(sending: &Sending) -> &Feedback {
    match &sending.change {
        Change::Feedback(feedback) => feedback,
        other @ Change::Command(_) => panic!("feedback was expected, not {other:?}"),
    }
}

fn notice(state: &State) -> &str {
    state.notice.as_ref().map_or("", |notice| &notice.text)
}

#[test]
fn quitting_takes_one_key() {
    assert_eq!(type_in(&mut state(1), "q"), Some(Wish::Quit));
    let ctrl_c = KeyEvent::new(KeyCode::Char('c'), KeyModifiers::CONTROL);
    let mut asked = state(1);
    type_in(&mut asked, "f");
    assert_eq!(asked.update(Happened::Key(ctrl_c), NOW_MS), Some(Wish::Quit), "even over a question");
    let mut helped = state(1);
    type_in(&mut helped, "?x");
    assert!(!helped.has_help, "any key closes the help");
    assert_eq!(type_in(&mut helped, "?q"), Some(Wish::Quit));
}

#[test]
fn feedback_is_sent_after_a_yes_and_not_before() {
    let mut state = state(3);
    press(&mut state, KeyCode::Down);
    assert_eq!(type_in(&mut state, "f"), None);
    let asked = state.question.clone().expect("it is asked first");
    assert!(asked.about.starts_with("pump-2: temp is 52.0"), "{asked:?}");
    assert_eq!((type_in(&mut state, "x"), state.question.is_some()), (None, true), "neither yes nor no");
    assert_eq!((type_in(&mut state, "n"), notice(&state)), (None, "Nothing was sent."));
    type_in(&mut state, "t");
    let sending = sending(type_in(&mut state, "y"));
    let said = json!({
        "id": format!("{:032x}", 2), "source": {"topic": "features", "partition": 1, "offset": 5502}, "verdict": "true_positive"
    });
    assert_eq!(serde_json::to_value(feedback(&sending)).expect("JSON"), said);
    assert!(state.said.is_empty(), "nobody has taken it yet");
    state.update(Happened::Answered(sending, Ok(())), NOW_MS);
    assert_eq!(state.said.values().collect::<Vec<_>>(), [&Opinion::TruePositive]);
    assert!(notice(&state).starts_with("Noted as true positive"));
    state.update(Happened::Tick, NOW_MS + 10_000);
    assert!(state.notice.is_none());
}

#[test]
fn feedback_is_on_the_anomaly_that_was_seen_whatever_comes_meanwhile() {
    let mut state = state(2);
    type_in(&mut state, "e");
    state.update(Happened::Anomaly(Box::new(anomaly(9))), NOW_MS);
    let sending = sending(type_in(&mut state, "y"));
    let Feedback { id, verdict, .. } = feedback(&sending);
    assert_eq!((id.clone(), *verdict), (Some(format!("{:032x}", 2)), Opinion::Expected));
    press(&mut state, KeyCode::Enter);
    state.update(Happened::Anomaly(Box::new(anomaly(10))), NOW_MS);
    assert_eq!(state.anomaly().map(|anomaly| anomaly.entity.as_deref()), Some(Some("pump-9")));
}

#[test]
fn without_a_token_it_says_so_and_asks_nothing() {
    let mut state = State::new("http://127.0.0.1:8790", Authority::Asked, NOW_MS);
    state.update(Happened::Looked(Box::new(look(2))), NOW_MS);
    for letters in ["f", "2r"] {
        assert_eq!(type_in(&mut state, letters), None);
        assert_eq!(state.question, None);
        let expected = "Read-only: the daemon wants its token for every change: --token-file FILE";
        assert_eq!(notice(&state), expected);
    }
}

#[test]
fn a_token_that_is_refused_is_told_in_words() {
    let mut state = state(2);
    type_in(&mut state, "f");
    let sending = sending(type_in(&mut state, "y"));
    let refusal = Failure::Refused(401, "send `Authorization: Bearer`".into());
    state.update(Happened::Answered(sending.clone(), Err(refusal)), NOW_MS);
    assert!(notice(&state).contains("doesn't know this token"), "{}", notice(&state));
    assert!(state.said.is_empty());
    state.update(Happened::Answered(sending, Err(Failure::Gone("Connection refused".into()))), NOW_MS);
    assert_eq!(notice(&state), "Not done: Connection refused.");
}

#[test]
fn models_are_promoted_and_rolled_back_after_a_yes() {
    let mut state = state(0);
    assert_eq!(type_in(&mut state, "2"), Some(Wish::Models));
    assert_eq!(state.models.iter().map(|model| model.version).collect::<Vec<_>>(), [4, 3, 2, 1]);
    type_in(&mut state, "p");
    assert_eq!(sending(type_in(&mut state, "y")).change, Change::Command(Order::Promote { version: 4 }));
    type_in(&mut state, "jp");
    assert_eq!((notice(&state), &state.question), ("Version 3 scores already.", &None));
    type_in(&mut state, "r");
    assert_eq!(sending(type_in(&mut state, "y")).change, Change::Command(Order::Rollback { version: None }));
    assert_eq!(press(&mut state, KeyCode::Enter), Some(Wish::Model(3)));
    state.update(Happened::Model(4, Box::new(Ok(model()))), NOW_MS);
    assert!(matches!(state.model, Some((3, None))), "that was of another");
    press(&mut state, KeyCode::Esc);
    assert!(state.model.is_none() && state.screen == Screen::Models);
}

#[test]
fn who_is_on_top_follows_the_newest_and_others_stay_where_they_are() {
    let mut state = state(2);
    assert_eq!(state.place(), 0);
    state.update(Happened::Anomaly(Box::new(anomaly(3))), NOW_MS);
    state.update(Happened::Anomaly(Box::new(anomaly(3))), NOW_MS);
    assert_eq!((state.anomalies.len(), state.place()), (3, 0), "what comes twice is one");
    press(&mut state, KeyCode::End);
    state.update(Happened::Anomaly(Box::new(anomaly(4))), NOW_MS);
    assert_eq!(state.place(), 3);
    press(&mut state, KeyCode::Enter);
    press(&mut state, KeyCode::Left);
    assert_eq!(state.anomaly().map(|anomaly| anomaly.entity.as_deref()), Some(Some("pump-2")));
    press(&mut state, KeyCode::Right);
    press(&mut state, KeyCode::Right);
    assert_eq!(state.anomaly().map(|anomaly| anomaly.entity.as_deref()), Some(Some("pump-1")), "there is none below");
    (0..300).for_each(|n| drop(state.update(Happened::Anomaly(Box::new(anomaly(100 + n))), NOW_MS)));
    assert_eq!(state.anomalies.len(), 200);
    assert_eq!(state.anomaly().map(|anomaly| anomaly.entity.as_deref()), Some(Some("pump-1")), "it stays open");
}

#[test]
fn a_second_is_told_once_and_five_minutes_are_kept() {
    let mut state = state(0);
    let last = |state: &State| state.beats.back().map(|beat| beat.time_ms);
    assert_eq!((state.beats.len(), last(&state)), (300, Some(NOW_MS)));
    state.update(Happened::Status(Box::new(status(300))), NOW_MS);
    let at = |ms: i64| state.beats.iter().filter(|beat| beat.time_ms == ms).count();
    assert_eq!(at(NOW_MS), 1, "the stream was opened anew");
}

#[test]
fn what_changes_now_and_then_is_read_again() {
    let mut state = state(0);
    let told = |state: &mut State, n: u64| state.update(Happened::Status(Box::new(status(n))), NOW_MS);
    assert_eq!(told(&mut state, 305), None);
    type_in(&mut state, "3");
    assert_eq!(told(&mut state, 306), Some(Wish::Partitions));
    type_in(&mut state, "2");
    assert_eq!((told(&mut state, 307), told(&mut state, 310)), (None, Some(Wish::Models)));
    type_in(&mut state, "1");
    let mut other = status(311);
    other.model.as_mut().expect("it has one").version = 4;
    assert_eq!(state.update(Happened::Status(Box::new(other)), NOW_MS), Some(Wish::Models));
}

#[test]
fn a_loss_is_told_since_when_and_is_over_when_it_is() {
    let mut state = state(1);
    state.update(Happened::Lost("Connection refused".into()), NOW_MS + 1000);
    state.update(Happened::Lost("it is silent".into()), NOW_MS + 9000);
    assert!(
        matches!(&state.connection, Connection::Lost(since, why) if *since == NOW_MS + 1000 && why == "it is silent")
    );
    state.update(Happened::Looked(Box::new(look(1))), NOW_MS + 12_000);
    assert!(matches!(state.connection, Connection::Live) && state.anomalies.len() == 1);
}
