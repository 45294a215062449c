//! What a lane does with each record that it reads: decode it into the batch, pass over it, or reject it.
//!
//! Nothing here waits, except for room in the producer's buffer when a record is rejected.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::Shared;
use super::inflight::Settling;
use super::lane::LaneError;
use super::parked::{Parked, Waiting};
use super::partition::Resume;
use super::publish::Publisher;
use crate::batch::{Batch, Carried};
use crate::decode::{Decoder, Reject};
use crate::model::Model;
use crate::record::{NextOffset, Partition};
use crate::sink::Receipt;
use crate::source::Raw;
use crate::telemetry::BatchCounts;

/// How long small batches share a receipt, until together they are a full one: acknowledgements are waited for by receipt,
/// and one for each of a thousand records would soon be as many as may be waited for. Settling is late by no more.
const SHARED_TIME: Duration = Duration::from_millis(2);

/// Longest key of a record that is scored, bytes. A key comes again in the output, as key, as header and escaped in the record,
/// which together must stay below the megabyte that topics take: a record that can't be written would come again for ever.
const KEY_BYTES_MAX: usize = 64 << 10;

/// A partition that the batch touches.
#[derive(Clone, Copy, Debug)]
pub struct Touched {
    /// Which.
    pub partition: Partition,
    /// Epoch of its assignment.
    pub epoch: u64,
    /// Where it was taken up, if at a committed offset.
    pub resume: Option<Resume>,
    /// Where reading goes on; none while everything was settled before.
    pub next: Option<NextOffset>,
}

/// The batch under construction and everything that belongs to it.
pub struct Intake {
    decoder: Box<dyn Decoder>,
    fingerprint: String,
    /// Decoded records.
    pub batch: Batch,
    /// The partitions that the batch touches.
    pub touched: Vec<Touched>,
    generation: u64,
    /// What was met.
    pub counts: BatchCounts,
    /// Acknowledgements of the batch's output.
    pub receipt: Receipt,
    /// Rows of the batches before that share the receipt, and when the first of them began.
    n_shared: usize,
    shared_since: Instant,
    /// Records that wait for a schema, and those that were read after them.
    waiting: Waiting,
    /// Those of the batch that had waited.
    pub waited: Vec<Parked>,
    failure: Option<LaneError>,
}

impl Intake {
    /// An intake for records of `model`'s schema.
    pub fn new(shared: &Shared, model: &Model) -> Self {
        Self {
            decoder: shared.decoder(model),
            fingerprint: model.schema.fingerprint(),
            batch: Batch::new(shared.pipeline.rows_max, model.n_features()),
            touched: Vec::new(),
            generation: 0,
            counts: BatchCounts::default(),
            receipt: Receipt::default(),
            n_shared: 0,
            shared_since: Instant::now(),
            waiting: Waiting::new(),
            waited: Vec::new(),
            failure: None,
        }
    }

    /// Whether records of this schema are what the intake decodes.
    pub fn fits(&self, model: &Arc<Model>) -> bool {
        self.fingerprint == model.schema.fingerprint()
    }

    /// Empties the batch for the next one, which begins `now`.
    pub fn clear(&mut self, now: Instant) {
        self.n_shared += self.batch.len();
        let is_full = self.n_shared + self.batch.len() >= self.batch.rows_max();
        if is_full || now.duration_since(self.shared_since) >= SHARED_TIME {
            self.receipt.renew();
            (self.n_shared, self.shared_since) = (0, now);
        }
        self.batch.clear();
        self.waited.clear();
        self.touched.clear();
        self.counts = BatchCounts::default();
    }

    /// Why a record could be neither kept nor rejected, once.
    pub fn take_failure(&mut self) -> Option<LaneError> {
        self.failure.take()
    }

    /// Decodes records of `model`'s schema from now on; what waits goes on waiting.
    pub fn renew(&mut self, shared: &Shared, model: &Model) {
        let waiting = std::mem::take(&mut self.waiting);
        *self = Self { waiting, ..Self::new(shared, model) };
    }

    /// How many records wait for a schema, and those that were read after them.
    pub fn n_waiting(&self) -> usize {
        self.waiting.len()
    }

    /// Takes the records that wait, until one of them still has to. Returns how many were taken.
    pub fn take_waiting(&mut self, settling: &Settling, publisher: &Publisher) -> usize {
        let mut n = 0;
        while let Some(parked) = self.waiting.pop_front() {
            let raw = parked.raw();
            let (at, epoch) = self.touch(&raw, settling);
            if epoch == parked.epoch && !self.try_take(&raw, at, publisher) {
                self.waiting.push_front(parked);
                break;
            }
            self.waited.push(parked);
            n += 1;
            if self.failure.is_some() {
                break;
            }
        }
        n
    }

