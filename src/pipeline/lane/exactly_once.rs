//! What a lane does beyond the loop when outputs and offsets are committed together.
//!
//! A transaction begins with the first message and ends every `kafka.commit_interval`, between two batches, when all that was
//! sent is acknowledged. When it fails it is aborted, and the lane takes its partitions up again from their committed
//! offsets, thresholds included, as after a rebalance. Only a producer that was fenced ends the lane.

use std::time::{Duration, Instant};

use super::{Lane, LaneError};
use crate::shutdown::Shutdown;
use crate::sink::{SinkError, TRANSACTION_TIMEOUT};
use crate::source::SourceError;

/// Shortest and longest pause between two attempts to begin, or to abort.
const PAUSE: Duration = Duration::from_millis(100);
const PAUSE_MAX: Duration = Duration::from_secs(5);
/// So many attempts to abort, or to read again, that fail, and a new start is the better way.
const ATTEMPTS_MAX: u32 = 6;

impl Lane {
    /// Makes the producer ready, as long as it takes or until the shutdown begins.
    ///
    /// Errors: it will never be.
    pub(super) fn prepare(&mut self, shutdown: &Shutdown) -> Result<(), LaneError> {
        let mut pause = PAUSE;
        while !shutdown.begun() {
            self.show_progress(Instant::now());
            match self.sink.prepare() {
                Ok(()) => return Ok(()),
                Err(SinkError::Failed(reason)) => return Err(LaneError::Sink(reason)),
                Err(SinkError::Aborted(reason)) => self.trouble(&reason, "the transactional producer can't start yet"),
                Err(SinkError::Full) => {}
            }
            shutdown.sleep(pause);
            pause = (pause * 2).min(PAUSE_MAX);
        }
        Ok(())
    }

    /// Waits until everything that was sent is acknowledged, so that it can be committed.
    ///
    /// Errors: something was not, and the transaction is to be aborted.
    pub(super) fn complete(&mut self) -> Result<(), LaneError> {
        let deadline = Instant::now() + TRANSACTION_TIMEOUT;
        while !self.settling.inflight().is_empty() {
            if Instant::now() >= deadline {
                return Err(LaneError::Aborted("outputs were not acknowledged before their transaction's end".into()));
            }
            self.show_progress(Instant::now());
            self.sink.flush(Duration::from_millis(50));
            self.settle()?;
        }
        Ok(())
    }

    /// Aborts what can't be committed, and begins again from the committed offsets.
    ///
    /// Errors: it can't even be aborted; only a new start helps.
    pub(super) fn again(&mut self, reason: &str) -> Result<(), LaneError> {
        self.trouble(&format!("a transaction failed: {reason}"), "it is aborted; its records are read again");
        let mut attempts = 0;
        while let Err(error) = self.sink.abort() {
            attempts += 1;
            if attempts >= ATTEMPTS_MAX || matches!(error, SinkError::Failed(_)) {
                return Err(LaneError::Sink(error.to_string()));
            }
            self.show_progress(Instant::now());
            self.sink.poll(PAUSE);
        }
        self.settling.inflight().forget();
        // Thresholds and incidents have seen what will be read again: they are rebuilt like those of a partition that comes.
        self.judge = None;
        attempts = 0;
        while let Err(reason) = self.source.rewind() {
            attempts += 1;
            if attempts >= ATTEMPTS_MAX {
                return Err(LaneError::Source(reason));
            }
            self.trouble(&reason, "it is tried again");
            self.show_progress(Instant::now());
            self.sink.poll(PAUSE);
        }
        Ok(())
    }

    fn trouble(&self, reason: &str, what: &str) {
        if self.shared.health.lane(self.index).set_trouble(Some(reason.to_owned())) {
            tracing::warn!(lane = self.index, reason, "{what}");
        }
    }
}

impl From<SourceError> for LaneError {
    fn from(error: SourceError) -> Self {
        match error {
            SourceError::Aborted(reason) => Self::Aborted(reason),
            SourceError::Retry(reason) | SourceError::Fatal(reason) => Self::Source(reason),
        }
    }
}
