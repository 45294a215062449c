//! How the trainer turns the history into rows: learns the schema, reads the planned ranges, decodes, and keeps the
//! checksums that make up the lineage.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;

use ndarray::Array2;
use sha2::{Digest, Sha256};

use super::{Trainer, TrainerError};
use crate::decode::{self, Decoder};
use crate::history::{Bound, History, Range, plan};
use crate::model::features::{self, ResolveError};
use crate::model::{Chunk, Model};
use crate::preprocess::Schema;
use crate::record::{Partition, RecordId};
use crate::train::Rows;

/// Payload bytes from which a schema is learnt at most: enough for hundreds of large records.
const SCHEMA_BYTES_MAX: usize = 64 << 20;

/// Rows to train on, and where they came from.
pub(in crate::pipeline) struct Sample {
    pub schema: Arc<Schema>,
    pub rows: Rows,
    pub chunks: Vec<Chunk>,
    /// Pace of the stream over the rows, and how long a time they span, days.
    pub pace: Pace,
}

/// How fast records come.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Pace {
    /// Records of all partitions; 0 where no time passes.
    pub records_per_day: f64,
    /// Days from the oldest to the newest row.
    pub days: f64,
}

impl Pace {
    /// The pace of rows with their times, milliseconds since the epoch: offsets over time, partition by partition.
    fn of(rows: &[(i64, RecordId, usize)]) -> Self {
        const MS_PER_DAY: f64 = 86_400_000.0;
        let mut ends: BTreeMap<Partition, [(i64, i64); 2]> = BTreeMap::new();
        for (time_ms, id, _) in rows {
            let at = (id.offset, *time_ms);
            let [first, last] = ends.entry(id.partition).or_insert([at, at]);
            (*first, *last) = ((*first).min(at), (*last).max(at));
        }
        ends.into_values().fold(Self::default(), |pace, [first, last]| {
            let (records, days) = ((last.0 - first.0) as f64, (last.1 - first.1) as f64 / MS_PER_DAY);
            let of_partition = if days > 0.0 { records / days } else { 0.0 };
            Self { records_per_day: pace.records_per_day + of_partition, days: pace.days.max(days) }
        })
    }

    /// The pace after a look at the newest rows, when it was `before`: a day of them replaces it, less moves it.
    pub(super) fn after(self, before: f64) -> f64 {
        if before > 0.0 { before + (self.records_per_day - before) * self.days.min(1.0) } else { self.records_per_day }
    }
}

/// Why there are no rows yet, and in how many seconds there may be, if that can be told.
type NotYet = (String, Option<f64>);

impl Trainer {
    /// Rows for the first model, or why there are none yet.
    pub(super) fn first_sample(&mut self) -> Result<Result<Sample, NotYet>, TrainerError> {
        let extents = match self.history.extents(Bound::Head) {
            Ok(extents) => extents,
            Err(reason) => return Ok(Err((reason, None))),
        };
        let n_there: usize = extents.iter().map(Range::len).sum();
        let rows_min = self.settings.history.rows_min;
        if n_there < rows_min {
            return Ok(Err(self.collecting(n_there, rows_min)));
        }
        let schema = match self.schema(&extents)? {
            Ok(schema) => schema,
            Err(reason) => return Ok(Err((reason, None))),
        };
        let config = self.settings.history.clone();
        let ranges = plan::first(&extents, config.rows, config.chunk_rows, self.settings.trainer.seed);
        let sample = match self.read_rows(&schema, &ranges) {
            Ok(sample) => sample,
            Err(reason) => return Ok(Err((reason, None))),
        };
        // Offsets have gaps, and records may be bad: only what can be trained on counts.
        let n_usable = sample.rows.values.nrows();
        if n_usable < rows_min && n_there < config.rows {
            return Ok(Err(self.collecting(n_usable, rows_min)));
        }
        Ok(Ok(sample))
    }

    /// The latest settled rows for a round.
    pub(super) fn recent_sample(&mut self, champion: &Model) -> Result<Sample, String> {
        let extents = self.history.extents(Bound::Settled)?;
        let ranges = plan::latest(&extents, self.settings.history.recent_rows);
        self.read_rows(&champion.schema, &ranges)
    }

    fn collecting(&mut self, n: usize, rows_min: usize) -> NotYet {
        let (since, n_first) = *self.first_seen.get_or_insert((Instant::now(), n));
        let (gained, missing) = (n.saturating_sub(n_first) as f64, rows_min.saturating_sub(n) as f64);
        let eta = (gained > 0.0).then(|| since.elapsed().as_secs_f64() / gained * missing);
        (format!("collecting: {n} of {rows_min} records (history.rows_min) are there"), eta)
    }

