//! Walks over JSON text: spaces, strings, and whole values that nobody reads, checked all the same.
//!
//! Everything here either moves past what it was asked for or gives up; it never moves past what JSON forbids.

use super::number::{Number, short_single};

/// Levels of nesting that are followed; deeper values are left to serde.
const DEPTH_MAX: usize = 64;

/// A place in a text.
pub(super) struct Cursor<'a> {
    text: &'a str,
    at: usize,
}

/// A string in the text.
#[derive(Clone, Copy, Debug)]
pub(super) struct Quoted<'a> {
    /// What stands between the quotes.
    pub(super) inner: &'a str,
    /// Whether there are escapes in it.
    pub(super) is_escaped: bool,
}

impl<'a> Cursor<'a> {
    pub(super) fn new(text: &'a str) -> Self {
        Self { text, at: 0 }
    }

    /// Where it stands, bytes from the start.
    pub(super) fn at(&self) -> usize {
        self.at
    }

    /// What stands between `from` and here.
    pub(super) fn since(&self, from: usize) -> Option<&'a str> {
        self.text.get(from..self.at)
    }

    /// What is left.
    #[inline(always)]
    pub(super) fn rest(&self) -> &'a [u8] {
        self.text.as_bytes().get(self.at..).unwrap_or_default()
    }

    #[inline(always)]
    pub(super) fn peek(&self) -> Option<u8> {
        self.text.as_bytes().get(self.at).copied()
    }

    /// Moves on by so many bytes, which the caller has looked at.
    #[inline(always)]
    pub(super) fn skip(&mut self, n: usize) {
        self.at += n;
    }

    /// The next byte after spaces, not taken.
    #[inline(always)]
    pub(super) fn after_spaces(&mut self) -> Option<u8> {
        loop {
            let next = self.peek()?;
            if next > b' ' || !matches!(next, b' ' | b'\n' | b'\t' | b'\r') {
                return Some(next);
            }
            self.at += 1;
        }
    }

    /// Moves past `byte` if it is next after spaces.
    #[inline(always)]
    pub(super) fn take(&mut self, byte: u8) -> Option<()> {
        (self.after_spaces()? == byte).then(|| self.at += 1)
    }

    /// Moves past `word`, which must be next.
    #[inline(always)]
    pub(super) fn word(&mut self, word: &str) -> Option<()> {
        self.rest().starts_with(word.as_bytes()).then(|| self.at += word.len())
    }

    /// Moves past a number and returns what it is in a row.
    #[inline(always)]
    pub(super) fn single(&mut self) -> Option<f32> {
        if let Some((single, length)) = short_single(self.rest()) {
            self.at += length;
            return Some(single);
        }
        self.number()?.single()
    }

    /// Moves past a number.
    pub(super) fn number(&mut self) -> Option<Number<'a>> {
        let number = Number::read(self.rest())?;
        self.at += number.len();
        Some(number)
    }

    /// Moves past a string, which must be next.
    pub(super) fn string(&mut self) -> Option<Quoted<'a>> {
        if self.peek()? != b'"' {
            return None;
        }
        self.at += 1;
        let start = self.at;
        let mut is_escaped = false;
        loop {
            self.at += plain_length(self.rest());
            match self.peek()? {
                b'"' => break,
                b'\\' => {
                    is_escaped = true;
                    self.escape()?;
                }
                _ => return None,
            }
        }
        let inner = self.since(start)?;
        self.at += 1;
        Some(Quoted { inner, is_escaped })
    }

    /// Moves past an escape. Surrogates are not paired: who reads the string will see.
    fn escape(&mut self) -> Option<()> {
        self.at += match self.rest() {
            [_, b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't', ..] => 2,
            [_, b'u', a, b, c, d, ..] if [a, b, c, d].iter().all(|digit| digit.is_ascii_hexdigit()) => 6,
            _ => return None,
        };
        Some(())
    }

    /// Moves past a value of any kind and returns its text.
    pub(super) fn value(&mut self) -> Option<&'a str> {
        self.after_spaces()?;
        let start = self.at;
        self.nested(0)?;
        self.since(start)
    }

    fn nested(&mut self, depth: usize) -> Option<()> {
        match self.after_spaces()? {
            b'"' => self.string().map(drop),
            b'-' | b'0'..=b'9' => self.number().map(drop),
            b'n' => self.word("null"),
            b't' => self.word("true"),
            b'f' => self.word("false"),
            _ if depth == DEPTH_MAX => None,
            b'[' => self.many(b']', |cursor| cursor.nested(depth + 1)),
            b'{' => self.many(b'}', |cursor| {
                cursor.after_spaces()?;
                cursor.string()?;
                cursor.take(b':')?;
                cursor.nested(depth + 1)
            }),
            _ => None,
        }
    }

    /// Moves past an opening bracket, elements with commas between them, and the closing bracket.
    fn many(&mut self, close: u8, mut element: impl FnMut(&mut Self) -> Option<()>) -> Option<()> {
        self.at += 1;
        if self.after_spaces()? == close {
            self.at += 1;
            return Some(());
        }
        loop {
            element(self)?;
            let next = self.after_spaces()?;
            self.at += 1;
            match next {
                b',' => {}
                _ => return (next == close).then_some(()),
            }
        }
    }
}

impl Quoted<'_> {
    /// Calls `take` with the string that is meant; none where its escapes mean no string.
    pub(super) fn unescaped<T>(&self, take: impl FnOnce(&str) -> Option<T>) -> Option<T> {
        if !self.is_escaped {
            return take(self.inner);
        }
        let unescaped: String = serde_json::from_str(&format!("\"{}\"", self.inner)).ok()?;
        take(&unescaped)
    }
}

/// How many bytes of `rest` stand before the first quote, backslash or control character.
#[inline(always)]
fn plain_length(rest: &[u8]) -> usize {
    let (words, tail) = rest.as_chunks::<8>();
    for (i, word) in words.iter().enumerate() {
        let special = special_bytes(u64::from_le_bytes(*word));
        if special != 0 {
            return 8 * i + special.trailing_zeros() as usize / 8;
        }
    }
    let is_special = |byte: &u8| matches!(byte, b'"' | b'\\' | ..0x20);
    8 * words.len() + tail.iter().position(is_special).unwrap_or(tail.len())
}

/// Sets the high bit of a quote, a backslash or a control character; bytes above the first of them may have it, too.
#[inline(always)]
fn special_bytes(word: u64) -> u64 {
    const ONES: u64 = 0x0101_0101_0101_0101;
    const HIGH: u64 = 0x8080_8080_8080_8080;
    let zeros = |word: u64| word.wrapping_sub(ONES) & !word;
    let quotes = zeros(word ^ (ONES * b'"' as u64));
    let backslashes = zeros(word ^ (ONES * b'\\' as u64));
    let controls = word.wrapping_sub(ONES * 0x20) & !word;
    (quotes | backslashes | controls) & HIGH
}
