//! A CSV file as a table of numbers, with one column as label if asked for.
//!
//! A column of text is a table of its categories and holds their indices; such a file is passed on as JSON, every other
//! one as packed vectors, so that it meets the same decoders as a topic's records. What a column is, its first cell that
//! isn't empty says: a word among numbers is an error, not a category.

use std::collections::HashMap;
use std::fs::File;
use std::io::{BufReader, Read};
use std::path::Path;

use anyhow::{Context, bail};
use flate2::read::MultiGzDecoder;
use ndarray::Array2;

use super::file_decode;
use crate::config::Config;
use crate::decode::{self, Format};
use crate::model::{Model, features};
use crate::preprocess::{Kind, Schema, Wish, WishedKind};

/// Rows, spread over the file, from which kinds and categories are learnt: parsed as a whole, they take a few hundred bytes
/// a value.
const SCHEMA_ROWS: usize = 20_000;
/// Codes above this can't all be told apart as `f32`.
const TEXTS_MAX: usize = 1 << 24;

/// A table of numbers.
#[derive(Clone, Debug, Default)]
pub struct Table {
    /// Names of the columns without the label.
    pub names: Vec<String>,
    /// Rows, `NaN` where a cell is empty; of a column of text the places in its list of texts.
    pub rows: Vec<Vec<f32>>,
    /// Labels, true for an anomaly; empty without a label column.
    pub labels: Vec<bool>,
    columns: Vec<Column>,
}

/// What the cells of one column are.
#[derive(Clone, Debug, Default)]
enum Column {
    /// Empty so far.
    #[default]
    Empty,
    /// Numbers; `true` and `false` are 1 and 0.
    Numbers,
    /// Nothing but `true` and `false`.
    Booleans,
    /// Texts, in the order in which they came, and where each stands.
    Texts(Vec<String>, HashMap<String, usize>),
}

impl Table {
    /// Reads a CSV file with a header, `.gz` or not, whose columns `texts` are text whatever they look like.
    ///
    /// Errors: the file, the line and the column that can't be read.
    pub fn read(path: &Path, label: Option<&str>, texts: &[&str]) -> anyhow::Result<Self> {
        let name = path.display();
        let text = open(path).with_context(|| format!("{name}: the file can't be opened"))?;
        Self::parse(text, label, texts).with_context(|| name.to_string())
    }

    /// Names of the columns of a file, the label's included.
    ///
    /// Errors: the file, and why its header can't be read.
    pub fn columns(path: &Path) -> anyhow::Result<Vec<String>> {
        let name = path.display();
        let text = open(path).with_context(|| format!("{name}: the file can't be opened"))?;
        let mut reader = csv::ReaderBuilder::new().trim(csv::Trim::All).from_reader(text);
        let header = reader.headers().with_context(|| name.to_string())?;
        Ok(header.iter().map(str::to_owned).collect())
    }

    /// Reads CSV text with a header; see [`Table::read`].
    ///
    /// Errors: the line and the column that can't be read.
    pub fn parse(text: impl Read, label: Option<&str>, texts: &[&str]) -> anyhow::Result<Self> {
        let mut reader = csv::ReaderBuilder::new().trim(csv::Trim::All).from_reader(text);
        let header = reader.headers()?.clone();
        let label_at = match label {
            None => None,
            Some(label) => match header.iter().position(|name| name == label) {
                None => {
                    bail!("there is no column `{label}`; there are {}", header.iter().collect::<Vec<_>>().join(", "))
                }
                at => at,
            },
        };
        let mut table = Self::default();
        for (_, name) in header.iter().enumerate().filter(|(i, _)| Some(*i) != label_at) {
            let is_text = texts.contains(&name);
            table.names.push(name.to_owned());
            table.columns.push(if is_text { Column::Texts(Vec::new(), HashMap::new()) } else { Column::Empty });
        }
        for record in reader.records() {
            let record = record?;
            let line = record.position().map_or(0, csv::Position::line);
            let mut row = Vec::with_capacity(table.names.len());
            for (i, cell) in record.iter().enumerate() {
                let place = || format!("line {line}, column `{}`", &header[i]);
                if Some(i) == label_at {
                    table.labels.push(number(cell).with_context(place)? != 0.0);
                } else {
                    row.push(table.columns[row.len()].take(cell).with_context(place)?);
                }
            }
            table.rows.push(row);
        }
        Ok(table)
    }

    /// The format of the payloads.
    pub fn format(&self) -> Format {
        let has_text = self.columns.iter().any(|column| matches!(column, Column::Texts(..)));
        if has_text { Format::Json } else { Format::Packed }
    }

    /// The rows as payloads, the way a topic would carry them.
    pub fn payloads(&self) -> Vec<Vec<u8>> {
        let packed = |row: &Vec<f32>| row.iter().flat_map(|value| value.to_le_bytes()).collect();
        let json = |row: &Vec<f32>| {
            let values = row.iter().zip(&self.columns).map(|(value, column)| column.json(*value));
            serde_json::to_vec(&values.collect::<Vec<_>>()).expect("plain values are always JSON")
        };
        match self.format() {
            Format::Packed => self.rows.iter().map(packed).collect(),
            _ => self.rows.iter().map(json).collect(),
        }
    }

