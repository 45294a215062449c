//! A source over records in memory: for evaluating a table, and for tests.
//!
//! Records are handed over in order; what was settled can be asked for afterwards.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use super::{Headers, Polled, Position, Raw, Source, SourceError};
use crate::record::{Partition, RecordId};

/// One record in memory.
#[derive(Clone, Debug, Default)]
pub struct Stored {
    /// Partition it stands in; its offset is its place among the records of that partition.
    pub partition: Partition,
    /// Timestamp, milliseconds since the epoch.
    pub time_ms: i64,
    /// Key.
    pub key: Option<Vec<u8>>,
    /// Payload; none is a tombstone.
    pub payload: Option<Vec<u8>>,
    /// Headers.
    pub headers: Vec<(String, Vec<u8>)>,
}

impl Headers for Vec<(String, Vec<u8>)> {
    fn each(&self, visit: &mut dyn FnMut(&str, Option<&[u8]>)) {
        for (name, value) in self {
            visit(name, Some(value));
        }
    }
}

/// A source over records in memory.
pub struct MemorySource {
    records: std::vec::IntoIter<(i64, Stored)>,
    /// What the last poll handed over.
    latest: Vec<(i64, Stored)>,
    settled: Arc<Mutex<Vec<Position>>>,
}

impl MemorySource {
    /// Makes a source of `records`.
    pub fn new(records: Vec<Stored>) -> Self {
        let mut next = std::collections::HashMap::<Partition, i64>::new();
        let numbered: Vec<_> = records
            .into_iter()
            .map(|record| {
                let offset = next.entry(record.partition).or_default();
                *offset += 1;
                (*offset - 1, record)
            })
            .collect();
        Self { records: numbered.into_iter(), latest: Vec::new(), settled: Arc::default() }
    }

    /// Moves every offset up by `offset`, as if older records had been removed.
    pub fn starting_at(self, offset: i64) -> Self {
        let Self { records, latest, settled } = self;
        let moved: Vec<_> = records.map(|(at, record)| (at + offset, record)).collect();
        Self { records: moved.into_iter(), latest, settled }
    }

    /// A handle on the offsets settled so far, in the order in which they were settled.
    pub fn settled(&self) -> Arc<Mutex<Vec<Position>>> {
        Arc::clone(&self.settled)
    }
}

impl Source for MemorySource {
    fn poll(&mut self, max: usize, _: Duration, take: &mut dyn FnMut(Raw<'_>)) -> Result<Polled, SourceError> {
        self.latest.clear();
        self.latest.extend(self.records.by_ref().take(max));
        for (offset, record) in &self.latest {
            take(Raw {
                id: RecordId { partition: record.partition, offset: *offset },
                time_ms: record.time_ms,
                key: record.key.as_deref(),
                payload: record.payload.as_deref(),
                headers: (!record.headers.is_empty()).then_some(&record.headers as &dyn Headers),
            });
        }
        Ok(if self.latest.is_empty() { Polled::End } else { Polled::Records(self.latest.len()) })
    }

    fn headers(&self, id: RecordId, visit: &mut dyn FnMut(&str, Option<&[u8]>)) {
        let is_it = |(offset, record): &&(i64, Stored)| (*offset, record.partition) == (id.offset, id.partition);
        if let Some((_, record)) = self.latest.iter().find(is_it) {
            record.headers.each(visit);
        }
    }

    fn store(&mut self, positions: &[Position]) -> Result<usize, SourceError> {
        self.settled.lock().unwrap_or_else(PoisonError::into_inner).extend_from_slice(positions);
        Ok(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn offsets_count_up_in_each_partition() {
        let record = |partition: i32| Stored { partition: partition.into(), ..Stored::default() };
        let mut source = MemorySource::new(vec![record(0), record(1), record(0)]);
        let mut seen = Vec::new();
        let polled = source.poll(10, Duration::ZERO, &mut |raw| seen.push((raw.id.partition.number, raw.id.offset)));
        assert_eq!(polled, Ok(Polled::Records(3)));
        assert_eq!(seen, [(0, 0), (1, 0), (0, 1)]);
        assert_eq!(source.poll(10, Duration::ZERO, &mut |_| ()), Ok(Polled::End));
    }
}