    /// The configured schema, with the kinds and categories that a sample of the history shows, or one learnt from it.
    fn schema(&mut self, extents: &[Range]) -> Result<Result<Arc<Schema>, String>, TrainerError> {
        let wishes = &self.settings.features;
        let sample = if features::needs_sample(wishes, self.shared.decode.format) {
            match self.schema_sample(extents) {
                Ok(sample) => sample,
                Err(reason) => return Ok(Err(reason)),
            }
        } else {
            Vec::new()
        };
        let resolved = match features::resolve(&self.settings.features, &self.shared.decode, &sample) {
            Ok(resolved) => resolved,
            Err(ResolveError::Schema(error)) => return Err(error.into()),
            Err(error) => return Ok(Err(error.to_string())),
        };
        for (field, reason) in &resolved.left_out {
            tracing::info!(field, reason, "not a feature");
        }
        for (feature, suggestion) in &resolved.suggestions {
            tracing::info!(feature, suggestion, "another kind might suit it");
        }
        let schema = resolved.schema;
        let schema = if self.settings.missing_indicator { schema.with_missing_indicator() } else { schema };
        let words: Vec<String> = schema.features().iter().map(ToString::to_string).collect();
        tracing::info!(n_records = sample.len(), features = words.join(", "), "schema settled");
        Ok(Ok(Arc::new(schema)))
    }

    /// Payloads from which a schema is learnt.
    fn schema_sample(&mut self, extents: &[Range]) -> Result<Vec<Vec<u8>>, String> {
        let config = &self.settings.history;
        let n_chunks = 10;
        let ranges =
            plan::first(extents, config.schema_rows, config.schema_rows / n_chunks, self.settings.trainer.seed);
        let (mut sample, mut n_bytes) = (Vec::new(), 0);
        self.history.read(&ranges, &mut |past| {
            let Some(payload) = past.payload.filter(|payload| n_bytes + payload.len() <= SCHEMA_BYTES_MAX) else {
                return;
            };
            n_bytes += payload.len();
            sample.push(payload.to_vec());
        })?;
        Ok(sample)
    }

    pub(super) fn read_rows(&mut self, schema: &Arc<Schema>, ranges: &[Range]) -> Result<Sample, String> {
        read_rows(&mut *self.history, &self.shared.decode, schema, ranges)
    }
}

/// Reads `ranges` of the history as rows of `schema`, in time order, with the checksum of each range.
///
/// Errors: what is wrong, in words for the user; trying again may help.
pub(in crate::pipeline) fn read_rows(
    history: &mut dyn History,
    decode: &decode::Config,
    schema: &Arc<Schema>,
    ranges: &[Range],
) -> Result<Sample, String> {
    let n_features = schema.n_features();
    let mut reading = Reading {
        decoder: decode::build(decode, &features::fields(schema)),
        values: Vec::new(),
        rows: Vec::new(),
        row: vec![f32::NAN; n_features],
    };
    let mut chunks = Vec::with_capacity(ranges.len());
    for range in ranges {
        let (mut hash, mut n_records) = (Sha256::new(), 0);
        history.read(std::slice::from_ref(range), &mut |past| {
            n_records += 1;
            if let Some(payload) = past.payload {
                hash.update(payload);
                reading.take(past.id, past.time_ms, payload);
            }
        })?;
        let sha256 = hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect();
        let Range { partition, start, end } = *range;
        chunks.push(Chunk { partition, start, end, n_records, sha256 });
    }
    let pace = Pace::of(&reading.rows);
    Ok(Sample { schema: Arc::clone(schema), rows: reading.in_time_order(n_features), chunks, pace })
}

/// Rows under construction.
struct Reading {
    decoder: Box<dyn Decoder>,
    values: Vec<f32>,
    /// Time, id and position in `values` of each row.
    rows: Vec<(i64, RecordId, usize)>,
    row: Vec<f32>,
}

impl Reading {
    /// Decodes a record; what a lane would reject is left out here, too.
    fn take(&mut self, id: RecordId, time_ms: i64, payload: &[u8]) {
        self.row.fill(f32::NAN);
        if let Ok(decoded) = self.decoder.decode(payload, &mut self.row) {
            self.rows.push((decoded.time_ms.unwrap_or(time_ms), id, self.rows.len()));
            self.values.extend_from_slice(&self.row);
        }
    }

    fn in_time_order(mut self, n_features: usize) -> Rows {
        self.rows.sort_unstable();
        let mut values = Vec::with_capacity(self.values.len());
        for &(_, _, at) in &self.rows {
            values.extend_from_slice(&self.values[at * n_features..(at + 1) * n_features]);
        }
        let values = Array2::from_shape_vec((self.rows.len(), n_features), values)
            .expect("every row has as many values as there are features");
        Rows { values, ids: self.rows.iter().map(|(_, id, _)| *id).collect() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_pace_adds_up_over_partitions_and_follows_slowly() {
        let at = |hours: i64, partition, offset| {
            (hours * 3_600_000, RecordId { partition: Partition::from(partition), offset }, 0)
        };
        let pace = Pace::of(&[at(0, 0, 100), at(6, 0, 700), at(0, 1, 0), at(12, 1, 300)]);
        assert_eq!(pace, Pace { records_per_day: 2400.0 + 600.0, days: 0.5 });
        assert_eq!(pace.after(0.0), 3000.0);
        assert_eq!(pace.after(1000.0), 2000.0);
        assert_eq!(Pace::of(&[at(3, 0, 1)]), Pace::default());
    }
}
