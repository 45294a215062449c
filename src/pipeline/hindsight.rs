//! What a lane makes of one record of the past, and why.
//!
//! The records before it are judged silently, as a lane does with a partition that comes, so that the threshold is what
//! it was then; only what a rewind can't restore is not. It publishes nothing.

use super::Shared;
use crate::batch::{Batch, Carried};
use crate::decode::Decoder;
use crate::history::{Bound, History, Range};
use crate::model::{Model, Workspace};
use crate::record::RecordId;
use crate::sink::anomaly::Score;
use crate::threshold::{Severity, Threshold, Verdict};
use crate::train::may_have_learnt;

/// Rows that are scored at a time.
const CHUNK: usize = 256;

/// What becomes of a record under a model.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It has no payload.
    Tombstone,
    /// It can't be decoded, for this reason.
    Rejected(String),
    /// Too few of its features are observed.
    Insufficient,
    /// It is scored, and anomalous or not.
    Scored,
}

/// One record of the past under a model.
#[derive(Debug)]
pub struct Hindsight {
    /// What becomes of it.
    pub outcome: Outcome,
    /// Event time, milliseconds since the epoch.
    pub time_ms: i64,
    /// The record alone, where it can be decoded.
    pub batch: Batch,
    /// Score and verdict, where it is scored.
    pub judged: Option<(Score, Verdict)>,
    /// Records before it that were judged silently.
    pub n_rewound: usize,
}

/// Looks at record `id` with `model`, whose threshold judges up to `rewind` records before it first. `None`: there is no
/// such record any more.
///
/// Errors: the history can't be read.
pub fn look_back(
    shared: &Shared,
    model: &Model,
    history: &mut dyn History,
    id: RecordId,
    rewind: usize,
) -> Result<Option<Hindsight>, String> {
    let extents = history.extents(Bound::Head)?;
    let first = extents.iter().find(|extent| extent.partition == id.partition).map_or(id.offset, |kept| kept.start);
    let rewind = i64::try_from(rewind).unwrap_or(i64::MAX);
    let before = Range { partition: id.partition, start: id.offset.saturating_sub(rewind).max(first), end: id.offset };
    let mut rewound = Rewound::new(shared, model);
    if !before.is_empty() {
        history.read(&[before], &mut |past| rewound.take(past.id, past.payload))?;
    }
    rewound.flush();
    let mut found = None;
    let range = Range { partition: id.partition, start: id.offset, end: id.offset + 1 };
    history.read(&[range], &mut |past| found = Some((past.payload.map(<[u8]>::to_vec), past.time_ms)))?;
    Ok(found.map(|(payload, time_ms)| rewound.judge(shared, id, payload.as_deref(), time_ms)))
}

/// A threshold that judges what came before.
struct Rewound<'a> {
    model: &'a Model,
    decoder: Box<dyn Decoder>,
    threshold: Box<dyn Threshold>,
    batch: Batch,
    workspace: Workspace,
    n: usize,
}

impl<'a> Rewound<'a> {
    fn new(shared: &Shared, model: &'a Model) -> Self {
        Self {
            model,
            decoder: shared.decoder(model),
            threshold: shared.threshold_of(model),
            batch: Batch::new(CHUNK, model.n_features()),
            workspace: Workspace::new(),
            n: 0,
        }
    }

    /// Takes a record before the one that is asked for.
    fn take(&mut self, id: RecordId, payload: Option<&[u8]>) {
        let Some(payload) = payload else { return };
        if self.decoder.decode(payload, self.batch.slot()).is_ok() {
            self.batch.push(id, 0, Carried::default());
        }
        if self.batch.room() == 0 {
            self.flush();
        }
    }

    /// Judges what was taken, silently.
    fn flush(&mut self) {
        if self.batch.is_empty() {
            return;
        }
        self.model.score(self.batch.values(), &mut self.workspace);
        for (row, &z) in self.batch.rows().iter().zip(self.workspace.z()).filter(|(_, z)| !z.is_nan()) {
            if !may_have_learnt(self.model, row.id) || z > self.threshold.z_at_alert() {
                self.threshold.judge(z);
            }
            self.n += 1;
        }
        self.batch.clear();
    }

    /// Judges the record that is asked for.
    fn judge(mut self, shared: &Shared, id: RecordId, payload: Option<&[u8]>, time_ms: i64) -> Hindsight {
        let mut batch = Batch::new(1, self.model.n_features());
        let hindsight =
            |outcome, time_ms, batch, judged| Hindsight { outcome, time_ms, batch, judged, n_rewound: self.n };
        let Some(payload) = payload else { return hindsight(Outcome::Tombstone, time_ms, batch, None) };
        let time_ms = match self.decoder.decode(payload, batch.slot()) {
            Ok(decoded) => decoded.time_ms.unwrap_or(time_ms),
            Err(reject) => return hindsight(Outcome::Rejected(reject.to_string()), time_ms, batch, None),
        };
        let carried = Carried { passthrough: self.decoder.passthrough(), ..Carried::default() };
        batch.push(id, time_ms, carried);
        self.model.score(batch.values(), &mut self.workspace);
        let (raw, z) = (self.workspace.raw()[0], self.workspace.z()[0]);
        if z.is_nan() {
            return hindsight(Outcome::Insufficient, time_ms, batch, None);
        }
        let verdict = self.threshold.judge(z);
        let limit = self.model.calibration.raw(verdict.z_at_alert);
        let target = shared.target(self.model);
        let severity = verdict.anomalous.then(|| Severity::of(verdict.p_value, target));
        let score = Score::new(raw, limit, z, &verdict, severity);
        hindsight(Outcome::Scored, time_ms, batch, Some((score, verdict)))
    }
}