    /// The rows as a model of `schema` reads them, `[rows, n_features]`: places in the table's texts become those of its
    /// categories.
    ///
    /// Errors: the row that can't be read.
    pub fn values(&self, schema: &Schema) -> anyhow::Result<Array2<f32>> {
        values_of(schema, self.format(), &self.payloads())
    }

    /// The columns as features: as `wishes` say where they name them, else by what their cells are.
    ///
    /// Errors: a wish for a kind names no column, or one of text that is not to be categorical.
    pub fn wishes(&self, wishes: &[Wish]) -> anyhow::Result<Vec<Wish>> {
        let unknown = wishes.iter().find(|wish| wish.kind != WishedKind::Auto && !self.names.contains(&wish.name));
        if let Some(Wish { name, .. }) = unknown {
            bail!("schema.features gives `{name}` a kind, and there is no such column");
        }
        let wish = |(name, column): (&String, &Column)| {
            let wish = wishes.iter().find(|wish| wish.name == *name).cloned().unwrap_or_else(|| Wish::auto(name));
            match (wish.kind, column) {
                (WishedKind::Auto, Column::Booleans) => Wish { kind: WishedKind::Boolean, ..wish },
                (WishedKind::Auto, Column::Texts(..)) => Wish { kind: WishedKind::Categorical, ..wish },
                _ => wish,
            }
        };
        let wishes: Vec<Wish> = self.names.iter().zip(&self.columns).map(wish).collect();
        self.check_text(wishes.iter().map(|wish| wish.kind == WishedKind::Categorical))?;
        Ok(wishes)
    }

    /// What the features are: as the configuration wishes, else as a sample shows.
    ///
    /// Errors: the columns are no features, or not what was wished.
    pub fn resolve(&self, config: &Config) -> anyhow::Result<features::Resolved> {
        let payloads = self.payloads();
        let stride = payloads.len().div_ceil(SCHEMA_ROWS).max(1);
        let sample: Vec<Vec<u8>> = payloads.iter().step_by(stride).cloned().collect();
        let wishes = self.wishes(&config.schema.features)?;
        let mut resolved = features::resolve(&wishes, &file_decode(self.format()), &sample)?;
        if config.schema.missing_indicator {
            resolved.schema = resolved.schema.with_missing_indicator();
        }
        Ok(resolved)
    }

    /// Refuses a model whose features aren't the columns.
    ///
    /// Errors: which column differs, by name or by holding text where the model has no categories.
    pub fn check(&self, model: &Model) -> anyhow::Result<()> {
        model.check_names(&self.names.iter().map(String::as_str).collect::<Vec<_>>())?;
        self.check_kinds(&model.schema)
    }

    /// Refuses a schema that has numbers where the columns hold text.
    ///
    /// Errors: which column.
    pub fn check_kinds(&self, schema: &Schema) -> anyhow::Result<()> {
        self.check_text(schema.features().iter().map(|f| matches!(f.kind, Kind::Categorical { .. })))
    }

    fn check_text(&self, categorical: impl Iterator<Item = bool>) -> anyhow::Result<()> {
        for ((name, column), is_categorical) in self.names.iter().zip(&self.columns).zip(categorical) {
            if let (Column::Texts(texts, _), false) = (column, is_categorical) {
                let text = texts.first().map_or("", String::as_str);
                bail!("column `{name}` holds text such as `{text}`, and the feature is not categorical");
            }
        }
        Ok(())
    }
}

/// Payloads of a format as rows of `schema`, `[rows, n_features]`.
///
/// Errors: the row that can't be read.
pub fn values_of(schema: &Schema, format: Format, payloads: &[Vec<u8>]) -> anyhow::Result<Array2<f32>> {
    let mut decoder = decode::build(&file_decode(format), &features::fields(schema));
    let mut values = Array2::from_elem((payloads.len(), schema.n_features()), f32::NAN);
    for (i, (payload, mut row)) in payloads.iter().zip(values.rows_mut()).enumerate() {
        let row = row.as_slice_mut().expect("rows of a new matrix are contiguous");
        decoder.decode(payload, row).with_context(|| format!("row {i}"))?;
    }
    Ok(values)
}

/// Names of the features that `wishes` make categorical: columns to be read as text.
pub fn texts_of_wishes(wishes: &[Wish]) -> Vec<&str> {
    let categorical = wishes.iter().filter(|wish| wish.kind == WishedKind::Categorical);
    categorical.map(|wish| wish.name.as_str()).collect()
}

/// Names of the categorical features of `schema`: columns to be read as text.
pub fn texts_of_schema(schema: &Schema) -> Vec<&str> {
    let categorical = schema.features().iter().filter(|feature| matches!(feature.kind, Kind::Categorical { .. }));
    categorical.map(|feature| feature.name.as_str()).collect()
}

