//! What the doctor has found, and how it is told.

use std::io::Write;

use serde::Serialize;

use crate::cli::shown::clean;

/// How a check ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// All is well.
    Pass,
    /// It works, and somebody should know.
    Warn,
    /// This is why.
    Fail,
    /// It can't be looked at before something above is mended.
    Skip,
}

impl Verdict {
    fn as_str(self) -> &'static str {
        match self {
            Self::Pass => "pass",
            Self::Warn => "warn",
            Self::Fail => "FAIL",
            Self::Skip => "skip",
        }
    }
}

/// One check.
#[derive(Clone, Debug, Serialize)]
pub struct Finding {
    /// What was looked at.
    pub check: &'static str,
    /// How it ended.
    pub verdict: Verdict,
    /// What was seen.
    pub seen: String,
    /// What to do.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cure: Option<String>,
}

/// All checks so far, in the order in which they were made.
#[derive(Debug, Default)]
pub struct Sheet(Vec<Finding>);

impl Sheet {
    /// Notes that all is well.
    pub fn pass(&mut self, check: &'static str, seen: impl Into<String>) {
        self.0.push(Finding { check, verdict: Verdict::Pass, seen: seen.into(), cure: None });
    }

    /// Notes what should be known, and what to do.
    pub fn warn(&mut self, check: &'static str, seen: impl Into<String>, cure: impl Into<String>) {
        self.0.push(Finding { check, verdict: Verdict::Warn, seen: seen.into(), cure: Some(cure.into()) });
    }

    /// Notes what is wrong, and what to do.
    pub fn fail(&mut self, check: &'static str, seen: impl Into<String>, cure: impl Into<String>) {
        self.0.push(Finding { check, verdict: Verdict::Fail, seen: seen.into(), cure: Some(cure.into()) });
    }

    /// Notes that something can't be looked at, and why.
    pub fn skip(&mut self, check: &'static str, why: impl Into<String>) {
        self.0.push(Finding { check, verdict: Verdict::Skip, seen: why.into(), cure: None });
    }

    /// The checks.
    pub fn findings(&self) -> &[Finding] {
        &self.0
    }

    /// The checks that ended so.
    pub fn named(&self, verdict: Verdict) -> Vec<&'static str> {
        self.0.iter().filter(|finding| finding.verdict == verdict).map(|finding| finding.check).collect()
    }

    /// Prints it for people.
    ///
    /// Errors: the output can't be written.
    pub fn print(&self, out: &mut impl Write) -> std::io::Result<()> {
        for Finding { check, verdict, seen, cure } in &self.0 {
            writeln!(out, "{}  {check:<15} {}", verdict.as_str(), clean(seen))?;
            if let Some(cure) = cure {
                writeln!(out, "{:22}→ {}", "", clean(cure))?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_seen_moves_no_terminal() {
        let (mut sheet, mut out) = (Sheet::default(), Vec::new());
        sheet.warn("decode", "field `\u{1b}[2J`", "name \u{9b}0c");
        sheet.print(&mut out).expect("memory can be written");
        let text = String::from_utf8(out).expect("text");
        assert!(text.contains("␛[2J") && text.contains("\u{fffd}0c"), "{text}");
        assert!(!text.chars().any(|letter| letter.is_control() && letter != '\n'), "{text:?}");
    }
}
