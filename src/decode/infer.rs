//! Learns the features, and what they hold, from a sample of records, never from one record alone.
//!
//! A name is a feature when it holds numbers, or booleans, or a few strings that come again and again, in at least a
//! tenth of the sample, and hardly ever anything else but null. A few odd records decide nothing: they are bad, and will
//! be rejected as such. What was left out is reported with the reason, so that nobody has to guess why a field is not
//! watched. Features that were named beforehand are never left out; what they hold is learnt all the same.

use std::collections::HashMap;

use serde_json::Value;
use thiserror::Error;

use super::json::without_non_finite;
use super::seen::Seen;
use super::{Config, Decoder, Format};

/// Share of the sample in which a name must hold a value. A name rarer than that is nearly always missing, and would
/// be scored on guesses.
const PRESENT_SHARE_MIN: f64 = 0.1;

/// What is rarer than a quarter of its opposite is a bad record; what is more frequent is a question for the user.
pub(super) fn is_stray(n_odd: usize, n_usual: usize) -> bool {
    n_odd * 4 <= n_usual
}

/// What is known of the features before the sample is read.
#[derive(Clone, Copy, Debug, Default)]
pub struct Hints<'a> {
    /// Names of the features in the order of the vector; empty: learnt.
    pub names: &'a [String],
    /// Those whose numbers are names, too: their values are counted.
    pub categorical: &'a [String],
    /// Most categories of a feature.
    pub categories_max: usize,
}

/// The features of a topic, as its records show them.
#[derive(Clone, Debug, PartialEq)]
pub struct Inferred {
    /// Features in the order in which they were named, or first appeared.
    pub fields: Vec<Observed>,
    /// Fields that are not features, with the reason.
    pub left_out: Vec<(String, String)>,
}

/// What a feature holds.
#[derive(Clone, Debug, PartialEq)]
pub struct Observed {
    /// Its name.
    pub name: String,
    /// What most of its values are.
    pub holds: Holds,
    /// Its most frequent values as categories, most frequent first; of numbers only where that was asked for.
    pub categories: Vec<String>,
}

/// What most values of a feature are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Holds {
    /// No value was seen.
    Nothing,
    /// Numbers.
    Numbers {
        /// Whether they are never negative and their skewness is above 3: a logarithm may suit them.
        skewed: bool,
    },
    /// `true` and `false`.
    Booleans,
    /// Strings.
    Texts,
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

/// Learns the features from `sample`, payloads of the topic in the order in which they were read, each as
/// [`Decoder::transcribe`](super::Decoder::transcribe) gives it.
///
/// Errors: an [`InferError`] that says what the sample looks like and which key settles it; never, if names are given.
pub fn infer(config: &Config, hints: Hints<'_>, sample: &[Vec<u8>]) -> Result<Inferred, InferError> {
    match config.format {
        Format::Packed => packed(hints, sample),
        Format::Json | Format::Csv | Format::Msgpack | Format::Avro | Format::Protobuf => json(config, hints, sample),
    }
}

fn packed(hints: Hints<'_>, sample: &[Vec<u8>]) -> Result<Inferred, InferError> {
    let vectors = || sample.iter().filter(|payload| !payload.is_empty() && payload.len().is_multiple_of(4));
    let positions = match hints.names {
        [] => positions(
            sample.len(),
            "packed",
            vectors().map(|p| p.len() / 4),
            "its size is not a multiple of four bytes",
        )?,
        names => names.to_vec(),
    };
    let mut seen = Seen::of(&positions, hints.categorical);
    for payload in vectors().filter(|payload| payload.len() == 4 * positions.len()) {
        for (seen, bytes) in seen.iter_mut().zip(payload.chunks_exact(4)) {
            seen.note_single(f32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]));
        }
    }
    Ok(Inferred { fields: observed(&positions, &seen, hints), left_out: Vec::new() })
}

fn observed(names: &[String], seen: &[Seen], hints: Hints<'_>) -> Vec<Observed> {
    names.iter().zip(seen).map(|(name, seen)| seen.observed(name, hints.categories_max)).collect()
}

/// A sample as [`infer`] takes it: what a record is, or why it is none.
pub fn transcribe(decoder: &mut dyn Decoder, sample: Vec<Vec<u8>>) -> Vec<Vec<u8>> {
    let text = |payload: Vec<u8>| decoder.transcribe(&payload).unwrap_or_else(|reject| reject.to_string().into_bytes());
    sample.into_iter().map(text).collect()
}

