//! A disk of a few megabytes, in memory, that can be filled and emptied again. Mounting takes root.

use std::fs::{self, File};
use std::io::Write;
use std::path::Path;
use std::process::Command;

use tempfile::TempDir;

/// Room for a few models and the logs of a run.
const SIZE: &str = "size=24m";

/// A small disk, gone when it is dropped.
#[derive(Debug)]
pub struct SmallDisk {
    dir: TempDir,
}

impl SmallDisk {
    /// Mounts one, or nothing where that isn't allowed.
    pub fn new() -> Option<Self> {
        let dir = tempfile::Builder::new().prefix("strayd-disk-").tempdir().expect("a temporary folder can be made");
        let mount = Command::new("mount").args(["-t", "tmpfs", "-o", SIZE, "strayd-test"]).arg(dir.path()).output();
        mount.is_ok_and(|done| done.status.success()).then_some(Self { dir })
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        self.dir.path()
    }

    /// Fills it to the last byte; the result is how many bytes that took.
    pub fn fill(&self) -> usize {
        let mut file = File::create(self.filler()).expect("a file without a byte fits");
        let (chunk, mut n_bytes) = (vec![0; 4096], 0);
        while file.write_all(&chunk).is_ok() {
            n_bytes += chunk.len();
        }
        n_bytes
    }

    /// Whether it is full.
    pub fn is_full(&self) -> bool {
        let probe = self.path().join("probe");
        let is_full = fs::write(&probe, [0; 4096]).is_err();
        let _ = fs::remove_file(probe); // it may not have been made
        is_full
    }

    /// Gives the room back.
    pub fn empty(&self) {
        fs::remove_file(self.filler()).expect("the filler is there");
    }

    fn filler(&self) -> std::path::PathBuf {
        self.path().join("filler")
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        // Lazily: what still runs there is about to be killed.
        let _ = Command::new("umount").arg("-l").arg(self.dir.path()).status();
    }
}
