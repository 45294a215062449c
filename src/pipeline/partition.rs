//! What a lane keeps of a partition: its threshold, and where its silent rewinding ends.
//!
//! DESIGN idea 2: the log is the memory. A partition that comes is read from some records before its committed offset on,
//! and these are scored silently, so that its threshold is what it was. What rewinding can't restore travels as a note in
//! the commit's metadata.

use std::collections::VecDeque;
use std::io;

use serde::{Deserialize, Serialize};

use crate::record::RecordId;
use crate::threshold::{Carried, Threshold, Verdict};

/// Records between two offsets of the trail.
const STRIDE: u64 = 256;
/// Longest note that is committed, bytes: the broker's default limit.
const NOTE_BYTES_MAX: usize = 4096;

/// What is committed with an offset.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Note {
    /// Offset from which rewinding restores the threshold.
    from: Option<i64>,
    /// What rewinding can't restore.
    carried: Option<Carried>,
}

impl Note {
    /// Reads a note; what is not one, as another program's metadata, is none.
    pub fn parse(metadata: &str) -> Self {
        serde_json::from_str(metadata).unwrap_or_default()
    }

    /// Writes the note in place of what `text` holds; an empty note is an empty text.
    pub fn write(&self, text: &mut String) {
        text.clear();
        if *self != Self::default() {
            serde_json::to_writer(Text(text), self).expect("finite numbers are always JSON");
        }
        debug_assert!(text.len() <= NOTE_BYTES_MAX, "a note is a few numbers");
    }
}

/// A text that JSON is written to, without a buffer in between.
struct Text<'a>(&'a mut String);

impl io::Write for Text<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.push_str(std::str::from_utf8(bytes).map_err(io::Error::other)?);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Where a partition that has come is taken up.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Resume {
    /// The committed offset: records before it are judged silently.
    pub live_from: i64,
    /// Where reading starts.
    pub start: i64,
    carried: Option<Carried>,
}

impl Resume {
    /// Takes a partition up at the committed offset `settled` with its `note`, rewinding at most `rewind` offsets.
    pub fn new(settled: i64, note: Note, rewind: u64) -> Self {
        let rewind = i64::try_from(rewind).unwrap_or(i64::MAX);
        // A compacted topic has fewer records than offsets: the note knows how far back its records lie.
        let furthest = settled.saturating_sub(rewind.saturating_mul(8)).max(0);
        let start = match note.from {
            _ if rewind == 0 => settled,
            Some(from) => from.clamp(furthest, settled),
            None => settled.saturating_sub(rewind).max(0),
        };
        Self { live_from: settled, start, carried: note.carried }
    }
}

/// What a lane keeps of a partition.
pub struct Partition {
    /// Epoch of the assignment that this belongs to.
    pub epoch: u64,
    /// The partition's threshold under the current model.
    pub threshold: Box<dyn Threshold>,
    live_from: i64,
    carried: Option<Carried>,
    trail: VecDeque<i64>,
    since_mark: u64,
    rewind: u64,
}

impl Partition {
    /// A partition of assignment `epoch`, taken up at `resume` if it was; a restart rewinds `rewind` records.
    pub fn new(epoch: u64, resume: Option<Resume>, rewind: u64, threshold: Box<dyn Threshold>) -> Self {
        let live_from = resume.map_or(0, |resume| resume.live_from);
        let carried = resume.and_then(|resume| resume.carried);
        let trail = VecDeque::with_capacity(marks_max(rewind) + 1);
        Self { epoch, threshold, live_from, carried, trail, since_mark: 0, rewind }
    }

    /// Whether a record was settled before the partition came.
    pub fn is_silent(&self, id: RecordId) -> bool {
        id.offset < self.live_from
    }

    /// Judges the next record's standardised score. `learnt` says that the model may have been trained on the record: its
    /// score is too low to learn from, unless it is anomalous, for then it was not trained on.
    pub fn judge(&mut self, id: RecordId, z: f64, learnt: bool) -> Option<Verdict> {
        self.mark(id);
        if self.is_silent(id) {
            let counts = !learnt || z > self.threshold.z_at_alert();
            return counts.then(|| self.threshold.judge(z));
        }
        if let Some(carried) = self.carried.take() {
            self.threshold.restore(&carried);
        }
        Some(self.threshold.judge(z))
    }

    /// Exchanges the threshold for one that belongs to another model.
    pub fn rejudge(&mut self, threshold: Box<dyn Threshold>) {
        self.threshold = threshold;
    }

    /// What is committed with the partition's next offset.
    pub fn note(&self) -> Note {
        if self.rewind == 0 {
            return Note::default();
        }
        // Until rewinding is over the threshold has not what the last note carried.
        let carried = self.carried.or_else(|| self.threshold.carried());
        Note { from: self.trail.front().copied(), carried }
    }

