//! Batches that are not settled yet, and the offsets that wait for their receipts.
//!
//! Offsets are settled in the order in which batches were read, and only when every delivery of a batch is
//! acknowledged. Each offset remembers the epoch of its partition: a revoke raises it, so that what was read before
//! the partition left can't be settled after it has come back. A batch that has nothing to wait for itself, or that
//! shares the receipt of the one before, waits with that one: a lane that reads one record at a time isn't held up by it.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::partition::{Note, Resume};
use crate::record::{NextOffset, Partition};
use crate::sink::{Receipt, Sink};
use crate::source::{Assigned, Assignment, Position};

/// The next offset of a partition, as of one epoch of its assignment.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Reached {
    /// Where reading goes on.
    pub next: NextOffset,
    /// What is to be committed with it.
    pub note: Note,
    /// Epoch of the partition when the records were read.
    pub epoch: u64,
}

/// Batches whose deliveries are under way.
#[derive(Debug)]
struct Entry {
    reached: Vec<Reached>,
    receipt: Receipt,
    newest_time_ms: i64,
}

/// Unsettled batches, oldest first, and what is settled and not yet stored.
#[derive(Debug, Default)]
pub struct Inflight {
    entries: VecDeque<Entry>,
    epochs: HashMap<Partition, u64>,
    /// The last settled offset of each partition that has one.
    settled: Vec<Reached>,
    /// Room of entries that are gone.
    spare: Vec<Vec<Reached>>,
}

impl Inflight {
    /// The present epoch of a partition.
    pub fn epoch(&self, partition: Partition) -> u64 {
        self.epochs.get(&partition).copied().unwrap_or(0)
    }

    /// Number of receipts that batches wait for.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether everything is settled.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Adds a batch. Partitions that have left since it was read are dropped from it.
    pub fn push(&mut self, reached: impl Iterator<Item = Reached>, receipt: &Receipt, newest_time_ms: i64) {
        let waits_with = |tail: &Entry| tail.receipt.is_same(receipt) || receipt.is_settled();
        if !self.entries.back().is_some_and(waits_with) {
            let reached = self.spare.pop().unwrap_or_default();
            self.entries.push_back(Entry { reached, receipt: receipt.clone(), newest_time_ms });
        }
        let Self { entries, epochs, .. } = self;
        let tail = entries.back_mut().expect("one has been added if there was none");
        tail.newest_time_ms = newest_time_ms;
        let is_kept = |of: &Reached| epochs.get(&of.next.partition).copied().unwrap_or(0) == of.epoch;
        reached.filter(is_kept).for_each(|reached| advance(&mut tail.reached, reached));
    }

    /// Settles the batches at the front whose deliveries are all acknowledged; `settled` is told the event time of the
    /// newest record behind each receipt, milliseconds since the epoch.
    ///
    /// Errors: why a delivery failed; its batch stays where it is and nothing behind it is ever settled.
    pub fn settle(&mut self, mut settled: impl FnMut(i64)) -> Result<(), String> {
        while let Some(head) = self.entries.front() {
            if let Some(failure) = head.receipt.failure() {
                return Err(failure.to_owned());
            }
            if !head.receipt.is_complete() {
                break;
            }
            let Entry { mut reached, newest_time_ms, .. } = self.entries.pop_front().expect("there is a front");
            settled(newest_time_ms);
            reached.drain(..).for_each(|reached| advance(&mut self.settled, reached));
            self.spare.push(reached);
        }
        Ok(())
    }

