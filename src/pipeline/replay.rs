//! Lets a lane judge a stretch of the past again, as it judges what comes: nothing is published or settled.
//!
//! It is the lane of `run`, fed from the history and writing into memory. A partition is taken up as after a restart:
//! records before its first live one are judged silently. Where another model took over, it does so between two batches,
//! with thresholds that have judged the rows it was trained with, as the trainer makes them. Partitions are judged one
//! after the other: nothing of what a verdict hangs on is shared by two.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::Shared;
use super::inflight::Settling;
use super::lane::Lane;
use super::trainer::sample::read_rows;
use super::trainer::warm;
use crate::history::{History, Range};
use crate::model::{Model, Thresholds};
use crate::record::{Partition, RecordId};
use crate::sink::{MemorySink, Sent, Sink};
use crate::source::{Assigned, Assignment, Polled, Position, Raw, Source, SourceError};

/// Offsets that are read at a time.
const STRETCH: i64 = 4096;

/// From where on a model judges a partition.
#[derive(Clone, Debug)]
pub struct Era {
    /// First offset.
    pub from: i64,
    /// The model.
    pub model: Arc<Model>,
}

/// What is judged again of a partition.
#[derive(Clone, Debug)]
pub struct Course {
    /// The offsets that are judged; those before it restore what thresholds keep.
    pub live: Range,
    /// The oldest offset that is kept.
    pub oldest: i64,
    /// Who judges, in the order of offsets; the first also judges what comes before it. At least one.
    pub eras: Vec<Era>,
}

/// Hears of everything that would have been published, and after it of how many more offsets are behind it.
pub type OnSent<'a> = &'a mut dyn FnMut(Vec<Sent>, u64);

/// Judges a partition again. Returns what keeps it from being exact.
///
/// Errors: what is wrong, in words for the user.
pub fn replay(
    shared: &Shared,
    history: &mut dyn History,
    course: &Course,
    on_sent: OnSent<'_>,
) -> Result<Vec<String>, String> {
    let partition = course.live.partition;
    let mut replay = Replay::new(shared, partition, course.live.start);
    let mut notes = Vec::new();
    let mut at = replay.start.max(course.oldest);
    if at > replay.start {
        notes.push(format!(
            "partition {partition}: the topic begins at offset {at}, so its threshold is restored from {} records only",
            course.live.start - at
        ));
    }
    for (i, era) in course.eras.iter().enumerate() {
        let end = course.eras.get(i + 1).map_or(course.live.end, |next| next.from.clamp(at, course.live.end));
        let ready = if i == 0 { Ok(Thresholds::new()) } else { ready(shared, history, &era.model) };
        let ready = ready.unwrap_or_else(|reason| {
            let version = era.model.version;
            notes.push(format!("version {version} began with its calibration: {reason}"));
            Thresholds::new()
        });
        shared.cell.swap_with(Arc::clone(&era.model), ready);
        while at < end {
            let stretch = Range { partition, start: at, end: end.min(at + STRETCH) };
            replay.judge(shared, history, stretch)?;
            on_sent(replay.take(), stretch.len() as u64);
            at = stretch.end;
        }
    }
    Ok(notes)
}

/// The thresholds with which a model took over: they have judged the rows of its training, in time order.
fn ready(shared: &Shared, history: &mut dyn History, model: &Model) -> Result<Thresholds, String> {
    let ranges: Vec<Range> = model
        .lineage
        .chunks
        .iter()
        .map(|chunk| Range { partition: chunk.partition, start: chunk.start, end: chunk.end })
        .collect();
    let sample = read_rows(history, shared.decoder(model), &model.schema, &ranges)?;
    if sample.chunks != model.lineage.chunks {
        return Err("the rows it was trained on are not all there any more".into());
    }
    Ok(warm::thresholds(shared, model, &sample.rows))
}

/// A lane for one partition, whose past is settled.
pub struct Replay {
    lane: Lane,
    sink: Arc<MemorySink>,
    records: Arc<Records>,
    start: i64,
}

impl Replay {
    /// A lane to which `partition` comes with everything before `live_from` settled.
    pub fn new(shared: &Shared, partition: Partition, live_from: i64) -> Self {
        let (sink, records) = (Arc::new(MemorySink::default()), Arc::new(Records::default()));
        let of_lane = Arc::clone(&sink) as Arc<dyn Sink>;
        let settling = Settling::new(Arc::clone(&of_lane), Duration::ZERO, shared.threshold.rewind());
        let came = Assigned { partition, settled: Some(live_from), metadata: String::new() };
        let start = settling.assigned(&[came]).first().map_or(live_from, |next| next.offset);
        let source = Box::new(Fed(Arc::clone(&records)));
        let lane = Lane::new(0, shared.clone(), source, of_lane, Arc::new(settling));
        Self { lane, sink, records, start }
    }

    /// Where reading would start after a restart at the first live record.
    pub fn start(&self) -> i64 {
        self.start
    }

    /// What would have been published since the last call.
    pub fn take(&self) -> Vec<Sent> {
        self.sink.take()
    }

    /// Judges the records of a stretch, by the model in the cell.
    ///
    /// Errors: what is wrong, in words for the user.
    pub fn judge(&mut self, shared: &Shared, history: &mut dyn History, stretch: Range) -> Result<(), String> {
        if stretch.is_empty() {
            return Ok(());
        }
        history.read(&[stretch], &mut |past| {
            let own = |bytes: &[u8]| bytes.to_vec();
            let (key, payload) = (past.key.map(own), past.payload.map(own));
            self.records.queue().push_back(Kept { id: past.id, time_ms: past.time_ms, key, payload });
        })?;
        while !self.records.queue().is_empty() {
            self.lane.step().map_err(|error| error.to_string())?;
            if let Some(trouble) = shared.schemas.trouble() {
                return Err(trouble);
            }
        }
        Ok(())
    }
}

/// A record of the past.
struct Kept {
    id: RecordId,
    time_ms: i64,
    key: Option<Vec<u8>>,
    payload: Option<Vec<u8>>,
}

/// Records on their way from the history to the lane.
#[derive(Default)]
struct Records(Mutex<VecDeque<Kept>>);

impl Records {
    fn queue(&self) -> MutexGuard<'_, VecDeque<Kept>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The source of a lane whose records are handed to it from outside.
struct Fed(Arc<Records>);

impl Source for Fed {
    fn poll(&mut self, max: usize, _: Duration, take: &mut dyn FnMut(Raw<'_>)) -> Result<Polled, SourceError> {
        let mut queue = self.0.queue();
        let n = queue.len().min(max);
        for record in queue.drain(..n) {
            let Kept { id, time_ms, key, payload } = &record;
            take(Raw { id: *id, time_ms: *time_ms, key: key.as_deref(), payload: payload.as_deref(), headers: None });
        }
        Ok(Polled::Records(n))
    }

    fn store(&mut self, _: &[Position]) -> Result<usize, SourceError> {
        Ok(0)
    }
}
