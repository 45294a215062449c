//! CSV records (RFC 4180): one line a message, cells in the order of `decode.columns`, or of the features where no columns
//! are named.
//!
//! An empty cell, `nan`, `null` and `na` mean missing, in any case of the letters. A cell in quotes is what stands
//! between them. No header is expected: a line that repeats the names is rejected as any other text.

use serde::de::value::{Error, MapDeserializer, SeqDeserializer};
use serde::de::{Deserializer, IntoDeserializer, Visitor};

use super::described::{Described, to_json};
use super::field::Field;
use super::{Config, Decoded, Decoder, Format, Reject, check_size};

/// Decoder of CSV records.
pub struct Csv {
    reader: Described,
    bytes_max: usize,
    columns: Vec<Column>,
    lines: Lines,
    delimiter: char,
    /// Whether cells have names; without them they are the features in their order.
    is_named: bool,
}

/// One column.
struct Column {
    name: String,
    /// Whether its cells are text even where they look like numbers: `007` is not `7`.
    is_text: bool,
}

/// Takes a line apart, with memory that is used again.
struct Lines {
    parser: csv_core::Reader,
    text: Vec<u8>,
    ends: Vec<usize>,
}

/// One cell.
#[derive(Clone, Copy)]
struct Cell<'a> {
    text: &'a str,
    is_text: bool,
}

impl Csv {
    /// Makes the decoder for `fields`, the features in the order of the schema.
    pub fn new(config: &Config, fields: &[Field]) -> Self {
        let is_category = |name: &String| fields.iter().any(|field| field.is_category() && field.name == *name);
        // What is copied stays as it was written.
        let is_text = |name: &String| is_category(name) || config.passthrough.contains(name);
        let named = config.columns.iter().map(|name| Column { name: name.clone(), is_text: is_text(name) });
        let unnamed = fields.iter().map(|field| Column { name: field.name.clone(), is_text: field.is_category() });
        Self {
            reader: Described::new(config, fields),
            bytes_max: config.payload_bytes_max,
            columns: if config.columns.is_empty() { unnamed.collect() } else { named.collect() },
            lines: Lines::new(config.delimiter),
            delimiter: config.delimiter,
            is_named: !config.columns.is_empty(),
        }
    }
}

impl Decoder for Csv {
    fn decode(&mut self, payload: &[u8], values: &mut [f32]) -> Result<Decoded, Reject> {
        check_size(payload, self.bytes_max)?;
        let line = self.lines.read(payload)?;
        let (n_cells, columns) = (line.ends.len(), &self.columns);
        if n_cells != columns.len() {
            return Err(Reject::WrongLength { got: n_cells, expected: columns.len() });
        }
        let cells = || line.cells().zip(columns).map(|(text, column)| Cell { text, is_text: column.is_text });
        if !self.is_named {
            return self.reader.read(SeqDeserializer::<_, Error>::new(cells()), 1, values);
        }
        let named = cells().zip(columns).map(|(cell, column)| (column.name.as_str(), cell));
        self.reader.read(MapDeserializer::<_, Error>::new(named), 1, values)
    }

    fn passthrough(&self) -> Option<&[u8]> {
        self.reader.passthrough()
    }

    fn transcribe(&mut self, payload: &[u8]) -> Result<Vec<u8>, Reject> {
        let mut lines = Lines::new(self.delimiter);
        let line = lines.read(payload)?;
        let is_text = |i: usize| self.columns.get(i).is_some_and(|column| column.is_text);
        let cells = line.cells().enumerate().map(|(i, text)| Cell { text, is_text: is_text(i) });
        if !self.is_named {
            return to_json(Format::Csv.name(), SeqDeserializer::<_, Error>::new(cells));
        }
        if line.ends.len() != self.columns.len() {
            return Err(Reject::WrongLength { got: line.ends.len(), expected: self.columns.len() });
        }
        let named = cells.zip(&self.columns).map(|(cell, column)| (column.name.as_str(), cell));
        to_json(Format::Csv.name(), MapDeserializer::<_, Error>::new(named))
    }
}

/// The cells of one line.
struct Line<'a> {
    text: &'a str,
    ends: &'a [usize],
}

impl<'a> Line<'a> {
    fn cells(&self) -> impl Iterator<Item = &'a str> + use<'a> {
        let (text, mut start) = (self.text, 0);
        self.ends.iter().map(move |&end| &text[std::mem::replace(&mut start, end)..end])
    }
}

impl Lines {
    fn new(delimiter: char) -> Self {
        let delimiter = u8::try_from(delimiter).unwrap_or(b',');
        let parser = csv_core::ReaderBuilder::new().delimiter(delimiter).build();
        Self { parser, text: Vec::new(), ends: Vec::new() }
    }

