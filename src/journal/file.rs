//! A file as journal: one JSON object a line, appended and never rewritten. For a single replica.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::PathBuf;

use super::{Entry, Journal};

/// A file of entries.
#[derive(Clone, Debug)]
pub struct FileJournal {
    path: PathBuf,
    /// Bytes of whole lines that have been read.
    read: u64,
}

impl FileJournal {
    /// The journal in `path`, which is made with the first entry.
    pub fn new(path: PathBuf) -> Self {
        Self { path, read: 0 }
    }

    fn new_text(&self) -> io::Result<String> {
        let mut file = match File::open(&self.path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(String::new()),
            Err(error) => return Err(error),
        };
        file.seek(SeekFrom::Start(self.read))?;
        let mut text = String::new();
        file.read_to_string(&mut text)?;
        Ok(text)
    }

    fn failed(&self, error: &impl std::fmt::Display) -> String {
        format!("{}: {error}", self.path.display())
    }
}

impl Journal for FileJournal {
    fn poll(&mut self) -> Result<Vec<Entry>, String> {
        let text = self.new_text().map_err(|error| self.failed(&error))?;
        // A line without its end is still being written.
        let whole = text.rfind('\n').map_or(0, |end| end + 1);
        self.read += whole as u64;
        let parse = |line: &str| match serde_json::from_str(line) {
            Ok(entry) => Some(entry),
            // A line that nobody can read must not be in the way of the others for ever.
            Err(error) => {
                tracing::warn!(file = %self.path.display(), line, %error, "passed over: the line is no entry");
                None
            }
        };
        Ok(text[..whole].lines().filter_map(parse).collect())
    }

    fn append(&mut self, entry: &Entry) -> Result<(), String> {
        let mut line = serde_json::to_string(entry).expect("an entry is always JSON");
        line.push('\n');
        let write = || -> io::Result<()> {
            if let Some(directory) = self.path.parent() {
                fs::create_dir_all(directory)?;
            }
            let mut file = OpenOptions::new().create(true).append(true).open(&self.path)?;
            file.write_all(line.as_bytes())?;
            file.sync_all()
        };
        write().map_err(|error| self.failed(&error))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(key: &str, value: i64) -> Entry {
        Entry { key: key.into(), value: Some(value.into()), time_ms: value }
    }

    #[test]
    fn two_processes_see_each_others_entries_once() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("models/commands.jsonl");
        let (mut ours, mut theirs) = (FileJournal::new(path.clone()), FileJournal::new(path));
        assert_eq!(ours.poll(), Ok(Vec::new()), "there is no file yet");
        theirs.append(&entry("a", 1)).unwrap();
        ours.append(&Entry { value: None, ..entry("a", 2) }).unwrap();
        assert_eq!(ours.poll().unwrap(), [entry("a", 1), Entry { value: None, ..entry("a", 2) }]);
        assert_eq!(ours.poll(), Ok(Vec::new()));
        assert_eq!(theirs.poll().unwrap().len(), 2);
    }

    #[test]
    fn a_line_that_is_being_written_is_left_for_later_and_a_bad_one_is_passed_over() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("feedback.jsonl");
        let mut journal = FileJournal::new(path.clone());
        fs::write(&path, "{\"key\":\"a\",\"value\":1,\"ti").unwrap();
        assert_eq!(journal.poll(), Ok(Vec::new()));
        fs::write(&path, "{\"key\":\"a\",\"value\":1,\"time_ms\":1}\n").unwrap();
        assert_eq!(journal.poll().unwrap(), [entry("a", 1)]);
        journal.append(&entry("b", 2)).unwrap();
        OpenOptions::new().append(true).open(&path).unwrap().write_all(b"nonsense\n").unwrap();
        journal.append(&entry("c", 3)).unwrap();
        assert_eq!(journal.poll().unwrap(), [entry("b", 2), entry("c", 3)]);
    }
}