    /// Hands over what is settled and not yet stored, in the room that `positions` has.
    pub fn take_settled<'a>(&mut self, positions: &'a mut Vec<Position>) -> &'a [Position] {
        let n = self.settled.len();
        let empty =
            || Position { next: NextOffset { partition: Partition::default(), offset: 0 }, metadata: String::new() };
        positions.resize_with(positions.len().max(n), empty);
        for (position, reached) in positions.iter_mut().zip(self.settled.drain(..)) {
            position.next = reached.next;
            reached.note.write(&mut position.metadata);
        }
        &positions[..n]
    }

    /// Raises the epoch of partitions that leave and drops their offsets from every batch.
    pub fn revoke(&mut self, partitions: &[Partition]) {
        for &partition in partitions {
            *self.epochs.entry(partition).or_default() += 1;
        }
        let settled = std::iter::once(&mut self.settled);
        for reached in self.entries.iter_mut().map(|entry| &mut entry.reached).chain(settled) {
            reached.retain(|reached| !partitions.contains(&reached.next.partition));
        }
    }

    fn waits_for(&self, partitions: &[Partition]) -> bool {
        let leaving = |reached: &Reached| partitions.contains(&reached.next.partition);
        self.entries.iter().any(|entry| entry.reached.iter().any(leaving))
    }
}

/// Moves a partition on to `reached`.
fn advance(all: &mut Vec<Reached>, reached: Reached) {
    match all.iter_mut().find(|known| known.next.partition == reached.next.partition) {
        Some(known) => *known = reached,
        None => all.push(reached),
    }
}

/// A lane's unsettled batches together with the sink that acknowledges them; answers to rebalances.
pub struct Settling {
    inflight: Mutex<Inflight>,
    /// Where each partition was taken up, with the epoch of its assignment.
    resumed: Mutex<BTreeMap<Partition, (u64, Resume)>>,
    /// Rises with every rebalance.
    generation: AtomicU64,
    /// Records that are rewound when a partition comes.
    rewind: u64,
    sink: Arc<dyn Sink>,
    drain_timeout: Duration,
    n_assigned: AtomicI64,
    n_rebalances: AtomicU64,
    joined: AtomicBool,
}

