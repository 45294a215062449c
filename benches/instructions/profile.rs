//! Reads what callgrind writes: how many instructions ran in one object, and how many in all others.
//!
//! Of the format (valgrind's manual, "Callgrind Format Specification") only the lines are read that say which object
//! the costs below belong to, and the costs.

use anyhow::{Context, ensure};

/// Instructions of a stage.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Count {
    /// In the program itself.
    pub own: f64,
    /// In shared libraries.
    pub elsewhere: f64,
}

impl Count {
    /// What one of `n` takes.
    pub fn each(self, n: f64) -> Self {
        Self { own: self.own / n, elsewhere: self.elsewhere / n }
    }
}

/// Sums the costs of `text`; `program` is the name of the program's file.
///
/// # Errors
/// When the text isn't a profile with instructions as its only event, or nothing ran in the program.
pub fn count(text: &str, program: &str) -> anyhow::Result<Count> {
    ensure!(text.contains("\nevents: Ir\n"), "the profile doesn't count instructions alone");
    let mut count = Count { own: 0.0, elsewhere: 0.0 };
    // Objects are named once, `ob=(3) /path`, and then by their number.
    let (mut own_number, mut is_own, mut is_call) = (None, false, false);
    for line in text.lines() {
        if let Some(object) = line.strip_prefix("ob=").or_else(|| line.strip_prefix("cob=")) {
            let (number, path) = object.split_once(' ').unwrap_or((object, ""));
            if path.ends_with(program) {
                own_number = Some(number);
            }
            is_own = if line.starts_with("ob=") { own_number == Some(number) } else { is_own };
        } else if line.starts_with("calls=") {
            is_call = true; // The next line is what the call took, which the called function's own lines say again.
        } else if line.starts_with(|c: char| c.is_ascii_digit() || "+-*".contains(c)) {
            let cost = line.split(' ').nth(1).and_then(|cost| cost.parse::<f64>().ok());
            let cost = cost.with_context(|| format!("no cost in {line:?}"))?;
            match (std::mem::take(&mut is_call), is_own) {
                (true, _) => {}
                (false, true) => count.own += cost,
                (false, false) => count.elsewhere += cost,
            }
        }
    }
    ensure!(count.own > 0.0, "nothing ran in {program}: callgrind didn't find the function of the stages");
    Ok(count)
}
