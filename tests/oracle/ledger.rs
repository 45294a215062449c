//! What went in, and what came of it: every numbered record has ended in exactly one way, or it is a problem.
//!
//! The features topic is read back first: place by place it says which record stands there. Then every output is booked
//! to its place. An output that names a place without a record, or says something of it that isn't so, was invented.

use std::collections::BTreeMap;

use serde_json::Value;
use sha2::{Digest, Sha256};

use super::stream::{Class, N_HISTORY, N_PARTITIONS, class_of, key_of, number_of};
use crate::support::{Record, says_the_same};

/// Fields of a score that duplicates are compared by.
const NUMBERS: [&str; 5] = ["ratio", "raw", "threshold", "z", "p_value"];
/// Problems of a kind that are kept with their words.
const WORDS_MAX: usize = 4;
/// A ratio this near to 1 may fall on either side when it is computed again.
const NEAR: f64 = 2e-3;

/// One record that went in, and what came of it.
struct Input {
    n: u64,
    time_ms: i64,
    score: Option<[f64; NUMBERS.len()]>,
    n_scores: u32,
    n_anomalies: u32,
    n_dead: u32,
    /// The record itself, where a dead letter must repeat it.
    whole: Option<Box<Record>>,
    /// The first anomaly.
    anomaly: Option<Box<Value>>,
}

/// Everything that went in, by partition and offset; the history before it is `None`.
pub struct Ledger {
    topic: String,
    inputs: Vec<Vec<Option<Input>>>,
    problems: BTreeMap<&'static str, (u64, Vec<String>)>,
    /// Repeated outputs that say something else, which a tie between two latents can do.
    pub n_differing: u64,
    /// Anomalies whose `scored_time` is so many milliseconds or more off the record's own time.
    pub n_off_clock: u64,
}

/// How many records ended how.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Numbered records that went in.
    pub n_inputs: u64,
    /// Records that were scored.
    pub n_scored: u64,
    /// Records that were published as anomalies.
    pub n_anomalies: u64,
    /// Records that became dead letters.
    pub n_dead: u64,
    /// Tombstones.
    pub n_tombstones: u64,
    /// Scores, anomalies and dead letters beyond the first of a record.
    pub duplicates: [u64; 3],
}

impl Ledger {
    /// An empty ledger of a features topic.
    pub fn new(topic: &str) -> Self {
        let inputs = (0..N_PARTITIONS).map(|_| Vec::new()).collect();
        Self { topic: topic.to_owned(), inputs, problems: BTreeMap::new(), n_differing: 0, n_off_clock: 0 }
    }

    /// Books a record of the features topic; each partition comes in its order.
    pub fn input(&mut self, record: Record) {
        let inputs = &mut self.inputs[record.partition as usize];
        assert_eq!(record.offset, inputs.len() as i64, "the features topic has no gaps");
        let input = number_of(record.key.as_deref()).map(|n| Input {
            n,
            time_ms: record.timestamp_ms,
            score: None,
            n_scores: 0,
            n_anomalies: 0,
            n_dead: 0,
            whole: (class_of(n) == Class::Bad).then(|| Box::new(record)),
            anomaly: None,
        });
        inputs.push(input);
    }

    /// Books a record of the scores topic.
    pub fn score(&mut self, record: &Record) {
        let value = record.json();
        let Some((partition, offset)) = self.place(&value) else { return };
        self.check_common(record, &value, partition, offset);
        let numbers = NUMBERS.map(|name| value["score"][name].as_f64().unwrap_or(f64::NAN));
        let input = self.inputs[partition][offset].as_mut().expect("a place has a record");
        input.n_scores += 1;
        let first = *input.score.get_or_insert(numbers);
        let json = |numbers: [f64; NUMBERS.len()]| Value::from(numbers.to_vec());
        self.n_differing += u64::from(!says_the_same(&json(first), &json(numbers)));
    }

    /// Books a record of the anomalies topic.
    pub fn anomaly(&mut self, record: &Record, off_clock_ms: i64) {
        let mut value = record.json();
        let Some((partition, offset)) = self.place(&value) else { return };
        self.check_common(record, &value, partition, offset);
        let input = self.inputs[partition][offset].as_mut().expect("a place has a record");
        input.n_anomalies += 1;
        if time_ms(&value["scored_time"]).is_none_or(|time| (time - input.time_ms).abs() >= off_clock_ms) {
            self.n_off_clock += 1;
        }
        let (n, passed) = (input.n, value["passthrough"]["n"].as_u64());
        let header = record.header("ce_id").map(str::to_owned);
        // The sentence holds rounded numbers, whose last digit may differ.
        for field in ["scored_time", "summary"] {
            value.as_object_mut().expect("an object").remove(field);
        }
        let is_same = says_the_same(input.anomaly.get_or_insert_with(|| Box::new(value.clone())), &value);
        self.n_differing += u64::from(!is_same);
        if passed != Some(n) || header.as_deref() != value["id"].as_str() {
            self.problem("an anomaly says something else than its record", || format!("{n}: {value} {header:?}"));
        }
    }

    /// Books a dead letter, which must be the record byte for byte, with the reasons added.
    pub fn dead_letter(&mut self, record: &Record) {
        let number = |name: &str| record.header(name).and_then(|text| text.parse::<usize>().ok());
        let place = number("strayd.error.partition").zip(number("strayd.error.offset"));
        let of_topic = record.header("strayd.error.topic") == Some(&self.topic);
        let input = place.and_then(|(partition, offset)| self.inputs.get_mut(partition)?.get_mut(offset)?.as_mut());
        let Some(input) = input.filter(|_| of_topic) else {
            return self.problem("a dead letter of no record", || format!("{record:?}"));
        };
        input.n_dead += 1;
        let Some(whole) = &input.whole else { return }; // counted as the wrong end
        let theirs = record.headers.iter().filter(|(name, _)| !name.starts_with("strayd.error.")).cloned();
        let copy =
            Record { headers: theirs.collect(), partition: whole.partition, offset: whole.offset, ..record.clone() };
        if copy != **whole || record.header("strayd.error.reason").is_none() {
            let words = format!("{whole:?} became {record:?}");
            self.problem("a dead letter is not its record", || words);
        }
    }