impl Settling {
    /// Settling through `sink`; a revoke waits at most `drain_timeout` for deliveries, and a partition that comes is
    /// rewound by `rewind` records.
    pub fn new(sink: Arc<dyn Sink>, drain_timeout: Duration, rewind: u64) -> Self {
        Self {
            inflight: Mutex::default(),
            resumed: Mutex::default(),
            generation: AtomicU64::new(0),
            rewind,
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

    /// Records that are rewound when a partition comes.
    pub fn rewind(&self) -> u64 {
        self.rewind
    }

    /// A number that rises with every rebalance.
    pub fn generation(&self) -> u64 {
        self.generation.load(Ordering::Relaxed)
    }

    /// The present epoch of a partition, and where it was taken up; none when it began without a committed offset.
    pub fn assignment(&self, partition: Partition) -> (u64, Option<Resume>) {
        let epoch = self.inflight().epoch(partition);
        let resumed = self.resumed.lock().unwrap_or_else(PoisonError::into_inner);
        let resume = resumed.get(&partition).filter(|(of, _)| *of == epoch).map(|(_, resume)| *resume);
        (epoch, resume)
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
    fn assigned(&self, partitions: &[Assigned]) -> Vec<NextOffset> {
        self.n_assigned.fetch_add(i64::try_from(partitions.len()).unwrap_or(0), Ordering::Relaxed);
        self.n_rebalances.fetch_add(1, Ordering::Relaxed);
        self.joined.store(true, Ordering::Relaxed);
        let inflight = self.inflight();
        let mut resumed = self.resumed.lock().unwrap_or_else(PoisonError::into_inner);
        let mut starts = Vec::new();
        for Assigned { partition, settled, metadata } in partitions {
            let Some(settled) = *settled else { continue };
            let resume = Resume::new(settled, Note::parse(metadata), self.rewind);
            resumed.insert(*partition, (inflight.epoch(*partition), resume));
            if resume.start < settled {
                starts.push(NextOffset { partition: *partition, offset: resume.start });
            }
        }
        self.generation.fetch_add(1, Ordering::Relaxed);
        starts
    }

    fn revoked(&self, partitions: &[Partition], lost: bool) -> Vec<Position> {
        self.n_assigned.fetch_sub(i64::try_from(partitions.len()).unwrap_or(0), Ordering::Relaxed);
        self.n_rebalances.fetch_add(1, Ordering::Relaxed);
        self.generation.fetch_add(1, Ordering::Relaxed);
        let deadline = Instant::now() + self.drain_timeout;
        loop {
            let mut inflight = self.inflight();
            // A failure is found by the lane too, right after this call, and it stops.
            if inflight.settle(|_| ()).is_err() || lost || !inflight.waits_for(partitions) || Instant::now() >= deadline
            {
                break;
            }
            drop(inflight);
            self.sink.poll(Duration::from_millis(10));
        }
        let (mut inflight, mut positions) = (self.inflight(), Vec::new());
        if !lost {
            inflight.take_settled(&mut positions);
        }
        inflight.revoke(partitions);
        positions
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sink::MemorySink;

    fn reached(partition: i32, offset: i64, epoch: u64) -> Reached {
        Reached { next: NextOffset { partition: partition.into(), offset }, note: Note::default(), epoch }
    }

    fn position(partition: i32, offset: i64) -> Position {
        Position { next: NextOffset { partition: partition.into(), offset }, metadata: String::new() }
    }

    fn pending() -> Receipt {
        let receipt = Receipt::default();
        receipt.expect();
        receipt
    }

    /// Settles, and takes the offsets that are to be stored.
    fn settle(inflight: &mut Inflight) -> Vec<(i32, i64)> {
        inflight.settle(|_| ()).expect("no failure");
        let mut room = Vec::new();
        inflight.take_settled(&mut room).iter().map(|at| (at.next.partition.number, at.next.offset)).collect()
    }

    #[test]
    fn offsets_wait_for_every_delivery_of_their_batch_and_of_those_before() {
        let mut inflight = Inflight::default();
        let (first, second) = (pending(), pending());
        inflight.push([reached(0, 10, 0)].into_iter(), &first, 0);
        inflight.push([reached(0, 20, 0), reached(1, 5, 0)].into_iter(), &second, 0);
        second.acknowledge();
        assert_eq!(settle(&mut inflight), [], "the older batch is still under way");
        first.acknowledge();
        assert_eq!(settle(&mut inflight), [(0, 20), (1, 5)]);
        assert!(inflight.is_empty());
    }

    #[test]
    fn a_failed_delivery_settles_nothing_from_there_on() {
        let mut inflight = Inflight::default();
        let failing = pending();
        inflight.push([reached(0, 10, 0)].into_iter(), &failing, 0);
        inflight.push([reached(0, 20, 0)].into_iter(), &Receipt::default(), 0);
        assert_eq!(inflight.len(), 1, "a batch without output waits with the one before");
        failing.fail("topic `anomalies`: expired".into());
        assert_eq!(inflight.settle(|_| ()).expect_err("failed"), "topic `anomalies`: expired");
        assert_eq!((inflight.len(), inflight.settled.len()), (1, 0));
    }

    #[test]
    fn revoked_partition_is_not_stored_and_kept_partitions_are() {
        let mut inflight = Inflight::default();
        let receipt = pending();
        inflight.push([reached(0, 10, 0), reached(1, 7, 0)].into_iter(), &receipt, 0);
        inflight.revoke(&[0.into()]);
        receipt.acknowledge();
        assert_eq!(settle(&mut inflight), [(1, 7)]);
    }

    #[test]
    fn records_read_before_a_revoke_are_not_settled_after_the_partition_came_back() {
        let mut inflight = Inflight::default();
        let epoch = inflight.epoch(0.into());
        inflight.revoke(&[0.into()]);
        inflight.push([reached(0, 10, epoch)].into_iter(), &Receipt::default(), 0);
        assert_eq!(settle(&mut inflight), []);
        inflight.push([reached(0, 11, inflight.epoch(0.into()))].into_iter(), &Receipt::default(), 0);
        assert_eq!(settle(&mut inflight), [(0, 11)]);
    }

    #[test]
    fn a_revoke_stores_what_is_acknowledged_and_waits_no_longer_than_its_deadline() {
        let settling = Settling::new(Arc::new(MemorySink::withholding()), Duration::from_millis(20), 0);
        let late = pending();
        settling.inflight().push([reached(0, 10, 0)].into_iter(), &Receipt::default(), 0);
        settling.inflight().push([reached(0, 20, 0)].into_iter(), &late, 0);
        assert_eq!(settling.revoked(&[0.into()], false), [position(0, 10)]);
        assert_eq!(settling.inflight().epoch(0.into()), 1);
    }

    #[test]
    fn a_partition_that_comes_is_rewound_until_it_leaves() {
        let settling = Settling::new(Arc::new(MemorySink::default()), Duration::ZERO, 100);
        let came = |settled| Assigned { partition: 3.into(), settled, metadata: String::new() };
        assert_eq!(settling.assigned(&[came(Some(500))]), [NextOffset { partition: 3.into(), offset: 400 }]);
        let (epoch, resume) = settling.assignment(3.into());
        assert_eq!((epoch, resume.map(|resume| resume.live_from)), (0, Some(500)));
        settling.revoked(&[3.into()], false);
        assert_eq!(settling.assignment(3.into()), (1, None));
        assert_eq!(settling.assigned(&[came(None)]), []);
        assert_eq!(settling.assignment(3.into()), (1, None), "a partition without a committed offset has no past");
        assert_eq!(settling.generation(), 3);
    }

    #[test]
    fn batches_that_share_a_receipt_or_have_no_output_wait_together() {
        let mut inflight = Inflight::default();
        let (shared, other) = (pending(), pending());
        inflight.push([reached(0, 10, 0)].into_iter(), &shared, 0);
        inflight.push([reached(0, 20, 0), reached(1, 5, 0)].into_iter(), &shared, 0);
        inflight.push([reached(0, 30, 0)].into_iter(), &Receipt::default(), 0);
        assert_eq!(inflight.len(), 1);
        inflight.push([reached(0, 40, 0)].into_iter(), &other, 0);
        assert_eq!((settle(&mut inflight), inflight.len()), (vec![], 2));
        shared.acknowledge();
        assert_eq!((settle(&mut inflight), inflight.len()), (vec![(0, 30), (1, 5)], 1));
        other.acknowledge();
        assert_eq!(settle(&mut inflight), [(0, 40)]);
    }

    #[test]
    fn a_revoke_stores_what_is_settled_and_was_not_yet_stored() {
        let settling = Settling::new(Arc::new(MemorySink::default()), Duration::ZERO, 0);
        settling.inflight().push([reached(0, 10, 0), reached(1, 7, 0)].into_iter(), &Receipt::default(), 0);
        settling.inflight().settle(|_| ()).expect("no failure");
        assert_eq!(settling.revoked(&[0.into()], false), [position(0, 10), position(1, 7)]);
        settling.inflight().push([reached(0, 20, 1), reached(1, 17, 0)].into_iter(), &Receipt::default(), 0);
        settling.inflight().settle(|_| ()).expect("no failure");
        assert_eq!(settling.revoked(&[0.into()], true), [], "nothing is stored of a partition that is lost");
        assert_eq!(settle(&mut settling.inflight()), [(1, 17)], "and nothing is forgotten of one that is kept");
    }

    #[test]
    fn a_lost_partition_stores_nothing() {
        let settling = Settling::new(Arc::new(MemorySink::default()), Duration::from_secs(60), 0);
        settling.inflight().push([reached(0, 10, 0)].into_iter(), &Receipt::default(), 0);
        assert!(settling.revoked(&[0.into()], true).is_empty());
    }
}