impl Column {
    /// Takes a cell and returns what stands for it in a row.
    fn take(&mut self, cell: &str) -> anyhow::Result<f32> {
        if is_missing(cell) {
            return Ok(f32::NAN);
        }
        if matches!(self, Self::Empty) {
            *self = match number(cell) {
                Ok(_) if is_boolean(cell) => Self::Booleans,
                Ok(_) => Self::Numbers,
                Err(_) => Self::Texts(Vec::new(), HashMap::new()),
            };
        }
        if let Self::Texts(texts, places) = self {
            let place = *places.entry(cell.to_owned()).or_insert_with(|| {
                texts.push(cell.to_owned());
                texts.len() - 1
            });
            if place >= TEXTS_MAX {
                bail!("there are more than {TEXTS_MAX} different texts");
            }
            return Ok(place as f32);
        }
        if !is_boolean(cell) {
            *self = Self::Numbers;
        }
        number(cell)
    }

    fn json(&self, value: f32) -> serde_json::Value {
        match self {
            Self::Texts(texts, _) if value.is_finite() => texts[value as usize].clone().into(),
            // The longer form of a number is read back as the same f32; what is not finite becomes null.
            _ => f64::from(value).into(),
        }
    }
}

fn is_missing(cell: &str) -> bool {
    matches!(cell.to_ascii_lowercase().as_str(), "" | "nan" | "null" | "na")
}

fn is_boolean(cell: &str) -> bool {
    matches!(cell.to_ascii_lowercase().as_str(), "true" | "false")
}

fn open(path: &Path) -> std::io::Result<Box<dyn Read>> {
    let file = BufReader::new(File::open(path)?);
    let is_gzip = path.extension().is_some_and(|extension| extension == "gz");
    Ok(if is_gzip { Box::new(MultiGzDecoder::new(file)) } else { Box::new(file) })
}

fn number(cell: &str) -> anyhow::Result<f32> {
    match cell.to_ascii_lowercase().as_str() {
        _ if is_missing(cell) => Ok(f32::NAN),
        "true" => Ok(1.0),
        "false" => Ok(0.0),
        text => text.parse().with_context(|| format!("`{cell}` is not a number")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cells_and_labels_are_read() {
        let table = Table::parse("a, label, b\n1,0,\n2.5,1,-3\n".as_bytes(), Some("label"), &[]).expect("a table");
        assert_eq!((table.names, table.labels), (vec!["a".to_owned(), "b".to_owned()], vec![false, true]));
        assert_eq!(table.rows[1], [2.5, -3.0]);
        assert!(table.rows[0][1].is_nan());
    }

    #[test]
    fn a_bad_cell_is_named() {
        let error = Table::parse("a,b\n1,2\n1,x\n".as_bytes(), None, &[]).expect_err("not a number");
        assert_eq!(format!("{error:#}"), "line 3, column `b`: `x` is not a number: invalid float literal");
        let error = Table::parse("a,b\n".as_bytes(), Some("c"), &[]).expect_err("no column");
        assert_eq!(error.to_string(), "there is no column `c`; there are a, b");
    }

    #[test]
    fn text_is_passed_on_as_json_and_numbers_as_ever() {
        let text = "p,up,x,code\ntcp,true,0.1,007\n,false,,7\nudp,true,2,\n";
        let table = Table::parse(text.as_bytes(), None, &["code"]).expect("a table");
        let payloads: Vec<String> =
            table.payloads().into_iter().map(|bytes| String::from_utf8(bytes).expect("JSON")).collect();
        assert_eq!(table.format(), Format::Json);
        assert_eq!(payloads[0], r#"["tcp",1.0,0.10000000149011612,"007"]"#);
        assert_eq!(payloads[1], r#"[null,0.0,null,"7"]"#);
        let kinds: Vec<WishedKind> = table.wishes(&[]).expect("wishes").iter().map(|wish| wish.kind).collect();
        let wanted = [WishedKind::Categorical, WishedKind::Boolean, WishedKind::Auto, WishedKind::Categorical];
        assert_eq!(kinds, wanted);
        let numbers = Table::parse("a,b\n1,2\n".as_bytes(), None, &[]).expect("a table");
        assert_eq!((numbers.format(), numbers.payloads()[0].len()), (Format::Packed, 8));
    }

    #[test]
    fn a_wish_for_a_column_that_is_not_there_is_refused() {
        let table = Table::parse("a,b\n1,2\n".as_bytes(), None, &[]).expect("a table");
        let wish = Wish { kind: WishedKind::Log, ..Wish::auto("b") };
        assert_eq!(table.wishes(std::slice::from_ref(&wish)).expect("a column")[1], wish);
        let error = table.wishes(&[Wish { name: "c".into(), ..wish }]).expect_err("no column");
        let text = Table::parse("b\nx\n".as_bytes(), None, &[]).expect("a table");
        let refused = text.wishes(&[Wish { kind: WishedKind::Log, ..Wish::auto("b") }]).expect_err("text");
        let wanted = "column `b` holds text such as `x`, and the feature is not categorical";
        assert_eq!(refused.to_string(), wanted);
        assert_eq!(error.to_string(), "schema.features gives `c` a kind, and there is no such column");
    }
}