    /// Closes the books: counts, and what is wrong. `n_sent` numbered records were acknowledged to the producer.
    pub fn close(&mut self, n_sent: u64, once: bool) -> (Tally, Vec<String>) {
        let mut tally = Tally::default();
        let mut seen = vec![false; n_sent as usize];
        assert_eq!(self.inputs.iter().flatten().filter(|input| input.is_none()).count(), N_HISTORY);
        let inputs = std::mem::take(&mut self.inputs);
        for input in inputs.iter().flatten().flatten() {
            match seen.get_mut(input.n as usize) {
                Some(seen) if !*seen => *seen = true,
                _ => self.problem("the producer wrote a record twice", || input.n.to_string()),
            }
            self.judge(input, once);
            tally.add(input);
        }
        for n in (0..n_sent).filter(|&n| !seen[n as usize]) {
            self.problem("the features topic lacks a record", || n.to_string());
        }
        let most = (tally.n_scored / 5_000).max(1);
        if self.n_differing > most {
            let n = self.n_differing;
            self.problem("repeated outputs say something else", || format!("{n}, at most {most} may"));
        }
        let words = |(what, (n, words)): (&&str, &(u64, Vec<String>))| format!("{what}: {n}, as {}", words.join("; "));
        (tally, self.problems.iter().map(words).collect())
    }

    /// Whether a record ended as it must.
    fn judge(&mut self, input: &Input, once: bool) {
        let Input { n, n_scores, n_anomalies, n_dead, score, .. } = *input;
        let class = class_of(n);
        let ratio = score.map_or(f64::NAN, |numbers| numbers[0]);
        let words =
            || format!("{n} ({class:?}): {n_scores} scores, {n_anomalies} anomalies, {n_dead} dead letters, {ratio}");
        let (scored, published, dead) = match class {
            Class::Ordinary => (true, ratio > 1.0, false),
            Class::Anomalous => (true, true, false),
            Class::Bad => (false, false, true),
            Class::Tombstone => (false, false, false),
        };
        let is_near = class == Class::Ordinary && (ratio - 1.0).abs() < NEAR;
        let lost = (scored && n_scores == 0) || (published && !is_near && n_anomalies == 0) || (dead && n_dead == 0);
        let wrong = (!scored && n_scores > 0) || (!published && !is_near && n_anomalies > 0) || (!dead && n_dead > 0);
        if lost {
            self.problem("LOST", words);
        }
        if wrong {
            self.problem("a record ended in a way that isn't its own", words);
        }
        if once && n_scores.max(n_anomalies).max(n_dead) > 1 {
            self.problem("TWICE", words);
        }
    }

    /// The place that an output names, if a numbered record stands there.
    fn place(&mut self, value: &Value) -> Option<(usize, usize)> {
        let number = |name: &str| value["source"][name].as_u64().map(|number| number as usize);
        let place = number("partition").zip(number("offset")).filter(|_| value["source"]["topic"] == *self.topic);
        let found = place.filter(|(partition, offset)| {
            self.inputs.get(*partition).and_then(|inputs| inputs.get(*offset)).is_some_and(Option::is_some)
        });
        if found.is_none() {
            self.problem("an output of no record", || value.to_string());
        }
        found
    }

    /// What scores and anomalies have in common: the id is that of the place, key and time are the record's.
    fn check_common(&mut self, record: &Record, value: &Value, partition: usize, offset: usize) {
        let input = self.inputs[partition][offset].as_ref().expect("a place has a record");
        let key = key_of(input.n);
        let is_right = value["id"] == *id_of(&self.topic, partition as i32, offset as i64)
            && value["entity"] == *key
            && record.key.as_deref() == Some(key.as_bytes())
            && time_ms(&value["event_time"]) == Some(input.time_ms)
            && value["model"]["version"] == 1;
        if !is_right {
            self.problem("an output says something else than its record", || format!("{key}: {value}"));
        }
    }

    fn problem(&mut self, what: &'static str, words: impl FnOnce() -> String) {
        let (n, kept) = self.problems.entry(what).or_default();
        *n += 1;
        if kept.len() < WORDS_MAX {
            kept.push(words());
        }
    }
}

impl Tally {
    fn add(&mut self, input: &Input) {
        self.n_inputs += 1;
        self.n_tombstones += u64::from(class_of(input.n) == Class::Tombstone);
        let counts = [input.n_scores, input.n_anomalies, input.n_dead];
        let ends = [&mut self.n_scored, &mut self.n_anomalies, &mut self.n_dead];
        for ((n, end), duplicates) in counts.into_iter().zip(ends).zip(&mut self.duplicates) {
            *end += u64::from(n > 0);
            *duplicates += u64::from(n.saturating_sub(1));
        }
    }
}

/// The id as docs/RECORDS.md has it, computed apart from the program.
fn id_of(topic: &str, partition: i32, offset: i64) -> String {
    let text = [topic.as_bytes(), &[0], &partition.to_be_bytes(), &offset.to_be_bytes(), b"strayd"].concat();
    Sha256::digest(text)[..16].iter().map(|byte| format!("{byte:02x}")).collect()
}

fn time_ms(value: &Value) -> Option<i64> {
    Some(value.as_str()?.parse::<jiff::Timestamp>().ok()?.as_millisecond())
}
