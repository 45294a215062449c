//! The offsets of one partition that are judged again, and those of them that are told of.

use serde::Serialize;

use super::Options;
use super::outputs::Outputs;
use crate::history::{Bound, History, Range, TopicHistory};
use crate::record::Topics;

/// What is replayed of a partition.
#[derive(Clone, Copy, Debug)]
pub struct Span {
    /// The offsets that are judged.
    pub live: Range,
    /// The first that is told of.
    pub from: i64,
    /// The oldest that is kept.
    pub oldest: i64,
    /// Up to where the daemon has settled; the oldest, where it has settled nothing.
    settled: i64,
}

/// A span as it is told.
#[derive(Debug, Serialize)]
pub struct Named {
    /// Features topic.
    pub topic: String,
    /// Partition.
    pub partition: i32,
    /// First offset.
    pub start: i64,
    /// One past the last.
    pub end: i64,
}

/// What the options mean in each partition that has records of it.
///
/// Errors: what is wrong, in words for the user.
pub fn spans(options: &Options, history: &mut TopicHistory) -> Result<Vec<Span>, String> {
    let extents = history.extents(Bound::Head)?;
    let settled = history.extents(Bound::Settled)?;
    let from = options.from.offsets(history, &extents)?;
    let to = options.to.offsets(history, &extents)?;
    let since = options.since.unwrap_or(options.from).offsets(history, &extents)?;
    let of = |(i, extent): (usize, &Range)| {
        let settled = settled.iter().find(|range| range.partition == extent.partition);
        let live = Range { partition: extent.partition, start: since[i].min(from[i]), end: to[i] };
        Span { live, from: from[i], oldest: extent.start, settled: settled.map_or(extent.start, |range| range.end) }
    };
    Ok(extents.iter().enumerate().map(of).filter(|span| span.from < span.live.end).collect())
}

impl Span {
    /// The offsets that are told of.
    pub fn told(&self) -> Range {
        Range { start: self.from, ..self.live }
    }

    /// The first offset that the daemon had not judged: it publishes first and settles later.
    pub fn judged_until(&self, outputs: &Outputs) -> i64 {
        self.settled.max(outputs.reached(self.live.partition).unwrap_or(self.settled))
    }

    /// The span as it is told.
    pub fn named(&self, topics: &Topics) -> Named {
        let Range { partition, end, .. } = self.live;
        Named { topic: topics.name(partition.topic).to_owned(), partition: partition.number, start: self.from, end }
    }
}