    fn read(&mut self, payload: &[u8]) -> Result<Line<'_>, Reject> {
        use csv_core::ReadRecordResult::{End, InputEmpty, OutputEndsFull, OutputFull, Record};
        // No cell is longer than the line, and there is at most one for each byte and one more.
        self.text.resize(self.text.len().max(payload.len()), 0);
        self.ends.resize(self.ends.len().max(payload.len() + 1), 0);
        self.parser.reset();
        let (mut input, mut n_text, mut n_ends) = (payload, 0, 0);
        loop {
            let (result, n_in, n_out, n_new) =
                self.parser.read_record(input, &mut self.text[n_text..], &mut self.ends[n_ends..]);
            (input, n_text, n_ends) = (&input[n_in..], n_text + n_out, n_ends + n_new);
            match result {
                // An empty input says that this was all.
                InputEmpty => {}
                Record | End => break,
                OutputFull | OutputEndsFull => unreachable!("there is room for the whole line"),
            }
        }
        if input.iter().any(|byte| !matches!(byte, b'\r' | b'\n')) {
            return Err(Reject::Malformed("not a csv record: another line follows".to_owned()));
        }
        let text = &self.text[..n_text];
        let text = std::str::from_utf8(text).map_err(|error| Reject::InvalidUtf8 { at: error.valid_up_to() })?;
        let ends = &self.ends[..n_ends];
        match ends.iter().find(|&&end| !text.is_char_boundary(end)) {
            None => Ok(Line { text, ends }),
            Some(&at) => Err(Reject::InvalidUtf8 { at }),
        }
    }
}

impl IntoDeserializer<'_, Error> for Cell<'_> {
    type Deserializer = Self;

    fn into_deserializer(self) -> Self {
        self
    }
}

impl<'de> Deserializer<'de> for Cell<'_> {
    type Error = Error;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        let trimmed = self.text.trim();
        let is = |word: &str| trimmed.eq_ignore_ascii_case(word);
        if trimmed.is_empty() || is("nan") || is("null") || is("na") {
            return visitor.visit_unit();
        }
        if self.is_text {
            return visitor.visit_str(self.text);
        }
        if is("true") || is("false") {
            return visitor.visit_bool(is("true"));
        }
        if let Ok(whole) = trimmed.parse::<u64>() {
            return visitor.visit_u64(whole);
        }
        match trimmed.parse::<f64>() {
            Ok(number) => visitor.visit_f64(number),
            Err(_) => visitor.visit_str(self.text),
        }
    }

    serde::forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf option unit unit_struct
        newtype_struct seq tuple tuple_struct map struct enum identifier ignored_any
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fields() -> Vec<Field> {
        vec![Field::number("a"), Field::category("p", &["tcp".to_owned(), "007".to_owned()]), Field::boolean("up")]
    }

    fn csv(columns: &[&str]) -> Config {
        let columns = columns.iter().map(|&name| name.to_owned()).collect();
        Config { format: Format::Csv, columns, ..Config::default() }
    }

    fn decode(config: &Config, line: &str) -> Result<[f32; 3], Reject> {
        let mut values = [f32::NAN; 3];
        Csv::new(config, &fields()).decode(line.as_bytes(), &mut values).map(|_| values)
    }

    #[test]
    fn cells_are_read_in_the_order_of_the_features() {
        assert_eq!(decode(&csv(&[]), "1.5,tcp,true"), Ok([1.5, 0.0, 1.0]));
        assert_eq!(decode(&csv(&[]), " -3e2 ,\"007\",0\r\n"), Ok([-300.0, 1.0, 0.0]));
        assert!(decode(&csv(&[]), ",NA,NaN\n").expect("accepted").iter().all(|value| value.is_nan()));
        let tabs = Config { delimiter: '\t', ..csv(&[]) };
        assert_eq!(decode(&tabs, "1\t\"a\tb\"\"\"\tFALSE"), Ok([1.0, 2.0, 0.0]));
    }

    #[test]
    fn columns_have_the_names_that_they_are_given() {
        let config = Config {
            time_field: Some("at".into()),
            passthrough: vec!["site".into()],
            ..csv(&["up", "at", "site", "a", "note"])
        };
        let (mut decoder, mut values) = (Csv::new(&config, &fields()), [f32::NAN; 3]);
        let decoded = decoder.decode(b"1,2026-01-01T00:00:00Z,007,2.5,x", &mut values).expect("accepted");
        assert_eq!((values[0], values[2], decoded.n_unknown), (2.5, 1.0, 1));
        assert_eq!(decoded.time_ms, Some(1_767_225_600_000));
        assert_eq!(decoder.passthrough(), Some(&br#"{"site":"007"}"#[..]));
        let text = decoder.transcribe(b"1,5,7,2.5,x").expect("accepted");
        assert_eq!(String::from_utf8(text).expect("JSON"), r#"{"up":1,"at":5,"site":"7","a":2.5,"note":"x"}"#);
    }

    #[test]
    fn what_is_no_line_of_the_columns_is_rejected() {
        let reason = |line: &[u8]| {
            let mut decoder = Csv::new(&csv(&[]), &fields());
            decoder.decode(line, &mut [f32::NAN; 3]).expect_err("bad").reason()
        };
        for line in ["1,2", "1,2,0,4", "\n", "1;2;0"] {
            assert_eq!(reason(line.as_bytes()), "wrong_length", "{line}");
        }
        assert_eq!(reason(b"x,tcp,true"), "wrong_type");
        assert_eq!(reason(b"1,tcp,true\n2,tcp,true\n"), "malformed");
        assert_eq!(reason(b"1,\xff,true"), "invalid_utf8");
        assert_eq!(reason(b""), "empty");
    }
}
