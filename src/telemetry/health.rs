//! Health: whether the daemon makes progress, whether it is ready, and why not.
//!
//! Liveness is internal progress only, never the reachability of a broker: restarting strayd mends no broker. Ready
//! means that a model is loaded and the group is joined; an empty assignment is ready, or spare replicas would block a
//! rollout.

use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use serde::Serialize;

/// A lane that has not gone through its loop for so long is stuck, milliseconds. Longer than any wait in the loop.
pub const STUCK_AFTER_MS: i64 = 60_000;

/// What the daemon does at the moment.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(tag = "phase", rename_all = "snake_case")]
pub enum Phase {
    /// Something outside is awaited: a broker, a topic.
    Starting {
        /// What is awaited, and what to do about it.
        reason: String,
    },
    /// The first model is being made.
    Warmup {
        /// What is being done.
        reason: String,
        /// Estimated time until the first model scores, seconds.
        eta_seconds: Option<f64>,
    },
    /// Records are scored.
    Running,
    /// The daemon ends.
    Draining,
}

/// What `/readyz` answers.
#[derive(Clone, Debug, Serialize)]
pub struct Readiness {
    /// Whether records are scored.
    pub ready: bool,
    /// What the daemon does.
    #[serde(flatten)]
    pub phase: Phase,
    /// What keeps lanes from scoring, one line each.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub waiting_for: Vec<String>,
    /// What should be known and keeps nothing from being scored, one line each: a registry that can't be followed, a lane
    /// without partitions.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub notes: Vec<String>,
}

/// The state of one lane.
#[derive(Debug, Default)]
pub struct LaneHealth {
    alive: AtomicBool,
    joined: AtomicBool,
    has_none: AtomicBool,
    last_progress_ms: AtomicI64,
    trouble: Mutex<Option<String>>,
}

impl LaneHealth {
    /// Notes that the lane went through its loop at `now_ms`.
    pub fn progress(&self, now_ms: i64) {
        self.alive.store(true, Ordering::Relaxed);
        self.last_progress_ms.store(now_ms, Ordering::Relaxed);
    }

    /// When the lane last went through its loop, milliseconds since the epoch.
    pub fn last_progress_ms(&self) -> i64 {
        self.last_progress_ms.load(Ordering::Relaxed)
    }

    /// Notes that the group has given the lane its partitions, be they none.
    pub fn joined(&self) {
        self.joined.store(true, Ordering::Relaxed);
    }

    /// Whether the group has given the lane its partitions.
    pub fn has_joined(&self) -> bool {
        self.joined.load(Ordering::Relaxed)
    }

    /// Notes how many partitions the lane has.
    pub fn assigned(&self, n_partitions: i64) {
        self.has_none.store(n_partitions == 0, Ordering::Relaxed);
    }

    /// Notes that the lane's thread has ended.
    pub fn ended(&self) {
        self.alive.store(false, Ordering::Relaxed);
    }

    /// Whether the lane's thread runs.
    pub fn is_alive(&self) -> bool {
        self.alive.load(Ordering::Relaxed)
    }

    /// Notes what keeps the lane from reading, or that nothing does. Returns whether this is news.
    pub fn set_trouble(&self, trouble: Option<String>) -> bool {
        let mut known = self.trouble.lock().unwrap_or_else(PoisonError::into_inner);
        let is_news = *known != trouble;
        *known = trouble;
        is_news
    }
}

/// The daemon's health, shared by everybody who knows a part of it.
#[derive(Clone, Debug)]
pub struct Health {
    phase: Arc<Mutex<Phase>>,
    lanes: Arc<Vec<LaneHealth>>,
    registry_trouble: Arc<Mutex<Option<String>>>,
}

impl Health {
    /// Health of a daemon of `n_lanes` lanes that has just started.
    pub fn new(n_lanes: usize) -> Self {
        let reason = "the daemon starts".to_owned();
        Self {
            phase: Arc::new(Mutex::new(Phase::Starting { reason })),
            lanes: Arc::new((0..n_lanes).map(|_| LaneHealth::default()).collect()),
            registry_trouble: Arc::default(),
        }
    }

