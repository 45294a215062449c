//! A Python with numpy and onnxruntime, made in the cache of what PyPI gives; where it can't be had the test is skipped.

use std::path::{Path, PathBuf};
use std::process::Command;

use super::skip;

/// The interpreter, or nothing, and then the test's skip has been reported.
pub fn python() -> Option<PathBuf> {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/support/python/fetch.sh");
    let output = Command::new("sh").arg(script).output().expect("there is a shell");
    if output.status.success() {
        return Some(PathBuf::from(String::from_utf8_lossy(&output.stdout).trim()));
    }
    let said = String::from_utf8_lossy(&output.stderr);
    let why = said.lines().rev().find(|line| !line.trim().is_empty()).unwrap_or("fetch.sh says nothing");
    skip(&format!("no Python with onnxruntime: {why}"));
    None
}
