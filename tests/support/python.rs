//! A Python with numpy and onnxruntime, made in the cache of what PyPI gives; where it can't be had the test is skipped.

use std::path::PathBuf;

use super::{fetched, skip};

/// The interpreter, or nothing, and then the test's skip has been reported.
pub fn python() -> Option<PathBuf> {
    match fetched("tests/support/venv.sh", &["tests/support/python"]) {
        Ok(programs) => Some(programs.join("python")),
        Err(why) => {
            skip(&format!("no Python with onnxruntime: {why}"));
            None
        }
    }
}
