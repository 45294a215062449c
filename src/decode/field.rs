//! What a decoder knows of one feature: its name, and how a value of it becomes a number of the row.

use std::collections::HashMap;
use std::fmt::{self, Write};

use super::narrow;

/// One feature of the vector.
#[derive(Clone, Debug)]
pub struct Field {
    /// Name under which records carry it.
    pub name: String,
    values: Values,
}

#[derive(Clone, Debug)]
enum Values {
    Number,
    Boolean,
    Category(HashMap<String, f32>),
}

/// A single value of a record.
#[derive(Clone, Copy, Debug)]
pub(super) enum Scalar<'a> {
    Float(f64),
    Signed(i64),
    Unsigned(u64),
    Boolean(bool),
    Text(&'a str),
}

impl Field {
    /// A number.
    pub fn number(name: impl Into<String>) -> Self {
        Self { name: name.into(), values: Values::Number }
    }

    /// Yes or no: 1 or 0 in a row.
    pub fn boolean(name: impl Into<String>) -> Self {
        Self { name: name.into(), values: Values::Boolean }
    }

    /// One of `categories`: its index in a row, and their number for any other.
    pub fn category(name: impl Into<String>, categories: &[String]) -> Self {
        let index = categories.iter().enumerate().map(|(i, category)| (category.clone(), i as f32));
        Self { name: name.into(), values: Values::Category(index.collect()) }
    }

    pub(super) fn is_number(&self) -> bool {
        matches!(self.values, Values::Number)
    }

    pub(super) fn is_category(&self) -> bool {
        matches!(self.values, Values::Category(_))
    }

    /// What a reject says was expected.
    pub(super) fn expected(&self) -> &'static str {
        match self.values {
            Values::Number => "a number or null",
            Values::Boolean => "true, false, 1, 0 or null",
            Values::Category(_) => "a string, a number, a boolean or null",
        }
    }

    /// The number that stands for a value in a row, NaN where it is missing.
    ///
    /// Errors: what was found instead of a value of this feature.
    pub(super) fn read(&self, scalar: Scalar<'_>) -> Result<f32, &'static str> {
        match (&self.values, scalar) {
            (_, Scalar::Float(value)) if !value.is_finite() => Ok(f32::NAN),
            (Values::Number, Scalar::Float(value)) => Ok(narrow(value)),
            (Values::Number, Scalar::Signed(value)) => Ok(narrow(value as f64)),
            (Values::Number, Scalar::Unsigned(value)) => Ok(narrow(value as f64)),
            (Values::Boolean, Scalar::Boolean(value)) => Ok(f32::from(u8::from(value))),
            (Values::Boolean, Scalar::Unsigned(value @ (0 | 1))) => Ok(value as f32),
            (Values::Boolean, Scalar::Float(value)) if value == 0.0 || value == 1.0 => Ok(value.abs() as f32),
            (Values::Boolean, Scalar::Float(_) | Scalar::Signed(_) | Scalar::Unsigned(_)) => {
                Err("a number that is neither 0 nor 1")
            }
            (Values::Category(index), scalar) => {
                let code = scalar.with_category(|category| index.get(category).copied());
                Ok(code.unwrap_or(index.len() as f32))
            }
            (_, Scalar::Text(_)) => Err("a string"),
            (_, Scalar::Boolean(_)) => Err("a boolean"),
        }
    }
}

impl Scalar<'_> {
    /// Calls `take` with the category that the value stands for: a string as it is, a number by its value (6 and 6.0
    /// are one), a boolean as `true` or `false`.
    pub(super) fn with_category<T>(self, take: impl FnOnce(&str) -> T) -> T {
        match self {
            Self::Text(text) => take(text),
            Self::Boolean(value) => take(if value { "true" } else { "false" }),
            Self::Signed(value) => take(Digits::of(value).text()),
            Self::Unsigned(value) => take(Digits::of(value).text()),
            // −0 is 0.
            Self::Float(value) => take(Digits::of(value + 0.0).text()),
        }
    }
}

/// A number as text, without memory of its own.
struct Digits {
    bytes: [u8; Self::LENGTH_MAX],
    n_bytes: usize,
}

impl Digits {
    /// The longest double, the smallest normal one with its sign, takes 327 bytes.
    const LENGTH_MAX: usize = 336;

    fn of(number: impl fmt::Display) -> Self {
        let mut digits = Self { bytes: [0; Self::LENGTH_MAX], n_bytes: 0 };
        write!(digits, "{number}").expect("there is room for every number");
        digits
    }

    fn text(&self) -> &str {
        std::str::from_utf8(&self.bytes[..self.n_bytes]).expect("digits are UTF-8")
    }
}

impl Write for Digits {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let room = self.bytes.get_mut(self.n_bytes..self.n_bytes + text.len()).ok_or(fmt::Error)?;
        room.copy_from_slice(text.as_bytes());
        self.n_bytes += text.len();
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_becomes_the_index_of_its_category() {
        let field = Field::category("c", &["tcp".to_owned(), "6".to_owned(), "18446744073709551615".to_owned()]);
        assert_eq!(field.read(Scalar::Text("tcp")), Ok(0.0));
        assert_eq!([Scalar::Unsigned(6), Scalar::Float(6.0), Scalar::Text("6")].map(|s| field.read(s)), [Ok(1.0); 3]);
        assert_eq!(field.read(Scalar::Unsigned(u64::MAX)), Ok(2.0), "no digit is lost on the way to the index");
        assert_eq!(field.read(Scalar::Unsigned(u64::MAX - 1)), Ok(3.0));
        assert_eq!(field.read(Scalar::Text("")), Ok(3.0), "an empty string is a category as any other");
        assert!(field.read(Scalar::Float(f64::NAN)).is_ok_and(f32::is_nan));
    }

    #[test]
    fn every_number_has_its_text() {
        for value in [0.0, -0.0, 0.1, -f64::MIN_POSITIVE, -1.234567890123456e-308, f64::MIN, -5e-324, 1e-300 / 3.0] {
            let text = (value + 0.0).to_string();
            Scalar::Float(value).with_category(|category| assert_eq!(category, text));
        }
        Scalar::Signed(i64::MIN).with_category(|category| assert_eq!(category, "-9223372036854775808"));
    }

    #[test]
    fn a_boolean_is_yes_or_no() {
        let field = Field::boolean("b");
        let read = [Scalar::Boolean(true), Scalar::Unsigned(1), Scalar::Float(1.0)].map(|s| field.read(s));
        assert_eq!(read, [Ok(1.0); 3]);
        assert_eq!(field.read(Scalar::Float(-0.0)), Ok(0.0));
        assert_eq!(field.read(Scalar::Signed(-1)), Err("a number that is neither 0 nor 1"));
        assert_eq!(field.read(Scalar::Text("true")), Err("a string"));
    }

    #[test]
    fn a_number_is_nothing_else() {
        let field = Field::number("n");
        assert_eq!(field.read(Scalar::Float(1e300)), Ok(f32::MAX));
        assert_eq!(field.read(Scalar::Boolean(true)), Err("a boolean"));
        assert_eq!(field.read(Scalar::Text("1")), Err("a string"));
    }
}
