//! What people look at: the latest anomalies, how high scores are, and the partitions; shown by the admin server.
//!
//! Lanes write here when they have published an anomaly, a few times a second and with a batch that alerts; never for each record. Everything
//! is bounded, and nothing here is needed by anybody who scores.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde::Serialize;
use serde_json::Value;

/// Anomalies that are kept.
pub const ANOMALIES_MAX: usize = 200;
/// Bytes of them, so that records with large passthroughs don't fill the memory.
const BYTES_MAX: usize = 8 << 20;

/// An anomaly as it was published.
#[derive(Debug, PartialEq, Eq)]
pub struct Published {
    /// Its number since the start, from 1.
    pub number: u64,
    /// Its id.
    pub id: String,
    /// The record's value, JSON.
    pub json: String,
}

/// A partition as its lane sees it.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct PartitionView {
    /// Features topic.
    pub topic: String,
    /// Partition.
    pub partition: i32,
    /// The lane that reads it.
    pub lane: usize,
    /// Offset up to which everything is settled; none before the first was.
    pub next_offset: Option<i64>,
    /// Records between settled offset and head.
    pub lag: i64,
    /// Raw score at which a record of it is anomalous; none before its first record.
    pub threshold: Option<f64>,
}

#[derive(Debug, Default)]
struct Seen {
    anomalies: VecDeque<Arc<Published>>,
    n_bytes: usize,
    n_published: u64,
    ratio_max: Option<f64>,
    partitions: BTreeMap<usize, Vec<PartitionView>>,
    config: Arc<Value>,
}

/// What can be looked at; clones share it.
#[derive(Clone, Debug, Default)]
pub struct View(Arc<Mutex<Seen>>);

impl View {
    fn seen(&self) -> MutexGuard<'_, Seen> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Keeps an anomaly that was handed to the producer; one that comes again takes its own place.
    pub fn published(&self, id: &str, value: &[u8]) {
        let mut seen = self.seen();
        if let Some(at) = seen.anomalies.iter().position(|known| known.id == id) {
            seen.n_bytes -= seen.anomalies.remove(at).map_or(0, |known| known.json.len());
        }
        seen.n_published += 1;
        let json = String::from_utf8_lossy(value).into_owned();
        seen.n_bytes += json.len();
        let one = Published { number: seen.n_published, id: id.to_owned(), json };
        seen.anomalies.push_back(Arc::new(one));
        while seen.anomalies.len() > ANOMALIES_MAX || seen.n_bytes > BYTES_MAX {
            let oldest = seen.anomalies.pop_front().expect("there is one more than may be kept");
            seen.n_bytes -= oldest.json.len();
        }
    }

    /// The newest anomalies, at most `n` of them, the newest first.
    pub fn newest(&self, n: usize) -> Vec<Arc<Published>> {
        self.seen().anomalies.iter().rev().take(n).cloned().collect()
    }

    /// The anomalies whose number is above `number`, oldest first.
    pub fn since(&self, number: u64) -> Vec<Arc<Published>> {
        self.seen().anomalies.iter().filter(|one| one.number > number).cloned().collect()
    }

    /// The anomaly of this id, if it is kept.
    pub fn find(&self, id: &str) -> Option<Arc<Published>> {
        self.seen().anomalies.iter().find(|one| one.id == id).cloned()
    }

    /// Number of the newest anomaly; how many were published since the start.
    pub fn n_published(&self) -> u64 {
        self.seen().n_published
    }

    /// Notes the highest score of a batch over its threshold.
    pub fn scored(&self, ratio: f64) {
        let mut seen = self.seen();
        seen.ratio_max = Some(seen.ratio_max.map_or(ratio, |max| max.max(ratio)));
    }

    /// The highest of these since the last call.
    pub fn take_ratio_max(&self) -> Option<f64> {
        self.seen().ratio_max.take()
    }

    /// Notes the partitions of a lane, in the place of those it had.
    pub fn reads(&self, lane: usize, partitions: Vec<PartitionView>) {
        self.seen().partitions.insert(lane, partitions);
    }

    /// The partitions of all lanes, by topic and number.
    pub fn partitions(&self) -> Vec<PartitionView> {
        let mut all: Vec<PartitionView> = self.seen().partitions.values().flatten().cloned().collect();
        all.sort_by(|a, b| (&a.topic, a.partition).cmp(&(&b.topic, b.partition)));
        all
    }

    /// Notes the configuration in force, which holds no secret.
    pub fn set_config(&self, config: Value) {
        self.seen().config = Arc::new(config);
    }

    /// The configuration in force.
    pub fn config(&self) -> Arc<Value> {
        Arc::clone(&self.seen().config)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_latest_anomalies_are_kept_and_each_once() {
        let view = View::default();
        for i in 0..ANOMALIES_MAX + 10 {
            view.published(&format!("id-{i}"), format!("{{\"i\":{i}}}").as_bytes());
        }
        assert_eq!(view.newest(usize::MAX).len(), ANOMALIES_MAX);
        assert!(view.find("id-9").is_none());
        assert_eq!(view.newest(1)[0].id, format!("id-{}", ANOMALIES_MAX + 9));
        let before = view.n_published();
        view.published("id-50", b"{}");
        assert_eq!(view.newest(usize::MAX).len(), ANOMALIES_MAX, "it has not taken another's place");
        let new: Vec<_> = view.since(before).iter().map(|one| one.id.clone()).collect();
        assert_eq!((new, view.newest(1)[0].json.as_str()), (vec!["id-50".to_owned()], "{}"));
    }

    #[test]
    fn large_records_push_others_out_sooner() {
        let view = View::default();
        let large = "x".repeat(BYTES_MAX / 4);
        (0..9).for_each(|i| view.published(&i.to_string(), large.as_bytes()));
        assert_eq!(view.newest(usize::MAX).len(), 4);
        assert!(view.seen().n_bytes <= BYTES_MAX);
    }

    #[test]
    fn the_highest_ratio_is_taken_once_and_partitions_come_in_order() {
        let view = View::default();
        view.scored(0.5);
        view.scored(2.0);
        view.scored(1.0);
        assert_eq!((view.take_ratio_max(), view.take_ratio_max()), (Some(2.0), None));
        let partition = |lane, partition| PartitionView {
            topic: "t".into(),
            partition,
            lane,
            next_offset: None,
            lag: 0,
            threshold: None,
        };
        view.reads(0, vec![partition(0, 2)]);
        view.reads(1, vec![partition(1, 1)]);
        view.reads(0, vec![partition(0, 3)]);
        assert_eq!(view.partitions().iter().map(|one| one.partition).collect::<Vec<_>>(), [1, 3]);
    }
}