type Object = serde_json::Map<String, Value>;

/// The vectors of a sample, in both forms.
#[derive(Default)]
struct Vectors<'a> {
    objects: Vec<(&'a [u8], Object)>,
    arrays: Vec<Vec<Value>>,
    /// Why the last record that is no vector is none.
    example: String,
}

impl<'a> Vectors<'a> {
    fn read(config: &Config, sample: &'a [Vec<u8>]) -> Self {
        let mut vectors = Self { example: "the sample is empty".to_owned(), ..Self::default() };
        for payload in sample {
            let vector = match parse(payload) {
                Err(error) => {
                    vectors.example = match config.format {
                        Format::Json => format!("not JSON: {error}"),
                        // What stands in its place says why.
                        _ => String::from_utf8_lossy(payload).into_owned(),
                    };
                    continue;
                }
                Ok(mut value) => match &config.field {
                    Some(field) => value.get_mut(field).map(Value::take),
                    None => Some(value),
                },
            };
            let vector = if config.format == Format::Json { vector } else { vector.map(flat) };
            match vector {
                Some(Value::Object(fields)) => vectors.objects.push((payload, fields)),
                Some(Value::Array(values)) => vectors.arrays.push(values),
                Some(_) => "it is neither an object nor an array".clone_into(&mut vectors.example),
                None => {
                    vectors.example = format!("it has no field `{}`", config.field.as_deref().unwrap_or_default());
                }
            }
        }
        vectors
    }

    /// What each of the named features holds, in either form.
    fn observe(&self, names: &[String], hints: Hints<'_>) -> Vec<Observed> {
        let mut seen = Seen::of(names, hints.categorical);
        for (_, object) in &self.objects {
            for (name, seen) in names.iter().zip(&mut seen) {
                seen.note(object.get(name).unwrap_or(&Value::Null));
            }
        }
        for array in self.arrays.iter().filter(|array| array.len() == names.len()) {
            seen.iter_mut().zip(array).for_each(|(seen, value)| seen.note(value));
        }
        observed(names, &seen, hints)
    }
}

fn json(config: &Config, hints: Hints<'_>, sample: &[Vec<u8>]) -> Result<Inferred, InferError> {
    let vectors = Vectors::read(config, sample);
    if !hints.names.is_empty() {
        return Ok(Inferred { fields: vectors.observe(hints.names, hints), left_out: Vec::new() });
    }
    let by_position = || {
        let lengths = vectors.arrays.iter().map(Vec::len);
        let names = positions(sample.len(), config.format.name(), lengths, &vectors.example)?;
        Ok(Inferred { fields: vectors.observe(&names, hints), left_out: Vec::new() })
    };
    match (vectors.objects.len(), vectors.arrays.len()) {
        (0, _) => by_position(),
        (n_objects, n_arrays) if is_stray(n_arrays, n_objects) => fields(config, hints, &vectors.objects),
        (n_objects, n_arrays) if is_stray(n_objects, n_arrays) => by_position(),
        _ => Err(InferError::Mixed),
    }
}

/// A record with the fields of inner records under dotted names, which JSON doesn't have.
fn flat(record: Value) -> Value {
    let Value::Object(fields) = record else { return record };
    let mut all = Object::new();
    for (name, value) in fields {
        match flat(value) {
            Value::Object(inner) if !inner.is_empty() => {
                all.extend(inner.into_iter().map(|(rest, value)| (format!("{name}.{rest}"), value)));
            }
            value => {
                all.insert(name, value);
            }
        }
    }
    Value::Object(all)
}

/// Reads a record as the decoder would: bare `NaN` and infinities are missing values.
fn parse(payload: &[u8]) -> serde_json::Result<Value> {
    let plain = serde_json::from_slice(payload);
    match plain.is_err().then(|| without_non_finite(payload)).flatten() {
        Some(rewritten) => serde_json::from_slice(&rewritten),
        None => plain,
    }
}

