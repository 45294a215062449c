//! Learns the feature names from a sample of records, never from one record alone.
//!
//! A name is a feature when it holds a number in at least a tenth of the sample and hardly ever anything but numbers and
//! null. A few odd records decide nothing: they are bad, and will be rejected as such. What was left out is reported
//! with the reason, so that nobody has to guess why a field is not watched.

use std::collections::HashMap;

use serde_json::Value;
use thiserror::Error;

use super::json::without_non_finite;
use super::{Config, Format};

/// Share of the sample in which a name must hold a number. A name rarer than that is nearly always missing, and would
/// be scored on guesses.
const PRESENT_SHARE_MIN: f64 = 0.1;

/// What is rarer than a quarter of its opposite is a bad record; what is more frequent is a question for the user.
fn is_stray(n_odd: usize, n_usual: usize) -> bool {
    n_odd * 4 <= n_usual
}

/// The features of a topic, as its records show them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Inferred {
    /// Feature names in the order in which they first appeared.
    pub names: Vec<String>,
    /// Fields that are not features, with the reason.
    pub left_out: Vec<(String, String)>,
}

/// Why no schema can be learnt from a sample.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum InferError {
    /// No record of the sample could be read as a vector.
    #[error("none of {n_records} sampled records is a vector in the format `{format}`: {example}")]
    NoVector {
        /// Size of the sample.
        n_records: usize,
        /// The configured format.
        format: &'static str,
        /// What was wrong with the last of them.
        example: String,
    },
    /// Vectors without names have different lengths.
    #[error("the sampled vectors have {0} and {1} values; set schema.features to say which is right")]
    Lengths(usize, usize),
    /// Objects and arrays are mixed.
    #[error("the sample mixes objects and arrays; set schema.features, or decode.field if the vector is nested")]
    Mixed,
    /// No field is a number often enough.
    #[error("no field of the sampled records is a feature: {0}")]
    NoFeature(String),
}

/// Learns the features from `sample`, payloads of the topic in the order in which they were read.
///
/// Errors: an [`InferError`] that says what the sample looks like and which key settles it.
pub fn infer(config: &Config, sample: &[Vec<u8>]) -> Result<Inferred, InferError> {
    match config.format {
        Format::Packed => {
            let lengths = sample.iter().filter(|p| !p.is_empty() && p.len().is_multiple_of(4)).map(|p| p.len() / 4);
            positions(sample.len(), "packed", lengths, "its size is not a multiple of four bytes")
        }
        Format::Json => json(config, sample),
    }
}

fn json(config: &Config, sample: &[Vec<u8>]) -> Result<Inferred, InferError> {
    let mut objects = Vec::new();
    let mut lengths = Vec::new();
    let mut example = "the sample is empty".to_owned();
    for payload in sample {
        let vector = match parse(payload) {
            Err(error) => {
                example = format!("not JSON: {error}");
                continue;
            }
            Ok(mut value) => match &config.field {
                Some(field) => value.get_mut(field).map(Value::take),
                None => Some(value),
            },
        };
        match vector {
            Some(Value::Object(fields)) => objects.push((payload, fields)),
            Some(Value::Array(values)) => lengths.push(values.len()),
            Some(_) => "it is neither an object nor an array".clone_into(&mut example),
            None => example = format!("it has no field `{}`", config.field.as_deref().unwrap_or_default()),
        }
    }
    match (objects.len(), lengths.len()) {
        (0, _) => positions(sample.len(), "json", lengths.into_iter(), &example),
        (n_objects, n_arrays) if is_stray(n_arrays, n_objects) => fields(config, &objects),
        (n_objects, n_arrays) if is_stray(n_objects, n_arrays) => {
            positions(sample.len(), "json", lengths.into_iter(), &example)
        }
        _ => Err(InferError::Mixed),
    }
}

/// Reads a record as the decoder would: bare `NaN` and infinities are missing values.
fn parse(payload: &[u8]) -> serde_json::Result<Value> {
    let plain = serde_json::from_slice(payload);
    match plain.is_err().then(|| without_non_finite(payload)).flatten() {
        Some(rewritten) => serde_json::from_slice(&rewritten),
        None => plain,
    }
}

/// What one name held over the sample.
#[derive(Default)]
struct Seen {
    first: (usize, usize),
    n_numbers: usize,
    n_other: usize,
    other: &'static str,
}

impl Seen {
    fn note_other(&mut self, what: &'static str) {
        self.n_other += 1;
        self.other = what;
    }
}

type Object<'a> = (&'a Vec<u8>, serde_json::Map<String, Value>);

