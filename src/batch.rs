//! The batch: a reused matrix of raw feature values and what must be remembered of each row until it is settled.
//!
//! A lane owns one batch for its whole life. Clearing keeps every allocation, so that the hot path allocates nothing
//! once keys and passthrough fields have reached their usual size. A batch never holds more than `rows_max` rows.

use std::ops::Range;

use ndarray::{Array2, ArrayView2, s};

use crate::record::RecordId;

/// A stretch of the batch's byte store.
type Span = Range<u32>;

/// What is remembered of one row besides its values.
#[derive(Clone, Debug)]
pub struct Row {
    /// Where the record stands in the features topic.
    pub id: RecordId,
    /// Event time of the record, milliseconds since the Unix epoch.
    pub time_ms: i64,
    key: Option<Span>,
    passthrough: Option<Span>,
}

/// The bytes that travel with a row to the anomaly record.
#[derive(Clone, Copy, Debug, Default)]
pub struct Carried<'a> {
    /// Kafka key of the input record: the entity.
    pub key: Option<&'a [u8]>,
    /// JSON object of the configured passthrough fields.
    pub passthrough: Option<&'a [u8]>,
}

/// Up to `rows_max` decoded records: values `[rows, n_features]`, `NaN` where a value is missing.
#[derive(Debug)]
pub struct Batch {
    values: Array2<f32>,
    rows: Vec<Row>,
    bytes: Vec<u8>,
}

impl Batch {
    /// Makes an empty batch of at most `rows_max` rows of `n_features` values.
    pub fn new(rows_max: usize, n_features: usize) -> Self {
        assert!(rows_max > 0, "a batch holds at least one row");
        Self {
            values: Array2::from_elem((rows_max, n_features), f32::NAN),
            rows: Vec::with_capacity(rows_max),
            bytes: Vec::with_capacity(rows_max * 64),
        }
    }

    /// Forgets all rows and keeps the memory.
    pub fn clear(&mut self) {
        self.rows.clear();
        self.bytes.clear();
    }

    /// Number of rows.
    pub fn len(&self) -> usize {
        self.rows.len()
    }

    /// Whether no row has been added since the last clear.
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// Largest number of rows.
    pub fn rows_max(&self) -> usize {
        self.values.nrows()
    }

    /// Number of rows that still fit.
    pub fn room(&self) -> usize {
        self.values.nrows() - self.rows.len()
    }

    /// Number of raw feature values in a row.
    pub fn n_features(&self) -> usize {
        self.values.ncols()
    }

    /// The next row's values, all missing, for a decoder to fill in; [`Batch::push`] then keeps the row.
    ///
    /// Without a push the slot is simply used again. Panics when the batch is full.
    pub fn slot(&mut self) -> &mut [f32] {
        let n = self.values.ncols();
        // A row by its place: a view of it costs more than its values.
        let values = self.values.as_slice_mut().expect("a matrix of standard layout is contiguous");
        let row = &mut values[self.rows.len() * n..][..n];
        row.fill(f32::NAN);
        row
    }

    /// Keeps the row that was written to [`Batch::slot`].
    pub fn push(&mut self, id: RecordId, time_ms: i64, carried: Carried<'_>) {
        assert!(self.room() > 0, "push to a full batch");
        let key = self.store(carried.key);
        let passthrough = self.store(carried.passthrough);
        self.rows.push(Row { id, time_ms, key, passthrough });
    }

    /// The raw values, `[rows, n_features]`.
    pub fn values(&self) -> ArrayView2<'_, f32> {
        self.values.slice(s![..self.rows.len(), ..])
    }

    /// The rows in the order in which they were added.
    pub fn rows(&self) -> &[Row] {
        &self.rows
    }

    /// The bytes that travel with a row of this batch.
    pub fn carried(&self, row: &Row) -> Carried<'_> {
        Carried { key: self.bytes_of(row.key.as_ref()), passthrough: self.bytes_of(row.passthrough.as_ref()) }
    }

    fn store(&mut self, bytes: Option<&[u8]>) -> Option<Span> {
        let bytes = bytes?;
        let at = |n: usize| u32::try_from(n).expect("a batch carries less than 4 GiB of keys and passthrough fields");
        let start = at(self.bytes.len());
        self.bytes.extend_from_slice(bytes);
        Some(start..at(self.bytes.len()))
    }

    fn bytes_of(&self, span: Option<&Span>) -> Option<&[u8]> {
        span.map(|span| &self.bytes[span.start as usize..span.end as usize])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(offset: i64) -> RecordId {
        RecordId { partition: 0.into(), offset }
    }

    #[test]
    fn rows_keep_their_values_and_bytes() {
        let mut batch = Batch::new(2, 2);
        batch.slot().copy_from_slice(&[1.0, 2.0]);
        batch.push(id(7), 100, Carried { key: Some(b"pump-1"), ..Carried::default() });
        batch.slot()[0] = 3.0;
        batch.push(id(8), 101, Carried { passthrough: Some(b"{}"), ..Carried::default() });

        assert_eq!(batch.room(), 0);
        assert_eq!(batch.values()[[0, 1]], 2.0);
        assert!(batch.values()[[1, 1]].is_nan(), "a value that no decoder wrote is missing");
        assert_eq!(batch.carried(&batch.rows()[0]).key, Some(&b"pump-1"[..]));
        assert_eq!(batch.carried(&batch.rows()[1]).key, None);
        assert_eq!(batch.carried(&batch.rows()[1]).passthrough, Some(&b"{}"[..]));
    }

    #[test]
    fn a_slot_without_a_push_is_used_again() {
        let mut batch = Batch::new(4, 1);
        batch.slot()[0] = 9.0;
        assert!(batch.slot()[0].is_nan());
        assert!(batch.is_empty());
    }

    #[test]
    fn clear_forgets_rows_and_bytes() {
        let mut batch = Batch::new(1, 1);
        batch.slot()[0] = 1.0;
        batch.push(id(0), 0, Carried { key: Some(b"k"), ..Carried::default() });
        batch.clear();
        assert_eq!((batch.len(), batch.room()), (0, 1));
    }
}