fn fields(config: &Config, hints: Hints<'_>, objects: &[(&[u8], Object)]) -> Result<Inferred, InferError> {
    let mut seen: HashMap<&str, ((usize, usize), Seen)> = HashMap::new();
    for (i, (payload, object)) in objects.iter().enumerate() {
        for (name, value) in object {
            let first = || ((i, place(payload, name)), Seen::default());
            seen.entry(name).or_insert_with(first).1.note(value);
        }
    }
    let mut ordered: Vec<_> = seen.into_iter().collect();
    ordered.sort_by_key(|(name, (first, _))| (*first, *name));
    let is_set_aside =
        |name: &str| config.time_field.as_deref() == Some(name) || config.passthrough.iter().any(|p| p == name);
    let mut inferred = Inferred { fields: Vec::new(), left_out: Vec::new() };
    for (name, (_, seen)) in ordered {
        if is_set_aside(name) && config.field.is_none() {
            continue;
        }
        match seen.why_no_feature(objects.len(), PRESENT_SHARE_MIN, hints.categories_max) {
            Some(reason) => inferred.left_out.push((name.to_owned(), reason)),
            None => inferred.fields.push(seen.observed(name, hints.categories_max)),
        }
    }
    if inferred.fields.is_empty() {
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

/// Names of the places of vectors that have none, by their lengths.
fn positions(
    n_records: usize,
    format: &'static str,
    lengths: impl Iterator<Item = usize>,
    example: &str,
) -> Result<Vec<String>, InferError> {
    let mut counts: HashMap<usize, usize> = HashMap::new();
    for length in lengths.filter(|&length| length > 0) {
        *counts.entry(length).or_default() += 1;
    }
    let mut counts: Vec<_> = counts.into_iter().collect();
    counts.sort_by_key(|&(length, n)| (std::cmp::Reverse(n), length));
    match counts[..] {
        [] => Err(InferError::NoVector { n_records, format, example: example.to_owned() }),
        [(a, n_a), (b, n_b), ..] if !is_stray(n_b, n_a) => Err(InferError::Lengths(a, b)),
        [(length, _), ..] => Ok((0..length).map(|i| format!("f{i}")).collect()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(texts: &[&str]) -> Vec<Vec<u8>> {
        texts.iter().map(|text| text.as_bytes().to_vec()).collect()
    }

    const HINTS: Hints<'static> = Hints { names: &[], categorical: &[], categories_max: 3 };

    fn learn(config: &Config, sample: &[Vec<u8>]) -> (Vec<String>, Vec<(String, String)>) {
        let inferred = infer(config, HINTS, sample).expect("learnt");
        (inferred.fields.into_iter().map(|field| field.name).collect(), inferred.left_out)
    }

    #[test]
    fn names_are_the_union_over_the_sample_in_order_of_appearance() {
        let sample = sample(&[r#"{"b": 1, "a": null}"#, r#"{"a": 2, "c": 3}"#, "garbage"]);
        assert_eq!(learn(&Config::default(), &sample).0, ["b", "a", "c"]);
    }

    #[test]
    fn fields_that_are_no_features_are_left_out_with_the_reason() {
        let texts: Vec<String> = (0..20)
            .map(|i| {
                format!(
                    r#"{{"a": {i}, "site": "north", "id": "x{i}", "tags": [], "rare": null, "mix": {}}}"#,
                    ["1", "\"1\""][i % 2]
                )
            })
            .collect();
        let (names, left_out) =
            learn(&Config::default(), &sample(&texts.iter().map(String::as_str).collect::<Vec<_>>()));
        assert_eq!(names, ["a"]);
        let reasons: Vec<_> = left_out.iter().map(|(name, why)| format!("{name}: {why}")).collect();
        let wanted = [
            "site: it is a string and always `north`",
            "id: it is a string with 20 different values in 20 records",
            "tags: it is an array in 20 of 20 records",
            "rare: it has a value in 0 of 20 records",
            "mix: it is a string in 10 of 20 records and a number in 10",
        ];
        assert_eq!(reasons, wanted);
    }

    #[test]
    fn strings_that_come_again_and_booleans_are_features() {
        let texts: Vec<String> =
            (0..20).map(|i| format!(r#"{{"p": "{}", "up": {}}}"#, ["tcp", "tcp", "udp"][i % 3], i % 2 == 0)).collect();
        let sample: Vec<Vec<u8>> = texts.into_iter().map(String::into_bytes).collect();
        let fields = infer(&Config::default(), HINTS, &sample).expect("learnt").fields;
        assert_eq!((fields[0].holds, fields[1].holds), (Holds::Texts, Holds::Booleans));
        assert_eq!(fields[0].categories, ["tcp", "udp"]);
    }

    #[test]
    fn named_features_are_never_left_out() {
        let names = ["id", "port", "gone"].map(str::to_owned);
        let hints = Hints { names: &names, categorical: &names[1..2], categories_max: 2 };
        let sample =
            sample(&[r#"{"id": "x", "port": 80}"#, r#"{"id": "y", "port": 22}"#, r#"["z", 80.0, null]"#, "{}"]);
        let fields = infer(&Config::default(), hints, &sample).expect("learnt").fields;
        assert_eq!(
            fields.iter().map(|field| field.holds).collect::<Vec<_>>(),
            [Holds::Texts, Holds::Numbers { skewed: false }, Holds::Nothing]
        );
        assert_eq!(
            (&fields[0].categories[..], &fields[1].categories[..]),
            (&["x", "y"].map(str::to_owned)[..], &["80", "22"].map(str::to_owned)[..])
        );
        let packed = Config { format: Format::Packed, ..Config::default() };
        let payload: Vec<u8> = [1.0f32, 80.0, 0.1].iter().flat_map(|value| value.to_le_bytes()).collect();
        let fields = infer(&packed, hints, &[payload]).expect("learnt").fields;
        assert_eq!((fields[1].name.as_str(), &fields[1].categories[..]), ("port", &["80".to_owned()][..]));
    }

    #[test]
    fn a_few_bad_records_decide_nothing() {
        let mut texts = vec![r#"{"a": 1, "b": NaN}"#; 4];
        texts.push(r#"{"a": "broken", "b": 1e400}"#);
        texts.push("[1, 2, 3]");
        texts.extend([r#"{"a": 1, "b": 2}"#; 4]);
        assert_eq!(learn(&Config::default(), &sample(&texts)), (vec!["a".to_owned(), "b".to_owned()], vec![]));
        let mut texts = vec!["[1, 2]"; 4];
        texts.push(r#"{"a": 1}"#);
        assert_eq!(learn(&Config::default(), &sample(&texts)).0, ["f0", "f1"]);
    }

    #[test]
    fn time_and_passthrough_are_no_features() {
        let config = Config { time_field: Some("t".into()), passthrough: vec!["line".into()], ..Config::default() };
        let learnt = learn(&config, &sample(&[r#"{"t": 5, "line": 3, "x": 1}"#]));
        assert_eq!(learnt, (vec!["x".to_owned()], vec![]));
    }

    #[test]
    fn arrays_and_packed_vectors_get_positions_as_names() {
        assert_eq!(learn(&Config::default(), &sample(&["[1,2]", "[3,4]"])).0, ["f0", "f1"]);
        let packed = Config { format: Format::Packed, ..Config::default() };
        assert_eq!(learn(&packed, &[vec![0; 8], vec![0; 8], vec![0; 3]]).0, ["f0", "f1"]);
    }

    #[test]
    fn other_formats_are_learnt_from_what_they_are_as_json() {
        let config = Config { format: Format::Msgpack, ..Config::default() };
        let mut decoder = super::super::build(&config, &[]);
        let record = serde_json::json!({"pump": {"load": 1.5, "on": true}, "temp": 2});
        let sample = vec![rmp_serde::to_vec(&record).expect("MessagePack"); 4];
        let (mut names, _) = learn(&config, &transcribe(&mut *decoder, sample));
        names.sort();
        assert_eq!(names, ["pump.load", "pump.on", "temp"]);
        let error = infer(&config, HINTS, &transcribe(&mut *decoder, vec![vec![0xc1]])).expect_err("no record");
        assert!(error.to_string().contains("not a msgpack record"), "{error}");
        let csv = Config { format: Format::Csv, ..Config::default() };
        let sample = transcribe(&mut *super::super::build(&csv, &[]), vec![b"1,2,x\n".to_vec(); 3]);
        assert_eq!(learn(&csv, &sample).0, ["f0", "f1", "f2"]);
    }

    #[test]
    fn what_cannot_be_learnt_says_why() {
        let error = |texts: &[&str]| infer(&Config::default(), HINTS, &sample(texts)).expect_err("nothing to learn");
        assert_eq!(error(&["[1]", "[1,2]"]), InferError::Lengths(1, 2));
        assert_eq!(error(&["[1]", "{\"a\": 1}"]), InferError::Mixed);
        assert!(error(&["x"]).to_string().starts_with("none of 1 sampled records is a vector"));
        assert!(error(&[r#"{"a": "x"}"#]).to_string().contains("`a`: it is a string"));
    }
}
