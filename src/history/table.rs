//! A table in memory as history: for `eval`, which lets the head advance as rows are scored, and for tests.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use super::{Bound, History, Past, Range};
use crate::record::{Partition, RecordId};

/// How many rows of the table have been scored; shared with whoever scores them.
#[derive(Clone, Debug, Default)]
pub struct Head(Arc<AtomicI64>);

impl Head {
    /// Moves the head to row `row`, counted from the beginning of the table.
    pub fn advance_to(&self, row: i64) {
        self.0.store(row, Ordering::Release);
    }
}

/// Payloads of one partition, numbered from 0.
pub struct TableHistory {
    name: String,
    payloads: Arc<Vec<Vec<u8>>>,
    head: Head,
}

impl TableHistory {
    /// A history of `payloads`, of which only those before `head` can be read.
    pub fn new(name: impl Into<String>, payloads: Arc<Vec<Vec<u8>>>, head: Head) -> Self {
        Self { name: name.into(), payloads, head }
    }
}

impl History for TableHistory {
    fn name(&self) -> String {
        self.name.clone()
    }

    fn extents(&mut self, _: Bound) -> Result<Vec<Range>, String> {
        let end = self.head.0.load(Ordering::Acquire);
        Ok(vec![Range { partition: Partition::default(), start: 0, end }])
    }

    fn read(&mut self, ranges: &[Range], take: &mut dyn FnMut(Past<'_>)) -> Result<(), String> {
        for offset in ranges.iter().flat_map(|range| range.start..range.end) {
            let payload = usize::try_from(offset).ok().and_then(|row| self.payloads.get(row));
            let payload = payload.ok_or_else(|| format!("{} has no row {offset}", self.name))?;
            take(Past {
                id: RecordId { partition: Partition::default(), offset },
                time_ms: offset,
                key: None,
                payload: Some(payload),
            });
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_rows_before_the_head_are_there() {
        let head = Head::default();
        let mut history = TableHistory::new("t", Arc::new(vec![vec![1], vec![2], vec![3]]), head.clone());
        head.advance_to(2);
        let extents = history.extents(Bound::Head).expect("a table is always there");
        let mut seen = Vec::new();
        history
            .read(&extents, &mut |past| seen.push((past.id.offset, past.payload.map(<[u8]>::to_vec))))
            .expect("read");
        assert_eq!(seen, [(0, Some(vec![1])), (1, Some(vec![2]))]);
    }
}
