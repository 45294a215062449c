//! What a lane does with each record that it reads: decode it into the batch, pass over it, or reject it.
//!
//! Nothing here waits, except for room in the producer's buffer when a record is rejected.

use std::sync::Arc;

use super::Shared;
use super::inflight::{Reached, Settling};
use super::lane::LaneError;
use super::publish::Publisher;
use crate::batch::{Batch, Carried};
use crate::decode::{self, Decoder, Reject};
use crate::model::{Model, features};
use crate::sink::Receipt;
use crate::source::Raw;
use crate::telemetry::BatchCounts;

/// The batch under construction and everything that belongs to it.
pub struct Intake {
    decoder: Box<dyn Decoder>,
    fingerprint: String,
    /// Decoded records.
    pub batch: Batch,
    /// Where reading goes on in each partition that the batch touches.
    pub reached: Vec<Reached>,
    /// What was met.
    pub counts: BatchCounts,
    /// Acknowledgements of the batch's output.
    pub receipt: Receipt,
    failure: Option<LaneError>,
}

impl Intake {
    /// An intake for records of `model`'s schema.
    pub fn new(shared: &Shared, model: &Model) -> Self {
        Self {
            decoder: decode::build(&shared.decode, &features::fields(&model.schema)),
            fingerprint: model.schema.fingerprint(),
            batch: Batch::new(shared.pipeline.rows_max, model.n_features()),
            reached: Vec::new(),
            counts: BatchCounts::default(),
            receipt: Receipt::default(),
            failure: None,
        }
    }

    /// Whether records of this schema are what the intake decodes.
    pub fn fits(&self, model: &Arc<Model>) -> bool {
        self.fingerprint == model.schema.fingerprint()
    }

    /// Empties the batch for the next one.
    pub fn clear(&mut self) {
        self.batch.clear();
        self.reached.clear();
        self.counts = BatchCounts::default();
        self.receipt = Receipt::default();
    }

    /// Why a record could be neither kept nor rejected, once.
    pub fn take_failure(&mut self) -> Option<LaneError> {
        self.failure.take()
    }

    /// Takes one record.
    pub fn take(&mut self, raw: &Raw<'_>, settling: &Settling, publisher: &Publisher) {
        if self.failure.is_some() {
            return;
        }
        self.counts.n_consumed += 1;
        match raw.payload {
            None => self.counts.n_tombstones += 1,
            Some(payload) => {
                self.counts.n_bytes += payload.len() as u64;
                if let Err(reject) = self.keep(raw, payload) {
                    self.reject(raw, payload, &reject, publisher);
                }
            }
        }
        self.reach(raw, settling);
    }

    fn keep(&mut self, raw: &Raw<'_>, payload: &[u8]) -> Result<(), Reject> {
        let decoded = self.decoder.decode(payload, self.batch.slot())?;
        self.counts.n_unknown += u64::from(decoded.n_unknown);
        let mut traceparent = None;
        if let Some(headers) = raw.headers {
            headers.each(&mut |name, value| {
                if name == "traceparent" {
                    traceparent = value.map(<[u8]>::to_vec);
                }
            });
        }
        let carried =
            Carried { key: raw.key, traceparent: traceparent.as_deref(), passthrough: self.decoder.passthrough() };
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

    fn reach(&mut self, raw: &Raw<'_>, settling: &Settling) {
        let next = raw.id.next();
        match self.reached.iter_mut().find(|reached| reached.next.partition == next.partition) {
            Some(reached) => reached.next = next,
            None => self.reached.push(Reached { next, epoch: settling.inflight().epoch(next.partition) }),
        }
    }
}