    /// Takes one record.
    pub fn take(&mut self, raw: &Raw<'_>, settling: &Settling, publisher: &Publisher) {
        if self.failure.is_some() {
            return;
        }
        let (at, epoch) = self.touch(raw, settling);
        if !self.waiting.is_empty() || !self.try_take(raw, at, publisher) {
            self.waiting.push_back(Parked::new(raw, epoch));
        }
    }

    /// Takes one record of `touched[at]`, unless it has to wait for its schema.
    fn try_take(&mut self, raw: &Raw<'_>, at: usize, publisher: &Publisher) -> bool {
        if self.touched[at].resume.is_some_and(|resume| raw.id.offset < resume.live_from) {
            return self.rewind(raw);
        }
        let kept = raw.payload.map(|payload| (payload, self.keep(raw, payload)));
        if matches!(kept, Some((_, Err(Reject::NeedSchema(_))))) {
            return false;
        }
        self.touched[at].next = Some(raw.id.next());
        self.counts.n_consumed += 1;
        match kept {
            None => self.counts.n_tombstones += 1,
            Some((payload, kept)) => {
                self.counts.n_bytes += payload.len() as u64;
                if let Err(reject) = kept {
                    self.reject(raw, payload, &reject, publisher);
                }
            }
        }
        true
    }

    /// Takes a record again that was settled before: its score is wanted, and nothing else. Returns false where it has to
    /// wait for its schema.
    fn rewind(&mut self, raw: &Raw<'_>) -> bool {
        if let Some(payload) = raw.payload.filter(|_| check_key(raw).is_ok()) {
            match self.decoder.decode(payload, self.batch.slot()) {
                Ok(decoded) => {
                    let carried = Carried { key: raw.key, passthrough: None };
                    self.batch.push(raw.id, decoded.time_ms.unwrap_or(raw.time_ms), carried);
                }
                Err(Reject::NeedSchema(_)) => return false,
                Err(_) => {}
            }
        }
        self.counts.n_rewound += 1;
        true
    }

    fn keep(&mut self, raw: &Raw<'_>, payload: &[u8]) -> Result<(), Reject> {
        check_key(raw)?;
        let decoded = self.decoder.decode(payload, self.batch.slot())?;
        self.counts.n_unknown += u64::from(decoded.n_unknown);
        let carried = Carried { key: raw.key, passthrough: self.decoder.passthrough() };
        self.batch.push(raw.id, decoded.time_ms.unwrap_or(raw.time_ms), carried);
        Ok(())
    }

    fn reject(&mut self, raw: &Raw<'_>, payload: &[u8], reject: &Reject, publisher: &Publisher) {
        let reason = reject.reason();
        let at = Reject::REASONS.iter().position(|known| *known == reason);
        self.counts.n_rejected[at.expect("every reason is in the list")] += 1;
        if let Err(error) = publisher.dead_letter(raw, payload, reject, &self.receipt) {
            self.failure = Some(error);
        }
    }

    /// Where in `touched` the record's partition is, and the epoch of its assignment.
    fn touch(&mut self, raw: &Raw<'_>, settling: &Settling) -> (usize, u64) {
        let (partition, generation) = (raw.id.partition, settling.generation());
        if self.generation != generation {
            // What was reached in earlier epochs will never be settled.
            self.generation = generation;
            self.touched.retain(|touched| settling.inflight().epoch(touched.partition) == touched.epoch);
        }
        // Records of a partition come in runs, so the last one is looked at first.
        let at = self.touched.iter().rposition(|touched| touched.partition == partition).unwrap_or_else(|| {
            let (epoch, resume) = settling.assignment(partition);
            self.touched.push(Touched { partition, epoch, resume, next: None });
            self.touched.len() - 1
        });
        (at, self.touched[at].epoch)
    }
}

/// Refuses a key that no output has room for.
fn check_key(raw: &Raw<'_>) -> Result<(), Reject> {
    match raw.key.map_or(0, <[u8]>::len) {
        n if n > KEY_BYTES_MAX => {
            Err(Reject::Malformed(format!("the key has {n} bytes, at most {KEY_BYTES_MAX} are taken")))
        }
        _ => Ok(()),
    }
}