    /// Remembers where the window of the last `rewind` records begins.
    fn mark(&mut self, id: RecordId) {
        if self.rewind == 0 {
            return;
        }
        if self.since_mark == 0 {
            self.trail.push_back(id.offset);
            if self.trail.len() > marks_max(self.rewind) {
                self.trail.pop_front();
            }
        }
        self.since_mark = (self.since_mark + 1) % STRIDE;
    }
}

/// Most offsets of a trail over `rewind` records.
fn marks_max(rewind: u64) -> usize {
    rewind.div_ceil(STRIDE) as usize + 1
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Remembers what it has judged.
    #[derive(Default)]
    struct Seen {
        judged: std::sync::Arc<std::sync::Mutex<Vec<f64>>>,
        carried: Option<Carried>,
    }

    impl Threshold for Seen {
        fn judge(&mut self, z: f64) -> Verdict {
            self.judged.lock().unwrap().push(z);
            Verdict { p_value: 0.5, anomalous: z > 9.0, z_at_alert: 9.0, calibrating: false, shifted: false }
        }

        fn z_at_alert(&self) -> f64 {
            9.0
        }

        fn z_at(&self, _: f64) -> f64 {
            9.0
        }

        fn carried(&self) -> Option<Carried> {
            self.carried
        }

        fn restore(&mut self, carried: &Carried) {
            self.carried = Some(*carried);
        }
    }

    const CARRIED: Carried = Carried { alpha: 2e-3, tokens: 3.0, shift: 0.1 };

    fn at(offset: i64) -> RecordId {
        RecordId { partition: 0.into(), offset }
    }

    #[test]
    fn a_note_survives_the_commit_and_other_metadata_is_none() {
        let note = Note { from: Some(7), carried: Some(CARRIED) };
        let mut text = "what stood there before".to_owned();
        note.write(&mut text);
        assert_eq!(Note::parse(&text), note);
        Note::default().write(&mut text);
        assert_eq!(text, "");
        assert_eq!(Note::parse("another program's"), Note::default());
        assert_eq!(Note::parse(""), Note::default());
    }

    #[test]
    fn rewinding_begins_where_the_note_says_and_is_bounded() {
        let start = |from| Resume::new(1000, Note { from, carried: None }, 100).start;
        assert_eq!([start(None), start(Some(850)), start(Some(3)), start(Some(2000))], [900, 850, 200, 1000]);
        assert_eq!(Resume::new(50, Note::default(), 100).start, 0);
        assert_eq!(Resume::new(50, Note::default(), 0).start, 50, "a threshold without a state rewinds nothing");
    }

    #[test]
    fn what_was_carried_is_taken_up_with_the_first_live_record() {
        let resume = Resume::new(3, Note { from: None, carried: Some(CARRIED) }, 100);
        let mut partition = Partition::new(0, Some(resume), 100, Box::new(Seen::default()));
        for offset in 0..3 {
            assert!(partition.is_silent(at(offset)));
            partition.judge(at(offset), 1.0, false);
        }
        assert_eq!(partition.note(), Note { from: Some(0), carried: Some(CARRIED) });
        assert_eq!(partition.threshold.carried(), None);
        assert!(!partition.is_silent(at(3)));
        partition.judge(at(3), 1.0, false);
        assert_eq!(partition.threshold.carried(), Some(CARRIED));
    }

    #[test]
    fn a_silent_record_that_was_trained_on_is_not_judged_unless_it_is_anomalous() {
        let seen = Seen::default();
        let judged = std::sync::Arc::clone(&seen.judged);
        let resume = Resume::new(3, Note::default(), 100);
        let mut partition = Partition::new(0, Some(resume), 100, Box::new(seen));
        assert_eq!(partition.judge(at(0), 1.0, true), None);
        assert!(partition.judge(at(1), 10.0, true).is_some_and(|verdict| verdict.anomalous));
        assert!(partition.judge(at(2), 2.0, false).is_some());
        assert!(partition.judge(at(3), 3.0, true).is_some(), "what is live is judged in any case");
        assert_eq!(*judged.lock().unwrap(), [10.0, 2.0, 3.0]);
    }

    #[test]
    fn the_trail_holds_at_least_the_window() {
        let mut partition = Partition::new(0, None, 1000, Box::new(Seen::default()));
        for offset in 0..5000 {
            partition.judge(at(offset), 0.0, false);
            let from = partition.note().from.expect("a record has been judged");
            assert!(offset - from >= 1000.min(offset) && offset - from < 1000 + 2 * STRIDE as i64, "{offset}: {from}");
        }
    }
}
