//! A page of metrics in Prometheus's text format, taken apart for tests.
//!
//! It reads what strayd writes (one sample a line, no timestamps); a line that it can't read fails the test.

use std::collections::BTreeMap;

/// One sample of a page.
#[derive(Clone, Debug, PartialEq)]
pub struct Sample {
    /// Name, with `_bucket`, `_sum` or `_count` where it belongs to a histogram.
    pub name: String,
    /// Labels and their values.
    pub labels: BTreeMap<String, String>,
    /// Value.
    pub value: f64,
}

/// All samples of a page, in its order.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Metrics {
    /// The samples.
    pub samples: Vec<Sample>,
}

impl Metrics {
    /// Takes a page apart.
    #[track_caller]
    pub fn parse(page: &str) -> Self {
        let lines = page.lines().filter(|line| !line.is_empty() && !line.starts_with('#'));
        let samples = lines.map(|line| parse_line(line).unwrap_or_else(|| panic!("not a sample: {line:?}"))).collect();
        Self { samples }
    }

    /// The sum of all samples of this name whose labels include `labels`; 0 where there are none.
    pub fn sum(&self, name: &str, labels: &[(&str, &str)]) -> f64 {
        self.with(name, labels).map(|sample| sample.value).sum()
    }

    /// The value of the one sample of this name whose labels include `labels`, if there is one.
    #[track_caller]
    pub fn get(&self, name: &str, labels: &[(&str, &str)]) -> Option<f64> {
        let mut found = self.with(name, labels);
        let value = found.next()?.value;
        assert_eq!(found.next(), None, "more than one sample of {name} with {labels:?}");
        Some(value)
    }

    /// The samples of this name whose labels include `labels`.
    pub fn with(&self, name: &str, labels: &[(&str, &str)]) -> impl Iterator<Item = &Sample> {
        self.samples.iter().filter(move |sample| {
            sample.name == name && labels.iter().all(|(k, v)| sample.labels.get(*k).is_some_and(|found| found == v))
        })
    }
}

fn parse_line(line: &str) -> Option<Sample> {
    let Some((name, rest)) = line.split_once('{') else {
        let (name, value) = line.split_once(' ')?;
        return Some(Sample { name: name.to_owned(), labels: BTreeMap::new(), value: value.trim().parse().ok()? });
    };
    let mut labels = BTreeMap::new();
    let mut rest = rest;
    while !rest.starts_with('}') {
        let (key, after) = rest.split_once("=\"")?;
        let (value, after) = unquote(after)?;
        labels.insert(key.to_owned(), value);
        rest = after.strip_prefix(',').unwrap_or(after);
    }
    Some(Sample { name: name.to_owned(), labels, value: rest[1..].trim().parse().ok()? })
}

/// Reads to the closing quote and returns what stood before it, unescaped, and what follows it.
fn unquote(text: &str) -> Option<(String, &str)> {
    let mut value = String::new();
    let mut chars = text.char_indices();
    while let Some((at, char)) = chars.next() {
        match char {
            '"' => return Some((value, &text[at + 1..])),
            '\\' => value.push(match chars.next()?.1 {
                'n' => '\n',
                other => other,
            }),
            other => value.push(other),
        }
    }
    None
}
