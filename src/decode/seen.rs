//! What one field held over a sample: how many values of which type, how often each category, and the shape of numbers.

use std::collections::HashMap;

use serde_json::Value;

use super::field::Scalar;
use super::infer::{Holds, Observed, is_stray};
use super::packed::as_written;

/// Skewness from which numbers that are never negative may be of orders of magnitude.
const SKEWNESS_MIN: f64 = 3.0;
/// Share of a string's values that must be among the counted categories, each seen twice at least: else it is a name
/// or an id.
const REPEATED_SHARE_MIN: f64 = 0.9;

/// What one field held.
#[derive(Clone, Debug, Default)]
pub(super) struct Seen {
    n_numbers: usize,
    n_booleans: usize,
    n_texts: usize,
    n_other: usize,
    other: &'static str,
    counts_numbers: bool,
    counts: HashMap<String, usize>,
    numbers: Vec<f64>,
}

impl Seen {
    /// One for each of `names`; of those in `categorical`, numbers are counted as categories, too.
    pub(super) fn of(names: &[String], categorical: &[String]) -> Vec<Self> {
        let counts_numbers = |name| categorical.contains(name);
        names.iter().map(|name| Self { counts_numbers: counts_numbers(name), ..Self::default() }).collect()
    }

    /// Adds a value of a JSON record.
    pub(super) fn note(&mut self, value: &Value) {
        match value {
            Value::Null => {}
            Value::Number(number) => {
                let float = number.as_f64().unwrap_or(f64::NAN);
                let whole = number.as_u64().map(Scalar::Unsigned).or(number.as_i64().map(Scalar::Signed));
                self.note_number(float, whole.unwrap_or(Scalar::Float(float)));
            }
            Value::Bool(value) => {
                self.n_booleans += 1;
                self.count(Scalar::Boolean(*value));
            }
            Value::String(text) => {
                self.n_texts += 1;
                self.count(Scalar::Text(text));
            }
            Value::Array(_) => (self.n_other, self.other) = (self.n_other + 1, "an array"),
            Value::Object(_) => (self.n_other, self.other) = (self.n_other + 1, "an object"),
        }
    }

    /// Adds a value of a packed record.
    pub(super) fn note_single(&mut self, value: f32) {
        if value.is_finite() {
            self.note_number(f64::from(value), Scalar::Float(as_written(value)));
        }
    }

    fn note_number(&mut self, value: f64, scalar: Scalar<'_>) {
        self.n_numbers += 1;
        self.numbers.push(value);
        if self.counts_numbers {
            self.count(scalar);
        }
    }

    fn count(&mut self, scalar: Scalar<'_>) {
        scalar.with_category(|category| match self.counts.get_mut(category) {
            Some(n) => *n += 1,
            None => {
                self.counts.insert(category.to_owned(), 1);
            }
        });
    }

    /// Type and number of the most frequent values, and of the others together with what most of those are.
    fn sides(&self) -> ((&'static str, usize), (&'static str, usize)) {
        let mut types = [
            ("a number", self.n_numbers),
            ("a boolean", self.n_booleans),
            ("a string", self.n_texts),
            (self.other, self.n_other),
        ];
        types.sort_by_key(|(_, n)| std::cmp::Reverse(*n));
        (types[0], (types[1].0, types[1].1 + types[2].1 + types[3].1))
    }

    /// Why the field is no feature among `n_records`, or `None` when it is one.
    pub(super) fn why_no_feature(&self, n_records: usize, share_min: f64, categories_max: usize) -> Option<String> {
        let ((usual, n_usual), (odd, n_odd)) = self.sides();
        let n = self.n_numbers + self.n_booleans + self.n_texts;
        if self.n_other > 0 && usual == self.other {
            return Some(format!("it is {usual} in {n_usual} of {n_records} records"));
        }
        if !is_stray(n_odd, n_usual) {
            let mut types = [(usual, n_usual), (odd, n_odd)];
            types.sort_by_key(|(what, _)| *what == "a number");
            let [(a, n_a), (b, n_b)] = types;
            return Some(format!("it is {a} in {n_a} of {n_records} records and {b} in {n_b}"));
        }
        if (n as f64) < share_min * n_records as f64 || n == 0 {
            return Some(format!("it has a value in {n} of {n_records} records"));
        }
        if usual != "a string" {
            return None;
        }
        let repeated = self.ordered().into_iter().take(categories_max).filter(|(_, n)| *n > 1);
        let n_repeated: usize = repeated.map(|(_, n)| n).sum();
        match self.ordered()[..] {
            [(only, _)] => Some(format!("it is a string and always `{only}`")),
            ref all if (n_repeated as f64) < REPEATED_SHARE_MIN * self.n_texts as f64 => {
                Some(format!("it is a string with {} different values in {n_records} records", all.len()))
            }
            _ => None,
        }
    }

    /// What the field holds, with its `categories_max` most frequent categories.
    pub(super) fn observed(&self, name: &str, categories_max: usize) -> Observed {
        let holds = match self.sides().0 {
            _ if self.n_numbers + self.n_booleans + self.n_texts == 0 => Holds::Nothing,
            // Text beside numbers is a question for the user where nobody named the field; here somebody did.
            _ if !is_stray(self.n_texts, self.n_numbers + self.n_booleans) => Holds::Texts,
            _ if self.n_booleans > 0 && self.n_booleans >= self.n_numbers => Holds::Booleans,
            _ => Holds::Numbers { skewed: is_skewed(&self.numbers) },
        };
        let categories = self.ordered().into_iter().take(categories_max).map(|(category, _)| category.to_owned());
        Observed { name: name.to_owned(), holds, categories: categories.collect() }
    }

    /// Categories by frequency, then by name.
    fn ordered(&self) -> Vec<(&str, usize)> {
        let mut ordered: Vec<(&str, usize)> = self.counts.iter().map(|(name, n)| (name.as_str(), *n)).collect();
        ordered.sort_by_key(|&(name, n)| (std::cmp::Reverse(n), name));
        ordered
    }
}

/// Whether numbers are never negative and their skewness is above 3.
fn is_skewed(numbers: &[f64]) -> bool {
    let n = numbers.len() as f64;
    let mean = numbers.iter().sum::<f64>() / n;
    let moment = |power: i32| numbers.iter().map(|value| (value - mean).powi(power)).sum::<f64>() / n;
    numbers.iter().all(|value| *value >= 0.0) && moment(3) / moment(2).powf(1.5) > SKEWNESS_MIN
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn categories_are_ordered_by_frequency_and_then_by_name() {
        let mut seen = Seen::default();
        for text in ["b", "a", "c", "c"] {
            seen.note(&Value::from(text));
        }
        assert_eq!(seen.observed("x", 2).categories, ["c", "a"]);
    }

    #[test]
    fn only_numbers_over_orders_of_magnitude_are_skewed() {
        let of = |power: i32| (0..200).map(|i| (f64::from(i) / 40.0).exp().powi(power)).collect::<Vec<_>>();
        assert!(is_skewed(&of(3)));
        assert!(!is_skewed(&of(1)));
        let negative: Vec<f64> = of(3).into_iter().map(|value| value - 2.0).collect();
        assert!(!is_skewed(&negative));
        assert!(!is_skewed(&[5.0; 9]) && !is_skewed(&[]));
    }
}
