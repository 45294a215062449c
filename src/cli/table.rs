//! A CSV file as a table of numbers, with one column as label if asked for.

use std::fs::File;
use std::io::{BufReader, Read};
use std::path::Path;

use anyhow::{Context, bail};
use flate2::read::MultiGzDecoder;

/// A table of numbers.
#[derive(Clone, Debug)]
pub struct Table {
    /// Names of the columns without the label.
    pub names: Vec<String>,
    /// Rows, `NaN` where a cell is empty.
    pub rows: Vec<Vec<f32>>,
    /// Labels, true for an anomaly; empty without a label column.
    pub labels: Vec<bool>,
}

impl Table {
    /// Reads a CSV file with a header, `.gz` or not.
    ///
    /// Errors: the file, the line and the column that can't be read.
    pub fn read(path: &Path, label: Option<&str>) -> anyhow::Result<Self> {
        let name = path.display();
        let text = open(path).with_context(|| format!("{name}: the file can't be opened"))?;
        Self::parse(text, label).with_context(|| name.to_string())
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

    fn parse(text: impl Read, label: Option<&str>) -> anyhow::Result<Self> {
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
        let is_feature = |i: &usize| Some(*i) != label_at;
        let names = header.iter().enumerate().filter(|(i, _)| is_feature(i)).map(|(_, name)| name.to_owned()).collect();
        let mut table = Self { names, rows: Vec::new(), labels: Vec::new() };
        for record in reader.records() {
            let record = record?;
            let line = record.position().map_or(0, csv::Position::line);
            let mut row = Vec::with_capacity(table.names.len());
            for (i, cell) in record.iter().enumerate() {
                let number = || number(cell).with_context(|| format!("line {line}, column `{}`", &header[i]));
                if is_feature(&i) {
                    row.push(number()?);
                } else {
                    table.labels.push(number()? != 0.0);
                }
            }
            table.rows.push(row);
        }
        Ok(table)
    }

    /// The rows as packed payloads, the way a topic would carry them.
    pub fn payloads(&self) -> Vec<Vec<u8>> {
        self.rows.iter().map(|row| row.iter().flat_map(|value| value.to_le_bytes()).collect()).collect()
    }
}

fn open(path: &Path) -> std::io::Result<Box<dyn Read>> {
    let file = BufReader::new(File::open(path)?);
    let is_gzip = path.extension().is_some_and(|extension| extension == "gz");
    Ok(if is_gzip { Box::new(MultiGzDecoder::new(file)) } else { Box::new(file) })
}

fn number(cell: &str) -> anyhow::Result<f32> {
    match cell.to_ascii_lowercase().as_str() {
        "" | "nan" | "null" | "na" => Ok(f32::NAN),
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
        let table = Table::parse("a, label, b\n1,0,\n2.5,1,-3\n".as_bytes(), Some("label")).expect("a table");
        assert_eq!((table.names, table.labels), (vec!["a".to_owned(), "b".to_owned()], vec![false, true]));
        assert_eq!(table.rows[1], [2.5, -3.0]);
        assert!(table.rows[0][1].is_nan());
    }

    #[test]
    fn a_bad_cell_is_named() {
        let error = Table::parse("a,b\n1,x\n".as_bytes(), None).expect_err("not a number");
        assert_eq!(format!("{error:#}"), "line 2, column `b`: `x` is not a number: invalid float literal");
        let error = Table::parse("a,b\n".as_bytes(), Some("c")).expect_err("no column");
        assert_eq!(error.to_string(), "there is no column `c`; there are a, b");
    }
}