    /// Notes what keeps the registry of models from being followed or written, or that nothing does.
    pub fn set_registry_trouble(&self, trouble: Option<String>) {
        *self.registry_trouble.lock().unwrap_or_else(PoisonError::into_inner) = trouble;
    }

    /// Notes what the daemon does now. Draining is final.
    pub fn enter(&self, phase: Phase) {
        let mut current = self.phase.lock().unwrap_or_else(PoisonError::into_inner);
        if *current != Phase::Draining {
            *current = phase;
        }
    }

    /// What the daemon does now.
    pub fn phase(&self) -> Phase {
        self.phase.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The state of lane `i`.
    pub fn lane(&self, i: usize) -> &LaneHealth {
        &self.lanes[i]
    }

    /// The states of all lanes.
    pub fn lanes(&self) -> &[LaneHealth] {
        &self.lanes
    }

    /// Whether records are scored, and what keeps them from being scored.
    pub fn readiness(&self) -> Readiness {
        let phase = self.phase();
        let mut waiting_for = Vec::new();
        let registry = self.registry_trouble.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let mut notes: Vec<String> = registry.into_iter().collect();
        if phase == Phase::Running {
            for (i, lane) in self.lanes.iter().enumerate() {
                let trouble = lane.trouble.lock().unwrap_or_else(PoisonError::into_inner);
                if let Some(trouble) = &*trouble {
                    waiting_for.push(format!("lane {i}: {trouble}"));
                } else if !lane.has_joined() {
                    waiting_for.push(format!("lane {i}: joining the consumer group"));
                } else if lane.has_none.load(Ordering::Relaxed) {
                    notes.push(format!("lane {i} is idle: the group's lanes are more than the topic has partitions"));
                }
            }
        }
        Readiness { ready: phase == Phase::Running && waiting_for.is_empty(), phase, waiting_for, notes }
    }

    /// Whether every running lane makes progress; else which does not.
    ///
    /// Errors: a line for the first lane that is stuck.
    pub fn liveness(&self, now_ms: i64) -> Result<(), String> {
        for (i, lane) in self.lanes.iter().enumerate() {
            let idle_ms = now_ms - lane.last_progress_ms();
            if lane.is_alive() && idle_ms > STUCK_AFTER_MS {
                return Err(format!("lane {i} has made no progress for {} s", idle_ms / 1000));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn readiness_wants_a_model_and_every_lane_in_the_group() {
        let health = Health::new(2);
        assert!(!health.readiness().ready);
        health.enter(Phase::Running);
        health.lane(0).joined();
        assert_eq!(health.readiness().waiting_for, ["lane 1: joining the consumer group"]);
        health.lane(1).joined();
        assert!(health.readiness().ready);
        assert!(health.lane(1).set_trouble(Some("no broker answers".into())));
        assert_eq!(health.readiness().waiting_for, ["lane 1: no broker answers"]);
    }

    #[test]
    fn what_keeps_nothing_from_being_scored_is_a_note() {
        let health = Health::new(1);
        health.enter(Phase::Running);
        health.lane(0).joined();
        health.lane(0).assigned(0);
        health.set_registry_trouble(Some("the topic does not exist".into()));
        let readiness = health.readiness();
        assert!(readiness.ready && readiness.notes[0] == "the topic does not exist");
        assert!(readiness.notes[1].starts_with("lane 0 is idle"), "{readiness:?}");
        health.lane(0).assigned(1);
        health.set_registry_trouble(None);
        assert!(health.readiness().notes.is_empty());
    }

    #[test]
    fn draining_is_final() {
        let health = Health::new(0);
        health.enter(Phase::Draining);
        health.enter(Phase::Running);
        assert!(!health.readiness().ready);
    }

    #[test]
    fn a_lane_without_progress_is_not_alive_for_long() {
        let health = Health::new(1);
        assert_eq!(health.liveness(1_000_000), Ok(()), "a lane that has not started is not stuck");
        health.lane(0).progress(1_000_000);
        assert_eq!(health.liveness(1_000_000 + STUCK_AFTER_MS), Ok(()));
        assert!(health.liveness(1_000_001 + STUCK_AFTER_MS).is_err());
    }
}
