//! Reads the usual record in one pass over its bytes, or gives up.
//!
//! The scanner accepts only what serde_json would accept, with the same values to the last bit; it never refuses. Where
//! it doesn't know its way about (a value of the wrong type, a name twice, `1e400`, anything that isn't JSON) it returns
//! none, and the record is read anew by the visitor, the one place that decides what is wrong with it. Of what it
//! accepts it has looked at every byte.

use super::super::Decoded;
use super::super::field::Scalar;
use super::layout::Layout;
use super::names::{Level, Names, Role};
use super::text::Cursor;
use super::time::event_time;

/// How the records of a topic are laid out.
pub(super) struct Layouts {
    record: Layout,
    vector: Layout,
}

impl Layouts {
    pub(super) fn new(names: &Names) -> Self {
        Self { record: Layout::new(names), vector: Layout::new(names) }
    }

    #[inline(always)]
    fn of(&mut self, level: Level) -> &mut Layout {
        match level {
            Level::Outer => &mut self.record,
            // JSON has no dotted names, so that no record is inside another.
            Level::Vector | Level::Inner(_) => &mut self.vector,
        }
    }
}

/// One scan of one record.
pub(super) struct Scan<'a> {
    pub(super) names: &'a Names,
    pub(super) layouts: &'a mut Layouts,
    /// For each feature the reading in which it was last seen.
    pub(super) seen: &'a mut [u64],
    /// Number of this reading.
    pub(super) reading: u64,
    pub(super) values: &'a mut [f32],
    pub(super) passthrough: &'a mut Vec<u8>,
    pub(super) cursor: Cursor<'a>,
    pub(super) decoded: Decoded,
    pub(super) has_vector: bool,
    /// Whether a bare `NaN` or infinity was met.
    pub(super) has_words: bool,
}

impl Scan<'_> {
    /// Reads the whole record.
    pub(super) fn run(mut self) -> Option<Decoded> {
        self.cursor.after_spaces()?;
        self.vector(Level::Outer)?;
        if self.cursor.after_spaces().is_some() || self.names.field.is_some() && !self.has_vector {
            return None;
        }
        if !self.passthrough.is_empty() {
            // Where a record has bare words, serde reads a rewritten copy, and copied fields may have been rewritten.
            if self.has_words {
                return None;
            }
            self.passthrough.push(b'}');
        }
        Some(self.decoded)
    }

    fn vector(&mut self, level: Level) -> Option<()> {
        match self.cursor.peek()? {
            b'{' => self.object(level),
            b'[' if level == Level::Vector || self.names.field.is_none() => self.array(),
            _ => None,
        }
    }

    fn array(&mut self) -> Option<()> {
        self.cursor.skip(1);
        for i in 0..self.values.len() {
            if i > 0 {
                self.cursor.take(b',')?;
            }
            self.cursor.after_spaces()?;
            self.feature(i)?;
        }
        self.cursor.take(b']')
    }

    fn object(&mut self, level: Level) -> Option<()> {
        self.cursor.skip(1);
        self.layouts.of(level).restart();
        let mut is_first = true;
        loop {
            let role = match self.layouts.of(level).expected(self.cursor.rest()) {
                Some((role, length)) => {
                    self.cursor.skip(length);
                    role
                }
                None => {
                    let start = self.cursor.at();
                    if self.cursor.after_spaces()? == b'}' {
                        self.cursor.skip(1);
                        return Some(());
                    }
                    self.unexpected_name(level, is_first, start)?
                }
            };
            is_first = false;
            match role {
                Role::Feature(i) => {
                    if std::mem::replace(&mut self.seen[i], self.reading) == self.reading {
                        return None;
                    }
                    self.feature(i)?;
                }
                Role::Vector if self.has_vector => return None,
                Role::Vector => {
                    self.has_vector = true;
                    self.vector(Level::Vector)?;
                }
                Role::Time => self.decoded.time_ms = event_time(self.cursor.value()?).ok()?,
                Role::Passthrough(i) => self.names.passthrough[i].append(self.cursor.value()?, self.passthrough),
                // JSON has no dotted names.
                Role::Inner(_) => return None,
                Role::Unknown => {
                    self.decoded.n_unknown += 1;
                    self.cursor.value()?;
                }
            }
        }
    }

    /// Moves past a name that was not expected, to its value; what stands before the name begins at `start`.
    fn unexpected_name(&mut self, level: Level, is_first: bool, start: usize) -> Option<Role> {
        if !is_first {
            self.cursor.take(b',')?;
            self.cursor.after_spaces()?;
        }
        let name = self.cursor.string()?;
        self.cursor.take(b':')?;
        self.cursor.after_spaces()?;
        let role = name.unescaped(|name| Some(self.names.role(level, name)))?;
        self.layouts.of(level).learn(role, self.cursor.since(start)?.as_bytes());
        Some(role)
    }

    /// Reads the value of a feature.
    #[inline(always)]
    fn feature(&mut self, i: usize) -> Option<()> {
        let field = &self.names.features[i];
        self.values[i] = match self.cursor.peek()? {
            b'0'..=b'9' if field.is_number() => self.cursor.single()?,
            b'0'..=b'9' => field.read(self.cursor.number()?.scalar()?).ok()?,
            b'-' if self.cursor.rest().get(1) == Some(&b'I') => return self.bare_word("-Infinity"),
            b'-' if field.is_number() => self.cursor.single()?,
            b'-' => field.read(self.cursor.number()?.scalar()?).ok()?,
            b'n' => return self.cursor.word("null"),
            b'N' => return self.bare_word("NaN"),
            b'I' => return self.bare_word("Infinity"),
            b't' => {
                self.cursor.word("true")?;
                field.read(Scalar::Boolean(true)).ok()?
            }
            b'f' => {
                self.cursor.word("false")?;
                field.read(Scalar::Boolean(false)).ok()?
            }
            b'"' => self.cursor.string()?.unescaped(|text| field.read(Scalar::Text(text)).ok())?,
            _ => return None,
        };
        Some(())
    }

    /// Moves past a word that means missing.
    fn bare_word(&mut self, word: &str) -> Option<()> {
        self.has_words = true;
        self.cursor.word(word)
    }
}