fn fields(config: &Config, objects: &[Object<'_>]) -> Result<Inferred, InferError> {
    let mut seen: HashMap<&str, Seen> = HashMap::new();
    for (i, (payload, object)) in objects.iter().enumerate() {
        for (name, value) in object {
            let first = || Seen { first: (i, place(payload, name)), ..Seen::default() };
            let entry = seen.entry(name).or_insert_with(first);
            match value {
                Value::Number(_) => entry.n_numbers += 1,
                Value::Null => {}
                Value::Bool(_) => entry.note_other("a boolean"),
                Value::String(_) => entry.note_other("a string"),
                Value::Array(_) => entry.note_other("an array"),
                Value::Object(_) => entry.note_other("an object"),
            }
        }
    }
    let mut ordered: Vec<_> = seen.into_iter().collect();
    ordered.sort_by_key(|(name, seen)| (seen.first, *name));
    let is_set_aside =
        |name: &str| config.time_field.as_deref() == Some(name) || config.passthrough.iter().any(|p| p == name);
    let mut inferred = Inferred { names: Vec::new(), left_out: Vec::new() };
    for (name, seen) in ordered {
        let share = seen.n_numbers as f64 / objects.len() as f64;
        let reason = match () {
            () if is_set_aside(name) && config.field.is_none() => continue,
            () if !is_stray(seen.n_other, seen.n_numbers) => {
                format!("it is {} in {} of {} records", seen.other, seen.n_other, objects.len())
            }
            () if share < PRESENT_SHARE_MIN => {
                format!("it is a number in {} of {} records", seen.n_numbers, objects.len())
            }
            () => {
                inferred.names.push(name.to_owned());
                continue;
            }
        };
        inferred.left_out.push((name.to_owned(), reason));
    }
    if inferred.names.is_empty() {
        let why: Vec<_> = inferred.left_out.iter().take(5).map(|(name, why)| format!("`{name}`: {why}")).collect();
        return Err(InferError::NoFeature(why.join("; ")));
    }
    Ok(inferred)
}

/// Where a name stands in its record; only the order matters.
fn place(payload: &[u8], name: &str) -> usize {
    let quoted = format!("\"{name}\"");
    payload.windows(quoted.len()).position(|window| window == quoted.as_bytes()).unwrap_or(payload.len())
}

fn positions(
    n_records: usize,
    format: &'static str,
    lengths: impl Iterator<Item = usize>,
    example: &str,
) -> Result<Inferred, InferError> {
    let mut counts: HashMap<usize, usize> = HashMap::new();
    for length in lengths.filter(|&length| length > 0) {
        *counts.entry(length).or_default() += 1;
    }
    let mut counts: Vec<_> = counts.into_iter().collect();
    counts.sort_by_key(|&(length, n)| (std::cmp::Reverse(n), length));
    match counts[..] {
        [] => Err(InferError::NoVector { n_records, format, example: example.to_owned() }),
        [(a, n_a), (b, n_b), ..] if !is_stray(n_b, n_a) => Err(InferError::Lengths(a, b)),
        [(length, _), ..] => {
            Ok(Inferred { names: (0..length).map(|i| format!("f{i}")).collect(), left_out: Vec::new() })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(texts: &[&str]) -> Vec<Vec<u8>> {
        texts.iter().map(|text| text.as_bytes().to_vec()).collect()
    }

    #[test]
    fn names_are_the_union_over_the_sample_in_order_of_appearance() {
        let sample = sample(&[r#"{"b": 1, "a": null}"#, r#"{"a": 2, "c": 3}"#, "garbage"]);
        assert_eq!(infer(&Config::default(), &sample).expect("learnt").names, ["b", "a", "c"]);
    }

    #[test]
    fn fields_that_are_not_numbers_are_left_out_with_the_reason() {
        let sample = sample(&[r#"{"a": 1, "site": "north"}"#, r#"{"a": 2, "site": null, "b": null}"#]);
        let inferred = infer(&Config::default(), &sample).expect("learnt");
        assert_eq!(inferred.names, ["a"]);
        let reasons: Vec<_> = inferred.left_out.iter().map(|(name, why)| format!("{name} {why}")).collect();
        assert_eq!(reasons, ["site it is a string in 1 of 2 records", "b it is a number in 0 of 2 records"]);
    }

    #[test]
    fn a_few_bad_records_decide_nothing() {
        let mut texts = vec![r#"{"a": 1, "b": NaN}"#; 4];
        texts.push(r#"{"a": "broken", "b": 1e400}"#);
        texts.push("[1, 2, 3]");
        texts.extend([r#"{"a": 1, "b": 2}"#; 4]);
        let inferred = infer(&Config::default(), &sample(&texts)).expect("learnt");
        assert_eq!((inferred.names, inferred.left_out), (vec!["a".to_owned(), "b".to_owned()], vec![]));
        let mut texts = vec!["[1, 2]"; 4];
        texts.push(r#"{"a": 1}"#);
        assert_eq!(infer(&Config::default(), &sample(&texts)).expect("learnt").names, ["f0", "f1"]);
    }

    #[test]
    fn time_and_passthrough_are_no_features() {
        let config = Config { time_field: Some("t".into()), passthrough: vec!["line".into()], ..Config::default() };
        let inferred = infer(&config, &sample(&[r#"{"t": 5, "line": 3, "x": 1}"#])).expect("learnt");
        assert_eq!((inferred.names, inferred.left_out), (vec!["x".to_owned()], vec![]));
    }

    #[test]
    fn arrays_and_packed_vectors_get_positions_as_names() {
        assert_eq!(infer(&Config::default(), &sample(&["[1,2]", "[3,4]"])).expect("learnt").names, ["f0", "f1"]);
        let packed = Config { format: Format::Packed, ..Config::default() };
        assert_eq!(infer(&packed, &[vec![0; 8], vec![0; 8], vec![0; 3]]).expect("learnt").names, ["f0", "f1"]);
    }

    #[test]
    fn what_cannot_be_learnt_says_why() {
        let error = |texts: &[&str]| infer(&Config::default(), &sample(texts)).expect_err("nothing to learn");
        assert_eq!(error(&["[1]", "[1,2]"]), InferError::Lengths(1, 2));
        assert_eq!(error(&["[1]", "{\"a\": 1}"]), InferError::Mixed);
        assert!(error(&["x"]).to_string().starts_with("none of 1 sampled records is a vector"));
        assert!(error(&[r#"{"a": "x"}"#]).to_string().contains("`a`: it is a string"));
    }
}
