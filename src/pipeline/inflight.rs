//! Batches that are not settled yet, and the offsets that wait for their receipts.
//!
//! Offsets are settled in the order in which batches were read, and only when every delivery of a batch is
//! acknowledged. Each offset remembers the epoch of its partition: a revoke raises it, so that what was read before
//! the partition left can't be settled after it has come back.

use std::collections::{HashMap, VecDeque};
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::record::NextOffset;
use crate::sink::{Receipt, Sink};
use crate::source::Assignment;

/// The next offset of a partition, as of one epoch of its assignment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reached {
    /// Where reading goes on.
    pub next: NextOffset,
    /// Epoch of the partition when the records were read.
    pub epoch: u64,
}

/// A batch whose deliveries are under way.
#[derive(Debug)]
struct Entry {
    reached: Vec<Reached>,
    receipt: Receipt,
    newest_time_ms: i64,
}

/// What can be settled now.
#[derive(Debug, Default)]
pub struct Settled {
    /// Offsets to store.
    pub offsets: Vec<NextOffset>,
    /// Event time of the newest record of each settled batch that had output, milliseconds since the epoch.
    pub times_ms: Vec<i64>,
}

/// Unsettled batches, oldest first.
#[derive(Debug, Default)]
pub struct Inflight {
    entries: VecDeque<Entry>,
    epochs: HashMap<i32, u64>,
}

impl Inflight {
    /// The present epoch of a partition.
    pub fn epoch(&self, partition: i32) -> u64 {
        self.epochs.get(&partition).copied().unwrap_or(0)
    }

    /// Number of unsettled batches.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether everything is settled.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Adds a batch. Partitions that have left since it was read are dropped from it.
    pub fn push(&mut self, mut reached: Vec<Reached>, receipt: Receipt, newest_time_ms: i64) {
        reached.retain(|reached| self.epoch(reached.next.partition) == reached.epoch);
        self.entries.push_back(Entry { reached, receipt, newest_time_ms });
    }

    /// Takes the batches at the front whose deliveries are all acknowledged.
    ///
    /// Errors: why a delivery failed; its batch stays where it is and nothing behind it is ever settled.
    pub fn settle(&mut self) -> Result<Settled, String> {
        let mut settled = Settled::default();
        while let Some(head) = self.entries.front() {
            if let Some(failure) = head.receipt.failure() {
                return Err(failure.to_owned());
            }
            if !head.receipt.is_complete() {
                break;
            }
            let head = self.entries.pop_front().expect("there is a front");
            settled.times_ms.push(head.newest_time_ms);
            settled.offsets.extend(head.reached.iter().map(|reached| reached.next));
        }
        keep_last(&mut settled.offsets);
        Ok(settled)
    }

    /// Raises the epoch of partitions that leave and drops their offsets from every batch.
    pub fn revoke(&mut self, partitions: &[i32]) {
        for &partition in partitions {
            *self.epochs.entry(partition).or_default() += 1;
        }
        for entry in &mut self.entries {
            entry.reached.retain(|reached| !partitions.contains(&reached.next.partition));
        }
    }

    fn waits_for(&self, partitions: &[i32]) -> bool {
        self.entries.iter().any(|e| e.reached.iter().any(|reached| partitions.contains(&reached.next.partition)))
    }
}

/// Keeps the last offset of each partition.
fn keep_last(offsets: &mut Vec<NextOffset>) {
    let mut last: HashMap<i32, i64> = HashMap::with_capacity(offsets.len());
    for next in offsets.iter() {
        last.insert(next.partition, next.offset);
    }
    offsets.clear();
    offsets.extend(last.into_iter().map(|(partition, offset)| NextOffset { partition, offset }));
    offsets.sort_unstable_by_key(|next| next.partition);
}

/// A lane's unsettled batches together with the sink that acknowledges them; answers to rebalances.
pub struct Settling {
    inflight: Mutex<Inflight>,
    sink: Arc<dyn Sink>,
    drain_timeout: Duration,
    n_assigned: AtomicI64,
    n_rebalances: AtomicU64,
    joined: AtomicBool,
}

impl Settling {
    /// Settling through `sink`; a revoke waits at most `drain_timeout` for deliveries.
    pub fn new(sink: Arc<dyn Sink>, drain_timeout: Duration) -> Self {
        Self {
            inflight: Mutex::default(),
            sink,
            drain_timeout,
            n_assigned: AtomicI64::new(0),
            n_rebalances: AtomicU64::new(0),
            joined: AtomicBool::new(false),
        }
    }

    /// The unsettled batches. Only the lane's own thread asks, so the lock is never contended.
    pub fn inflight(&self) -> MutexGuard<'_, Inflight> {
        self.inflight.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Number of partitions assigned now.
    pub fn n_assigned(&self) -> i64 {
        self.n_assigned.load(Ordering::Relaxed)
    }

    /// Rebalances since the last call.
    pub fn take_rebalances(&self) -> u64 {
        self.n_rebalances.swap(0, Ordering::Relaxed)
    }

