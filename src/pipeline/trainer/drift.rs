//! The trainer's look at the stream: has it left what the model that scores was calibrated on?
//!
//! The lanes do nothing for it: now and then the newest settled records are read again from the history and scored by
//! the champion. What is found waits here until the schedule takes it. It decides nothing (`train::drift` does).

use std::collections::BTreeMap;
use std::time::Instant;

use super::Trainer;
use crate::history::{Bound, Range, plan};
use crate::model::Model;
use crate::record::Partition;
use crate::train::drift::{Class, Drift};
use crate::train::{Limits, Reason, Signs, Trigger};

/// Newest records that one look reads at most: as many as are compared with the reference.
const ROWS_MAX: usize = 5000;
/// Scored records between two looks at least, so that a replay looks by records and not by time.
const RECORDS: u64 = 256;

/// What the trainer knows of the stream.
#[derive(Default)]
pub(super) struct Outlook {
    /// The monitor of this version's stream.
    monitor: Option<(u64, Drift)>,
    /// First offset of each partition that was not looked at.
    next: BTreeMap<Partition, i64>,
    looked: Option<Instant>,
    /// Records scored before the last look.
    n_scored: u64,
    /// Shifts that thresholds had seen before the last round.
    n_shifts: u64,
    /// What has been found since the last round.
    found: Class,
    /// The last round for drift or shift.
    last: Option<Instant>,
    requested: bool,
    trouble: String,
}

impl Trainer {
    /// Looks at the newest settled records, when it is time to.
    pub(super) fn look_out(&mut self, champion: &Model) {
        let waited = self.outlook.looked.is_none_or(|at| at.elapsed() >= self.settings.trainer.drift_interval);
        let is_known = self.outlook.monitor.as_ref().is_some_and(|(version, _)| *version == champion.version);
        if is_known && (!waited || self.n_seen - self.outlook.n_scored < RECORDS) {
            return;
        }
        let looked = self.look(champion, is_known);
        self.outlook.n_scored = self.n_seen;
        self.outlook.looked = Some(Instant::now());
        let trouble = looked.err().unwrap_or_default();
        if trouble != self.outlook.trouble && !trouble.is_empty() {
            tracing::warn!(reason = trouble, "drift can't be looked for; it is tried again");
        }
        self.outlook.trouble = trouble;
    }

    fn look(&mut self, champion: &Model, is_known: bool) -> Result<(), String> {
        let extents = self.history.extents(Bound::Settled)?;
        if !is_known {
            // What a model was trained on it reconstructs too well: its stream begins now.
            self.outlook.next = extents.iter().map(|extent| (extent.partition, extent.end)).collect();
            self.outlook.monitor = Some((champion.version, Drift::new(champion)));
            self.shared.metrics.drift_statistic.set(0.0);
            return Ok(());
        }
        let unseen = extents.into_iter().map(|extent| {
            let next = self.outlook.next.get(&extent.partition).copied().unwrap_or(extent.start);
            Range { start: next.clamp(extent.start, extent.end), ..extent }
        });
        let unseen: Vec<Range> = unseen.collect();
        let sample = self.read_rows(&champion.schema, &plan::latest(&unseen, ROWS_MAX))?;
        self.outlook.next.extend(unseen.iter().map(|range| (range.partition, range.end)));
        let Some((_, drift)) = &mut self.outlook.monitor else { return Ok(()) };
        drift.observe(champion, &sample.rows);
        let finding = drift.look(champion);
        self.shared.metrics.drift_statistic.set(finding.statistic);
        if finding.class != Class::None {
            self.outlook.found = finding.class;
            self.shared.metrics.drifts_total.inc();
            tracing::info!(version = champion.version, ?finding, "the stream has drifted");
        }
        Ok(())
    }

    /// The round that is due, if one is.
    pub(super) fn due(&mut self) -> Option<Trigger> {
        self.outlook.requested |= self.shared.requests.take();
        let trainer = &self.settings.trainer;
        if !trainer.enabled && !self.outlook.requested {
            return None;
        }
        let signs = Signs {
            since_round: self.last_round.elapsed(),
            since_drift: self.outlook.last.map(|at| at.elapsed()),
            drift: self.outlook.found,
            shifted: self.shared.n_shifts() > self.outlook.n_shifts,
            requested: self.outlook.requested,
        };
        let limits =
            Limits { interval: trainer.retrain_interval, gap: trainer.retrain_gap, drift_gap: trainer.drift_gap };
        self.schedule.due(&signs, &limits)
    }

    /// Notes that a round has been run, whatever it ended with.
    pub(super) fn ran(&mut self, trigger: Trigger) {
        self.schedule.done();
        self.last_round = Instant::now();
        let outlook = &mut self.outlook;
        (outlook.requested, outlook.found, outlook.n_shifts) = (false, Class::None, self.shared.n_shifts());
        if matches!(trigger.reason, Reason::Drift | Reason::Shift) || trigger.class != Class::None {
            outlook.last = Some(self.last_round);
        }
    }
}
