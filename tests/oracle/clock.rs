//! A wall clock that can be set for one process: `clock.c`, built with the compiler that the build needs anyway.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Builds the library into a folder; nothing where that fails.
pub fn build(into: &Path) -> Option<PathBuf> {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/oracle/clock.c");
    let library = into.join("clock.so");
    let cc = Command::new("cc").args(["-shared", "-fPIC", "-O1", "-o"]).arg(&library).arg(source).arg("-ldl").output();
    cc.is_ok_and(|done| done.status.success()).then_some(library)
}

/// What a process is started with to have such a clock, set by `file`.
pub fn envs(library: &Path, file: &Path) -> [(&'static str, String); 2] {
    [("LD_PRELOAD", library.display().to_string()), ("STRAYD_TEST_CLOCK", file.display().to_string())]
}

/// Sets the clock so many seconds off.
pub fn set(file: &Path, seconds: i64) {
    // In place: the process has the file in its memory.
    let open = fs::OpenOptions::new().write(true).create(true).truncate(false).open(file);
    let mut open = open.expect("the temporary folder can be written");
    std::io::Write::write_all(&mut open, &seconds.to_ne_bytes()).expect("the temporary folder can be written");
}
