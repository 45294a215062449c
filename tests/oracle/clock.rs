//! A clock that can be set: libfaketime's, for one process. The monotonic clock goes on, as it does when a machine's is set.

use std::fs;
use std::path::{Path, PathBuf};

/// The library, where the system has it.
pub fn library() -> Option<PathBuf> {
    let folders = fs::read_dir("/usr/lib").ok()?.filter_map(Result::ok);
    folders.map(|folder| folder.path().join("faketime/libfaketimeMT.so.1")).find(|path| path.exists())
}

/// What a process is started with to have such a clock, set by `file`.
pub fn envs(library: &Path, file: &Path) -> [(&'static str, String); 5] {
    [
        ("LD_PRELOAD", library.display().to_string()),
        ("FAKETIME_TIMESTAMP_FILE", file.display().to_string()),
        ("FAKETIME_CACHE_DURATION", "1".to_owned()),
        ("FAKETIME_DONT_FAKE_MONOTONIC", "1".to_owned()),
        ("NO_FAKE_STAT", "1".to_owned()),
    ]
}

/// Sets the clock so many seconds off.
pub fn set(file: &Path, seconds: i64) {
    // By a rename, so that nobody reads half of it.
    let fresh = file.with_extension("fresh");
    fs::write(&fresh, format!("{seconds:+}\n")).expect("the temporary folder can be written");
    fs::rename(&fresh, file).expect("the temporary folder can be written");
}