    /// Whether the group has given an assignment, be it empty.
    pub fn joined(&self) -> bool {
        self.joined.load(Ordering::Relaxed)
    }
}

impl Assignment for Settling {
    fn assigned(&self, partitions: &[i32]) {
        self.n_assigned.fetch_add(i64::try_from(partitions.len()).unwrap_or(0), Ordering::Relaxed);
        self.n_rebalances.fetch_add(1, Ordering::Relaxed);
        self.joined.store(true, Ordering::Relaxed);
    }

    fn revoked(&self, partitions: &[i32], lost: bool) -> Vec<NextOffset> {
        self.n_assigned.fetch_sub(i64::try_from(partitions.len()).unwrap_or(0), Ordering::Relaxed);
        self.n_rebalances.fetch_add(1, Ordering::Relaxed);
        let mut offsets = Vec::new();
        let deadline = Instant::now() + self.drain_timeout;
        loop {
            let mut inflight = self.inflight();
            match inflight.settle() {
                Ok(settled) => offsets.extend(settled.offsets),
                // The lane finds the failure too, right after this call, and stops.
                Err(_) => break,
            }
            if lost || !inflight.waits_for(partitions) || Instant::now() >= deadline {
                break;
            }
            drop(inflight);
            self.sink.poll(Duration::from_millis(10));
        }
        keep_last(&mut offsets);
        self.inflight().revoke(partitions);
        if lost { Vec::new() } else { offsets }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sink::MemorySink;

    fn reached(partition: i32, offset: i64, epoch: u64) -> Reached {
        Reached { next: NextOffset { partition, offset }, epoch }
    }

    fn pending() -> Receipt {
        let receipt = Receipt::default();
        receipt.expect();
        receipt
    }

    fn offsets(settled: &Settled) -> Vec<(i32, i64)> {
        settled.offsets.iter().map(|next| (next.partition, next.offset)).collect()
    }

    #[test]
    fn offsets_wait_for_every_delivery_of_their_batch_and_of_those_before() {
        let mut inflight = Inflight::default();
        let (first, second) = (pending(), pending());
        inflight.push(vec![reached(0, 10, 0)], first.clone(), 0);
        inflight.push(vec![reached(0, 20, 0), reached(1, 5, 0)], second.clone(), 0);
        second.acknowledge();
        assert!(inflight.settle().expect("no failure").offsets.is_empty(), "the older batch is still under way");
        first.acknowledge();
        assert_eq!(offsets(&inflight.settle().expect("no failure")), [(0, 20), (1, 5)]);
        assert!(inflight.is_empty());
    }

    #[test]
    fn a_failed_delivery_settles_nothing_from_there_on() {
        let mut inflight = Inflight::default();
        let failing = pending();
        inflight.push(vec![reached(0, 10, 0)], failing.clone(), 0);
        inflight.push(vec![reached(0, 20, 0)], Receipt::default(), 0);
        failing.fail("topic `anomalies`: expired".into());
        assert_eq!(inflight.settle().expect_err("failed"), "topic `anomalies`: expired");
        assert_eq!(inflight.len(), 2);
    }

    #[test]
    fn revoked_partition_is_not_stored_and_kept_partitions_are() {
        let mut inflight = Inflight::default();
        let receipt = pending();
        inflight.push(vec![reached(0, 10, 0), reached(1, 7, 0)], receipt.clone(), 0);
        inflight.revoke(&[0]);
        receipt.acknowledge();
        assert_eq!(offsets(&inflight.settle().expect("no failure")), [(1, 7)]);
    }

    #[test]
    fn records_read_before_a_revoke_are_not_settled_after_the_partition_came_back() {
        let mut inflight = Inflight::default();
        let epoch = inflight.epoch(0);
        inflight.revoke(&[0]);
        inflight.push(vec![reached(0, 10, epoch)], Receipt::default(), 0);
        assert!(inflight.settle().expect("no failure").offsets.is_empty());
        inflight.push(vec![reached(0, 11, inflight.epoch(0))], Receipt::default(), 0);
        assert_eq!(offsets(&inflight.settle().expect("no failure")), [(0, 11)]);
    }

    #[test]
    fn a_revoke_stores_what_is_acknowledged_and_waits_no_longer_than_its_deadline() {
        let settling = Settling::new(Arc::new(MemorySink::withholding()), Duration::from_millis(20));
        let late = pending();
        settling.inflight().push(vec![reached(0, 10, 0)], Receipt::default(), 0);
        settling.inflight().push(vec![reached(0, 20, 0)], late, 0);
        assert_eq!(settling.revoked(&[0], false), [NextOffset { partition: 0, offset: 10 }]);
        assert_eq!(settling.inflight().epoch(0), 1);
    }

    #[test]
    fn a_lost_partition_stores_nothing() {
        let settling = Settling::new(Arc::new(MemorySink::default()), Duration::from_secs(60));
        settling.inflight().push(vec![reached(0, 10, 0)], Receipt::default(), 0);
        assert!(settling.revoked(&[0], true).is_empty());
    }
}
